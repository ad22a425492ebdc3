//! CONNECT, DISCONNECT, keep-alive, addresses (MQTT-SN 6.2, 6.11, 6.12; A6 to A11, A15 to A19).

use super::*;
use crate::mqttsn::SubscribeTopic;

#[test]
fn connect_without_will_is_acknowledged() {
    let world = World::connected(&[(1, "a")], true);
    assert_eq!(world.state("a"), "active");
    assert!(world.broker.is_open("a"));
    assert_eq!((world.gateway.stats().connects, world.gateway.stats().active), (1, 1));
}

#[test]
fn a_connect_with_another_protocol_or_without_a_client_id_is_not_supported() {
    let mut world = World::new();
    let other = Connect { will: false, clean_session: true, protocol_id: 2, duration: 60, client_id: "a" };
    world.ask(1, Message::Connect(other), &[connack(UNSUPPORTED)]);
    world.ask(1, connect("", true), &[connack(UNSUPPORTED)]);
    let long = "x".repeat(129);
    world.ask(1, connect(&long, true), &[connack(UNSUPPORTED)]);
    world.ask(1, connect(&long[..128], true), &[connack(ACCEPTED)]);
    assert_eq!(world.gateway.stats().connects_refused, 3);
}

#[test]
fn a_refused_session_is_congestion_and_leaves_nothing() {
    let mut world = World::new();
    world.broker.refuse = Some(Refusal::Store);
    world.ask(1, connect("a", false), &[connack(CONGESTION)]);
    assert_eq!((world.state("a"), world.gateway.stats().congestion), ("unknown", 1));
}

#[test]
fn clients_are_bounded_and_the_one_that_is_away_longest_makes_room() {
    let mut world = World::with(Sn { max_clients: 2, ..config() });
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(2, connect("b", false), &[connack(ACCEPTED)]);
    world.ask(3, connect("c", true), &[connack(CONGESTION)]);
    world.ask(2, DISCONNECT, &[DISCONNECT]);
    world.ask(3, connect("c", true), &[connack(ACCEPTED)]);
    assert_eq!((world.state("b"), world.state("c")), ("unknown", "active"));
    assert!(world.broker.records.is_empty());
}

#[test]
fn a_repeated_connect_gets_connack_and_wipes_nothing() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(1, publish(Q1, 2, 2, "x"), &[puback(2, 2, ACCEPTED)]);
    assert_eq!(world.gateway.stats().duplicates, 1);
}

#[test]
fn a_later_connect_is_a_new_connection() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.pass(RETRY);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(1, publish(Q1, 2, 2, "x"), &[puback(2, 2, INVALID)]);
}

#[test]
fn disconnect_is_answered_and_ends_a_clean_session() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, DISCONNECT, &[DISCONNECT]);
    assert_eq!((world.state("a"), world.broker.session_of("a")), ("unknown", None));
}

#[test]
fn disconnect_with_duration_zero_is_a_plain_disconnect() {
    let mut world = World::connected(&[(1, "a")], false);
    world.ask(1, sleep(0), &[DISCONNECT]);
    assert_eq!(world.state("a"), "disconnected");
    assert!(!world.broker.is_open("a"));
}

#[test]
fn a_session_that_is_not_clean_keeps_subscriptions_and_ids_over_connections() {
    let (mut world, id) = World::subscribed("t", Q1, false);
    world.ask(1, DISCONNECT, &[DISCONNECT]);
    world.publish("t", "x", Q1);
    world.pass(RETRY);
    // The client may have lost its memory: REGISTER comes before PUBLISH (MQTT-SN 6.10), with the same id.
    world.ask(1, connect("a", false), &[connack(ACCEPTED), told(id, 1, "t")]);
    world.ask(1, regack(id, 1, ACCEPTED), &[publish(Q1, id, 2, "x")]);
}

#[test]
fn a_silent_client_is_lost_after_its_keep_alive_and_half_of_it() {
    let mut world = World::connected(&[(1, "a")], true);
    world.pass(secs(89));
    world.ask(1, ping(""), &[PINGRESP]);
    world.pass(secs(89));
    assert_eq!(world.state("a"), "active");
    world.pass(secs(1));
    assert_eq!((world.state("a"), world.gateway.stats().clients_lost), ("unknown", 1));
    assert_eq!(world.broker.session_of("a"), None);
}

#[test]
fn above_a_minute_the_tolerance_is_a_tenth() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, false, 100), &[connack(ACCEPTED)]);
    world.pass(secs(109));
    assert_eq!(world.state("a"), "active");
    world.pass(secs(1));
    assert_eq!(world.state("a"), "unknown");
}

#[test]
fn keep_alive_zero_is_bounded_by_the_idle_timeout() {
    let mut world = World::new();
    world.ask(1, connect_with("a", true, false, 0), &[connack(ACCEPTED)]);
    world.pass(secs(3599));
    assert_eq!(world.state("a"), "active");
    world.pass(secs(1));
    assert_eq!(world.state("a"), "unknown");
}

#[test]
fn an_active_client_has_its_pingreq_answered_here() {
    let mut world = World::connected(&[(1, "a")], true);
    world.broker.refuse = Some(Refusal::Store);
    world.ask(1, ping(""), &[PINGRESP]);
    world.ask(1, ping("a"), &[PINGRESP]);
}

#[test]
fn strangers_are_told_to_connect_but_not_more_than_once_a_second() {
    let mut world = World::new();
    let messages = [
        publish(Q1, 1, 1, "x"),
        register("t", 1),
        subscribe_to(SubscribeTopic::Name("t"), Q0, 1),
        ping(""),
        ping("a"),
        DISCONNECT,
        regack(1, 1, 0),
    ];
    for message in messages {
        world.ask(1, message, &[DISCONNECT]);
        world.ask(1, message, &[]);
        world.pass(secs(1));
    }
    assert_eq!((world.gateway.stats().strangers, world.gateway.stats().strangers_unanswered), (14, 7));
}

#[test]
fn the_same_client_id_from_another_address_takes_over() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(2, connect("a", true), &[connack(ACCEPTED)]);
    world.expect(1, &[DISCONNECT]);
    world.ask(2, ping(""), &[PINGRESP]);
    world.ask(1, ping(""), &[DISCONNECT]);
    assert_eq!(world.gateway.stats().address_changes, 1);
}

#[test]
fn another_client_id_from_the_same_address_takes_the_address_only() {
    let mut world = World::connected(&[(1, "a"), (1, "b")], true);
    assert_eq!((world.state("a"), world.state("b")), ("active", "active"));
    world.pass(secs(60));
    world.ask(1, ping("b"), &[PINGRESP]);
    world.pass(secs(30));
    assert_eq!((world.state("a"), world.state("b")), ("unknown", "active"));
}

#[test]
fn a_client_without_an_address_keeps_what_is_for_it() {
    let (mut world, _) = World::subscribed("t", Q0, false);
    world.ask(1, connect("b", true), &[connack(ACCEPTED)]);
    world.publish("t", "x", Q0);
    world.expect(1, &[]);
    assert_eq!(world.broker.queued("a"), 1);
}

#[test]
fn a_session_taken_over_by_other_means_is_told_and_forgotten() {
    let mut world = World::connected(&[(1, "a")], false);
    let session = world.broker.session_of("a").unwrap();
    world.input(Input::TakenOver { session });
    world.expect(1, &[DISCONNECT]);
    assert_eq!((world.state("a"), world.gateway.stats().taken_over), ("unknown", 1));
    assert!(world.broker.is_open("a"), "it is not ours to close");
    assert!(world.broker.records.is_empty());
}

#[test]
fn nothing_is_heard_of_a_pending_answer_after_a_new_connection() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(1, register("t", 1), &[regack(2, 1, ACCEPTED)]);
    world.broker.hold = true;
    world.ask(1, publish(Q1, 2, 2, "x"), &[]);
    world.pass(RETRY);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.settle();
    world.expect(1, &[]);
}
