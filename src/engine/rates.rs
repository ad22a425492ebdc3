//! What rules were asked to carry in the last hours, and how fast upstreams took a backlog: what `drill` predicts from.
//!
//! Nothing is done for a message: counters that are there anyway are looked at a few times a second, when something
//! happens. The first samples are close together; when there are too many, every other one is dropped and they come
//! half as often, until they reach back far enough. So memory is bounded by the number of rules.

use std::collections::{BTreeMap, VecDeque};

use crate::bridge::LinkState;
use crate::config::{Pace, UpstreamId};
use crate::engine::Engine;
use crate::engine::drill::{Commits, RuleTraffic, Traffic, UpstreamTraffic};
use crate::engine::ports::{OutRule, UpstreamSetup};
use crate::queue::{Depth, DestId};
use crate::time::{Duration, Instant, Now};

/// Between two looks at the counters, at least.
const LOOK: Duration = Duration::from_millis(250);
/// Between two samples, at first.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// How far samples reach back, at least.
const REACH: Duration = Duration::from_secs(8 * 3600);
/// Samples, with the figures of each rule.
const MAX_SAMPLES: usize = 128;
/// Topics that were not seen for one or two of these are not counted.
const TOPICS_TURN: Duration = Duration::from_secs(3600);
/// Of draining, remembered: what is older counts less and less.
const DRAIN_MEMORY: Duration = Duration::from_secs(300);

/// What one rule had since the start.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Messages that would have been stored without a link, whether they were taken or not.
    offered: u64,
    /// Of these, those taken, and their bytes.
    accepted: u64,
    accepted_bytes: u64,
    qos0: u64,
    sent: u64,
    sent_bytes: u64,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    rules: Vec<(DestId, Counts)>,
}

/// How fast an upstream takes what waits.
#[derive(Debug, Default)]
struct Drain {
    /// At the last look: whether more waited than went, on which link, and what had been sent.
    is_busy: bool,
    connects: u64,
    sent: u64,
    at: Instant,
    /// While it was so at two looks in turn.
    messages: u64,
    took: Duration,
}

/// Samples of the last hours.
#[derive(Debug)]
pub(crate) struct Rates {
    due: Instant,
    sample_due: Instant,
    topics_due: Instant,
    interval: Duration,
    samples: VecDeque<Sample>,
    drains: BTreeMap<UpstreamId, Drain>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            due: Instant::ZERO,
            sample_due: Instant::ZERO,
            topics_due: Instant::ZERO + TOPICS_TURN,
            interval: FIRST_INTERVAL,
            samples: VecDeque::new(),
            drains: BTreeMap::new(),
        }
    }
}

impl Rates {
    fn push(&mut self, sample: Sample) {
        if self.samples.len() == MAX_SAMPLES {
            let reaches = sample.at.since(self.samples[0].at);
            if reaches >= REACH {
                self.samples.pop_front();
            } else {
                let mut keep = false;
                self.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.interval *= 2;
            }
        }
        self.sample_due = sample.at + self.interval;
        self.samples.push_back(sample);
    }

    /// The samples since then, and the last one before: it holds until the next.
    fn since(&self, from: Instant) -> impl Iterator<Item = &Sample> {
        let later = self.samples.partition_point(|sample| sample.at <= from);
        self.samples.range(later.saturating_sub(1)..)
    }

    /// What a rule had then, or when it came.
    fn before(&self, from: Instant, dest: DestId) -> Option<(Instant, Counts)> {
        self.since(from).find_map(|sample| {
            let of_rule = sample.rules.iter().find(|(other, _)| *other == dest);
            of_rule.map(|(_, counts)| (sample.at, *counts))
        })
    }
}

impl Engine {
    /// Looks at the counters when it is time.
    #[inline]
    pub(crate) fn look(&mut self, now: Now) {
        if now.at >= self.rates.due {
            self.look_now(now);
        }
    }

    #[cold]
    fn look_now(&mut self, now: Now) {
        self.rates.due = now.at + LOOK;
        self.sample(now);
        for id in self.upstreams.keys().copied().collect::<Vec<_>>() {
            self.watch_drain(now, id);
        }
        if now.at >= self.rates.topics_due {
            self.rates.topics_due = now.at + TOPICS_TURN;
            self.queues.forget_old_topics();
        }
        if now.at >= self.rates.sample_due {
            let rules = self.upstreams.values().flat_map(|setup| &setup.rules);
            let rules = rules.map(|rule| (rule.dest, self.counts_of(rule))).collect();
            self.rates.push(Sample { at: now.at, rules });
        }
    }

    fn counts_of(&self, rule: &OutRule) -> Counts {
        let mut counts = Counts::default();
        for dest in rule.lanes() {
            let (stats, sent) = (self.queues.stats(dest), self.bridge.sent(dest));
            let accepted = stats.accepted - stats.accepted_qos0;
            counts.accepted += accepted;
            counts.accepted_bytes += stats.accepted_bytes;
            counts.offered += accepted + stats.dropped_newest + stats.refused;
            counts.qos0 += stats.accepted_qos0 + stats.dropped_qos0;
            counts.sent += sent.messages;
            counts.sent_bytes += sent.bytes;
        }
        counts
    }

    /// Measures how fast a backlog goes, where no pace is set for it.
    fn watch_drain(&mut self, now: Now, id: UpstreamId) {
        let (Some(setup), Some(stats)) = (self.upstreams.get(&id), self.bridge.stats(id)) else { return };
        let is_free = |rule: &&OutRule| rule.pace == Pace::default();
        let mut waiting = setup.rules.iter().filter(is_free).flat_map(OutRule::lanes);
        let is_busy = setup.pace == Pace::default()
            && stats.state == LinkState::Up
            && waiting.any(|dest| self.queues.has_waiting(dest));
        let sent: u64 =
            setup.rules.iter().flat_map(OutRule::lanes).map(|dest| self.bridge.sent(dest).messages).sum();
        let connects = stats.connects;
        let drain = self.rates.drains.entry(id).or_default();
        if is_busy && drain.is_busy && connects == drain.connects {
            drain.messages += sent.saturating_sub(drain.sent);
            drain.took += now.at.since(drain.at);
            if drain.took > DRAIN_MEMORY {
                drain.messages /= 2;
                drain.took /= 2;
            }
        }
        (drain.is_busy, drain.connects, drain.sent, drain.at) = (is_busy, connects, sent, now.at);
    }

    /// What rules carry, from the traffic of the last `over`, or of as much as is remembered of it.
    #[must_use]
    pub fn traffic(&self, now: Now, over: Duration) -> Traffic {
        let over_micros = u64::try_from(over.as_micros()).unwrap_or(u64::MAX);
        let from = Instant::from_micros(now.at.as_micros().saturating_sub(over_micros));
        let first = self.rates.since(from).next();
        let totals = self.queues.totals();
        let (gather, max_changes) = self.queues.gathering();
        Traffic {
            over: first.map_or(Duration::ZERO, |sample| now.at.since(sample.at)),
            upstreams: self.upstreams.iter().map(|(id, setup)| self.upstream(now, from, *id, setup)).collect(),
            commits: Commits { gather, max_changes: max_changes as u64 },
            stored_messages: totals.messages,
            stored_bytes: totals.bytes,
        }
    }

    fn upstream(&self, now: Now, from: Instant, id: UpstreamId, setup: &UpstreamSetup) -> UpstreamTraffic {
        let drain = self.rates.drains.get(&id).filter(|drain| drain.took > Duration::ZERO);
        UpstreamTraffic {
            name: setup.name.clone(),
            pace: setup.pace,
            measured: drain.map(|drain| drain.messages as f64 / drain.took.as_secs_f64()),
            rules: setup.rules.iter().filter_map(|rule| self.rule(now, from, rule)).collect(),
        }
    }

    fn rule(&self, now: Now, from: Instant, rule: &OutRule) -> Option<RuleTraffic> {
        let counts = self.counts_of(rule);
        let (at, before) = self.rates.before(from, rule.dest).unwrap_or((now.at, counts));
        let seconds = now.at.since(at).as_secs_f64();
        let since = |count: fn(&Counts) -> u64| count(&counts).saturating_sub(count(&before)) as f64;
        let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        let mean = |bytes: f64, messages: f64| (messages > 0.0).then(|| bytes / messages);
        let lanes = rule.lanes().map(|dest| self.queues.depth(dest));
        let waiting = lanes.fold(Depth::default(), |sum, depth| Depth {
            messages: sum.messages + depth.messages,
            bytes: sum.bytes + depth.bytes,
            oldest: None,
        });
        Some(RuleTraffic {
            name: rule.name.clone(),
            place: rule.dest.0,
            per_second: per_second(since(|counts| counts.offered)),
            qos0_per_second: per_second(since(|counts| counts.qos0)),
            cost: mean(since(|counts| counts.accepted_bytes), since(|counts| counts.accepted)),
            packet: mean(since(|counts| counts.sent_bytes), since(|counts| counts.sent)),
            topics: self.queues.topics(rule.dest),
            limits: self.queues.limits(rule.dest)?,
            ttl: rule.ttl,
            priority: rule.priority,
            pace: rule.pace,
            live_first: rule.live_first,
            waiting_messages: waiting.messages,
            waiting_bytes: waiting.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_bounded_and_reach_back_far_enough() {
        let mut rates = Rates::default();
        let dest = DestId(3);
        let mut at = Instant::ZERO;
        let end = Instant::ZERO + Duration::from_secs(3 * 86_400);
        while at < end {
            let counts = Counts { offered: at.as_micros() / 1_000_000, ..Counts::default() };
            rates.push(Sample { at, rules: vec![(dest, counts)] });
            assert!(rates.samples.len() <= MAX_SAMPLES);
            let reaches = at.since(rates.samples[0].at);
            assert!(reaches >= REACH.min(at.since(Instant::ZERO)) / 2, "{reaches:?} at {at:?}");
            at = rates.sample_due;
        }
        let reaches = at.since(rates.samples[0].at);
        assert!((REACH..3 * REACH).contains(&reaches), "{reaches:?}");
        assert!(rates.interval <= Duration::from_secs(600), "{:?}", rates.interval);
        // One a second, over whatever time.
        for over in [Duration::from_secs(1), Duration::from_secs(3_600), 4 * REACH] {
            let from = Instant::from_micros(at.as_micros() - u64::try_from(over.as_micros()).unwrap());
            let (since, before) = rates.before(from, dest).unwrap();
            assert_eq!(before.offered, since.as_micros() / 1_000_000);
            assert!(since <= from || over > REACH, "the sample before holds");
        }
        assert!(rates.before(Instant::ZERO, DestId(4)).is_none());
    }

    #[test]
    fn a_rule_that_came_later_is_counted_since_then() {
        let mut rates = Rates::default();
        let second = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let counts = |offered| Counts { offered, ..Counts::default() };
        rates.push(Sample { at: second(0), rules: vec![(DestId(1), counts(0))] });
        rates.push(Sample { at: second(5), rules: vec![(DestId(1), counts(5)), (DestId(2), counts(0))] });
        let before = |dest| rates.before(Instant::ZERO, DestId(dest)).map(|(at, counts)| (at, counts.offered));
        assert_eq!((before(1), before(2)), (Some((second(0), 0)), Some((second(5), 0))));
    }
}
