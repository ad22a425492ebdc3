//! The way in: limits, eviction, and what a publisher has to wait for.

use std::sync::Arc;

use crate::config::WhenFull;
use crate::metrics::Level;
use crate::mqtt::{Message, QoS};
use crate::queue::journal::Ticket;
use crate::queue::latest::Newest;
use crate::queue::line::{Entry, Line, Stored};
use crate::queue::{Delivery, DestId, Op, Outcome, Queues, Refusal, Row, Seq, Token};
use crate::time::{Duration, Now};

/// A line that keeps dropping says so again after this long.
const BURST: Duration = Duration::from_secs(60);

/// One publish on its way into the lines. Ask [`Queues::refuses`] of every destination first, push to each, then
/// [`Queues::finish`].
#[derive(Debug)]
pub struct Admission {
    pub(super) seq: Seq,
    pub(super) token: Option<Token>,
    pub(super) ticket: Option<Ticket>,
}

impl Queues {
    /// Begins a publish. Without a token nobody waits for it (QoS 0).
    pub fn begin(&mut self, token: Option<Token>) -> Admission {
        Admission { seq: self.stamp(), token, ticket: None }
    }

    /// Gives what is pushed next a later position: a line that has the message already may get it once more.
    pub fn another_copy(&mut self, admission: &mut Admission) {
        admission.seq = self.stamp();
    }

    /// Whether the line would refuse a message of `cost` bytes rather than take it or drop something by its policy.
    #[must_use]
    pub fn refuses(&self, dest: DestId, cost: usize) -> Option<Refusal> {
        let line = self.line(dest)?;
        if line.durable && !self.journal.has_room(cost) {
            return Some(Refusal::Store);
        }
        let reject = line.limits.when_full == WhenFull::Reject;
        (reject && !self.has_room(dest, cost)).then_some(Refusal::Full)
    }

    /// Counts a refusal for the line that caused it.
    pub fn count_refused(&mut self, dest: DestId) {
        if let Some(line) = self.line_mut(dest) {
            line.stats.refused += 1;
        }
    }

    /// Puts the message into the line, evicting by its policy.
    pub fn push(
        &mut self,
        now: Now,
        admission: &mut Admission,
        dest: DestId,
        mut delivery: Delivery,
        message: &Arc<Message>,
    ) {
        let cost = message.cost();
        delivery.number = self.next_number(dest);
        let rule = dest;
        let dest = self.lane(rule);
        if delivery.qos == QoS::AtMostOnce && self.drops_qos0(dest, cost) {
            return;
        }
        self.replace(now, rule, message.topic());
        if dest != rule {
            self.replace(now, dest, message.topic());
        }
        if !self.make_room(now, dest, cost) {
            return;
        }
        let left = self.memory_left();
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let volatile = delivery.qos == QoS::AtMostOnce || !line.durable;
        if delivery.qos == QoS::AtMostOnce {
            line.stats.accepted_qos0 += 1;
        } else {
            line.stats.accepted_bytes += cost as u64;
        }
        if line.fixes_pkid(delivery.qos) {
            delivery.pkid = line.next_pkid();
        }
        line.stats.accepted += 1;
        line.has_shared |= delivery.share != 0;
        line.count += 1;
        line.bytes += cost as u64;
        let seq = admission.seq;
        let stored = if volatile {
            Stored::Never
        } else {
            let row = Row { seq, delivery: delivery.clone(), message: Arc::clone(message) };
            let ticket = match (admission.ticket, admission.token) {
                (None, Some(token)) => {
                    admission.ticket = Some(self.journal.ticket(token));
                    admission.ticket
                }
                (ticket, _) => ticket,
            };
            Stored::At(self.journal.add(now.at, Op::Append { dest, row }, ticket))
        };
        let place = stored.place();
        let limit = if line.active { self.window_bytes.min(left) } else { self.idle_window_bytes };
        if volatile || (line.beyond == 0 && (line.window.is_empty() || line.window_bytes + cost <= limit)) {
            let message = Arc::clone(message);
            line.push_back(Entry { seq, delivery, message, stored, sent_before: false, held: false, done: false });
            self.memory += cost;
            self.mark_ready(dest);
        } else {
            line.beyond += 1;
            line.beyond_batch = self.journal.id();
        }
        self.note_newest(dest, message.topic(), Newest { seq, cost, place });
    }

    /// Counts a QoS 0 message that is not taken in: nobody was promised anything, and memory is not a store.
    fn drops_qos0(&mut self, dest: DestId, cost: usize) -> bool {
        let left = self.memory_left();
        let Some(line) = self.line_mut(dest) else { return true };
        let no_memory = line.durable && !line.window.is_empty() && line.window_bytes + cost > left;
        let drops = !line.active || line.beyond > 0 || no_memory;
        line.stats.dropped_qos0 += u64::from(drops);
        drops
    }

    /// Adds a change that the publisher has to wait for as well.
    pub(crate) fn add_to(&mut self, now: Now, admission: &mut Admission, op: Op) {
        if let (None, Some(token)) = (admission.ticket, admission.token) {
            admission.ticket = Some(self.journal.ticket(token));
        }
        self.journal.add(now.at, op, admission.ticket);
    }

    /// Sets or, with an empty payload, deletes the retained message of its topic.
    pub fn retain(&mut self, now: Now, admission: &mut Admission, message: &Arc<Message>) {
        let op = if message.payload().is_empty() {
            Op::Unretain { topic: message.topic().into() }
        } else {
            Op::Retain { message: Arc::clone(message) }
        };
        self.add_to(now, admission, op);
    }

    /// Deletes a retained message that nobody published anew: it expired.
    pub fn unretain(&mut self, now: Now, topic: &str) {
        self.journal.add_lazily(now.at, Op::Unretain { topic: topic.into() });
    }

    /// What the publisher is told now.
    pub fn finish(&mut self, admission: Admission) -> Outcome {
        match admission.ticket {
            Some(ticket) if self.journal.holds(ticket) > 0 => Outcome::Pending,
            Some(ticket) => {
                self.journal.drop_ticket(ticket);
                Outcome::Done
            }
            None => Outcome::Done,
        }
    }

    /// Makes room for `cost` bytes by the line's policy. False when the newcomer is the one to go.
    fn make_room(&mut self, now: Now, dest: DestId, cost: usize) -> bool {
        loop {
            let left = self.memory_left();
            let Some(line) = self.line_mut(dest) else { return false };
            // What has no rows has to fit into memory as well.
            let fits = line.durable || line.window.is_empty() || line.window_bytes + cost <= left;
            let (limits, room) = (line.limits, self.has_room(dest, cost));
            if fits && room {
                return true;
            }
            let hopeless = cost as u64 > limits.max_bytes || limits.max_messages == 0;
            let from = self.lane_to_thin(dest);
            if hopeless || !Self::drops_oldest(limits.when_full) || !self.drop_oldest(now, from) {
                self.drop_newest(now, dest);
                return false;
            }
        }
    }

    fn drop_newest(&mut self, now: Now, dest: DestId) {
        if let Some(line) = self.line_mut(dest) {
            line.stats.dropped_newest += 1;
        }
        self.notice_drop(now, dest, "queue full, newest dropped");
    }

    /// Drops the oldest message that is not in flight. False when there is none in memory.
    fn drop_oldest(&mut self, now: Now, dest: DestId) -> bool {
        let Some(index) = self.line(dest).and_then(Line::first_waiting) else { return false };
        if let Some(line) = self.line_mut(dest) {
            line.stats.dropped_oldest += 1;
        }
        self.discard(now, dest, index);
        self.notice_drop(now, dest, "queue full, oldest dropped");
        true
    }

    /// Says once per burst that a line drops messages; the counters have each of them.
    pub(crate) fn notice_drop(&mut self, now: Now, dest: DestId, what: &'static str) {
        let Some(line) = self.line_mut(dest) else { return };
        if line.noticed_at.is_some_and(|at| now.at.since(at) < BURST) {
            return;
        }
        line.noticed_at = Some(now.at);
        let detail = format!("{} messages, {} bytes waiting", line.count, line.bytes);
        let name = self.name_of(dest);
        self.notice(Level::Warn, what, name, detail);
    }

    pub(crate) fn name_of(&self, dest: DestId) -> String {
        let name = self.by_name.iter().find(|(_, id)| **id == dest).map(|(name, _)| name.to_string());
        name.unwrap_or_else(|| format!("line {}", dest.0))
    }
}
