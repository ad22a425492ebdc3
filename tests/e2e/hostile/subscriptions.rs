//! Filters in great numbers and great depth.

use std::time::Instant;

use moteway::mqtt::{
    Packet, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscribeProperties, Subscription, Version,
};

use crate::harness::client::{Client, v5};
use crate::hostile::{Attacker, MIB, Scene};

/// Sends one SUBSCRIBE and gives the codes of its SUBACK.
fn subscribe(attacker: &mut Attacker, filters: &[String]) -> Vec<u8> {
    let options = SubscribeOptions::default();
    let filters: Vec<Subscription<'_>> = filters.iter().map(|filter| Subscription { filter, options }).collect();
    let properties = SubscribeProperties::default();
    let packet = Packet::Subscribe(Subscribe { pkid: 1, properties, filters: filters.as_slice().into() });
    assert!(attacker.send_packet(Version::V5, &packet));
    attacker.packet(Version::V5, |packet| match packet {
        Packet::SubAck(ack) => ack.codes.to_vec(),
        packet => panic!("{packet:?} instead of SUBACK"),
    })
}

const GRANTED: u8 = 0;
const QUOTA: u8 = 0x97;

#[test]
fn of_65_535_filters_in_one_packet_as_many_are_granted_as_allowed() {
    let scene = Scene::new("65 535 filters in one packet", "");
    let mut attacker = scene.attacker(&v5("bomb"));
    let filters: Vec<String> = (0..65_535).map(|number| format!("f/{number}")).collect();
    let codes = subscribe(&mut attacker, &filters);
    assert_eq!(codes.iter().filter(|code| **code == GRANTED).count(), 1000);
    assert_eq!(codes.iter().filter(|code| **code == QUOTA).count(), 64_535);
    scene.end(16 * MIB);
}

#[test]
fn as_many_subscriptions_as_are_allowed_can_be_made_one_by_one() {
    let scene =
        Scene::new("65 535 subscriptions in packets of 64", "[broker]\nmax_subscriptions_per_client = 65535");
    let mut attacker = scene.attacker(&v5("bomb"));
    let begin = Instant::now();
    let filters: Vec<String> = (0..65_536).map(|number| format!("f/{number}")).collect();
    let codes: Vec<u8> = filters.chunks(64).flat_map(|chunk| subscribe(&mut attacker, chunk)).collect();
    assert_eq!(codes.iter().filter(|code| **code == GRANTED).count(), 65_535);
    eprintln!("65 535 subscriptions in {:?}", begin.elapsed());
    scene.end(64 * MIB);
}

/// All filters of this length out of `a` and `+`, with `#` at the end of every second.
fn overlapping(levels: u32) -> Vec<String> {
    let level = |bits: u32, at: u32| if bits >> at & 1 == 1 { "+" } else { "a" };
    let filter = |bits: u32| {
        let mut filter: Vec<&str> = (0..levels).map(|at| level(bits, at)).collect();
        if bits % 2 == 1 {
            filter.push("#");
        }
        filter.join("/")
    };
    (0..1 << levels).map(filter).collect()
}

#[test]
fn filters_that_overlap_a_thousandfold_deliver_once_at_a_bounded_cost() {
    let scene = Scene::new("overlapping filters", "");
    let filters = overlapping(9);
    let mut attackers: Vec<Attacker> =
        (0..100).map(|number| scene.attacker(&v5(&format!("overlap{number}")))).collect();
    for attacker in &mut attackers {
        let codes = subscribe(attacker, &filters);
        assert!(codes.iter().all(|code| *code == GRANTED));
    }
    let mut publisher = Client::connect(scene.address(), &v5("pub"));
    let begin = Instant::now();
    for _ in 0..100 {
        publisher.publish("a/a/a/a/a/a/a/a/a", "x", QoS::AtLeastOnce);
    }
    let known = begin.elapsed();
    // Each of these topics is new: the tree is walked for each.
    let begin = Instant::now();
    for number in 0..20 {
        publisher.publish(&format!("a/a/a/a/a/a/a/a/a/{number}"), "x", QoS::AtLeastOnce);
    }
    eprintln!("51 200 matching filters: 100 publishes in {known:?}, 20 on new topics in {:?}", begin.elapsed());
    for attacker in &mut attackers {
        // Exactly once each: 100 of the one, then those of the others.
        for _ in 0..100 {
            attacker.packet(Version::V5, |packet| match packet {
                Packet::Publish(publish) => assert_eq!(publish.topic, "a/a/a/a/a/a/a/a/a"),
                packet => panic!("{packet:?}"),
            });
        }
        attacker.packet(Version::V5, |packet| match packet {
            Packet::Publish(publish) => assert_eq!(publish.topic, "a/a/a/a/a/a/a/a/a/0"),
            packet => panic!("{packet:?}"),
        });
    }
    scene.end(48 * MIB);
}

#[test]
fn topics_of_65_535_levels_are_refused_or_walked_in_a_moment() {
    let scene = Scene::new("deep topics", "");
    let deep = "/".repeat(65_534);
    let mut client = Client::connect(scene.address(), &v5("deep"));
    assert_eq!(client.subscribe(&deep, QoS::AtLeastOnce), ReasonCode::TopicFilterInvalid);
    assert_eq!(client.publish(&deep, "x", QoS::AtLeastOnce), ReasonCode::TopicNameInvalid);
    scene.end(8 * MIB);

    let limits = "[broker]\nmax_topic_levels = 65535\nmax_topic_bytes = 65535";
    let scene = Scene::new("deep topics, allowed", limits);
    let mut client = Client::connect(scene.address(), &v5("deep"));
    // A plus on each of 30 000 levels, and one that leads all the way down beside it.
    let bomb = format!("{}#", "+/".repeat(30_000));
    for filter in [bomb.as_str(), &deep] {
        client.subscribe(filter, QoS::AtMostOnce);
    }
    let begin = Instant::now();
    for _ in 0..10 {
        client.publish(&deep, "x", QoS::AtLeastOnce);
        assert_eq!(client.take().topic, deep);
    }
    eprintln!("10 publishes on 65 535 levels in {:?}", begin.elapsed());
    client.unsubscribe(&bomb);
    client.unsubscribe(&deep);
    scene.end(64 * MIB);
}
