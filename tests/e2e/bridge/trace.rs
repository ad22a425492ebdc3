//! What a receiver can rely on: config/examples/consumer.py finds gaps and drops copies, over stops and power cuts.

use std::collections::BTreeSet;
use std::path::Path;

use moteway::mqtt::QoS;
use serde_json::Value;

use crate::bridge::{LinkState, Rule, plain, upstream};
use crate::harness::client::v5;
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::peers;
use crate::harness::process::Process;

const MESSAGES: u32 = 600;

/// Everything under `data/` under the gateway's own name, with numbers.
fn traced(mosquitto: &Mosquitto, more: &str) -> String {
    let rule = Rule("telemetry", "out", "data/{rest#}", "fleet/{gateway}/{rest}");
    format!(
        "[store]\ncommit_interval = \"1ms\"\n{}trace = true\n{more}",
        upstream(&plain(mosquitto.address()), "", &[rule])
    )
}

/// The consumer, subscribed.
fn consumer(mosquitto: &Mosquitto) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/consumer.py");
    let mut command = peers::python();
    command.arg(script).args(["--port", &mosquitto.address().port().to_string()]);
    let mut process = Process::start("consumer", &mut command);
    process.says("subscribed");
    process
}

fn said(process: &Process) -> Vec<Value> {
    process.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn the_consumer_gets_each_message_once_with_its_time_over_power_cuts() {
    let mut mosquitto = Mosquitto::start();
    let mut gateway = Gateway::start(&traced(&mosquitto, ""));
    LinkState::of(&gateway).wait("online");
    let mut consumer = consumer(&mosquitto);
    let mut sent = 0..MESSAGES;
    for round in 0..6 {
        let mut publisher = gateway.client(&v5("publisher"));
        let end = sent.start + MESSAGES / 6;
        if round == 2 || round == 4 {
            mosquitto.stop();
        }
        publisher.publish_numbers("data/t", sent.start..end, QoS::AtLeastOnce);
        sent.start = end;
        gateway.kill_and_restart();
        if round == 2 || round == 4 {
            mosquitto.start_again();
        }
    }
    let last = (MESSAGES - 1).to_string();
    let is_last =
        |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|said| said["payload"] == last.as_str());
    consumer.line("the last message", |line| is_last(line).then_some(()));
    let said = said(&consumer);
    let numbers: Vec<u32> =
        said.iter().filter_map(|said| said["payload"].as_str()).map(|text| text.parse().unwrap()).collect();
    assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), (0..MESSAGES).collect());
    assert_eq!(numbers.len(), MESSAGES as usize, "copies were dropped");
    let times: Vec<u64> = said.iter().filter_map(|said| said["time"].as_u64()).collect();
    assert!(times.is_sorted(), "measured in the order in which they were published");
    println!("{MESSAGES} messages over 6 power cuts: {} lines", said.len());
}

#[test]
fn the_consumer_tells_what_a_limit_took() {
    let mut mosquitto = Mosquitto::start();
    let gateway = Gateway::start(&traced(&mosquitto, "limit = { messages = 20 }\n"));
    let mut link = LinkState::of(&gateway);
    link.wait("online");
    let mut consumer = consumer(&mosquitto);
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_numbers("data/t", 0..10, QoS::AtLeastOnce);
    consumer.says("\"payload\": \"9\"");
    mosquitto.stop();
    link.wait("offline");
    publisher.publish_numbers("data/t", 10..100, QoS::AtLeastOnce);
    mosquitto.start_again();
    consumer.says("\"payload\": \"99\"");
    let said = said(&consumer);
    let gap = said.iter().find(|said| said["gap"].is_array()).expect("a gap");
    assert_eq!((&gap["gap"], &gap["gateway"]), (&serde_json::json!([11, 80]), &Value::from("fleet/box")));
    assert_eq!(said.iter().filter(|said| said["payload"].is_string()).count(), 30);
}
