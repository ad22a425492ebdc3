//! Will handshake and updates (MQTT-SN 6.3, 6.4; A20, A21).

use super::*;
use crate::gateway::Will;
use crate::mqttsn::WillTopic;

fn will_topic(topic: &str) -> Message<'_> {
    Message::WillTopic(Some(WillTopic { qos: Q1, retain: true, topic }))
}

fn will_topic_upd(topic: &str) -> Message<'_> {
    Message::WillTopicUpd(Some(WillTopic { qos: Q0, retain: false, topic }))
}

fn will(topic: &str, payload: &str) -> Will {
    Will { topic: topic.into(), payload: payload.into(), qos: Q1, retain: true }
}

const ACK: ReturnCode = ReturnCode::ACCEPTED;

fn with_will(clean: bool) -> World {
    let mut world = World::new();
    world.ask(1, connect_with("a", clean, true, 60), &[Message::WillTopicReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    world.ask(1, Message::WillMsg(b"gone"), &[connack(ACCEPTED)]);
    world
}

#[test]
fn the_handshake_completes_and_a_lost_client_has_its_will_published() {
    let mut world = with_will(true);
    assert_eq!(world.broker.will("a"), Some(&will("w", "gone")));
    world.pass(secs(90));
    assert_eq!(world.broker.wills, [will("w", "gone")]);
}

#[test]
fn a_disconnect_publishes_no_will() {
    let mut world = with_will(true);
    world.ask(1, DISCONNECT, &[DISCONNECT]);
    assert_eq!(world.broker.wills, []);
}

#[test]
fn an_empty_will_topic_ends_the_handshake_without_a_will() {
    let mut world = World::new();
    world.ask(1, connect_with("a", false, true, 60), &[Message::WillTopicReq]);
    world.ask(1, Message::WillTopic(None), &[connack(ACCEPTED)]);
    assert_eq!(world.broker.will("a"), None);
}

#[test]
fn the_gateway_repeats_its_requests_and_then_gives_up() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.pass(RETRY);
    world.expect(1, &[Message::WillTopicReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    for _ in 0..3 {
        world.pass(RETRY);
        world.expect(1, &[Message::WillMsgReq]);
    }
    world.pass(RETRY);
    world.expect(1, &[]);
    assert_eq!((world.state("a"), world.gateway.stats().handshakes_abandoned), ("unknown", 1));
}

#[test]
fn a_repeated_connect_repeats_the_request() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillMsgReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    world.ask(1, Message::WillMsg(b"gone"), &[connack(ACCEPTED)]);
    world.ask(1, Message::WillMsg(b"gone"), &[connack(ACCEPTED)]);
}

#[test]
fn a_will_message_before_its_topic_is_not_taken() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.ask(1, Message::WillMsg(b"gone"), &[Message::WillTopicReq]);
    world.ask(1, publish(Q0, 1, 0, "x"), &[]);
    assert_eq!(world.gateway.stats().unexpected, 2);
}

#[test]
fn a_will_topic_with_wildcards_is_not_supported() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.ask(1, will_topic("w/#"), &[connack(UNSUPPORTED)]);
    assert_eq!(world.state("a"), "unknown");
}

#[test]
fn connack_waits_until_the_will_is_safe() {
    let mut world = World::new();
    world.ask(1, connect_with("a", false, true, 60), &[Message::WillTopicReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    world.broker.hold = true;
    world.ask(1, Message::WillMsg(b"gone"), &[]);
    world.ask(1, Message::WillMsg(b"gone"), &[]);
    world.ask(1, connect_with("a", false, true, 60), &[]);
    world.settle();
    world.expect(1, &[connack(ACCEPTED)]);
}

#[test]
fn a_will_that_cannot_be_made_safe_refuses_the_connection() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, true, 60), &[Message::WillTopicReq]);
    world.ask(1, will_topic("w"), &[Message::WillMsgReq]);
    world.broker.hold = true;
    world.ask(1, Message::WillMsg(b"gone"), &[]);
    world.finish(Err(Refusal::Store));
    world.expect(1, &[connack(CONGESTION)]);
    assert_eq!((world.state("a"), world.broker.wills.len()), ("unknown", 0));
}

#[test]
fn a_will_survives_a_connection_that_does_not_mention_it_unless_clean() {
    let mut world = with_will(false);
    world.ask(1, DISCONNECT, &[DISCONNECT]);
    world.pass(RETRY);
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    assert_eq!(world.broker.will("a"), Some(&will("w", "gone")));
    world.pass(RETRY);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    assert_eq!(world.broker.will("a"), None);
    world.ask(1, Message::WillMsgUpd(b"x"), &[Message::WillMsgResp(ReturnCode::NOT_SUPPORTED)]);
}

#[test]
fn topic_and_message_are_updated_apart() {
    let mut world = with_will(true);
    world.ask(1, Message::WillMsgUpd(b"new"), &[Message::WillMsgResp(ACK)]);
    assert_eq!(world.broker.will("a"), Some(&will("w", "new")));
    world.ask(1, will_topic_upd("v"), &[Message::WillTopicResp(ACK)]);
    let updated = Will { topic: "v".into(), payload: b"new".to_vec(), qos: Q0, retain: false };
    assert_eq!(world.broker.will("a"), Some(&updated));
    world.ask(1, Message::WillTopicUpd(None), &[Message::WillTopicResp(ACK)]);
    assert_eq!(world.broker.will("a"), None);
}

#[test]
fn without_a_will_its_topic_may_be_set_and_its_message_not() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, Message::WillMsgUpd(b"x"), &[Message::WillMsgResp(ReturnCode::NOT_SUPPORTED)]);
    world.ask(1, will_topic_upd("w"), &[Message::WillTopicResp(ACK)]);
    world.ask(1, Message::WillMsgUpd(b"x"), &[Message::WillMsgResp(ACK)]);
    assert_eq!(world.broker.will("a").unwrap().payload, b"x");
    world.ask(1, will_topic_upd("w/+"), &[Message::WillTopicResp(ReturnCode::NOT_SUPPORTED)]);
}

#[test]
fn an_update_is_acknowledged_once_it_is_safe_and_congestion_if_not() {
    let mut world = with_will(true);
    world.broker.hold = true;
    world.ask(1, Message::WillMsgUpd(b"new"), &[]);
    world.ask(1, Message::WillMsgUpd(b"new"), &[]);
    world.settle();
    world.expect(1, &[Message::WillMsgResp(ACK)]);
    world.broker.refuse = Some(Refusal::Full);
    world.ask(1, Message::WillTopicUpd(None), &[Message::WillTopicResp(ReturnCode::CONGESTION)]);
}
