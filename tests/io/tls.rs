//! TLS listeners.

use moteway::mqtt::QoS;

use crate::certificates::{Certificates, TlsStream};
use crate::client::{Client, hello, publish};
use crate::log;
use crate::setup::{Setup, tcp};

#[test]
fn a_listener_that_asks_for_certificates_lets_nobody_in_without_a_good_one() {
    let (certificates, stranger) = (Certificates::new(), Certificates::new());
    let setup = Setup::new().with_listener(Some(certificates.server(true))).with_listener(None);
    let daemon = setup.start();
    let mut known = Client::connect(certificates.stream(tcp(&daemon, 0), Some(&certificates)), "known");
    known.subscribe("t", QoS::AtMostOnce);

    for (identity, alert, words) in [
        (None, "CertificateRequired", "peer sent no certificates"),
        (Some(&stranger), "UnknownCA", "UnknownIssuer"),
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
    log::wait_for_line(&["TLS handshake failed", &address, "InvalidContentType"]);
    good.ping();
}
