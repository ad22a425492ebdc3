//! One instance per state directory: an advisory lock on a file that names its holder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::store::database::file_error;
use crate::store::options::{Paths, StoreError};

/// Held as long as the store is open. The kernel gives it back when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Makes the state directory if there is none, and keeps every gateway out of it.
///
/// # Errors
/// If one runs there, or the directory cannot be used.
pub fn claim(dir: &Path) -> Result<Lock, StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| file_error(dir, "cannot be made", error))?;
    Lock::acquire(&Paths::new(dir))
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn acquire(paths: &Paths) -> Result<Self, StoreError> {
        let file_error = |source: std::io::Error| StoreError::File {
            path: paths.lock.clone(),
            what: "the lock file cannot be written",
            remedy: "gateway.state_dir must be a directory that exists, is writable for this user and is not mounted read-only",
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&paths.lock)
            .map_err(file_error)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::InUse { path: paths.dir.clone(), pid });
            }
            Err((_, errno)) => return Err(file_error(errno.into())),
        };
        file.set_len(0).map_err(file_error)?;
        writeln!(file, "{}", std::process::id()).map_err(file_error)?;
        Ok(Self { _file: file })
    }
}
