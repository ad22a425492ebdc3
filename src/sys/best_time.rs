//! The best time known. Many boxes have no clock that runs while they are off, and wake up in 1970: by that clock no
//! certificate would be valid yet. So time is the latest of what the system says, of what was seen before, and of when
//! this program was written. It is never used to let an expired certificate pass.

use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Duration;

/// When this source was written, in seconds since 1970: it cannot be earlier than that. A release moves it.
const SOURCE_TIME: u64 = 1_790_000_000;
/// The file in the state directory whose time of modification is the last time seen.
const FILE: &str = "last-time";
/// How often the time seen is stored at the most: flash is written for it.
const STORE_EVERY: Duration = Duration::from_secs(3600);

/// The latest time known. Shared by all that check certificates.
#[derive(Debug)]
pub struct BestTime {
    file: PathBuf,
    /// Seconds; it is not earlier than this.
    floor: AtomicU64,
    /// What the file says, in seconds.
    stored: AtomicU64,
    /// A peer was verified at a time that the system's clock told.
    confirmed: AtomicBool,
}

impl BestTime {
    /// What the state directory knows from before.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let seen = file.metadata().and_then(|found| found.modified()).map_or(0, seconds);
        Self {
            file,
            floor: AtomicU64::new(seen.max(SOURCE_TIME)),
            stored: AtomicU64::new(seen),
            confirmed: AtomicBool::new(false),
        }
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        system().max(self.floor.load(Ordering::Relaxed))
    }

    /// Whether the system's clock is behind what is known: it was not set yet.
    #[must_use]
    pub fn clock_is_behind(&self) -> bool {
        system() < self.floor.load(Ordering::Relaxed)
    }

    /// The certificate of a peer was just found valid. If that was by the system's clock, the time is worth to be
    /// remembered: a clock that jumped decades ahead would have found it expired. True when [`BestTime::store`] is due.
    pub fn confirm(&self) -> bool {
        if self.clock_is_behind() {
            return false;
        }
        self.confirmed.store(true, Ordering::Relaxed);
        self.is_due()
    }

    /// Whether the time that was confirmed has gone on since it was stored.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let since = system().saturating_sub(self.stored.load(Ordering::Relaxed));
        self.confirmed.load(Ordering::Relaxed) && since >= STORE_EVERY.as_secs()
    }

    /// Stores the time, durably; takes as long as the disk does.
    ///
    /// # Errors
    /// What the system says.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    pub fn store(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let file = File::options().create(true).append(true).open(&self.file)?;
        file.set_times(FileTimes::new().set_modified(now))?;
        file.sync_all()?;
        self.stored.store(seconds(now), Ordering::Relaxed);
        self.floor.fetch_max(seconds(now), Ordering::Relaxed);
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
fn system() -> u64 {
    seconds(SystemTime::now())
}

/// A time before 1970 is as wrong as 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(dir: &Path, at: u64) {
        let file = File::create(dir.join(FILE)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    }

    #[test]
    fn time_is_the_latest_of_clock_last_time_and_source() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = BestTime::open(dir.path());
        assert!(fresh.now() >= SOURCE_TIME && fresh.now() >= system() && !fresh.clock_is_behind());
        seen(dir.path(), 5);
        assert!(BestTime::open(dir.path()).now() >= SOURCE_TIME);
        let later = system() + 1000;
        seen(dir.path(), later);
        let box_without_a_clock = BestTime::open(dir.path());
        assert_eq!(box_without_a_clock.now(), later);
        assert!(box_without_a_clock.clock_is_behind());
        assert!(!box_without_a_clock.confirm(), "a time that was guessed is not stored");
    }

    #[test]
    fn a_time_is_stored_once_a_peer_confirmed_it_and_not_again_within_the_hour() {
        let dir = tempfile::tempdir().unwrap();
        let time = BestTime::open(dir.path());
        assert!(!time.is_due(), "nobody confirmed it");
        assert!(time.confirm());
        time.store().unwrap();
        assert!(!time.confirm() && !time.is_due());
        let again = BestTime::open(dir.path());
        assert!(again.stored.load(Ordering::Relaxed) + 100 > system());
        assert!(!again.confirm(), "within the hour");
        seen(dir.path(), system() - 2 * STORE_EVERY.as_secs());
        assert!(BestTime::open(dir.path()).confirm());
        let nowhere = BestTime::open(&dir.path().join("missing"));
        assert!(nowhere.confirm() && nowhere.store().is_err());
    }
}
