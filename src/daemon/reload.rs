//! Files that change while the daemon runs, certificates and passwords: read again when asked, and when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::io::tls::Reload;
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

/// Watches for ever. Established connections keep what they have; the next handshake gets what is new.
#[expect(clippy::disallowed_methods, reason = "a shell waits")]
pub(super) async fn watch(mut all: Vec<Watched>, asked: Arc<Notify>) {
    loop {
        let asked = tokio::select! {
            () = asked.notified() => true,
            () = sleep(PERIOD), if !all.is_empty() => false,
        };
        for watched in &mut all {
            watched.look(asked);
        }
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
