//! The batch in hand: what the cores want made durable, gathered until it is worth a commit.
//!
//! One batch is in hand, at most one is with the store. A change may carry a ticket; when the batch that holds it is
//! committed, or the change turns out not to be needed any more, the ticket loses one hold. A ticket without holds is
//! settled: what it stands for may be acknowledged.
//!
//! Of each session's record the batch in hand has one, the newest: however often a session changes while the disk
//! hangs, no more of it waits.

use std::collections::BTreeMap;

use slab::Slab;

use crate::config;
use crate::queue::{Batch, DestId, Op, RecordKind, Token};
use crate::time::{Duration, Instant, earliest};

/// Deletions alone wait this long for company: after a crash they only mean a duplicate.
const LAZY: Duration = Duration::from_millis(250);
/// After a failed commit the same batch is tried again this much later.
const RETRY: Duration = Duration::from_secs(1);

/// What the place of a change that was taken back goes on to count for: while the disk hangs, places add up.
const EMPTY_PLACE: usize = 48;

/// A ticket's number.
pub(crate) type Ticket = usize;

/// Where a change lies: the batch and its place in it. Only changes of the batch in hand can still be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub batch: u64,
    index: usize,
}

#[derive(Debug)]
struct Slot {
    op: Op,
    ticket: Option<Ticket>,
    /// Tickets of those whose record this one replaced.
    more: Vec<Ticket>,
}

impl Slot {
    fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.ticket.into_iter().chain(self.more.iter().copied())
    }
}

#[derive(Debug)]
struct Holds {
    token: Token,
    count: u32,
}

#[derive(Debug)]
struct WithStore {
    slots: Vec<Slot>,
    records: Records,
    bytes: usize,
    /// Set after a failure: when to try again.
    retry_at: Option<Instant>,
    /// What makes room was handed over before this try.
    relieved: bool,
}

/// Where the records of sessions lie in a batch.
type Records = BTreeMap<(RecordKind, Box<[u8]>), usize>;

/// The batch in hand and the one that the store works on.
#[derive(Debug)]
pub(crate) struct Journal {
    interval: Duration,
    max_ops: usize,
    max_bytes: usize,
    max_pending_bytes: usize,
    slots: Vec<Option<Slot>>,
    /// Where the records of sessions lie among them.
    records: Records,
    live: usize,
    bytes: usize,
    /// Identifier of the batch in hand.
    id: u64,
    due_at: Option<Instant>,
    with_store: Option<WithStore>,
    /// So many places of the batch in hand were looked at for what makes room.
    relieved_to: usize,
    tickets: Slab<Holds>,
    settled: Vec<Token>,
    failing: bool,
    flush: bool,
}

impl Journal {
    pub(crate) fn new(settings: &config::Store) -> Self {
        Self {
            interval: settings.commit_interval,
            max_ops: settings.commit_messages.max(1),
            max_bytes: settings.commit_bytes.max(1),
            max_pending_bytes: settings.max_pending_bytes,
            slots: Vec::new(),
            records: BTreeMap::new(),
            live: 0,
            bytes: 0,
            id: 1,
            due_at: None,
            with_store: None,
            relieved_to: 0,
            tickets: Slab::new(),
            settled: Vec::new(),
            failing: false,
            flush: false,
        }
    }

    /// From now on these settings hold.
    pub(crate) fn configure(&mut self, settings: &config::Store) {
        self.interval = settings.commit_interval;
        self.max_ops = settings.commit_messages.max(1);
        self.max_bytes = settings.commit_bytes.max(1);
        self.max_pending_bytes = settings.max_pending_bytes;
    }

    /// How long changes gather, and how many at most.
    pub(crate) fn gathering(&self) -> (Duration, usize) {
        (self.interval, self.max_ops)
    }

    /// Identifier of the batch in hand.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether a change made in `batch` is durable by now.
    pub(crate) fn is_committed(&self, batch: u64) -> bool {
        batch + u64::from(self.with_store.is_some()) < self.id
    }

    /// Whether `cost` more bytes may wait for the disk.
    pub(crate) fn has_room(&self, cost: usize) -> bool {
        !self.failing && self.pending_bytes() + cost <= self.max_pending_bytes
    }

    /// Whether the last commit failed and was not yet repeated with success.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.bytes + self.with_store.as_ref().map_or(0, |batch| batch.bytes)
    }

    /// Whether a change of this record, set or deleted, is not durable yet.
    pub(crate) fn is_changing(&self, kind: RecordKind, key: &[u8]) -> bool {
        let with_store = self.with_store.as_ref().map(|batch| &batch.records);
        let mut batches = with_store.into_iter().chain([&self.records]).filter(|records| !records.is_empty());
        batches.any(|records| records.contains_key(&(kind, key.into())))
    }

    /// Opens a ticket without holds.
    pub(crate) fn ticket(&mut self, token: Token) -> Ticket {
        self.tickets.insert(Holds { token, count: 0 })
    }

    /// Closes a ticket that got no holds, or that nobody waits for any more.
    pub(crate) fn drop_ticket(&mut self, ticket: Ticket) {
        if self.tickets.try_remove(ticket).is_some() {
            let held = self.slots.iter_mut().flatten();
            let with_store = self.with_store.iter_mut().flat_map(|batch| batch.slots.iter_mut());
            for slot in held.chain(with_store) {
                if slot.ticket == Some(ticket) {
                    slot.ticket = None;
                }
                slot.more.retain(|other| *other != ticket);
            }
        }
    }

    /// How many changes the ticket waits for.
    pub(crate) fn holds(&self, ticket: Ticket) -> u32 {
        self.tickets.get(ticket).map_or(0, |holds| holds.count)
    }

    /// Adds a change that somebody waits for, or that must not wait long.
    pub(crate) fn add(&mut self, now: Instant, op: Op, ticket: Option<Ticket>) -> Place {
        self.insert(op, ticket, now + self.interval)
    }

    /// Adds a change that may wait for company.
    pub(crate) fn add_lazily(&mut self, now: Instant, op: Op) -> Place {
        self.insert(op, None, now + self.interval.max(LAZY))
    }

    fn insert(&mut self, op: Op, ticket: Option<Ticket>, due_at: Instant) -> Place {
        if let Some(holds) = ticket.and_then(|ticket| self.tickets.get_mut(ticket)) {
            holds.count += 1;
        }
        self.due_at = earliest(self.due_at, Some(due_at));
        self.bytes += cost(&op);
        let mut index = self.slots.len();
        if let Some(record) = record_of(&op) {
            index = *self.records.entry(record).or_insert(index);
        }
        if let Some(Some(slot)) = self.slots.get_mut(index) {
            self.bytes -= cost(&slot.op);
            slot.op = op;
            slot.more.extend(ticket);
        } else {
            self.live += 1;
            self.slots.push(Some(Slot { op, ticket, more: Vec::new() }));
        }
        Place { batch: self.id, index }
    }

    /// Takes a change back if it is still in hand; its ticket loses a hold.
    pub(crate) fn cancel(&mut self, place: Place) -> bool {
        if place.batch != self.id {
            return false;
        }
        let Some(slot) = self.slots.get_mut(place.index).and_then(Option::take) else { return false };
        self.bytes -= cost(&slot.op) - EMPTY_PLACE;
        self.live -= 1;
        if self.live == 0 {
            self.slots.clear();
            self.records.clear();
            self.bytes = 0;
            self.due_at = None;
        }
        slot.tickets().for_each(|ticket| self.release(ticket));
        true
    }

    /// The ticket of a change that is still in hand.
    pub(crate) fn ticket_of(&self, place: Place) -> Option<Ticket> {
        let slots = (place.batch == self.id).then_some(&self.slots)?;
        slots.get(place.index)?.as_ref()?.ticket
    }

    /// Moves a waiting `DeleteUpTo` forward instead of adding another.
    pub(crate) fn extend_delete(&mut self, place: Place, dest: DestId, to: crate::queue::Seq) -> bool {
        if place.batch != self.id {
            return false;
        }
        match self.slots.get_mut(place.index) {
            Some(Some(Slot { op: Op::DeleteUpTo { dest: whose, seq }, .. })) if *whose == dest => {
                *seq = to;
                true
            }
            _ => false,
        }
    }

    fn release(&mut self, ticket: Ticket) {
        let Some(holds) = self.tickets.get_mut(ticket) else { return };
        holds.count -= 1;
        if holds.count == 0 {
            self.settled.push(holds.token);
            self.tickets.remove(ticket);
        }
    }

    /// Whether [`Journal::take_settled`] has any.
    pub(crate) fn has_settled(&self) -> bool {
        !self.settled.is_empty()
    }

    /// The tokens whose changes are all durable or no longer needed, in the order in which that became so.
    pub(crate) fn take_settled(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.settled)
    }

    /// The batch to hand to the store now, if it is time for one.
    pub(crate) fn poll_batch(&mut self, now: Instant) -> Option<Batch> {
        if let Some(batch) = &mut self.with_store {
            let retry_at = batch.retry_at?;
            if now < retry_at {
                return None;
            }
            if !std::mem::replace(&mut batch.relieved, true) {
                // A full store is emptied by deletions in the batch that does not fit, and behind it.
                let slots = batch.slots.iter().chain(self.slots.iter().flatten());
                let ops: Vec<Op> = slots.map(|slot| &slot.op).filter(|op| relieves(op)).cloned().collect();
                self.relieved_to = self.slots.len();
                if !ops.is_empty() {
                    return Some(Batch { id: Batch::RELIEF, ops });
                }
            }
            (batch.retry_at, batch.relieved) = (None, false);
            let ops = batch.slots.iter().map(|slot| slot.op.clone()).collect();
            return Some(Batch { id: self.id - 1, ops });
        }
        let full = self.live >= self.max_ops || self.bytes >= self.max_bytes || self.flush;
        if self.live == 0 || !(full || self.due_at.is_some_and(|at| at <= now)) {
            return None;
        }
        let records = std::mem::take(&mut self.records);
        let slots: Vec<Slot> = self.slots.drain(..).flatten().collect();
        let batch = Batch { id: self.id, ops: slots.iter().map(|slot| slot.op.clone()).collect() };
        self.with_store = Some(WithStore { slots, records, bytes: self.bytes, retry_at: None, relieved: false });
        self.id += 1;
        (self.live, self.bytes, self.due_at) = (0, 0, None);
        Some(batch)
    }

    /// The store made room with changes of the batch that does not fit and of the one behind it. What waited for these
    /// need not wait for the others: PUBREL brings the PUBCOMP that makes more room.
    pub(crate) fn handle_relieved(&mut self) {
        let with_store = self.with_store.iter_mut().flat_map(|batch| &mut batch.slots);
        let in_hand = self.slots.iter_mut().take(self.relieved_to).flatten();
        let relieved = with_store.chain(in_hand).filter(|slot| relieves(&slot.op));
        let settled: Vec<Ticket> =
            relieved.flat_map(|slot| slot.ticket.take().into_iter().chain(slot.more.drain(..))).collect();
        settled.into_iter().for_each(|ticket| self.release(ticket));
    }

    /// The store committed `batch`. Gives the destinations that it appended to.
    pub(crate) fn handle_committed(&mut self, batch: u64) -> Vec<DestId> {
        if batch + 1 != self.id {
            return Vec::new();
        }
        let Some(done) = self.with_store.take() else { return Vec::new() };
        self.failing = false;
        let mut appended = Vec::new();
        for slot in done.slots {
            if let Op::Append { dest, .. } = slot.op
                && appended.last() != Some(&dest)
            {
                appended.push(dest);
            }
            slot.tickets().for_each(|ticket| self.release(ticket));
        }
        appended.sort_unstable();
        appended.dedup();
        appended
    }

    /// The store could not commit `batch`: it is tried again later. True when this is news.
    pub(crate) fn handle_failed(&mut self, now: Instant, batch: u64) -> bool {
        let expected = self.id;
        match &mut self.with_store {
            Some(waiting) if batch + 1 == expected => {
                waiting.retry_at = Some(now + RETRY);
                !std::mem::replace(&mut self.failing, true)
            }
            _ => false,
        }
    }

    /// Commits what is in hand without waiting for company, from now on. Gives the last batch that there is by now.
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush = true;
        if self.live > 0 { self.id } else { self.id - 1 }
    }

    /// Commits what is in hand without waiting for company, this once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if self.live > 0 {
            self.due_at = earliest(self.due_at, Some(now));
        }
    }

    /// Whether nothing waits for the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.live == 0 && self.with_store.is_none()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.with_store {
            Some(batch) => batch.retry_at,
            None => self.due_at,
        }
    }
}

/// The record that a change sets or deletes, if it is that of a session.
fn record_of(op: &Op) -> Option<(RecordKind, Box<[u8]>)> {
    match op {
        Op::Put { kind: kind @ (RecordKind::Session | RecordKind::SnClient), key, .. }
        | Op::Remove { kind: kind @ (RecordKind::Session | RecordKind::SnClient), key } => {
            Some((*kind, key.clone()))
        }
        _ => None,
    }
}

/// Whether a change makes room, or leads to it, and may be made twice: it is about rows that are stored, in this order or
/// another.
fn relieves(op: &Op) -> bool {
    let deletes = matches!(op, Op::DeleteUpTo { .. } | Op::Delete { .. } | Op::Release { .. } | Op::Clear { .. });
    deletes || matches!(op, Op::Hold { .. })
}

/// What a change counts for while it waits.
fn cost(op: &Op) -> usize {
    const FIXED: usize = 64;
    FIXED
        + match op {
            Op::Append { row, .. } => row.message.cost(),
            Op::Retain { message } => message.cost(),
            Op::Put { key, value, .. } => key.len() + value.len(),
            _ => 0,
        }
}
