//! Which of several endpoints is used: the first that answers, and the first of the list again as soon as it does.

use crate::time::{Duration, Instant};

/// A return that failed makes the next one wait longer, up to this many times the interval.
const MAX_WAITS: u32 = 64;

/// The place in the list of endpoints.
#[derive(Debug)]
pub(super) struct Failover {
    at: usize,
    count: usize,
    /// How often the first is tried while another is in use. Zero: not before the link ends.
    interval: Duration,
    /// Intervals until the next look at the first.
    waits: u32,
    look: Look,
}

/// What is known of the first endpoint while another is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nobody asks.
    No,
    /// It is tried then.
    At(Instant),
    /// The shell tries it.
    Now,
}

impl Failover {
    pub(super) fn new(count: usize, interval: Duration) -> Self {
        Self { at: 0, count: count.max(1), interval, waits: 1, look: Look::No }
    }

    /// Position in the list of the endpoint that is in use or tried next.
    pub(super) fn endpoint(&self) -> usize {
        self.at
    }

    /// A link came up.
    pub(super) fn link_up(&mut self, now: Instant) {
        self.look = Look::No;
        if self.at > 0 {
            self.look_later(now);
        }
    }

    fn look_later(&mut self, now: Instant) {
        if !self.interval.is_zero() {
            self.look = Look::At(now + self.interval * self.waits);
        }
    }

    /// When to look at the first endpoint.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.look {
            Look::At(at) => Some(at),
            Look::No | Look::Now => None,
        }
    }

    /// Whether the first endpoint is to be tried now. True once for each time that it is due.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        if due {
            self.look = Look::Now;
        }
        due
    }

    /// What came of it. True if the link should go back to the first endpoint.
    pub(super) fn probed(&mut self, now: Instant, answers: bool) -> bool {
        if self.look != Look::Now {
            return false;
        }
        if answers {
            self.look = Look::No;
        } else {
            self.look_later(now);
        }
        answers
    }

    /// The link was given up for the first endpoint. Should that not last, the next return waits longer.
    pub(super) fn go_back(&mut self) {
        self.at = 0;
        self.look = Look::No;
        self.waits = (self.waits * 2).min(MAX_WAITS);
    }

    /// An endpoint that did not give a lasting link gives way to the next; after one that did, the first is preferred.
    pub(super) fn link_ended(&mut self, lasted: bool) {
        self.look = Look::No;
        if lasted && self.at == 0 {
            self.waits = 1;
        }
        self.at = if lasted { 0 } else { (self.at + 1) % self.count };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn the_next_is_tried_after_a_failure_and_the_first_after_a_lasting_link() {
        let mut failover = Failover::new(3, Duration::ZERO);
        let tried: Vec<_> = (0..4)
            .map(|_| {
                failover.link_ended(false);
                failover.endpoint()
            })
            .collect();
        assert_eq!(tried, [1, 2, 0, 1]);
        failover.link_up(at(0));
        assert_eq!(failover.deadline(), None, "an interval of zero never looks");
        failover.link_ended(true);
        assert_eq!(failover.endpoint(), 0);
    }

    #[test]
    fn the_first_is_looked_at_until_it_answers_and_a_return_that_fails_makes_the_next_wait() {
        let mut failover = Failover::new(2, Duration::from_secs(60));
        failover.link_up(at(0));
        assert_eq!(failover.deadline(), None, "the first is in use");
        failover.link_ended(false);
        failover.link_up(at(1));
        assert_eq!(failover.deadline(), Some(at(61)));
        assert!(!failover.is_due(at(60)) && failover.is_due(at(61)) && !failover.is_due(at(62)));
        assert!(!failover.probed(at(63), false));
        assert_eq!(failover.deadline(), Some(at(123)));
        assert!(failover.is_due(at(123)) && failover.probed(at(124), true));
        assert!(!failover.probed(at(124), true), "nobody asked");
        failover.go_back();
        assert_eq!((failover.endpoint(), failover.deadline()), (0, None));
        // It let us in and threw us out.
        failover.link_ended(false);
        failover.link_up(at(200));
        assert_eq!((failover.endpoint(), failover.deadline()), (1, Some(at(320))));
        failover.go_back();
        failover.link_up(at(400));
        failover.link_ended(true);
        failover.link_ended(false);
        failover.link_up(at(500));
        assert_eq!(failover.deadline(), Some(at(560)), "a lasting link there made good for it");
    }
}
