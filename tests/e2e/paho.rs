//! Eclipse Paho for Python.

use crate::harness::peers;

#[test]
fn paho_does_all_that_it_can_in_3_1_1_and_5_0_over_kill_9() {
    peers::run("paho_client.py", "mqtt", &["3.1.1", "5.0"]);
}

#[test]
fn paho_does_the_same_over_websocket() {
    peers::run("paho_client.py", "ws", &["3.1.1", "5.0"]);
}

#[test]
fn paho_does_the_same_over_websocket_and_tls() {
    peers::run("paho_client.py", "wss", &["3.1.1", "5.0"]);
}
