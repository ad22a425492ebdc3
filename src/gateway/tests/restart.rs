//! What a restart of the gateway leaves as it was.

use super::*;
use crate::gateway::Will;

#[test]
fn topic_ids_work_after_a_restart_without_a_connect() {
    let mut world = World::connected(&[(1, "a")], false);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.restart();
    world.ask(1, publish(Q1, 2, 2, "x"), &[puback(2, 2, ACCEPTED)]);
    assert_eq!(world.broker.published, [published(Some("a"), "t", "x")]);
    // And no other name gets the id.
    world.ask(1, register("u", 3), &[regack(3, 3, ACCEPTED)]);
}

#[test]
fn subscriptions_deliver_after_a_restart() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.restart();
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
}

#[test]
fn what_was_in_flight_is_sent_again_at_once() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.restart();
    world.expect(1, &[publish(Q1, id, 1, "x")]);
}

#[test]
fn a_topic_the_client_was_only_told_of_is_told_again() {
    let (mut world, _) = World::subscribed("t/#", Q0, false);
    world.publish("t/1", "x", Q0);
    world.ask(1, regack(2, 1, ACCEPTED), &[told(2, 1, "t/1"), publish(Q0, 2, 0, "x")]);
    world.restart();
    world.publish("t/1", "y", Q0);
    world.expect(1, &[told(2, 1, "t/1")]);
}

#[test]
fn a_sleeper_that_slept_through_it_wakes_up_to_its_messages() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.ask(1, sleep(300), &[DISCONNECT]);
    world.publish("t", "x", Q1);
    world.restart();
    world.expect(1, &[]);
    assert_eq!(world.state("a"), "asleep");
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
}

#[test]
fn a_sleeper_that_was_active_by_then_is_active_as_soon_as_it_talks() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.ask(1, sleep(300), &[DISCONNECT]);
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.restart();
    world.expect(1, &[]);
    world.ask(1, ping(""), &[PINGRESP]);
    world.pass(secs(0));
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    assert_eq!(world.state("a"), "active");
}

#[test]
fn qos_2_is_completed_after_a_restart() {
    let (mut world, id) = World::subscribed("t", Q2, false);
    world.publish("t", "x", Q2);
    world.expect(1, &[publish(Q2, id, 1, "x")]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.restart();
    world.expect(1, &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubComp(MsgId(1)), &[]);
    assert!(world.broker.releases_of("a").is_empty());
}

#[test]
fn half_of_a_will_may_be_updated_after_a_restart() {
    let mut world = World::connected(&[(1, "a")], false);
    let topic = crate::mqttsn::WillTopic { qos: Q1, retain: true, topic: "w" };
    let ack = ReturnCode::ACCEPTED;
    world.ask(1, Message::WillTopicUpd(Some(topic)), &[Message::WillTopicResp(ack)]);
    world.restart();
    world.ask(1, Message::WillMsgUpd(b"gone"), &[Message::WillMsgResp(ack)]);
    let will = Will { topic: "w".into(), payload: b"gone".to_vec(), qos: Q1, retain: true };
    assert_eq!(world.broker.will("a"), Some(&will));
}

#[test]
fn a_client_that_does_not_come_back_after_a_restart_is_lost() {
    let mut world = World::connected(&[(1, "a")], false);
    let topic = crate::mqttsn::WillTopic { qos: Q1, retain: true, topic: "w" };
    world.send(1, Message::WillTopicUpd(Some(topic)));
    world.restart();
    world.pass(secs(90));
    assert_eq!((world.state("a"), world.broker.wills.len()), ("disconnected", 1));
    world.restart();
    assert_eq!(world.state("a"), "disconnected");
    assert!(!world.broker.is_open("a"));
}

#[test]
fn a_client_with_a_clean_session_leaves_no_record_and_is_told_to_connect() {
    let mut world = World::connected(&[(1, "a")], true);
    world.send(1, register("t", 1));
    world.send(1, sleep(300));
    assert_eq!(world.broker.saves, 0);
    world.restart();
    world.sent.clear();
    world.ask(1, ping("a"), &[DISCONNECT]);
}

#[test]
fn a_clean_connect_deletes_the_record() {
    let mut world = World::connected(&[(1, "a")], false);
    assert!(world.broker.records.contains_key("a"));
    world.pass(RETRY);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    assert!(world.broker.records.is_empty());
}

#[test]
fn a_node_behind_a_forwarder_is_found_again() {
    let mut world = World::new();
    let envelope = [4, 0xFE, 0, 7];
    let connect = [7, 0x04, 0x00, 0x01, 0x00, 0x3C, b'n'];
    world.raw(1, &[&envelope[..], &connect].concat());
    world.expect(1, &[connack(ACCEPTED)]);
    world.restart();
    world.raw(1, &[&envelope[..], &[2, 0x16]].concat());
    assert_eq!(world.sent, [(1, vec![4, 0xFE, 0, 7, 2, 0x17])]);
}

#[test]
fn records_that_are_damaged_or_of_another_kind_are_counted_and_left_out() {
    let mut world = World::connected(&[(1, "a")], false);
    let good = world.broker.records["a"].clone();
    for (id, record) in [("b", "{"), ("c", r#"{"version":2}"#), ("d", r#"{"version":1}"#)] {
        world.broker.records.insert(id.into(), record.into());
    }
    world.broker.records.insert("e".into(), good.replace("\"udp\"", "\"gone\""));
    world.restart();
    assert_eq!((world.state("a"), world.state("b"), world.state("e")), ("active", "unknown", "active"));
    assert_eq!(world.gateway.stats().records_unusable, 3);
}

#[test]
fn a_pubrec_from_before_a_restart_does_not_make_the_client_take_the_message_twice() {
    let (mut world, id) = World::subscribed("t", Q2, false);
    world.publish("t", "x", Q2);
    world.expect(1, &[publish(Q2, id, 1, "x")]);
    // After it the queue is still to be read from the disk.
    world.broker.reading = true;
    world.restart();
    // PUBREL now would have the client forget the id, and take the same message as a new one.
    world.ask(1, Message::PubRec(MsgId(1)), &[]);
    world.broker.reading = false;
    let session = world.broker.session_of("a").unwrap();
    world.input(Input::Ready { session });
    world.expect(1, &[publish(Q2, id, 1, "x")]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubComp(MsgId(1)), &[]);
    assert_eq!(world.broker.queued("a"), 0);
}
