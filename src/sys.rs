//! What only the system can tell: clocks, the machine's identity, memory and processor time, the service manager.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use nix::unistd::close;
use ring::rand::{SecureRandom, SystemRandom};

pub mod best_time;
pub mod identity;

use crate::time::{Duration, Instant, Now, Wall};

/// Both clocks. Cores get what it reads as [`Now`]; only shells hold one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: std::time::Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    pub fn start() -> Self {
        Self { started: std::time::Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    pub fn now(&self) -> Now {
        let at = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        // A wall clock before 1970 is as wrong as one at 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            at: Instant::from_micros(at),
            wall: Wall::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The system's name for a monotonic instant.
    #[must_use]
    pub fn to_system(&self, at: Instant) -> std::time::Instant {
        // A century from now is as good as never, and cannot overflow.
        const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
        self.started + Duration::from_micros(at.as_micros()).min(FAR)
    }
}

/// A seed for the engine's generator, different in each run.
#[must_use]
pub fn random_seed() -> u64 {
    // The standard library keys its hash maps from the system's random source.
    RandomState::new().build_hasher().finish()
}

/// Microseconds of the clock that systemd compares reloads by.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// Which start of the box this is; empty where the system does not say.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Random octets for keys and salts.
///
/// # Errors
/// If the system has none.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("its random source failed"))?;
    Ok(bytes)
}

/// Resident memory of this process in bytes, where `/proc` is mounted.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    // In kilobytes whatever the page size, unlike `statm`.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Processor time of this process so far, user and system.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// Raises the limit on open files to what the system allows, and returns it.
///
/// # Errors
/// What the system says.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(wide(hard))
}

/// A figure of the C library, whose type has 32 bits on 32-bit ARM and 64 elsewhere.
pub fn wide(figure: impl Into<u64>) -> u64 {
    figure.into()
}

/// Makes the kernel's table of open files large enough for `count` of them. While a process has several threads, each
/// doubling of that table stops whoever opens the file for a grace period of the kernel, 10 ms and more; while it has
/// one, it costs nothing. So call this before the first thread is started.
///
/// # Errors
/// What the system says; then the table grows when it must.
pub fn reserve_open_files(count: u64) -> io::Result<()> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let highest = i32::try_from(count.min(wide(soft)).saturating_sub(1)).unwrap_or(i32::MAX);
    let root = std::fs::File::open("/")?;
    // The number of a duplicate is the first free one from here on.
    let duplicate = fcntl(&root, FcntlArg::F_DUPFD_CLOEXEC(highest))?;
    Ok(close(duplicate)?)
}

/// The service manager's notification socket (sd_notify).
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// The socket that `$NOTIFY_SOCKET` names, if this process was started by a service manager.
    ///
    /// # Errors
    /// If the variable is set and the socket cannot be reached.
    pub fn from_env() -> io::Result<Option<Self>> {
        std::env::var_os("NOTIFY_SOCKET").map(|name| Self::connect(name.as_bytes())).transpose()
    }

    /// Connects to a socket by path, or by abstract name when it begins with `@`.
    ///
    /// # Errors
    /// If there is no such socket.
    pub fn connect(name: &[u8]) -> io::Result<Self> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(name)))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends one state, e.g. `READY=1`.
    ///
    /// # Errors
    /// If the manager is gone or its queue is full.
    pub fn notify(&self, state: &str) -> io::Result<()> {
        self.socket.send(state.as_bytes()).map(|_| ())
    }
}

/// How often the service manager wants to hear `WATCHDOG=1` at the least, if this process is to be watched.
#[must_use]
pub fn watchdog_timeout() -> Option<Duration> {
    let var = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if var("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    var("WATCHDOG_USEC").filter(|micros| *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_and_its_instants_map_to_the_systems() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(second.at >= first.at);
        assert!(first.wall > Wall::from_millis(1_600_000_000_000));
        let later = clock.to_system(first.at + Duration::from_secs(5));
        assert_eq!(later - clock.to_system(first.at), Duration::from_secs(5));
        let _never_overflows = clock.to_system(Instant::from_micros(u64::MAX));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_time().is_some());
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed(), random_seed());
        assert_ne!(random_bytes::<32>().unwrap(), random_bytes().unwrap());
    }

    #[test]
    fn states_reach_the_service_manager_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("moteway-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let cases = [(by_path, path.as_os_str().as_bytes().to_vec()), (by_name, format!("@{name}").into_bytes())];
        for (manager, address) in cases {
            Notifier::connect(&address).unwrap().notify("READY=1").unwrap();
            let mut state = [0; 32];
            let len = manager.recv(&mut state).unwrap();
            assert_eq!(&state[..len], b"READY=1");
        }
    }

    #[test]
    fn the_table_of_open_files_grows_ahead_of_its_use() {
        reserve_open_files(300).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= 300, "{size}");
        reserve_open_files(u64::MAX).unwrap();
    }
}
