//! Who may do what: mosquitto's own clients, sensors and bare clients under rules.

use moteway::mqtt::{QoS, ReasonCode};
use moteway::mqttsn::{Message, PubAck, PublishQos, ReturnCode};

use crate::harness::client::{v5, v5_persistent, v311};
use crate::harness::gateway::Gateway;
use crate::harness::sensor::Radio;
use crate::harness::tools::{self, messages};

/// The tables of the example, without its listener.
fn example() -> &'static str {
    let text = include_str!("../../config/examples/access.toml");
    &text[text.find("[auth.groups]").unwrap()..]
}

#[test]
fn mosquitto_clients_get_and_send_what_the_example_allows() {
    let gateway = Gateway::start(example());
    for version in ["311", "5"] {
        let panel = format!("panel-{version}");
        let args = ["-V", version, "-i", &panel, "-t", "sensor/#", "-q", "1", "-C", "2"];
        let mut subscriber = tools::subscribe(gateway.address(), "%t %p", &args);
        for (client, topic) in [
            ("s1", "sensor/s1/temperature"),
            ("s1", "sensor/s1/door"),
            ("s1", "sensor/s2/temperature"),
            ("s+", "sensor/s1/temperature"),
            ("s1", "sensor/s1/end"),
        ] {
            tools::publish(gateway.address(), &["-V", version, "-i", client, "-t", topic, "-q", "1", "-m", client]);
        }
        assert!(subscriber.wait().success());
        assert_eq!(messages(&subscriber), ["sensor/s1/temperature s1", "sensor/s1/end s1"], "{version}");
    }
}

#[test]
fn what_is_not_allowed_is_refused_as_each_version_can_say_it() {
    let mut gateway = Gateway::start(example());
    let mut new = gateway.client(&v5("s1"));
    assert_eq!(new.publish("sensor/s2/x", "1", QoS::AtLeastOnce), ReasonCode::NotAuthorized);
    assert_eq!(new.publish("sensor/s2/x", "1", QoS::ExactlyOnce), ReasonCode::NotAuthorized);
    assert_eq!(new.subscribe("command/+/#", QoS::AtLeastOnce), ReasonCode::NotAuthorized);
    assert_eq!(new.subscribe("$share/g/command/s1/#", QoS::AtLeastOnce), ReasonCode::GrantedQoS1);
    let mut old = gateway.client(&v311("s3"));
    assert_eq!(old.publish("sensor/s2/x", "1", QoS::AtLeastOnce), ReasonCode::Success, "and dropped");
    assert_eq!(old.subscribe("#", QoS::AtLeastOnce), ReasonCode::UnspecifiedError, "0x80");
    gateway.process().says("publish not allowed");
}

#[test]
fn a_stored_session_obeys_the_rules_of_the_next_start() {
    let mut gateway = Gateway::start("[[acl]]\npublish = \"#\"\nsubscribe = \"#\"\n");
    let mut away = gateway.client(&v5_persistent("away"));
    away.subscribe("#", QoS::AtLeastOnce);
    away.vanish();
    let mut publisher = gateway.client(&v5("publisher"));
    for topic in ["secret/1", "news/1"] {
        assert_eq!(publisher.publish(topic, "before", QoS::AtLeastOnce), ReasonCode::Success);
    }
    gateway.kill();
    gateway.add("deny_read = \"secret/#\"\n");
    gateway.start_again();
    let mut publisher = gateway.client(&v5("publisher"));
    for topic in ["secret/2", "news/2"] {
        publisher.publish(topic, "after", QoS::AtLeastOnce);
    }
    let mut away = gateway.client(&v5_persistent("away"));
    assert!(away.session_present);
    for text in ["before", "after"] {
        let news = away.delivery();
        assert_eq!((news.text(), &*news.topic), (text, if text == "before" { "news/1" } else { "news/2" }));
        away.acknowledge(&news);
    }
    away.ping();
}

#[test]
fn a_sensor_is_told_that_it_may_not() {
    let radio = Radio::udp();
    let rules =
        "[[acl]]\npublish = \"sensor/{client_id}/#\"\n[[acl]]\nclient_id = \"witness\"\nsubscribe = \"#\"\n";
    let gateway = Gateway::start(&format!("{}{rules}", radio.link));
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("#", QoS::AtLeastOnce);
    let mut sensor = radio.sensor();
    sensor.connect("s1", true, 60);
    let (own, other) = (sensor.register("sensor/s1/x"), sensor.register("sensor/s2/x"));
    let msg_id = sensor.post(other, "wrong", PublishQos::Level(QoS::AtLeastOnce));
    let refused = PubAck { topic_id: other.wire_id(), msg_id, code: ReturnCode::NOT_SUPPORTED };
    sensor.expect(&Message::PubAck(refused));
    sensor.publish(own, "right", QoS::AtLeastOnce);
    witness.expect("sensor/s1/x", "right");
}
