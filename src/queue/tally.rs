//! Many lines as one: what is told of the queues of clients, of which there may be thousands.

use crate::queue::line::LineStats;
use crate::queue::{Depth, Owner, Queues};

/// All lines of sessions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Lines that hold something.
    pub lines: u64,
    /// What they hold, and the oldest of it.
    pub depth: Depth,
    /// What happened in them since start, and in lines that are no more.
    pub stats: LineStats,
}

impl LineStats {
    /// Takes in what happened elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            accepted,
            accepted_qos0,
            accepted_bytes,
            delivered,
            dropped_oldest,
            dropped_newest,
            replaced,
            refused,
            dropped_qos0,
            expired,
            denied,
            buried,
            purged,
            lost,
        } = other;
        self.accepted += accepted;
        self.accepted_qos0 += accepted_qos0;
        self.accepted_bytes += accepted_bytes;
        self.delivered += delivered;
        self.dropped_oldest += dropped_oldest;
        self.dropped_newest += dropped_newest;
        self.replaced += replaced;
        self.refused += refused;
        self.dropped_qos0 += dropped_qos0;
        self.expired += expired;
        self.denied += denied;
        self.buried += buried;
        self.purged += purged;
        self.lost += lost;
    }
}

impl Queues {
    /// The lines of sessions, those in memory only too. Looks at each, and at no message.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { stats: self.gone, ..Tally::default() };
        let of_sessions = |owner| matches!(owner, Owner::Session(_) | Owner::Leaver);
        for line in self.lines.iter().flatten().filter(|line| of_sessions(line.owner)) {
            tally.stats.add(&line.stats);
            if line.count > 0 {
                tally.lines += 1;
                tally.depth.messages += line.count;
                tally.depth.bytes += line.bytes;
                tally.depth.oldest = [tally.depth.oldest, line.oldest()].into_iter().flatten().min();
            }
        }
        tally
    }
}
