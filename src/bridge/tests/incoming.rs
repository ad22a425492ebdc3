//! From the upstream to the local broker: subscriptions, rules, acknowledgements when it is safe.

use crate::bridge::Input;
use crate::bridge::tests::world::{Seen, UP, World, config, rule, secs};
use crate::config::{Direction, RuleQos, UpstreamVersion};
use crate::mqtt::{Packet, Publish, PublishProperties, QoS, ReasonCode, ReasonProperties, SubAck};
use crate::queue::{Outcome, Refusal};
use crate::time::Wall;

const OK: ReasonCode = ReasonCode::Success;

fn world(version: UpstreamVersion) -> World {
    let mut narrow = rule(Direction::In, "cmd/{what}/now", "urgent/{what}");
    narrow.qos = RuleQos::Fixed(QoS::AtLeastOnce);
    World::new(config(version, vec![narrow, rule(Direction::In, "cmd/{rest#}", "local/{rest}")]))
}

fn up(version: UpstreamVersion) -> World {
    let mut world = world(version);
    world.connect(false);
    world.read();
    world
}

fn v5() -> World {
    up(UpstreamVersion::V5)
}

fn suback(world: &mut World, pkid: u16, codes: &[u8]) {
    world.send(&Packet::SubAck(SubAck { pkid, properties: ReasonProperties::default(), codes }));
}

fn settle(world: &mut World, result: Result<(), Refusal>) {
    for token in std::mem::take(&mut world.local.pending) {
        world.input(Input::Settled { token, result });
    }
}

#[test]
fn in_rules_are_subscribed_without_echo() {
    let mut world = world(UpstreamVersion::V5);
    world.connect(false);
    // QoS, no local, retain as published, retained messages only if the subscription is new.
    let options = |qos: u8| qos | 0b100 | 0b1000 | 0b1_0000;
    assert_eq!(
        world.read(),
        [Seen::Subscribe(1, vec![("cmd/+/now".to_owned(), options(1)), ("cmd/#".to_owned(), options(2))])]
    );
    let mut world = self::world(UpstreamVersion::V311);
    world.connect(false);
    assert_eq!(world.read(), [Seen::Subscribe(1, vec![("cmd/+/now".to_owned(), 1), ("cmd/#".to_owned(), 2)])]);
}

#[test]
fn a_subscribe_has_at_most_eight_filters() {
    let rules = (0..20).map(|i| rule(Direction::In, &format!("cmd/{i}"), "")).collect();
    let mut world = World::new(config(UpstreamVersion::V5, rules));
    world.connect(false);
    let counts: Vec<usize> = world
        .read()
        .iter()
        .map(|seen| match seen {
            Seen::Subscribe(_, filters) => filters.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [8, 8, 4]);
}

#[test]
fn granted_subscriptions_are_asked_for_again_only_in_a_new_session() {
    let mut world = v5();
    suback(&mut world, 1, &[1, 2]);
    world.hang_up();
    world.connect(true);
    assert_eq!(world.read(), []);
    world.hang_up();
    world.connect(false);
    assert_eq!(world.read().len(), 1);
}

#[test]
fn a_refused_subscription_is_noticed_and_asked_for_on_the_next_link() {
    let mut world = v5();
    suback(&mut world, 1, &[1, 0x87]);
    assert_eq!(world.noticed("upstream refused a subscription"), ["\"cmd/#\": Not authorized (0x87)"]);
    world.hang_up();
    world.connect(true);
    assert!(matches!(world.read()[..], [Seen::Subscribe(..)]));
}

#[test]
fn a_suback_that_never_comes_is_noticed_by_the_watch() {
    let mut world = v5();
    world.pass(secs(60));
    world.send(&Packet::PingResp);
    world.pass(secs(30));
    assert_eq!(world.bridge.stats(UP).unwrap().last_error.as_deref(), Some("connected, but nothing acknowledged"));
}

#[test]
fn the_first_rule_that_matches_names_the_message() {
    let mut world = v5();
    world.publish("cmd/door/now", 0, 0);
    world.publish("cmd/door/later", 1, 5);
    world.publish("else/where", 1, 6);
    assert_eq!(world.local.topics(), ["urgent/door", "local/door/later"]);
    assert_eq!(world.local.published[0].qos, QoS::AtLeastOnce, "as the rule says");
    assert_eq!(world.read(), [Seen::PubAck(5, OK), Seen::PubAck(6, OK)]);
    let stats = world.bridge.stats(UP).unwrap();
    assert_eq!((stats.received, stats.unmatched), (3, 1));
}

#[test]
fn properties_and_expiry_come_in() {
    let mut world = v5();
    let properties =
        PublishProperties { message_expiry: Some(30), content_type: Some("t"), ..PublishProperties::default() };
    world.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic: "cmd/a",
        pkid: 0,
        properties,
        payload: b"x",
    }));
    let message = &world.local.published[0];
    assert_eq!(message.properties(), [0x03, 0, 1, b't']);
    assert_eq!(message.expires_at, Some(world.now.wall + secs(30)));
    assert!(message.retain);
    assert!(message.received_at > Wall::default());
}

#[test]
fn acknowledgements_wait_for_the_store_and_keep_their_order() {
    let mut world = v5();
    world.local.outcome = Some(Outcome::Pending);
    world.publish("cmd/a", 1, 1);
    world.publish("cmd/b", 2, 2);
    world.local.outcome = Some(Outcome::Done);
    world.publish("cmd/c", 1, 3);
    assert_eq!(world.read(), [], "the third is safe, but not its turn");
    settle(&mut world, Ok(()));
    assert_eq!(world.read(), [Seen::PubAck(1, OK), Seen::PubRec(2, OK), Seen::PubAck(3, OK)]);
}

#[test]
fn qos_2_comes_in_once_and_pubcomp_waits_for_the_store() {
    let mut world = v5();
    world.publish("cmd/a", 2, 7);
    world.publish("cmd/a", 2, 7);
    assert_eq!(world.local.topics(), ["local/a"]);
    assert_eq!(world.read(), [Seen::PubRec(7, OK), Seen::PubRec(7, OK)]);
    world.local.outcome = Some(Outcome::Pending);
    world.pubrel(7);
    assert_eq!(world.read(), []);
    settle(&mut world, Ok(()));
    assert_eq!(world.read(), [Seen::PubComp(7, OK)]);
    world.pubrel(7);
    assert_eq!(world.read(), [Seen::PubComp(7, OK)], "an unknown one is answered, or it would come for ever");
}

#[test]
fn receipts_survive_the_link_but_not_the_session() {
    let mut world = v5();
    world.publish("cmd/a", 2, 7);
    world.hang_up();
    world.connect(true);
    world.publish("cmd/a", 2, 7);
    assert_eq!(world.local.published.len(), 1, "the same message again");
    world.hang_up();
    world.connect(false);
    world.publish("cmd/a", 2, 7);
    assert_eq!(world.local.published.len(), 2, "another message with that identifier");
}

#[test]
fn what_was_settled_for_an_earlier_link_is_not_acknowledged_on_this_one() {
    let mut world = v5();
    world.local.outcome = Some(Outcome::Pending);
    world.publish("cmd/a", 1, 7);
    world.hang_up();
    world.connect(true);
    world.read();
    settle(&mut world, Ok(()));
    assert_eq!(world.read(), []);
}

#[test]
fn a_refusal_is_told_with_its_reason_in_5() {
    for (refusal, reason) in [
        (Refusal::Full, ReasonCode::QuotaExceeded),
        (Refusal::Store, ReasonCode::QuotaExceeded),
        (Refusal::NotAuthorised, ReasonCode::NotAuthorized),
        (Refusal::Topic, ReasonCode::TopicNameInvalid),
    ] {
        let mut world = v5();
        world.local.outcome = Some(Outcome::Refused(refusal));
        world.publish("cmd/a", 1, 1);
        world.publish("cmd/a", 2, 2);
        world.local.outcome = Some(Outcome::Pending);
        world.publish("cmd/a", 1, 3);
        settle(&mut world, Err(refusal));
        assert_eq!(world.read(), [Seen::PubAck(1, reason), Seen::PubRec(2, reason), Seen::PubAck(3, reason)]);
        assert_eq!(world.bridge.stats(UP).unwrap().refused, 3);
    }
}

#[test]
fn in_3_1_1_what_has_no_room_now_is_not_acknowledged_and_asked_for_again() {
    let mut world = up(UpstreamVersion::V311);
    suback(&mut world, 1, &[1, 2]);
    world.local.outcome = Some(Outcome::Refused(Refusal::Full));
    world.publish("cmd/a", 1, 1);
    world.local.outcome = Some(Outcome::Pending);
    world.publish("cmd/b", 1, 2);
    settle(&mut world, Err(Refusal::Store));
    world.local.outcome = Some(Outcome::Done);
    world.publish("cmd/c", 1, 3);
    assert_eq!(world.read(), [Seen::PubAck(3, OK)]);
    world.pass(secs(59));
    assert!(world.closes.is_empty());
    world.pass(secs(1));
    assert_eq!(world.closes.len(), 1, "the upstream sends again on a new link only");
}

#[test]
fn in_3_1_1_what_will_never_be_welcome_is_acknowledged() {
    let mut world = up(UpstreamVersion::V311);
    world.local.outcome = Some(Outcome::Refused(Refusal::Topic));
    world.publish("cmd/a", 1, 1);
    assert_eq!(world.read(), [Seen::PubAck(1, OK)]);
    assert_eq!(world.bridge.stats(UP).unwrap().refused, 1);
}

#[test]
fn more_than_our_receive_maximum_ends_the_link() {
    let mut world = v5();
    world.local.outcome = Some(Outcome::Pending);
    for pkid in 1..=200 {
        if world.closes.is_empty() {
            world.publish("cmd/a", 1, pkid);
        }
    }
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
    assert_eq!(world.local.published.len(), 108, "8 for it, and 100 for answers to what we send");
}

/// A PUBLISH on `cmd/a` with a payload that is larger than what we take.
fn oversize(world: &World, qos: QoS, pkid: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let properties = PublishProperties::default();
    let payload = &[b'x'; 20_000];
    Publish { dup: false, qos, retain: false, topic: "cmd/a", pkid, properties, payload }
        .encode(world.version, &mut bytes);
    bytes
}

#[test]
fn what_is_too_large_is_let_pass_in_3_1_1_which_cannot_be_told() {
    for piece in [1, 7, 1000, 100_000] {
        let mut world = up(UpstreamVersion::V311);
        let mut bytes = oversize(&world, QoS::AtLeastOnce, 5);
        bytes.extend(oversize(&world, QoS::ExactlyOnce, 6));
        bytes.extend(oversize(&world, QoS::AtMostOnce, 0));
        bytes.extend([0x32, 10, 0, 5, b'c', b'm', b'd', b'/', b'b', 0, 7, b'x']);
        for piece in bytes.chunks(piece) {
            world.receive(piece);
        }
        assert_eq!(world.read(), [Seen::PubAck(5, OK), Seen::PubRec(6, OK), Seen::PubAck(7, OK)]);
        assert_eq!(world.local.topics(), ["local/b"]);
        assert_eq!(world.bridge.stats(UP).unwrap().refused, 3);
        assert_eq!(world.noticed("message from the upstream is too large").len(), 3);
    }
}

#[test]
fn what_is_too_large_ends_the_link_in_5_where_the_limit_was_told() {
    let mut world = v5();
    let bytes = oversize(&world, QoS::AtLeastOnce, 5);
    world.receive(&bytes);
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::PacketTooLarge)]);
}

#[test]
fn a_topic_alias_that_was_not_allowed_ends_the_link() {
    let mut world = v5();
    let properties = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
    world.send(&Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "cmd/a",
        pkid: 0,
        properties,
        payload: b"",
    }));
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::TopicAliasInvalid)]);
}

#[test]
fn both_ways_share_one_rule() {
    let mut world = World::new(config(UpstreamVersion::V5, vec![rule(Direction::Both, "state/{x#}", "twin/{x}")]));
    world.connect(false);
    let seen = world.read();
    assert!(matches!(&seen[..], [Seen::Subscribe(_, filters)] if filters[0].0 == "twin/#"), "{seen:?}");
    world.publish("twin/door", 0, 0);
    assert_eq!(world.local.topics(), ["state/door"]);
    world.queue_on(1, 0, "state/lamp", "x");
    assert!(matches!(&world.read()[..], [Seen::Publish { topic, .. }] if topic == "twin/lamp"));
}
