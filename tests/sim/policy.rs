//! Random schedules against one line under each policy: what comes in, links, commits, power cuts. What was
//! acknowledged is delivered, or counted under a reason; what `keep-last` keeps is the newest of each topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use moteway::config::{Config, UpstreamId, WhenFull};
use moteway::mqtt::{Message, MessageParts, QoS};
use moteway::queue::{Delivery, DestId, Limits, LineStats, Outcome, Output, Owner, Peeked, Queues, Reply, Token};
use moteway::time::{Duration, Instant, Now, Wall};

use crate::store::{Disk, SimStore};

const TOPICS: u64 = 6;

/// A line, its disk and its receiver.
struct Rig {
    rng: fastrand::Rng,
    queues: Queues,
    store: SimStore,
    dest: DestId,
    limits: Limits,
    now: Now,
    is_up: bool,
    in_flight: VecDeque<Peeked>,
    next: u64,
    /// Acknowledged to the publisher.
    settled: BTreeSet<u64>,
    /// By topic, in the order in which they came.
    delivered: BTreeMap<u64, Vec<u64>>,
    /// Of all lives of the process.
    stats: Vec<LineStats>,
    crashes: u32,
}

fn new_queues(disk: &Disk) -> Queues {
    let mut settings = Config::default().store;
    settings.window_bytes = 1500;
    Queues::new(&settings, &disk.recover())
}

impl Rig {
    fn new(seed: u64, when_full: WhenFull, max_messages: u64) -> Self {
        let store = SimStore::default();
        let limits = Limits { max_messages, max_bytes: 1 << 20, when_full };
        let mut queues = new_queues(&store.disk);
        let now = Now { at: Instant::ZERO, wall: Wall::from_millis(1_700_000_000_000) };
        let dest = queues.open(now, "rule:cloud/all", Owner::Upstream(UpstreamId(0)), limits).expect("a line");
        Self {
            rng: fastrand::Rng::with_seed(seed),
            queues,
            store,
            dest,
            limits,
            now,
            is_up: false,
            in_flight: VecDeque::new(),
            next: 0,
            settled: BTreeSet::new(),
            delivered: BTreeMap::new(),
            stats: Vec::new(),
            crashes: 0,
        }
    }

    fn pass(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.now = Now { at: self.now.at + time, wall: self.now.wall + time };
        self.queues.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.queues.poll_output(self.now) {
            match output {
                Output::Commit(batch) => self.store.commit(batch),
                Output::Read(read) => self.store.read(read),
                Output::Settled(Token(number)) => drop(self.settled.insert(number)),
                Output::Notice(_) => {}
            }
        }
    }

    fn finish_job(&mut self) {
        if let Some(reply) = self.store.finish() {
            self.queues.handle_reply(self.now, reply);
            self.drain();
        }
    }

    fn publish(&mut self) {
        self.next += 1;
        let number = self.next;
        let qos = if self.rng.u8(..4) == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let message = Arc::new(Message::new(MessageParts {
            topic: &format!("t/{}", self.rng.u64(..TOPICS)),
            properties: &[],
            payload: number.to_string().as_bytes(),
            qos,
            retain: false,
            received_at: self.now.wall,
            expires_at: self.rng.bool().then(|| self.now.wall + Duration::from_secs(3600)),
        }));
        if self.queues.refuses(self.dest, message.cost()).is_some() {
            return self.queues.count_refused(self.dest);
        }
        let mut admission = self.queues.begin(Some(Token(number)));
        let delivery = Delivery { qos, ..Delivery::default() };
        self.queues.push(self.now, &mut admission, self.dest, delivery, &message);
        if self.queues.finish(admission) == Outcome::Done {
            self.settled.insert(number);
        }
        self.drain();
    }

    fn link(&mut self, up: bool) {
        if up == self.is_up {
            return;
        }
        self.is_up = up;
        self.in_flight.clear();
        if up {
            self.queues.activate(self.dest);
        } else {
            self.queues.deactivate(self.now, self.dest);
        }
        self.drain();
    }

    fn send(&mut self) {
        if self.is_up
            && self.in_flight.len() < 4
            && let Some(peeked) = self.queues.peek(self.now, self.dest)
        {
            self.queues.take(self.dest, peeked.seq);
            self.in_flight.push_back(peeked);
        }
        self.drain();
    }

    fn answer(&mut self) {
        if self.in_flight.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.in_flight.len());
        let Some(peeked) = self.in_flight.remove(index) else { return };
        let number: u64 = std::str::from_utf8(peeked.message.payload()).unwrap().parse().unwrap();
        let topic: u64 = peeked.message.topic()[2..].parse().unwrap();
        self.delivered.entry(topic).or_default().push(number);
        if peeked.qos == QoS::ExactlyOnce {
            // Settled at some time; the rig's receiver needs no PUBREL.
            self.queues.release(self.now, self.dest, peeked.seq, peeked.pkid, Token(u64::MAX >> 8));
            self.queues.complete(self.now, self.dest, peeked.pkid);
        } else {
            self.queues.acked(self.now, self.dest, peeked.seq);
        }
        self.drain();
    }

    fn crash(&mut self) {
        self.stats.push(self.queues.stats(self.dest));
        self.crashes += 1;
        self.store.crash(&mut self.rng);
        self.queues = new_queues(&self.store.disk);
        let owner = Owner::Upstream(UpstreamId(0));
        self.dest = self.queues.open(self.now, "rule:cloud/all", owner, self.limits).expect("a line");
        self.is_up = false;
        self.in_flight.clear();
        self.drain();
    }

    fn act(&mut self, with_crashes: bool) {
        match self.rng.u8(..40) {
            0..12 => self.publish(),
            12..20 => self.send(),
            20..26 => self.answer(),
            26..34 => self.finish_job(),
            34..37 => {
                let millis = self.rng.u64(1..400);
                self.pass(millis);
            }
            37 => self.link(true),
            38 => self.link(false),
            _ if with_crashes && self.rng.u8(..4) == 0 => self.crash(),
            _ => {}
        }
    }

    /// Everything works until nothing is left to do.
    fn settle(&mut self) {
        self.link(true);
        for _ in 0..20_000 {
            self.pass(300);
            self.finish_job();
            self.send();
            self.answer();
            let waits = self.queues.depth(self.dest).messages > 0 || !self.in_flight.is_empty();
            if !waits && !self.store.has_jobs() && self.queues.is_idle() {
                break;
            }
        }
        self.stats.push(self.queues.stats(self.dest));
    }

    fn sum(&self, of: impl Fn(&LineStats) -> u64) -> u64 {
        self.stats.iter().map(of).sum()
    }
}

fn play(seed: u64, when_full: WhenFull, with_crashes: bool) -> Rig {
    let max_messages = [3, 8, 30, 10_000][usize::try_from(seed % 4).unwrap()];
    let mut rig = Rig::new(seed, when_full, max_messages);
    for step in 0..400 {
        rig.act(with_crashes);
        let depth = rig.queues.depth(rig.dest);
        assert!(depth.messages <= max_messages.max(30), "seed {seed}, step {step}: {depth:?}");
    }
    rig.settle();
    assert_eq!(rig.queues.depth(rig.dest).messages, 0, "seed {seed}: {:?}", rig.queues.stats(rig.dest));
    assert_eq!(rig.queues.memory(), 0, "seed {seed}");
    assert!(rig.store.disk.is_empty(), "seed {seed}: rows are left on the disk");
    rig
}

const POLICIES: [WhenFull; 4] = [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Reject, WhenFull::KeepLast];

#[test]
fn every_policy_delivers_or_counts_each_message_it_acknowledged() {
    let mut evicted: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..1500 {
        for when_full in POLICIES {
            let rig = play(seed, when_full, false);
            let stats = rig.stats[0];
            let gone = stats.dropped_oldest + stats.replaced + stats.expired + stats.buried + stats.lost;
            assert_eq!(stats.accepted, stats.delivered + gone, "seed {seed} {when_full:?}: {stats:?}");
            assert_eq!(rig.next, stats.accepted + stats.dropped_newest + stats.refused, "seed {seed}: {stats:?}");
            assert_eq!(stats.lost, 0, "seed {seed} {when_full:?}");
            *evicted.entry(format!("{when_full:?}")).or_default() += gone + stats.dropped_newest + stats.refused;
            check_order(seed, &rig);
        }
    }
    println!("{evicted:?}");
    assert!(
        evicted.values().all(|count| *count > 1000),
        "a limit that is never reached proves nothing: {evicted:?}"
    );
}

#[test]
fn every_policy_delivers_or_counts_each_message_it_acknowledged_through_power_cuts() {
    let mut crashes = 0;
    for seed in 0..1500 {
        for when_full in POLICIES {
            let rig = play(seed, when_full, true);
            crashes += rig.crashes;
            let arrived: BTreeSet<u64> = rig.delivered.values().flatten().copied().collect();
            let missing = rig.settled.iter().filter(|number| **number <= rig.next && !arrived.contains(number));
            let missing = missing.count() as u64;
            let counted = rig.sum(|s| s.dropped_oldest + s.dropped_newest + s.replaced);
            assert!(missing <= counted, "seed {seed} {when_full:?}: {missing} missing, {counted} counted");
            assert_eq!(rig.sum(|s| s.lost), 0, "seed {seed} {when_full:?}");
        }
    }
    assert!(crashes > 500, "{crashes}");
}

/// In one life of the process nothing comes twice but what was in flight when the link was lost.
fn check_order(seed: u64, rig: &Rig) {
    for (topic, numbers) in &rig.delivered {
        let mut first = BTreeSet::new();
        let once: Vec<u64> = numbers.iter().copied().filter(|number| first.insert(*number)).collect();
        // Answers come in any order, but from four at most.
        for (at, number) in once.iter().enumerate() {
            let later = once[at..].iter().filter(|other| *other < number).count();
            assert!(later < 4, "seed {seed}, topic {topic}: {once:?}");
        }
    }
}

/// As long as its limit is not reached, `keep-last` delivers the newest of each topic, whatever is cut, and on the disk
/// there is one row of each topic at most.
#[test]
fn keep_last_keeps_the_newest_of_each_topic() {
    for seed in 0..1000 {
        let mut rig = Rig::new(seed, WhenFull::KeepLast, 10_000);
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..300 {
            rig.act(seed.is_multiple_of(2));
        }
        rig.link(false);
        for _ in 0..60 {
            rig.publish();
            if rig.rng.bool() {
                rig.pass(30);
                rig.finish_job();
            }
        }
        for _ in 0..20 {
            rig.pass(300);
            rig.finish_job();
        }
        if rig.crashes == 0 {
            // In flight when the link was lost, with QoS 2: four at most.
            let depth = rig.queues.depth(rig.dest).messages;
            assert!(depth <= TOPICS + 4, "seed {seed}: {depth} wait for {TOPICS} topics");
            assert_eq!(
                rig.store.disk.rows_of(rig.dest).count() as u64,
                depth,
                "seed {seed}: on disk and in the books"
            );
        }
        for row in rig.store.disk.rows_of(rig.dest) {
            let number: u64 = std::str::from_utf8(row.message.payload()).unwrap().parse().unwrap();
            let topic = row.message.topic()[2..].parse().unwrap();
            newest.entry(topic).and_modify(|known| *known = number.max(*known)).or_insert(number);
        }
        let before: BTreeMap<u64, usize> = rig.delivered.iter().map(|(topic, list)| (*topic, list.len())).collect();
        rig.settle();
        for (topic, number) in newest {
            let after = &rig.delivered[&topic][before.get(&topic).copied().unwrap_or(0)..];
            assert_eq!(after.iter().max(), Some(&number), "seed {seed}, topic {topic}");
        }
    }
}

/// Many topics: what keeps them apart is bounded, and beyond that nothing is lost.
#[test]
fn keep_last_remembers_no_more_topics_than_fit() {
    let mut queues = Queues::new(&Config::default().store, &Disk::default().recover());
    let now = Now::default();
    let limits = Limits { max_messages: 1 << 20, max_bytes: 1 << 30, when_full: WhenFull::KeepLast };
    let dest = queues.open(now, "rule:cloud/all", Owner::Upstream(UpstreamId(0)), limits).expect("a line");
    let mut disk = Disk::default();
    let topic = "x".repeat(1000);
    for number in 0..10_000 {
        let topic = format!("{topic}/{number}");
        let parts = MessageParts {
            topic: &topic,
            properties: &[],
            payload: b"",
            qos: QoS::AtLeastOnce,
            retain: false,
            received_at: now.wall,
            expires_at: None,
        };
        let message = Arc::new(Message::new(parts));
        let mut admission = queues.begin(None);
        let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
        queues.push(now, &mut admission, dest, delivery.clone(), &message);
        queues.another_copy(&mut admission);
        queues.push(now, &mut admission, dest, delivery, &message);
        queues.finish(admission);
        while let Some(output) = queues.poll_output(Now { at: now.at + Duration::from_secs(9), ..now }) {
            if let Output::Commit(batch) = output {
                disk.apply(&batch);
                queues.handle_reply(now, Reply::Committed { batch: batch.id });
            }
        }
    }
    let (depth, stats) = (queues.depth(dest), queues.stats(dest));
    assert_eq!(depth.messages + stats.replaced, 20_000, "{stats:?}");
    assert!((3_500..4_500).contains(&stats.replaced), "4 MiB of topics are told apart: {stats:?}");
}
