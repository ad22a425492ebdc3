//! Sleeping clients (MQTT-SN 6.14; A7, A10, A12 to A16).

use super::*;

/// A client "a" at port 1, subscribed to "t" with `qos`, asleep for 300 s.
fn asleep(qos: QoS, clean: bool) -> (World, u16) {
    let (mut world, id) = World::subscribed("t", qos, clean);
    world.ask(1, sleep(300), &[DISCONNECT]);
    assert_eq!(world.state("a"), "asleep");
    (world, id)
}

#[test]
fn a_sleeper_gets_nothing_until_it_wakes_and_then_everything_and_pingresp_last() {
    let (mut world, id) = asleep(Q1, true);
    for payload in ["x", "y"] {
        world.publish("t", payload, Q1);
    }
    world.publish("t", "z", Q0);
    world.expect(1, &[]);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[publish(Q1, id, 2, "y")]);
    world.ask(1, puback(id, 2, ACCEPTED), &[publish(Q0, id, 0, "z"), PINGRESP]);
    assert_eq!((world.state("a"), world.broker.queued("a")), ("asleep", 0));
}

#[test]
fn without_messages_pingresp_comes_at_once() {
    let (mut world, _) = asleep(Q1, true);
    world.ask(1, ping("a"), &[PINGRESP]);
    assert_eq!(world.state("a"), "asleep");
}

#[test]
fn more_than_twenty_messages_wait_and_none_is_lost() {
    let (mut world, id) = asleep(Q1, true);
    for n in 0..100 {
        world.publish("t", &n.to_string(), Q1);
    }
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "0")]);
    for n in 1..100 {
        world.ask(1, puback(id, n, ACCEPTED), &[publish(Q1, id, n + 1, &n.to_string())]);
    }
    world.ask(1, puback(id, 100, ACCEPTED), &[PINGRESP]);
}

#[test]
fn what_comes_during_a_wake_waits_for_the_next_one() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.publish("t", "y", Q1);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
    world.ask(1, ping("a"), &[publish(Q1, id, 2, "y")]);
}

#[test]
fn a_new_topic_is_registered_during_the_wake() {
    let (mut world, _) = World::subscribed("t/#", Q1, true);
    world.ask(1, sleep(300), &[DISCONNECT]);
    world.publish("t/1", "x", Q1);
    world.ask(1, ping("a"), &[told(2, 1, "t/1")]);
    world.ask(1, regack(2, 1, ACCEPTED), &[publish(Q1, 2, 2, "x")]);
    world.ask(1, puback(2, 2, ACCEPTED), &[PINGRESP]);
}

#[test]
fn topic_ids_are_kept_over_sleep_and_registered_again_if_the_client_forgot_them() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(1, puback(0, 1, UNSUPPORTED), &[told(id, 2, "t")]);
    world.ask(1, regack(id, 2, ACCEPTED), &[again(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
}

#[test]
fn a_repeated_pingreq_during_the_wake_repeats_the_message_in_flight() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(1, ping("a"), &[again(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
    world.ask(1, ping("a"), &[PINGRESP]);
}

#[test]
fn retries_that_end_put_the_message_off_to_the_next_wake() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.pass(RETRY * 3);
    world.expect(1, &[again(Q1, id, 1, "x"); 3]);
    assert_eq!(world.state("a"), "awake");
    world.pass(RETRY);
    world.expect(1, &[PINGRESP]);
    assert_eq!((world.state("a"), world.broker.queued("a")), ("asleep", 1));
    world.ask(1, ping("a"), &[again(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
}

#[test]
fn qos_2_goes_on_where_sleep_interrupted_it() {
    let (mut world, id) = asleep(Q2, true);
    world.publish("t", "x", Q2);
    world.ask(1, ping("a"), &[publish(Q2, id, 1, "x")]);
    world.ask(1, Message::PubRec(MsgId(1)), &[Message::PubRel(MsgId(1))]);
    world.ask(1, sleep(300), &[DISCONNECT]);
    world.ask(1, ping("a"), &[Message::PubRel(MsgId(1))]);
    world.ask(1, Message::PubComp(MsgId(1)), &[PINGRESP]);
    assert!(world.broker.releases_of("a").is_empty());
}

#[test]
fn pingresp_waits_for_a_queue_that_is_read_from_the_disk_but_not_for_ever() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.broker.reading = true;
    world.ask(1, ping("a"), &[]);
    assert_eq!(world.state("a"), "awake");
    world.broker.reading = false;
    let session = world.broker.session_of("a").unwrap();
    world.input(Input::Ready { session });
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.ask(1, puback(id, 1, ACCEPTED), &[PINGRESP]);
    world.publish("t", "y", Q1);
    world.broker.reading = true;
    world.ask(1, ping("a"), &[]);
    world.pass(RETRY);
    world.expect(1, &[PINGRESP]);
}

#[test]
fn a_sleeper_that_does_not_return_is_lost_after_its_sleep_not_its_keep_alive() {
    let (mut world, _) = asleep(Q1, true);
    world.pass(secs(329));
    assert_eq!(world.state("a"), "asleep");
    world.pass(secs(1));
    assert_eq!((world.state("a"), world.gateway.stats().clients_lost), ("unknown", 1));
}

#[test]
fn the_will_of_a_lost_sleeper_is_published() {
    let mut world = World::connected(&[(1, "a")], true);
    let topic = crate::mqttsn::WillTopic { qos: Q0, retain: false, topic: "w" };
    world.send(1, Message::WillTopicUpd(Some(topic)));
    world.send(1, sleep(60));
    world.pass(secs(90));
    assert_eq!(world.broker.wills.len(), 1);
}

#[test]
fn the_sleep_timer_starts_again_with_pingresp() {
    let (mut world, _) = asleep(Q1, true);
    world.pass(secs(300));
    world.ask(1, ping("a"), &[PINGRESP]);
    world.pass(secs(329));
    assert_eq!(world.state("a"), "asleep");
}

#[test]
fn a_sleeper_may_change_its_sleep() {
    let (mut world, _) = asleep(Q1, true);
    world.ask(1, sleep(1000), &[DISCONNECT]);
    world.pass(secs(1099));
    assert_eq!(world.state("a"), "asleep");
    world.ask(1, DISCONNECT, &[DISCONNECT]);
    assert_eq!(world.state("a"), "unknown");
}

#[test]
fn connect_out_of_sleep_delivers_and_asks_for_no_will() {
    let (mut world, id) = asleep(Q1, false);
    world.publish("t", "x", Q1);
    world.ask(1, connect_with("a", false, true, 60), &[connack(ACCEPTED), publish(Q1, id, 1, "x")]);
    assert_eq!(world.state("a"), "active");
    world.ask(1, puback(id, 1, ACCEPTED), &[]);
}

#[test]
fn a_clean_connect_out_of_sleep_starts_afresh() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(1, publish(Q0, id, 0, "x"), &[puback(id, 0, INVALID)]);
    assert!(world.broker.subscriptions("a").is_empty());
}

#[test]
fn a_clean_client_may_come_back_from_sleep_to_stay() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, connect("a", false), &[connack(ACCEPTED), publish(Q1, id, 1, "x")]);
    assert!(world.broker.records.contains_key("a"));
}

#[test]
fn a_connect_during_the_wake_makes_active_and_puts_the_message_in_flight_first() {
    let (mut world, id) = asleep(Q1, false);
    world.publish("t", "x", Q1);
    world.ask(1, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(1, connect("a", false), &[connack(ACCEPTED), again(Q1, id, 1, "x")]);
    assert_eq!(world.state("a"), "active");
}

#[test]
fn sleep_puts_the_message_in_flight_back() {
    let (mut world, id) = World::subscribed("t", Q1, true);
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.ask(1, sleep(300), &[DISCONNECT]);
    world.pass(RETRY);
    world.expect(1, &[]);
    world.ask(1, ping("a"), &[again(Q1, id, 1, "x")]);
}

#[test]
fn a_sleeper_wakes_at_another_address() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(2, ping("a"), &[publish(Q1, id, 1, "x")]);
    world.ask(2, puback(id, 1, ACCEPTED), &[PINGRESP]);
    world.expect(1, &[]);
    assert_eq!(world.gateway.stats().address_changes, 1);
}

#[test]
fn an_active_client_is_not_moved_by_a_pingreq_from_elsewhere() {
    let mut world = World::connected(&[(1, "a")], true);
    world.ask(2, ping("a"), &[DISCONNECT]);
    world.ask(1, ping("a"), &[PINGRESP]);
}

#[test]
fn a_udp_sleeper_is_not_moved_to_a_serial_line() {
    let (mut world, _) = asleep(Q1, true);
    world.input(Input::SerialOpened { link: SERIAL });
    world.input(Input::SerialBytes { link: SERIAL, bytes: &[0x03, 0x16, b'a'] });
    world.expect(0, &[DISCONNECT]);
    world.input(Input::Datagram { link: OTHER_UDP, from: addr(3), bytes: &[0x03, 0x16, b'a'] });
    world.expect(3, &[PINGRESP]);
}

#[test]
fn going_to_sleep_is_acknowledged_once_it_is_recorded() {
    let mut world = World::connected(&[(1, "a")], false);
    world.broker.hold = true;
    world.ask(1, sleep(300), &[]);
    world.ask(1, sleep(300), &[]);
    world.settle();
    world.expect(1, &[DISCONNECT]);
    // The same sleep again changes nothing on the disk.
    let saves = world.broker.saves;
    world.ask(1, ping("a"), &[PINGRESP]);
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    world.ask(1, sleep(300), &[DISCONNECT]);
    assert_eq!(world.broker.saves, saves);
}

#[test]
fn a_sleeper_that_sends_without_connect_is_answered_and_sleeps_on() {
    let (mut world, id) = asleep(Q1, true);
    world.publish("t", "x", Q1);
    world.ask(1, publish(Q1, id, 7, "y"), &[puback(id, 7, ACCEPTED)]);
    assert_eq!((world.state("a"), world.broker.queued("a")), ("asleep", 2));
}

#[test]
fn a_taken_over_sleeper_is_not_woken() {
    let (mut world, _) = asleep(Q1, true);
    let session = world.broker.session_of("a").unwrap();
    world.input(Input::TakenOver { session });
    world.expect(1, &[]);
}
