//! Load averages as mosquitto computes them: events per minute, over the last 1, 5 and 15 minutes.

use crate::time::{Duration, Instant};

/// Over how many minutes, in the order of [`Load::averages`].
pub(crate) const MINUTES: [u16; 3] = [1, 5, 15];

/// One counter's averages, each exponentially weighted: what happened within its minutes makes up 63 % of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// The counter when it was last looked at.
    count: u64,
    /// Per minute.
    pub averages: [f64; 3],
}

impl Load {
    /// The counter is `count` now, `elapsed` after it was last looked at. A long time is taken as one with an even
    /// rate, so that nothing has to be computed while nobody looks.
    pub(crate) fn update(&mut self, count: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an average")]
        let rate = count.saturating_sub(self.count) as f64 * 60.0 / seconds;
        self.count = count;
        for (average, minutes) in self.averages.iter_mut().zip(MINUTES) {
            let kept = (-seconds / (60.0 * f64::from(minutes))).exp();
            *average = rate + kept * (*average - rate);
        }
    }
}

/// Several counters that are looked at together.
#[derive(Debug)]
pub(crate) struct Loads<const N: usize> {
    at: Instant,
    loads: [Load; N],
}

impl<const N: usize> Loads<N> {
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: now, loads: [Load::default(); N] }
    }

    /// Takes the counters as they are now and gives their averages.
    pub(crate) fn update(&mut self, now: Instant, counts: [u64; N]) -> &[Load; N] {
        let elapsed = now.since(self.at);
        self.at = now;
        for (load, count) in self.loads.iter_mut().zip(counts) {
            load.update(count, elapsed);
        }
        &self.loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    #[test]
    fn an_even_rate_is_reached_and_left_as_mosquitto_does() {
        let mut load = Load::default();
        for n in 1..=360 {
            load.update(n * 100, STEP);
        }
        // An hour of 600 a minute: all there for 1 and 5 minutes, nearly for 15.
        let [one, five, fifteen] = load.averages;
        assert!((one - 600.0).abs() < 0.01 && (five - 600.0).abs() < 0.1, "{load:?}");
        assert!((fifteen - 600.0 * (1.0 - (-4.0_f64).exp())).abs() < 0.01, "{load:?}");
        load.update(36_000, STEP);
        // One step of silence: e to the power of -10/60 is left.
        assert!((load.averages[0] - 600.0 * (-1.0_f64 / 6.0).exp()).abs() < 0.01, "{load:?}");
    }

    #[test]
    fn one_long_step_is_as_many_short_ones_of_the_same_rate() {
        let (mut short, mut long) = (Load::default(), Load::default());
        for n in 1..=6 {
            short.update(n * 7, STEP);
        }
        long.update(42, STEP * 6);
        assert!(short.averages.iter().zip(long.averages).all(|(a, b)| (a - b).abs() < 1e-9), "{short:?} {long:?}");
    }

    #[test]
    fn no_time_is_no_change() {
        let mut load = Load::default();
        load.update(5, Duration::ZERO);
        assert_eq!(load.averages, [0.0; 3]);
    }
}
