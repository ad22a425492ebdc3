//! The configuration while the daemon runs: read again when asked. And the files that it names, certificates and
//! passwords: read again then, and when they change.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use crate::admin::{Done, Order};
use crate::config::{self, Config};
use crate::daemon::Service;
use crate::daemon::site::Site;
use crate::daemon::storage::Backups;
use crate::io::tls::Reload;
use crate::sys;
use crate::time::Duration;

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(60);

/// What a file was when it was last read.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

/// The certificates of one listener or upstream, or what log-ins are checked against.
pub(super) struct Watched {
    /// As the log names it.
    whose: String,
    identity: Rc<dyn Reload>,
    seen: Vec<Stamp>,
}

impl Watched {
    /// `identity` was read just now.
    pub(super) fn new(whose: String, identity: Rc<dyn Reload>) -> Self {
        let seen = stamps(&*identity);
        Self { whose, identity, seen }
    }

    /// Reads the files again if that was asked for or if one has changed. What does not work is told once, and what
    /// was there before stays. Returns whether they were read.
    fn look(&mut self, asked: bool) -> bool {
        let found = stamps(&*self.identity);
        if !asked && found == self.seen {
            return false;
        }
        self.seen = found;
        match self.identity.reload() {
            Ok(()) => tracing::info!(whose = self.whose, "files read again"),
            Err(error) => {
                tracing::error!(whose = self.whose, "files not taken, what they said before stays in use: {error}");
            }
        }
        true
    }
}

fn stamps(identity: &dyn Reload) -> Vec<Stamp> {
    identity.files().into_iter().map(stamp).collect()
}

/// Where the configuration comes from.
pub trait Source: Send {
    /// Reads and proves it afresh. What only a restart can change is as in `running`.
    ///
    /// # Errors
    /// What is wrong, for the operator: with file, line and remedy.
    fn load(&self, running: &Config) -> Result<Config, String>;

    /// It is in force.
    fn taken(&self, config: &Config);
}

/// Puts another configuration in force when asked, and watches the files that it names.
pub(super) struct Reloader<'a> {
    site: Site,
    watched: Vec<Watched>,
    service: &'a Service,
    /// Who asks through the control socket.
    asked: Receiver<Order>,
    backups: Backups,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(site: Site, service: &'a Service, backups: Backups, asked: Receiver<Order>) -> Self {
        Self { watched: site.watched(), site, service, asked, backups }
    }

    /// For ever. Established connections keep what they have; the next handshake gets what is new.
    #[expect(clippy::disallowed_methods, reason = "a shell waits")]
    pub(super) async fn serve(&mut self) -> Infallible {
        loop {
            tokio::select! {
                () = self.service.reload.notified() => {
                    // What came of it is in the log.
                    self.reload().ok();
                }
                Some(order) = self.asked.recv() => self.obey(order),
                () = sleep(PERIOD), if !self.watched.is_empty() => {
                    for watched in &mut self.watched {
                        watched.look(false);
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            // Whoever asked may have gone.
            Order::Reload(tell) => drop(tell.send(self.reload())),
            Order::Backup(tell) => {
                let to = self.site.config.gateway.state_dir.join("backup.db");
                // What an earlier one left, whose asker went away.
                if let Err(error) = fs::remove_file(&to)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return drop(tell.send(Err(format!("{}: {error}", to.display()))));
                }
                let file = to.display().to_string();
                self.backups.make(to, Box::new(move |made| drop(tell.send(made.map(|()| file)))));
            }
        }
    }

    /// Reads everything again: says what has changed, or why nothing has.
    fn reload(&mut self) -> Done {
        self.service.notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_micros()));
        let done = self.read_again();
        self.service.notify("READY=1");
        done
    }

    fn read_again(&mut self) -> Done {
        let Some(source) = &self.service.source else {
            for watched in &mut self.watched {
                watched.look(true);
            }
            return Ok("files read again".to_owned());
        };
        let old = self.site.config.clone();
        let loaded = source.load(&old);
        let done = loaded.and_then(|config| self.site.change(config).map_err(|error| error.to_string()));
        if let Err(error) = done {
            tracing::error!("reload refused, the configuration stays as it was: {error}");
            return Err(error);
        }
        source.taken(&self.site.config);
        self.watched = self.site.watched();
        let changes = match config::changes(&old, &self.site.config) {
            changes if changes.is_empty() => "nothing changed but what files hold".to_owned(),
            changes => changes.join(", "),
        };
        tracing::info!("configuration reloaded: {changes}");
        Ok(changes)
    }

    /// Nobody else is let in.
    pub(super) fn close(&self) {
        self.site.close();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::PathBuf;

    use super::*;
    use crate::io::tls::TlsError;

    struct Fake {
        files: Vec<PathBuf>,
        result: Result<(), TlsError>,
        reloads: Cell<u32>,
    }

    impl Reload for Fake {
        fn files(&self) -> Vec<&Path> {
            self.files.iter().map(PathBuf::as_path).collect()
        }

        fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
            self.reloads.set(self.reloads.get() + 1);
            Ok(self.result.clone()?)
        }
    }

    #[test]
    fn files_are_read_again_when_one_changes_or_somebody_asks_and_a_bad_one_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["cert", "key"].map(|name| dir.path().join(name)).to_vec();
        fs::write(&files[0], "one").unwrap();
        for result in [Ok(()), Err(TlsError { file: None, problem: "broken".to_owned() })] {
            let fake = Rc::new(Fake { files: files.clone(), result, reloads: Cell::new(0) });
            let mut watched = Watched::new("listener".to_owned(), Rc::clone(&fake) as Rc<dyn Reload>);
            assert!(!watched.look(false), "nothing has changed");
            fs::write(&files[0], "longer").unwrap();
            assert!(watched.look(false));
            assert!(!watched.look(false));
            // A file that comes, and one that another takes the place of.
            fs::write(&files[1], "key").unwrap();
            assert!(watched.look(false));
            let aside = dir.path().join("aside");
            fs::write(&aside, "KEY").unwrap();
            fs::rename(&aside, &files[1]).unwrap();
            assert!(watched.look(false));
            assert!(watched.look(true));
            assert!(!watched.look(false));
            assert_eq!(fake.reloads.get(), 4);
            fs::remove_file(&files[1]).unwrap();
            fs::write(&files[0], "one").unwrap();
        }
    }
}
