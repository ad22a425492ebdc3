//! One destination's queue: a window in memory at the head, the rest beyond it in the store.
//!
//! ```text
//!   head                              tail
//!   | in flight | waiting in memory | beyond: only in the store |
//!   |<------------ window --------->|
//! ```
//!
//! The window is always the oldest part without a gap, so order never depends on where a message lies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::WhenFull;
use crate::mqtt::{Message, QoS};
use crate::queue::journal::Place;
use crate::queue::latest::Latest;
use crate::queue::{Delivery, DestId, Row, Seq};
use crate::time::{Instant, Wall};

/// Whose queue it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A session of the broker, by its slot there.
    Session(u32),
    /// A rule of an upstream.
    Upstream(crate::config::UpstreamId),
    /// A session that is no more: what it had of shared subscriptions goes to other members.
    Leaver,
    /// Nobody in the present configuration: kept until its rule comes back or it is purged.
    Nobody,
}

/// What a queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages, those in flight too.
    pub max_messages: u64,
    /// Bytes, counted as [`Message::cost`].
    pub max_bytes: u64,
    /// What gives way.
    pub when_full: WhenFull,
}

/// What happened in one queue since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineStats {
    /// Taken in.
    pub accepted: u64,
    /// Of these, QoS 0: they are not stored.
    pub accepted_qos0: u64,
    /// Bytes of the others, counted as [`Message::cost`].
    pub accepted_bytes: u64,
    /// Acknowledged by the destination.
    pub delivered: u64,
    /// Dropped from the head because a limit was reached.
    pub dropped_oldest: u64,
    /// Not taken in because a limit was reached; the publisher was acknowledged (`drop-newest`).
    pub dropped_newest: u64,
    /// Gave way to a newer message of their topic (`keep-last`).
    pub replaced: u64,
    /// Not taken in, and the publisher was told so (`reject`, or the disk).
    pub refused: u64,
    /// QoS 0 while the destination was away.
    pub dropped_qos0: u64,
    /// Past their expiry.
    pub expired: u64,
    /// Dropped because the destination may no longer have them.
    pub denied: u64,
    /// Moved to the dead letters.
    pub buried: u64,
    /// Deleted by an operator.
    pub purged: u64,
    /// Rows that the store could not give back.
    pub lost: u64,
}

impl LineStats {
    /// Taken in or not, it was not delivered and its publisher was not told.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_oldest + self.dropped_newest + self.replaced + self.dropped_qos0 + self.expired
    }
}

/// Where a message in the window stands with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Lives in memory only, on purpose.
    Never,
    /// In the batch in hand, or in the one that the store works on, or durable: the place tells.
    At(Place),
    /// Read back from the store.
    Row,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub seq: Seq,
    pub delivery: Delivery,
    pub message: Arc<Message>,
    pub stored: Stored,
    /// Was sent at least once on a connection of its session.
    pub sent_before: bool,
    /// QoS 2, PUBREC came: it stays until PUBCOMP.
    pub held: bool,
    /// Nothing is left to do but to leave the window once all before it has.
    pub done: bool,
}

/// An outbound QoS 2 message that its destination owns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Released {
    pub pkid: u16,
    /// Its row, or 0 if that is gone since before the start.
    pub seq: Seq,
    /// The batch that makes it durable; 0: long ago.
    pub batch: u64,
    /// PUBCOMP came, and its row is not read yet that was held for it.
    pub is_over: bool,
}

/// A read that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Rows after this one are asked for.
    pub after: Seq,
    /// Rows of batches up to this one must be found.
    pub certain_up_to: u64,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub owner: Owner,
    pub durable: bool,
    pub active: bool,
    /// The batch that says who its receiver is.
    pub known_since: u64,
    pub limits: Limits,
    pub window: VecDeque<Entry>,
    pub window_bytes: usize,
    /// Of entries that are done and lie behind one that is not.
    pub done_bytes: usize,
    /// Leading entries of the window that were taken.
    pub taken: usize,
    pub count: u64,
    pub bytes: u64,
    /// Messages after the window, in the store or on their way to it.
    pub beyond: u64,
    /// The last sequence number that was ever in the window.
    pub window_end: Seq,
    /// Batch of the newest append beyond the window.
    pub beyond_batch: u64,
    /// A read is under way.
    pub reading: Option<Reading>,
    /// A waiting `DeleteUpTo`.
    pub delete: Option<Place>,
    /// Outbound QoS 2 ids that wait for PUBCOMP, oldest first.
    pub releases: Vec<Released>,
    /// Inbound QoS 2 ids that wait for PUBREL, and the batch that makes each durable.
    pub receipts: BTreeMap<u16, u64>,
    /// Inbound QoS 2 ids that were released, and the batch that makes that durable.
    pub forgetting: Vec<(u16, u64)>,
    /// The fixed packet identifier that was given out last.
    pub pkid: u16,
    pub pkids: PkidRange,
    /// Messages up to here may have identifiers that come next in turn.
    pub lapped_through: Seq,
    pub is_ready: bool,
    /// It may hold messages of shared subscriptions.
    pub has_shared: bool,
    /// So many messages of QoS 1, and of QoS 2, at the head of what the store gives back were sent or may have been
    /// sent by the process before, if they arrived no later than `unsure_before`, up to `unsure_through`.
    pub unsure: [u16; 2],
    pub unsure_before: Wall,
    pub unsure_through: Seq,
    pub oldest_at: Option<Wall>,
    /// The other lane of the same rule.
    pub other_lane: Option<DestId>,
    /// Of two lanes the one that waits.
    pub is_backlog: bool,
    /// Its messages get numbers.
    pub is_traced: bool,
    /// So many messages got a number.
    pub numbered: u32,
    /// What waits last of each topic, for a line that keeps no more.
    pub latest: Option<Latest>,
    /// When the log was last told that something was dropped here.
    pub noticed_at: Option<Instant>,
    pub stats: LineStats,
}

impl Line {
    pub(crate) fn new(owner: Owner, durable: bool, limits: Limits, after: Seq) -> Self {
        let latest = (limits.when_full == WhenFull::KeepLast).then(Latest::default);
        Self {
            owner,
            durable,
            active: false,
            known_since: 0,
            limits,
            window: VecDeque::new(),
            window_bytes: 0,
            done_bytes: 0,
            taken: 0,
            count: 0,
            bytes: 0,
            beyond: 0,
            window_end: after,
            beyond_batch: 0,
            reading: None,
            delete: None,
            releases: Vec::new(),
            receipts: BTreeMap::new(),
            forgetting: Vec::new(),
            pkid: 0,
            pkids: PkidRange::of(owner),
            lapped_through: Seq(0),
            is_ready: false,
            has_shared: false,
            unsure: [0; 2],
            unsure_before: Wall::default(),
            unsure_through: Seq::default(),
            oldest_at: None,
            other_lane: None,
            is_backlog: false,
            is_traced: false,
            numbered: 0,
            latest,
            noticed_at: None,
            stats: LineStats::default(),
        }
    }

    /// Changes what the line may hold, from the next message on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        match limits.when_full {
            WhenFull::KeepLast => drop(self.latest.get_or_insert_default()),
            _ => self.latest = None,
        }
    }

    /// Where in the window `seq` lies, among those taken.
    pub(crate) fn find_taken(&self, seq: Seq) -> Option<usize> {
        // Acknowledgements come in order nearly always: the front is the answer.
        if self.taken > 0 && self.window.front().is_some_and(|entry| entry.seq == seq) {
            return Some(0);
        }
        let index = self.window.partition_point(|entry| entry.seq < seq);
        (index < self.taken && self.window[index].seq == seq).then_some(index)
    }

    /// The first entry that is neither taken nor done, nor held for PUBCOMP.
    pub(crate) fn first_waiting(&self) -> Option<usize> {
        (self.taken..self.window.len()).find(|&index| !self.window[index].done && !self.window[index].held)
    }

    /// Whether QoS 2 messages stay between PUBREC and PUBCOMP. An upstream that loses its session in between may not
    /// have passed them on yet; a client's session is ours to lose.
    pub(crate) fn holds(&self) -> bool {
        self.durable && matches!(self.owner, Owner::Upstream(_))
    }

    /// Whether all that was read ahead is on its way, and one at most is without an answer.
    pub(crate) fn waits_for_one(&self) -> bool {
        self.taken == self.window.len() && self.window.iter().filter(|entry| !entry.done).nth(1).is_none()
    }

    pub(crate) fn push_back(&mut self, entry: Entry) {
        self.window_bytes += entry.message.cost();
        self.window_end = entry.seq;
        self.window.push_back(entry);
    }

    /// Whether messages of this QoS have a packet identifier of their own here, the same after a crash
    /// [MQTT-4.4.0-1]. A bridge chooses those of QoS 1 when it sends.
    pub(crate) fn fixes_pkid(&self, qos: QoS) -> bool {
        match qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => matches!(self.owner, Owner::Session(_)),
            QoS::ExactlyOnce => true,
        }
    }

    /// A fixed packet identifier: none that still waits for its PUBCOMP, nor that of a message in flight, which its
    /// receiver may leave without an answer for ever.
    pub(crate) fn next_pkid(&mut self) -> u16 {
        loop {
            let next = self.pkids.after(self.pkid);
            if let Some(oldest) = self.window.front().filter(|_| self.taken > 0) {
                let ahead = |id: u16| id.wrapping_sub(oldest.delivery.pkid);
                if ahead(next) <= ahead(self.pkid) {
                    self.lapped_through = self.window_end;
                }
            }
            self.pkid = next;
            if !self.is_in_flight(next) && self.releases.iter().all(|released| released.pkid != next) {
                return next;
            }
        }
    }

    /// Whether a message in flight has this identifier, which is the next in turn: only once the turn has come round
    /// to the oldest of them, as they have theirs in turn.
    fn is_in_flight(&self, pkid: u16) -> bool {
        let mut old = self.window.iter().take(self.taken).take_while(|entry| entry.seq <= self.lapped_through);
        old.any(|entry| entry.delivery.pkid == pkid && !entry.done)
    }

    /// Whether QoS 2 waits until it is durable who the receiver is. A session that may have been sent a message of a
    /// shared subscription is then known by its record after a crash, and the message goes to nobody else
    /// [MQTT-4.8.2-5]; and so is an upstream's session that is ours.
    pub(crate) fn tells_who_came(&self, share: u32) -> bool {
        self.durable
            && match self.owner {
                Owner::Session(_) => share != 0,
                Owner::Upstream(_) => true,
                Owner::Leaver | Owner::Nobody => false,
            }
    }

    /// The entry leaves the window and will be read again.
    pub(crate) fn remember_sent(&mut self, entry: &Entry) {
        if entry.sent_before {
            let count = &mut self.unsure[usize::from(entry.delivery.qos == QoS::ExactlyOnce)];
            *count = count.saturating_add(1);
            self.unsure_before = self.unsure_before.max(entry.message.received_at);
            self.unsure_through = self.unsure_through.max(entry.seq);
        }
    }

    /// Whether a row that the store gives back was sent, or may have been sent by the process before.
    pub(crate) fn is_unsure(&mut self, row: &Row) -> bool {
        let left = &mut self.unsure[usize::from(row.delivery.qos == QoS::ExactlyOnce)];
        if *left == 0 || row.message.received_at > self.unsure_before || row.seq > self.unsure_through {
            return false;
        }
        *left -= 1;
        true
    }

    /// When the oldest message arrived, as far as that is in memory.
    pub(crate) fn oldest(&self) -> Option<Wall> {
        self.window.iter().find(|entry| !entry.done).map(|entry| entry.message.received_at).or(self.oldest_at)
    }
}

/// Where a line takes its fixed packet identifiers from.
///
/// They are fixed when a message is queued, so that they are in its row and the same after a crash. A session has the
/// lower half of all identifiers for QoS 1 and 2: they take two octets in a row, those of the upper half would take
/// three. Messages are sent in the order of the queue, so ids in flight meet only when a receiver leaves a message
/// unanswered for a whole turn of them; then the later one waits.
///
/// The rules of one upstream share its connection: each has a range of its own for QoS 2, in the upper half; QoS 1
/// ids are chosen when a message is sent, from the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PkidRange {
    first: u16,
    last: u16,
}

impl PkidRange {
    const SESSION: Self = Self { first: 1, last: 0x7FFF };
    const UPSTREAM: Self = Self { first: 0x8000, last: 0xFFFF };

    pub(crate) fn of(owner: Owner) -> Self {
        if matches!(owner, Owner::Session(_)) { Self::SESSION } else { Self::UPSTREAM }
    }

    /// The range of member `index` of `count`.
    pub(crate) fn share(index: usize, count: usize) -> Self {
        let each = (0x8000 / count.max(1)).clamp(1, 0x8000);
        let first = 0x8000 + (index * each).min(0x8000 - each);
        let number = |id: usize| u16::try_from(id).unwrap_or(u16::MAX);
        Self { first: number(first), last: number(first + each - 1) }
    }

    fn after(self, pkid: u16) -> u16 {
        if (self.first..self.last).contains(&pkid) { pkid + 1 } else { self.first }
    }
}

impl Entry {
    /// Whether a newer message of its topic may take its place: one that was sent with QoS 2 must be finished.
    pub(crate) fn may_be_replaced(&self) -> bool {
        let unfinished = self.sent_before && self.delivery.qos == QoS::ExactlyOnce;
        !self.done && !unfinished
    }

    /// Whether it is past its expiry and may still be dropped: a message that was sent with QoS 2 must be finished.
    pub(crate) fn may_expire(&self, wall: Wall) -> bool {
        self.message.is_expired(wall) && !(self.sent_before && self.delivery.qos == QoS::ExactlyOnce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_packet_ids_stay_in_their_range_and_ranges_do_not_meet() {
        assert_eq!(PkidRange::UPSTREAM.after(0), 0x8000);
        assert_eq!(PkidRange::UPSTREAM.after(0x8000), 0x8001);
        assert_eq!(PkidRange::UPSTREAM.after(0xFFFF), 0x8000);
        assert_eq!(PkidRange::SESSION.after(0), 1);
        assert_eq!(PkidRange::SESSION.after(0x7FFF), 1);
        assert_eq!(PkidRange::SESSION.after(0x9000), 1, "given out by a version that had the upper half");
        let ranges: Vec<PkidRange> = (0..3).map(|index| PkidRange::share(index, 3)).collect();
        assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first), "{ranges:?}");
        assert_eq!(ranges[1].after(ranges[1].last), ranges[1].first);
        assert_eq!(ranges[1].after(ranges[0].last), ranges[1].first);
    }
}
