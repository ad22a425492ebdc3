//! The bridge, with a real mosquitto as the cloud.

mod cloud;
mod exactly;
mod faults;
mod ledger;
mod queues;
mod ring;
mod slow;
#[cfg(feature = "pkcs11")]
mod token;
mod trace;
mod trust;

use std::net::SocketAddr;

use moteway::mqtt::QoS;

use crate::harness::client::{Client, v5};
use crate::harness::gateway::Gateway;

/// An upstream called `cloud` at this URL that is tried again soon, with more keys, and its rules.
fn upstream(url: &str, keys: &str, rules: &[Rule<'_>]) -> String {
    let rules = rules.iter().map(Rule::table).collect::<String>();
    format!(
        "[[upstream]]\nname = \"cloud\"\nurl = [{url:?}]\nreconnect_min = \"50ms\"\nreconnect_max = \"500ms\"\n\
         {keys}\n{rules}"
    )
}

/// The URL of a plain listener.
fn plain(at: SocketAddr) -> String {
    format!("mqtt://{at}")
}

/// A rule: its name and direction, the filter, and the topic on the other side.
struct Rule<'a>(&'a str, &'a str, &'a str, &'a str);

/// All that is published under `data/` goes up as it is.
const DATA: Rule<'_> = Rule("data", "out", "data/#", "");

impl Rule<'_> {
    fn table(&self) -> String {
        let Self(name, direction, filter, remap) = self;
        format!(
            "[[upstream.rule]]\nname = {name:?}\ndirection = {direction:?}\nfilter = {filter:?}\nremap = {remap:?}\n"
        )
    }
}

/// Hears what the gateway says of its link to the cloud.
struct LinkState(Client);

impl LinkState {
    #[track_caller]
    fn of(gateway: &Gateway) -> Self {
        let mut client = gateway.client(&v5(&format!("observer {}", fastrand::u32(..))));
        client.subscribe("moteway/upstream/cloud", QoS::AtMostOnce);
        Self(client)
    }

    /// Waits until the link is said to be `online` or `offline`, and returns the detail.
    #[track_caller]
    fn wait(&mut self, state: &str) -> String {
        loop {
            let said: serde_json::Value = serde_json::from_slice(&self.0.delivery().payload).unwrap();
            if said["state"] == state {
                return said["detail"].as_str().unwrap().to_owned();
            }
        }
    }
}

/// Publishes and receives locally, which must not take long whatever the upstream does.
#[track_caller]
fn local_traffic_flows(gateway: &Gateway) {
    let begin = std::time::Instant::now();
    let mut client = gateway.client(&v5("local"));
    client.subscribe("local/#", QoS::ExactlyOnce);
    for number in 0..20_u32 {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 3];
        client.publish_numbers("local/t", number..=number, qos);
        client.expect_numbers("local/t", number..=number);
    }
    client.disconnect();
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "local traffic was held up: {took:?}");
}
