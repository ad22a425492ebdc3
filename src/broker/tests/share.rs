//! Shared subscriptions, MQTT 5.0 section 4.8.2.

use crate::broker::tests::bench::{Bench, hello, message, qos};
use crate::broker::tests::{V5, V311};
use crate::mqtt::{Connect, ConnectProperties, Disconnect, Packet, PubAck, PubRec, QoS, ReasonCode};

#[test]
fn members_of_a_shared_subscription_take_turns() {
    let mut bench = Bench::new();
    for conn in 0..2 {
        bench.connect(conn, &hello(V5, ["m0", "m1"][conn as usize]));
        bench.subscribe(conn, V5, "$share/g/a", qos(QoS::AtMostOnce), None);
        bench.sent(conn, V5);
    }
    bench.connect(2, &hello(V5, "pub"));
    for _ in 0..4 {
        bench.publish(2, V5, &message("a", "x", QoS::AtMostOnce, 0));
    }
    assert_eq!((bench.sent(0, V5).len(), bench.sent(1, V5).len()), (2, 2));
    bench.lose(1);
    bench.publish(2, V5, &message("a", "x", QoS::AtMostOnce, 0));
    bench.publish(2, V5, &message("a", "x", QoS::AtMostOnce, 0));
    assert_eq!(bench.sent(0, V5).len(), 2, "who is away is passed over");
}

#[test]
fn turns_are_those_of_the_subscription_not_of_the_topic() {
    let mut bench = Bench::new();
    for conn in 0..2 {
        bench.connect(conn, &hello(V5, ["m0", "m1"][conn as usize]));
        bench.subscribe(conn, V5, "$share/g/+", qos(QoS::AtMostOnce), None);
        bench.sent(conn, V5);
    }
    bench.connect(2, &hello(V311, "pub"));
    for topic in ["a", "b", "c", "d"] {
        bench.publish(2, V311, &message(topic, "x", QoS::AtMostOnce, 0));
    }
    assert_eq!((bench.sent(0, V5).len(), bench.sent(1, V5).len()), (2, 2));
}

#[test]
fn a_member_that_is_behind_is_passed_over() {
    let mut bench = Bench::new();
    let narrow = ConnectProperties { receive_maximum: Some(1), ..hello(V5, "m0").properties };
    bench.connect(0, &Connect { properties: narrow, ..hello(V5, "m0") });
    bench.connect(1, &hello(V5, "m1"));
    for conn in 0..2 {
        bench.subscribe(conn, V5, "$share/g/a", qos(QoS::AtLeastOnce), None);
        bench.sent(conn, V5);
    }
    bench.connect(2, &hello(V5, "pub"));
    for pkid in 1..=5 {
        bench.publish(2, V5, &message("a", "x", QoS::AtLeastOnce, pkid));
    }
    assert_eq!((bench.sent(0, V5).len(), bench.sent(1, V5).len()), (1, 4), "one in flight is all that m0 takes");
}

#[test]
fn qos_0_is_not_given_to_a_member_that_is_away_and_qos_1_is() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "m0"));
    bench.subscribe(0, V5, "$share/g/a", qos(QoS::AtLeastOnce), None);
    bench.lose(0);
    bench.connect(1, &hello(V5, "pub"));
    bench.publish(1, V5, &message("a", "zero", QoS::AtMostOnce, 0));
    bench.publish(1, V5, &message("a", "one", QoS::AtLeastOnce, 1));
    assert_eq!(bench.connect(2, &hello(V5, "m0")), ["connack Success present true", "a=one qos 1"]);
}

#[test]
fn a_member_with_a_subscription_of_its_own_gets_a_copy_for_each() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "m0"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), Some(1));
    bench.subscribe(0, V5, "$share/g/a", qos(QoS::AtLeastOnce), Some(2));
    bench.subscribe(0, V5, "$share/h/+", qos(QoS::ExactlyOnce), Some(3));
    bench.lose(0);
    bench.connect(1, &hello(V5, "pub"));
    bench.publish(1, V5, &message("a", "x", QoS::ExactlyOnce, 1));
    assert_eq!(bench.sent(1, V5), ["pubrec 1 Success"]);
    assert_eq!(bench.disk.rows.len(), 3, "each copy has a row of its own");
    let mut copies = bench.connect(2, &hello(V5, "m0"));
    copies[1..].sort_unstable();
    assert_eq!(copies[1..], ["a=x qos 1 ids [1]", "a=x qos 1 ids [2]", "a=x qos 2 ids [3]"]);
}

/// Two members, of which `m0` gets what is published while it is alone; then `m1` is there as well.
fn with_a_second_member(bench: &mut Bench, first: Connect<'_>, granted: QoS, payloads: &[&'static str]) {
    bench.connect(0, &first);
    bench.subscribe(0, V5, "$share/g/a", qos(granted), Some(1));
    bench.connect(9, &hello(V5, "pub"));
    for (payload, pkid) in payloads.iter().zip(1..) {
        bench.publish(9, V5, &message("a", payload, granted, pkid));
    }
    bench.connect(1, &hello(V5, "m1"));
    bench.subscribe(1, V5, "$share/g/a", qos(granted), Some(2));
    bench.sent(1, V5);
}

fn narrow(client_id: &str, expiry: u32) -> Connect<'_> {
    let properties = ConnectProperties {
        receive_maximum: Some(1),
        session_expiry: Some(expiry),
        ..hello(V5, client_id).properties
    };
    Connect { properties, ..hello(V5, client_id) }
}

#[test]
fn what_a_session_leaves_goes_to_another_member_in_flight_or_not() {
    for expiry in [0, 60] {
        let mut bench = Bench::new();
        with_a_second_member(&mut bench, narrow("m0", expiry), QoS::AtLeastOnce, &["1", "2", "3"]);
        assert_eq!(bench.sent(0, V5), ["suback [1]", "a=1 qos 1 ids [1]"]);
        bench.send(0, &Packet::PubAck(PubAck::new(1, ReasonCode::Success)), V5);
        assert_eq!(bench.sent(0, V5), ["a=2 qos 1 ids [1]"]);
        bench.lose(0);
        if expiry > 0 {
            assert_eq!(bench.sent(1, V5), Vec::<String>::new(), "it keeps what it has while it may come back");
            bench.millis += 60_000;
            bench.settle();
        }
        assert_eq!(bench.sent(1, V5), ["a=2 qos 1 ids [2]", "a=3 qos 1 ids [2]"]);
        assert_eq!((bench.broker.stats().handed_on, bench.broker.stats().ended_with_session), (2, 0));
        assert_eq!(bench.queues.names().filter(|(name, _)| name.contains("m0")).count(), 0);
        assert_eq!(bench.queues.names().filter(|(name, _)| name.starts_with("leaver")).count(), 0);
    }
}

#[test]
fn a_member_that_is_away_completes_what_it_has_when_it_is_back() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, narrow("m0", 60), QoS::ExactlyOnce, &["1", "2"]);
    bench.lose(0);
    // [MQTT-4.8.2-4]
    let back = bench.connect(2, &narrow("m0", 60));
    assert_eq!(back, ["connack Success present true", "a=1 qos 2 dup ids [1]"]);
    assert_eq!(bench.sent(1, V5), Vec::<String>::new());
}

#[test]
fn qos_2_that_was_begun_goes_to_nobody_else_and_is_counted() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, narrow("m0", 60), QoS::ExactlyOnce, &["begun", "waiting"]);
    assert_eq!(bench.sent(0, V5)[1..], ["a=begun qos 2 ids [1]"]);
    bench.lose(0);
    bench.millis += 60_000;
    bench.settle();
    // [MQTT-4.8.2-5]
    assert_eq!(bench.sent(1, V5), ["a=waiting qos 2 ids [2]"]);
    assert_eq!((bench.broker.stats().handed_on, bench.broker.stats().ended_with_session), (1, 1));
}

#[test]
fn what_may_have_been_begun_before_a_restart_goes_to_nobody_else_either() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, narrow("m0", 60), QoS::ExactlyOnce, &["begun"]);
    assert_eq!(bench.sent(0, V5)[1..], ["a=begun qos 2 ids [1]"]);
    bench.lose(0);
    bench.lose(1);
    let mut bench = bench.restart_after(61_000);
    bench.settle();
    assert_eq!(bench.broker.stats().ended_with_session, 1);
    assert_eq!(bench.connect(1, &hello(V5, "m1")), ["connack Success present true"]);
    assert!(bench.disk.rows.is_empty());
}

#[test]
fn a_message_that_a_member_refuses_is_offered_to_no_other() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, hello(V5, "m0"), QoS::ExactlyOnce, &["no"]);
    // [MQTT-4.8.2-6]
    bench.send(0, &Packet::PubRec(PubRec::new(0x8000, ReasonCode::UnspecifiedError)), V5);
    bench.lose(0);
    bench.millis += 3_700_000;
    bench.settle();
    assert_eq!(bench.sent(1, V5), Vec::<String>::new());
}

#[test]
fn a_publisher_waits_for_the_heir_when_the_first_receiver_leaves_before_the_commit() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, narrow("m0", 60), QoS::AtLeastOnce, &["1"]);
    bench.lose(1);
    bench.sent(9, V5);
    bench.hold = true;
    bench.publish(9, V5, &message("a", "2", QoS::AtLeastOnce, 2));
    assert_eq!(bench.held.len(), 1, "the row is on its way to the disk");
    bench.publish(9, V5, &message("a", "3", QoS::AtLeastOnce, 3));
    let end = Disconnect {
        reason: ReasonCode::Success,
        properties: crate::mqtt::DisconnectProperties { session_expiry: Some(0), ..Default::default() },
    };
    bench.send(0, &Packet::Disconnect(end), V5);
    assert_eq!(bench.sent(9, V5), Vec::<String>::new(), "neither is safe with its heir");
    bench.commit();
    bench.settle();
    assert_eq!(bench.sent(9, V5), ["puback 2 Success", "puback 3 Success"]);
    let bench = bench.restart();
    let mut payloads: Vec<&[u8]> = bench.disk.rows.values().map(|row| row.message.payload()).collect();
    payloads.sort_unstable();
    assert_eq!(payloads, [b"1", b"2", b"3"]);
}

#[test]
fn a_failing_disk_delays_the_hand_over_and_loses_nothing() {
    let mut bench = Bench::new();
    with_a_second_member(&mut bench, narrow("m0", 60), QoS::AtLeastOnce, &["1", "2", "3", "4", "5"]);
    bench.lose(0);
    bench.hold = true;
    bench.millis += 60_000;
    bench.settle();
    let now = bench.now();
    for batch in std::mem::take(&mut bench.held) {
        bench.queues.handle_reply(now, crate::queue::Reply::Failed { batch: batch.id, error: "full".into() });
    }
    bench.settle();
    assert_eq!(bench.disk.rows.len(), 5);
    bench.commit();
    bench.settle();
    assert_eq!(bench.sent(1, V5).len(), 5);
}
