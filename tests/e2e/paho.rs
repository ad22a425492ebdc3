//! Eclipse Paho for Python.

use crate::harness::peers;

#[test]
fn paho_does_all_that_it_can_in_3_1_1_and_5_0_over_kill_9() {
    peers::run("paho_client.py", &["3.1.1", "5.0"]);
}
