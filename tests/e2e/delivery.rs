//! What a subscriber gets: once or twice, with what properties, and when it must wait.

use std::collections::BTreeMap;

use moteway::mqtt::{
    Connect, ConnectProperties, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, SubscribeOptions,
};

use crate::harness::client::{message, v5, v5_persistent, v311};
use crate::harness::gateway::Gateway;

fn at(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, ..Default::default() }
}

#[test]
fn overlapping_subscriptions_deliver_once_with_all_identifiers_at_the_highest_level() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    client.subscribe_id("a/#", at(QoS::AtMostOnce), 7);
    client.subscribe_id("a/+", at(QoS::ExactlyOnce), 70_000);
    client.subscribe("a/b", QoS::AtLeastOnce);
    client.publish("a/b", "x", QoS::ExactlyOnce);
    let mut delivery = client.expect("a/b", "x");
    delivery.subscription_ids.sort_unstable();
    assert_eq!((delivery.qos, &*delivery.subscription_ids), (QoS::ExactlyOnce, &[7, 70_000][..]));
    client.publish("a/b/c", "y", QoS::ExactlyOnce);
    let delivery = client.expect("a/b/c", "y");
    assert_eq!((delivery.qos, &*delivery.subscription_ids), (QoS::AtMostOnce, &[7][..]));
}

#[test]
fn shared_subscriptions_give_each_message_to_one_member_in_turn() {
    let gateway = Gateway::start("");
    let mut members = ["m1", "m2", "m3"].map(|id| gateway.client(&v5(id)));
    for member in &mut members {
        assert_eq!(member.subscribe("$share/group/work/#", QoS::AtLeastOnce), ReasonCode::GrantedQoS1);
    }
    let mut outsider = gateway.client(&v5("outsider"));
    outsider.subscribe("work/#", QoS::AtLeastOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_numbers("work/a", 0..30, QoS::AtLeastOnce);
    let mut seen = BTreeMap::new();
    for (index, member) in members.iter_mut().enumerate() {
        for _ in 0..10 {
            let number = member.take().text().parse::<u32>().unwrap();
            assert_eq!(seen.insert(number, index), None, "{number} was delivered twice");
        }
    }
    outsider.expect_numbers("work/a", 0..30);
    // One leaves: the others get its share.
    let [leaves, mut stays, mut other] = members;
    leaves.disconnect();
    publisher.publish_numbers("work/b", 0..4, QoS::AtLeastOnce);
    for member in [&mut stays, &mut other] {
        assert_eq!(member.take().topic, "work/b");
        assert_eq!(member.take().topic, "work/b");
    }
}

#[test]
fn message_expiry_counts_down_while_stored_and_what_expired_is_not_sent() {
    let gateway = Gateway::start("");
    let connect = v5_persistent("sub");
    let mut subscriber = gateway.client(&connect);
    subscriber.subscribe("t", QoS::AtLeastOnce);
    subscriber.disconnect();
    let mut publisher = gateway.client(&v5("publisher"));
    let expires = |seconds, payload| Publish {
        properties: PublishProperties { message_expiry: Some(seconds), ..Default::default() },
        ..message("t", payload, QoS::AtLeastOnce)
    };
    publisher.publish_packet(&expires(1000, b"long"));
    publisher.publish_packet(&expires(1, b"short"));
    publisher.publish("t", "forever", QoS::AtLeastOnce);
    // Time has to pass; it is seen on a will that is delayed as long.
    let mut witness = gateway.client(&v5("witness"));
    witness.subscribe("clock", QoS::AtMostOnce);
    let clock = moteway::mqtt::Will {
        topic: "clock",
        payload: b"",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: moteway::mqtt::WillProperties { will_delay: Some(2), ..Default::default() },
    };
    gateway.client(&Connect { will: Some(clock), ..v5_persistent("clock") }).vanish();
    witness.expect("clock", "");

    let mut subscriber = gateway.client(&connect);
    let left = subscriber.expect("t", "long").message_expiry.unwrap();
    assert!((990..=998).contains(&left), "{left} seconds left of 1000 after 2");
    assert_eq!(subscriber.expect("t", "forever").message_expiry, None);
}

#[test]
fn receive_maximum_of_the_client_is_respected() {
    let gateway = Gateway::start("");
    let properties = ConnectProperties { receive_maximum: Some(2), ..Default::default() };
    let mut subscriber = gateway.client(&Connect { properties, ..v5("sub") });
    subscriber.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    for number in 0..6 {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        publisher.publish("t", number.to_string(), qos);
    }
    publisher.publish("t", "zero", QoS::AtMostOnce);
    let first = subscriber.delivery();
    let second = subscriber.delivery();
    assert_eq!((first.text(), second.text()), ("0", "1"));
    // QoS 0 does not count, and the third may not come before an acknowledgement.
    publisher.ping();
    subscriber.expect("t", "zero");
    subscriber.ping();
    subscriber.acknowledge(&first);
    let third = subscriber.delivery();
    assert_eq!(third.text(), "2");
    subscriber.acknowledge(&second);
    subscriber.acknowledge(&third);
    for number in 3..6 {
        subscriber.expect("t", &number.to_string());
    }
}

#[test]
fn maximum_packet_size_of_the_client_is_respected() {
    let gateway = Gateway::start("");
    let properties = ConnectProperties { maximum_packet_size: Some(100), ..Default::default() };
    let mut subscriber = gateway.client(&Connect { properties, ..v5("sub") });
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish("t", vec![b'x'; 200], QoS::AtLeastOnce);
    publisher.publish("t", "fits", QoS::AtLeastOnce);
    subscriber.expect("t", "fits");
}

#[test]
fn retain_handling_decides_what_a_subscription_begins_with() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    client.publish_packet(&Publish { retain: true, ..message("state", b"on", QoS::AtLeastOnce) });
    let with = |retain_handling| SubscribeOptions { qos: QoS::AtLeastOnce, retain_handling, ..Default::default() };
    client.subscribe_options("state", with(RetainHandling::DoNotSend));
    client.subscribe_options("state", with(RetainHandling::SendIfNew));
    client.subscribe_options("state", with(RetainHandling::SendAtSubscribe));
    assert!(client.expect("state", "on").retain);
    client.unsubscribe("state");
    client.subscribe_options("state", with(RetainHandling::SendIfNew));
    assert!(client.expect("state", "on").retain);
    client.publish("end", "", QoS::AtMostOnce);
    client.subscribe("end", QoS::AtMostOnce);
    client.publish("end", "x", QoS::AtMostOnce);
    client.expect("end", "x");
}

#[test]
fn retain_as_published_keeps_the_flag_and_shared_subscriptions_get_no_retained_message() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    let keep = SubscribeOptions { qos: QoS::AtLeastOnce, retain_as_published: true, ..Default::default() };
    client.subscribe_options("kept", keep);
    client.subscribe("plain", QoS::AtLeastOnce);
    for topic in ["kept", "plain"] {
        client.publish_packet(&Publish { retain: true, ..message(topic, b"x", QoS::AtLeastOnce) });
    }
    assert!(client.expect("kept", "x").retain);
    assert!(!client.expect("plain", "x").retain);
    client.subscribe("$share/g/kept", QoS::AtLeastOnce);
    client.publish("plain", "y", QoS::AtLeastOnce);
    client.expect("plain", "y");
}

#[test]
fn no_local_spares_the_publisher_itself() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    let no_local = SubscribeOptions { qos: QoS::AtLeastOnce, no_local: true, ..Default::default() };
    client.subscribe_options("t", no_local);
    client.publish("t", "mine", QoS::AtLeastOnce);
    gateway.client(&v5("d")).publish("t", "theirs", QoS::AtLeastOnce);
    client.expect("t", "theirs");
}

#[test]
fn topic_aliases_work_towards_the_broker_and_from_it() {
    let gateway = Gateway::start("");
    let properties = ConnectProperties { topic_alias_maximum: Some(5), ..Default::default() };
    let mut subscriber = gateway.client(&Connect { properties, ..v5("sub") });
    subscriber.subscribe("long/topic/name", QoS::AtMostOnce);
    let mut publisher = gateway.client(&v5("publisher"));
    let alias = PublishProperties { topic_alias: Some(3), ..Default::default() };
    let first = Publish { properties: alias, ..message("long/topic/name", b"1", QoS::AtLeastOnce) };
    publisher.publish_packet(&first);
    publisher.publish_packet(&Publish { topic: "", payload: b"2", ..first });
    publisher.publish_packet(&Publish { topic: "", payload: b"3", ..first });
    let mut names = BTreeMap::new();
    for text in ["1", "2", "3"] {
        let delivery = subscriber.delivery();
        assert_eq!(delivery.text(), text);
        if let Some(alias) = delivery.topic_alias {
            assert!((1..=5).contains(&alias));
            if !delivery.topic.is_empty() {
                names.insert(alias, delivery.topic.clone());
            }
        }
        let topic = delivery.topic_alias.map_or(&delivery.topic, |alias| &names[&alias]);
        assert_eq!(topic, "long/topic/name");
    }
}

#[test]
fn properties_are_forwarded_unchanged_to_5_0_and_left_out_to_3_1_1() {
    let gateway = Gateway::start("");
    let mut new = gateway.client(&v5("new"));
    let mut old = gateway.client(&v311("old"));
    new.subscribe("t", QoS::AtLeastOnce);
    old.subscribe("t", QoS::AtLeastOnce);
    let pairs = [("b", "1"), ("a", "2"), ("b", "1")];
    let properties = PublishProperties {
        content_type: Some("text/plain"),
        response_topic: Some("answer"),
        correlation_data: Some(&[0, 255]),
        user_properties: pairs.as_slice().into(),
        ..Default::default()
    };
    let mut publisher = gateway.client(&v5("publisher"));
    publisher.publish_packet(&Publish { properties, ..message("t", b"x", QoS::AtLeastOnce) });
    let delivery = new.expect("t", "x");
    assert_eq!(delivery.content_type.as_deref(), Some("text/plain"));
    assert_eq!(delivery.response_topic.as_deref(), Some("answer"));
    assert_eq!(delivery.correlation_data.as_deref(), Some(&[0, 255][..]));
    assert_eq!(delivery.user_properties, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    old.expect("t", "x");
}

#[test]
fn wildcards_do_not_match_topics_that_begin_with_a_dollar() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    client.subscribe("#", QoS::AtLeastOnce);
    client.subscribe("+/x", QoS::AtLeastOnce);
    client.subscribe("$own/#", QoS::AtLeastOnce);
    client.publish("$own/x", "1", QoS::AtLeastOnce);
    client.publish("$other/x", "2", QoS::AtLeastOnce);
    client.publish("/x", "3", QoS::AtLeastOnce);
    client.expect("$own/x", "1");
    client.expect("/x", "3");
}

#[test]
fn one_publisher_and_topic_keep_their_order_with_mixed_levels_to_many_subscribers() {
    let gateway = Gateway::start("");
    let mut subscribers = ["s0", "s1", "s2"].map(|id| gateway.client(&v5(id)));
    for (subscriber, qos) in subscribers.iter_mut().zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) {
        subscriber.subscribe("t", qos);
    }
    let mut publisher = gateway.client(&v5("publisher"));
    let posted = (0..500).map(|number: u32| publisher.post(&message("t", &number.to_be_bytes(), QoS::AtLeastOnce)));
    let posted = posted.collect::<Vec<_>>();
    for pkid in posted {
        assert!(!publisher.puback(pkid).is_error());
    }
    for subscriber in &mut subscribers {
        for number in 0..500_u32 {
            assert_eq!(subscriber.take().payload, number.to_be_bytes());
        }
    }
}
