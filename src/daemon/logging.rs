//! The log, as the configuration asks for it. One for the whole process, set up by the command line.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Directs events to the journal or to standard error. Does nothing when the process has a log already.
///
/// # Errors
/// If `format` is `journald` and there is no journal.
pub fn init(log: &Log) -> io::Result<()> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let writer = match log.format {
        LogFormat::Journald => tracing_journald::layer()?.boxed(),
        LogFormat::Auto if is_journal(&io::stderr()) => match tracing_journald::layer() {
            Ok(journal) => journal.boxed(),
            Err(_) => plain(),
        },
        LogFormat::Auto | LogFormat::Plain => plain(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    // Somebody who set up a log before us gets what we say.
    tracing_subscriber::registry().with(writer.with_filter(level)).try_init().ok();
    Ok(())
}

fn plain() -> Box<dyn Layer<Registry> + Send + Sync> {
    let ansi = io::stderr().is_terminal();
    fmt::layer().with_ansi(ansi).with_target(false).with_writer(io::stderr).boxed()
}

/// Whether this stream is the one that systemd connected to the journal: `$JOURNAL_STREAM` names its device and
/// inode, and is inherited by children whose output goes elsewhere.
fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = stream.as_fd().try_clone_to_owned().map(File::from) else { return false };
    file.metadata().is_ok_and(|meta| named == format!("{}:{}", meta.dev(), meta.ino()))
}
