//! Two gateways, each of which sends to the other what the other sends to it.

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
    let mut client = gateway.client(&v5("subscriber"));
    client.subscribe("shared/#", QoS::AtLeastOnce);
    client
}

/// Each publishes in turn; both must see each message once, in order, whatever goes round.
fn each_message_is_seen_once(rules: [&str; 2]) {
    let ports = [free_port(), free_port()];
    let (one, two) = (gateway("one", ports[0], ports[1], rules[0]), gateway("two", ports[1], ports[0], rules[1]));
    for gateway in [&one, &two] {
        LinkState::of(gateway).wait("online");
    }
    let mut subscribers = [subscriber(&one), subscriber(&two)];
    let mut publishers = [one.client(&v5("publisher")), two.client(&v5("publisher"))];
    for number in 0..40_u32 {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
        publishers[number as usize % 2].publish("shared/t", number.to_string(), qos);
        // In step, so that a second copy would come before the next number.
        for subscriber in &mut subscribers {
            subscriber.expect("shared/t", &number.to_string());
        }
    }
}

const OUT: &str = "[[upstream.rule]]\nname = \"all\"\nfilter = \"#\"\nexclude = [\"moteway/#\"]\n";
const BOTH: &str =
    "[[upstream.rule]]\nname = \"all\"\ndirection = \"both\"\nfilter = \"#\"\nexclude = [\"moteway/#\"]\n";

#[test]
fn two_gateways_that_send_each_other_everything_see_each_message_once() {
    each_message_is_seen_once([OUT, OUT]);
}

#[test]
fn a_gateway_that_sends_and_fetches_everything_sees_each_message_once() {
    each_message_is_seen_once([BOTH, ""]);
}
