//! What goes up and what comes down while all is well, and what the cloud hears of the link.

use moteway::mqtt::{Publish, PublishProperties, QoS};

use crate::bridge::{LinkState, Rule, plain, upstream};
use crate::harness::certs::Certs;
use crate::harness::client::{message, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

const TELEMETRY: Rule<'_> =
    Rule("telemetry", "out", "site/{room}/{sensor}/{rest#}", "fleet/{gateway}/{sensor}/{room}/{rest}");
const COMMANDS: Rule<'_> = Rule("commands", "in", "fleet/{gateway}/command/{rest#}", "command/{rest}");

/// Both directions, all levels, over TLS with a client certificate.
fn messages_pass_both_ways(version: &str) {
    let certs = Certs::new();
    let mosquitto = Mosquitto::start_tls(&certs);
    let mut cloud = mosquitto.client(&v5("cloud"));
    let retained = |topic, payload| Publish { retain: true, ..message(topic, payload, QoS::AtLeastOnce) };
    cloud.publish_packet(&retained("fleet/box/command/mode", b"night"));
    cloud.subscribe("fleet/box/heat/#", QoS::ExactlyOnce);

    let keys = format!("version = {version:?}\n{}", certs.upstream_tls());
    let url = format!("mqtts://localhost:{}", mosquitto.tls_address().port());
    let gateway = Gateway::start(&upstream(&url, &keys, &[TELEMETRY, COMMANDS]));
    LinkState::of(&gateway).wait("online");
    let mut device = gateway.client(&v5("device"));
    device.subscribe("command/#", QoS::ExactlyOnce);
    // It may have come before or after the subscription here.
    device.expect("command/mode", "night");

    for qos in LEVELS {
        // No rule wants these.
        device.publish("site/hall", "too short", qos);
        device.publish("other/hall/heat", "elsewhere", qos);
        device.publish("site/hall/heat/top/1", format!("at {qos:?}"), qos);
        let delivery = cloud.expect("fleet/box/heat/hall/top/1", &format!("at {qos:?}"));
        assert_eq!((delivery.qos, delivery.dup), (qos, false));
        // Another box's.
        cloud.publish("fleet/other/command/light", "on", qos);
        cloud.publish("fleet/box/command/light/2", format!("on at {qos:?}"), qos);
        let delivery = device.expect("command/light/2", &format!("on at {qos:?}"));
        assert_eq!((delivery.qos, delivery.retain), (qos, false));
    }
    // The captures that may be empty are.
    device.publish("site/hall/heat", "no rest", QoS::AtLeastOnce);
    cloud.expect("fleet/box/heat/hall", "no rest");

    device.publish_packet(&retained("site/hall/heat/last", b"21.5"));
    cloud.expect("fleet/box/heat/hall/last", "21.5");
    let mut late = mosquitto.client(&v5("late"));
    late.subscribe("fleet/box/heat/#", QoS::AtLeastOnce);
    assert!(late.expect("fleet/box/heat/hall/last", "21.5").retain, "retained in the cloud");
    let mut late = gateway.client(&v5("late"));
    late.subscribe("command/#", QoS::AtLeastOnce);
    assert!(late.expect("command/mode", "night").retain, "retained at home");
}

#[test]
fn messages_pass_both_ways_with_v5() {
    messages_pass_both_ways("5");
}

#[test]
fn messages_pass_both_ways_with_v311() {
    messages_pass_both_ways("3.1.1");
}

#[test]
fn properties_of_v5_pass_both_ways() {
    let mosquitto = Mosquitto::start();
    let gateway = Gateway::start(&upstream(&plain(mosquitto.address()), "", &[TELEMETRY, COMMANDS]));
    LinkState::of(&gateway).wait("online");
    let mut cloud = mosquitto.client(&v5("cloud"));
    let mut device = gateway.client(&v5("device"));
    cloud.subscribe("fleet/box/heat/#", QoS::ExactlyOnce);
    device.subscribe("command/#", QoS::ExactlyOnce);
    let pairs = [("unit", "K"), ("unit", "again")];
    let properties = PublishProperties {
        message_expiry: Some(1000),
        content_type: Some("text/plain"),
        response_topic: Some("answers/here"),
        correlation_data: Some(b"\x00\xff"),
        user_properties: pairs.as_slice().into(),
        ..Default::default()
    };
    let publish = |topic| Publish { properties, ..message(topic, b"x", QoS::AtLeastOnce) };
    device.publish_packet(&publish("site/hall/heat/1"));
    cloud.publish_packet(&publish("fleet/box/command/light"));
    let mut up = cloud.expect("fleet/box/heat/hall/1", "x");
    let hop = up.user_properties.pop().unwrap();
    // What is behind the dot was made by chance, so that no two boxes are the same.
    assert!(hop.0 == "mw-hop" && hop.1.starts_with("box.") && hop.1.len() == 12, "{hop:?}");
    for delivery in [up, device.expect("command/light", "x")] {
        assert!(delivery.message_expiry.is_some_and(|left| (900..=1000).contains(&left)), "{delivery:?}");
        assert_eq!(delivery.content_type.as_deref(), Some("text/plain"));
        assert_eq!(delivery.response_topic.as_deref(), Some("answers/here"));
        assert_eq!(delivery.correlation_data.as_deref(), Some(&b"\x00\xff"[..]));
        let said = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(delivery.user_properties, said.collect::<Vec<_>>());
    }
}

#[test]
fn commands_wait_in_the_cloud_for_a_gateway_that_is_away() {
    for version in ["5", "3.1.1"] {
        let mosquitto = Mosquitto::start();
        let keys = format!("version = {version:?}");
        let mut gateway = Gateway::start(&upstream(&plain(mosquitto.address()), &keys, &[COMMANDS]));
        LinkState::of(&gateway).wait("online");
        let mut device = gateway.client(&v5_persistent("device"));
        device.subscribe("command/#", QoS::ExactlyOnce);
        let mut cloud = mosquitto.client(&v5("cloud"));
        // The subscription is in force when something comes through it.
        cloud.publish("fleet/box/command/n", "here", QoS::AtMostOnce);
        device.expect("command/n", "here");
        gateway.kill();
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            cloud.publish_numbers("fleet/box/command/n", 0..50, qos);
        }
        gateway.start_again();
        let mut device = gateway.client(&v5_persistent("device"));
        assert!(device.session_present);
        device.expect_numbers("command/n", (0..50).chain(0..50));
    }
}

#[test]
fn the_cloud_is_told_whether_the_link_is_up_and_so_are_those_at_home() {
    let mut mosquitto = Mosquitto::start();
    let keys = "status_topic = \"fleet/{gateway}/status\"";
    let tables = upstream(&plain(mosquitto.address()), keys, &[TELEMETRY]);
    let mut gateway = Gateway::start(&tables);
    LinkState::of(&gateway).wait("online");
    let mut cloud = mosquitto.client(&v5("cloud"));
    cloud.subscribe("fleet/box/status", QoS::AtLeastOnce);
    cloud.expect("fleet/box/status", "online");
    let retained = |text: &str| {
        let mut late = mosquitto.client(&v5("late"));
        late.subscribe("fleet/+/status", QoS::AtLeastOnce);
        assert!(late.expect("fleet/box/status", text).retain);
    };
    retained("online");
    gateway.kill();
    cloud.expect("fleet/box/status", "offline");
    retained("offline");
    gateway.start_again();
    cloud.expect("fleet/box/status", "online");
    gateway.terminate();
    cloud.expect("fleet/box/status", "offline");
    retained("offline");
    gateway.start_again();
    cloud.expect("fleet/box/status", "online");

    let mut home = LinkState::of(&gateway);
    home.wait("online");
    mosquitto.stop();
    home.wait("offline");
    let mut late = LinkState::of(&gateway);
    assert!(!late.wait("offline").is_empty(), "retained, and says why");
    mosquitto.start_again();
    home.wait("online");
}
