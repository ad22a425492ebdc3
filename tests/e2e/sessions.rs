//! Sessions and connections: takeover, keep-alive, wills, what survives a power cut.

use moteway::mqtt::{
    Connect, ConnectProperties, Disconnect, Packet, PubComp, PubRec, PubRel, QoS, ReasonCode, Version, Will,
    WillProperties,
};

use crate::harness::client::{Client, message, v5, v5_persistent, v311, v311_persistent};
use crate::harness::gateway::Gateway;

fn will(topic: &str) -> Will<'_> {
    Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, retain: false, properties: WillProperties::default() }
}

#[test]
fn takeover_tells_the_old_5_0_client_and_cuts_the_old_3_1_1_client() {
    let gateway = Gateway::start("");
    let mut old = gateway.client(&v5("twin"));
    let mut new = gateway.client(&v5("twin"));
    old.expect_disconnect(ReasonCode::SessionTakenOver);
    new.ping();

    let mut old = gateway.client(&v311("twin3"));
    let mut new = gateway.client(&v5("twin3"));
    old.expect_closed();
    new.ping();
}

#[test]
fn takeover_of_a_session_that_ends_publishes_its_will() {
    let gateway = Gateway::start("");
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("will", QoS::AtLeastOnce);
    let _old = gateway.client(&Connect { will: Some(will("will")), ..v5("twin") });
    let _new = gateway.client(&v5("twin"));
    witness.expect("will", "gone");
}

#[test]
fn silence_beyond_the_keep_alive_publishes_the_will() {
    let gateway = Gateway::start("");
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("will/#", QoS::AtLeastOnce);
    let mut silent5 = gateway.client(&Connect { keep_alive: 1, will: Some(will("will/5")), ..v5("silent5") });
    silent5.expect_disconnect(ReasonCode::KeepAliveTimeout);
    witness.expect("will/5", "gone");
    let mut silent3 = gateway.client(&Connect { keep_alive: 1, will: Some(will("will/3")), ..v311("silent3") });
    silent3.expect_closed();
    witness.expect("will/3", "gone");
}

#[test]
fn a_will_is_discarded_by_a_normal_disconnect_only() {
    let gateway = Gateway::start("");
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("will/#", QoS::AtLeastOnce);
    gateway.client(&Connect { will: Some(will("will/polite")), ..v5("polite") }).disconnect();
    let mut asks = gateway.client(&Connect { will: Some(will("will/asks")), ..v5("asks") });
    asks.send(&Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)));
    witness.expect("will/asks", "gone");
    gateway.client(&Connect { will: Some(will("will/vanishes")), ..v5("vanishes") }).vanish();
    witness.expect("will/vanishes", "gone");
}

#[test]
fn a_delayed_will_waits_and_a_client_that_returns_withdraws_it() {
    let gateway = Gateway::start("");
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("will/#", QoS::AtLeastOnce);
    let delayed = |topic, seconds| Will {
        properties: WillProperties { will_delay: Some(seconds), ..Default::default() },
        ..will(topic)
    };
    let returns = Connect { will: Some(delayed("will/returns", 2)), ..v5_persistent("returns") };
    gateway.client(&returns).vanish();
    let begin = std::time::Instant::now();
    gateway.client(&Connect { will: Some(delayed("will/stays", 2)), ..v5_persistent("stays") }).vanish();
    let mut back = gateway.client(&v5_persistent("returns"));
    assert!(back.session_present);
    witness.expect("will/stays", "gone");
    assert!(begin.elapsed().as_millis() >= 1900, "after {:?}", begin.elapsed());
    back.publish("will/end", "end", QoS::AtLeastOnce);
    witness.expect("will/end", "end");
}

#[test]
fn unacknowledged_messages_come_again_in_order_and_marked() {
    let gateway = Gateway::start("");
    for (name, connect) in [("dup5", v5_persistent("dup5")), ("dup3", v311_persistent("dup3"))] {
        let mut subscriber = gateway.client(&connect);
        subscriber.subscribe(name, QoS::AtLeastOnce);
        let mut publisher = gateway.client(&v5("publisher"));
        publisher.publish_numbers(name, 1..=5, QoS::AtLeastOnce);
        let first = (1..=5).map(|_| subscriber.delivery()).collect::<Vec<_>>();
        // Out of order: only the third is settled.
        subscriber.acknowledge(&first[2]);
        subscriber.ping();
        subscriber.vanish();

        let mut subscriber = gateway.client(&connect);
        assert!(subscriber.session_present);
        for number in [1, 2, 4, 5] {
            let again = subscriber.take();
            let before = &first[number - 1];
            assert_eq!(again.text(), number.to_string());
            assert_eq!((again.dup, again.pkid), (true, before.pkid), "{name}: {again:?} after {before:?}");
        }
        publisher.publish(name, "6", QoS::AtLeastOnce);
        assert!(!subscriber.expect(name, "6").dup);
    }
}

#[test]
fn unacknowledged_messages_come_again_in_order_after_kill_9() {
    let mut gateway = Gateway::start("");
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_numbers("t", 1..=50, QoS::AtLeastOnce);
    subscriber.expect_numbers("t", 1..=10);
    (11..=20).for_each(|_| drop(subscriber.delivery()));
    subscriber.ping();
    gateway.kill_and_restart();

    let mut subscriber = gateway.client(&v5_persistent("sub"));
    assert!(subscriber.session_present);
    let first = subscriber.take();
    let resumed = first.text().parse::<u32>().unwrap();
    // Acknowledgements of the last moments may be lost with the power: duplicates, never gaps.
    assert!((1..=11).contains(&resumed), "resumed at {resumed}");
    subscriber.expect_numbers("t", resumed + 1..=50);
}

#[test]
fn qos_2_is_exactly_once_to_a_subscriber_over_kill_9() {
    let mut gateway = Gateway::start("");
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    for text in ["one", "two", "three"] {
        publisher.publish("t", text, QoS::ExactlyOnce);
    }
    let one = subscriber.take();
    let two = subscriber.delivery();
    subscriber.send(&Packet::PubRec(PubRec::new(two.pkid, ReasonCode::Success)));
    subscriber.pubrel(two.pkid);
    assert_eq!((one.text(), two.text()), ("one", "two"));
    gateway.kill_and_restart();

    // PUBREL said that the broker knows of our PUBREC: "two" must not come again.
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    assert!(subscriber.session_present);
    let again = subscriber.pubrel(two.pkid);
    assert_eq!(again, ReasonCode::Success);
    subscriber.send(&Packet::PubComp(PubComp::new(two.pkid, ReasonCode::Success)));
    subscriber.expect("t", "three");
}

#[test]
fn qos_2_is_exactly_once_from_a_publisher_over_kill_9() {
    let mut gateway = Gateway::start("");
    let mut subscriber = gateway.client(&v5_persistent("sub"));
    subscriber.subscribe("t", QoS::ExactlyOnce);
    subscriber.disconnect();
    let mut publisher = gateway.client(&v5_persistent("publisher"));
    let first = message("t", b"one", QoS::ExactlyOnce);
    let pkid = publisher.post(&first);
    publisher.pubrec(pkid);
    gateway.kill_and_restart();

    // PUBREC said that the message is safe: the same packet again is the same message.
    let mut publisher = gateway.client(&v5_persistent("publisher"));
    assert!(publisher.session_present);
    publisher.post(&moteway::mqtt::Publish { dup: true, pkid, ..first });
    assert!(!publisher.pubrec(pkid).is_error());
    gateway.kill_and_restart();
    let mut publisher = gateway.client(&v5_persistent("publisher"));
    publisher.send(&Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)));
    publisher.pubcomp(pkid);
    publisher.next_pkid();
    publisher.publish("t", "two", QoS::ExactlyOnce);

    let mut subscriber = gateway.client(&v5_persistent("sub"));
    subscriber.expect("t", "one");
    subscriber.expect("t", "two");
}

#[test]
fn a_session_ends_with_its_expiry_or_a_clean_start() {
    let gateway = Gateway::start("");
    let short = ConnectProperties { session_expiry: Some(1), ..Default::default() };
    let connect = Connect { properties: short, ..v5_persistent("short") };
    gateway.client(&connect).disconnect();
    crate::harness::until("the session is forgotten", || {
        let client = gateway.client(&connect);
        let present = client.session_present;
        if present {
            // Let it grow old this time: two seconds without the client.
            client.disconnect();
            std::thread::park_timeout(std::time::Duration::from_secs(2));
        }
        !present
    });

    gateway.client(&v5_persistent("clean")).disconnect();
    assert!(gateway.client(&v5_persistent("clean")).session_present);
    assert!(!gateway.client(&v5("clean")).session_present);
    assert!(!gateway.client(&v5_persistent("clean")).session_present);
}

#[test]
fn subscriptions_and_retained_messages_survive_kill_9() {
    let mut gateway = Gateway::start("");
    let mut client = gateway.client(&v5_persistent("sub"));
    client.subscribe("live/+", QoS::AtLeastOnce);
    client.subscribe("gone/+", QoS::AtLeastOnce);
    client.unsubscribe("gone/+");
    let retained = moteway::mqtt::Publish { retain: true, ..message("state/x", b"on", QoS::AtLeastOnce) };
    client.publish_packet(&retained);
    gateway.kill_and_restart();

    let mut client = gateway.client(&v5_persistent("sub"));
    assert!(client.session_present);
    client.publish("gone/a", "no", QoS::AtLeastOnce);
    client.publish("live/a", "yes", QoS::AtLeastOnce);
    client.expect("live/a", "yes");
    client.subscribe("state/#", QoS::AtLeastOnce);
    assert!(client.expect("state/x", "on").retain);
}

#[test]
fn a_client_without_a_name_is_given_one() {
    let gateway = Gateway::start("");
    let client = gateway.client(&v5(""));
    let connack = client.connack.as_ref().unwrap();
    let Packet::ConnAck(connack) = connack.packet() else { unreachable!() };
    let name = connack.properties.assigned_client_id.expect("an assigned client identifier");
    assert!(!name.is_empty());
    gateway.client(&v311("")).ping();
    // [MQTT-3.1.3-8]
    let mut refused = Client::dial(gateway.address(), Version::V311);
    assert_eq!(refused.introduce(&v311_persistent("")), ReasonCode::ClientIdentifierNotValid);
    refused.expect_closed();
}
