//! Debian's mosquitto: the cloud in these tests.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use moteway::mqtt::Connect;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::certs::Certs;
use crate::harness::client::{Client, v5};
use crate::harness::free_port;
use crate::harness::process::Process;

/// A mosquitto that keeps what it has over a stop, with a plain listener and, with certificates, one for TLS.
pub(crate) struct Mosquitto {
    dir: TempDir,
    process: Option<Process>,
    port: u16,
    tls_port: u16,
}

impl Mosquitto {
    pub(crate) fn start() -> Self {
        Self::start_with(None, "")
    }

    /// Clients of the TLS listener must show a certificate.
    pub(crate) fn start_tls(certs: &Certs) -> Self {
        Self::start_with(Some(certs), "")
    }

    /// Starts with these lines more in its configuration. It logs everything, unless they say what to log; the notices
    /// must be among it.
    pub(crate) fn start_with(certs: Option<&Certs>, more: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let (port, tls_port) = (free_port(), free_port());
        let log_types = if more.contains("log_type ") { "" } else { "log_type all" };
        let mut text = format!(
            "user root\nallow_anonymous true\nlog_dest stderr\n{log_types}\nmax_queued_messages 0\n\
             max_inflight_messages 0\npersistence true\npersistence_location {}/\n{more}\nlistener {port} 127.0.0.1\n",
            dir.path().display()
        );
        if let Some(certs) = certs {
            writeln!(
                text,
                "listener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
                certs.ca().display(),
                certs.server_cert().display(),
                certs.server_key().display()
            )
            .unwrap();
        }
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let mut mosquitto = Self { dir, process: None, port, tls_port };
        mosquitto.start_again();
        mosquitto
    }

    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new("mosquitto");
        command.env("PATH", search_path()).arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        let mut process = Process::start("mosquitto", &mut command);
        process.says(" running");
        self.process = Some(process);
        // It says so a moment too soon: a signal now would be forgotten.
        self.client(&v5("probe")).disconnect();
    }

    /// Stops it in order: it saves what it has.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        assert!(status.success(), "mosquitto ended with {status}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port))
    }

    /// What it logged since it was started.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::text).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn client(&self, connect: &Connect<'_>) -> Client {
        Client::connect(self.address(), connect)
    }
}

/// Brokers lie in `/usr/sbin`, which not every user has in its path.
fn search_path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}
