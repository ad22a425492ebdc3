//! How fast messages go upstream: so many, and so many bytes, in a second.
//!
//! A bucket fills as time passes, up to what a tenth of a second brings, so that no second has much more than its
//! share. Whatever is sent is taken out, also when it is more than there is: then nothing goes until the bucket is
//! above zero again. So a message larger than a second's worth goes too, and is paid for afterwards.

use crate::config;
use crate::time::{Duration, Instant};

const MICROS: i128 = 1_000_000;

/// Tokens, in millionths.
#[derive(Debug)]
struct Bucket {
    /// Tokens a second; 0: no limit.
    rate: u64,
    level: i128,
    at: Instant,
}

impl Bucket {
    const fn new(rate: u64) -> Self {
        Self { rate, level: Self::full(rate), at: Instant::ZERO }
    }

    /// What it holds, at least one.
    const fn full(rate: u64) -> i128 {
        let tenth = rate as i128 * MICROS / 10;
        if tenth > MICROS { tenth } else { MICROS }
    }

    fn fill(&mut self, now: Instant) {
        let micros = i128::try_from(now.since(self.at).as_micros()).unwrap_or(i128::MAX >> 80);
        self.level = (self.level + i128::from(self.rate) * micros).min(Self::full(self.rate));
        self.at = now;
    }

    fn take(&mut self, tokens: u64) {
        if self.rate > 0 {
            self.level -= i128::from(tokens) * MICROS;
        }
    }

    /// When something may go.
    fn opens_at(&self) -> Option<Instant> {
        if self.rate == 0 || self.level > 0 {
            return None;
        }
        let rate = i128::from(self.rate);
        let micros = (rate - self.level) / rate;
        Some(self.at + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

/// The pace of one upstream, or of one rule.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Bucket,
    bytes: Bucket,
}

impl Pace {
    pub(super) const fn new(config: config::Pace) -> Self {
        Self { messages: Bucket::new(config.messages), bytes: Bucket::new(config.bytes) }
    }

    /// When the next message may go; `None`: now.
    pub(super) fn opens_at(&mut self, now: Instant) -> Option<Instant> {
        self.messages.fill(now);
        self.bytes.fill(now);
        self.messages.opens_at().max(self.bytes.opens_at())
    }

    /// A message of so many bytes went.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.messages.take(1);
        self.bytes.take(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes in `secs` seconds when a message of `len` bytes is always ready.
    fn sent(config: config::Pace, len: usize, secs: u64) -> u64 {
        let (mut pace, mut now, mut count) = (Pace::new(config), Instant::ZERO, 0);
        let end = Instant::from_micros(secs * 1_000_000);
        while now < end {
            match pace.opens_at(now) {
                Some(at) => {
                    assert!(at > now, "time must pass");
                    now = at;
                }
                None => {
                    pace.sent(len);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn messages_and_bytes_are_kept_to_and_a_burst_is_a_tenth_of_a_second() {
        assert_eq!(sent(config::Pace { messages: 10, bytes: 0 }, 1_000, 60), 601);
        assert_eq!(sent(config::Pace { messages: 100, bytes: 0 }, 1_000, 60), 6_010);
        assert_eq!(sent(config::Pace { messages: 0, bytes: 5_000 }, 1_000, 60), 301);
        assert_eq!(sent(config::Pace { messages: 10, bytes: 1_000 }, 10, 60), 601, "the tighter one counts");
        assert_eq!(sent(config::Pace { messages: 3, bytes: 0 }, 1_000, 60), 181);
        assert_eq!(
            sent(config::Pace { messages: 90, bytes: 0 }, 1_000, 1),
            99,
            "no second has more than a tenth more"
        );
    }

    #[test]
    fn a_message_of_more_than_a_second_goes_and_is_paid_for() {
        assert_eq!(sent(config::Pace { messages: 0, bytes: 1_000 }, 10_000, 60), 7);
    }

    #[test]
    fn without_a_limit_nothing_waits_and_a_long_rest_saves_up_a_tenth_of_a_second() {
        let mut pace = Pace::new(config::Pace::default());
        for _ in 0..100_000 {
            pace.sent(1 << 20);
        }
        assert_eq!(pace.opens_at(Instant::ZERO), None);
        let mut pace = Pace::new(config::Pace { messages: 50, bytes: 0 });
        let later = Instant::from_micros(u64::MAX / 2);
        let burst = (0..100).take_while(|_| pace.opens_at(later).is_none().then(|| pace.sent(1)).is_some()).count();
        assert_eq!(burst, 5);
    }
}
