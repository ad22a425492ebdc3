//! One open file, from the lock to the last checkpoint.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::config::Durability;
use crate::queue::Recovered;
use crate::store::columns::signed;
use crate::store::fault::Fault;
use crate::store::ledger::Ledger;
use crate::store::lock::Lock;
use crate::store::options::{Options, Paths, StoreError};
use crate::store::session::{Session, pragma_rows};
use crate::store::{recover, salvage, schema, wal};

/// Files up to this size are checked from end to end at each start.
const CHECK_ALWAYS: u64 = 1 << 20;
/// And up to this size if the last run did not end in order.
const CHECK_UNCLEAN: u64 = 8 << 20;

/// The open file. It is used through a [`Session`].
#[derive(Debug)]
pub struct Database {
    conn: Connection,
    ledger: Ledger,
    paths: Paths,
    page_size: u32,
    options: Options,
    /// See [`Session`].
    leftovers: bool,
    _lock: Lock,
}

impl Database {
    /// Opens the store of `options.dir`, creating it if there is none. A damaged file is set aside, what can be read
    /// is carried over, and [`Recovered::damage`] says so.
    ///
    /// # Errors
    /// If the directory cannot be used, another instance has it, or a later version wrote the file.
    pub fn open(options: &Options) -> Result<(Self, Recovered), StoreError> {
        let options = &options.within_disk();
        let paths = Paths::new(&options.dir);
        let lock = Lock::acquire(&paths)?;
        salvage::finish_interrupted(&paths)?;
        let (opened, damage) = match Opened::new(options, &paths) {
            Ok(opened) => (opened, None),
            Err(Fault::Damaged(reason)) => {
                let damage = salvage::salvage(options, &paths, &reason)?;
                let opened = Opened::new(options, &paths).map_err(|fault| store_error(&paths, fault))?;
                (opened, Some(damage))
            }
            Err(fault) => return Err(store_error(&paths, fault)),
        };
        remove_if_there(&paths.suspect)?;
        let Opened { conn, ledger, page_size, mut recovered, unclean } = opened;
        recovered.damage = damage;
        let options = options.clone();
        let database = Self { conn, ledger, paths, page_size, options, leftovers: unclean, _lock: lock };
        Ok((database, recovered))
    }

    /// Starts using the file.
    pub fn session(&mut self) -> Session<'_> {
        let suspect = self.paths.suspect.clone();
        Session::new(&self.conn, &mut self.ledger, suspect, self.page_size, &self.options, &mut self.leftovers)
    }

    /// Folds the log into the file and closes it.
    ///
    /// # Errors
    /// In words. Nothing that was committed is lost: the log stays and is read at the next start.
    pub fn close(mut self) -> Result<(), String> {
        let highest = self.ledger.highest;
        if highest < self.ledger.reserved {
            // After an orderly end the numbers go on without a gap.
            self.conn
                .execute("INSERT OR REPLACE INTO meta VALUES('last_seq', ?1)", [signed(highest)])
                .map_err(|error| error.to_string())?;
        }
        self.session().checkpoint()?;
        self.conn.close().map_err(|(_, error)| error.to_string())
    }
}

/// A file that was opened and believed.
struct Opened {
    conn: Connection,
    ledger: Ledger,
    page_size: u32,
    recovered: Recovered,
    /// The last run did not end in order.
    unclean: bool,
}

impl Opened {
    /// Opens the file and reads what is handed over at start.
    ///
    /// The whole file is checked if it is small, if the last run met damage, or if it did not end in order and
    /// the file is not large. Of a large file only the small tables and the ends of each queue are read; damage
    /// further inside shows when the rows are read.
    fn new(options: &Options, paths: &Paths) -> Result<Self, Fault> {
        let size = |path: &Path| path.metadata().map_or(0, |file| file.len());
        let unclean = size(&paths.wal) > 0;
        if unclean && options.durability == Durability::PowerLoss {
            wal::check(&paths.wal).map_err(Fault::Damaged)?;
        }
        let thorough = paths.suspect.exists()
            || size(&paths.db) <= CHECK_ALWAYS
            || (unclean && size(&paths.db) <= CHECK_UNCLEAN);
        let look = || -> Result<Self, Fault> {
            let (conn, page_size) = connect(options, &paths.db)?;
            let mut ledger = recover::load_ledger(&conn)?;
            let suspect = paths.suspect.clone();
            let mut leftovers = unclean;
            let mut session = Session::new(&conn, &mut ledger, suspect, page_size, options, &mut leftovers);
            if thorough {
                session.check()?;
            }
            let recovered = session.recover()?;
            drop(session);
            Ok(Self { conn, ledger, page_size, recovered, unclean })
        };
        look().map_err(damage_at_start)
    }
}

/// Opens or creates the file `db` with everything set, at the current schema.
pub(super) fn connect(options: &Options, db: &Path) -> Result<(Connection, u32), Fault> {
    create(db).map_err(|error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        Fault::Sqlite(rusqlite::Error::SqliteFailure(code, Some(error.to_string())))
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(db, flags)?;
    let synchronous = match options.durability {
        Durability::PowerLoss => "FULL",
        Durability::Crash => "NORMAL",
        Durability::None => "OFF",
    };
    // Each on its own: one that answers with a row ends a group of statements early.
    for pragma in [
        format!("page_size = {}", options.page_size),
        "auto_vacuum = INCREMENTAL".to_owned(),
        "trusted_schema = OFF".to_owned(),
        "cell_size_check = ON".to_owned(),
        "temp_store = MEMORY".to_owned(),
        "mmap_size = 0".to_owned(),
        "cache_size = -2048".to_owned(),
        "journal_mode = WAL".to_owned(),
        format!("synchronous = {synchronous}"),
        "wal_autocheckpoint = 0".to_owned(),
        format!("journal_size_limit = {}", 2 * options.wal_limit()),
    ] {
        pragma_rows(&conn, &format!("PRAGMA {pragma}"))?;
    }
    let page_size: u32 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    pragma_rows(&conn, &format!("PRAGMA max_page_count = {}", options.max_pages(page_size).growing))?;
    schema::migrate(&conn)?;
    Ok((conn, page_size))
}

/// Makes sure that the file is there and private; SQLite gives its log the same mode.
fn create(db: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(db)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    match db.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Makes new names in a directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path, "cannot be removed", error)),
        _ => Ok(()),
    }
}

/// A file operation failed.
pub(super) fn file_error(path: &Path, what: &'static str, source: io::Error) -> StoreError {
    let remedy = "check that gateway.state_dir is writable and its file system has room and is not read-only";
    StoreError::File { path: path.to_owned(), what, remedy, source }
}

/// What cannot be the fault of the surroundings is the fault of the file. Read-only is one: the file was opened for
/// writing before, so it is its header that says so.
fn damage_at_start(fault: Fault) -> Fault {
    match fault {
        Fault::Sqlite(error) => match error.sqlite_error_code() {
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory,
            ) => Fault::Sqlite(error),
            _ => Fault::Damaged(error.to_string()),
        },
        fault => fault,
    }
}

/// A fault that ends the start.
pub(super) fn store_error(paths: &Paths, fault: Fault) -> StoreError {
    let path = paths.db.clone();
    match fault {
        Fault::Newer(found) => StoreError::Newer { path, found, known: schema::VERSION },
        Fault::Sqlite(source) => {
            let remedy = match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => "free some space on its file system, or raise store.max_bytes",
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    "another program has the file open; close it"
                }
                _ => "check that gateway.state_dir is writable and not mounted read-only",
            };
            StoreError::Sqlite { path, remedy, source }
        }
        Fault::Damaged(what) | Fault::Refused(what) => {
            file_error(&path, "is damaged and cannot be replaced", io::Error::other(what))
        }
    }
}
