//! TLS with the cloud that cannot be: the link stays down, all else goes on, and the log says why.

use moteway::mqtt::QoS;

use crate::bridge::{DATA, LinkState, local_traffic_flows, upstream};
use crate::harness::certs::Certs;
use crate::harness::client::v5;
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::until;

/// The gateway tries again and again with this `tls` key, and says `words`.
#[track_caller]
fn the_link_stays_down(certs: &Certs, tls: &str, words: &str) {
    let mosquitto = Mosquitto::start_tls(certs);
    let url = format!("mqtts://localhost:{}", mosquitto.tls_address().port());
    let mut gateway = Gateway::start(&upstream(&url, tls, &[DATA]));
    gateway.process().line(words, |line| {
        let found = ["cloud", words].iter().all(|part| line.contains(part));
        found.then_some(())
    });
    let mut cloud = mosquitto.client(&v5("cloud"));
    cloud.subscribe("data/#", QoS::AtLeastOnce);
    gateway.client(&v5("device")).publish("data/t", "private", QoS::AtLeastOnce);
    let tries = || mosquitto.log().matches("New connection from").count();
    let before = tries();
    until("three more tries", || tries() >= before + 3);
    local_traffic_flows(&gateway);
    LinkState::of(&gateway).wait("offline");
    let said = gateway.process().text();
    assert!(!said.contains("upstream connected"), "{said}");
    // Nothing came of it: what the cloud hears first is its own.
    cloud.publish("data/t", "mine", QoS::AtLeastOnce);
    cloud.expect("data/t", "mine");
}

#[test]
fn a_cloud_signed_by_another_ca_is_not_trusted() {
    let (certs, others) = (Certs::new(), Certs::new());
    the_link_stays_down(&certs, &others.upstream_tls(), "no CA that we trust signed its certificate: set tls.ca");
}

#[test]
fn a_cloud_with_another_name_is_not_trusted() {
    let certs = Certs::new();
    let tls = certs.upstream_tls().replace(" }", ", server_name = \"cloud.example\" }");
    the_link_stays_down(&certs, &tls, "its certificate is for another name: set tls.server_name");
}

#[test]
fn a_cloud_that_asks_for_a_certificate_gets_none() {
    let certs = Certs::new();
    let tls = format!("tls = {{ ca = {:?} }}", certs.ca());
    the_link_stays_down(&certs, &tls, "the peer wants a certificate of us: set tls.cert and tls.key");
}

#[test]
fn a_cloud_that_does_not_know_who_signed_our_certificate_refuses_it() {
    let (certs, others) = (Certs::new(), Certs::new());
    let ca = format!("ca = {:?}", certs.ca());
    let tls = others.upstream_tls().replace(&format!("ca = {:?}", others.ca()), &ca);
    the_link_stays_down(&certs, &tls, "the peer does not know the CA that signed our certificate");
}
