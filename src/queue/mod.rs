//! Store-and-forward as a value: who gets what, in which order, within which limits, and what must be durable before
//! a publisher is told so.
//!
//! Each stored session and each bridge rule has a queue of its own, a *line*. A message that is pushed into a durable
//! line joins the batch in hand; its publisher's token is settled when the batch is committed, or earlier when the
//! destination acknowledges first: then the row is never written (*delivered before commit*).

mod admission;
mod clock;
mod contract;
mod deliver;
mod hand_on;
mod journal;
mod lanes;
mod latest;
mod line;
mod look;
mod purge;
mod refill;
mod tally;
mod topics;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config;
use crate::metrics::{Level, Notice};
use crate::mqtt::QoS;
use crate::queue::clock::Clock;
use crate::queue::journal::Journal;
use crate::queue::line::{Entry, Line, PkidRange, Released, Stored};
use crate::time::{Duration, Instant, Now, Wall, earliest};

pub use admission::Admission;
pub use contract::{
    Batch, Delivery, DestId, Due, Number, Op, Outcome, Read, RecordKind, Recovered, Refusal, Reply, Row, Seq,
    StoredQueue, Token,
};
pub use deliver::Peeked;
pub use hand_on::LeftBehind;
pub use line::{Limits, LineStats, Owner};
pub use look::{DeadCount, DeadLetter, Look, Looks};
pub use tally::Tally;

/// What the queues want done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Hand this to the store.
    Commit(Batch),
    /// Hand this to the store.
    Read(Read),
    /// What the token stands for is safe.
    Settled(Token),
    /// For the log.
    Notice(Notice),
}

/// How full a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Messages, those in flight too.
    pub messages: u64,
    /// Bytes, counted as [`crate::mqtt::Message::cost`].
    pub bytes: u64,
    /// When the oldest arrived, as far as known.
    pub oldest: Option<Wall>,
}

/// All lines together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages, those in flight too.
    pub messages: u64,
    /// Bytes, counted as [`crate::mqtt::Message::cost`].
    pub bytes: u64,
    /// Dropped since start, for a limit, for their age, or because QoS 0 is not kept; of deleted lines too.
    pub dropped: u64,
}

/// All lines and the batch in hand.
#[derive(Debug)]
pub struct Queues {
    window_bytes: usize,
    idle_window_bytes: usize,
    max_memory: usize,
    /// Bytes in the windows of all lines, counted as [`crate::mqtt::Message::cost`] for each that has the message.
    memory: usize,
    last_seq: Seq,
    /// What was given out last by the process before.
    recovered_seq: Seq,
    lines: Vec<Option<Line>>,
    by_name: BTreeMap<Box<str>, DestId>,
    journal: Journal,
    ready: VecDeque<DestId>,
    outputs: VecDeque<Output>,
    /// When reads that failed, or that found less than there should be, are tried again.
    reread_at: Option<Instant>,
    starved: Vec<DestId>,
    /// What happened in lines that are deleted by now.
    gone: LineStats,
    /// Lines of sessions that are no more, and that wait for the disk.
    parked: Vec<DestId>,
    /// Of the numbers that messages for upstreams get; 0: they get none.
    epoch: u32,
    clock: Clock,
}

/// Read-ahead kept for a line whose receiver is away, at most.
const IDLE_WINDOW: usize = 16 * 1024;

impl Queues {
    /// Takes over what the store found. Lines come back without an owner; [`Queues::open`] claims them by name.
    #[must_use]
    pub fn new(settings: &config::Store, recovered: &Recovered) -> Self {
        let mut queues = Self {
            window_bytes: settings.window_bytes,
            idle_window_bytes: settings.window_bytes.min(IDLE_WINDOW),
            max_memory: settings.max_memory_bytes,
            memory: 0,
            last_seq: recovered.last_seq,
            recovered_seq: recovered.last_seq,
            lines: Vec::new(),
            by_name: BTreeMap::new(),
            journal: Journal::new(settings),
            ready: VecDeque::new(),
            outputs: VecDeque::new(),
            reread_at: None,
            starved: Vec::new(),
            gone: LineStats::default(),
            parked: Vec::new(),
            epoch: 0,
            clock: Clock::recover(recovered),
        };
        queues.recover(recovered);
        queues
    }

    /// From now on these settings hold.
    pub fn configure(&mut self, settings: &config::Store) {
        self.window_bytes = settings.window_bytes;
        self.idle_window_bytes = settings.window_bytes.min(IDLE_WINDOW);
        self.max_memory = settings.max_memory_bytes;
        self.journal.configure(settings);
    }

    fn recover(&mut self, recovered: &Recovered) {
        for (kind, key, value) in &recovered.records {
            let (RecordKind::Dest, Ok(id)) = (kind, <[u8; 2]>::try_from(key.as_ref())) else { continue };
            let dest = DestId(u16::from_be_bytes(id));
            let line = Line::new(Owner::Nobody, true, NO_LIMITS, Seq(0));
            self.place(dest, line);
            self.by_name.insert(String::from_utf8_lossy(value).into(), dest);
        }
        for found in &recovered.queues {
            if self.line(found.dest).is_none() {
                // Rows without a record: kept under a name that says so, never thrown away.
                self.place(found.dest, Line::new(Owner::Nobody, true, NO_LIMITS, Seq(0)));
                self.by_name.insert(format!("orphan:{}", found.dest.0).into(), found.dest);
            }
            let Some(line) = self.line_mut(found.dest) else { continue };
            line.has_shared = true;
            line.count = found.count;
            line.bytes = found.bytes;
            line.beyond = found.count;
            line.window_end = Seq(found.first.0.saturating_sub(1));
            line.pkid = found.last_pkid;
        }
        for &Due { dest, pkid, held } in &recovered.released {
            let has_newer = recovered.queues.iter().any(|found| found.dest == dest && found.last_pkid != 0);
            if let Some(line) = self.line_mut(dest) {
                line.releases.push(Released { pkid, seq: held, batch: 0, is_over: false });
                if !has_newer {
                    line.pkid = pkid;
                }
            }
        }
        for &(dest, pkid) in &recovered.received {
            if let Some(line) = self.line_mut(dest) {
                line.receipts.insert(pkid, 0);
            }
        }
    }

    fn place(&mut self, dest: DestId, line: Line) {
        let index = usize::from(dest.0);
        if self.lines.len() <= index {
            self.lines.resize_with(index + 1, || None);
        }
        self.lines[index] = Some(line);
    }

    fn line(&self, dest: DestId) -> Option<&Line> {
        self.lines.get(usize::from(dest.0))?.as_ref()
    }

    fn line_mut(&mut self, dest: DestId) -> Option<&mut Line> {
        self.lines.get_mut(usize::from(dest.0))?.as_mut()
    }

    fn free_id(&self) -> Option<DestId> {
        let index = self.lines.iter().position(Option::is_none).unwrap_or(self.lines.len());
        u16::try_from(index).ok().map(DestId)
    }

    /// The durable line called `name`, as it was stored or new. `None` when all 65 536 numbers are in use.
    pub fn open(&mut self, now: Now, name: &str, owner: Owner, limits: Limits) -> Option<DestId> {
        if let Some(&dest) = self.by_name.get(name) {
            let line = self.line_mut(dest)?;
            (line.owner, line.pkids) = (owner, PkidRange::of(owner));
            line.set_limits(limits);
            if matches!(owner, Owner::Upstream(_)) {
                // Its head says how old the oldest message is.
                self.refill(dest);
            }
            return Some(dest);
        }
        let dest = self.free_id()?;
        self.place(dest, Line::new(owner, true, limits, self.last_seq));
        self.by_name.insert(name.into(), dest);
        let op = Op::Put { kind: RecordKind::Dest, key: dest_key(dest), value: name.as_bytes().into() };
        self.journal.add_lazily(now.at, op);
        Some(dest)
    }

    /// Gives the line the QoS 2 identifiers of member `index` of `count` that share one connection.
    pub fn share_pkids(&mut self, dest: DestId, index: usize, count: usize) {
        if let Some(line) = self.line_mut(dest) {
            line.pkids = PkidRange::share(index, count);
        }
    }

    /// A line that lives in memory only, for a session that ends with its connection.
    pub fn open_in_memory(&mut self, owner: Owner, limits: Limits) -> Option<DestId> {
        let dest = self.free_id()?;
        self.place(dest, Line::new(owner, false, limits, self.last_seq));
        Some(dest)
    }

    /// Changes what the line may hold, from the next message on.
    pub fn set_limits(&mut self, dest: DestId, limits: Limits) {
        if let Some(line) = self.line_mut(dest) {
            line.set_limits(limits);
        }
    }

    /// A line that lived in memory shall outlast the process: what it holds is written.
    pub fn make_durable(&mut self, now: Now, dest: DestId, name: &str) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        if line.durable {
            return;
        }
        line.durable = true;
        self.by_name.insert(name.into(), dest);
        let record = Op::Put { kind: RecordKind::Dest, key: dest_key(dest), value: name.as_bytes().into() };
        self.journal.add(now.at, record, None);
        let kept = |entry: &&mut Entry| !entry.done && entry.delivery.qos > QoS::AtMostOnce;
        for entry in line.window.iter_mut().filter(kept) {
            let row = Row { seq: entry.seq, delivery: entry.delivery.clone(), message: Arc::clone(&entry.message) };
            entry.stored = Stored::At(self.journal.add(now.at, Op::Append { dest, row }, None));
        }
        for released in &line.releases {
            let op = Op::Release { dest, seq: released.seq, pkid: released.pkid };
            self.journal.add(now.at, op, None);
        }
        for pkid in line.receipts.keys() {
            self.journal.add(now.at, Op::Receive { dest, pkid: *pkid }, None);
        }
    }

    /// Deletes a line with all that it holds. Publishers that wait for it wait no longer.
    pub fn remove(&mut self, now: Now, dest: DestId) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::take) else { return };
        self.gone.add(&line.stats);
        self.memory -= line.window_bytes;
        for entry in &line.window {
            if let Stored::At(place) = entry.stored {
                self.journal.cancel(place);
            }
        }
        if line.durable {
            self.by_name.retain(|_, id| *id != dest);
            self.journal.add_lazily(now.at, Op::Clear { dest });
            self.journal.add_lazily(now.at, Op::Remove { kind: RecordKind::Dest, key: dest_key(dest) });
        }
    }

    /// Names of stored lines and their numbers.
    pub fn names(&self) -> impl Iterator<Item = (&str, DestId)> {
        self.by_name.iter().map(|(name, dest)| (name.as_ref(), *dest))
    }

    /// Whether a stored line has this name.
    #[must_use]
    pub fn is_known(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Nobody in the present configuration has the line any more: it keeps what it holds and takes nothing.
    pub fn disown(&mut self, dest: DestId) {
        if let Some(line) = self.line_mut(dest) {
            (line.owner, line.limits) = (Owner::Nobody, NO_LIMITS);
        }
    }

    /// Whose line it is.
    #[must_use]
    pub fn owner(&self, dest: DestId) -> Option<Owner> {
        self.line(dest).map(|line| line.owner)
    }

    /// How full the line is.
    #[must_use]
    pub fn depth(&self, dest: DestId) -> Depth {
        self.line(dest).map_or_else(Depth::default, |line| Depth {
            messages: line.count,
            bytes: line.bytes,
            oldest: line.oldest(),
        })
    }

    /// Whether something waits for its turn, beside what is in flight.
    #[must_use]
    pub fn has_waiting(&self, dest: DestId) -> bool {
        self.line(dest).is_some_and(|line| line.beyond > 0 || line.first_waiting().is_some())
    }

    /// What the line may hold.
    #[must_use]
    pub fn limits(&self, dest: DestId) -> Option<Limits> {
        self.line(dest).map(|line| line.limits)
    }

    /// All lines together. Looks at each.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { dropped: self.gone.dropped(), ..Totals::default() };
        for line in self.lines.iter().flatten() {
            totals.messages += line.count;
            totals.bytes += line.bytes;
            totals.dropped += line.stats.dropped();
        }
        totals
    }

    /// What happened in the line since start.
    #[must_use]
    pub fn stats(&self, dest: DestId) -> LineStats {
        self.line(dest).map(|line| line.stats).unwrap_or_default()
    }

    /// Whether the last commit failed: durable publishes are refused until one succeeds.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.journal.is_failing()
    }

    /// Bytes of messages in memory, of all lines.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// What one line may hold in memory now: what is left in all, so that many share and leave room for one more.
    fn memory_left(&self) -> usize {
        self.max_memory.saturating_sub(self.memory).max(IDLE_WINDOW)
    }

    /// How long changes gather before they are committed, and how many at most.
    #[must_use]
    pub fn gathering(&self) -> (Duration, usize) {
        self.journal.gathering()
    }

    /// Bytes that wait for the disk.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.journal.pending_bytes()
    }

    /// A position for a message that just arrived.
    pub fn stamp(&mut self) -> Seq {
        self.last_seq = Seq((self.last_seq.0 + 1).min(Seq::MAX.0));
        self.last_seq
    }

    /// The position that was given out last.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Makes a record durable; settled when it is. Without a token nobody waits for it.
    pub fn put(&mut self, now: Now, kind: RecordKind, key: &[u8], value: &[u8], token: Option<Token>) -> Outcome {
        self.record(now, Op::Put { kind, key: key.into(), value: value.into() }, token)
    }

    /// Deletes a record; settled when that is durable.
    pub fn delete_record(&mut self, now: Now, kind: RecordKind, key: &[u8], token: Option<Token>) -> Outcome {
        self.record(now, Op::Remove { kind, key: key.into() }, token)
    }

    /// Whether a change of a session's record, set or deleted, is not durable yet.
    #[must_use]
    pub fn is_changing(&self, kind: RecordKind, key: &[u8]) -> bool {
        self.journal.is_changing(kind, key)
    }

    fn record(&mut self, now: Now, op: Op, token: Option<Token>) -> Outcome {
        match token {
            Some(token) => self.change(now, op, token),
            None => {
                self.journal.add_lazily(now.at, op);
                Outcome::Done
            }
        }
    }

    /// Whether something that must be durable would be refused now.
    #[must_use]
    pub fn refuses_durable(&self, cost: usize) -> Option<Refusal> {
        (!self.journal.has_room(cost)).then_some(Refusal::Store)
    }

    fn change(&mut self, now: Now, op: Op, token: Token) -> Outcome {
        let ticket = self.journal.ticket(token);
        self.journal.add(now.at, op, Some(ticket));
        Outcome::Pending
    }

    /// The store answers.
    pub fn handle_reply(&mut self, now: Now, reply: Reply) {
        match reply {
            Reply::Committed { batch: Batch::RELIEF } => self.journal.handle_relieved(),
            Reply::Committed { batch } => {
                if self.journal.is_failing() {
                    self.notice(Level::Info, "store recovered", "store", "commits succeed again");
                }
                for dest in self.journal.handle_committed(batch) {
                    self.mark_ready(dest);
                    self.refill(dest);
                }
                for dest in std::mem::take(&mut self.starved) {
                    self.refill(dest);
                }
                for dest in std::mem::take(&mut self.parked) {
                    self.mark_ready(dest);
                }
            }
            Reply::Failed { batch, error } => {
                if self.journal.handle_failed(now.at, batch) {
                    self.notice(Level::Error, "store cannot commit", "store", error);
                    for dest in std::mem::take(&mut self.parked) {
                        self.mark_ready(dest);
                    }
                }
            }
            Reply::Rows { dest, after, rows } => self.handle_rows(now, dest, after, rows),
            Reply::Unreadable { dest, after, error } => self.handle_unreadable(now, dest, after, error),
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.reread_at.is_some_and(|at| at <= now.at) {
            self.reread_at = None;
            for dest in std::mem::take(&mut self.starved) {
                self.refill(dest);
            }
        }
    }

    /// Commits what is in hand without waiting for company, this once: a client waits that is not in yet.
    pub fn hurry(&mut self, now: Now) {
        self.journal.hurry(now.at);
    }

    /// Commits what is in hand without waiting for company, from now on: the daemon is about to stop.
    /// Gives the last batch that there is by now.
    pub fn flush(&mut self) -> u64 {
        self.journal.flush()
    }

    /// Whether the batch is durable, or nothing of it is left to be made so.
    #[must_use]
    pub fn is_safe(&self, batch: u64) -> bool {
        self.journal.is_committed(batch) || self.journal.is_idle()
    }

    /// Whether everything that should be durable is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.journal.is_idle()
    }

    /// A line that may have something to send, with its owner.
    pub fn poll_ready(&mut self) -> Option<(DestId, Owner)> {
        while let Some(dest) = self.ready.pop_front() {
            if let Some(line) = self.line_mut(dest) {
                line.is_ready = false;
                return Some((dest, line.owner));
            }
        }
        None
    }

    /// What the queues want done.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        if self.journal.has_settled() {
            self.outputs.extend(self.journal.take_settled().into_iter().map(Output::Settled));
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.journal.poll_batch(now.at).map(Output::Commit)
    }

    /// When to call [`Queues::handle_timeout`] and poll again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.journal.deadline(), self.reread_at)
    }

    fn mark_ready(&mut self, dest: DestId) {
        if let Some(line) = self.line_mut(dest)
            && line.active
            && !line.is_ready
        {
            line.is_ready = true;
            self.ready.push_back(dest);
        }
    }

    fn notice(&mut self, level: Level, what: &'static str, who: impl Into<String>, detail: impl Into<String>) {
        self.outputs.push_back(Output::Notice(Notice::new(level, what, who, detail)));
    }
}

/// Until its owner sets them, a recovered line keeps what it has and takes nothing.
const NO_LIMITS: Limits =
    Limits { max_messages: u64::MAX, max_bytes: u64::MAX, when_full: config::WhenFull::Reject };

fn dest_key(dest: DestId) -> Box<[u8]> {
    Box::new(dest.0.to_be_bytes())
}
