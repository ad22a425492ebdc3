//! Figures: latency histogram, CPU clocks, and the line of JSON.

use crate::options::Options;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fmt;
use std::time::Instant;

/// Nanoseconds in buckets of at most 1/32 of their value: bounded memory, about 3 % error.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// Buckets per power of two, and how many bits that is.
const STEPS: u64 = 32;
const STEP_BITS: u32 = 5;

impl Histogram {
    pub(crate) fn new() -> Self {
        let buckets = (u64::BITS - STEP_BITS + 1) << STEP_BITS;
        Self { counts: vec![0; usize::try_from(buckets).unwrap_or_default()], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, value: u64) {
        self.counts[Self::bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// Values below `STEPS` have a bucket each; above, the leading bits name the bucket.
    fn bucket(value: u64) -> usize {
        let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
        let bucket = u64::from(shift) * STEPS + (value >> shift);
        usize::try_from(bucket).unwrap_or(usize::MAX)
    }

    /// The lower edge of bucket `index`.
    fn edge(index: usize) -> u64 {
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        let shift = (index / STEPS).saturating_sub(1);
        (index - shift * STEPS) << shift
    }

    /// The value that `share` (0 to 1) of all values do not exceed; 0 when empty.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Self::edge(index);
            }
        }
        0
    }
}

/// CPU and time since the load began: ours, and the broker's when its process is known.
pub(crate) struct Stopwatch {
    started_at: Instant,
    broker: Option<ClockId>,
    own_cpu: f64,
    broker_cpu: f64,
}

/// What a [`Stopwatch`] saw, in seconds.
pub(crate) struct Elapsed {
    seconds: f64,
    own_cpu: f64,
    broker_cpu: Option<f64>,
}

impl Stopwatch {
    pub(crate) fn start(options: &Options) -> nix::Result<Self> {
        let broker = options.broker_pid.map(|pid| clock_getcpuclockid(Pid::from_raw(pid))).transpose()?;
        Ok(Self {
            own_cpu: cpu_seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
            broker_cpu: broker.map(cpu_seconds).transpose()?.unwrap_or_default(),
            broker,
            started_at: Instant::now(),
        })
    }

    pub(crate) fn stop(&self) -> nix::Result<Elapsed> {
        Ok(Elapsed {
            seconds: self.started_at.elapsed().as_secs_f64(),
            own_cpu: cpu_seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)? - self.own_cpu,
            broker_cpu: self.broker.map(cpu_seconds).transpose()?.map(|now| now - self.broker_cpu),
        })
    }
}

/// All threads of the process, those that have ended too, to the nanosecond.
fn cpu_seconds(clock: ClockId) -> nix::Result<f64> {
    let time = std::time::Duration::from(clock_gettime(clock)?);
    Ok(time.as_secs_f64())
}

/// The clock of stamps and latencies.
pub(crate) fn nanoseconds_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A flat JSON object of numbers, in the order they were put.
pub(crate) struct Report {
    fields: Vec<(&'static str, f64)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { fields: Vec::new() }
    }

    pub(crate) fn put(&mut self, name: &'static str, value: impl Into<f64>) {
        self.fields.push((name, value.into()));
    }

    #[allow(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
    pub(crate) fn put_count(&mut self, name: &'static str, value: u64) {
        self.put(name, value as f64);
    }

    /// Seconds, rate, and CPU per million of `operations`.
    pub(crate) fn put_elapsed(&mut self, elapsed: &Elapsed, operations: u64) {
        let operations = operations.max(1) as f64;
        self.put("seconds", elapsed.seconds);
        self.put("per_second", operations / elapsed.seconds);
        self.put("load_cpu_per_million", elapsed.own_cpu * 1e6 / operations);
        if let Some(broker_cpu) = elapsed.broker_cpu {
            self.put("broker_cpu_seconds", broker_cpu);
            self.put("broker_cpu_per_million", broker_cpu * 1e6 / operations);
        }
    }

    /// Rate and CPU per million of one part of a load.
    pub(crate) fn put_part(&mut self, names: [&'static str; 3], elapsed: &Elapsed, operations: u64) {
        #[allow(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
        let operations = operations.max(1) as f64;
        let [rate, load_cpu, broker_cpu] = names;
        self.put(rate, operations / elapsed.seconds);
        self.put(load_cpu, elapsed.own_cpu * 1e6 / operations);
        if let Some(seconds) = elapsed.broker_cpu {
            self.put(broker_cpu, seconds * 1e6 / operations);
        }
    }

    /// Percentiles in microseconds.
    pub(crate) fn put_latency(&mut self, latency: &Histogram) {
        let microseconds = |nanoseconds: u64| std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
        self.put("p50_us", microseconds(latency.percentile(0.5)));
        self.put("p99_us", microseconds(latency.percentile(0.99)));
        self.put("p999_us", microseconds(latency.percentile(0.999)));
        self.put("max_us", microseconds(latency.max));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let digits = if value.fract() == 0.0 { 0 } else { 6 };
            write!(f, "{comma}\"{name}\": {value:.digits$}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_within_a_thirtysecond_of_it() {
        for value in (0..64).map(|bit| 1_u64 << bit).flat_map(|power| [power - 1, power, power + power / 3]) {
            let edge = Histogram::edge(Histogram::bucket(value));
            assert!(edge <= value && value - edge <= value / STEPS, "{value} is reported as {edge}");
        }
    }

    #[test]
    fn percentiles_count_from_below() {
        let mut latency = Histogram::new();
        assert_eq!(latency.percentile(0.5), 0);
        (1..=20).for_each(|value| latency.record(value));
        assert_eq!((latency.percentile(0.5), latency.percentile(0.99), latency.max), (10, 20, 20));
    }
}
