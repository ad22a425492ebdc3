//! Time as data. Cores never read a clock: the shell passes `Now` in with each input.
//!
//! Timers run on [`Instant`], which is monotonic; [`Wall`] is only ever stamped on a message or compared with such
//! a stamp, because the wall clock of a box without a battery jumps.

use std::collections::BTreeSet;
use std::ops::{Add, Sub};
pub use std::time::Duration;

/// A point in monotonic time: microseconds since the process (or the simulated world) started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const ZERO: Self = Self(0);

    /// An instant `micros` microseconds after the start.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time: milliseconds since 1970-01-01 UTC. Data on a row, never a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(u64);

impl Wall {
    /// `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// So many milliseconds later, or earlier.
    #[must_use]
    pub const fn shifted(self, millis: i64) -> Self {
        Self(self.0.saturating_add_signed(millis))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Wall {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Wall {
    type Output = Duration;
    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read together by the shell once per input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic: for timers.
    pub at: Instant,
    /// Wall clock: for stamps.
    pub wall: Wall,
}

impl Now {
    /// What the wall clock showed at another moment, or will show, if nobody sets it.
    #[must_use]
    pub fn wall_at(self, at: Instant) -> Wall {
        let past = i64::try_from(self.at.since(at).as_millis()).unwrap_or(i64::MAX);
        (self.wall + at.since(self.at)).shifted(-past)
    }
}

/// Deadlines by key. What is set and no longer wanted is cancelled, so that no more of them lie here than things that
/// wait: a deadline may be a month away.
///
/// The owner decides whether a popped key is still due, so extending a deadline on each packet costs nothing here.
#[derive(Debug)]
pub struct Timers<K> {
    waiting: BTreeSet<(Instant, K)>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new() }
    }
}

impl<K: Ord> Timers<K> {
    /// Asks for `key` to be popped at `at`.
    pub fn set(&mut self, at: Instant, key: K) {
        self.waiting.insert((at, key));
    }

    /// Takes back what was asked for, if it was not popped yet.
    pub fn cancel(&mut self, at: Instant, key: K) {
        self.waiting.remove(&(at, key));
    }

    /// The next key whose time has come.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            return self.waiting.pop_first().map(|(_, key)| key);
        }
        None
    }

    /// When the next key is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// How many deadlines are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no deadline is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The earlier of two optional deadlines.
#[must_use]
pub fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_pop_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(Instant::from_micros(20), "b");
        timers.set(Instant::from_micros(10), "a");
        assert_eq!(timers.deadline(), Some(Instant::from_micros(10)));
        assert_eq!(timers.pop_due(Instant::from_micros(9)), None);
        assert_eq!(timers.pop_due(Instant::from_micros(30)), Some("a"));
        assert_eq!(timers.pop_due(Instant::from_micros(30)), Some("b"));
        assert_eq!(timers.pop_due(Instant::from_micros(30)), None);
    }

    #[test]
    fn a_cancelled_timer_leaves_nothing_behind() {
        let mut timers = Timers::default();
        timers.set(Instant::from_micros(10), "a");
        timers.cancel(Instant::from_micros(10), "a");
        assert!(timers.is_empty());
        assert_eq!(timers.deadline(), None);
    }

    #[test]
    fn a_clock_that_jumps_back_gives_zero_not_a_panic() {
        assert_eq!(Wall::from_millis(5) - Wall::from_millis(9), Duration::ZERO);
        assert_eq!(Instant::from_micros(5).since(Instant::from_micros(9)), Duration::ZERO);
    }
}
