//! `moteway run`: the daemon in the foreground, for systemd or a terminal.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Document};
use crate::daemon::{self, Service, logging};
use crate::sys;

/// `EX_CONFIG` of sysexits.h. The unit says `RestartPreventExitStatus=78`: trying again is no use.
const EXIT_CONFIG: u8 = 78;

/// Runs the daemon until SIGTERM or SIGINT.
#[must_use]
pub fn run(config_path: &Path) -> ExitCode {
    let config = match load(config_path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if let Err(error) = logging::init(&config.log) {
        eprintln!("moteway: the journal cannot be reached: {error}; set log.format to \"plain\"");
        return ExitCode::FAILURE;
    }
    if let Err(error) = sys::raise_open_files_limit() {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    match daemon::run(config, &service(), stop_signal(), |_| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            if error.is_configuration() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn load(path: &Path) -> Result<Config, String> {
    let document = Document::read(path).map_err(|error| format!("error: {error}"))?;
    let (config, warnings) = document.finish().map_err(|errors| errors.to_string())?;
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
    Ok(config)
}

fn service() -> Service {
    let notifier = sys::Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!(%error, "the service manager cannot be reached");
        None
    });
    Service { notifier, watchdog: sys::watchdog_timeout() }
}

/// Ready when the daemon should stop. SIGHUP is not a reason to.
async fn stop_signal() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        tracing::error!("signals cannot be caught: SIGTERM will end this process without a farewell");
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => tracing::warn!("SIGHUP ignored: restart to read the configuration again"),
        }
    }
}
