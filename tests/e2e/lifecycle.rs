//! Start and stop: what the service manager and the operator see.

use std::time::Duration;

use moteway::mqtt::{QoS, ReasonCode};

use crate::harness::client::{Client, message, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::process::Process;

#[test]
fn sigterm_says_goodbye_keeps_everything_and_exits_0() {
    let mut gateway = Gateway::start("");
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    subscriber.disconnect();
    gateway.terminate();
    // Only now, for SUBACK waits for a commit as well.
    gateway.add("[store]\ncommit_interval = \"60s\"");
    gateway.start_again();
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.post(&message("t", b"kept", QoS::AtLeastOnce));
    publisher.ping();
    // The commit would be a minute away, but stopping makes safe what is under way.
    let (status, said) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("stopped"), "{said}");
    assert_eq!(publisher.puback(1), ReasonCode::Success, "what is safe is acknowledged before");
    publisher.expect_disconnect(ReasonCode::ServerShuttingDown);

    gateway.start_again();
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    assert!(subscriber.session_present);
    subscriber.expect("t", "kept");
}

#[test]
fn sigterm_is_quick_with_peers_that_do_not_read() {
    let mut gateway = Gateway::start("");
    let mut deaf = gateway.client(&v5("deaf"));
    deaf.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    let payload = vec![0; 100_000];
    for _ in 0..100 {
        publisher.publish("flood", &payload, QoS::AtMostOnce);
    }
    publisher.ping();
    let begin = std::time::Instant::now();
    let (status, said) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop(deaf);
}

#[test]
fn a_second_gateway_on_the_same_state_is_refused() {
    let mut first = Gateway::start("");
    let config = std::fs::read_to_string(first.config()).unwrap();
    let other = first.dir().join("other.toml");
    let port = format!("127.0.0.1:{}", first.port());
    std::fs::write(&other, config.replace(&port, &format!("127.0.0.1:{}", crate::harness::free_port()))).unwrap();
    let mut second = Process::start("second moteway", first.command().arg("--config").arg(&other));
    let status = second.wait();
    let said = second.text();
    assert_eq!(status.code(), Some(1), "{said}");
    let state = first.state_dir();
    assert!(said.contains(state.to_str().unwrap()), "names the directory: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(first.is_running());
    first.client(&v5("c")).ping();
}

#[test]
fn a_second_gateway_on_the_same_port_is_refused() {
    let first = Gateway::start("");
    let second = Gateway::prepare("other", "");
    let config = std::fs::read_to_string(second.config()).unwrap();
    let taken = config.replace(&format!(":{}\"", second.port()), &format!(":{}\"", first.port()));
    std::fs::write(second.config(), taken).unwrap();
    let mut process = Process::start("second moteway", second.command().arg("--config").arg(second.config()));
    let status = process.wait();
    let said = process.text();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&first.address().to_string()), "names the address: {said}");
}

#[test]
fn a_wrong_configuration_exits_78_and_names_the_place() {
    let gateway = Gateway::prepare("box", "[broker]\nmax_conections = 5\n");
    let mut process = Process::start("moteway", gateway.command().arg("--config").arg(gateway.config()));
    let status = process.wait();
    let said = process.text();
    assert_eq!(status.code(), Some(78), "{said}");
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let line = 1 + text.lines().position(|line| line.starts_with("max_conections")).unwrap();
    let place = format!("{}:{line}:1", gateway.config().display());
    assert!(said.contains(&place), "{place} in: {said}");
    assert!(said.contains("max_connections"), "a remedy: {said}");
    assert!(!gateway.state_dir().exists(), "nothing is touched");
}

#[test]
fn a_missing_configuration_exits_78() {
    let gateway = Gateway::prepare("box", "");
    let missing = gateway.dir().join("missing.toml");
    let mut process = Process::start("moteway", gateway.command().arg("--config").arg(&missing));
    let status = process.wait();
    assert_eq!(status.code(), Some(78), "{}", process.text());
    assert!(process.text().contains(missing.to_str().unwrap()), "{}", process.text());
}

#[test]
fn clients_in_a_restart_find_their_way_back() {
    let mut gateway = Gateway::start("");
    let mut client = gateway.client(&v5_persistent("c"));
    client.subscribe("t", QoS::ExactlyOnce);
    for round in 0..5 {
        let (status, said) = gateway.terminate();
        assert!(status.success(), "{said}");
        assert!(Client::try_connect(gateway.address(), &v5("nobody")).is_none());
        gateway.start_again();
        let mut client = gateway.client(&v5_persistent("c"));
        assert!(client.session_present);
        let text = round.to_string();
        client.publish("t", &text, QoS::ExactlyOnce);
        client.expect("t", &text);
        // Our PUBCOMP has arrived: after the restart there is no PUBREL again.
        client.ping();
    }
}
