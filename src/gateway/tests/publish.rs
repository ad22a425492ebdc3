//! PUBLISH from clients (MQTT-SN 6.6, 6.8; A1 to A3, A22, A23).

use super::*;
use crate::mqttsn::ShortName;

/// A client "a" at port 1 that registered "t" as 2.
fn registered(clean: bool) -> World {
    let mut world = World::connected(&[(1, "a")], clean);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world
}

#[test]
fn qos_0_is_forwarded_whatever_its_message_id() {
    let mut world = registered(true);
    world.ask(1, publish(Q0, 2, 0, "x"), &[]);
    world.ask(1, publish(Q0, 2, 77, "y"), &[]);
    assert_eq!(world.broker.published, [published(Some("a"), "t", "x"), published(Some("a"), "t", "y")]);
}

#[test]
fn an_unknown_topic_id_is_refused_whatever_the_qos_and_the_session_lives() {
    let mut world = registered(true);
    for (qos, msg_id) in [(Q0, 0), (Q1, 5), (Q2, 6)] {
        world.ask(1, publish(qos, 99, msg_id, "x"), &[puback(99, msg_id, INVALID)]);
        let topic = Topic::Predefined(TopicId(2));
        world.ask(1, publish_as(PublishQos::Level(qos), topic, msg_id, "x", false), &[puback(2, msg_id, INVALID)]);
    }
    let reserved = Topic::Reserved(TopicId(2));
    world.ask(1, publish_as(PublishQos::Level(Q1), reserved, 8, "x", false), &[puback(2, 8, UNSUPPORTED)]);
    world.ask(1, publish(Q1, 2, 9, "x"), &[puback(2, 9, ACCEPTED)]);
    assert_eq!((world.gateway.stats().invalid_topic_id, world.broker.published.len()), (6, 1));
}

#[test]
fn predefined_and_short_names_need_no_register() {
    let mut world = World::connected(&[(1, "a")], true);
    let one = PublishQos::Level(Q1);
    world.ask(1, publish_as(one, Topic::Predefined(TopicId(9)), 1, "x", false), &[puback(9, 1, ACCEPTED)]);
    let short = Topic::Short(ShortName(*b"ab"));
    world.ask(1, publish_as(one, short, 2, "y", false), &[puback(0x6162, 2, ACCEPTED)]);
    assert_eq!(world.broker.published, [published(Some("a"), "pre/nine", "x"), published(Some("a"), "ab", "y")]);
    for bad in [b"a#", b"+/", b"\xFF\xFF", b"a\0"] {
        let short = Topic::Short(ShortName(*bad));
        world.ask(1, publish_as(one, short, 3, "z", false), &[puback(short.wire_id().0, 3, UNSUPPORTED)]);
    }
}

#[test]
fn qos_1_is_acknowledged_once_it_is_safe_and_not_before() {
    let mut world = registered(true);
    world.broker.hold = true;
    world.ask(1, publish(Q1, 2, 5, "x"), &[]);
    world.settle();
    world.expect(1, &[puback(2, 5, ACCEPTED)]);
}

#[test]
fn a_retransmission_of_what_is_not_safe_yet_is_not_published_twice() {
    let mut world = registered(true);
    world.broker.hold = true;
    world.ask(1, publish(Q1, 2, 5, "x"), &[]);
    world.ask(1, again(Q1, 2, 5, "x"), &[]);
    assert_eq!((world.broker.published.len(), world.gateway.stats().duplicates), (1, 1));
    world.settle();
    world.expect(1, &[puback(2, 5, ACCEPTED)]);
}

#[test]
fn nine_publishes_while_the_store_is_slow_are_all_acknowledged_in_the_end() {
    let mut world = registered(true);
    world.broker.hold = true;
    for n in 1..=9 {
        world.ask(1, publish(Q1, 2, n, "x"), &[]);
    }
    world.ask(1, ping(""), &[PINGRESP]);
    world.settle();
    let acks: Vec<Message<'_>> = (1..=9).map(|n| puback(2, n, ACCEPTED)).collect();
    world.expect(1, &acks);
}

#[test]
fn requests_that_wait_are_bounded_and_beyond_it_is_congestion() {
    let mut world = registered(true);
    world.broker.hold = true;
    for n in 1..=64 {
        world.ask(1, publish(Q1, 2, n, "x"), &[]);
    }
    world.ask(1, publish(Q1, 2, 65, "x"), &[puback(2, 65, CONGESTION)]);
    assert_eq!((world.broker.published.len(), world.gateway.stats().pending), (64, 64));
}

#[test]
fn refusals_read_as_congestion_or_not_supported() {
    let mut world = registered(true);
    for (refusal, code) in [
        (Refusal::Full, CONGESTION),
        (Refusal::Store, CONGESTION),
        (Refusal::NotAuthorised, UNSUPPORTED),
        (Refusal::Topic, UNSUPPORTED),
    ] {
        world.broker.refuse = Some(refusal);
        for qos in [Q0, Q1, Q2] {
            world.ask(1, publish(qos, 2, 5, "x"), &[puback(2, 5, code)]);
        }
    }
    world.broker.refuse = None;
    world.broker.hold = true;
    world.ask(1, publish(Q2, 2, 6, "x"), &[]);
    world.finish(Err(Refusal::Store));
    world.expect(1, &[puback(2, 6, CONGESTION)]);
}

#[test]
fn qos_2_is_published_exactly_once() {
    let mut world = registered(true);
    world.ask(1, publish(Q2, 2, 5, "x"), &[Message::PubRec(MsgId(5))]);
    world.ask(1, again(Q2, 2, 5, "x"), &[Message::PubRec(MsgId(5))]);
    world.ask(1, Message::PubRel(MsgId(5)), &[Message::PubComp(MsgId(5))]);
    world.ask(1, Message::PubRel(MsgId(5)), &[Message::PubComp(MsgId(5))]);
    assert_eq!(world.broker.published.len(), 1);
    world.ask(1, publish(Q2, 2, 5, "y"), &[Message::PubRec(MsgId(5))]);
    assert_eq!(world.broker.published.len(), 2);
}

#[test]
fn each_step_of_qos_2_waits_until_it_is_safe() {
    let mut world = registered(true);
    world.broker.hold = true;
    world.ask(1, publish(Q2, 2, 5, "x"), &[]);
    world.ask(1, again(Q2, 2, 5, "x"), &[]);
    world.settle();
    world.expect(1, &[Message::PubRec(MsgId(5))]);
    world.ask(1, Message::PubRel(MsgId(5)), &[]);
    world.ask(1, Message::PubRel(MsgId(5)), &[]);
    world.settle();
    world.expect(1, &[Message::PubComp(MsgId(5))]);
    world.ask(1, Message::PubRel(MsgId(5)), &[]);
    world.finish(Err(Refusal::Store));
    world.expect(1, &[]);
}

#[test]
fn qos_minus_one_works_from_anybody_and_is_never_answered() {
    let mut world = World::connected(&[(1, "a")], true);
    let minus = |topic| publish_as(PublishQos::MinusOne, topic, 0, "x", false);
    for port in [1, 2] {
        world.ask(port, minus(Topic::Predefined(TopicId(9))), &[]);
        world.ask(port, minus(Topic::Short(ShortName(*b"tt"))), &[]);
        world.ask(port, minus(Topic::Id(TopicId(2))), &[]);
        world.ask(port, minus(Topic::Predefined(TopicId(3))), &[]);
        world.ask(port, minus(Topic::Short(ShortName(*b"+#"))), &[]);
    }
    let expected = [
        published(Some("a"), "pre/nine", "x"),
        published(Some("a"), "tt", "x"),
        published(None, "pre/nine", "x"),
        published(None, "tt", "x"),
    ];
    assert_eq!(world.broker.published, expected);
    assert_eq!(world.gateway.stats().minus_one_refused, 6);
}

#[test]
fn qos_minus_one_can_be_switched_off() {
    let mut world = World::with(Sn { allow_qos_minus_one: false, ..config() });
    world.raw(1, &[0x08, 0x0C, 0x62, 0x74, 0x74, 0x00, 0x00, 0x78]);
    assert_eq!((world.broker.published.len(), world.gateway.stats().minus_one_refused), (0, 1));
}

#[test]
fn malformed_messages_cost_nothing_but_themselves() {
    let mut world = registered(true);
    world.raw(1, &[0x04, 0x0A, 0x00, 0x00]);
    world.raw(1, &[]);
    world.raw(1, &[0x03, 0x16]);
    world.expect(1, &[]);
    assert_eq!(world.gateway.stats().malformed, 3);
    world.ask(1, ping(""), &[PINGRESP]);
}
