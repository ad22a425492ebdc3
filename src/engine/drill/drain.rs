//! After the outage: what waits goes in order of priority and of arrival, within the paces, while more comes in.
//!
//! It is gone through step by step, as the bridge does it, with portions of messages instead of messages.

use std::collections::VecDeque;

use crate::config::{Pace, WhenFull};
use crate::engine::drill::fill::{self, Filled};
use crate::engine::drill::{RuleTraffic, UpstreamTraffic};

/// Fewer messages than this are none.
const NONE: f64 = 1e-6;
/// Portions that what waits is divided into, and steps that the drain is expected to take.
const PORTIONS: u16 = 400;
const STEPS: u16 = 2_000;

#[derive(Debug)]
pub(super) struct Drained {
    /// Until nothing waits for the upstream any more; `None`: not known, or never.
    pub seconds: Option<f64>,
    pub per_second: Option<f64>,
    pub from: &'static str,
    /// In the order of its rules.
    pub rules: Vec<DrainedRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct DrainedRule {
    pub seconds: Option<f64>,
    /// Too old when their turn came.
    pub expired: f64,
    /// Gave way to what came in while the queue was still full, or the latter did.
    pub evicted: f64,
    pub refused: f64,
    pub never: bool,
}

/// Messages that came at one time, in seconds since the link is back.
struct Portion {
    came: f64,
    messages: f64,
}

/// Messages that may go now: a bucket that fills up to what a tenth of a second brings, as that of the bridge.
struct Bucket {
    per_second: f64,
    most: f64,
    level: f64,
}

impl Bucket {
    /// Full, since it had the time.
    fn paced(per_second: f64) -> Self {
        let most = (per_second / 10.0).max(1.0);
        Self { per_second, most, level: most }
    }

    /// In steps of more than that nothing is lost either.
    fn fill(&mut self, step: f64) {
        self.level = (self.level + self.per_second * step).min(self.most.max(self.per_second * step));
    }

    /// What is not used is lost.
    fn steady(per_second: f64, step: f64) -> Self {
        let most = per_second * step;
        Self { per_second, most, level: most }
    }
}

/// A queue, or its lane for what goes before the backlog.
struct Queue<'a> {
    rule: &'a RuleTraffic,
    /// Its place among the rules.
    place: usize,
    portions: VecDeque<Portion>,
    live: VecDeque<Portion>,
    left: f64,
    most: f64,
    pace: Bucket,
    live_pace: Bucket,
    drained: DrainedRule,
}

impl<'a> Queue<'a> {
    fn new(place: usize, rule: &'a RuleTraffic, filled: &Filled) -> Self {
        let each = filled.waiting / f64::from(PORTIONS);
        let between = (filled.oldest - filled.newest) / f64::from(PORTIONS);
        let came = |number| (f64::from(number) + 0.5) * between - filled.oldest;
        let portion = |number| Portion { came: came(number), messages: each };
        let cap = cap(rule.pace, rule.packet());
        Self {
            rule,
            place,
            portions: if filled.waiting < NONE { VecDeque::new() } else { (0..PORTIONS).map(portion).collect() },
            live: VecDeque::new(),
            left: filled.waiting,
            most: fill::most(rule),
            pace: Bucket::paced(cap),
            live_pace: Bucket::paced(cap),
            drained: DrainedRule::default(),
        }
    }

    /// More comes in; where there is no room, the policy of the rule decides.
    fn take_in(&mut self, at: f64, messages: f64) {
        let over = (self.left + messages - self.most).max(0.0);
        match self.rule.limits.when_full {
            WhenFull::DropOldest | WhenFull::KeepLast => {
                self.drained.evicted += over;
                let (mut rest, lanes) = (over, [&mut self.portions, &mut self.live]);
                for lane in lanes {
                    rest -= take(lane, rest);
                }
                self.left -= over - rest;
                self.push(at, messages - rest);
            }
            WhenFull::DropNewest => {
                self.drained.evicted += over.min(messages);
                self.push(at, messages - over.min(messages));
            }
            WhenFull::Reject => {
                self.drained.refused += over.min(messages);
                self.push(at, messages - over.min(messages));
            }
        }
    }

    fn push(&mut self, came: f64, messages: f64) {
        if messages > NONE {
            self.left += messages;
            let is_live = self.rule.live_first && !self.portions.is_empty();
            let lane = if is_live { &mut self.live } else { &mut self.portions };
            lane.push_back(Portion { came, messages });
        }
    }

    /// What is too old goes nowhere.
    fn expire(&mut self, at: f64) {
        let ttl = self.rule.ttl.as_secs_f64();
        while ttl > 0.0 && self.portions.front().is_some_and(|oldest| at - oldest.came > ttl) {
            let gone = self.portions.pop_front().map_or(0.0, |portion| portion.messages);
            self.drained.expired += gone;
            self.left -= gone;
        }
    }

    /// When the next that may go now came.
    fn head(&self) -> Option<f64> {
        self.portions.front().filter(|_| self.pace.level > NONE).map(|oldest| oldest.came)
    }

    /// Lets some go, as many as paces and what there is allow.
    fn send(&mut self, is_live: bool, total: &mut Bucket) {
        let (lane, pace) =
            if is_live { (&mut self.live, &mut self.live_pace) } else { (&mut self.portions, &mut self.pace) };
        let goes = lane.front().map_or(0.0, |portion| portion.messages).min(pace.level).min(total.level);
        let gone = take(lane, goes);
        self.left -= gone;
        pace.level -= gone;
        total.level -= gone;
    }

    fn settle(&mut self, at: f64) {
        if self.portions.is_empty() {
            self.drained.seconds.get_or_insert(at);
        }
    }
}

/// Takes messages from the front, as many as there are.
fn take(lane: &mut VecDeque<Portion>, messages: f64) -> f64 {
    let mut rest = messages;
    while let Some(oldest) = lane.front_mut().filter(|_| rest > 0.0) {
        let goes = oldest.messages.min(rest);
        oldest.messages -= goes;
        rest -= goes;
        if oldest.messages < NONE {
            lane.pop_front();
        }
    }
    messages - rest
}

/// Messages a second that a pace lets go.
fn cap(pace: Pace, packet: f64) -> f64 {
    let limit = |limit: u64, each: f64| if limit == 0 { f64::INFINITY } else { limit as f64 / each };
    limit(pace.messages, 1.0).min(limit(pace.bytes, packet))
}

/// Drains the queues of one upstream.
pub(super) fn drain(upstream: &UpstreamTraffic, filled: &[Filled]) -> Drained {
    let rules = upstream.rules.iter().zip(filled).enumerate();
    let mut queues: Vec<Queue<'_>> = rules.map(|(place, (rule, filled))| Queue::new(place, rule, filled)).collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.rule.priority));
    let waiting: f64 = queues.iter().map(|queue| queue.left).sum();
    let bytes: f64 = queues.iter().map(|queue| queue.left * queue.rule.packet()).sum();
    let pace = cap(upstream.pace, if waiting > 0.0 { bytes / waiting } else { 1.0 });
    let total = upstream.measured.unwrap_or(f64::INFINITY).min(pace);
    let caps = queues.iter().filter(|queue| queue.left > NONE).map(|queue| queue.pace.per_second);
    let per_second = total.min(caps.sum());
    let from = match upstream.measured {
        _ if waiting < NONE || per_second.is_infinite() => "unknown",
        Some(measured) if measured <= per_second => "measured",
        _ => "pace",
    };
    queues.iter_mut().for_each(|queue| queue.settle(0.0));
    if from != "unknown" {
        let step = longest(&queues, per_second, total) / f64::from(STEPS);
        run(&mut queues, if total < pace { Bucket::steady(total, step) } else { Bucket::paced(total) }, step);
    }
    let mut rules = vec![DrainedRule::default(); queues.len()];
    for queue in &queues {
        rules[queue.place] = queue.drained;
    }
    let longest = |longest: f64, rule: &DrainedRule| rule.seconds.map(|seconds| longest.max(seconds));
    Drained {
        seconds: rules.iter().try_fold(0.0, longest),
        per_second: (from != "unknown").then_some(per_second),
        from,
        rules,
    }
}

/// No drain that comes to an end takes longer.
fn longest(queues: &[Queue<'_>], per_second: f64, total: f64) -> f64 {
    let left: f64 = queues.iter().map(|queue| queue.left).sum();
    let comes: f64 = queues.iter().map(|queue| queue.rule.per_second).sum();
    let alone = queues.iter().map(|queue| {
        let comes = if queue.rule.live_first { 0.0 } else { queue.rule.per_second };
        if queue.pace.per_second > comes { queue.left / (queue.pace.per_second - comes) } else { 0.0 }
    });
    let together = if total > comes { left / (total - comes) } else { left / per_second };
    (1.1 * (together + alone.fold(0.0, f64::max))).max(1.0)
}

fn run(queues: &mut [Queue<'_>], mut total: Bucket, step: f64) {
    for number in 1..=STEPS {
        let at = f64::from(number - 1) * step;
        for queue in queues.iter_mut() {
            queue.expire(at);
        }
        for class in queues.chunk_by_mut(|a, b| a.rule.priority == b.rule.priority) {
            serve(class, &mut total);
        }
        for queue in queues.iter_mut() {
            queue.settle(at);
            queue.take_in(at, queue.rule.per_second * step);
            queue.pace.fill(step);
            queue.live_pace.fill(step);
        }
        total.fill(step);
        if queues.iter().all(|queue| queue.drained.seconds.is_some()) {
            return;
        }
    }
    for queue in queues.iter_mut() {
        queue.drained.never = queue.drained.seconds.is_none();
    }
}

/// Of one priority, live lanes go first, and then the oldest of all.
fn serve(class: &mut [Queue<'_>], total: &mut Bucket) {
    for queue in class.iter_mut() {
        while total.level > NONE && queue.live_pace.level > NONE && !queue.live.is_empty() {
            queue.send(true, total);
        }
    }
    while total.level > NONE {
        let heads = class.iter_mut().filter_map(|queue| queue.head().map(|came| (came, queue)));
        let Some((_, queue)) = heads.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        queue.send(false, total);
    }
}
