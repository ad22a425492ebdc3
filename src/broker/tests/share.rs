//! Shared subscriptions, MQTT 5.0 section 4.8.2.

use crate::broker::tests::bench::{Bench, hello, message, qos};
use crate::broker::tests::{V5, V311};
use crate::mqtt::{Connect, ConnectProperties, QoS};

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
