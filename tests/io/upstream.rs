//! Dialling: what is not there, what does not answer, what is not trusted, and what works.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use moteway::config;
use moteway::daemon::Running;
use moteway::mqtt::QoS;
use socket2::{Domain, Socket, Type};

use crate::certificates::Certificates;
use crate::client::{Client, publish};
use crate::log;
use crate::setup::{Setup, any_port, patient, start, tcp};

/// A port that refuses connections and that nobody else is given, until a listener takes it.
fn closed_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&any_port().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// Hears what the gateway says of an upstream.
struct Observer(Client);

impl Observer {
    fn new(daemon: &Running, upstream: &str) -> Self {
        let mut client = Client::connect(tcp(daemon, 0), "observer");
        client.subscribe(&format!("moteway/upstream/{upstream}"), QoS::AtMostOnce);
        Self(client)
    }

    fn state(&mut self) -> String {
        let status: serde_json::Value = serde_json::from_slice(&self.0.message().payload).unwrap();
        assert!(status["since"].as_u64().is_some_and(|since| since > 1_600_000_000_000), "{status}");
        status["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn an_upstream_that_is_away_is_said_to_be_and_gets_what_waited_when_it_comes() {
    let certificates = Certificates::new();
    for tls in [false, true] {
        let (_holder, port) = closed_port();
        let client_tls = tls.then(|| certificates.trusting_and_shown());
        let setup = Setup::new().with_listener(None).with_upstream("cloud", "localhost", port, client_tls);
        let daemon = setup.start();
        let mut observer = Observer::new(&daemon, "cloud");
        assert_eq!(observer.state(), "offline");
        let words = format!("cannot connect: 127.0.0.1:{port}: Connection refused");
        log::wait_for_line(&["upstream unreachable", "cloud", &words, "next try in"]);
        let mut publisher = Client::connect(tcp(&daemon, 0), "publisher");
        publisher.publish("up/a", b"while it was away");

        let mut peer = Setup::new().with_listener(tls.then(|| certificates.server(true))).with_listener(None);
        peer.config.listener[0].bind = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
        let peer = peer.start();
        let mut receiver = Client::connect(tcp(&peer, 1), "receiver");
        receiver.subscribe("up/#", QoS::AtMostOnce);
        // The rule's message may have come before the receiver did; what is published now cannot.
        assert_eq!(observer.state(), "online");
        publisher.publish("up/b", b"and now");
        while receiver.message().topic != "up/b" {}
        // On a line at rest nothing else happens that could take a message along.
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
            publisher.send(&publish("up/c", b"at rest", qos, 1));
            assert_eq!(receiver.message().topic, "up/c");
        }

        peer.stop().unwrap();
        assert_eq!(observer.state(), "offline");
    }
}

#[test]
fn tries_are_further_and_further_apart() {
    let upstream = TcpListener::bind(any_port()).unwrap();
    let started = Instant::now();
    let mut setup = Setup::new().with_upstream("hasty", "127.0.0.1", upstream.local_addr().unwrap().port(), None);
    setup.config.upstream[0].reconnect_min = Duration::from_millis(40);
    let _daemon = setup.start();
    // Each is accepted and closed at once, which is no success.
    for _ in 0..7 {
        drop(upstream.accept().unwrap());
    }
    // At the least half of 40, 80, 160, 200, 200 and 200 ms lie between seven tries.
    assert!(started.elapsed() >= Duration::from_millis(440), "{:?}", started.elapsed());
}

#[test]
fn an_upstream_that_never_answers_is_given_up_and_tried_again() {
    let certificates = Certificates::new();
    for tls in [None, Some(certificates.trusting())] {
        let upstream = TcpListener::bind(any_port()).unwrap();
        let port = upstream.local_addr().unwrap().port();
        let mut setup = Setup::new().with_upstream("mute", "127.0.0.1", port, tls);
        setup.config.upstream[0].connect_timeout = Duration::from_millis(300);
        let _daemon = setup.start();
        let mut first = accept(&upstream);
        first.read_exact(&mut [0; 5]).unwrap();
        let mut rest = Vec::new();
        // End of stream or reset, but no time-out of ours.
        if let Err(error) = first.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        accept(&upstream).read_exact(&mut [0; 5]).unwrap();
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

#[test]
fn an_upstream_that_cannot_be_trusted_or_found_is_refused_with_words() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let peer = Setup::new().with_listener(Some(theirs.server(false))).start();
    let port = peer.ready.listeners[0].1.port();
    let other_name = config::ClientTls { server_name: Some("another.example".to_owned()), ..theirs.trusting() };
    let setup = Setup::new()
        .with_listener(None)
        .with_upstream("stranger", "localhost", port, Some(ours.trusting()))
        .with_upstream("renamed", "localhost", port, Some(other_name))
        .with_upstream("good", "localhost", port, Some(theirs.trusting()))
        .with_upstream("nowhere", "no-such-host.invalid", port, None);
    let daemon = setup.start();
    for (upstream, words) in [
        ("stranger", "TLS with localhost: no CA that we trust signed its certificate: set tls.ca"),
        ("renamed", "TLS with another.example: its certificate is for another name: set tls.server_name"),
        ("nowhere", "the name no-such-host.invalid"),
    ] {
        log::wait_for_line(&["upstream unreachable", upstream, words]);
    }
    log::wait_for_line(&["upstream connected", "good"]);
    assert_eq!(Observer::new(&daemon, "stranger").state(), "offline");
    assert_eq!(Observer::new(&daemon, "good").state(), "online");
}

#[test]
fn a_network_without_upstreams_says_nothing_of_them() {
    let (_setup, daemon) = start();
    let mut client = Client::connect(tcp(&daemon, 0), "observer");
    client.subscribe("moteway/#", QoS::AtMostOnce);
    client.ping();
}
