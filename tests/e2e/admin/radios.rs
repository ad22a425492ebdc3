//! What is told of radio links and their nodes: on the command line, as JSON, to Prometheus, and below `$SYS`.

use std::collections::BTreeMap;
use std::io::Write;

use moteway::mqtt::{Packet, QoS};
use serde_json::Value;

use crate::admin::{body, text};
use crate::harness::client::v311;
use crate::harness::gateway::Gateway;
use crate::harness::sensor::Radio;
use crate::harness::until;

fn json(gateway: &Gateway, arguments: &[&str]) -> Value {
    let ran = gateway.ask(arguments);
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(&ran.stderr)))
}

/// The value of a metric with these labels.
fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("moteway_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// Everything below `$SYS/broker/mqttsn` that a new subscriber is told, once `last` is among it.
fn sys_topics(gateway: &Gateway, last: &str) -> BTreeMap<String, String> {
    let mut watcher = gateway.client(&v311("watcher"));
    watcher.subscribe("$SYS/broker/mqttsn/#", QoS::AtMostOnce);
    let mut values = BTreeMap::new();
    while !values.contains_key(last) {
        let received = watcher.receive().unwrap();
        let Packet::Publish(publish) = received.packet() else { continue };
        let topic = publish.topic.strip_prefix("$SYS/broker/mqttsn/").unwrap();
        values.insert(topic.to_owned(), text(publish.payload).to_owned());
    }
    values
}

#[test]
fn a_noisy_line_and_a_node_that_sleeps_are_told_in_status_in_metrics_and_below_sys() {
    let radio = Radio::serial("cobs");
    let settings = "[broker]\nsys_interval = \"1s\"\n[sn]\nadvertise_interval = \"0s\"\nretry_interval = \"1s\"\n";
    let gateway = Gateway::start(&format!("{settings}{}", radio.link));
    let mut sensor = radio.sensor();
    // Three octets of a block that is not whole, and a frame whose checksum is wrong.
    radio.line().write_all(&[9, 1, 2, 0, 6, 3, 5, 7, 1, 1, 0]).unwrap();
    sensor.connect("node", false, 60);
    sensor.subscribe("to/node", QoS::AtLeastOnce);
    let topic = sensor.register("to/node");
    let mut publisher = gateway.client(&v311("publisher"));
    publisher.publish("to/node", "answered", QoS::AtLeastOnce);
    sensor.take(topic, "answered");
    publisher.publish("to/node", "twice", QoS::AtLeastOnce);
    let (first, again) = (sensor.hear(), sensor.hear());
    assert_eq!((first.id, &first.text), (again.id, &again.text), "sent again");
    sensor.acknowledge(&again);
    sensor.sleep(600);
    publisher.publish("to/node", "later", QoS::AtLeastOnce);

    let report = json(&gateway, &["status", "--json"]);
    let (link, serial) = (&report["links"][0], &report["links"][0]["serial"]);
    // CONNECT, SUBSCRIBE, REGISTER, two PUBACK, DISCONNECT, and their answers; three PUBLISH.
    assert_eq!((&link["messages_received"], &link["messages_sent"]), (&6.into(), &7.into()), "{report}");
    assert_eq!((&link["retransmissions"], &link["malformed"]), (&1.into(), &0.into()), "{report}");
    assert!(link["round_trip_ms"].as_f64().unwrap() < 1000.0 && link["silent_seconds"].as_u64() < Some(60));
    assert_eq!(
        (&serial["frames"], &serial["checksum_errors"], &serial["noise_bytes"]),
        (&6.into(), &1.into(), &9.into())
    );
    let clients = &report["clients"];
    assert_eq!((&clients["sn_asleep"], &clients["sn_buffered"]), (&1.into(), &1.into()), "{report}");
    assert!(clients["sn_sleep_ends"].as_u64().unwrap() > report["now"].as_u64().unwrap() + 590_000);
    let screen = gateway.ask(&["status"]);
    let screen = text(&screen.stdout);
    assert!(screen.contains("6 frames, 1 bad, 9 B of noise") && screen.contains("1 sent again"), "{screen}");

    let nodes = json(&gateway, &["clients", "--json"]);
    let node = nodes.as_array().unwrap().iter().find(|client| client["client_id"] == "node").unwrap();
    assert_eq!((&node["state"], &node["waiting"]), (&"asleep".into(), &1.into()), "{node}");
    assert!((590..=900).contains(&node["sleep_seconds"].as_u64().unwrap()), "{node}");

    let page = body(gateway.http(), "/metrics");
    for (name, value) in [
        ("link_up{link=\"radio\"}", 1.0),
        ("link_messages_received_total{link=\"radio\"}", 6.0),
        ("link_messages_sent_total{link=\"radio\"}", 7.0),
        ("link_retransmissions_total{link=\"radio\"}", 1.0),
        ("link_frames_total{link=\"radio\"}", 6.0),
        ("link_checksum_errors_total{link=\"radio\"}", 1.0),
        ("link_noise_bytes_total{link=\"radio\"}", 9.0),
        ("sn_clients{state=\"asleep\"}", 1.0),
        ("sn_buffered_messages", 1.0),
    ] {
        assert!((metric(&page, name) - value).abs() < 0.5, "{name}: {page}");
    }
    assert!(metric(&page, "link_round_trip_seconds{link=\"radio\"}") < 1.0);
    let started = metric(&page, "start_time_seconds");
    assert!(metric(&page, "link_last_heard_seconds{link=\"radio\"}") >= started);
    assert!(metric(&page, "sn_sleep_ends_seconds") > started + 590.0);

    until("the node is told of below $SYS as it is now", || {
        let told = sys_topics(&gateway, "client/node");
        told["client/node"].contains("asleep") && told["link/radio/messages/retransmitted"] == "1"
    });
    let told = sys_topics(&gateway, "client/node");
    let value = |name: &str| told.get(&format!("link/radio/{name}")).map(String::as_str);
    assert_eq!((value("frames"), value("noise_bytes"), value("crc_errors")), (Some("6"), Some("9"), Some("1")));
    assert!(value("round_trip_ms").is_some() && value("silent_seconds").is_some(), "{told:?}");
    let node: Value = serde_json::from_str(&told["client/node"]).unwrap();
    assert_eq!((&node["state"], &node["buffered"]), (&"asleep".into(), &1.into()));
    assert!((590..=900).contains(&node["sleeps_for"].as_u64().unwrap()), "{node}");
}
