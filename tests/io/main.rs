//! The shells around the engine: sockets, serial ports, timers, TLS, dialling, start and stop.

mod certificates;
mod setup;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use moteway::config::{self, LinkKind};
use moteway::daemon::{self, DaemonError, Service};
use moteway::sys::Notifier;
use socket2::SockRef;

use crate::certificates::Certificates;
use crate::setup::{PATIENCE, Radio, Setup, connect, echo, read_line, wait_for};

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
    busy.shutdown(Shutdown::Both).unwrap();
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
fn a_peer_that_sent_all_and_closed_its_side_still_gets_its_answers() {
    let setup = Setup::new().with_listener(None);
    let daemon = setup.start();
    let mut stream = connect(&daemon, 0);
    stream.write_all(&[9; 50_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, [9; 50_000]);
}

#[test]
fn connections_that_end_in_every_way_leave_nothing_behind() {
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].max_connections = 1000;
    let daemon = setup.start();
    for round in 0..20 {
        let mut streams: Vec<_> = (0..25).map(|_| connect(&daemon, 0)).collect();
        for (i, stream) in streams.iter_mut().enumerate() {
            match (i + round) % 5 {
                0 => echo(stream, b"and gone"),
                1 => stream.write_all(&[1; 100_000]).unwrap(),
                2 => stream.write_all(b"!close\n").unwrap(),
                3 => SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap(),
                _ => stream.shutdown(Shutdown::Write).unwrap(),
            }
        }
    }
    let mut last = connect(&daemon, 0);
    echo(&mut last, b"still here");
    drop(last);
    // Stopping waits for connections, so one that was forgotten would cost its limit.
    let stopping = Instant::now();
    daemon.stop().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(1), "a connection was left behind");
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
    let kind =
        LinkKind::Serial { device: device.clone(), baud: 115_200, framing: config::Framing::Length, rtscts: false };
    let setup = Setup::new().with_listener(None).with_link(kind);
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
