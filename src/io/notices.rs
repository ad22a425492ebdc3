//! From the engine's notices to the log, with bursts collapsed.

use std::collections::BTreeMap;

use crate::metrics::{Level, Notice};
use crate::time::{Duration, Instant};

/// Lines of one kind that are logged in one period.
const LINES_PER_PERIOD: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);
/// A kind that goes on and on has its period doubled each time, up to this.
const LONGEST_PERIOD: Duration = Duration::from_secs(3_600);
/// The same of the same upstream, client or rule: so many lines, and then one in an hour.
const LINES_OF_ONE: u32 = 5;
const HOUR: Duration = Duration::from_secs(3_600);
/// How many of them are told apart. When there are more, the one that was told longest ago is forgotten.
const MAX_SUBJECTS: usize = 256;

/// What was logged of late. The events are fixed phrases in the program, so there are few.
#[derive(Debug, Default)]
pub(super) struct Notices {
    bursts: BTreeMap<&'static str, Burst>,
    subjects: BTreeMap<(&'static str, Box<str>), Subject>,
}

#[derive(Debug)]
struct Burst {
    since: Instant,
    period: Duration,
    count: u32,
}

/// An event of somebody.
#[derive(Debug)]
struct Subject {
    /// When it was last logged.
    at: Instant,
    lines: u32,
    suppressed: u32,
}

/// Whether to log, and what to say of the time before.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    log: bool,
    suppressed: u32,
}

impl Notices {
    /// Logs `notice`, or only counts it when its kind was logged often enough just now. What somebody asked to see
    /// with the level `debug` is logged as it comes.
    pub(super) fn log(&mut self, now: Instant, notice: &Notice) {
        if notice.level == Level::Debug {
            return write(notice);
        }
        let verdict = self.judge(now, notice.what, &notice.who);
        if verdict.suppressed > 0 {
            let what = notice.what;
            tracing::warn!(suppressed = verdict.suppressed, "{what}: more of the same since it was last told");
        }
        if verdict.log {
            write(notice);
        }
    }

    fn judge(&mut self, now: Instant, what: &'static str, who: &str) -> Verdict {
        let one = self.judge_one(now, what, who);
        if !one.log {
            return one;
        }
        let burst = self.bursts.entry(what).or_insert(Burst { since: now, period: PERIOD, count: 0 });
        let mut suppressed = one.suppressed;
        if now.since(burst.since) >= burst.period {
            let more = burst.count.saturating_sub(LINES_PER_PERIOD);
            suppressed = suppressed.saturating_add(more);
            let period = if more > 0 { (burst.period * 2).min(LONGEST_PERIOD) } else { PERIOD };
            *burst = Burst { since: now, period, count: 0 };
        }
        burst.count = burst.count.saturating_add(1);
        Verdict { log: burst.count <= LINES_PER_PERIOD, suppressed }
    }

    fn judge_one(&mut self, now: Instant, what: &'static str, who: &str) -> Verdict {
        let key = (what, Box::from(who));
        if !self.subjects.contains_key(&key) && self.subjects.len() >= MAX_SUBJECTS {
            let oldest = self.subjects.iter().min_by_key(|(_, subject)| subject.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.subjects.remove(&oldest));
        }
        let subject = self.subjects.entry(key).or_insert(Subject { at: now, lines: 0, suppressed: 0 });
        if subject.lines >= LINES_OF_ONE && now.since(subject.at) < HOUR {
            subject.suppressed = subject.suppressed.saturating_add(1);
            return Verdict { log: false, suppressed: 0 };
        }
        // After an hour in which nothing was held back it is news again.
        if subject.suppressed == 0 && now.since(subject.at) >= HOUR {
            subject.lines = 0;
        }
        subject.at = now;
        subject.lines = subject.lines.saturating_add(1);
        Verdict { log: true, suppressed: std::mem::take(&mut subject.suppressed) }
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
        let drop_of = |who: u32| format!("client {who}");
        let mut judge = |now, who| notices.judge(now, "message dropped", &drop_of(who));
        let logged = (0..500).filter(|who| judge(Instant::ZERO, *who).log).count();
        assert_eq!(logged, 10);
        let later = judge(Instant::ZERO + PERIOD, 1_000);
        assert_eq!(later, Verdict { log: true, suppressed: 490 });
        let other = notices.judge(Instant::ZERO, "client refused", "");
        assert_eq!(other, Verdict { log: true, suppressed: 0 });
        assert!(notices.subjects.len() <= MAX_SUBJECTS);
    }

    #[test]
    fn the_same_of_the_same_is_told_once_an_hour() {
        let mut notices = Notices::default();
        let mut told = Vec::new();
        for minute in 0..180_u64 {
            let now = Instant::from_micros(minute * 60_000_000);
            let verdict = notices.judge(now, "upstream unreachable", "cloud");
            if verdict.log {
                told.push((minute, verdict.suppressed));
            }
        }
        assert_eq!(told, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (64, 59), (124, 59)]);
        let now = Instant::from_micros(181 * 60_000_000);
        assert!(notices.judge(now, "upstream unreachable", "other").log, "who is another");
        let rested = Instant::from_micros(600 * 60_000_000);
        assert_eq!(notices.judge(rested, "upstream unreachable", "cloud"), Verdict { log: true, suppressed: 55 });
    }

    /// The real engine in an outage of a week: a dial every two minutes at most, a message a second into a queue that
    /// is full after a quarter of an hour, and clients that come and go.
    #[test]
    fn a_week_of_an_outage_logs_less_than_a_megabyte() {
        let logged = week::bytes_logged();
        println!("a week of an outage: {logged} bytes in the log");
        assert!((1_000..1_000_000).contains(&logged), "{logged}");
    }

    mod week;
}
