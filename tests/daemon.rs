//! The built binary as a service manager sees it: readiness, signals, the lock, and why it does not start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]
#![allow(clippy::disallowed_methods, reason = "real time passes here")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long to wait for what should come soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration with its state directory.
struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// With one listener on a port that the system chooses.
    fn new() -> Self {
        Self::with("[[listener]]\nname = \"local\"\nbind = \"127.0.0.1:0\"\nallow_anonymous = true\n")
    }

    fn with(rest: &str) -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap() };
        setup.write(&setup.path("state"), rest);
        setup
    }

    fn write(&self, state_dir: &std::path::Path, rest: &str) {
        let state_dir = state_dir.display();
        let text = format!(
            "[gateway]\nname = \"box-7\"\nstate_dir = \"{state_dir}\"\n[admin]\nsocket = \"\"\nhttp = \"\"\n{rest}"
        );
        std::fs::write(self.path("moteway.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    fn start_with(&self, env: &[(&str, &OsStr)]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moteway"));
        command.arg("run").arg("--config").arg(self.path("moteway.toml"));
        for name in ["JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
            command.env_remove(name);
        }
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tell, lines) = channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || log.lines().map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        Daemon { child, lines }
    }
}

/// A running process. Killed when it is dropped, if it still is.
struct Daemon {
    child: Child,
    /// What it logs.
    lines: Receiver<String>,
}

impl Daemon {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for a line of the log with these words.
    fn says(&self, words: &str) -> String {
        let asked_at = Instant::now();
        loop {
            let line = self.lines.recv_timeout(PATIENCE.saturating_sub(asked_at.elapsed()));
            let line = line.unwrap_or_else(|_| panic!("it never says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits until it is ready and connects an MQTT 3.1.1 client.
    fn client(&self) -> TcpStream {
        let line = self.says(" ready ");
        let (_, address) = line.split_once("local=mqtt://").unwrap();
        let mut client = TcpStream::connect(address.trim_end_matches('"')).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c").unwrap();
        assert_eq!(read(&mut client), [0x20, 2, 0, 0], "CONNACK");
        client
    }

    /// Waits for its end: the exit status, which is absent after a kill, and what it logged and was not looked at yet.
    fn end(mut self) -> (Option<i32>, String) {
        let asked_at = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(asked_at.elapsed() < PATIENCE, "it does not end");
            std::thread::park_timeout(Duration::from_millis(2));
        };
        (status.code(), self.lines.iter().map(|line| line + "\n").collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn ping(client: &mut TcpStream) {
    client.write_all(&[0xC0, 0]).unwrap();
    assert_eq!(read(client), [0xD0, 0], "PINGRESP");
}

#[test]
fn sigterm_and_sigint_end_it_in_order_with_status_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let setup = Setup::new();
        let daemon = setup.start();
        let mut client = daemon.client();
        daemon.signal(signal);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "its clients see the end");
        drop(client);
        let (status, log) = daemon.end();
        assert_eq!(status, Some(0), "{log}");
        assert!(log.contains("INFO stopping") && log.contains("INFO stopped"), "{log}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn sighup_does_not_end_it_and_it_says_what_it_does() {
    let setup = Setup::new();
    let daemon = setup.start();
    let mut client = daemon.client();
    for _ in 0..2 {
        daemon.signal(Signal::SIGHUP);
        daemon.says("configuration reloaded: nothing changed but what files hold");
        ping(&mut client);
    }
}

#[test]
fn a_second_one_on_the_same_state_is_refused_until_the_first_is_gone_even_by_a_kill() {
    let setup = Setup::new();
    let first = setup.start();
    let mut client = first.client();
    let (status, log) = setup.start().end();
    assert_eq!(status, Some(1), "{log}");
    let words = format!("another instance, process {}, uses this state directory", first.pid());
    assert!(log.contains(&words) && log.contains("state_dir"), "{log}");
    ping(&mut client);
    first.signal(Signal::SIGKILL);
    assert_eq!(first.end().0, None);
    ping(&mut setup.start().client());
}

#[test]
fn the_service_manager_hears_when_it_is_ready_that_it_lives_and_when_it_stops() {
    let setup = Setup::new();
    let path = setup.path("notify");
    let by_path = UnixDatagram::bind(&path).unwrap();
    let name = format!("moteway-daemon-test-{}", std::process::id());
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (manager, address) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let hear = || {
            let mut state = [0; 64];
            let len = manager.recv(&mut state).unwrap();
            String::from_utf8(state[..len].to_vec()).unwrap()
        };
        let watchdog = OsStr::new("100000");
        let started = Instant::now();
        let daemon = setup.start_with(&[("NOTIFY_SOCKET", &address), ("WATCHDOG_USEC", watchdog)]);
        assert_eq!(hear(), "READY=1");
        assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1"; 3]);
        assert!(started.elapsed() >= Duration::from_millis(150), "three times half of the limit");
        ping(&mut daemon.client());
        daemon.signal(Signal::SIGTERM);
        while hear() != "STOPPING=1" {}
        assert_eq!(daemon.end().0, Some(0));
    }
}

#[test]
fn a_service_manager_that_cannot_be_reached_is_no_reason_to_stay_away() {
    let setup = Setup::new();
    let daemon = setup.start_with(&[("NOTIFY_SOCKET", setup.path("nobody").as_os_str())]);
    daemon.says("the service manager cannot be reached");
    ping(&mut daemon.client());
}

#[test]
fn a_bad_certificate_is_a_bad_configuration_and_named() {
    let setup = Setup::new();
    let (missing, wrong) = (setup.path("missing.pem"), setup.path("wrong.pem"));
    std::fs::write(&wrong, "not a certificate").unwrap();
    for (file, words) in [(&missing, "cannot be read: No such file"), (&wrong, "holds no certificate")] {
        let file = file.display();
        setup.write(
            &setup.path("state"),
            &format!("[[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\nallow_anonymous = true\n[listener.tls]\ncert = \"{file}\"\nkey = \"{file}\"\n"),
        );
        let (status, log) = setup.start().end();
        assert_eq!(status, Some(78), "{log}");
        assert!(log.contains(&format!("TLS of \"secure\": {file}: {words}")), "{log}");
    }
}

#[test]
fn a_bad_configuration_is_shown_with_its_line() {
    let setup = Setup::with("[broker]\nmax_conections = 5\n");
    let (status, log) = setup.start().end();
    assert_eq!(status, Some(78), "{log}");
    assert!(log.contains("moteway.toml:8:1") && log.contains("did you mean `max_connections`?"), "{log}");
}

#[test]
fn a_busy_port_is_told_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup =
        Setup::with(&format!("[[listener]]\nname = \"local\"\nbind = \"{address}\"\nallow_anonymous = true\n"));
    let (status, log) = setup.start().end();
    // It may be free soon: worth another start.
    assert_eq!(status, Some(1), "{log}");
    let words = format!("listener \"local\" cannot use {address}: Address already in use");
    let remedy = format!("`ss -lnp sport = :{}` tells which", address.port());
    assert!(log.contains(&words) && log.contains(&remedy), "{log}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_told_with_a_remedy() {
    let setup = Setup::new();
    // What also stops a test that runs as root: a file in the way of the directory, and a directory in that of a file.
    std::fs::write(setup.path("file"), "").unwrap();
    std::fs::create_dir_all(setup.path("state/moteway.lock")).unwrap();
    for (state_dir, named, reason) in [
        (setup.path("file/state"), setup.path("file/state"), "Not a directory"),
        (setup.path("state"), setup.path("state/moteway.lock"), "Is a directory"),
    ] {
        setup.write(&state_dir, "");
        let (status, log) = setup.start().end();
        assert_eq!(status, Some(1), "{log}");
        assert!(log.contains(named.to_str().unwrap()) && log.contains(reason), "{log}");
        assert!(log.contains("gateway.state_dir must be a directory"), "{log}");
    }
}
