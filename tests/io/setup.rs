//! A daemon of one's own, and how to reach it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use moteway::config::{self, Bind, Config, LinkKind, Protocol, UpstreamUrl};
use moteway::daemon::{self, Running};
use socket2::{Domain, Socket, Type};

use crate::log;

/// How long to wait for what should come at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Any port of this machine.
pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Gateways so far.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A daemon's configuration in a directory of its own.
pub struct Setup {
    pub config: Config,
    dir: tempfile::TempDir,
}

impl Setup {
    /// Without listeners, links and upstreams.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { listener: Vec::new(), ..Config::default() };
        (config.admin.socket, config.admin.http) = (None, None);
        // What comes with a gateway's own mark has gone round, so no two have one name.
        config.gateway.name = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        config.gateway.state_dir = dir.path().join("state");
        config.store.commit_interval = Duration::from_millis(5);
        config.store.durability = config::Durability::None;
        Self { config, dir }
    }

    pub fn with_listener(mut self, tls: Option<config::ServerTls>) -> Self {
        let name = format!("listener-{}", self.config.listener.len());
        self.config.listener.push(config::Listener { name, bind: any_port().into(), tls, ..Default::default() });
        self
    }

    pub fn with_websocket(mut self, tls: Option<config::ServerTls>) -> Self {
        self = self.with_listener(tls);
        self.config.listener.last_mut().unwrap().protocol = Protocol::Websocket;
        self
    }

    /// With a Unix socket in the directory of this set-up, whose path is returned too.
    pub fn with_socket(mut self) -> (Self, PathBuf) {
        let path = self.dir().join("mqtt.sock");
        let name = format!("listener-{}", self.config.listener.len());
        let bind = Bind::Unix(path.clone());
        self.config.listener.push(config::Listener { name, bind, ..Default::default() });
        (self, path)
    }

    /// A directory of its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn with_link(mut self, kind: LinkKind) -> Self {
        let name = format!("link-{}", self.config.link.len());
        self.config.link.push(config::Link { name, kind, mtu: 1024, known_only: false });
        self
    }

    /// With an upstream that gets everything below `up/`.
    pub fn with_upstream(mut self, name: &str, host: &str, port: u16, tls: Option<config::ClientTls>) -> Self {
        self.config.upstream.push(config::Upstream {
            name: name.to_owned(),
            url: vec![UpstreamUrl { tls: tls.is_some(), host: host.to_owned(), port, websocket: None }],
            tls,
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_millis(200),
            rule: vec![config::Rule { name: "up".to_owned(), filter: "up/#".to_owned(), ..Default::default() }],
            ..Default::default()
        });
        self
    }

    pub fn start(&self) -> Running {
        log::capture();
        daemon::spawn(self.config.clone()).unwrap()
    }
}

/// A daemon with one plain listener.
pub fn start() -> (Setup, Running) {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    (setup, daemon)
}

pub fn tcp(daemon: &Running, listener: usize) -> TcpStream {
    patient(TcpStream::connect(daemon.ready.listeners[listener].1).unwrap())
}

/// A connection whose kernel takes little for a client that does not read.
pub fn tcp_with_little_room(daemon: &Running) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&daemon.ready.listeners[0].1.into()).unwrap();
    patient(socket.into())
}

pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
