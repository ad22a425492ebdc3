//! TLS listeners.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use moteway::config::{ClientCert, TlsVersion};
use moteway::daemon::Running;
use moteway::mqtt::QoS;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};

use crate::certificates::{CLIENT, Certificates, TlsStream};
use crate::client::{Client, hello, publish};
use crate::log;
use crate::setup::{Setup, tcp, wait_for};

#[test]
fn a_listener_that_asks_for_certificates_lets_nobody_in_without_a_good_one() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let setup = Setup::new().with_listener(Some(certificates.server(true))).with_listener(None);
    let daemon = setup.start();
    let mut known = Client::connect(certificates.stream(tcp(&daemon, 0), Some(&certificates)), "known");
    known.subscribe("t", QoS::AtMostOnce);

    for (identity, alert, words) in [
        (None, "CertificateRequired", "it showed no certificate, and tls.client_ca asks for one"),
        (Some(&stranger), "UnknownCA", "not issued by a CA in tls.client_ca"),
    ] {
        let stream = certificates.stream(tcp(&daemon, 0), identity);
        let address = stream.sock.local_addr().unwrap().to_string();
        let refused = Client::<TlsStream>::try_connect(stream, &hello("unknown"));
        let error = refused.err().expect("nobody knows this client").to_string();
        assert!(error.contains(alert), "{error}");
        log::wait_for_line(&["TLS handshake failed", &address, words]);
    }
    // None of that disturbs anybody.
    known.ping();
    let mut plain = Client::connect(tcp(&daemon, 1), "plain");
    plain.send(&publish("t", b"from the plain side", QoS::AtMostOnce, 0));
    assert_eq!(known.message().payload, b"from the plain side");
}

#[test]
fn bulk_goes_over_tls_in_both_directions_in_order() {
    let certificates = Certificates::new();
    let setup = Setup::new().with_listener(Some(certificates.server(false)));
    let daemon = setup.start();
    let mut client = Client::connect(certificates.stream(tcp(&daemon, 0), None), "client");
    client.subscribe("echo", QoS::AtMostOnce);
    for round in 0..50u8 {
        let burst: Vec<u8> =
            (0..10).flat_map(|i| publish("echo", &[round * 5 + i; 5_000], QoS::AtMostOnce, 0)).collect();
        client.send(&burst);
        for i in 0..10 {
            assert!(client.message().payload == [round * 5 + i; 5_000], "round {round}, message {i}");
        }
    }
}

#[test]
fn what_is_not_tls_is_refused_with_words_and_disturbs_nobody() {
    let certificates = Certificates::new();
    let setup = Setup::new().with_listener(Some(certificates.server(false)));
    let daemon = setup.start();
    let mut good = Client::connect(certificates.stream(tcp(&daemon, 0), None), "good");
    let stream = tcp(&daemon, 0);
    let address = stream.local_addr().unwrap().to_string();
    assert!(Client::try_connect(stream, &hello("plain MQTT on a TLS port")).is_err());
    log::wait_for_line(&["TLS handshake failed", &address, "what it says is not TLS"]);
    good.ping();
}

/// Connects with the certificate in a file of `certificates`. The error is what the client heard, with our log's words.
fn connect_as(
    certificates: &Certificates,
    daemon: &Running,
    cert: Option<&Path>,
) -> Result<Client<TlsStream>, (String, String)> {
    let stream = certificates.stream_as(tcp(daemon, 0), cert, &[&TLS13, &TLS12]);
    let address = stream.sock.local_addr().unwrap().to_string();
    Client::try_connect(stream, &hello("client"))
        .map_err(|error| (error.to_string(), log::wait_for_line(&["TLS handshake failed", &address])))
}

#[test]
fn revoked_and_expired_client_certificates_are_refused_with_words() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    certificates.issue("revoked", 8, |_| {});
    certificates.issue_expired("expired");
    // Two lists in one file; the one of the other CA does not concern us.
    let crl = certificates.path("revoked.crl");
    fs::write(&crl, other.crl(&[CLIENT]) + &certificates.crl(&[8])).unwrap();
    let mut tls = certificates.server(true);
    tls.crl = vec![crl];
    let daemon = Setup::new().with_listener(Some(tls)).start();
    let connect = |name: &str| connect_as(&certificates, &daemon, Some(&certificates.path(name)));
    connect("client.pem").unwrap().ping();
    for (name, alert, words) in [
        ("revoked.pem", "CertificateRevoked", "its certificate is revoked"),
        ("expired.pem", "CertificateExpired", "its certificate has expired"),
    ] {
        let (heard, logged) = connect(name).err().expect("a bad certificate");
        assert!(heard.contains(alert) && logged.contains(words), "{heard} | {logged}");
    }
    connect("client.pem").unwrap().ping();
}

#[test]
fn a_ca_without_a_list_lets_nobody_in_where_lists_are_asked_for() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let crl = certificates.path("other.crl");
    fs::write(&crl, other.crl(&[])).unwrap();
    let mut tls = certificates.server(true);
    tls.crl = vec![crl];
    let daemon = Setup::new().with_listener(Some(tls)).start();
    let refused = connect_as(&certificates, &daemon, Some(&certificates.path("client.pem")));
    let (_, logged) = refused.err().expect("nobody knows whether it is revoked");
    assert!(logged.contains("tls.crl has no list of the CA that issued it"), "{logged}");
}

#[test]
fn a_certificate_may_be_optional_but_not_bad() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let mut tls = certificates.server(true);
    tls.client_cert = ClientCert::Optional;
    let daemon = Setup::new().with_listener(Some(tls)).start();
    connect_as(&certificates, &daemon, None).unwrap().ping();
    connect_as(&certificates, &daemon, Some(&certificates.path("client.pem"))).unwrap().ping();
    assert!(connect_as(&certificates, &daemon, Some(&stranger.path("client.pem"))).is_err());
}

#[test]
fn tls_1_2_is_taken_unless_the_listener_asks_for_1_3() {
    let certificates = Certificates::new();
    let mut modern = certificates.server(false);
    modern.min_version = TlsVersion::V13;
    let daemon = Setup::new().with_listener(Some(certificates.server(false))).with_listener(Some(modern)).start();
    for (listener, version, good) in [(0, &TLS12, true), (0, &TLS13, true), (1, &TLS12, false), (1, &TLS13, true)] {
        let stream = certificates.stream_as(tcp(&daemon, listener), None, &[version]);
        let address = stream.sock.local_addr().unwrap().to_string();
        match Client::try_connect(stream, &hello("client")) {
            Ok(mut client) if good => client.ping(),
            Err(error) if !good => {
                assert!(error.to_string().contains("ProtocolVersion"), "{error}");
                log::wait_for_line(&["TLS handshake failed", &address, "see tls.min_version"]);
            }
            other => panic!("listener {listener}, {version:?}: {}", other.is_ok()),
        }
    }
}

/// What the server shows to a new connection.
fn shown(certificates: &Certificates, stream: TcpStream) -> CertificateDer<'static> {
    let mut client = Client::connect(certificates.stream(stream, None), "looks at the certificate");
    client.ping();
    client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_renewed_certificate_is_used_at_once_and_connections_stay() {
    let certificates = Certificates::new();
    let daemon = Setup::new().with_listener(Some(certificates.server(false))).start();
    let cert = || CertificateDer::from_pem_file(certificates.path("localhost.pem")).unwrap();
    let mut stays = Client::connect(certificates.stream(tcp(&daemon, 0), None), "stays");
    let first = cert();
    assert_eq!(shown(&certificates, tcp(&daemon, 0)), first);

    certificates.issue("localhost", 2, |_| {});
    assert_eq!(shown(&certificates, tcp(&daemon, 0)), first, "nobody asked yet");
    daemon.reload();
    wait_for("the new certificate", || shown(&certificates, tcp(&daemon, 0)) == cert());
    let second = cert();
    stays.ping();

    let cert_file = certificates.path("localhost.pem");
    fs::write(&cert_file, "not a certificate").unwrap();
    daemon.reload();
    let problem = format!("{}: holds no certificate", cert_file.display());
    log::wait_for_line(&["ERROR", "files not taken", "listener-0", &problem]);
    assert_eq!(shown(&certificates, tcp(&daemon, 0)), second);
    stays.ping();
}

#[test]
fn a_client_that_is_revoked_meanwhile_cannot_come_back_even_by_resuming() {
    let certificates = Certificates::new();
    let crl = certificates.path("clients.crl");
    fs::write(&crl, certificates.crl(&[])).unwrap();
    let mut tls = certificates.server(true);
    tls.crl = vec![crl.clone()];
    let daemon = Setup::new().with_listener(Some(tls)).start();
    let client = certificates.path("client.pem");
    let mut connected = connect_as(&certificates, &daemon, Some(&client)).unwrap();
    let config = certificates.client_config(Some(&client), &[&TLS13, &TLS12]);
    for _ in 0..2 {
        Client::connect(certificates.stream_with(&config, tcp(&daemon, 0)), "has a ticket").ping();
    }
    fs::write(&crl, certificates.crl(&[CLIENT])).unwrap();
    daemon.reload();
    let path = crl.display().to_string();
    log::wait_for_line(&["files read again", "listener-0"]);
    wait_for(&format!("what {path} says"), || connect_as(&certificates, &daemon, Some(&client)).is_err());
    let resumes = certificates.stream_with(&config, tcp(&daemon, 0));
    assert!(Client::try_connect(resumes, &hello("has a ticket")).is_err(), "an old ticket lets the revoked in");
    connected.ping();
}
