//! Messages to clients (MQTT-SN 6.10; A13, A24, A26 to A28).

use super::*;

#[test]
fn a_concrete_subscription_needs_no_register() {
    let (mut world, id) = World::subscribed("t", Q1, true);
    world.publish("t", "x", Q0);
    world.expect(1, &[publish(Q0, id, 0, "x")]);
    assert_eq!(world.broker.queued("a"), 0);
}

#[test]
fn a_wildcard_subscription_has_each_new_topic_registered_first() {
    let (mut world, _) = World::subscribed("t/#", Q0, true);
    world.publish("t/1", "x", Q0);
    world.publish("t/1", "y", Q0);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, ACCEPTED), &[publish(Q0, 2, 0, "x"), publish(Q0, 2, 0, "y")]);
}

#[test]
fn one_qos_1_message_is_in_flight_at_a_time() {
    let (mut world, id) = World::subscribed("t", Q1, true);
    world.publish("t", "x", Q1);
    world.publish("t", "y", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 99, ACCEPTED), &[]);
    world.ask(1, puback(id, 1, ACCEPTED), &[publish(Q1, id, 2, "y")]);
    world.ask(1, puback(id, 2, ACCEPTED), &[]);
    assert_eq!((world.broker.queued("a"), world.gateway.stats().unexpected), (0, 1));
}

#[test]
fn qos_2_is_released_and_completed() {
    let (mut world, id) = World::subscribed("t", Q2, true);
    world.publish("t", "x", Q2);
    world.expect(1, &[publish(Q2, id, 1, "x")]);
    world.broker.hold = true;
    world.ask(1, Message::PubRec(MsgId(1)), &[]);
    world.ask(1, Message::PubRec(MsgId(1)), &[]);
    world.settle();
    world.expect(1, &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubComp(MsgId(1)), &[]);
    assert_eq!((world.broker.queued("a"), world.broker.releases_of("a")), (0, vec![]));
}

#[test]
fn a_release_that_cannot_be_made_safe_is_tried_again() {
    let (mut world, id) = World::subscribed("t", Q2, true);
    world.publish("t", "x", Q2);
    world.expect(1, &[publish(Q2, id, 1, "x")]);
    world.broker.refuse = Some(Refusal::Store);
    world.ask(1, Message::PubRec(MsgId(1)), &[]);
    world.broker.refuse = None;
    world.pass(RETRY);
    world.expect(1, &[again(Q2, id, 1, "x")]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
}

#[test]
fn an_unanswered_message_is_sent_again_with_dup_and_then_kept() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    for _ in 0..3 {
        world.pass(RETRY);
        world.expect(1, &[again(Q1, id, 1, "x")]);
    }
    world.pass(RETRY);
    world.expect(1, &[]);
    assert_eq!((world.broker.queued("a"), world.gateway.stats().retries_exhausted), (1, 1));
    // A sign of life: the same message by the same id.
    world.ask(1, ping(""), &[PINGRESP]);
    world.pass(secs(0));
    world.expect(1, &[again(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[]);
    assert_eq!(world.broker.queued("a"), 0);
}

#[test]
fn register_and_pubrel_are_sent_again_too() {
    let (mut world, _) = World::subscribed("t/#", Q2, true);
    world.publish("t/1", "x", Q2);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.pass(RETRY);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, ACCEPTED), &[publish(Q2, 2, 1, "x")]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.pass(RETRY);
    world.expect(1, &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubComp(MsgId(1)), &[]);
    assert_eq!(world.gateway.stats().retransmissions, 2);
}

#[test]
fn a_refused_topic_is_dropped_and_not_offered_again() {
    let (mut world, _) = World::subscribed("t/#", Q1, true);
    world.publish("t/1", "x", Q1);
    world.publish("t/2", "y", Q1);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, UNSUPPORTED), &[told(3, 2, "t/2")]);
    world.ask(1, regack(3, 2, ACCEPTED), &[publish(Q1, 3, 3, "y")]);
    world.ask(1, puback(3, 3, ACCEPTED), &[]);
    world.publish("t/1", "z", Q1);
    world.expect(1, &[]);
    assert_eq!((world.broker.queued("a"), world.gateway.stats().dropped_unwanted), (0, 2));
}

#[test]
fn congestion_at_the_client_is_a_reason_to_wait() {
    let (mut world, _) = World::subscribed("t/#", Q1, true);
    world.publish("t/1", "x", Q1);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, CONGESTION), &[]);
    world.pass(RETRY);
    world.expect(1, &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, ACCEPTED), &[publish(Q1, 2, 2, "x")]);
    world.ask(1, puback(2, 2, CONGESTION), &[]);
    world.pass(RETRY);
    world.expect(1, &[again(Q1, 2, 2, "x")]);
}

#[test]
fn a_forgotten_topic_id_is_registered_and_the_message_sent_once_more() {
    for (id_in_ack, code) in [(2, INVALID), (0, UNSUPPORTED)] {
        let (mut world, id) = World::subscribed("t", Q1, true);
        world.publish("t", "x", Q1);
        world.expect(1, &[publish(Q1, id, 1, "x")]);
        world.ask(1, puback(id_in_ack, 1, code), &[told(id, 2, "t")]);
        world.ask(1, regack(id, 2, ACCEPTED), &[again(Q1, id, 1, "x")]);
        world.ask(1, puback(id_in_ack, 1, code), &[]);
        assert_eq!((world.broker.queued("a"), world.gateway.stats().dropped_refused), (0, 1));
        world.publish("t", "y", Q1);
        world.expect(1, &[publish(Q1, id, 3, "y")]);
    }
}

#[test]
fn a_refused_predefined_id_is_replaced_by_a_registered_one() {
    let mut world = World::connected(&[(1, "a")], true);
    let topic = SubscribeTopic::Predefined(TopicId(9));
    world.ask(1, subscribe_to(topic, Q1, 1), &[suback(9, Q1, 1, ACCEPTED)]);
    world.publish("pre/nine", "x", Q1);
    let predefined = Topic::Predefined(TopicId(9));
    world.expect(1, &[publish_as(PublishQos::Level(Q1), predefined, 1, "x", false)]);
    world.ask(1, puback(9, 1, INVALID), &[told(2, 2, "pre/nine")]);
    world.ask(1, regack(2, 2, ACCEPTED), &[again(Q1, 2, 1, "x")]);
}

#[test]
fn a_refused_qos_0_message_has_its_topic_registered_next_time() {
    let (mut world, id) = World::subscribed("t", Q0, true);
    world.publish("t", "x", Q0);
    world.expect(1, &[publish(Q0, id, 0, "x")]);
    world.ask(1, puback(id, 0, INVALID), &[]);
    world.publish("t", "y", Q0);
    world.expect(1, &[told(id, 1, "t")]);
}

#[test]
fn what_is_too_long_for_the_link_is_given_up_and_counted() {
    let (mut world, id) = World::subscribed("t/#", Q1, true);
    assert_eq!(id, 0);
    let long_topic = format!("t/{}", "x".repeat(1500));
    world.publish(&long_topic, "x", Q1);
    world.expect(1, &[]);
    world.publish("t/1", &"x".repeat(1500), Q1);
    world.expect(1, &[told(3, 2, "t/1")]);
    world.ask(1, regack(3, 2, ACCEPTED), &[]);
    world.publish("t/1", "y", Q1);
    world.expect(1, &[publish(Q1, 3, 4, "y")]);
    let stats = world.gateway.stats();
    assert_eq!((stats.dropped_too_long, stats.unsendable), (2, 0));
}

#[test]
fn a_full_topic_table_gives_up_the_oldest_topic_of_a_wildcard() {
    let (mut world, _) = World::subscribed("t/#", Q0, true);
    for n in 0..10 {
        let topic = format!("t/{n}");
        world.publish(&topic, "x", Q0);
        let id = if n < 7 { n + 2 } else { n + 3 };
        world.expect(1, &[told(id, n + 1, &topic)]);
        world.ask(1, regack(id, n + 1, ACCEPTED), &[publish(Q0, id, 0, "x")]);
    }
    assert_eq!((world.gateway.stats().topics, world.gateway.stats().topics_evicted), (8, 2));
}

#[test]
fn a_table_full_of_the_clients_own_topics_has_messages_dropped_and_counted() {
    let (mut world, _) = World::subscribed("t/#", Q0, true);
    for n in 0..8 {
        world.send(1, register(&format!("own/{n}"), n));
    }
    world.sent.clear();
    world.publish("t/1", "x", Q0);
    world.expect(1, &[]);
    assert_eq!(world.gateway.stats().dropped_topics_full, 1);
}

#[test]
fn many_qos_0_messages_go_out_in_turns() {
    let (mut world, id) = World::subscribed("t", Q0, true);
    for _ in 0..100 {
        world.broker.route("t", b"x", Q0);
    }
    let session = world.broker.session_of("a").unwrap();
    world.broker.ready.clear();
    world.input(Input::Ready { session });
    world.expect(1, &[publish(Q0, id, 0, "x"); 32]);
    assert_eq!(world.gateway.deadline(), Some(world.now.at));
    world.input(Input::Timeout);
    world.expect(1, &[publish(Q0, id, 0, "x"); 32]);
    world.pass(secs(0));
    world.expect(1, &[publish(Q0, id, 0, "x"); 36]);
}

#[test]
fn a_new_topic_id_is_safe_before_the_client_is_told() {
    let (mut world, _) = World::subscribed("t/#", Q1, false);
    world.broker.hold = true;
    world.publish("t/1", "x", Q1);
    world.expect(1, &[]);
    world.finish(Err(Refusal::Store));
    world.expect(1, &[told(2, 1, "t/1")]);
}
