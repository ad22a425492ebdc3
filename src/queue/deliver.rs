//! The way out: what is sent next, what the destination has, what has to be sent again.

use std::sync::Arc;

use crate::config::UpstreamId;
use crate::mqtt::{Message, QoS};
use crate::queue::line::{Released, Stored};
use crate::queue::{Admission, DestId, Number, Op, Outcome, Owner, Queues, RecordKind, Row, Seq, Token};
use crate::time::Now;

/// The next message of a line.
#[derive(Debug, Clone)]
pub struct Peeked {
    /// Position, for all later calls.
    pub seq: Seq,
    /// Granted quality of service.
    pub qos: QoS,
    /// The RETAIN flag as the destination sees it.
    pub retain: bool,
    /// The packet identifier, the same after a crash; 0 for QoS 0, and for QoS 1 of a bridge, which chooses.
    pub pkid: u16,
    /// It was sent before on a connection of the same session: DUP.
    pub sent_before: bool,
    /// What is sent.
    pub message: Arc<Message>,
    /// The shared subscription that it came by; 0 for none.
    pub share: u32,
    /// MQTT 5.0 subscription identifiers that matched.
    pub subscription_ids: Box<[u32]>,
    /// Its number in the books of its rule.
    pub number: Number,
    /// By how many milliseconds its times are too early: the clock was set after they were stamped.
    pub shift: i64,
}

impl Queues {
    /// The receiver came: from now on the line says when it has something.
    pub fn activate(&mut self, dest: DestId) {
        let batch = self.journal.id();
        if let Some(line) = self.line_mut(dest).filter(|line| !line.active) {
            line.active = true;
            if matches!(line.owner, Owner::Session(_)) {
                line.known_since = batch;
            }
        }
        self.refill(dest);
        self.mark_ready(dest);
    }

    /// The receiver left. What was in flight waits in its old place; QoS 0 is not kept.
    pub fn deactivate(&mut self, now: Now, dest: DestId) {
        self.rewind(dest);
        let Some(line) = self.line_mut(dest) else { return };
        line.active = false;
        let volatile: Vec<usize> = (0..line.window.len())
            .filter(|&i| !line.window[i].done && line.window[i].delivery.qos == QoS::AtMostOnce)
            .collect();
        line.stats.dropped_qos0 += volatile.len() as u64;
        for index in volatile.into_iter().rev() {
            self.discard(now, dest, index);
        }
        self.shrink(dest);
    }

    /// Gives back the memory of what can be read again: nobody is waiting for it.
    fn shrink(&mut self, dest: DestId) {
        let limit = self.idle_window_bytes;
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        while line.window_bytes > limit && line.window.len() > 1 && line.reading.is_none() {
            let Some(last) =
                line.window.pop_back_if(|last| !last.done && !last.held && last.stored != Stored::Never)
            else {
                break;
            };
            line.window_bytes -= last.message.cost();
            self.memory -= last.message.cost();
            line.beyond += 1;
            line.remember_sent(&last);
            if let Stored::At(place) = last.stored {
                line.beyond_batch = line.beyond_batch.max(place.batch);
            }
            // Not where the last one that stays lies: what was between them is gone from the books, and its rows may not be
            // gone from the disk yet.
            line.window_end = Seq(last.seq.0.saturating_sub(1));
        }
        line.window.shrink_to_fit();
    }

    /// The oldest message that is not in flight. Expired ones are dropped and counted on the way. `None` when there is
    /// none, when it has to be read first, or when it is QoS 2 and its identifier is not durable yet: then the line
    /// says so when it is [ready](Queues::poll_ready).
    pub fn peek(&mut self, now: Now, dest: DestId) -> Option<Peeked> {
        loop {
            let line = self.lines.get_mut(usize::from(dest.0))?.as_mut()?;
            let index = line.first_waiting()?;
            let entry = &line.window[index];
            if entry.may_expire(now.wall.shifted(self.clock.shift(entry.seq).saturating_neg())) {
                line.stats.expired += 1;
                self.discard(now, dest, index);
                continue;
            }
            if let (QoS::ExactlyOnce, Stored::At(place)) = (entry.delivery.qos, entry.stored)
                && !self.journal.is_committed(place.batch)
            {
                return None;
            }
            if entry.delivery.qos == QoS::ExactlyOnce
                && line.tells_who_came(entry.delivery.share)
                && !self.journal.is_committed(line.known_since)
                && !(line.holds() && self.journal.is_failing())
            {
                self.park(dest);
                return None;
            }
            return Some(Peeked {
                seq: entry.seq,
                qos: entry.delivery.qos,
                retain: entry.delivery.retain,
                pkid: entry.delivery.pkid,
                sent_before: entry.sent_before,
                message: Arc::clone(&entry.message),
                share: entry.delivery.share,
                subscription_ids: entry.delivery.subscription_ids.clone(),
                number: entry.delivery.number,
                shift: self.clock.shift(entry.seq),
            });
        }
    }

    /// Puts the peeked message in flight.
    pub fn take(&mut self, dest: DestId, seq: Seq) {
        let Some(line) = self.line_mut(dest) else { return };
        let Some(index) = line.first_waiting() else { return };
        let entry = &mut line.window[index];
        if entry.seq == seq {
            entry.sent_before = true;
            line.taken = index + 1;
        }
    }

    /// The destination has it. Acknowledgements may come in any order.
    pub fn acked(&mut self, now: Now, dest: DestId, seq: Seq) {
        let Some(line) = self.line_mut(dest) else { return };
        let Some(index) = line.find_taken(seq) else { return };
        if line.window[index].done {
            return;
        }
        line.stats.delivered += 1;
        self.discard(now, dest, index);
    }

    /// The peeked message is not for the destination any more: it is dropped.
    pub fn withhold(&mut self, now: Now, dest: DestId, seq: Seq) {
        let Some(line) = self.line_mut(dest) else { return };
        let Some(index) = line.first_waiting().filter(|&index| line.window[index].seq == seq) else { return };
        line.stats.denied += 1;
        self.discard(now, dest, index);
    }

    /// Moves a message in flight, or the first waiting one, to the dead letters.
    pub fn bury(&mut self, now: Now, dest: DestId, seq: Seq, reason: &str) {
        let Some(line) = self.line_mut(dest) else { return };
        let Some(index) = line.window.iter().position(|entry| entry.seq == seq && !entry.done) else { return };
        line.stats.buried += 1;
        if line.window[index].stored != Stored::Never {
            // The row, if it is still in hand, is written after all: a dead letter is kept.
            line.window[index].stored = Stored::Never;
            self.journal.add(now.at, Op::Bury { dest, seq, reason: reason.into() }, None);
        }
        self.discard(now, dest, index);
        self.notice_drop(now, dest, "message moved to the dead letters");
    }

    /// Outbound QoS 2, PUBREC came: the destination owns the message. PUBREL may be sent when this is settled.
    pub fn release(&mut self, now: Now, dest: DestId, seq: Seq, pkid: u16, token: Token) -> Outcome {
        let batch = self.journal.id();
        let Some(line) = self.line_mut(dest) else { return Outcome::Done };
        let Some(index) = line.find_taken(seq) else { return Outcome::Done };
        if line.window[index].done {
            return Outcome::Done;
        }
        line.releases.push(Released { pkid, seq, batch, is_over: false });
        if line.holds() {
            line.window[index].held = true;
            return self.change(now, Op::Hold { dest, seq, pkid }, token);
        }
        line.stats.delivered += 1;
        let durable = line.window[index].stored != Stored::Never;
        let outcome = if durable {
            line.window[index].stored = Stored::Never;
            self.change(now, Op::Release { dest, seq, pkid }, token)
        } else {
            Outcome::Done
        };
        self.discard(now, dest, index);
        outcome
    }

    /// Outbound QoS 2, PUBCOMP came.
    pub fn complete(&mut self, now: Now, dest: DestId, pkid: u16) {
        let Some(line) = self.line_mut(dest) else { return };
        let Some(index) = line.releases.iter().position(|due| due.pkid == pkid && !due.is_over) else { return };
        let seq = line.releases[index].seq;
        if line.holds() && seq > line.window_end && line.beyond > 0 {
            line.releases[index].is_over = true;
            return;
        }
        line.releases.remove(index);
        let place = line.window.partition_point(|entry| entry.seq < seq);
        let is_held = line.window.get(place).is_some_and(|entry| entry.seq == seq && entry.held && !entry.done);
        line.stats.delivered += u64::from(is_held);
        if line.durable {
            self.journal.add_lazily(now.at, Op::Complete { dest, pkid });
        }
        if is_held {
            self.discard(now, dest, place);
        }
    }

    /// The destination has a new session and knows none of our identifiers. What it had not completed waits again, in
    /// its old place: it may have forgotten the message too.
    pub fn renew(&mut self, now: Now, dest: DestId) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        for due in line.releases.extract_if(.., |due| !due.is_over) {
            if line.durable {
                self.journal.add_lazily(now.at, Op::Complete { dest, pkid: due.pkid });
            }
        }
        for entry in &mut line.window {
            (entry.held, entry.sent_before) = (false, false);
        }
        self.mark_ready(dest);
    }

    /// The upstream's session is ours, says this record: QoS 2 waits until it is durable. With a store that takes nothing
    /// it does not, since only what is sent makes room.
    pub fn own_session(&mut self, now: Now, upstream: UpstreamId, key: &[u8], record: &[u8]) {
        let batch = self.journal.id();
        let op = Op::Put { kind: RecordKind::Upstream, key: key.into(), value: record.into() };
        self.journal.add(now.at, op, None);
        for line in self.lines.iter_mut().flatten().filter(|line| line.owner == Owner::Upstream(upstream)) {
            line.known_since = batch;
        }
    }

    /// A row comes back whose exchange was over before it was read.
    pub(crate) fn let_go_unread(&mut self, now: Now, dest: DestId, row: &Row) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        line.window_end = line.window_end.max(row.seq);
        line.count = line.count.saturating_sub(1);
        line.bytes = line.bytes.saturating_sub(row.message.cost() as u64);
        line.stats.delivered += 1;
        self.journal.add_lazily(now.at, Op::Delete { dest, seq: row.seq });
    }

    /// All rows are read that were held for identifiers whose exchange is over.
    pub(crate) fn forget_over(&mut self, now: Now, dest: DestId) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let end = if line.beyond == 0 { Seq::MAX } else { line.window_end };
        for due in line.releases.extract_if(.., |due| due.is_over && due.seq <= end) {
            self.journal.add_lazily(now.at, Op::Complete { dest, pkid: due.pkid });
        }
    }

    /// Outbound QoS 2 identifiers that wait for PUBCOMP, oldest first. Before PUBREL is sent again on a new connection,
    /// [`Queues::confirm_release`] says whether it may be.
    pub fn releases(&self, dest: DestId) -> impl Iterator<Item = u16> {
        self.line(dest).into_iter().flat_map(|line| line.releases.iter().map(|released| released.pkid))
    }

    /// Those of [`Queues::releases`] that are durable, so that PUBREL may be sent again at once.
    pub fn safe_releases(&self, dest: DestId) -> impl Iterator<Item = u16> {
        let releases = self.line(dest).into_iter().flat_map(|line| &line.releases);
        let safe = releases.filter(|due| !due.is_over && self.journal.is_committed(due.batch));
        safe.map(|released| released.pkid)
    }

    /// A new connection of the same session: PUBREL for an identifier that was released on an earlier one may be sent
    /// when this is settled. Sent sooner, a crash would bring the message back under an identifier that is free.
    pub fn confirm_release(&mut self, now: Now, dest: DestId, pkid: u16, token: Token) -> Outcome {
        let Some(line) = self.line(dest).filter(|line| line.durable) else { return Outcome::Done };
        let Some(released) = line.releases.iter().find(|released| released.pkid == pkid) else {
            return Outcome::Done;
        };
        if self.journal.is_committed(released.batch) {
            return Outcome::Done;
        }
        self.change(now, Op::Release { dest, seq: released.seq, pkid }, token)
    }

    /// Inbound QoS 2, a PUBLISH came: whether its identifier was received and not yet released, so that the message
    /// is not published again. PUBREC may be sent when what is given back is settled: the first copy may still be on
    /// its way to the disk.
    pub fn known_receipt(&mut self, now: Now, dest: DestId, pkid: u16, token: Token) -> Option<Outcome> {
        let line = self.line(dest)?;
        // Until PUBCOMP was sent, the identifier cannot mean another message: a copy that was long on its way.
        let released = |(id, batch): &(u16, u64)| *id == pkid && !self.journal.is_committed(*batch);
        if line.forgetting.iter().any(released) {
            return Some(Outcome::Done);
        }
        let batch = *line.receipts.get(&pkid)?;
        if !line.durable || self.journal.is_committed(batch) {
            return Some(Outcome::Done);
        }
        Some(self.change(now, Op::Receive { dest, pkid }, token))
    }

    /// Inbound QoS 2: remembers the identifier together with its message.
    pub fn receive(&mut self, now: Now, admission: &mut Admission, dest: DestId, pkid: u16) {
        let batch = self.journal.id();
        let Some(line) = self.line_mut(dest) else { return };
        line.receipts.insert(pkid, batch);
        if line.durable {
            self.add_to(now, admission, Op::Receive { dest, pkid });
        }
    }

    /// Inbound QoS 2, PUBREL came: forgets the identifier. PUBCOMP may be sent when this is settled, not before: the
    /// next message with this identifier must not look like a copy after a crash. `None` for an unknown identifier.
    pub fn forget(&mut self, now: Now, dest: DestId, pkid: u16, token: Token) -> Option<Outcome> {
        let batch = self.journal.id();
        let line = self.lines.get_mut(usize::from(dest.0))?.as_mut()?;
        line.forgetting.retain(|(_, batch)| !self.journal.is_committed(*batch));
        let known = line.receipts.remove(&pkid).is_some() || line.forgetting.iter().any(|(id, _)| *id == pkid);
        if !known {
            return None;
        }
        if !line.durable {
            return Some(Outcome::Done);
        }
        line.forgetting.push((pkid, batch));
        Some(self.change(now, Op::Forget { dest, pkid }, token))
    }

    /// Inbound QoS 2, the client began a new session: all identifiers are forgotten.
    pub fn forget_all(&mut self, now: Now, dest: DestId) {
        let Some(line) = self.line_mut(dest) else { return };
        let receipts = std::mem::take(&mut line.receipts);
        if line.durable {
            for pkid in receipts.into_keys() {
                self.journal.add_lazily(now.at, Op::Forget { dest, pkid });
            }
        }
    }

    /// The link was lost: what is in flight waits again, in its old place.
    pub fn rewind(&mut self, dest: DestId) {
        if let Some(line) = self.line_mut(dest) {
            line.taken = 0;
        }
        self.mark_ready(dest);
    }

    /// Takes an entry out of the books, and out of the window once all before it are done too.
    pub(crate) fn discard(&mut self, now: Now, dest: DestId, index: usize) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let entry = &mut line.window[index];
        let cost = entry.message.cost();
        entry.done = true;
        if let Some(latest) = &mut line.latest {
            latest.forget(entry.message.topic(), entry.seq);
        }
        line.count -= 1;
        line.bytes -= cost as u64;
        if let Stored::At(place) = entry.stored
            && self.journal.cancel(place)
        {
            entry.stored = Stored::Never;
        }
        if index > 0 && entry.stored != Stored::Never {
            // Out of turn: its row does not wait for those before it, or a restart would bring it back.
            entry.stored = Stored::Never;
            self.journal.add_lazily(now.at, Op::Delete { dest, seq: entry.seq });
        }
        if index > 0 && index >= line.taken {
            // What lies before it may be in flight to a receiver that never acknowledges.
            line.window.remove(index);
            line.window_bytes -= cost;
            self.memory -= cost;
        } else {
            line.done_bytes += cost;
        }
        self.pop_done(now, dest);
        self.thin_out(dest);
    }

    /// A receiver that leaves one message without an answer does not stop the others: what is done behind that one
    /// leaves the window once it fills half of it.
    fn thin_out(&mut self, dest: DestId) {
        let limit = self.window_bytes.min(self.memory_left());
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        if line.done_bytes * 2 <= limit {
            return;
        }
        let (mut index, mut done_before) = (0, 0);
        line.window.retain(|entry| {
            done_before += usize::from(entry.done && index < line.taken);
            index += 1;
            !entry.done
        });
        line.taken -= done_before;
        line.window_bytes -= line.done_bytes;
        self.memory -= std::mem::take(&mut line.done_bytes);
        self.refill(dest);
    }

    fn pop_done(&mut self, now: Now, dest: DestId) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let mut delete_to = None;
        while line.window.front().is_some_and(|entry| entry.done) {
            let Some(entry) = line.window.pop_front() else { break };
            line.window_bytes -= entry.message.cost();
            line.done_bytes -= entry.message.cost();
            self.memory -= entry.message.cost();
            line.taken = line.taken.saturating_sub(1);
            if entry.stored != Stored::Never {
                delete_to = Some(entry.seq);
            }
        }
        if let Some(seq) = delete_to {
            let extended = line.delete.is_some_and(|place| self.journal.extend_delete(place, dest, seq));
            if !extended {
                line.delete = Some(self.journal.add_lazily(now.at, Op::DeleteUpTo { dest, seq }));
            }
        }
        self.refill(dest);
    }
}
