//! rumqttd: an upstream that people have, and that keeps nothing over a restart. `tests/run` installs it.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use moteway::mqtt::{Connect, Version};
use tempfile::TempDir;

use crate::harness::client::{Client, v5};
use crate::harness::process::Process;
use crate::harness::{free_port, peers, until};

/// A broker with a listener for each version.
pub(crate) struct Rumqttd {
    dir: TempDir,
    process: Option<Process>,
    /// For 3.1.1 and for 5.0.
    ports: [u16; 2],
}

impl Rumqttd {
    pub(crate) fn start() -> Self {
        let (dir, ports) = (TempDir::new().unwrap(), [free_port(), free_port()]);
        let mut text = "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n\
                        max_segment_size = 104857600\nmax_segment_count = 10\n"
            .to_owned();
        for (name, port) in ["v4", "v5"].iter().zip(ports) {
            text.push_str(&format!(
                "[{name}.1]\nname = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n\
                 [{name}.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
                 max_inflight_count = 100\ndynamic_filters = true\n"
            ));
        }
        std::fs::write(dir.path().join("rumqttd.toml"), text).unwrap();
        let mut broker = Self { dir, process: None, ports };
        broker.start_again();
        broker
    }

    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new(peers::rumqttd());
        command.arg(self.dir.path().join("rumqttd.toml"));
        self.process = Some(Process::start("rumqttd", &mut command));
        for version in [Version::V311, Version::V5] {
            until("rumqttd listens", || TcpStream::connect(self.address(version)).is_ok());
        }
    }

    /// Ends it, and all it had.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    pub(crate) fn address(&self, version: Version) -> SocketAddr {
        let port = self.ports[usize::from(version == Version::V5)];
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Somebody who leaves no session, and has a keep-alive: without one, nobody is let in.
    #[track_caller]
    pub(crate) fn client(&self, version: Version, client_id: &str) -> Client {
        Client::connect(self.address(version), &Connect { version, keep_alive: 600, ..v5(client_id) })
    }
}
