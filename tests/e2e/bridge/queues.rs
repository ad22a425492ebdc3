//! `moteway queue`: what waits, what never will be taken, and what an operator does about it.

use std::collections::BTreeSet;

use moteway::mqtt::QoS;
use serde_json::Value;

use crate::bridge::{LinkState, Rule, plain, upstream};
use crate::harness::client::{v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::{free_port, until};

/// Runs `moteway queue`, which must succeed, and understands each line of its answer.
#[track_caller]
fn queue(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
    let ran = gateway.ask(&arguments);
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// What `moteway queue ls` says of one queue.
#[track_caller]
fn state(gateway: &Gateway, name: &str) -> Value {
    let answer = queue(gateway, &["ls", "--json"]).remove(0);
    let found = answer["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no queue {name} in {answer}"))
}

#[test]
fn a_queue_is_listed_looked_into_exported_and_emptied() {
    let url = format!("mqtt://127.0.0.1:{}", free_port());
    let rule = "[[upstream.rule]]\nname = \"state\"\nfilter = \"state/#\"\nwhen_full = \"keep-last\"\n";
    let tables = upstream(&url, "", &[Rule("data", "out", "data/#", "")]);
    let mut gateway = Gateway::start(&format!("{tables}{rule}"));
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_numbers("data/t", 0..700, QoS::AtLeastOnce);
    for number in 0..50 {
        publisher.publish("state/door", format!("{number}"), QoS::AtLeastOnce);
    }
    publisher.publish("data/binary", vec![0xFF, 0x00], QoS::ExactlyOnce);
    let data = state(&gateway, "rule:cloud/data");
    assert_eq!((&data["messages"], &data["delivered"]), (&Value::from(701), &Value::from(0)));
    let kept = state(&gateway, "rule:cloud/state");
    assert_eq!((&kept["messages"], &kept["dropped"]["replaced"]), (&Value::from(1), &Value::from(49)));
    let first = queue(&gateway, &["peek", "cloud/data", "-n", "3", "--json"]);
    let payloads: Vec<_> = first.iter().map(|row| row["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["0", "1", "2"]);
    let all = queue(&gateway, &["export", "cloud/data"]);
    assert_eq!(all.len(), 701);
    assert!(all.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
    assert_eq!((&all[700]["payload_hex"], &all[700]["qos"]), (&Value::from("ff00"), &Value::from(2)));
    assert_eq!(queue(&gateway, &["peek", "cloud/state", "--json"])[0]["payload"], "49");
    // Words for people.
    let said = String::from_utf8(gateway.ask(&["queue", "ls"]).stdout).unwrap();
    assert!(said.contains("rule:cloud/state") && said.contains("replaced 49"), "{said}");
    assert!(!gateway.ask(&["queue", "purge", "cloud/data"]).status.success(), "only with --yes");
    assert!(!gateway.ask(&["queue", "peek", "cloud/none"]).status.success());
    assert_eq!(queue(&gateway, &["purge", "cloud/data", "--yes", "--json"])[0]["purged"], 701);
    gateway.kill_and_restart();
    assert_eq!(state(&gateway, "rule:cloud/data")["messages"], 0, "it was durable when it was said");
    assert_eq!(state(&gateway, "rule:cloud/state")["messages"], 1);
}

#[test]
fn dead_letters_are_listed_and_go_through_the_corrected_rule() {
    let mosquitto = Mosquitto::start();
    // A topic that begins with a captured `$` is nothing that the upstream may be sent.
    let tables = |remap| upstream(&plain(mosquitto.address()), "", &[Rule("data", "out", "data/{rest#}", remap)]);
    let mut gateway = Gateway::start(&tables("{rest}"));
    LinkState::of(&gateway).wait("online");
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("fixed/#", QoS::ExactlyOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    for number in 0..60 {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        publisher.publish("data/$SYS/x", format!("{number}"), qos);
    }
    until("all are dead letters", || queue(&gateway, &["dead", "ls", "--json"]).len() == 60);
    let letters = queue(&gateway, &["dead", "export", "--queue", "cloud/data"]);
    assert!(letters[0]["reason"].as_str().unwrap().starts_with("topic cannot be remapped"), "{}", letters[0]);
    assert_eq!(
        (&letters[0]["queue"], &letters[0]["payload"]),
        (&Value::from("rule:cloud/data"), &Value::from("0"))
    );
    assert_eq!(state(&gateway, "rule:cloud/data")["dead"], 60);

    // With the rule as it is they would only die again; another rule takes them.
    gateway.kill();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), text.replace("remap = \"{rest}\"", "remap = \"fixed/{rest}\"")).unwrap();
    gateway.start_again();
    let one = letters[0]["id"].to_string();
    let answer = queue(&gateway, &["dead", "replay", &one, "--json"]).remove(0);
    assert_eq!((&answer["queued"], answer["left"].as_array().unwrap().len()), (&Value::from(1), 0), "{answer}");
    cloud.expect("fixed/$SYS/x", "0");
    assert_eq!(queue(&gateway, &["dead", "ls", "--json"]).len(), 59);
    let gone = letters[59]["id"].to_string();
    assert_eq!(queue(&gateway, &["dead", "purge", &gone, "--json"])[0]["purged"], 1);
    let answer = queue(&gateway, &["dead", "replay", "--json"]).remove(0);
    assert_eq!(answer["queued"], 58, "{answer}");
    // Safe when it was said.
    gateway.kill_and_restart();
    // QoS 2 comes behind QoS 1, and QoS 1 may come twice over the power cut.
    let mut missing: BTreeSet<u32> = (1..59).collect();
    while !missing.is_empty() {
        let delivery = cloud.take();
        let number: u32 = delivery.text().parse().unwrap();
        assert!(missing.remove(&number) || (number < 59 && number.is_multiple_of(2)), "{number} came twice");
    }
    assert!(queue(&gateway, &["dead", "ls", "--json"]).is_empty());
}
