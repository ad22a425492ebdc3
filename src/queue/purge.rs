//! What an operator does to a line: empties it, or puts a dead letter back.

use std::sync::Arc;

use crate::mqtt::Message;
use crate::queue::latest::Latest;
use crate::queue::line::Stored;
use crate::queue::{Delivery, DestId, Op, Queues};
use crate::time::Now;

impl Queues {
    /// Deletes all that waits in the line, and says how many that were. What is in flight counts too: it may still
    /// arrive. Publishers who wait for the disk are told that all is well, since nobody wants their message any more.
    pub fn purge(&mut self, now: Now, dest: DestId) -> u64 {
        let through = self.last_seq;
        let Some(line) = self.lines.get_mut(usize::from(dest.0)).and_then(Option::as_mut) else { return 0 };
        let count = line.count;
        line.stats.purged += count;
        self.memory -= line.window_bytes;
        for entry in line.window.drain(..) {
            if let Stored::At(place) = entry.stored {
                self.journal.cancel(place);
            }
        }
        (line.window_bytes, line.done_bytes, line.taken) = (0, 0, 0);
        (line.count, line.bytes, line.beyond, line.beyond_batch) = (0, 0, 0, 0);
        (line.window_end, line.reading) = (through, None);
        line.latest = line.latest.take().map(|_| Latest::default());
        if line.durable && count > 0 {
            line.delete = Some(self.journal.add(now.at, Op::DeleteUpTo { dest, seq: through }, None));
        }
        self.forget_over(now, dest);
        count
    }

    /// Puts a dead letter into the line, and deletes it there in the same batch. False if the line has no room.
    pub fn exhume(&mut self, now: Now, dest: DestId, delivery: Delivery, message: &Arc<Message>, id: u64) -> bool {
        let has_room = self.line(dest).is_some() && self.has_room(dest, message.cost());
        if !has_room || self.refuses(dest, message.cost()).is_some() {
            return false;
        }
        let mut admission = self.begin(None);
        self.push(now, &mut admission, dest, delivery, message);
        self.finish(admission);
        self.unbury(now, id);
        true
    }

    /// Deletes a dead letter.
    pub fn unbury(&mut self, now: Now, id: u64) {
        self.journal.add(now.at, Op::Unbury { id }, None);
    }

    /// The batch in hand, for [`Queues::is_safe`].
    #[must_use]
    pub fn batch(&self) -> u64 {
        self.journal.id()
    }
}
