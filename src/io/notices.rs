//! From the engine's notices to the log, with bursts collapsed.

use std::collections::BTreeMap;

use crate::metrics::{Level, Notice};
use crate::time::{Duration, Instant};

/// Lines of one kind that are logged in one period.
const LINES_PER_PERIOD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// What was logged of late, by event. The events are fixed phrases in the program, so this stays small.
#[derive(Debug, Default)]
pub(super) struct Notices {
    bursts: BTreeMap<&'static str, Burst>,
}

#[derive(Debug)]
struct Burst {
    since: Instant,
    count: u32,
}

/// Whether to log, and what to say of the period before.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    log: bool,
    suppressed: u32,
}

impl Notices {
    /// Logs `notice`, or only counts it when its kind was logged often enough just now.
    pub(super) fn log(&mut self, now: Instant, notice: &Notice) {
        let verdict = self.judge(now, notice.what);
        if verdict.suppressed > 0 {
            let what = notice.what;
            tracing::warn!(suppressed = verdict.suppressed, "{what}: more of the same in the last seconds");
        }
        if verdict.log {
            write(notice);
        }
    }

    fn judge(&mut self, now: Instant, what: &'static str) -> Verdict {
        let burst = self.bursts.entry(what).or_insert(Burst { since: now, count: 0 });
        let mut suppressed = 0;
        if now.since(burst.since) >= PERIOD {
            suppressed = burst.count.saturating_sub(LINES_PER_PERIOD);
            *burst = Burst { since: now, count: 0 };
        }
        burst.count = burst.count.saturating_add(1);
        Verdict { log: burst.count <= LINES_PER_PERIOD, suppressed }
    }
}

fn write(notice: &Notice) {
    let Notice { level, what, who, detail } = notice;
    let who = Some(who.as_str()).filter(|who| !who.is_empty());
    let detail = Some(detail.as_str()).filter(|detail| !detail.is_empty());
    match level {
        Level::Debug => tracing::debug!(who, detail, "{what}"),
        Level::Info => tracing::info!(who, detail, "{what}"),
        Level::Warn => tracing::warn!(who, detail, "{what}"),
        Level::Error => tracing::error!(who, detail, "{what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_and_its_rest_is_counted_with_the_next_one() {
        let mut notices = Notices::default();
        let logged = (0..500).filter(|_| notices.judge(Instant::ZERO, "message dropped").log).count();
        assert_eq!(logged, 10);
        let other = notices.judge(Instant::ZERO, "client refused");
        assert_eq!(other, Verdict { log: true, suppressed: 0 });
        let later = notices.judge(Instant::ZERO + PERIOD, "message dropped");
        assert_eq!(later, Verdict { log: true, suppressed: 490 });
    }
}
