//! The way to an upstream: WebSocket, proxies, which key it must have, from where it is dialled, and what time it is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use moteway::config::{self, Pin, Proxy, ProxyKind};
use moteway::daemon::Running;
use moteway::mqtt::QoS;
use rcgen::date_time_ymd;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates::Certificates;
use crate::client::Client;
use crate::log;
use crate::setup::{Setup, any_port, patient, tcp};

/// Both directions of a link from a gateway of `setup` to `peer`, whose plain listener has this number.
fn carries(setup: &Setup, peer: &Running, plain: usize) {
    let gateway = setup.start();
    let mut receiver = Client::connect(tcp(peer, plain), "receiver");
    receiver.subscribe("up/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(tcp(&gateway, 0), "publisher");
    let large = vec![b'x'; 70_000];
    for payload in [&b"small"[..], &large] {
        publisher.publish("up/t", payload);
        assert!(receiver.message().payload == payload);
    }
    gateway.stop().unwrap();
}

fn websocket(setup: &mut Setup, path: &str) {
    setup.config.upstream[0].url[0].websocket = Some(path.to_owned());
}

#[test]
fn an_upstream_is_reached_over_websocket_and_over_websocket_in_tls() {
    let certificates = Certificates::new();
    for tls in [false, true] {
        let peer = Setup::new().with_websocket(tls.then(|| certificates.server(true))).with_listener(None).start();
        let port = peer.ready.listeners[0].1.port();
        let client_tls = tls.then(|| certificates.trusting_and_shown());
        let mut setup = Setup::new().with_listener(None).with_upstream("cloud", "localhost", port, client_tls);
        websocket(&mut setup, "/mqtt");
        carries(&setup, &peer, 1);
    }
}

#[test]
fn a_path_where_no_websocket_is_served_is_told() {
    let mut peer = Setup::new().with_websocket(None);
    peer.config.listener[0].websocket_path = "/mqtt".to_owned();
    let peer = peer.start();
    let mut setup = Setup::new().with_upstream("astray", "localhost", peer.ready.listeners[0].1.port(), None);
    websocket(&mut setup, "/elsewhere");
    let _daemon = setup.start();
    log::wait_for_line(&["upstream unreachable", "astray", "no WebSocket at /elsewhere: 404 Not Found"]);
}

/// A proxy for one connection, which tells what it was asked for.
fn proxy(kind: ProxyKind) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let (port, (tell, asked)) = (listener.local_addr().unwrap().port(), channel());
    std::thread::spawn(move || {
        let mut stream = patient(listener.accept().unwrap().0);
        let (request, port) = match kind {
            ProxyKind::Http => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let text = String::from_utf8(head.clone()).unwrap();
                let port = text.split_once(" HTTP/1.1").unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap();
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").unwrap();
                (head, port)
            }
            ProxyKind::Socks5 => {
                // Greeting with two methods; name and password; the request for a name.
                let mut all = vec![0; 4];
                stream.read_exact(&mut all).unwrap();
                stream.write_all(&[5, 2]).unwrap();
                let mut login = vec![0; 2 + 3 + 1 + 6];
                stream.read_exact(&mut login).unwrap();
                stream.write_all(&[1, 0]).unwrap();
                let mut request = vec![0; 5 + "localhost".len() + 2];
                stream.read_exact(&mut request).unwrap();
                let port = u16::from_be_bytes(*request.last_chunk().unwrap());
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                all.extend(login);
                all.extend(request);
                (all, port)
            }
        };
        tell.send(request).unwrap();
        splice(stream, TcpStream::connect(("127.0.0.1", port)).unwrap());
    });
    (port, asked)
}

/// Until both sides are done.
fn splice(a: TcpStream, b: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    };
    let (a2, b2) = (a.try_clone().unwrap(), b.try_clone().unwrap());
    a.set_read_timeout(None).unwrap();
    let back = std::thread::spawn(move || copy(b2, a2));
    copy(a, b);
    back.join().unwrap();
}

#[test]
fn an_upstream_is_reached_through_an_http_proxy_and_a_socks_proxy_with_a_secret_from_a_file() {
    let certificates = Certificates::new();
    let peer = Setup::new().with_listener(Some(certificates.server(false))).with_listener(None).start();
    let port = peer.ready.listeners[0].1.port();
    for kind in [ProxyKind::Http, ProxyKind::Socks5] {
        let (proxy_port, asked) = proxy(kind);
        let mut setup = Setup::new().with_listener(None).with_upstream(
            "cloud",
            "localhost",
            port,
            Some(certificates.trusting()),
        );
        let file = setup.dir().join("proxy.password");
        std::fs::write(&file, "secret\n").unwrap();
        let upstream = &mut setup.config.upstream[0];
        upstream.proxy_password_file = Some(file);
        upstream.proxy = Some(Proxy {
            kind,
            host: "127.0.0.1".to_owned(),
            port: proxy_port,
            username: Some("ann".to_owned()),
            password: None,
        });
        carries(&setup, &peer, 1);
        let asked = asked.recv_timeout(Duration::from_secs(10)).unwrap();
        // The name goes to the proxy: it is not looked up here.
        let has = |part: &[u8]| asked.windows(part.len()).any(|window| window == part);
        assert!(has(b"localhost"), "{asked:?}");
        assert!(has(b"Basic YW5uOnNlY3JldA==") || has(b"\x03ann\x06secret"), "{asked:?}");
    }
}

#[test]
fn a_proxy_that_is_away_or_refuses_is_told_from_the_upstream() {
    let refusing = TcpListener::bind(any_port()).unwrap();
    let port = refusing.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut stream = patient(refusing.accept().unwrap().0);
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
    });
    let mut setup = Setup::new().with_upstream("fenced", "broker.invalid", 8883, None);
    let host = "127.0.0.1".to_owned();
    setup.config.upstream[0].proxy =
        Some(Proxy { kind: ProxyKind::Http, host, port, username: None, password: None });
    let _daemon = setup.start();
    let words = format!("the proxy http://127.0.0.1:{port}: it does not connect us: 403 Forbidden");
    log::wait_for_line(&["upstream unreachable", "fenced", &words]);
}

/// The pin of the certificate in a file.
fn pin_of(file: &Path) -> Pin {
    let cert = CertificateDer::from_pem_file(file).unwrap();
    let (_, cert) = X509Certificate::from_der(&cert).unwrap();
    Pin(digest(&SHA256, cert.public_key().raw).as_ref().try_into().unwrap())
}

#[test]
fn a_pinned_key_is_asked_for_beside_all_else() {
    let certificates = Certificates::new();
    let peer = Setup::new().with_listener(Some(certificates.server(false))).with_listener(None).start();
    let port = peer.ready.listeners[0].1.port();
    let good = pin_of(&certificates.path("localhost.pem"));
    assert!(Base64::encode_string(&good.0).len() == 44);
    let pins = |pin: Vec<Pin>| config::ClientTls { pin, ..certificates.trusting() };
    let tls = pins(vec![Pin([1; 32]), good]);
    let setup = Setup::new().with_listener(None).with_upstream("pinned", "localhost", port, Some(tls));
    carries(&setup, &peer, 1);
    // The key of the CA is in the chain, and does not count.
    let wrong = pins(vec![Pin([1; 32]), pin_of(&certificates.ca)]);
    let others = Certificates::new();
    let strangers = config::ClientTls { ca: Some(others.ca.clone()), ..pins(vec![good]) };
    let setup = Setup::new().with_upstream("swapped", "localhost", port, Some(wrong)).with_upstream(
        "untrusted",
        "localhost",
        port,
        Some(strangers),
    );
    let _daemon = setup.start();
    log::wait_for_line(&["upstream unreachable", "swapped", "its public key is none of those in tls.pin"]);
    // Whoever has the key still needs a certificate of a CA that is trusted.
    log::wait_for_line(&["upstream unreachable", "untrusted", "no CA that we trust signed its certificate"]);
}

#[test]
fn protocols_are_offered_by_alpn_and_the_server_name_is_told() {
    let certificates = Certificates::new();
    let (chain, key) = (certificates.path("localhost.pem"), certificates.path("localhost.key"));
    let listener = TcpListener::bind(any_port()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = config::ClientTls {
        alpn: vec!["x-amzn-mqtt-ca".to_owned(), "mqtt".to_owned()],
        server_name: Some("localhost".to_owned()),
        ..certificates.trusting()
    };
    let _daemon = Setup::new().with_upstream("alpn", "127.0.0.1", port, Some(tls)).start();
    let chain = CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut conn = rustls::ServerConnection::new(std::sync::Arc::new(server)).unwrap();
    let mut stream = patient(listener.accept().unwrap().0);
    let mut first = [0];
    rustls::Stream::new(&mut conn, &mut stream).read_exact(&mut first).unwrap();
    assert_eq!(first, [0x10], "CONNECT");
    assert_eq!(conn.alpn_protocol(), Some(&b"mqtt"[..]));
    assert_eq!(conn.server_name(), Some("localhost"));
}

#[test]
fn an_upstream_is_dialled_from_the_address_and_the_interface_that_are_configured() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut setup = Setup::new().with_upstream("bound", "127.0.0.1", port, None);
    setup.config.upstream[0].source_address = Some("127.0.0.9".parse().unwrap());
    setup.config.upstream[0].interface = Some("lo".to_owned());
    let _daemon = setup.start();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");

    let mut setup = Setup::new().with_upstream("no-port", "127.0.0.1", port, None).with_upstream(
        "no-address",
        "127.0.0.1",
        port,
        None,
    );
    setup.config.upstream[0].interface = Some("moteway-none0".to_owned());
    setup.config.upstream[1].source_address = Some("192.0.2.1".parse().unwrap());
    setup.config.upstream[1].client_id = "other".to_owned();
    let _daemon = setup.start();
    log::wait_for_line(&["upstream unreachable", "no-port", "interface moteway-none0: No such device"]);
    log::wait_for_line(&["upstream unreachable", "no-address", "source_address 192.0.2.1: Cannot assign"]);
}

/// A certificate for `localhost` that is valid from one day to the other.
fn issue(certificates: &Certificates, from: (i32, u8, u8), until: (i32, u8, u8)) {
    certificates.issue("localhost", 9, |params| {
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
    });
}

/// What the state directory says was the last time seen.
fn last_time(setup: &Setup, years_from_now: u64) -> SystemTime {
    let dir = &setup.config.gateway.state_dir;
    std::fs::create_dir_all(dir).unwrap();
    let time = SystemTime::now() + Duration::from_secs(years_from_now * 365 * 86_400);
    std::fs::File::create(dir.join("last-time")).unwrap().set_modified(time).unwrap();
    time
}

#[test]
fn without_a_clock_certificates_are_judged_by_the_last_time_seen_and_an_expired_one_is_refused() {
    // This machine's clock is as far behind the last time seen as that of a box that woke up in 1970.
    for (name, from, until, good) in [
        ("not-yet-by-the-clock", (2080, 1, 1), (2300, 1, 1), true),
        ("expired-by-the-last-time", (2000, 1, 1), (2070, 1, 1), false),
    ] {
        let certificates = Certificates::new();
        issue(&certificates, from, until);
        let peer = Setup::new().with_listener(Some(certificates.server(false))).start();
        let port = peer.ready.listeners[0].1.port();
        let setup =
            Setup::new().with_listener(None).with_upstream(name, "localhost", port, Some(certificates.trusting()));
        let seen = last_time(&setup, 70);
        let _daemon = setup.start();
        if good {
            log::wait_for_line(&["upstream connected", name]);
        } else {
            log::wait_for_line(&["upstream unreachable", name, "its certificate has expired"]);
        }
        let file = setup.config.gateway.state_dir.join("last-time");
        assert_eq!(file.metadata().unwrap().modified().unwrap(), seen, "a guessed time is not stored");
    }
}

#[test]
fn with_a_clock_an_expired_certificate_is_refused_and_a_good_one_confirms_the_time() {
    let certificates = Certificates::new();
    issue(&certificates, (2000, 1, 1), (2020, 1, 1));
    let peer = Setup::new().with_listener(Some(certificates.server(false))).start();
    let port = peer.ready.listeners[0].1.port();
    let setup = Setup::new().with_upstream("expired", "localhost", port, Some(certificates.trusting()));
    let daemon = setup.start();
    log::wait_for_line(&["upstream unreachable", "expired", "its certificate has expired"]);
    let file = setup.config.gateway.state_dir.join("last-time");
    assert!(!file.exists());
    drop(daemon);

    let certificates = Certificates::new();
    let peer = Setup::new().with_listener(Some(certificates.server(false))).start();
    let port = peer.ready.listeners[0].1.port();
    let setup = Setup::new().with_upstream("fresh", "localhost", port, Some(certificates.trusting()));
    let daemon = setup.start();
    log::wait_for_line(&["upstream connected", "fresh"]);
    // Ending waits for what is being written.
    daemon.stop().unwrap();
    let file = setup.config.gateway.state_dir.join("last-time");
    let age = file.metadata().unwrap().modified().unwrap().elapsed().unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
}

#[test]
fn a_renewed_password_file_is_used_by_the_next_link() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut setup = Setup::new().with_upstream("tokens", "127.0.0.1", port, None);
    let file = setup.dir().join("token");
    setup.config.upstream[0].username = Some("box".to_owned());
    setup.config.upstream[0].password_file = Some(file.clone());
    std::fs::write(&file, "first-token\n").unwrap();
    let _daemon = setup.start();
    for token in ["first-token", "second-token"] {
        std::fs::write(&file, token).unwrap();
        let mut stream = patient(listener.accept().unwrap().0);
        let mut connect = Vec::new();
        while !connect.ends_with(token.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {connect:?}"));
            connect.push(byte[0]);
        }
        std::fs::write(&file, "second-token").unwrap();
    }
}
