//! What is told: on the command line, as JSON, and to Prometheus.

use std::process::{Command, Stdio};

use moteway::mqtt::QoS;
use serde_json::Value;

use crate::admin::{body, get, text};
use crate::harness::client::{v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::sensor::Radio;
use crate::harness::until;

fn cloud(mosquitto: &Mosquitto) -> String {
    format!(
        "[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://{}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         [[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n\
         [[upstream.rule]]\nname = \"few\"\nfilter = \"few/#\"\nlimit = {{ messages = 10 }}\n",
        mosquitto.address()
    )
}

fn status(gateway: &Gateway) -> (Value, Option<i32>) {
    let ran = gateway.ask(&["status", "--json"]);
    (serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", text(&ran.stderr))), ran.status.code())
}

#[test]
fn status_says_whether_it_is_well_what_waits_and_what_was_lost() {
    let mut mosquitto = Mosquitto::start();
    let radio = Radio::udp();
    let gateway = Gateway::start(&format!("{}{}", cloud(&mosquitto), radio.link));
    until("the link is up", || status(&gateway).0["upstreams"][0]["state"] == "up");
    let (report, code) = status(&gateway);
    assert_eq!((&report["well"], code), (&Value::Bool(true), Some(0)), "{report}");
    let screen = gateway.ask(&["status"]);
    assert!(text(&screen.stdout).contains("box is well") && text(&screen.stdout).contains("cloud  up for"));
    assert!(!text(&screen.stdout).contains('\u{1b}'), "no colours where nobody looks");

    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish("data/a", "x", QoS::AtLeastOnce);
    until("it is acknowledged", || status(&gateway).0["upstreams"][0]["acknowledged"] == 1);
    mosquitto.stop();
    until("the link is down", || status(&gateway).0["upstreams"][0]["state"] != "up");
    for number in 0..30_u8 {
        publisher.publish("few/a", [number], QoS::AtLeastOnce);
        publisher.publish("data/a", [number], QoS::AtLeastOnce);
    }
    until("a try failed", || status(&gateway).1 == Some(1));
    let (report, _) = status(&gateway);
    let queue = |rule: &str| {
        let queues = report["queues"].as_array().unwrap();
        queues.iter().find(|queue| queue["rule"] == rule).unwrap().clone()
    };
    assert_eq!((&queue("data")["messages"], &queue("few")["messages"]), (&30.into(), &10.into()));
    assert!(queue("data")["oldest"].as_u64() <= report["now"].as_u64());
    let lost = serde_json::json!([{ "at": "cloud/few", "reason": "drop-oldest", "messages": 20 }]);
    assert_eq!(report["lost"], lost);
    let screen = text(&gateway.ask(&["status"]).stdout).to_owned();
    for words in
        ["box is not well", "upstream cloud is down", "cloud/few is 100 % full", "20 messages  drop-oldest"]
    {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() < 160), "{screen}");

    mosquitto.start_again();
    until("all is delivered", || status(&gateway).0["queues"][0]["messages"] == 0);
    until("it is well again", || status(&gateway).1 == Some(0));
}

#[test]
fn clients_of_both_kinds_are_listed_asleep_too_and_can_be_sent_away() {
    let radio = Radio::udp();
    let gateway = Gateway::start(&radio.link);
    let mut here = gateway.client(&v5_persistent("here"));
    here.subscribe("t", QoS::AtLeastOnce);
    let mut away = gateway.client(&v5_persistent("away"));
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let mut node = radio.sensor();
    node.connect("node", false, 60);
    node.subscribe("t", QoS::AtLeastOnce);
    node.sleep(600);
    let mut other = radio.sensor();
    other.connect("other", true, 60);
    here.publish("t", "x", QoS::AtLeastOnce);
    here.expect("t", "x");

    let list = || -> Vec<Value> { serde_json::from_slice(&gateway.ask(&["clients", "--json"]).stdout).unwrap() };
    let found: Vec<String> = list()
        .iter()
        .map(|client| {
            let word = |key: &str| client[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {}", word("client_id"), word("kind"), word("state"), client["waiting"])
        })
        .collect();
    assert_eq!(
        found,
        ["away away away 1", "here mqtt connected 0", "node mqtt-sn asleep 1", "other mqtt-sn active 0"]
    );
    let table = text(&gateway.ask(&["clients"]).stdout).to_owned();
    assert!(table.lines().count() == 5 && table.contains("mqtt 5.0") && table.contains("asleep"), "{table}");
    // Page by page it is the same.
    let first: Value = serde_json::from_str(&body(gateway.http(), "/api/clients?max=3")).unwrap();
    assert_eq!(first["next"], "node");
    let rest: Value = serde_json::from_str(&body(gateway.http(), "/api/clients?max=3&after=node")).unwrap();
    assert_eq!((rest["clients"][0]["client_id"].as_str(), &rest["next"]), (Some("other"), &Value::Null));

    let kick = |id: &str| gateway.ask(&["clients", "kick", id]).status.code();
    assert_eq!((kick("here"), kick("other"), kick("away"), kick("nobody")), (Some(0), Some(0), Some(1), Some(1)));
    here.expect_disconnect(moteway::mqtt::ReasonCode::AdministrativeAction);
    let state =
        |id: &str| list().iter().find(|client| client["client_id"] == id).map(|found| found["state"].clone());
    until("it is away", || state("here") == Some("away".into()));
    assert_eq!(state("other"), None, "its session was clean");
    assert_eq!(state("node"), Some("asleep".into()));
    // It may come again.
    let here = gateway.client(&v5_persistent("here"));
    assert!(here.session_present);
}

/// Runs promtool with this on its standard input.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) {
    use std::io::Write;
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests/run installs promtool, of Debian's prometheus");
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let ran = promtool.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}{}\n{input}", text(&ran.stdout), text(&ran.stderr));
}

#[test]
fn prometheus_understands_the_metrics_and_the_alert_rules_name_them() {
    let mosquitto = Mosquitto::start();
    let radio = Radio::serial("cobs");
    let gateway = Gateway::start(&format!("{}{}", cloud(&mosquitto), radio.link));
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish("data/a", "x", QoS::AtLeastOnce);
    let page = || body(gateway.http(), "/metrics");
    until("it is counted", || {
        page().contains("\nmoteway_queue_delivered_total{upstream=\"cloud\",rule=\"data\"} 1\n")
    });
    promtool(&["check", "metrics"], &page());
    // No client, topic or address becomes a label, so a client more is no line more.
    let lines = page().lines().count();
    let _more: Vec<_> = (0..20).map(|number| gateway.client(&v5(&format!("client {number}")))).collect();
    assert!(page().contains("\nmoteway_mqtt_connections 21\n"));
    assert_eq!(page().lines().count(), lines);
    assert_eq!(body(gateway.http(), "/healthz"), "ok\n");
    assert_eq!(body(gateway.http(), "/readyz"), "ready\n");
    assert!(get(gateway.http(), "/nothing").starts_with("HTTP/1.1 404 "));

    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/monitoring");
    let rules = format!("{files}/moteway-alerts.yml");
    promtool(&["check", "rules", &rules], "");
    let known = page();
    for file in [rules, format!("{files}/moteway-dashboard.json")] {
        let words = std::fs::read_to_string(&file).unwrap();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = words.split(|c| !is_name(c)).filter(|word| word.starts_with("moteway_"));
        for name in names {
            assert!(known.contains(&format!("# TYPE {name} ")), "{file}: there is no {name}");
        }
    }
}
