//! A damaged file is set aside and everything that can be read is carried over into a new one.
//!
//! Order matters, because this too may be cut short: the new file is completed under another name, then the old one
//! is moved away, then the new one takes its place. [`finish_interrupted`] ends what a crash left half done.

use std::fs;
use std::path::Path;

use crate::store::database::{file_error, remove_if_there, store_error, sync_dir};
use crate::store::options::{Options, Paths, StoreError};
use crate::store::rebuild::rebuild;
use crate::store::wreck::Wreck;

/// Damaged files that are kept; the oldest is removed for a further one.
const KEEP_DAMAGED: u32 = 3;
/// Ends a salvage that a crash interrupted after its result was complete.
pub(super) fn finish_interrupted(paths: &Paths) -> Result<(), StoreError> {
    if paths.db.exists() || !paths.salvage.exists() {
        return remove_salvage(paths);
    }
    put_in_place(paths, last_damaged(paths).max(1))
}

/// Replaces the damaged file by what can be read of it. Returns what was kept and lost, in words.
pub(super) fn salvage(options: &Options, paths: &Paths, reason: &str) -> Result<String, StoreError> {
    remove_salvage(paths)?;
    let wreck = Wreck::open(paths).map_err(|error| file_error(&paths.db, "cannot be read", error))?;
    let kept = rebuild(options, paths, &wreck).map_err(|fault| store_error(paths, fault))?;
    let n = set_aside(paths)?;
    put_in_place(paths, n)?;
    Ok(format!("the store file was damaged ({reason}) and set aside as {}; {kept}", paths.damaged(n).display()))
}

fn remove_salvage(paths: &Paths) -> Result<(), StoreError> {
    remove_if_there(&paths.salvage)?;
    let mut wal = paths.salvage.clone().into_os_string();
    wal.push("-wal");
    remove_if_there(Path::new(&wal))
}

/// Moves the damaged file away, under the next free number.
fn set_aside(paths: &Paths) -> Result<u32, StoreError> {
    let n = last_damaged(paths) + 1;
    if n > KEEP_DAMAGED {
        remove_if_there(&paths.damaged(n - KEEP_DAMAGED))?;
        remove_if_there(&paths.damaged_wal(n - KEEP_DAMAGED))?;
    }
    rename(&paths.db, &paths.damaged(n))?;
    Ok(n)
}

/// Moves the log after its file, and the new file to its place.
fn put_in_place(paths: &Paths, n: u32) -> Result<(), StoreError> {
    if paths.wal.exists() {
        rename(&paths.wal, &paths.damaged_wal(n))?;
    }
    rename(&paths.salvage, &paths.db)?;
    sync_dir(&paths.dir).map_err(|error| file_error(&paths.dir, "cannot be synced", error))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|error| file_error(from, "cannot be renamed", error))
}

/// The largest number of a file that was set aside, or 0.
fn last_damaged(paths: &Paths) -> u32 {
    let Ok(entries) = fs::read_dir(&paths.dir) else { return 0 };
    let number = |name: &str| name.strip_prefix("moteway.db.damaged-")?.parse().ok();
    entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).max().unwrap_or(0)
}
