//! `keep-last`: of each topic only the newest message waits.
//!
//! The index knows which message of a topic waits last, so that the next one takes its place: in the window, in the
//! batch in hand, or on the disk, where the row is deleted by itself. After a start the index is empty. What was
//! stored by then is looked at when it is read back: if a newer one of its topic came meanwhile, it is dropped then.
//! Either way it is counted. Topics beyond the bound of the index are kept like those of any other line.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::queue::journal::Place;
use crate::queue::line::Stored;
use crate::queue::topics::Topics;
use crate::queue::{DestId, Op, Queues, Row, Seq};
use crate::time::Now;

/// Bytes of topics that one line remembers, with what the table takes for each.
const MAX_BYTES: usize = 4 << 20;
/// What an entry takes beside its topic, about.
const ENTRY: usize = 64;

/// The newest waiting message of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub seq: Seq,
    pub cost: usize,
    /// Where its row was put, if it was not read back.
    pub place: Option<Place>,
}

/// What a line that keeps the last of each topic knows.
#[derive(Debug)]
pub(crate) struct Latest {
    by_topic: HashMap<Box<str>, Newest, FixedState>,
    bytes: usize,
    /// Rows beyond the window that are deleted, and the batch that does so: until it is durable, a read may still
    /// bring them.
    gone: BTreeMap<Seq, u64>,
    /// How many topics there are, of those that do not wait too.
    topics: Topics,
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            by_topic: HashMap::with_hasher(FixedState::default()),
            bytes: 0,
            gone: BTreeMap::new(),
            topics: Topics::default(),
        }
    }
}

impl Latest {
    /// Notes that `newest` is the last of its topic, if there is room to remember it.
    fn note(&mut self, topic: &str, newest: Newest) {
        self.topics.note(topic);
        if let Some(known) = self.by_topic.get_mut(topic) {
            if known.seq < newest.seq {
                *known = newest;
            }
        } else if self.bytes + topic.len() + ENTRY <= MAX_BYTES {
            self.bytes += topic.len() + ENTRY;
            self.by_topic.insert(topic.into(), newest);
        }
    }

    /// The message has left the line.
    pub(crate) fn forget(&mut self, topic: &str, seq: Seq) {
        if self.by_topic.get(topic).is_some_and(|newest| newest.seq == seq) {
            self.by_topic.remove(topic);
            self.bytes -= topic.len() + ENTRY;
        }
    }

    fn newest(&self, topic: &str) -> Option<Newest> {
        self.by_topic.get(topic).copied()
    }
}

impl Queues {
    /// Notes a message that was just put into a line.
    pub(crate) fn note_newest(&mut self, dest: DestId, topic: &str, newest: Newest) {
        if let Some(latest) = self.line_mut(dest).and_then(|line| line.latest.as_mut()) {
            latest.note(topic, newest);
        }
    }

    /// A message of this topic comes in: the one that waits gives way to it, unless it is on its way already.
    pub(crate) fn replace(&mut self, now: Now, dest: DestId, topic: &str) {
        let batch = self.journal.id();
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let Some(old) = line.latest.as_ref().and_then(|latest| latest.newest(topic)) else { return };
        if old.seq <= line.window_end {
            let index = line.window.partition_point(|entry| entry.seq < old.seq);
            let waits = line.window.get(index).is_some_and(|entry| entry.seq == old.seq && entry.may_be_replaced());
            if waits && index >= line.taken {
                line.stats.replaced += 1;
                self.discard(now, dest, index);
            }
            return;
        }
        line.stats.replaced += 1;
        line.count -= 1;
        line.bytes -= old.cost as u64;
        line.beyond -= 1;
        if let Some(latest) = &mut line.latest {
            latest.forget(topic, old.seq);
        }
        if !old.place.is_some_and(|place| self.journal.cancel(place)) {
            self.journal.add_lazily(now.at, Op::Delete { dest, seq: old.seq });
            let line = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut);
            if let Some(latest) = line.and_then(|line| line.latest.as_mut()) {
                latest.gone.insert(old.seq, batch);
            }
        }
    }

    /// About how many topics the messages of a line that keeps the last of each had lately. `None` for other lines.
    #[must_use]
    pub fn topics(&self, dest: DestId) -> Option<f64> {
        self.line(dest)?.latest.as_ref().map(|latest| latest.topics.count())
    }

    /// Topics that were not seen since the call before are forgotten.
    pub fn forget_old_topics(&mut self) {
        for latest in self.lines.iter_mut().flatten().filter_map(|line| line.latest.as_mut()) {
            latest.topics.turn();
        }
    }

    /// Before a read: rows whose deletion is durable will not come back.
    pub(crate) fn forget_gone(&mut self, dest: DestId) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        if let Some(latest) = &mut line.latest {
            latest.gone.retain(|_, batch| !self.journal.is_committed(*batch));
        }
    }

    /// Whether a row that the store gives back is still wanted. One that was replaced since the start is not: it is
    /// counted and deleted.
    pub(crate) fn is_wanted(&mut self, now: Now, dest: DestId, row: &Row) -> bool {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return false };
        let Some(latest) = &mut line.latest else { return true };
        if latest.gone.contains_key(&row.seq) {
            return false;
        }
        let (topic, cost) = (row.message.topic(), row.message.cost());
        match latest.newest(topic) {
            Some(newest) if newest.seq > row.seq => {
                line.stats.replaced += 1;
                line.count = line.count.saturating_sub(1);
                line.bytes = line.bytes.saturating_sub(cost as u64);
                line.beyond = line.beyond.saturating_sub(1);
                self.journal.add_lazily(now.at, Op::Delete { dest, seq: row.seq });
                false
            }
            _ => {
                latest.note(topic, Newest { seq: row.seq, cost, place: None });
                true
            }
        }
    }
}

impl Stored {
    /// Where the row was put, if it was not read back.
    pub(crate) fn place(self) -> Option<Place> {
        match self {
            Self::At(place) => Some(place),
            Self::Never | Self::Row => None,
        }
    }
}
