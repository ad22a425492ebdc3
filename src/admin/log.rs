//! The daemon's own log: which events are written, and the last of them, kept for the page.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, Layer};

use crate::config::LogLevel;
use crate::sys::Clock;

/// Lines that are kept.
const MAX_LINES: usize = 200;
/// Of one line.
const MAX_LINE_BYTES: usize = 400;

/// The level, which can be changed while the daemon runs, and the last lines.
#[derive(Debug)]
pub struct Log {
    level: AtomicU8,
    clock: Clock,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    /// Number of the first line that is kept.
    first: u64,
    kept: VecDeque<Line>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at: u64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: &'static str,
    /// What happened, and its fields.
    pub text: String,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new(level: LogLevel) -> Self {
        Self { level: AtomicU8::new(number(level)), clock: Clock::start(), lines: Mutex::default() }
    }

    /// What is written now.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match self.level.load(Ordering::Relaxed) {
            0 => LogLevel::Error,
            1 => LogLevel::Warn,
            2 => LogLevel::Info,
            _ => LogLevel::Debug,
        }
    }

    /// Changes what is written, at once.
    pub fn set_level(&self, level: LogLevel) {
        self.level.store(number(level), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    fn filter(&self) -> LevelFilter {
        match self.level() {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }

    /// The lines from number `from` on that are kept, and the number of the one that comes next.
    #[must_use]
    pub fn lines(&self, from: u64) -> (Vec<Line>, u64) {
        let Ok(lines) = self.lines.lock() else { return (Vec::new(), from) };
        let next = lines.first + lines.kept.len() as u64;
        let skip = usize::try_from(from.saturating_sub(lines.first)).unwrap_or(usize::MAX);
        // A number from before a restart is one that has not come yet.
        let skip = if from > next { 0 } else { skip };
        (lines.kept.iter().skip(skip).cloned().collect(), next)
    }

    fn keep(&self, line: Line) {
        // A thread that failed while it held the lines has left them whole all the same.
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lines.kept.len() == MAX_LINES {
            lines.kept.pop_front();
            lines.first += 1;
        }
        lines.kept.push_back(line);
    }
}

fn number(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 0,
        LogLevel::Warn => 1,
        LogLevel::Info => 2,
        LogLevel::Debug => 3,
    }
}

/// Lets pass what the log's level lets pass.
#[derive(Debug, Clone)]
pub struct ByLevel(pub std::sync::Arc<Log>);

impl<S> Filter<S> for ByLevel {
    fn enabled(&self, meta: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        *meta.level() <= self.0.filter()
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        if *meta.level() <= self.0.filter() { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.filter())
    }
}

/// Keeps the last lines.
#[derive(Debug, Clone)]
pub struct Keeper(pub std::sync::Arc<Log>);

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            _ => "debug",
        };
        self.0.keep(Line { at: self.0.clock.now().wall.as_millis(), level, text: text.finish() });
    }
}

/// The message first, then the fields.
#[derive(Default)]
struct Text {
    message: Bounded,
    fields: Bounded,
}

impl Text {
    fn finish(self) -> String {
        let mut text = self.message;
        // What is too long is cut by the writer.
        text.write_str(&self.fields.0).ok();
        text.0
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.write_str(value).ok();
        } else {
            write!(self.fields, " {}={value:?}", field.name()).ok();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").ok();
        } else {
            write!(self.fields, " {}={value:?}", field.name()).ok();
        }
    }
}

/// A text that stops growing.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = MAX_LINE_BYTES.saturating_sub(self.0.len());
        if more.len() <= room {
            self.0.push_str(more);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|at| more.is_char_boundary(*at)).unwrap_or(0);
        self.0.push_str(&more[..cut]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn logged(level: LogLevel, act: impl FnOnce(&Log)) -> Vec<String> {
        let log = Arc::new(Log::new(level));
        let keeper = Keeper(Arc::clone(&log)).with_filter(ByLevel(Arc::clone(&log)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(keeper), || act(&log));
        log.lines(0).0.into_iter().map(|line| format!("{}: {}", line.level, line.text)).collect()
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let lines = logged(LogLevel::Warn, |log| {
            for level in [LogLevel::Warn, LogLevel::Debug, LogLevel::Error] {
                log.set_level(level);
                tracing::debug!(step = ?level, "looked");
                tracing::warn!("said");
            }
        });
        assert_eq!(lines, ["warn: said", "debug: looked step=Debug", "warn: said"]);
    }

    #[test]
    fn lines_are_bounded_in_number_and_length_and_can_be_followed() {
        let log = Arc::new(Log::new(LogLevel::Info));
        let keeper = Keeper(Arc::clone(&log)).with_filter(ByLevel(Arc::clone(&log)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(keeper), || {
            for number in 0..1_000 {
                tracing::info!(number, long = "ä".repeat(5_000), "line");
            }
        });
        let (lines, next) = log.lines(0);
        assert_eq!((lines.len(), next), (MAX_LINES, 1_000));
        assert!(lines[0].text.starts_with("line number=800") && lines[0].text.len() <= MAX_LINE_BYTES);
        let (lines, next) = log.lines(998);
        assert_eq!((lines.len(), next), (2, 1_000));
        assert_eq!(log.lines(1_000).0.len(), 0);
        assert_eq!(log.lines(5_000).0.len(), MAX_LINES);
    }
}
