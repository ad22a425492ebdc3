//! QoS 2 to the upstream is exactly once, whichever side is started again, and whenever.

use std::collections::BTreeSet;

use fastrand::Rng;
use moteway::mqtt::QoS;

use crate::bridge::{DATA, LinkState, plain, upstream};
use crate::harness::client::{v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;

const ROUNDS: u32 = 16;
const EACH: u32 = 120;

/// Publishes numbers while the cloud is stopped and the gateway killed in turn, each in the middle of what it does.
fn each_comes_once(version: &str) {
    let mut rng = Rng::with_seed(5);
    let mut mosquitto = Mosquitto::start();
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::ExactlyOnce);
    cloud.disconnect();
    let tables = upstream(&plain(mosquitto.address()), &format!("version = {version:?}"), &[DATA]);
    let mut gateway = Gateway::start(&format!("[store]\ncommit_interval = \"2ms\"\n{tables}"));
    for round in 0..ROUNDS {
        LinkState::of(&gateway).wait("online");
        let mut publisher = gateway.client(&v5("publisher"));
        let numbers = round * EACH..(round + 1) * EACH;
        // Mosquitto 2.0.11 does not keep the session of a 5.0 client over its own restart while that connection lasts
        // that began with a clean start, as the first one does: the gateway goes first.
        match if round == 0 { 0 } else { rng.u8(..3) } {
            0 => {
                publisher.publish_numbers("data/t", numbers, QoS::ExactlyOnce);
                gateway.kill_and_restart();
            }
            1 => {
                publisher.publish_numbers("data/t", numbers, QoS::ExactlyOnce);
                mosquitto.stop();
                mosquitto.start_again();
            }
            _ => {
                mosquitto.stop();
                publisher.publish_numbers("data/t", numbers, QoS::ExactlyOnce);
                gateway.kill_and_restart();
                mosquitto.start_again();
            }
        }
    }
    let all = ROUNDS * EACH;
    gateway.client(&v5("publisher")).publish_numbers("data/t", all..=all, QoS::ExactlyOnce);
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    assert!(cloud.session_present);
    // None twice, none missing, up to the last.
    let (mut missing, mut overtaken): (BTreeSet<u32>, u32) = ((0..=all).collect(), 0);
    while let Some(first) = missing.first().copied() {
        let delivery = cloud.take();
        let number: u32 = delivery.text().parse().unwrap();
        assert!(missing.remove(&number), "{number} came twice");
        overtaken += u32::from(number != first);
    }
    println!("{} messages, {overtaken} before an older one", all + 1);
}

#[test]
fn qos_2_is_exactly_once_to_the_cloud_over_stops_and_power_cuts_of_either_side() {
    for version in ["5", "3.1.1"] {
        each_comes_once(version);
    }
}
