//! What an operator does to queues and dead letters while the gateway runs.

use std::sync::Arc;

use crate::config::RuleQos;
use crate::engine::Engine;
use crate::engine::ports::OutRule;
use crate::mqtt::Message;
use crate::queue::{Delivery, Owner};
use crate::time::Now;

/// A dead letter that shall go back.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its number.
    pub id: u64,
    /// The queue that it was in.
    pub queue: String,
    /// How it was to be delivered.
    pub delivery: Delivery,
    /// Under its local topic.
    pub message: Message,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It is in a queue again, and leaves the dead letters with the same commit.
    Queued,
    /// It was on its way already.
    Already,
    /// No rule of its upstream takes its topic.
    NoRule,
    /// It is older than its expiry.
    Expired,
    /// The queue is full, or the disk is.
    NoRoom,
}

impl Replayed {
    /// For people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Already => "already queued",
            Self::NoRule => "no rule of its upstream takes its topic",
            Self::Expired => "expired",
            Self::NoRoom => "no room in the queue",
        }
    }
}

impl Engine {
    /// Sends a dead letter through the rules of its upstream anew: its own rule if that takes it, or else the first
    /// that does. It is deleted there by the batch that makes it safe in its queue.
    pub fn replay(&mut self, now: Now, letter: Letter) -> Replayed {
        self.replaying.retain(|(_, batch)| !self.queues.is_safe(*batch));
        if self.replaying.iter().any(|(id, _)| *id == letter.id) {
            return Replayed::Already;
        }
        if letter.message.is_expired(now.wall) {
            return Replayed::Expired;
        }
        let Some((dest, qos)) = self.rule_for(&letter) else { return Replayed::NoRule };
        let delivery = Delivery { qos, retain: letter.delivery.retain, ..Delivery::default() };
        if !self.queues.exhume(now, dest, delivery, &Arc::new(letter.message), letter.id) {
            return Replayed::NoRoom;
        }
        self.replaying.push((letter.id, self.queues.batch()));
        self.settle(now);
        Replayed::Queued
    }

    fn rule_for(&self, letter: &Letter) -> Option<(crate::queue::DestId, crate::mqtt::QoS)> {
        let mut topic = String::new();
        let (upstream, own) = queue_name(&letter.queue);
        let of_upstream = self.upstreams.values().filter(|setup| setup.name == upstream);
        let rules: Vec<&OutRule> = of_upstream.flat_map(|setup| &setup.rules).collect();
        let mut takes = |rule: &&&OutRule| rule.mapping.remap(letter.message.topic(), &mut topic).is_ok();
        let rule = match rules.iter().filter(|rule| rule.name == own).find(&mut takes) {
            Some(rule) => rule,
            None => rules.iter().find(&mut takes)?,
        };
        let qos = match rule.qos {
            RuleQos::Keep => letter.delivery.qos,
            RuleQos::Fixed(qos) => qos,
        };
        Some((rule.dest, qos))
    }

    /// Deletes dead letters.
    pub fn purge_dead(&mut self, now: Now, ids: &[u64]) {
        for id in ids {
            self.queues.unbury(now, *id);
        }
        self.settle(now);
    }

    /// Deletes all that waits in a queue of an upstream, by its name, and says how many that were. One that no rule
    /// has any more is gone afterwards. `None`: there is no such queue.
    pub fn purge_queue(&mut self, now: Now, name: &str) -> Option<u64> {
        let dest = self.queues.names().find(|(other, _)| *other == name).map(|(_, dest)| dest)?;
        let owner = self.queues.owner(dest)?;
        let orphan = owner == Owner::Nobody;
        if !orphan && !matches!(owner, Owner::Upstream(_)) {
            return None;
        }
        let count = self.queues.purge(now, dest);
        if orphan {
            self.queues.remove(now, dest);
        }
        self.settle(now);
        Some(count)
    }

    /// The batch that holds what was just asked for, for [`Engine::is_safe`].
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.queues.batch()
    }

    /// Whether a batch is durable.
    #[must_use]
    pub fn is_safe(&self, batch: u64) -> bool {
        self.queues.is_safe(batch)
    }

    /// Which start of the box this is: messages that came in one were stamped by the same clock.
    pub fn set_boot(&mut self, now: Now, boot: &str) {
        self.queues.set_boot(now, boot);
        self.settle(now);
    }
}

/// Upstream and rule of `rule:{upstream}/{rule}`, or of its other lane.
fn queue_name(name: &str) -> (&str, &str) {
    let (_, rest) = name.split_once(':').unwrap_or_default();
    rest.split_once('/').unwrap_or((rest, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::{Input, Output, Start};
    use crate::mqtt::{MessageParts, QoS};
    use crate::queue::{Batch, Op, Recovered, Reply};
    use crate::time::{Instant, Wall};

    const CONFIG: &str = "
        [[upstream]]
        name = 'cloud'
        url = ['mqtt://cloud.example.com']
        [[upstream.rule]]
        name = 'alarms'
        filter = 'alarm/{rest#}'
        [[upstream.rule]]
        name = 'all'
        filter = 'site/{rest#}'
        remap = 'fleet/{rest}'
        qos = 1
        limit = { messages = 2 }
    ";

    fn at(millis: u64) -> Now {
        Now { at: Instant::from_micros(millis * 1000), wall: Wall::from_millis(1_753_776_000_000 + millis) }
    }

    fn engine() -> Engine {
        let config = Config::parse(CONFIG).unwrap().resolve("box").unwrap();
        let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
        let mut engine = Engine::new(at(0), start).unwrap();
        batches(&mut engine, at(500));
        engine
    }

    fn letter(id: u64, queue: &str, topic: &str) -> Letter {
        let message = Message::new(MessageParts {
            topic,
            properties: &[],
            payload: b"x",
            qos: QoS::ExactlyOnce,
            retain: false,
            received_at: at(0).wall,
            expires_at: None,
        });
        let delivery = Delivery { qos: QoS::ExactlyOnce, ..Delivery::default() };
        Letter { id, queue: queue.to_owned(), delivery, message }
    }

    /// What is handed to the store by then, committed at once.
    fn batches(engine: &mut Engine, now: Now) -> Vec<Batch> {
        engine.handle_input(now, Input::Timeout);
        let mut found = Vec::new();
        while let Some(output) = engine.poll_output() {
            if let Output::Commit(batch) = output {
                engine.handle_input(now, Input::Store(Reply::Committed { batch: batch.id }));
                found.push(batch);
            }
        }
        found
    }

    #[test]
    fn a_dead_letter_goes_through_the_rules_anew_and_leaves_with_the_commit_that_makes_it_safe() {
        let mut engine = engine();
        // Its own rule does not take it any more.
        assert_eq!(engine.replay(at(600), letter(5, "rule:cloud/alarms", "site/a")), Replayed::Queued);
        assert_eq!(engine.replay(at(601), letter(5, "rule:cloud/alarms", "site/a")), Replayed::Already);
        let batch = engine.batch();
        assert!(!engine.is_safe(batch));
        let found = batches(&mut engine, at(900));
        let [Batch { ops, .. }] = found.as_slice() else { panic!("{found:?}") };
        let [Op::Append { row, .. }, Op::Unbury { id: 5 }] = ops.as_slice() else { panic!("{ops:?}") };
        assert_eq!((row.message.topic(), row.delivery.qos), ("site/a", QoS::AtLeastOnce), "the rule's own QoS");
        assert!(engine.is_safe(batch));
        let line = engine.status().lines.into_iter().find(|line| line.name == "rule:cloud/all").unwrap();
        assert_eq!(line.depth.messages, 1);
    }

    #[test]
    fn a_dead_letter_that_finds_no_place_stays_where_it_is() {
        let mut engine = engine();
        assert_eq!(engine.replay(at(600), letter(1, "rule:cloud/all", "other/a")), Replayed::NoRule);
        assert_eq!(engine.replay(at(600), letter(1, "rule:gone/all", "site/a")), Replayed::NoRule);
        let mut old = letter(1, "rule:cloud/all", "site/a");
        old.message.expires_at = Some(at(599).wall);
        assert_eq!(engine.replay(at(600), old), Replayed::Expired);
        for id in 1..=2 {
            assert_eq!(engine.replay(at(600), letter(id, "rule:cloud/all", "site/a")), Replayed::Queued);
        }
        assert_eq!(engine.replay(at(600), letter(3, "rule:cloud/all", "site/a")), Replayed::NoRoom);
        assert_eq!(engine.status().lines.iter().map(|line| line.stats.dropped()).sum::<u64>(), 0);
    }

    #[test]
    fn a_queue_is_emptied_by_its_name_and_sessions_are_not() {
        let mut engine = engine();
        engine.replay(at(600), letter(1, "rule:cloud/all", "site/a"));
        batches(&mut engine, at(900));
        assert_eq!(engine.purge_queue(at(901), "rule:cloud/all"), Some(1));
        assert_eq!(engine.purge_queue(at(901), "rule:cloud/none"), None);
        let ops: Vec<Op> = batches(&mut engine, at(1200)).into_iter().flat_map(|batch| batch.ops).collect();
        assert!(matches!(ops.as_slice(), [Op::DeleteUpTo { .. }]), "{ops:?}");
        engine.purge_dead(at(1201), &[7, 9]);
        let ops: Vec<Op> = batches(&mut engine, at(1500)).into_iter().flat_map(|batch| batch.ops).collect();
        assert_eq!(ops, [Op::Unbury { id: 7 }, Op::Unbury { id: 9 }]);
    }
}
