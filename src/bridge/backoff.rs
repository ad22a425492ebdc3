//! How long to wait before the next try: doubling, jittered, and forgotten only after the link was stable.

use fastrand::Rng;

use crate::time::{Duration, Instant};

/// A link that was up for so long has earned a fresh start.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The waiting times of one upstream.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// The wait that the next failure is worth, before jitter.
    next: Duration,
    rng: Rng,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, rng: Rng) -> Self {
        // A wait of zero would not double.
        let min = min.max(Duration::from_millis(10));
        Self { min, max: max.max(min), next: min, rng }
    }

    /// From now on these waits hold, and the next failure is the first.
    pub(super) fn configure(&mut self, min: Duration, max: Duration) {
        *self = Self::new(min, max, self.rng.fork());
    }

    /// The wait after a failure: between half of it and all of it at random, so that a thousand boxes that lost the
    /// same upstream do not come back in step.
    pub(super) fn after_failure(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        self.jittered(wait)
    }

    /// The longest wait, for failures that trying again soon does not cure.
    pub(super) fn after_refusal(&mut self) -> Duration {
        self.next = self.max;
        self.jittered(self.max)
    }

    /// A link that was up since `up_at` ended. Its success counts only if it lasted: an upstream that accepts and
    /// closes at once is not dialled in a tight loop.
    pub(super) fn link_ended(&mut self, now: Instant, up_at: Instant) {
        if now.since(up_at) >= STABLE_AFTER {
            self.reset();
        }
    }

    /// All is well: the next failure is the first.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    fn jittered(&mut self, wait: Duration) -> Duration {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.u64(micros / 2..=micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60), Rng::with_seed(7))
    }

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_their_jitter() {
        let mut backoff = backoff();
        for full in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.after_failure();
            let full = Duration::from_secs(full);
            assert!((full / 2..=full).contains(&wait), "{wait:?} is not within half of {full:?}");
        }
    }

    #[test]
    fn two_seeds_do_not_come_back_in_step() {
        let mut other = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), Rng::with_seed(8));
        assert_ne!(backoff().after_failure(), other.after_failure());
    }

    #[test]
    fn only_a_stable_link_resets_the_wait() {
        let mut backoff = backoff();
        let up_at = Instant::from_micros(5);
        backoff.after_refusal();
        backoff.link_ended(up_at + Duration::from_secs(29), up_at);
        assert!(backoff.after_failure() >= Duration::from_secs(30), "still the longest wait");
        backoff.link_ended(up_at + STABLE_AFTER, up_at);
        assert!(backoff.after_failure() <= Duration::from_secs(1), "a fresh start");
    }

    #[test]
    fn a_wait_of_zero_is_not_zero() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO, Rng::with_seed(1));
        assert!(backoff.after_failure() > Duration::ZERO);
    }
}
