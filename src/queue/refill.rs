//! Read-ahead: the window is filled from the store before it runs dry.

use crate::metrics::Level;
use crate::queue::latest::Latest;
use crate::queue::line::{Entry, Reading, Stored};
use crate::queue::{DestId, Output, Queues, Read, Row, Seq};
use crate::time::{Duration, Instant, Now};

/// A read asks for at most this many rows.
const MAX_ROWS: u32 = 4096;
/// After a failed read the same is tried again this much later.
const REREAD: Duration = Duration::from_secs(1);

impl Queues {
    /// Asks for more rows when less than half of the window is left and there are rows beyond it. One message that
    /// fills the window and is not acknowledged does not hold up the rest.
    pub(crate) fn refill(&mut self, dest: DestId) {
        let (active, idle) = (self.window_bytes.min(self.memory_left()), self.idle_window_bytes);
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let limit = if line.active { active } else { idle };
        let is_full = (line.window_bytes - line.done_bytes) * 2 > limit && !line.waits_for_one();
        if line.beyond == 0 || line.reading.is_some() || is_full {
            return;
        }
        let after = line.window_end;
        self.forget_gone(dest);
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        // What is committed by now, the read must find.
        let certain_up_to = if self.journal.is_committed(line.beyond_batch) { line.beyond_batch } else { 0 };
        line.reading = Some(Reading { after, certain_up_to });
        let max_bytes = limit.saturating_sub(line.window_bytes).max(1);
        self.outputs.push_back(Output::Read(Read { dest, after, max_rows: MAX_ROWS, max_bytes }));
    }

    pub(crate) fn handle_rows(&mut self, now: Now, dest: DestId, after: Seq, rows: Vec<Row>) {
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
        let Some(reading) = line.reading.take_if(|reading| reading.after == after) else { return };
        if rows.is_empty() {
            if line.beyond == 0 {
                // What was there was replaced meanwhile.
                return;
            }
            if line.beyond_batch <= reading.certain_up_to {
                self.give_up(dest);
            } else {
                // They are on their way to the disk, or were when we asked: after the commit they can be read.
                self.starve(now.at, dest);
            }
            return;
        }
        for mut row in rows {
            let is_wanted = self.is_wanted(now, dest, &row);
            let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return };
            if !is_wanted {
                line.window_end = line.window_end.max(row.seq);
                continue;
            }
            line.beyond = line.beyond.saturating_sub(1);
            if row.delivery.pkid == 0 && line.fixes_pkid(row.delivery.qos) {
                // Written by a version that chose them when it sent.
                row.delivery.pkid = line.next_pkid();
            }
            let due = line.releases.iter().find(|released| released.seq == row.seq && row.seq > Seq(0)).copied();
            if due.is_some_and(|due| due.is_over) {
                self.let_go_unread(now, dest, &row);
                continue;
            }
            self.memory += row.message.cost();
            let held = due.is_some();
            let sent_before = line.is_unsure(&row) || held;
            line.push_back(Entry {
                seq: row.seq,
                delivery: row.delivery,
                message: row.message,
                stored: Stored::Row,
                sent_before,
                held,
                done: false,
            });
        }
        self.forget_over(now, dest);
        self.mark_ready(dest);
        self.refill(dest);
    }

    pub(crate) fn handle_unreadable(&mut self, now: Now, dest: DestId, after: Seq, error: String) {
        let Some(line) = self.line_mut(dest) else { return };
        if line.reading.take_if(|reading| reading.after == after).is_none() {
            return;
        }
        let name = self.name_of(dest);
        self.notice(Level::Error, "store cannot read", name, error);
        self.starve(now.at, dest);
    }

    /// Reads again after the next commit, or a while later.
    fn starve(&mut self, now: Instant, dest: DestId) {
        if !self.starved.contains(&dest) {
            self.starved.push(dest);
        }
        self.reread_at = Some(now + REREAD);
    }

    /// Rows that were counted are not there: the books are put right and the loss is told.
    fn give_up(&mut self, dest: DestId) {
        let name = self.name_of(dest);
        let Some(line) = self.line_mut(dest) else { return };
        let missing = line.beyond;
        line.beyond = 0;
        line.latest = line.latest.take().map(|_| Latest::default());
        line.count -= missing;
        line.bytes = line.window.iter().filter(|entry| !entry.done).map(|entry| entry.message.cost() as u64).sum();
        line.stats.lost += missing;
        self.mark_ready(dest);
        self.notice(
            Level::Error,
            "stored messages are missing",
            name,
            format!("{missing} rows could not be found"),
        );
    }
}
