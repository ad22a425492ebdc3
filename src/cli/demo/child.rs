//! A `moteway run` in a process of its own. It never outlives its [`Daemon`].

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cli::Failure;

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts this very program once more, with this configuration. What it says is added to `log`.
    pub(super) fn start(name: &'static str, config: &Path, log: &Path) -> Result<Self, Failure> {
        let spawn = || -> io::Result<Child> {
            let out = OpenOptions::new().create(true).append(true).open(log)?;
            Command::new(std::env::current_exe()?)
                .arg("run")
                .arg("--config")
                .arg(config)
                .stdin(Stdio::null())
                .stdout(out.try_clone()?)
                .stderr(out)
                // Whoever started the demo as a service does not wait for these two.
                .env_remove("NOTIFY_SOCKET")
                .env_remove("WATCHDOG_USEC")
                .env_remove("WATCHDOG_PID")
                .spawn()
        };
        let child = spawn().map_err(|error| Failure::Failed(format!("cannot start the {name}: {error}")))?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let (name, log) = (self.name, self.log.display());
                Err(Failure::Failed(format!("the {name} ended by itself ({status}); its log is {log}")))
            }
            Err(error) => Err(Failure::Failed(format!("cannot watch the {}: {error}", self.name))),
        }
    }

    /// Ends it at once, with SIGKILL: it gets no chance to save anything.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| Failure::Failed(format!("cannot kill the {}: {error}", self.name)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It fails only for a child that is gone already.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
