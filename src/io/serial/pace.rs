//! When a half-duplex radio may be given its next message.

use crate::time::{Duration, Instant};

/// Start bit, eight data bits, stop bit.
const BITS_PER_OCTET: u64 = 10;

/// The silences that a line needs. Without any, nothing waits.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    turnaround: Duration,
    baud: u32,
    free_at: Instant,
}

impl Pace {
    pub(super) fn new(gap: Duration, turnaround: Duration, baud: u32) -> Self {
        Self { gap, turnaround, baud, free_at: Instant::ZERO }
    }

    /// When the next message may begin.
    pub(super) fn free_at(&self) -> Instant {
        self.free_at
    }

    /// The other side talked until now.
    pub(super) fn on_heard(&mut self, now: Instant) {
        if !self.turnaround.is_zero() {
            self.free_at = self.free_at.max(now + self.turnaround);
        }
    }

    /// A message was given to the port just now, which takes its time to write it.
    pub(super) fn on_sent(&mut self, now: Instant, octets: usize) {
        if self.gap.is_zero() && self.turnaround.is_zero() {
            return;
        }
        let micros = (octets as u64) * BITS_PER_OCTET * 1_000_000 / u64::from(self.baud);
        self.free_at = self.free_at.max(now) + Duration::from_micros(micros) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_gap_comes_after_the_last_octet_and_a_turnaround_after_the_last_one_heard() {
        let mut pace = Pace::new(20 * MS, 50 * MS, 9600);
        assert_eq!(pace.free_at(), at(0));
        pace.on_sent(at(100), 96);
        assert_eq!(pace.free_at(), at(220), "100 ms on the line");
        pace.on_heard(at(150));
        assert_eq!(pace.free_at(), at(220), "that is the later one");
        pace.on_heard(at(190));
        assert_eq!(pace.free_at(), at(240));
    }

    #[test]
    fn a_line_without_either_never_waits() {
        let mut pace = Pace::new(Duration::ZERO, Duration::ZERO, 9600);
        pace.on_sent(at(100), 1000);
        pace.on_heard(at(101));
        assert_eq!(pace.free_at(), at(0));
    }
}
