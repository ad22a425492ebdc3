//! From the queues to the upstream: order, window, limits, refusals.

use crate::bridge::tests::world::{Seen, UP, World, config, parts, rule, secs};
use crate::bridge::{Input, LinkState};
use crate::config::{Direction, RuleRetain, UpstreamVersion};
use crate::mqtt::{ConnAckProperties, MessageParts, Packet, PubRec, Publish, QoS, ReasonCode, frame};
use crate::queue::DestId;
use crate::time::Wall;

fn world_of(version: UpstreamVersion) -> World {
    let mut rules = vec![
        rule(Direction::Out, "site/#", ""),
        rule(Direction::Out, "alarm/#", ""),
        rule(Direction::Out, "other/#", ""),
    ];
    rules[1].priority = 9;
    for rule in &mut rules {
        rule.filter = "#".to_owned();
    }
    World::new(config(version, rules))
}

fn world() -> World {
    world_of(UpstreamVersion::V5)
}

fn up() -> World {
    let mut world = world();
    world.connect(false);
    world
}

fn up_with(properties: ConnAckProperties<'_>) -> World {
    let mut world = world();
    world.connect_with(false, properties);
    world
}

#[test]
fn an_acknowledged_message_leaves_its_queue_in_any_order() {
    let mut world = up();
    for payload in ["a", "b", "c"] {
        world.queue(1, 1, payload);
    }
    assert_eq!(world.read_brief(), ["1:a", "2:b", "3:c"]);
    world.puback(2, ReasonCode::Success);
    world.puback(1, ReasonCode::NoMatchingSubscribers);
    assert_eq!((&world.queues.acked[..], world.queues.waiting(DestId(1))), (&[2, 1][..], vec![3]));
    world.puback(2, ReasonCode::Success);
    assert_eq!(world.bridge.stats(UP).unwrap().unsolicited, 1, "the second time it is of nothing");
}

#[test]
fn a_backlog_drains_without_new_traffic() {
    let mut world = world();
    for _ in 0..250 {
        world.queue(1, 1, "x");
    }
    world.connect(false);
    assert_eq!(world.read().len(), 100, "a window full");
    for pkid in 1..=250 {
        world.puback(pkid, ReasonCode::Success);
    }
    assert_eq!(world.queues.waiting(DestId(1)), [0; 0]);
    assert_eq!(world.noticed("upstream connected"), ["new session, 250 messages wait"]);
}

#[test]
fn qos_0_is_delivered_when_written() {
    let mut world = world();
    world.queue(1, 0, "early");
    assert!(world.queues.acked.is_empty(), "the link is down");
    world.connect(false);
    world.queue(1, 0, "late");
    assert_eq!(world.read_brief(), ["0:early", "0:late"]);
    assert_eq!(world.queues.acked, [1, 2]);
}

#[test]
fn the_receive_maximum_of_the_upstream_bounds_the_window() {
    let mut world = up_with(ConnAckProperties { receive_maximum: Some(2), ..Default::default() });
    for payload in ["a", "b", "c", "d"] {
        world.queue(1, 2, payload);
    }
    assert_eq!(world.read().len(), 2);
    world.pubrec(0x8000);
    assert_eq!(world.read(), [Seen::PubRel(0x8000, ReasonCode::Success)], "its place is free after PUBCOMP only");
    world.pubcomp(0x8000);
    assert_eq!(world.read_brief(), ["32770:c"]);
    world.send(&Packet::PubRec(PubRec::new(0x8001, ReasonCode::PayloadFormatInvalid)));
    assert_eq!(world.read_brief(), ["32771:d"], "or after a PUBREC that refuses");
}

#[test]
fn higher_priority_goes_first_and_equal_priority_in_order_of_arrival() {
    let mut world = world();
    for (dest, payload) in [(1, "a"), (3, "b"), (2, "alarm"), (1, "c"), (3, "d"), (2, "alarm 2")] {
        world.queue(dest, 1, payload);
    }
    world.connect(false);
    assert_eq!(world.read_brief(), ["1:alarm", "2:alarm 2", "3:a", "4:b", "5:c", "6:d"]);
}

#[test]
fn a_transport_that_takes_nothing_leaves_the_rest_in_the_queue() {
    let mut world = up();
    world.stalled = true;
    let payload = "x".repeat(5000);
    for _ in 0..50 {
        world.queue(1, 0, &payload);
    }
    let left = world.queues.waiting(DestId(1)).len();
    assert!((30..50).contains(&left), "{left} left: the outbox takes about 64 KiB");
    world.stalled = false;
    world.flush();
    assert_eq!((world.queues.waiting(DestId(1)).len(), world.read().len()), (0, 50));
}

#[test]
fn limits_of_the_upstream_are_obeyed() {
    let mut world = up_with(ConnAckProperties {
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(100),
        ..Default::default()
    });
    let seq = world.queues.push(DestId(1), MessageParts { retain: true, ..parts(2, "a") });
    world.queue(1, 1, &"x".repeat(100));
    world.queue(1, 1, "b");
    let seen = world.read();
    let [Seen::Publish { qos: 1, pkid: 1, retain: false, .. }, Seen::Publish { payload, .. }] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(payload, b"b");
    world.puback(1, ReasonCode::Success);
    assert_eq!(world.queues.acked, [seq], "granted QoS 2, sent and acknowledged at QoS 1");
    assert_eq!(world.queues.dead, [(2, "packet of 113 bytes is too large, the upstream takes 100".to_owned())]);
    assert_eq!(world.bridge.stats(UP).unwrap().buried, 1);
}

#[test]
fn topics_are_remapped_and_what_has_no_legal_name_is_buried() {
    let mut world = World::new(config(UpstreamVersion::V5, vec![rule(Direction::Out, "site/{rest#}", "{rest}")]));
    world.connect(false);
    world.queue_on(1, 1, "site/$SYS/x", "a");
    world.queue_on(1, 1, "site/room/temp", "b");
    let seen = world.read();
    let [Seen::Publish { topic, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(topic, "room/temp");
    assert!(world.queues.dead[0].1.starts_with("topic cannot be remapped"), "{:?}", world.queues.dead);
}

#[test]
fn the_rule_decides_about_retain() {
    let rules = [RuleRetain::Keep, RuleRetain::Strip, RuleRetain::Set].map(|retain| {
        let mut rule = rule(Direction::Out, "#", "");
        rule.retain = retain;
        rule
    });
    let mut world = World::new(config(UpstreamVersion::V5, rules.to_vec()));
    world.connect(false);
    for dest in 1..=3 {
        world.queues.push(DestId(dest), MessageParts { retain: true, ..parts(0, "x") });
        world.queue(dest, 0, "x");
    }
    let retained: Vec<bool> =
        world.read().iter().map(|seen| matches!(seen, Seen::Publish { retain: true, .. })).collect();
    assert_eq!(retained, [true, false, false, false, true, true]);
}

#[test]
fn properties_and_what_is_left_of_the_expiry_travel_with_5_only() {
    // Content type "t", user property "a" = "b".
    let properties = [0x03, 0, 1, b't', 0x26, 0, 1, b'a', 0, 1, b'b'];
    for version in [UpstreamVersion::V5, UpstreamVersion::V311] {
        let mut world = world_of(version);
        let expires_at = Some(Wall::from_millis(1_000_000) + secs(60));
        world.queues.push(DestId(1), MessageParts { properties: &properties, expires_at, ..parts(0, "x") });
        world.pass(secs(10));
        world.input(Input::DialFailed { upstream: UP, error: String::new() });
        world.connect(false);
        let waited = world.now.wall - Wall::from_millis(1_000_000);
        let seen = world.read();
        let [Seen::Publish { raw, .. }] = &seen[..] else { panic!("{seen:?}") };
        let publish = Publish::decode(world.version, &frame(raw, u32::MAX).unwrap().unwrap()).unwrap();
        let said = publish.properties;
        if version == UpstreamVersion::V311 {
            assert_eq!(said, Default::default());
        } else {
            let left = (secs(60) - waited).as_millis().div_ceil(1000);
            assert_eq!(said.message_expiry.map(u128::from), Some(left));
            assert_eq!(said.content_type, Some("t"));
            assert_eq!(said.user_properties.iter().collect::<Vec<_>>(), [("a", "b")]);
        }
    }
}

#[test]
fn a_refused_message_goes_to_the_dead_letters_with_the_reason() {
    let mut world = up();
    world.queue(1, 1, "a");
    world.queue(1, 2, "b");
    world.puback(1, ReasonCode::NotAuthorized);
    world.send(&Packet::PubRec(PubRec::new(0x8001, ReasonCode::PayloadFormatInvalid)));
    assert_eq!(
        world.queues.dead,
        [
            (1, "upstream refused it: Not authorized (0x87)".to_owned()),
            (2, "upstream refused it: Payload format invalid (0x99)".to_owned())
        ]
    );
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
}

/// mosquitto 2.0 does this with what is over its `message_size_limit`. It is no reason to give up the link: the next
/// one would end the same way.
#[test]
fn a_refusal_with_the_reason_of_another_packet_is_a_refusal() {
    let mut world = up();
    world.queue(1, 1, "a");
    world.queue(1, 2, "b");
    world.puback(1, ReasonCode::PacketTooLarge);
    world.send(&Packet::PubRec(PubRec::new(0x8001, ReasonCode::PacketTooLarge)));
    let refused = |seq| (seq, "upstream refused it: Packet too large (0x95)".to_owned());
    assert_eq!(world.queues.dead, [refused(1), refused(2)]);
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
}

#[test]
fn quota_exceeded_pauses_and_sends_again_in_order() {
    let mut world = up();
    for payload in ["a", "b", "c"] {
        world.queue(1, 1, payload);
    }
    world.read();
    world.puback(1, ReasonCode::Success);
    world.puback(2, ReasonCode::QuotaExceeded);
    world.queue(1, 1, "d");
    assert_eq!(world.read(), [], "paused");
    world.puback(3, ReasonCode::QuotaExceeded);
    world.pass(secs(1));
    assert_eq!(world.read_brief(), ["4:b", "5:c", "6:d"]);
    assert!(world.queues.dead.is_empty(), "it is not their fault");
    world.puback(4, ReasonCode::QuotaExceeded);
    for pkid in [5, 6] {
        world.puback(pkid, ReasonCode::Success);
    }
    world.pass(secs(1) / 4);
    assert_eq!(world.read(), [], "a pause lasts");
    world.pass(secs(2));
    assert_eq!(world.read_brief(), ["7:b"]);
    assert_eq!(world.bridge.stats(UP).unwrap().pauses, 2);
}

#[test]
fn link_state_that_is_refused_is_noticed() {
    let mut config = config(UpstreamVersion::V5, vec![]);
    config.status_topic = "gw".to_owned();
    let mut world = World::new(config);
    world.connect(false);
    world.puback(1, ReasonCode::NotAuthorized);
    assert_eq!(world.noticed("upstream refused the link state"), ["Not authorized"]);
}

/// One link to an upstream that acknowledges everything, in order, until it reads POISON: then it closes. Says what
/// it read.
fn link_to_a_picky_upstream(world: &mut World) -> Vec<String> {
    let mut read = Vec::new();
    world.connect(true);
    loop {
        let seen = world.read();
        if seen.is_empty() {
            return read;
        }
        for seen in seen {
            let Seen::Publish { pkid, payload, .. } = seen else { panic!("{seen:?}") };
            read.push(String::from_utf8(payload).unwrap());
            if read.last().unwrap() == "POISON" {
                world.hang_up();
                return read;
            }
            world.puback(pkid, ReasonCode::Success);
        }
    }
}

#[test]
fn what_kills_the_link_each_time_is_found_and_buried_and_nothing_else() {
    let mut world = world();
    for (dest, payload) in [(1, "a"), (1, "POISON"), (3, "other"), (1, "b"), (2, "alarm")] {
        world.queue(dest, 1, payload);
    }
    // The first link brings what lies before it.
    assert_eq!(link_to_a_picky_upstream(&mut world), ["alarm", "a", "POISON"]);
    assert_eq!(link_to_a_picky_upstream(&mut world), ["POISON"]);
    // The rule whose message came behind it has now lost two links: it is tried alone, and cleared.
    assert_eq!(link_to_a_picky_upstream(&mut world), ["other", "POISON"]);
    // And so is the rule of the poison, but that is not cleared.
    world.queue(2, 1, "alarm 2");
    for _ in 0..3 {
        assert!(world.queues.dead.is_empty());
        assert_eq!(link_to_a_picky_upstream(&mut world), ["POISON"]);
    }
    assert_eq!(world.queues.dead, [(2, "the link ended each time it was sent".to_owned())]);
    assert_eq!(link_to_a_picky_upstream(&mut world), ["alarm 2", "b"]);
    assert_eq!(world.queues.dead.len(), 1);
}

#[test]
fn a_link_that_dies_of_something_else_convicts_nobody() {
    let mut world = world();
    world.queue(1, 1, "a");
    for _ in 0..20 {
        world.connect(true);
        world.pass(secs(90));
    }
    for _ in 0..20 {
        world.connect(true);
        let reason = ReasonCode::ServerShuttingDown;
        world.send(&Packet::Disconnect(crate::mqtt::Disconnect::new(reason)));
    }
    assert_eq!((world.queues.dead.len(), world.queues.waiting(DestId(1)).len()), (0, 1));
}

/// An upstream that answers a message with what no server may send, each time.
#[test]
fn a_message_that_makes_the_upstream_break_the_protocol_is_found_and_buried() {
    let mut config = config(UpstreamVersion::V5, vec![rule(Direction::Out, "#", "")]);
    config.rule[0].poison_after = 4;
    let mut world = World::new(config);
    world.queue(1, 1, "POISON");
    world.queue(1, 1, "good");
    for link in 1..=4 {
        assert!(world.queues.dead.is_empty(), "before link {link}");
        world.connect(true);
        assert!(!world.read().is_empty());
        // SUBSCRIBE.
        world.receive(&[0x82, 6, 0, 1, 0, 1, b'a', 0]);
    }
    assert_eq!(world.queues.dead, [(1, "the link ended each time it was sent".to_owned())]);
    world.connect(true);
    assert_eq!(world.read_brief().len(), 1);
}

/// What the upstream sends of its own accord is not the fault of a message of ours.
#[test]
fn an_upstream_that_publishes_nonsense_convicts_nobody() {
    let mut world = world();
    world.queue(1, 1, "a");
    for _ in 0..20 {
        world.connect(true);
        // PUBLISH with QoS 3.
        world.receive(&[0x36, 5, 0, 1, b'a', 0, 1]);
    }
    assert_eq!((world.queues.dead.len(), world.queues.waiting(DestId(1)).len()), (0, 1));
}
