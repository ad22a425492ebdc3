//! MQTT.js.

use crate::harness::peers;

#[test]
fn mqttjs_does_all_that_it_can_in_3_1_1_and_5_0_over_kill_9() {
    peers::run("mqttjs_client.cjs", "mqtt", &["3.1.1", "5.0"]);
}

#[test]
fn mqttjs_does_the_same_over_websocket() {
    peers::run("mqttjs_client.cjs", "ws", &["3.1.1", "5.0"]);
}

#[test]
fn mqttjs_does_the_same_over_websocket_and_tls() {
    peers::run("mqttjs_client.cjs", "wss", &["3.1.1", "5.0"]);
}
