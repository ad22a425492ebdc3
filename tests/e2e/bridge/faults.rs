//! An upstream that is away, mute, unknown, or dies of a message.

use std::collections::BTreeMap;

use moteway::mqtt::QoS;

use crate::bridge::{DATA, LinkState, local_traffic_flows, plain, upstream};
use crate::harness::client::{Client, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::proxy::Proxy;

/// Many messages are published here one by one, each of which waits for its commit.
const PROMPT: &str = "[store]\ncommit_interval = \"1ms\"\n";

/// A receiver in the cloud whose messages wait for it.
fn receiver(mosquitto: &Mosquitto) -> Client {
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::ExactlyOnce);
    cloud
}

#[test]
fn what_was_acknowledged_in_an_outage_survives_a_power_cut_and_arrives_in_order() {
    for version in ["5", "3.1.1"] {
        let mut mosquitto = Mosquitto::start();
        let keys = format!("version = {version:?}");
        let tables = upstream(&plain(mosquitto.address()), &keys, &[DATA]);
        let mut gateway = Gateway::start(&format!("{PROMPT}{tables}"));
        let mut link = LinkState::of(&gateway);
        link.wait("online");
        receiver(&mosquitto).disconnect();
        mosquitto.stop();
        link.wait("offline");
        let levels = [("data/1", QoS::AtLeastOnce), ("data/2", QoS::ExactlyOnce)];
        let mut publisher = gateway.client(&v5("publisher"));
        for number in 0..300 {
            for (topic, qos) in levels {
                publisher.publish_numbers(topic, number..=number, qos);
            }
        }
        gateway.kill_and_restart();
        let mut publisher = gateway.client(&v5("publisher"));
        for (topic, qos) in levels {
            publisher.publish_numbers(topic, 300..400, qos);
        }
        gateway.kill();
        mosquitto.start_again();
        let mut cloud = mosquitto.client(&v5_persistent("cloud"));
        assert!(cloud.session_present);
        gateway.start_again();
        // The upstream saw none of them before, so each comes once.
        let mut next = BTreeMap::from(levels.map(|(topic, _)| (topic.to_owned(), 0_u32)));
        for _ in 0..800 {
            let delivery = cloud.take();
            let next = next.get_mut(&delivery.topic).unwrap();
            assert_eq!(delivery.text(), next.to_string(), "on {}", delivery.topic);
            *next += 1;
        }
        assert!(next.values().all(|next| *next == 400), "{next:?}");
    }
}

#[test]
fn a_stalled_link_is_given_up_and_the_queue_drains_when_it_recovers() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let keys = "stuck_timeout = \"1s\"\nconnect_timeout = \"1s\"";
    let mut gateway = Gateway::start(&format!("{PROMPT}{}", upstream(&url, keys, &[DATA])));
    let mut link = LinkState::of(&gateway);
    link.wait("online");
    let mut cloud = receiver(&mosquitto);
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_numbers("data/t", 0..100, QoS::AtLeastOnce);
    cloud.expect_numbers("data/t", 0..100);

    proxy.stall();
    publisher.publish_numbers("data/t", 100..400, QoS::AtLeastOnce);
    local_traffic_flows(&gateway);
    assert_eq!(link.wait("offline"), "connected, but nothing acknowledged");
    gateway.process().says("no CONNACK in time");
    local_traffic_flows(&gateway);
    publisher.publish_numbers("data/t", 400..1000, QoS::AtLeastOnce);

    proxy.resume();
    link.wait("online");
    let mut next = 100;
    while next < 1000 {
        let number: u32 = cloud.take().text().parse().unwrap();
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
}

#[test]
fn a_cloud_that_refuses_connections_is_tried_until_it_does_not() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let mut gateway = Gateway::start(&upstream(&url, "", &[DATA]));
    let mut link = LinkState::of(&gateway);
    let mut cloud = receiver(&mosquitto);
    let mut publisher = gateway.client(&v5("publisher"));
    for round in 0..3 {
        link.wait("online");
        proxy.refuse();
        link.wait("offline");
        gateway.process().says("Connection refused");
        publisher.publish_numbers("data/t", round * 50..(round + 1) * 50, QoS::ExactlyOnce);
        proxy.resume();
        cloud.expect_numbers("data/t", round * 50..(round + 1) * 50);
    }
}

#[test]
fn a_name_that_cannot_be_found_does_not_hold_up_local_traffic() {
    let mut gateway = Gateway::start(&upstream("mqtt://no-such-host.invalid", "", &[DATA]));
    // From the first moment, while the name is asked for, and after.
    for _ in 0..5 {
        local_traffic_flows(&gateway);
        gateway.client(&v5("publisher")).publish_numbers("data/t", 0..20, QoS::AtLeastOnce);
    }
    LinkState::of(&gateway).wait("offline");
    gateway.process().says("the name no-such-host.invalid");
    local_traffic_flows(&gateway);
}

/// A message that the cloud cannot take is put aside, and those behind it arrive.
fn poison_goes_to_the_dead_letters(version: &str, limit: &str, words: &str) {
    let mosquitto = Mosquitto::start_with(None, limit);
    let keys = format!("version = {version:?}");
    let mut gateway = Gateway::start(&upstream(&plain(mosquitto.address()), &keys, &[DATA]));
    LinkState::of(&gateway).wait("online");
    let mut cloud = receiver(&mosquitto);
    let mut publisher = gateway.client(&v5("publisher"));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish_numbers("data/t", 0..10, qos);
        publisher.publish("data/t", vec![b'x'; 20_000], qos);
        publisher.publish_numbers("data/t", 10..110, qos);
        // In 3.1.1 those around it may be sent more than once before it is found out.
        let mut next = 0;
        while next < 110 {
            let number: u32 = cloud.take().text().parse().unwrap();
            assert!(number <= next, "{number} came before {next}");
            next = next.max(number + 1);
        }
    }
    gateway.process().line(words, |line| {
        let parts = ["message moved to the dead letters", "cloud", "data", words];
        parts.iter().all(|part| line.contains(part)).then_some(())
    });
    let said = gateway.process().text();
    assert_eq!(said.matches(words).count(), 2, "{said}");
}

#[test]
fn poison_that_is_over_the_announced_limit_is_not_even_sent() {
    poison_goes_to_the_dead_letters("5", "max_packet_size 10000", "is too large, the upstream takes 10000");
}

#[test]
fn poison_that_the_upstream_refuses_is_put_aside() {
    poison_goes_to_the_dead_letters("5", "message_size_limit 10000", "upstream refused it: Packet too large");
}

#[test]
fn poison_that_the_upstream_closes_at_is_found_out() {
    let words = "the link ended each time it was sent";
    poison_goes_to_the_dead_letters("3.1.1", "max_packet_size 10000", words);
}
