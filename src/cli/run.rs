//! `moteway run`: the daemon in the foreground, for systemd or a terminal.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::admin::Log;
use crate::cli::load::load_anew;
use crate::cli::{ConfigFile, Failure, load};
use crate::config::Config;
use crate::daemon::{self, Service, Source, logging};
use crate::sys;

/// Runs the daemon until SIGTERM or SIGINT.
pub(super) fn run(file: &ConfigFile) -> Result<(), Failure> {
    let loaded = load(&file.config)?;
    if !loaded.warnings.is_empty() {
        eprint!("{}", loaded.warnings);
    }
    let config = loaded.config;
    let log = logging::init(&config.log).map_err(|error| {
        Failure::Failed(format!("the journal cannot be reached: {error}; set log.format to \"plain\""))
    })?;
    if let Err(error) = sys::raise_open_files_limit() {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    let service = Service { log: log.clone(), ..service(File { path: file.config.clone(), log }) };
    let stop = signals(Arc::clone(&service.reload));
    daemon::run(config, &service, stop, |_| {}).map_err(|error| {
        tracing::error!("{error}");
        if error.is_configuration() {
            Failure::Unusable(error.to_string())
        } else {
            Failure::Failed(error.to_string())
        }
    })
}

/// The configuration file, read again at each reload.
struct File {
    path: PathBuf,
    log: Option<Arc<Log>>,
}

impl Source for File {
    fn load(&self, running: &Config) -> Result<Config, String> {
        let loaded = load_anew(&self.path, running).map_err(|failure| failure.to_string())?;
        if !loaded.warnings.is_empty() {
            tracing::warn!("{}", loaded.warnings.to_string().trim_end());
        }
        Ok(loaded.config)
    }

    fn taken(&self, config: &Config) {
        if let Some(log) = &self.log {
            log.set_level(config.log.level);
        }
    }
}

fn service(source: File) -> Service {
    let notifier = sys::Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!(%error, "the service manager cannot be reached");
        None
    });
    Service { notifier, watchdog: sys::watchdog_timeout(), source: Some(Box::new(source)), ..Service::default() }
}

/// Ready when the daemon should stop. SIGHUP asks for a reload.
async fn signals(reload: Arc<Notify>) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        tracing::error!("signals cannot be caught: SIGTERM will end this process without a farewell");
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: the configuration and its files are read again");
                reload.notify_one();
            }
        }
    }
}
