//! Too much of what is allowed: sessions, retained messages, identifiers, properties, and two that fight for a name.

use std::time::{Duration, Instant};

use moteway::mqtt::{
    Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, ReasonCode, SubscribeOptions,
    SubscribeProperties, Subscription, Version,
};

use crate::harness::BOUND;
use crate::harness::client::{Client, message, v5, v5_persistent, v311};
use crate::harness::until;
use crate::hostile::{Attacker, MIB, Scene};

const V5: Version = Version::V5;

#[test]
fn topic_aliases_take_no_more_memory_than_there_is() {
    let limits = "[broker]\ntopic_alias_maximum = 65535\nmax_topic_bytes = 4096\nmax_buffered_bytes = \"8MiB\"";
    let scene = Scene::new("65 535 topic aliases", limits);
    let topic = "x".repeat(4000);
    for number in 0..4 {
        let mut attacker = scene.attacker(&v5(&format!("aliases{number}")));
        for alias in 1..=u16::MAX {
            let properties = PublishProperties { topic_alias: Some(alias), ..Default::default() };
            let publish = Publish { properties, ..message(&topic, b"", QoS::AtMostOnce) };
            if !attacker.send_packet(V5, &Packet::Publish(publish)) {
                assert!(alias > 500, "ended at alias {alias}");
                break;
            }
        }
    }
    scene.end(16 * MIB);
}

#[test]
fn a_flood_of_user_properties_is_refused() {
    let scene = Scene::new("user properties", "");
    let many = vec![("", ""); 150_000];
    for number in 0..5 {
        let mut client = Client::connect(scene.address(), &v5(&format!("properties{number}")));
        let properties = PublishProperties { user_properties: many.as_slice().into(), ..Default::default() };
        client.post(&Publish { properties, ..message("t", b"", QoS::AtLeastOnce) });
        client.expect_disconnect(ReasonCode::QuotaExceeded);
    }
    scene.end(16 * MIB);
}

#[test]
fn a_retained_flood_is_bounded_and_so_is_he_who_asks_for_it_and_does_not_read() {
    let limits =
        "[broker]\nmax_retained_messages = 5000\nmax_retained_bytes = \"8MiB\"\nmax_outbox_bytes = \"64KiB\"";
    let mut scene = Scene::new("retained flood", limits);
    let mut publisher = scene.attacker(&v311("pub"));
    let payload = [b'x'; 1000];
    for number in 0..20_000 {
        let topic = format!("flood/{number}");
        let publish = Publish { retain: true, ..message(&topic, &payload, QoS::AtMostOnce) };
        until("it is taken", || publisher.send_packet(Version::V311, &Packet::Publish(publish)));
    }
    let mut reader = Client::connect(scene.address(), &v5("reader"));
    reader.subscribe("flood/0", QoS::AtMostOnce);
    reader.expect("flood/0", std::str::from_utf8(&payload).unwrap());
    let kept = scene.growth();
    assert!(kept < 24 * MIB, "{kept} bytes for what may be 8 MiB");
    let names: Vec<String> = (0..50).map(|number| format!("deaf{number}")).collect();
    let mut deaf: Vec<Attacker> = names.iter().map(|name| scene.attacker(&v311(name))).collect();
    for attacker in &mut deaf {
        attacker.send_packet(Version::V311, &subscribe(&["flood/#"]));
    }
    reader.ping();
    scene.end(80 * MIB);
}

/// SUBSCRIBE at QoS 1.
fn subscribe<'a>(filters: &'a [&'a str]) -> Packet<'a> {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters: Vec<Subscription<'a>> = filters.iter().map(|filter| Subscription { filter, options }).collect();
    let filters: &'a [Subscription<'a>] = filters.leak();
    Packet::Subscribe(moteway::mqtt::Subscribe {
        pkid: 1,
        properties: SubscribeProperties::default(),
        filters: filters.into(),
    })
}

#[test]
fn slow_consumers_of_qos_1_lose_what_does_not_fit_and_cost_no_more_than_that() {
    let limits = "[broker]\nmax_outbox_bytes = \"64KiB\"\n[store]\nmax_memory_bytes = \"16MiB\"";
    let scene = Scene::new("slow consumers of QoS 1", limits);
    let names: Vec<String> = (0..100).map(|number| format!("slow{number}")).collect();
    let mut slow: Vec<Attacker> = names.iter().map(|name| scene.attacker(&v311(name))).collect();
    for attacker in &mut slow {
        attacker.send_packet(Version::V311, &subscribe(&["news/#"]));
    }
    let mut publisher = Client::connect(scene.address(), &v5("pub"));
    // 20 MB for each of 100: 2 GB if it were all kept.
    let payload = [b'x'; 10_000];
    for number in 0..2000 {
        publisher.publish(&format!("news/{number}"), payload, QoS::AtLeastOnce);
    }
    scene.end(64 * MIB);
}

#[test]
fn a_storm_of_clients_leaves_no_more_sessions_than_allowed() {
    let scene = Scene::new("connect storm", "[broker]\nmax_sessions = 500");
    let mut refused = 0;
    for number in 0..2000 {
        let name = format!("{number}-{}", "x".repeat(500));
        let mut attacker = Attacker::dial(scene.address());
        match attacker.introduce(&v5_persistent(&name)) {
            ReasonCode::Success => {}
            ReasonCode::QuotaExceeded => refused += 1,
            reason => panic!("{reason}"),
        }
    }
    // The bystander has a session as well.
    assert_eq!(refused, 2000 - 499);
    scene.end(8 * MIB);
}

#[test]
fn two_that_steal_the_session_from_each_other_do_not_starve_others() {
    let scene = Scene::new("a name for two", "");
    let address = scene.address();
    let end = Instant::now() + Duration::from_secs(2);
    let thief = move || {
        let mut count = 0;
        let properties = ConnectProperties { session_expiry: Some(60), ..Default::default() };
        while Instant::now() < end && count < 5000 {
            let mut attacker = Attacker::dial(address);
            let mut bytes = Vec::new();
            Connect { clean_start: false, properties, ..v5("mine") }.encode(&mut bytes);
            attacker.send(&bytes);
            count += 1;
        }
        count
    };
    let thieves = [std::thread::spawn(thief), std::thread::spawn(thief)];
    let count: u32 = thieves.into_iter().map(|thief| thief.join().unwrap()).sum();
    assert!(count > 100, "{count}");
    scene.end(16 * MIB);
}

#[test]
fn qos_2_without_pubrel_ends_at_the_identifiers_there_are() {
    let scene = Scene::new("QoS 2 without PUBREL", "");
    for version in [Version::V311, V5] {
        let mut attacker = scene.attacker(&Connect { version, ..v5("flood") });
        let mut bytes = Vec::new();
        for pkid in 1..=u16::MAX {
            Publish { pkid, ..message("t", b"x", QoS::ExactlyOnce) }.encode(version, &mut bytes);
        }
        attacker.stream.set_write_timeout(Some(BOUND)).unwrap();
        let mut reader = Attacker { stream: attacker.stream.try_clone().unwrap() };
        let answers = std::thread::spawn(move || {
            if version == V5 {
                // Receive Maximum is exceeded: it is told and closed [MQTT-3.3.4-9].
                return reader.drain();
            }
            // PUBREC of four bytes for each.
            let mut answers = vec![0; 4 * usize::from(u16::MAX)];
            std::io::Read::read_exact(&mut reader.stream, &mut answers).unwrap();
            answers.len() as u64
        });
        attacker.send(&bytes);
        assert!(answers.join().unwrap() > 1000);
    }
    scene.end(24 * MIB);
}

#[test]
fn shares_of_the_line_are_fair_while_one_floods() {
    let scene = Scene::new("QoS 0 flood", "");
    let mut flood = Vec::new();
    message("flood/a", &[b'x'; 64], QoS::AtMostOnce).encode(Version::V311, &mut flood);
    let mut slow = scene.attacker(&v311("slow"));
    slow.send_packet(Version::V311, &subscribe(&["flood/#"]));
    let mut attacker = scene.attacker(&v311("flood"));
    let sent = attacker.repeat(&flood, 300_000);
    assert!(sent > 50_000, "{sent} messages were taken");
    scene.end(16 * MIB);
}
