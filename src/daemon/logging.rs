//! The log, as the configuration asks for it. One for the whole process, set up by the command line.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use crate::admin::{ByLevel, Keeper, Log};
use crate::config::{self, LogFormat};

/// Directs events to the journal or to standard error, and keeps the last ones. None when the process has a log
/// already: somebody who set it up before us gets what we say.
///
/// # Errors
/// If `format` is `journald` and there is no journal.
pub fn init(config: &config::Log) -> io::Result<Option<Arc<Log>>> {
    let log = Arc::new(Log::new(config.level));
    let writer = match config.format {
        LogFormat::Journald => tracing_journald::layer()?.boxed(),
        LogFormat::Auto if is_journal(&io::stderr()) => match tracing_journald::layer() {
            Ok(journal) => journal.boxed(),
            Err(_) => plain(),
        },
        LogFormat::Auto | LogFormat::Plain => plain(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    let all = writer.and_then(Keeper(Arc::clone(&log))).with_filter(ByLevel(Arc::clone(&log)));
    Ok(tracing_subscriber::registry().with(all).try_init().ok().map(|()| log))
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
