//! REGISTER, SUBSCRIBE, UNSUBSCRIBE (MQTT-SN 6.5, 6.9; A4, A5, A29).

use super::*;
use crate::mqttsn::{ShortName, Unsubscribe};

fn short(name: &[u8; 2]) -> SubscribeTopic<'static> {
    SubscribeTopic::Short(ShortName(*name))
}

fn predefined(id: u16) -> SubscribeTopic<'static> {
    SubscribeTopic::Predefined(TopicId(id))
}

fn unsubscribe(topic: SubscribeTopic<'_>, msg_id: u16) -> Message<'_> {
    Message::Unsubscribe(Unsubscribe { msg_id: MsgId(msg_id), topic })
}

#[test]
fn the_same_name_gets_the_same_id_by_register_and_subscribe() {
    let mut world = World::connected(&[(1, "a")], true);
    // 1 and 9 are predefined.
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.ask(1, register("u", 2), &[regack(3, 2, ACCEPTED)]);
    world.ask(1, register("t", 3), &[regack(2, 3, ACCEPTED)]);
    world.ask(1, subscribe("u", Q1, 4), &[suback(3, Q1, 4, ACCEPTED)]);
}

#[test]
fn topic_ids_are_per_client() {
    let mut world = World::connected(&[(1, "a"), (2, "b")], true);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.ask(2, register("u", 1), &[regack(2, 1, ACCEPTED)]);
    world.ask(1, publish(Q0, 2, 0, "x"), &[]);
    world.ask(2, publish(Q0, 2, 0, "y"), &[]);
    assert_eq!(world.broker.published, [published(Some("a"), "t", "x"), published(Some("b"), "u", "y")]);
}

#[test]
fn register_with_wildcards_or_without_a_name_is_not_supported() {
    let mut world = World::connected(&[(1, "a")], true);
    for topic in ["a/#", "+", ""] {
        world.ask(1, register(topic, 1), &[regack(0, 1, UNSUPPORTED)]);
    }
}

#[test]
fn a_full_topic_table_is_congestion() {
    let mut world = World::connected(&[(1, "a")], true);
    for n in 0..8 {
        world.send(1, register(&format!("t/{n}"), n));
    }
    world.sent.clear();
    world.ask(1, register("u", 9), &[regack(0, 9, CONGESTION)]);
    world.ask(1, subscribe("u", Q1, 10), &[suback(0, Q1, 10, CONGESTION)]);
    world.ask(1, subscribe("u/#", Q1, 11), &[suback(0, Q1, 11, ACCEPTED)]);
    world.ask(1, subscribe_to(predefined(9), Q1, 12), &[suback(9, Q1, 12, CONGESTION)]);
    assert_eq!(world.gateway.stats().topics, 8);
}

#[test]
fn suback_names_the_topic_id_by_kind_of_subscription() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, subscribe("t", Q2, 1), &[suback(2, Q2, 1, ACCEPTED)]);
    world.ask(1, subscribe("t/#", Q1, 2), &[suback(0, Q1, 2, ACCEPTED)]);
    world.ask(1, subscribe_to(predefined(9), Q0, 3), &[suback(9, Q0, 3, ACCEPTED)]);
    world.ask(1, subscribe_to(short(b"ab"), Q0, 4), &[suback(0x6162, Q0, 4, ACCEPTED)]);
    assert_eq!(world.broker.subscriptions("a"), ["ab", "pre/nine", "t", "t/#"]);
}

#[test]
fn subscriptions_that_make_no_sense_are_refused_by_kind() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, subscribe("", Q1, 1), &[suback(0, Q1, 1, UNSUPPORTED)]);
    world.ask(1, subscribe_to(predefined(5), Q1, 2), &[suback(5, Q1, 2, INVALID)]);
    world.ask(1, subscribe_to(short(b"/#"), Q1, 3), &[suback(0x2F23, Q1, 3, UNSUPPORTED)]);
    let reserved = SubscribeTopic::Reserved(b"x");
    world.ask(1, subscribe_to(reserved, Q1, 4), &[suback(0, Q1, 4, UNSUPPORTED)]);
    world.broker.refuse = Some(Refusal::NotAuthorised);
    world.ask(1, subscribe("t", Q1, 5), &[suback(0, Q1, 5, UNSUPPORTED)]);
    world.broker.refuse = Some(Refusal::Full);
    world.ask(1, subscribe("t", Q1, 6), &[suback(0, Q1, 6, CONGESTION)]);
    world.ask(1, subscribe_to(predefined(9), Q1, 7), &[suback(9, Q1, 7, CONGESTION)]);
    assert_eq!(world.gateway.stats().topics, 0, "what was refused leaves no id");
}

#[test]
fn suback_comes_once_when_the_subscription_is_safe_and_messages_after_it() {
    let mut world = World::connected(&[(1, "a")], false);
    world.broker.hold = true;
    world.ask(1, subscribe("t", Q1, 1), &[]);
    world.ask(1, subscribe("t", Q1, 1), &[]);
    world.publish("t", "x", Q1);
    world.expect(1, &[]);
    assert_eq!(world.broker.held.len(), 2, "the subscription, and the record with its topic id");
    world.settle();
    world.expect(1, &[suback(2, Q1, 1, ACCEPTED), publish(Q1, 2, 1, "x")]);
}

#[test]
fn a_topic_id_is_safe_before_it_is_given_out() {
    let mut world = World::connected(&[(1, "a")], false);
    world.broker.hold = true;
    world.ask(1, register("t", 1), &[]);
    world.ask(1, register("t", 1), &[]);
    world.finish(Err(Refusal::Store));
    world.expect(1, &[regack(0, 1, CONGESTION)]);
    world.ask(1, register("t", 2), &[]);
    world.settle();
    world.expect(1, &[regack(3, 2, ACCEPTED)]);
}

#[test]
fn unsubscribe_is_answered_whatever_it_names() {
    let mut world = World::connected(&[(1, "a")], true);
    world.send(1, subscribe("t", Q1, 1));
    world.send(1, subscribe_to(predefined(9), Q1, 2));
    world.send(1, subscribe_to(short(b"ab"), Q1, 3));
    world.sent.clear();
    world.ask(1, unsubscribe(SubscribeTopic::Name("t"), 4), &[Message::UnsubAck(MsgId(4))]);
    world.ask(1, unsubscribe(predefined(9), 5), &[Message::UnsubAck(MsgId(5))]);
    world.ask(1, unsubscribe(short(b"ab"), 6), &[Message::UnsubAck(MsgId(6))]);
    world.ask(1, unsubscribe(predefined(5), 7), &[Message::UnsubAck(MsgId(7))]);
    assert!(world.broker.subscriptions("a").is_empty());
}

#[test]
fn unsuback_waits_until_it_is_safe_and_stays_out_if_it_cannot_be() {
    let mut world = World::connected(&[(1, "a")], true);
    world.send(1, subscribe("t", Q1, 1));
    world.sent.clear();
    world.broker.hold = true;
    world.ask(1, unsubscribe(SubscribeTopic::Name("t"), 4), &[]);
    world.settle();
    world.expect(1, &[Message::UnsubAck(MsgId(4))]);
    world.broker.refuse = Some(Refusal::Store);
    world.ask(1, unsubscribe(SubscribeTopic::Name("t"), 5), &[]);
}

#[test]
fn messages_come_by_the_name_that_was_subscribed_to() {
    let mut world = World::connected(&[(1, "a")], true);
    world.send(1, subscribe_to(predefined(9), Q0, 2));
    world.send(1, subscribe_to(short(b"ab"), Q0, 3));
    world.send(1, subscribe("cd", Q0, 4));
    world.sent.clear();
    let zero = PublishQos::Level(Q0);
    world.publish("pre/nine", "x", Q0);
    world.expect(1, &[publish_as(zero, Topic::Predefined(TopicId(9)), 0, "x", false)]);
    world.publish("ab", "y", Q0);
    world.expect(1, &[publish_as(zero, Topic::Short(ShortName(*b"ab")), 0, "y", false)]);
    world.publish("cd", "z", Q0);
    world.expect(1, &[publish(Q0, 2, 0, "z")]);
}
