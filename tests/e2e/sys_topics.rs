//! `$SYS/#` beside mosquitto's: the same names, values of the same form.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use moteway::mqtt::{Packet, QoS};

use crate::harness::client::{Client, message, v5, v311};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::until;

/// Topics of mosquitto 2.0 that are not here, and why.
const MISSING: &[(&str, &str)] = &[
    ("$SYS/broker/heap/current", "a core does not know its process; the metrics of the daemon have its memory"),
    ("$SYS/broker/heap/maximum", "see heap/current"),
];

/// Each value by its topic, once the broker has told all of them.
fn values(at: SocketAddr) -> BTreeMap<String, String> {
    let mut client = Client::connect(at, &v311("watcher"));
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    let mut values = BTreeMap::new();
    // mosquitto tells the one last in its first round, the other once it saw a client.
    let last = ["$SYS/broker/publish/bytes/sent", "$SYS/broker/clients/maximum"];
    until("the last value", || {
        let delivery = client.delivery();
        values.insert(delivery.topic.clone(), delivery.text().to_owned());
        last.iter().all(|topic| values.contains_key(*topic))
    });
    // What else is retained comes in one go: it ends with silence.
    client.set_read_timeout(Duration::from_millis(300));
    while let Ok(Some(received)) = client.try_receive() {
        let Packet::Publish(publish) = received.packet() else { continue };
        values.insert(publish.topic.to_owned(), String::from_utf8_lossy(publish.payload).into_owned());
    }
    values
}

/// The form of a value: digits are 9, and so are any number of them.
fn form(value: &str) -> String {
    let mut form = String::new();
    for c in value.chars() {
        let c = if c.is_ascii_digit() { '9' } else { c };
        if c != '9' || !form.ends_with('9') {
            form.push(c);
        }
    }
    form.replace("mosquitto", "moteway")
}

#[test]
fn every_topic_of_mosquitto_is_here_with_a_value_of_the_same_form() {
    let mosquitto = Mosquitto::start_with(None, "sys_interval 1");
    let theirs = values(mosquitto.address());
    let gateway = Gateway::start("[broker]\nsys_interval = \"1s\"");
    let ours = values(gateway.address());
    assert!(theirs.len() > 40, "{theirs:?}");
    for (topic, value) in &theirs {
        if let Some((_, why)) = MISSING.iter().find(|(missing, _)| missing == topic) {
            assert!(!ours.contains_key(topic), "{topic} is here after all, though {why}");
            continue;
        }
        let Some(own) = ours.get(topic) else { panic!("{topic} = {value} is missing; there is {ours:#?}") };
        assert_eq!(form(own), form(value), "{topic}: {own} beside {value}");
    }
    for (topic, value) in ours.iter().filter(|(topic, _)| !theirs.contains_key(*topic)) {
        let known = topic.starts_with("$SYS/broker/moteway/");
        assert!(known, "{topic} = {value} is neither mosquitto's nor marked as our own");
    }
}

/// Both brokers count the same for the same traffic.
#[test]
fn the_same_traffic_gives_the_same_counts() {
    let mosquitto = Mosquitto::start_with(None, "sys_interval 1");
    let gateway = Gateway::start("[broker]\nsys_interval = \"1s\"");
    let names = [
        ("publish/messages/received", "25"),
        ("publish/bytes/received", "250"),
        ("clients/connected", "3"),
        ("clients/disconnected", "0"),
        ("shared_subscriptions/count", "1"),
    ];
    for at in [mosquitto.address(), gateway.address()] {
        let mut subscriber = Client::connect(at, &v5("sub"));
        subscriber.subscribe("t/#", QoS::AtMostOnce);
        subscriber.subscribe("$share/g/u/#", QoS::AtMostOnce);
        let mut publisher = Client::connect(at, &v5("pub"));
        for _ in 0..25 {
            publisher.post(&message("t/1", b"0123456789", QoS::AtMostOnce));
        }
        publisher.ping();
        let mut watcher = Client::connect(at, &v311("watcher"));
        watcher.subscribe("$SYS/broker/#", QoS::AtMostOnce);
        let mut values = BTreeMap::new();
        until("the counts are told", || {
            let delivery = watcher.delivery();
            values.insert(delivery.topic.clone(), delivery.text().to_owned());
            let told = |(name, wanted): &(&str, &str)| {
                values.get(&format!("$SYS/broker/{name}")).is_some_and(|value| value == wanted)
            };
            names.iter().all(told)
        });
    }
}
