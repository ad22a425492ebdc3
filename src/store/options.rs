//! What a store needs to know, and why it may refuse to start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Durability, Store as Config};
use crate::sys::wide;

/// Bytes of one page. Measured with `cargo bench --bench store`: small pages waste the least on small batches, and
/// the tail of a page that did not fit one more row costs about the same with each size.
pub const PAGE_SIZE: u32 = 2048;

/// Where the file is and how large it may grow.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state directory. It must exist; the store keeps `moteway.db` and its companions there.
    pub dir: PathBuf,
    /// Bound of the file, its log included, in bytes.
    pub max_bytes: u64,
    /// What an acknowledged batch survives.
    pub durability: Durability,
    /// Bytes of one page, a power of two from 512 to 65536; only heeded when the file is created.
    pub page_size: u32,
    /// Dead letters that are kept; for more, the oldest go, and are counted.
    pub max_dead_letters: u32,
    /// Commands that may wait for the writer thread.
    pub max_pending: usize,
}

impl Options {
    /// The options that `[store]` asks for, with the file in `dir`.
    #[must_use]
    pub fn new(dir: &Path, config: &Config) -> Self {
        Self {
            dir: dir.to_owned(),
            max_bytes: config.max_bytes,
            durability: config.durability,
            page_size: PAGE_SIZE,
            max_dead_letters: config.max_dead_letters,
            max_pending: 4096,
        }
    }

    /// The same, but no larger than nine tenths of the file system: the file must be full before the disk is. Then what
    /// is deleted makes room again; on a full disk not even that could be written.
    pub(super) fn within_disk(&self) -> Self {
        const LEAST: u64 = 1 << 20;
        let size = nix::sys::statvfs::statvfs(&self.dir).map_or(u64::MAX, |disk| {
            // Some file systems do not tell.
            wide(disk.blocks()).checked_mul(wide(disk.fragment_size())).filter(|size| *size > 0).unwrap_or(u64::MAX)
        });
        Self { max_bytes: self.max_bytes.min((size / 10 * 9).max(LEAST)), ..self.clone() }
    }

    /// What messages may take of the file on its disk, without its log, and what the log may take before it is folded.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        let options = self.within_disk();
        (options.max_pages(options.page_size).growing * u64::from(options.page_size), options.wal_limit())
    }

    /// Bytes of the write-ahead log after which it is folded into the file. The log may grow past it by one batch.
    pub(super) fn wal_limit(&self) -> u64 {
        (self.max_bytes / 8).clamp(256 << 10, 4 << 20)
    }

    /// Pages that the file itself may have, so that file and log stay below [`Options::max_bytes`].
    pub(super) fn max_pages(&self, page_size: u32) -> PageLimit {
        let log = (2 * self.wal_limit()).min(self.max_bytes / 2);
        let all = ((self.max_bytes - log) / u64::from(page_size)).clamp(32, 0xffff_fffe);
        PageLimit { growing: all - all / 16, all }
    }
}

/// How many pages the file may have. Messages leave some, so that what leads to their end finds room in a full file.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageLimit {
    /// For batches that store something.
    pub growing: u64,
    /// For those that do not.
    pub all: u64,
}

/// The files of a store.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub dir: PathBuf,
    pub db: PathBuf,
    pub wal: PathBuf,
    pub lock: PathBuf,
    /// Left by a run that met damage: the next start checks everything.
    pub suspect: PathBuf,
    /// What is being rescued from a damaged file; becomes `db` when complete.
    pub salvage: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        let file = |name: &str| dir.join(name);
        Self {
            dir: dir.to_owned(),
            db: file("moteway.db"),
            wal: file("moteway.db-wal"),
            lock: file("moteway.lock"),
            suspect: file("moteway.db.suspect"),
            salvage: file("moteway.db.salvage"),
        }
    }

    /// Where a damaged file goes.
    pub(super) fn damaged(&self, n: u32) -> PathBuf {
        self.dir.join(format!("moteway.db.damaged-{n}"))
    }

    /// Where the log of a damaged file goes.
    pub(super) fn damaged_wal(&self, n: u32) -> PathBuf {
        self.dir.join(format!("moteway.db.damaged-{n}-wal"))
    }
}

/// Why the store cannot start. The text names the path, what failed and what helps.
#[derive(Debug)]
pub enum StoreError {
    /// A file or directory cannot be used.
    File { path: PathBuf, what: &'static str, remedy: &'static str, source: io::Error },
    /// Another instance uses this state directory.
    InUse { path: PathBuf, pid: Option<i32> },
    /// A later version wrote the file.
    Newer { path: PathBuf, found: i64, known: i64 },
    /// SQLite refuses for a reason that is not damage.
    Sqlite { path: PathBuf, remedy: &'static str, source: rusqlite::Error },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, what, remedy, .. } => write!(f, "{}: {what}; {remedy}", path.display()),
            Self::InUse { path, pid: Some(pid) } => write!(
                f,
                "{}: another instance, process {pid}, uses this state directory; stop it or set another gateway.state_dir",
                path.display()
            ),
            Self::InUse { path, pid: None } => write!(
                f,
                "{}: another instance uses this state directory; stop it or set another gateway.state_dir",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{}: written by a later version (schema {found}, this one knows {known}); install that version again, or move the file away",
                path.display()
            ),
            Self::Sqlite { path, remedy, .. } => {
                write!(f, "{}: the store cannot be opened; {remedy}", path.display())
            }
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Sqlite { source, .. } => Some(source),
            Self::InUse { .. } | Self::Newer { .. } => None,
        }
    }
}
