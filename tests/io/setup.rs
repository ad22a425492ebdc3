//! A daemon of one's own, and how to talk to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moteway::config::{self, Config, LinkKind, UpstreamUrl};
use moteway::daemon::{self, Running};

/// How long to wait for what should come at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon's configuration in a directory of its own.
pub struct Setup {
    pub config: Config,
    _dir: tempfile::TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = base_config();
        config.gateway.state_dir = dir.path().join("state");
        Self { config, _dir: dir }
    }

    pub fn with_listener(mut self, tls: Option<config::ServerTls>) -> Self {
        let name = format!("listener-{}", self.config.listener.len());
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.config.listener.push(config::Listener {
            name,
            bind,
            tls,
            allow_anonymous: true,
            max_connections: 100,
        });
        self
    }

    pub fn with_link(mut self, kind: LinkKind) -> Self {
        let name = format!("link-{}", self.config.link.len());
        self.config.link.push(config::Link { name, kind, mtu: 1024 });
        self
    }

    pub fn with_upstream(mut self, host: &str, port: u16, tls: Option<config::ClientTls>) -> Self {
        self.config.upstream.push(upstream(UpstreamUrl { tls: tls.is_some(), host: host.to_owned(), port }, tls));
        self
    }

    pub fn start(&self) -> Running {
        daemon::spawn(self.config.clone()).unwrap()
    }
}

pub fn connect(daemon: &Running, listener: usize) -> TcpStream {
    let stream = TcpStream::connect(daemon.ready.listeners[listener].1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

pub fn echo(stream: &mut (impl Read + Write), bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// The far end of a pseudo-terminal whose near end has a stable name.
pub struct Radio {
    far: std::fs::File,
    /// Keeps the near end's device while the daemon has not opened it yet.
    _near: std::os::fd::OwnedFd,
}

impl Radio {
    pub fn plug(name: &Path) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut raw = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut raw);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        let device = nix::unistd::ttyname(pty.slave.as_fd()).unwrap();
        std::os::unix::fs::symlink(device, name).unwrap();
        Self { far: pty.master.into(), _near: pty.slave }
    }

    pub fn echo(&mut self, bytes: &[u8]) {
        echo(&mut self.far, bytes);
    }
}

fn base_config() -> Config {
    let second = Duration::from_secs(1);
    Config {
        gateway: config::Gateway {
            name: "test".to_owned(),
            state_dir: PathBuf::new(),
            status_topic: String::new(),
        },
        log: config::Log { level: config::LogLevel::Debug, format: config::LogFormat::Plain },
        store: config::Store {
            commit_interval: Duration::from_millis(5),
            commit_messages: 1000,
            commit_bytes: 1 << 20,
            max_pending_bytes: 1 << 24,
            window_bytes: 1 << 20,
            max_bytes: 1 << 30,
            durability: config::Durability::None,
        },
        broker: config::Broker {
            max_connections: 1000,
            max_packet_bytes: 1 << 20,
            max_inflight_messages: 20,
            receive_maximum: 100,
            max_queued_messages: 1000,
            max_queued_bytes: 1 << 20,
            max_sessions: 1000,
            max_subscriptions_per_client: 100,
            max_topic_levels: 32,
            max_topic_bytes: 1000,
            topic_alias_maximum: 10,
            max_retained_messages: 100,
            max_retained_bytes: 1 << 20,
            connect_timeout: 10 * second,
            max_keepalive: Duration::ZERO,
            max_session_expiry: 3600 * second,
            max_outbox_bytes: 1 << 20,
        },
        sn: config::Sn {
            gateway_id: 1,
            max_clients: 100,
            max_topics_per_client: 100,
            retry_interval: 10 * second,
            retries: 3,
            idle_timeout: 3600 * second,
            max_sleep_messages: 100,
            max_sleep_bytes: 1 << 16,
            predefined: Default::default(),
            allow_qos_minus_one: true,
        },
        listener: Vec::new(),
        link: Vec::new(),
        upstream: Vec::new(),
    }
}

fn upstream(url: UpstreamUrl, tls: Option<config::ClientTls>) -> config::Upstream {
    let second = Duration::from_secs(1);
    config::Upstream {
        name: "cloud".to_owned(),
        url: vec![url],
        client_id: "test".to_owned(),
        version: config::UpstreamVersion::V5,
        username: None,
        password_file: None,
        keepalive: 60 * second,
        clean_start: false,
        connect_timeout: 10 * second,
        max_inflight_messages: 100,
        stuck_timeout: 60 * second,
        reconnect_min: second,
        reconnect_max: 60 * second,
        tls,
        status_topic: String::new(),
        rule: Vec::new(),
    }
}
