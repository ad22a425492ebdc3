//! What the last day was like, minute by minute, for a plot. It is sampled when something happens: while nothing does,
//! nothing changes, so nobody has to be woken for it.

use std::collections::VecDeque;

use crate::bridge::LinkState;
use crate::engine::Engine;
use crate::time::{Duration, Instant, Now, Wall};

/// Between two samples, at least.
const INTERVAL: Duration = Duration::from_secs(60);
/// A day of minutes.
const MAX_SAMPLES: usize = 24 * 60;

/// One moment. Holds until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    pub at: Wall,
    /// Messages in all stored queues, and how old the oldest of those for upstreams was, in seconds.
    pub waiting: u64,
    pub oldest_secs: u32,
    /// Since the sample before: publishes that came in, that upstreams acknowledged, and messages that were lost.
    pub received: u32,
    pub delivered: u32,
    pub lost: u32,
    /// A bit for each upstream that was up; the first 32 of them.
    pub up: u32,
}

/// Counters as they were at the last sample.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    received: u64,
    delivered: u64,
    lost: u64,
}

/// The samples.
#[derive(Debug, Default)]
pub(crate) struct History {
    due: Instant,
    before: Counts,
    samples: VecDeque<Sample>,
}

impl Engine {
    /// The last day.
    #[must_use]
    pub fn history(&self) -> Vec<Sample> {
        self.history.samples.iter().copied().collect()
    }

    /// Takes a sample when it is time.
    pub(super) fn sample(&mut self, now: Now) {
        if now.at < self.history.due {
            return;
        }
        let counts = self.counts();
        let before = std::mem::replace(&mut self.history.before, counts);
        let since = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let is_up = |id| self.bridge.stats(id).is_some_and(|stats| stats.state == LinkState::Up);
        let up = self.upstreams.keys().take(32).enumerate().filter(|(_, id)| is_up(**id));
        let oldest = self.queues.names().filter(|(name, _)| name.starts_with("rule:"));
        let oldest = oldest.filter_map(|(_, dest)| self.queues.depth(dest).oldest).min();
        let oldest_secs = oldest.map_or(0, |at| now.wall.as_millis().saturating_sub(at.as_millis()) / 1_000);
        let sample = Sample {
            at: now.wall,
            waiting: self.queues.totals().messages,
            oldest_secs: u32::try_from(oldest_secs).unwrap_or(u32::MAX),
            received: since(counts.received, before.received),
            delivered: since(counts.delivered, before.delivered),
            lost: since(counts.lost, before.lost),
            up: up.fold(0, |up, (place, _)| up | 1 << place),
        };
        if self.history.samples.len() == MAX_SAMPLES {
            self.history.samples.pop_front();
        }
        self.history.samples.push_back(sample);
        self.history.due = now.at + INTERVAL;
    }

    fn counts(&self) -> Counts {
        let upstreams = self.upstreams.keys().filter_map(|id| self.bridge.stats(*id));
        let delivered = upstreams.map(|stats| stats.acked);
        Counts {
            received: self.broker.stats().publish_received + self.gateway.stats().publishes_received,
            delivered: delivered.sum(),
            lost: self.queues.totals().dropped + self.broker.stats().shed_qos0,
        }
    }
}
