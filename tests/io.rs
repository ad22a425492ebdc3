//! The shells around the engine: sockets, serial ports, timers, TLS, dialling, start and stop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moteway::config::{self, Config, LinkKind, UpstreamUrl};
use moteway::daemon::{self, DaemonError, Running, Service};
use moteway::sys::Notifier;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon's configuration in a directory of its own.
struct Setup {
    config: Config,
    _dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = base_config();
        config.gateway.state_dir = dir.path().join("state");
        Self { config, _dir: dir }
    }

    fn with_listener(mut self, tls: Option<config::ServerTls>) -> Self {
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

    fn with_link(mut self, kind: LinkKind) -> Self {
        let name = format!("link-{}", self.config.link.len());
        self.config.link.push(config::Link { name, kind, mtu: 1024 });
        self
    }

    fn with_upstream(mut self, host: &str, port: u16, tls: Option<config::ClientTls>) -> Self {
        self.config.upstream.push(upstream(UpstreamUrl { tls: tls.is_some(), host: host.to_owned(), port }, tls));
        self
    }

    fn start(&self) -> Running {
        daemon::spawn(self.config.clone()).unwrap()
    }
}

fn connect(daemon: &Running, listener: usize) -> TcpStream {
    let stream = TcpStream::connect(daemon.ready.listeners[listener].1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn echo(stream: &mut (impl Read + Write), bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn thousands_of_small_writes_come_back_in_order() {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    let mut writer = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..5_000u32).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || copy.chunks(7).for_each(|piece| writer.write_all(piece).unwrap()));
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == sent, "bytes were lost or came out of order");
}

#[test]
fn a_peer_that_does_not_read_stops_being_read_and_blocks_nobody() {
    let mut setup = Setup::new().with_listener(None);
    setup.config.broker.max_outbox_bytes = 100_000;
    let daemon = setup.start();
    let mut slow = connect(&daemon, 0);
    slow.set_nonblocking(true).unwrap();
    let piece = [7; 10_000];
    let mut sent = 0;
    // Full when the kernel takes nothing for a while: the daemon has stopped reading.
    let mut full_since = Instant::now();
    while full_since.elapsed() < Duration::from_millis(300) {
        match slow.write(&piece) {
            Ok(count) => {
                sent += count;
                full_since = Instant::now();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent < 200_000_000, "the daemon takes without end");
    }
    let mut other = connect(&daemon, 0);
    echo(&mut other, b"I am served meanwhile");

    slow.set_nonblocking(false).unwrap();
    let mut back = vec![0; sent];
    slow.read_exact(&mut back).unwrap();
    assert!(back.iter().all(|byte| *byte == 7));
    echo(&mut slow, b"and everything goes on");
}

#[test]
fn a_busy_peer_leaves_room_for_others() {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    let busy = connect(&daemon, 0);
    let (mut to, mut from) = (busy.try_clone().unwrap(), busy.try_clone().unwrap());
    let writing = std::thread::spawn(move || while to.write_all(&[1; 65_536]).is_ok() {});
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while from.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let mut quiet = connect(&daemon, 0);
    for i in 0..200 {
        echo(&mut quiet, format!("ping {i}").as_bytes());
    }
    busy.shutdown(std::net::Shutdown::Both).unwrap();
    writing.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn the_last_bytes_of_a_closed_connection_arrive_even_if_it_had_more_to_say() {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    echo(&mut stream, b"hello");
    stream.write_all(b"!close\n").unwrap();
    let mut rest = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for _ in 0..100 {
            if rest.write_all(&[0; 100]).is_err() {
                break;
            }
        }
    });
    let mut last = Vec::new();
    stream.read_to_end(&mut last).unwrap();
    assert_eq!(last, b"bye\n");
    writing.join().unwrap();
}

#[test]
fn the_engines_deadlines_are_kept_and_not_before_their_time() {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    for _ in 0..2 {
        let asked_at = Instant::now();
        stream.write_all(b"!wait\n").unwrap();
        assert_eq!(read_line(&mut stream), "woke");
        assert!(asked_at.elapsed() >= Duration::from_millis(50));
    }
}

#[test]
fn a_full_listener_closes_who_comes_too_late_and_takes_others_again() {
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].max_connections = 2;
    let daemon = setup.start();
    let mut first = connect(&daemon, 0);
    let mut second = connect(&daemon, 0);
    echo(&mut first, b"1");
    echo(&mut second, b"2");
    let refused = connect(&daemon, 0).read(&mut [0]);
    assert!(matches!(&refused, Ok(0)), "{refused:?}");
    drop(first);
    wait_for("a free place", || {
        let mut again = connect(&daemon, 0);
        again.write_all(b"3").is_ok() && again.read(&mut [0]).is_ok_and(|count| count == 1)
    });
}

#[test]
fn datagrams_come_back_to_who_sent_them() {
    let setup = Setup::new().with_link(LinkKind::Udp { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) });
    let daemon = setup.start();
    let to = daemon.ready.links[0].1;
    let sockets: Vec<_> = (0..10).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for round in 0..50 {
        for (i, socket) in sockets.iter().enumerate() {
            socket.send_to(format!("{i} {round}").as_bytes(), to).unwrap();
        }
        for (i, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = [0; 64];
            let (count, from) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..count], from), (format!("{i} {round}").as_bytes(), to));
        }
    }
}

#[test]
fn a_serial_port_echoes_and_is_opened_again_after_it_vanished() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("radio");
    let kind = |rtscts| LinkKind::Serial {
        device: device.clone(),
        baud: 115_200,
        framing: config::Framing::Length,
        rtscts,
    };
    let setup = Setup::new().with_listener(None).with_link(kind(false));
    let daemon = setup.start();
    let mut observer = connect(&daemon, 0);
    echo(&mut observer, b"here");
    for _ in 0..2 {
        let mut radio = Radio::plug(&device);
        assert_eq!(read_line(&mut observer), "serial opened");
        for size in [1, 100, 3_000] {
            radio.echo(&vec![0xa5; size]);
        }
        drop(radio);
        std::fs::remove_file(&device).unwrap();
        let closed = read_line(&mut observer);
        assert!(closed.starts_with("serial closed: "), "{closed}");
        // What is missing now is another reason than the hang-up, so it is told as well.
        let missing = read_line(&mut observer);
        assert!(missing.starts_with("serial closed: No such file"), "{missing}");
    }
}

/// The far end of a pseudo-terminal whose near end has a stable name.
struct Radio {
    far: std::fs::File,
    /// Keeps the near end's device while the daemon has not opened it yet.
    _near: std::os::fd::OwnedFd,
}

impl Radio {
    fn plug(name: &Path) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut raw = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut raw);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        let device = nix::unistd::ttyname(pty.slave.as_fd()).unwrap();
        std::os::unix::fs::symlink(device, name).unwrap();
        Self { far: pty.master.into(), _near: pty.slave }
    }

    fn echo(&mut self, bytes: &[u8]) {
        echo(&mut self.far, bytes);
    }
}

#[test]
fn a_dial_to_a_closed_port_fails_with_words() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let setup = Setup::new().with_listener(None).with_upstream("127.0.0.1", closed.port(), None).with_upstream(
        "no-such-host.invalid",
        1883,
        None,
    );
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    stream.write_all(b"!dial 0\n").unwrap();
    let refused = read_line(&mut stream);
    assert!(refused.starts_with(&format!("dial failed: {closed}: Connection refused")), "{refused}");
    stream.write_all(b"!dial 1\n").unwrap();
    let unknown = read_line(&mut stream);
    assert!(unknown.starts_with("dial failed: the name no-such-host.invalid"), "{unknown}");
}

#[test]
fn a_dialled_upstream_is_a_connection_like_any_other() {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = upstream.local_addr().unwrap().port();
    let setup = Setup::new().with_listener(None).with_upstream("localhost", port, None);
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    stream.write_all(b"!dial 0\n").unwrap();
    let (mut accepted, _) = upstream.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_line(&mut stream), "dialed");
    assert_eq!(read_line(&mut accepted), "dialed");
    echo(&mut accepted, b"from the upstream");
}

#[test]
fn a_newer_dial_supersedes_one_that_hangs() {
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = upstream.local_addr().unwrap().port();
    let certificates = Certificates::new();
    let tls = config::ClientTls { ca: Some(certificates.ca.clone()), cert: None, key: None, server_name: None };
    let setup = Setup::new().with_listener(None).with_upstream("127.0.0.1", port, Some(tls));
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    // The handshake of the first is never answered.
    stream.write_all(b"!dial 0\n").unwrap();
    let (mut first, _) = upstream.accept().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    first.read_exact(&mut [0; 5]).unwrap();
    stream.write_all(b"!dial 0\n").unwrap();
    let (_second, _) = upstream.accept().unwrap();
    let mut rest = Vec::new();
    // End of stream or reset, but no time-out.
    match first.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn tls_echoes_and_asks_for_a_client_certificate() {
    let certificates = Certificates::new();
    let stranger = Certificates::new();
    let setup = Setup::new().with_listener(Some(certificates.server(true))).with_listener(None);
    let daemon = setup.start();

    let mut stream = certificates.connect(&daemon, Some(&certificates)).unwrap();
    echo(&mut stream, b"hello over TLS");
    let long: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut back = vec![0; long.len()];
    let mut at = 0;
    for piece in long.chunks(50_000) {
        stream.write_all(piece).unwrap();
        stream.read_exact(&mut back[at..at + piece.len()]).unwrap();
        at += piece.len();
    }
    assert!(back == long, "bytes were lost or came out of order");

    let anonymous = certificates.connect(&daemon, None).unwrap_err();
    assert!(anonymous.contains("CertificateRequired"), "{anonymous}");
    let unknown = certificates.connect(&daemon, Some(&stranger)).unwrap_err();
    assert!(unknown.contains("UnknownCA"), "{unknown}");
    // None of that disturbs anybody.
    echo(&mut stream, b"still here");
    echo(&mut connect(&daemon, 1), b"and in the clear");
}

#[test]
fn a_silent_peer_does_not_hold_up_tls_handshakes_and_is_sent_away_in_time() {
    let certificates = Certificates::new();
    let mut setup = Setup::new().with_listener(Some(certificates.server(false)));
    setup.config.broker.connect_timeout = Duration::from_millis(500);
    let daemon = setup.start();
    let mut silent = connect(&daemon, 0);
    echo(&mut certificates.connect(&daemon, None).unwrap(), b"served");
    let end = silent.read(&mut [0]);
    assert!(matches!(&end, Ok(0)), "{end:?}");
}

#[test]
fn an_upstream_that_a_stranger_signed_is_refused_with_words() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let peer = Setup::new().with_listener(Some(theirs.server(false))).start();
    let port = peer.ready.listeners[0].1.port();
    let trusting = |certificates: &Certificates| config::ClientTls {
        ca: Some(certificates.ca.clone()),
        cert: None,
        key: None,
        server_name: None,
    };
    let setup = Setup::new()
        .with_listener(None)
        .with_upstream("localhost", port, Some(trusting(&ours)))
        .with_upstream("localhost", port, Some(trusting(&theirs)))
        .with_upstream("127.0.0.1", port, Some(trusting(&theirs)));
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    for (dial, answer) in [
        ("!dial 0\n", "dial failed: TLS with localhost: no CA that we trust signed its certificate"),
        ("!dial 1\n", "dialed"),
        ("!dial 2\n", "dial failed: TLS with 127.0.0.1: its certificate is for another name"),
    ] {
        stream.write_all(dial.as_bytes()).unwrap();
        let line = read_line(&mut stream);
        assert!(line.starts_with(answer), "{line}");
    }
}

#[test]
fn a_taken_port_is_told_with_a_remedy() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].bind = taken.local_addr().unwrap();
    let error = daemon::spawn(setup.config.clone()).unwrap_err();
    assert!(matches!(error, DaemonError::Bind { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("listener-0") && words.contains("ss -lnp"), "{words}");
}

#[test]
fn a_daemon_that_is_stopped_tells_its_clients_and_leaves_no_thread() {
    let setup = Setup::new()
        .with_listener(None)
        .with_link(LinkKind::Udp { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) })
        .with_upstream("localhost", 1, None);
    let daemon = setup.start();
    let address = daemon.ready.listeners[0].1;
    let mut stream = connect(&daemon, 0);
    stream.write_all(b"!dial 0\n").unwrap();
    assert!(read_line(&mut stream).starts_with("dial failed"));
    let stopping = Instant::now();
    let end = std::thread::spawn(move || stream.read(&mut [0]).unwrap());
    daemon.stop().unwrap();
    assert_eq!(end.join().unwrap(), 0);
    assert!(stopping.elapsed() < Duration::from_secs(1), "nothing was left to wait for");
    assert!(TcpStream::connect(address).is_err());
    wait_for("the end of all threads", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        !names.into_iter().any(|name| name.starts_with("moteway") || name.starts_with("store"))
    });
}

#[test]
fn the_service_manager_hears_when_it_is_ready_that_it_lives_and_when_it_stops() {
    let setup = Setup::new().with_listener(None);
    let socket = setup.config.gateway.state_dir.with_file_name("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut state = [0; 64];
        let count = manager.recv(&mut state).unwrap();
        String::from_utf8(state[..count].to_vec()).unwrap()
    };
    let service = Service {
        notifier: Some(Notifier::connect(socket.as_os_str().as_bytes()).unwrap()),
        watchdog: Some(Duration::from_millis(40)),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = setup.config.clone();
    let daemon = std::thread::spawn(move || daemon::run(config, &service, async { drop(stopped.await) }, |_| {}));
    assert_eq!(hear(), "READY=1");
    let ready_at = Instant::now();
    assert_eq!([hear(), hear(), hear()], ["WATCHDOG=1"; 3]);
    assert!(ready_at.elapsed() >= Duration::from_millis(50), "half of the limit lies between two signs of life");
    stop.send(()).unwrap();
    wait_for("the farewell", || hear() == "STOPPING=1");
    daemon.join().unwrap().unwrap();
}

#[test]
fn an_ipv6_wildcard_serves_ipv4_as_well() {
    if !Path::new("/proc/net/if_inet6").exists() {
        return;
    }
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].bind = "[::]:0".parse().unwrap();
    let daemon = setup.start();
    let port = daemon.ready.listeners[0].1.port();
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echo(&mut stream, b"hello");
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A CA with a server certificate for `localhost` and a client certificate.
struct Certificates {
    dir: tempfile::TempDir,
    ca: PathBuf,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Two CAs of one name would be told apart by their signatures only.
        let name = format!("CA {}", dir.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn server(&self, ask_clients: bool) -> config::ServerTls {
        config::ServerTls {
            cert: self.path("localhost.pem"),
            key: self.path("localhost.key"),
            client_ca: ask_clients.then(|| self.ca.clone()),
        }
    }

    /// Connects to the first listener and exchanges a byte, showing the client certificate of `identity`.
    fn connect(
        &self,
        daemon: &Running,
        identity: Option<&Self>,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_file(identity.path("client.pem")).unwrap()];
                let key = PrivateKeyDer::from_pem_file(identity.path("client.key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(tls, connect(daemon, 0));
        let mut exchange = || {
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])
        };
        match exchange() {
            Ok(()) => Ok(stream),
            Err(error) => Err(error.to_string()),
        }
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
