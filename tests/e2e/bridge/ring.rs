//! Two gateways, each of which sends to the other what the other sends to it.

use std::ops::Range;

use moteway::mqtt::QoS;

use crate::bridge::{LinkState, upstream};
use crate::harness::client::{Client, v5};
use crate::harness::free_port;
use crate::harness::gateway::Gateway;

/// A gateway with a second listener on `port`, and its rules for the other.
fn gateway(name: &str, port: u16, other: u16, rules: &str) -> Gateway {
    let listener = format!("[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:{port}\"\n");
    let tables = upstream(&format!("mqtt://127.0.0.1:{other}"), "", &[]);
    Gateway::start_named(name, &format!("{listener}{tables}{rules}"))
}

fn subscriber(gateway: &Gateway) -> Client {
    let mut client = gateway.client(&v5(""));
    client.subscribe("shared/#", QoS::AtLeastOnce);
    client
}

/// Two that have links to each other, where both have rules for that.
fn pair(names: [&str; 2], rules: [&str; 2]) -> [Gateway; 2] {
    let ports = [free_port(), free_port()];
    let start = |at: usize| gateway(names[at], ports[at], ports[1 - at], rules[at]);
    let pair = [start(0), start(1)];
    for gateway in &pair {
        LinkState::of(gateway).wait("online");
    }
    pair
}

/// Each publishes in turn; both must see each message once, in order, whatever goes round.
fn each_message_is_seen_once(pair: &[Gateway; 2], numbers: Range<u32>) {
    let mut subscribers = [subscriber(&pair[0]), subscriber(&pair[1])];
    let mut publishers = [pair[0].client(&v5("publisher")), pair[1].client(&v5("publisher"))];
    for number in numbers {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
        publishers[number as usize % 2].publish("shared/t", number.to_string(), qos);
        // In step, so that a second copy would come before the next number.
        for subscriber in &mut subscribers {
            subscriber.expect("shared/t", &number.to_string());
        }
    }
}

fn rule(direction: &str) -> String {
    format!(
        "[[upstream.rule]]\nname = \"all\"\ndirection = {direction:?}\nfilter = \"#\"\nexclude = [\"moteway/#\"]\n"
    )
}

#[test]
fn two_gateways_that_send_each_other_everything_see_each_message_once() {
    each_message_is_seen_once(&pair(["one", "two"], [&rule("out"), &rule("out")]), 0..40);
}

#[test]
fn a_gateway_that_sends_and_fetches_everything_sees_each_message_once() {
    each_message_is_seen_once(&pair(["one", "two"], [&rule("both"), ""]), 0..40);
}

#[test]
fn two_gateways_that_fetch_everything_from_each_other_see_each_message_once() {
    each_message_is_seen_once(&pair(["one", "two"], [&rule("in"), &rule("in")]), 0..40);
}

#[test]
fn two_gateways_that_send_and_fetch_everything_see_each_message_once_over_a_power_cut() {
    let mut pair = pair(["one", "two"], [&rule("both"), &rule("both")]);
    each_message_is_seen_once(&pair, 0..40);
    let mut other = subscriber(&pair[1]);
    pair[0].kill_and_restart();
    // Before the links are there again, and while they come.
    let mut publisher = pair[0].client(&v5("publisher"));
    publisher.publish_numbers("shared/t", 40..60, QoS::AtLeastOnce);
    other.expect_numbers("shared/t", 40..60);
    for gateway in &pair {
        LinkState::of(gateway).wait("online");
    }
    each_message_is_seen_once(&pair, 60..80);
    other.expect_numbers("shared/t", 60..80);
}

#[test]
fn two_gateways_of_one_name_take_each_others_messages() {
    let client_ids = ["client_id = \"a\"", "client_id = \"b\""];
    let ports = [free_port(), free_port()];
    let start = |at: usize| {
        let listener = format!("[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:{}\"\n", ports[at]);
        let url = format!("mqtt://127.0.0.1:{}", ports[1 - at]);
        Gateway::start_named("box", &format!("{listener}{}{}", upstream(&url, client_ids[at], &[]), rule("both")))
    };
    let pair = [start(0), start(1)];
    for gateway in &pair {
        LinkState::of(gateway).wait("online");
    }
    each_message_is_seen_once(&pair, 0..40);
}
