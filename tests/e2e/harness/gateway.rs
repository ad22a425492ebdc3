//! The program under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use moteway::mqtt::Connect;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::client::Client;
use crate::harness::free_port;
use crate::harness::process::Process;

/// A gateway with a state directory of its own and one plain listener.
pub(crate) struct Gateway {
    dir: TempDir,
    config: PathBuf,
    process: Option<Process>,
    port: u16,
    http: u16,
    /// For its process.
    env: Vec<(&'static str, PathBuf)>,
}

/// The binary: this build's, or another one that is to be measured.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("MOTEWAY_E2E_BIN").map_or_else(|| env!("CARGO_BIN_EXE_moteway").into(), PathBuf::from)
}

impl Gateway {
    /// Starts with these tables added to its configuration, and waits until it is ready.
    pub(crate) fn start(tables: &str) -> Self {
        Self::start_named("box", tables)
    }

    /// Starts under this name.
    pub(crate) fn start_named(name: &str, tables: &str) -> Self {
        let mut gateway = Self::prepare(name, tables);
        gateway.start_again();
        gateway
    }

    /// Writes the configuration, but does not start.
    pub(crate) fn prepare(name: &str, tables: &str) -> Self {
        Self::prepare_admin(name, "", tables)
    }

    /// As [`Self::prepare`], with more keys of `[admin]`.
    pub(crate) fn prepare_admin(name: &str, admin: &str, tables: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let state = dir.path().join("state");
        let config = dir.path().join("moteway.toml");
        let (socket, http) = (dir.path().join("control.sock"), free_port());
        let text = format!(
            "[gateway]\nname = {name:?}\nstate_dir = {state:?}\n[log]\nformat = \"plain\"\n\
             [admin]\nsocket = {socket:?}\nhttp = \"127.0.0.1:{http}\"\n{admin}\
             [[listener]]\nname = \"local\"\nbind = \"127.0.0.1:{port}\"\n{tables}\n"
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, config, process: None, port, http, env: Vec::new() }
    }

    /// Adds tables to its configuration, for the next start.
    pub(crate) fn add(&self, tables: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, format!("{text}{tables}\n")).unwrap();
    }

    /// Sets a variable of its environment, for the next start.
    #[cfg(feature = "pkcs11")]
    pub(crate) fn set_env(&mut self, name: &'static str, value: PathBuf) {
        self.env.push((name, value));
    }

    /// Starts on the same state and waits until it is ready. Returns how long that took.
    #[track_caller]
    pub(crate) fn start_again(&mut self) -> Duration {
        assert!(self.process.is_none(), "it runs already");
        let begin = Instant::now();
        let mut process = Process::start("moteway", self.command().arg("--config").arg(&self.config));
        process.line("ready", |line| line.contains(" ready ").then_some(()));
        self.process = Some(process);
        begin.elapsed()
    }

    /// The `run` command without its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.arg("run").env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").env("RUST_BACKTRACE", "1");
        command
    }

    /// A power cut, as far as a process can have one.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        assert!(process.is_running(), "it had ended by itself");
        process.kill();
    }

    /// A power cut and a start. Returns how long the start took.
    pub(crate) fn kill_and_restart(&mut self) -> Duration {
        self.kill();
        self.start_again()
    }

    /// Stops it as a service manager does, and returns what it said and how it ended.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        (status, process.text())
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process().is_running()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where its status page is.
    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http))
    }

    /// Its control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Runs a command that talks to it.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).arg("--config").arg(&self.config).output().unwrap()
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss(&mut self) -> u64 {
        let pid = self.process().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// A client that is let in.
    #[track_caller]
    pub(crate) fn client(&self, connect: &Connect<'_>) -> Client {
        Client::connect(self.address(), connect)
    }
}
