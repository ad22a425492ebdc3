//! What becomes of a line whose session ended: messages of shared subscriptions move to other members' lines, each in
//! one batch, so that a crash neither loses nor doubles them.

use std::sync::Arc;

use crate::queue::line::Stored;
use crate::queue::{Admission, Delivery, DestId, Op, Owner, Queues, RecordKind, Seq, dest_key};
use crate::time::{Now, Wall};

/// How the stored line of a session that is no more is called, before its number and its window.
const LEAVER: &str = "leaver:";

/// The stored line of a session that has no record, as found after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub dest: DestId,
    /// So many messages of each QoS may have been on their way when the session ended, if that is known.
    pub window: Option<u16>,
}

impl Queues {
    /// Whether messages of shared subscriptions may be in the line.
    #[must_use]
    pub fn may_hold_shared(&self, dest: DestId) -> bool {
        self.line(dest).is_some_and(|line| line.has_shared && line.count > 0)
    }

    /// The line's session ends with this batch, with so many messages of each QoS on their way at most. What it holds
    /// waits, under a name of its own, for the broker to hand it on: the line says when it is
    /// [ready](Queues::poll_ready).
    pub fn leave(&mut self, now: Now, dest: DestId, window: u16) {
        self.deactivate(now, dest);
        let Some(line) = self.line_mut(dest) else { return };
        line.owner = Owner::Leaver;
        if line.durable {
            let name = format!("{LEAVER}{}:{window}", dest.0);
            self.by_name.retain(|_, id| *id != dest);
            self.by_name.insert(name.as_str().into(), dest);
            let record = Op::Put { kind: RecordKind::Dest, key: dest_key(dest), value: name.as_bytes().into() };
            self.journal.add_lazily(now.at, record);
        }
        self.activate(dest);
    }

    /// Stored lines that nobody owns and that are a session's, or were: found after a start.
    #[must_use]
    pub fn left_behind(&self) -> Vec<LeftBehind> {
        let is_session = |name: &str| name.starts_with("session:") || name.starts_with(LEAVER);
        let unowned = |dest: DestId| self.line(dest).is_some_and(|line| line.owner == Owner::Nobody);
        let names = self.names().filter(|(name, dest)| is_session(name) && unowned(*dest));
        let found = names.map(|(name, dest)| {
            // An earlier version did not write the window.
            let window = name.strip_prefix(LEAVER).and_then(|rest| rest.split_once(':')?.1.parse().ok());
            LeftBehind { name: name.to_owned(), dest, window }
        });
        found.collect()
    }

    /// After a start: so many messages of each QoS, that arrived no later than `before`, may have been sent already.
    pub fn suspect(&mut self, dest: DestId, window: u16, before: Wall) {
        let through = self.recovered_seq;
        if let Some(line) = self.line_mut(dest) {
            (line.unsure, line.unsure_before, line.unsure_through) = ([window; 2], before, through);
        }
    }

    /// Moves the peeked message to the line of an heir. Whoever waits for it to be safe here waits for it there.
    pub fn hand_on(&mut self, now: Now, from: DestId, seq: Seq, heir: DestId, delivery: Delivery) {
        let Some(line) = self.line(from) else { return };
        let Some(entry) = line.first_waiting().map(|index| &line.window[index]).filter(|entry| entry.seq == seq)
        else {
            return;
        };
        let message = Arc::clone(&entry.message);
        let ticket = match entry.stored {
            Stored::At(place) => self.journal.ticket_of(place),
            Stored::Never | Stored::Row => None,
        };
        let mut admission = Admission { seq: self.stamp(), token: None, ticket };
        self.push(now, &mut admission, heir, delivery, &message);
        self.let_go(now, from, seq);
    }

    /// Drops the peeked message.
    pub fn let_go(&mut self, now: Now, dest: DestId, seq: Seq) {
        let Some(line) = self.line(dest) else { return };
        if let Some(index) = line.first_waiting().filter(|index| line.window[*index].seq == seq) {
            self.discard(now, dest, index);
        }
    }

    /// The line goes on when the disk has done what it has to do now.
    pub fn park(&mut self, dest: DestId) {
        if !self.parked.contains(&dest) {
            self.parked.push(dest);
        }
    }
}
