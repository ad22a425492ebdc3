//! Two lanes for one rule: with `drain = "live-first"` what comes in while the receiver is there and a backlog waits has
//! a line of its own, which goes first. Both lines together keep to the limits of the rule.

use crate::config::WhenFull;
use crate::queue::{DestId, Number, Queues};

impl Queues {
    /// From now on messages for `backlog` take the line `live` while `backlog` has something and its receiver is there.
    /// Without such a line all take theirs again.
    pub fn pair(&mut self, backlog: DestId, live: Option<DestId>) {
        let before = self.line_mut(backlog).and_then(|line| std::mem::replace(&mut line.other_lane, live));
        for other in before.into_iter().chain(live) {
            if let Some(line) = self.line_mut(other) {
                line.other_lane = live.filter(|live| *live == other).map(|_| backlog);
            }
        }
        if let Some(line) = self.line_mut(backlog) {
            line.is_backlog = live.is_some();
        }
    }

    /// The lane that a message for `dest` takes.
    pub(crate) fn lane(&self, dest: DestId) -> DestId {
        let Some(line) = self.line(dest) else { return dest };
        match line.other_lane {
            Some(live) if line.is_backlog && line.active => {
                let live_waits = self.line(live).is_some_and(|live| live.count > 0);
                if line.count > 0 || live_waits { live } else { dest }
            }
            _ => dest,
        }
    }

    /// Whether one more message of `cost` bytes is within the limits, those of both lanes together.
    pub(crate) fn has_room(&self, dest: DestId, cost: usize) -> bool {
        let Some(line) = self.line(dest) else { return false };
        let other = line.other_lane.and_then(|other| self.line(other));
        let (messages, bytes) = other.map_or((0, 0), |other| (other.count, other.bytes));
        line.count + messages < line.limits.max_messages
            && line.bytes + bytes + cost as u64 <= line.limits.max_bytes
    }

    /// The lane of whose messages the oldest goes when there is no room.
    pub(crate) fn lane_to_thin(&self, dest: DestId) -> DestId {
        let other = self.line(dest).and_then(|line| line.other_lane.filter(|_| !line.is_backlog));
        other.filter(|other| self.line(*other).is_some_and(|line| line.first_waiting().is_some())).unwrap_or(dest)
    }

    /// Numbers begin with this epoch, at random: no two starts of a gateway have the same.
    pub fn begin_epoch(&mut self, epoch: u32) {
        self.epoch = epoch & 0x7fff_ffff | 1;
    }

    /// Whether the line's messages get numbers from now on.
    pub fn trace(&mut self, dest: DestId, traced: bool) {
        if let Some(line) = self.line_mut(dest) {
            line.is_traced = traced;
        }
    }

    /// The next number of a rule's messages. Messages that are dropped have one too: the receiver shall see the gap.
    pub(crate) fn next_number(&mut self, dest: DestId) -> Number {
        let epoch = self.epoch;
        let Some(line) = self.line_mut(dest) else { return Number::default() };
        if epoch == 0 || !line.is_traced {
            return Number::default();
        }
        line.numbered = line.numbered.saturating_add(1);
        Number::new(epoch, line.numbered)
    }

    /// Whether the policy of a line makes the oldest give way.
    pub(crate) const fn drops_oldest(when_full: WhenFull) -> bool {
        matches!(when_full, WhenFull::DropOldest | WhenFull::KeepLast)
    }
}
