//! MQTT.js.

use crate::harness::peers;

#[test]
fn mqttjs_does_all_that_it_can_in_3_1_1_and_5_0_over_kill_9() {
    peers::run("mqttjs_client.cjs", &["3.1.1", "5.0"]);
}
