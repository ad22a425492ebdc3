//! rumqttd as the cloud. It forgets everything when it ends and says yes before anything is on a disk, so what it took
//! is its own affair; what it has not taken is ours, and none of that may be lost.

use std::collections::BTreeMap;
use std::ops::Range;

use moteway::mqtt::{QoS, ReasonCode, Version};

use crate::harness::client::{Client, v5};
use crate::harness::gateway::Gateway;
use crate::harness::proxy::Proxy;
use crate::harness::rumqttd::Rumqttd;

/// Messages that wait when a drain begins.
const BACKLOG: u32 = 600;
/// So many of them came when the link is cut.
const BEFORE_THE_CUT: usize = 100;

/// Acknowledged locally, those with odd numbers at `odd`.
fn publish(gateway: &Gateway, numbers: Range<u32>, odd: QoS) {
    let mut publisher = gateway.client(&v5("publisher"));
    for number in numbers {
        let qos = [QoS::AtLeastOnce, odd][number as usize % 2];
        let reason = publisher.publish("data/t", number.to_string(), qos);
        assert!(!reason.is_error(), "{number}: {reason}");
    }
    publisher.disconnect();
}

fn subscriber(broker: &Rumqttd, version: Version) -> Client {
    let mut client = broker.client(version, "subscriber");
    assert_eq!(client.subscribe("data/#", QoS::AtLeastOnce), ReasonCode::GrantedQoS1);
    client
}

/// Takes messages until each of `numbers` came, and says how often each did. What comes for the first time is in order
/// among those of its QoS: rumqttd passes a message of QoS 2 on at PUBREL, and those of QoS 1 go past it.
#[track_caller]
fn take_all(subscriber: &mut Client, numbers: Range<u32>, mut on_new: impl FnMut(usize)) -> Vec<u32> {
    let mut times = BTreeMap::<u32, u32>::new();
    let mut last = [None; 2];
    while times.len() < numbers.len() {
        let number: u32 = subscriber.take().text().parse().unwrap();
        assert!(numbers.contains(&number), "{number} was not sent");
        let count = times.entry(number).or_default();
        *count += 1;
        if *count == 1 {
            let before = last[number as usize % 2].replace(number);
            assert!(before < Some(number), "{number} came after {before:?}");
            on_new(times.len());
        }
    }
    times.into_values().collect()
}

fn nothing_that_it_has_not_taken_is_lost(version: Version, configured: &str) {
    let mut broker = Rumqttd::start();
    let proxy = Proxy::start(broker.address(version));
    let mut gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         version = {configured:?}\nmax_inflight_messages = 50\nreconnect_min = \"50ms\"\nreconnect_max = \"500ms\"\n\
         [[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n",
        proxy.port()
    ));
    gateway.process().says("upstream connected");
    let mut cloud = subscriber(&broker, version);
    let mut publisher = gateway.client(&v5("live"));
    for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
        assert!(!publisher.publish("data/live", number.to_string(), qos).is_error());
        cloud.expect("data/live", &number.to_string());
    }

    // An outage of the line, and another in the middle of the drain. That at QoS 1 only: rumqttd says that it has the
    // session of a link that was cut, but has forgotten its exchanges, and ends each new link at their PUBREL.
    proxy.refuse();
    publish(&gateway, 0..BACKLOG, QoS::AtLeastOnce);
    proxy.resume();
    let times = take_all(&mut cloud, 0..BACKLOG, |arrived| {
        if arrived == BEFORE_THE_CUT {
            proxy.cut();
        }
    });
    let copies: u32 = times.iter().map(|times| times - 1).sum();

    // It dies, and comes back without sessions and messages.
    broker.kill();
    publish(&gateway, BACKLOG..2 * BACKLOG, QoS::ExactlyOnce);
    proxy.refuse();
    broker.start_again();
    let mut cloud = subscriber(&broker, version);
    proxy.resume();
    let again = take_all(&mut cloud, BACKLOG..2 * BACKLOG, |_| {});
    println!(
        "rumqttd {configured}: {} acknowledged in two outages, 0 lost; {copies} copies after a cut during the drain, {} \
         after its death",
        2 * BACKLOG,
        again.iter().map(|times| times - 1).sum::<u32>()
    );
    gateway.process().says("upstream lost");
}

#[test]
fn rumqttd_gets_all_that_was_acknowledged_by_3_1_1() {
    nothing_that_it_has_not_taken_is_lost(Version::V311, "3.1.1");
}

#[test]
fn rumqttd_gets_all_that_was_acknowledged_by_5_0() {
    nothing_that_it_has_not_taken_is_lost(Version::V5, "5");
}
