//! The broker by its behaviours: packets in, packets out, with a store that commits when it is told to.

mod access;
mod alias;
mod bench;
mod limits;
mod login;
mod reasons;
mod share;
mod sys_topics;
mod users;

use super::*;
use crate::broker::tests::bench::{Bench, hello, message, qos};
use crate::config::Config;
use crate::mqtt;
use crate::mqtt::{
    ConnAck, Connect, ConnectProperties, PacketType, PubAck, PubRec, PubRel, Publish, QoS, RetainHandling,
    SubscribeOptions, WillProperties,
};
use crate::queue::{Owner, Recovered, Reply};

const V5: Version = Version::V5;
const V311: Version = Version::V311;

#[test]
fn a_session_is_resumed_with_what_came_meanwhile_in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.connect(0, &hello(V5, "sub")), ["connack Success present false"]);
    bench.subscribe(0, V5, "a/#", qos(QoS::AtLeastOnce), None);
    assert_eq!(bench.sent(0, V5), ["suback [1]"]);
    bench.lose(0);
    bench.connect(1, &hello(V311, "pub"));
    for (pkid, payload) in [(1, "one"), (2, "two")] {
        bench.publish(1, V311, &message("a/b", payload, QoS::AtLeastOnce, pkid));
    }
    assert_eq!(bench.sent(1, V311), ["puback 1 Success", "puback 2 Success"]);
    let back = bench.connect(2, &hello(V5, "sub"));
    assert_eq!(back, ["connack Success present true", "a/b=one qos 1", "a/b=two qos 1"]);
}

#[test]
fn puback_waits_for_the_commit_when_a_stored_session_wants_the_message() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    bench.lose(0);
    bench.connect(1, &hello(V5, "pub"));
    bench.hold = true;
    bench.publish(1, V5, &message("a", "x", QoS::AtLeastOnce, 1));
    // A message that nobody must keep is safe at once, but the answers keep their order [MQTT-4.6.0-2].
    bench.publish(1, V5, &message("nobody", "x", QoS::AtLeastOnce, 2));
    assert_eq!(bench.sent(1, V5), Vec::<String>::new());
    bench.commit();
    assert_eq!(bench.sent(1, V5), ["puback 1 Success", "puback 2 NoMatchingSubscribers"]);
}

#[test]
fn a_connected_receiver_that_acknowledges_before_the_commit_makes_it_needless() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &hello(V5, "pub"));
    bench.settle();
    bench.hold = true;
    let mut bytes = Vec::new();
    message("a", "x", QoS::AtLeastOnce, 1).encode(V5, &mut bytes);
    let now = bench.now();
    bench.broker.handle_received(now, &mut bench.queues, ConnId(1), &bytes);
    let (_, owner) = bench.queues.poll_ready().unwrap();
    let Owner::Session(session) = owner else { panic!("{owner:?}") };
    bench.broker.pump(now, &mut bench.queues, session);
    assert_eq!(bench.sent(0, V5), ["a=x qos 1"]);
    bench.send(0, &Packet::PubAck(PubAck::new(1, ReasonCode::Success)), V5);
    assert_eq!(bench.sent(1, V5), ["puback 1 Success"]);
    assert_eq!(bench.appended, 0, "the message was never written");
}

#[test]
fn qos_2_from_the_client_is_published_once_however_often_it_comes() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::AtMostOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &hello(V5, "pub"));
    let publish = message("a", "x", QoS::ExactlyOnce, 7);
    bench.publish(1, V5, &publish);
    bench.publish(1, V5, &Publish { dup: true, ..publish });
    assert_eq!(bench.sent(0, V5), ["a=x qos 0"]);
    assert_eq!(bench.sent(1, V5), ["pubrec 7 Success", "pubrec 7 Success"]);
    bench.send(1, &Packet::PubRel(PubRel::new(7, ReasonCode::Success)), V5);
    bench.send(1, &Packet::PubRel(PubRel::new(7, ReasonCode::Success)), V5);
    assert_eq!(bench.sent(1, V5), ["pubcomp 7 Success", "pubcomp 7 PacketIdentifierNotFound"]);
    bench.publish(1, V5, &publish);
    assert_eq!(bench.sent(0, V5), ["a=x qos 0"]);
}

#[test]
fn qos_2_to_the_client_goes_on_where_it_was_after_a_reconnect() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::ExactlyOnce), None);
    bench.connect(1, &hello(V5, "pub"));
    bench.publish(1, V5, &message("a", "x", QoS::ExactlyOnce, 1));
    assert_eq!(bench.sent(0, V5), ["suback [2]", "a=x qos 2"]);
    bench.lose(0);
    assert_eq!(bench.connect(2, &hello(V5, "sub")), ["connack Success present true", "a=x qos 2 dup"]);
    bench.send(2, &Packet::PubRec(PubRec::new(1, ReasonCode::Success)), V5);
    assert_eq!(bench.sent(2, V5), ["pubrel 1"]);
    bench.lose(2);
    assert_eq!(bench.connect(3, &hello(V5, "sub")), ["connack Success present true", "pubrel 1"]);
}

#[test]
fn qos_1_to_the_client_goes_out_again_with_its_old_identifiers() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    bench.connect(1, &hello(V5, "pub"));
    for (pkid, payload) in [(1, "one"), (2, "two"), (3, "three"), (4, "four")] {
        bench.publish(1, V5, &message("a", payload, QoS::AtLeastOnce, pkid));
    }
    let acknowledge = |bench: &mut Bench, conn: u32, pkid: u16| {
        bench.send(conn, &Packet::PubAck(PubAck::new(pkid, ReasonCode::Success)), V5);
    };
    // Acknowledged out of order: what is left keeps its identifiers, over two more connections [MQTT-4.4.0-1].
    acknowledge(&mut bench, 0, 1);
    acknowledge(&mut bench, 0, 3);
    bench.lose(0);
    let narrow = ConnectProperties { receive_maximum: Some(1), ..hello(V5, "sub").properties };
    let back = bench.connect(2, &Connect { properties: narrow, ..hello(V5, "sub") });
    assert_eq!(back, ["connack Success present true", "a=two qos 1 dup"]);
    acknowledge(&mut bench, 2, 2);
    assert_eq!(bench.sent(2, V5), ["a=four qos 1 dup"]);
    // Taken over this time, and a new message comes after the old one.
    assert_eq!(bench.connect(3, &hello(V5, "sub")), ["connack Success present true", "a=four qos 1 dup"]);
    bench.publish(1, V5, &message("a", "five", QoS::AtLeastOnce, 5));
    assert_eq!(bench.sent(3, V5), ["a=five qos 1"]);
    for unknown in [1, 2, 3] {
        acknowledge(&mut bench, 3, unknown);
    }
    bench.lose(3);
    let back = bench.connect(4, &hello(V5, "sub"));
    assert_eq!(back[1..], ["a=four qos 1 dup", "a=five qos 1 dup"]);
    acknowledge(&mut bench, 4, 4);
    acknowledge(&mut bench, 4, 5);
    bench.lose(4);
    assert_eq!(bench.connect(5, &hello(V5, "sub")), ["connack Success present true"]);
}

#[test]
fn takeover_tells_the_old_client_and_keeps_the_session() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "same"));
    bench.sent(0, V5);
    assert_eq!(bench.connect(1, &hello(V5, "same")), ["connack Success present true"]);
    assert_eq!(bench.sent(0, V5), ["disconnect SessionTakenOver"]);
    assert_eq!(bench.closed, [ConnId(0)]);
    assert_eq!((bench.broker.connections(), bench.broker.sessions()), (1, 1));
}

fn with_will<'a>(client_id: &'a str, delay: u32) -> Connect<'a> {
    let properties = WillProperties { will_delay: Some(delay), ..WillProperties::default() };
    let will = mqtt::Will { topic: "will", payload: b"gone", qos: QoS::AtMostOnce, retain: false, properties };
    Connect { will: Some(will), ..hello(V5, client_id) }
}

#[test]
fn a_will_goes_out_when_the_connection_is_lost_and_not_when_it_is_closed() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "will", qos(QoS::AtMostOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &with_will("dies", 0));
    bench.lose(1);
    assert_eq!(bench.sent(0, V5), ["will=gone qos 0"]);
    bench.connect(2, &with_will("leaves", 0));
    bench.send(2, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)), V5);
    assert_eq!(bench.sent(0, V5), Vec::<String>::new());
    bench.connect(3, &with_will("leaves with its will", 0));
    bench.send(3, &Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)), V5);
    assert_eq!(bench.sent(0, V5), ["will=gone qos 0"]);
}

#[test]
fn a_delayed_will_waits_and_a_client_that_returns_takes_it_back() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "will", qos(QoS::AtMostOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &with_will("c", 5));
    bench.lose(1);
    bench.connect(2, &with_will("c", 5));
    bench.millis += 10_000;
    bench.settle();
    assert_eq!(bench.sent(0, V5), Vec::<String>::new());
    bench.lose(2);
    assert_eq!(bench.sent(0, V5), Vec::<String>::new());
    bench.millis += 5_000;
    bench.settle();
    assert_eq!(bench.sent(0, V5), ["will=gone qos 0"]);
}

#[test]
fn a_silent_client_is_dropped_after_one_and_a_half_keep_alives() {
    let mut bench = Bench::new();
    bench.connect(0, &Connect { keep_alive: 10, ..hello(V5, "c") });
    bench.millis += 12_000;
    bench.settle();
    assert!(bench.closed.is_empty());
    bench.millis += 3_000;
    bench.settle();
    assert_eq!(bench.sent(0, V5), ["disconnect KeepAliveTimeout"]);
    assert_eq!(bench.closed, [ConnId(0)]);
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let mut bench = Bench::new();
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(0), ListenerId(0), None);
    bench.millis += 11_000;
    bench.settle();
    assert_eq!(bench.closed, [ConnId(0)]);
    assert_eq!(bench.broker.connections(), 0);
}

#[test]
fn a_session_ends_when_its_expiry_is_over() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    bench.lose(0);
    bench.millis += 3_590_000;
    bench.settle();
    assert_eq!(bench.broker.sessions(), 1);
    bench.millis += 10_000;
    bench.settle();
    assert_eq!(bench.broker.sessions(), 0);
    assert_eq!(bench.connect(1, &hello(V5, "c")), ["connack Success present false"]);
}

#[test]
fn retained_messages_follow_a_subscription_as_its_options_say() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    let retained = Publish { retain: true, ..message("a/b", "kept", QoS::AtMostOnce, 0) };
    bench.publish(0, V5, &retained);
    let handling = |retain_handling| SubscribeOptions { retain_handling, ..qos(QoS::AtLeastOnce) };
    // SUBACK waits for the store; the message need not wait for SUBACK [MQTT-3.8.4].
    bench.subscribe(0, V5, "a/+", handling(RetainHandling::SendIfNew), None);
    assert_eq!(bench.sent(0, V5), ["a/b=kept qos 0 retained", "suback [1]"]);
    bench.subscribe(0, V5, "a/+", handling(RetainHandling::SendIfNew), None);
    bench.subscribe(0, V5, "a/+", handling(RetainHandling::DoNotSend), None);
    assert_eq!(bench.sent(0, V5), ["suback [1]", "suback [1]"]);
    bench.subscribe(0, V5, "a/+", handling(RetainHandling::SendAtSubscribe), None);
    assert_eq!(bench.sent(0, V5), ["a/b=kept qos 0 retained", "suback [1]"]);
    bench.publish(0, V5, &Publish { payload: b"", ..retained });
    assert_eq!(bench.broker.retained(), (0, 0));
    assert_eq!(bench.sent(0, V5), ["a/b= qos 0"]);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_all_their_identifiers() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    bench.subscribe(0, V5, "a/#", qos(QoS::AtMostOnce), Some(3));
    bench.subscribe(0, V5, "a/+", qos(QoS::AtLeastOnce), Some(4));
    bench.sent(0, V5);
    bench.publish(0, V5, &message("a/b", "x", QoS::AtLeastOnce, 1));
    let sent = bench.sent(0, V5);
    assert!(
        sent.contains(&"a/b=x qos 1 ids [4, 3]".to_owned()) || sent.contains(&"a/b=x qos 1 ids [3, 4]".to_owned())
    );
    assert_eq!(sent.iter().filter(|packet| packet.starts_with("a/b")).count(), 1);
}

#[test]
fn no_local_and_retain_as_published_are_kept() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "own"));
    bench.connect(1, &hello(V5, "other"));
    bench.subscribe(0, V5, "a", SubscribeOptions { no_local: true, ..SubscribeOptions::default() }, None);
    bench.subscribe(
        1,
        V5,
        "a",
        SubscribeOptions { retain_as_published: true, ..SubscribeOptions::default() },
        None,
    );
    bench.sent(0, V5);
    bench.sent(1, V5);
    bench.publish(0, V5, &Publish { retain: true, ..message("a", "x", QoS::AtMostOnce, 0) });
    assert_eq!(bench.sent(0, V5), Vec::<String>::new());
    assert_eq!(bench.sent(1, V5), ["a=x qos 0 retained"]);
}

#[test]
fn a_client_gets_no_more_at_once_than_its_receive_maximum() {
    let mut bench = Bench::new();
    let properties = ConnectProperties { receive_maximum: Some(2), ..hello(V5, "c").properties };
    bench.connect(0, &Connect { properties, ..hello(V5, "c") });
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    bench.connect(1, &hello(V5, "pub"));
    for pkid in 1..=3 {
        bench.publish(1, V5, &message("a", "x", QoS::AtLeastOnce, pkid));
    }
    assert_eq!(bench.sent(0, V5), ["suback [1]", "a=x qos 1", "a=x qos 1"]);
    bench.send(0, &Packet::PubAck(PubAck::new(1, ReasonCode::Success)), V5);
    assert_eq!(bench.sent(0, V5), ["a=x qos 1"]);
}

#[test]
fn a_failing_disk_refuses_what_must_be_stored_and_nothing_else() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    bench.lose(0);
    bench.connect(1, &hello(V5, "pub"));
    bench.connect(2, &hello(V311, "old"));
    bench.hold = true;
    bench.publish(1, V5, &message("a", "x", QoS::AtLeastOnce, 1));
    let now = bench.now();
    for batch in std::mem::take(&mut bench.held) {
        bench.queues.handle_reply(now, Reply::Failed { batch: batch.id, error: "disk full".into() });
    }
    bench.publish(1, V5, &message("a", "y", QoS::AtLeastOnce, 2));
    bench.publish(1, V5, &message("b", "z", QoS::AtLeastOnce, 3));
    // 3.1.1 cannot be told no: it is closed, and sends again when it comes back.
    bench.publish(2, V311, &message("a", "y", QoS::AtLeastOnce, 2));
    assert_eq!(bench.closed, [ConnId(2)]);
    bench.commit();
    let sent = bench.sent(1, V5);
    assert_eq!(sent, ["puback 1 Success", "puback 2 QuotaExceeded", "puback 3 NoMatchingSubscribers"]);
    let back = bench.connect(3, &hello(V5, "sub"));
    assert_eq!(back, ["connack Success present true", "a=x qos 1"]);
}

#[test]
fn a_packet_in_pieces_is_put_together_and_garbage_ends_the_connection() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    let mut bytes = Vec::new();
    Packet::PingReq.encode(V5, &mut bytes);
    for byte in bytes {
        let now = bench.now();
        bench.broker.handle_received(now, &mut bench.queues, ConnId(0), &[byte]);
    }
    assert_eq!(bench.sent(0, V5), ["PingResp"]);
    let now = bench.now();
    bench.broker.handle_received(now, &mut bench.queues, ConnId(0), &[0xFF; 10]);
    bench.settle();
    assert_eq!(bench.sent(0, V5), ["disconnect MalformedPacket"]);
    assert_eq!(bench.closed, [ConnId(0)]);
}

#[test]
fn the_first_packet_must_be_a_good_connect() {
    let mut bench = Bench::new();
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(0), ListenerId(0), None);
    bench.send(0, &Packet::PingReq, V5);
    assert_eq!(bench.closed, [ConnId(0)]);
    bench.broker.handle_accepted(now, ConnId(1), ListenerId(0), None);
    // Protocol level 6.
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 1, b'c'];
    bench.broker.handle_received(now, &mut bench.queues, ConnId(1), &connect);
    let sent = bench.sent(1, V311);
    assert_eq!(sent, ["connack UnsupportedProtocolVersion present false"]);
    assert_eq!(PacketType::Connect as u8, 1);
    assert_eq!(ConnAck::default().reason, ReasonCode::Success);
}

#[test]
fn too_many_connections_are_refused_and_counted_down_again() {
    let mut config = Config::default();
    config.listener[0].max_connections = 1;
    let mut bench = Bench::with(config, Recovered::default());
    bench.connect(0, &hello(V5, "a"));
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(1), ListenerId(0), None);
    bench.settle();
    assert_eq!(bench.closed, [ConnId(1)]);
    assert_eq!(bench.broker.stats().connections_refused, 1);
    bench.lose(0);
    assert_eq!(bench.connect(2, &hello(V5, "b")), ["connack Success present false"]);
}

#[test]
fn a_connection_is_not_flushed_after_its_close() {
    let mut bench = Bench::new();
    let mut twice = Vec::new();
    hello(V5, "c").encode(&mut twice);
    hello(V5, "c").encode(&mut twice);
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(0), ListenerId(0), None);
    bench.broker.handle_received(now, &mut bench.queues, ConnId(0), &twice);
    let outputs = std::iter::from_fn(|| bench.broker.poll_output());
    let outputs: Vec<Output> = outputs.filter(|output| !matches!(output, Output::Notice(_))).collect();
    assert_eq!(outputs, [Output::Close(ConnId(0))]);
    assert_eq!(bench.sent(0, V5), ["connack Success present false", "disconnect ProtocolError"]);
}

#[test]
fn a_second_connect_is_a_protocol_error_whatever_is_in_it() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    // Protocol level 6: what a first CONNECT is told of that, DISCONNECT has no code for.
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 1, b'c'];
    let now = bench.now();
    bench.broker.handle_received(now, &mut bench.queues, ConnId(0), &connect);
    assert_eq!(bench.sent(0, V5), ["disconnect ProtocolError"]);
}

#[test]
fn sessions_and_their_subscriptions_are_there_after_a_restart() {
    let mut bench = Bench::new();
    bench.connect(0, &with_will("c", 60));
    bench.subscribe(0, V5, "a/#", qos(QoS::AtLeastOnce), Some(5));
    let mut bench = bench.restart();
    assert_eq!((bench.broker.sessions(), bench.broker.subscriptions()), (1, 1));
    bench.connect(1, &hello(V5, "watch"));
    bench.subscribe(1, V5, "will", qos(QoS::AtMostOnce), None);
    bench.sent(1, V5);
    bench.publish(1, V5, &message("a/b", "x", QoS::AtLeastOnce, 1));
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack Success present true", "a/b=x qos 1 ids [5]"]);
    bench.millis += 61_000;
    bench.settle();
    assert_eq!(bench.sent(1, V5), ["puback 1 Success"], "its client came back in time: no will");
}

#[test]
fn clients_that_come_and_go_leave_no_timers_behind() {
    let mut bench = Bench::new();
    let before = bench.broker.timers.len();
    for _ in 0..50 {
        bench.connect(0, &Connect { keep_alive: 60_000, ..hello(V5, "c") });
        bench.lose(0);
        bench.connect(1, &Connect { keep_alive: 60_000, ..with_will("d", 1000) });
        bench.send(1, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)), V5);
        bench.lose(1);
    }
    assert!(
        bench.broker.timers.len() <= before + 2,
        "one for each of the two sessions, not {}",
        bench.broker.timers.len()
    );
}
