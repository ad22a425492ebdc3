//! What `moteway drill` says that the store will write is what it writes.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use moteway::config::{Durability, Pace, WhenFull};
use moteway::engine::drill::{Commits, Disk, Forecast, RuleTraffic, Traffic, UpstreamTraffic, predict};
use moteway::mqtt::Message;
use moteway::queue::{Batch, DestId, Limits, Op, Seq};
use moteway::store::{Database, Options, Session};
use tempfile::TempDir;

use crate::support::{options, row};

/// Messages a second go when the link is back.
const PACE: u64 = 500;
const OUTAGE: Duration = Duration::from_secs(120);

/// A rule: messages a second, bytes of payload, and how many may wait.
#[derive(Clone, Copy)]
struct Rule(u64, usize, u64);

fn forecast(options: &Options, gather: Duration, rules: &[Rule]) -> Forecast {
    let rule = |(place, rule): (u16, &Rule)| {
        let Rule(per_second, payload, max_messages) = *rule;
        // Properties and expiry of the rows are those of one in three and one in four.
        let raw = "site/room-1/temperature".len() + payload;
        RuleTraffic {
            name: "r".to_owned(),
            place,
            per_second: per_second as f64,
            qos0_per_second: 0.0,
            cost: Some((Message::FIXED_COST + raw) as f64 + 2.0 / 3.0),
            packet: None,
            topics: None,
            limits: Limits { max_messages, max_bytes: u64::MAX, when_full: WhenFull::DropOldest },
            ttl: Duration::ZERO,
            priority: 5,
            pace: Pace::default(),
            live_first: false,
            waiting_messages: 0,
            waiting_bytes: 0,
        }
    };
    let pace = Pace { messages: PACE, bytes: 0 };
    let rules = (1..).zip(rules).map(rule).collect();
    let traffic = Traffic {
        over: OUTAGE,
        upstreams: vec![UpstreamTraffic { name: "cloud".to_owned(), pace, measured: None, rules }],
        commits: Commits { gather, max_changes: 4096 },
        stored_messages: 0,
        stored_bytes: 0,
    };
    let (max_bytes, log_bytes) = options.bounds();
    predict(&traffic, Disk { page_bytes: options.page_size.into(), max_bytes, log_bytes }, OUTAGE)
}

/// The queues of the rules in a store, and how far each is.
struct Driven<'s, 'd> {
    session: &'s mut Session<'d>,
    rules: &'s [Rule],
    queues: Vec<Queue>,
    seq: u64,
    batches: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<u64>,
    /// Thousandths of a message that have come.
    due: u64,
    /// The last that went.
    gone: Option<u64>,
}

impl Driven<'_, '_> {
    /// One batch after so many milliseconds, in which `goes` of the oldest were acknowledged.
    fn step(&mut self, millis: u64, goes: u64) {
        let mut ops = Vec::new();
        for (dest, (Rule(per_second, payload, max), queue)) in (1..).zip(self.rules.iter().zip(&mut self.queues)) {
            let (dest, mut last) = (DestId(dest), None);
            queue.due += per_second * millis;
            for _ in 0..queue.due / 1_000 {
                self.seq += 1;
                if queue.waiting.len() as u64 == *max {
                    last = queue.waiting.pop_front();
                }
                queue.waiting.push_back(self.seq);
                ops.push(Op::Append { dest, row: row(self.seq, *payload) });
            }
            queue.due %= 1_000;
            queue.gone = last;
        }
        for _ in 0..goes {
            let oldest = self.queues.iter_mut().filter(|queue| !queue.waiting.is_empty());
            let Some(queue) = oldest.min_by_key(|queue| queue.waiting[0]) else { break };
            queue.gone = queue.waiting.pop_front();
        }
        for (dest, queue) in (1..).zip(&mut self.queues) {
            let gone = queue.gone.take();
            ops.extend(gone.map(|seq| Op::DeleteUpTo { dest: DestId(dest), seq: Seq(seq) }));
        }
        self.batches += 1;
        self.session.apply(&Batch { id: self.batches, ops }).unwrap();
    }

    fn waits(&self) -> bool {
        self.queues.iter().any(|queue| queue.waiting.len() > 2)
    }
}

/// Bytes that this thread handed to `write` and its kin.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

/// Fills the store for the outage and drains it, a batch each `gather` and the time of one message.
fn really(options: &Options, gather: Duration, rules: &[Rule]) -> u64 {
    let (mut database, _) = Database::open(options).unwrap();
    let mut session = database.session();
    let queues = rules.iter().map(|_| Queue::default()).collect();
    let mut driven = Driven { session: &mut session, rules, queues, seq: 0, batches: 0 };
    let per_second: u64 = rules.iter().map(|rule| rule.0).sum();
    let millis = u64::try_from(gather.as_millis()).unwrap() + 1_000 / per_second;
    let before = written();
    for _ in 0..u64::try_from(OUTAGE.as_millis()).unwrap() / millis {
        driven.step(millis, 0);
    }
    driven.step(millis, PACE);
    while driven.waits() {
        driven.step(millis, PACE * millis / 1_000);
    }
    written() - before
}

#[test]
fn drill_knows_what_the_store_writes() {
    const ALL: u64 = 1_000_000;
    let millis = Duration::from_millis;
    for (what, gather, rules) in [
        ("one message in a batch", millis(0), &[Rule(100, 100, ALL)][..]),
        ("a few in a batch", millis(20), &[Rule(200, 256, ALL)]),
        ("many in a batch", millis(200), &[Rule(200, 256, ALL)]),
        ("large ones", millis(50), &[Rule(50, 5_000, ALL)]),
        ("a queue that is full", millis(50), &[Rule(100, 100, 500)]),
        ("two rules", millis(50), &[Rule(100, 100, ALL), Rule(100, 256, ALL)]),
        ("two rules, many in a batch", millis(200), &[Rule(100, 100, ALL), Rule(150, 256, ALL)]),
        ("three rules", millis(50), &[Rule(60, 100, ALL), Rule(80, 200, ALL), Rule(60, 50, ALL)]),
        ("three rules, one full", millis(50), &[Rule(60, 100, 500), Rule(80, 200, ALL), Rule(60, 50, ALL)]),
    ] {
        let dir = TempDir::new().unwrap();
        let options = Options { durability: Durability::None, max_bytes: 64 << 20, ..options(dir.path()) };
        let (said, real) = (forecast(&options, gather, rules).store.written_bytes, really(&options, gather, rules));
        let ratio = said as f64 / real as f64;
        println!("{what}: {said} said, {real} written, {ratio:.3}");
        assert!((0.9..=1.1).contains(&ratio), "{what}: {said} said, {real} written");
    }
}
