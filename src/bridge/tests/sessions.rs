//! QoS 2, and what a resumed or a lost session means: promise 3 on the upstream hop.

use crate::bridge::tests::world::{Seen, UP, World, config, parts, rule};
use crate::bridge::{LinkState, Setup};
use crate::config::{Direction, UpstreamVersion};
use crate::mqtt::{Packet, PubRec, ReasonCode};
use crate::queue::{DestId, Outcome, Refusal};

const OK: ReasonCode = ReasonCode::Success;

fn setup() -> Setup {
    let rules = vec![rule(Direction::Out, "#", ""), rule(Direction::Out, "+/#", "")];
    let config = config(UpstreamVersion::V5, rules);
    Setup { dests: World::dests(&config), live: Vec::new(), hop: None, config, resumes: true }
}

fn world() -> World {
    World::with(setup(), 0)
}

fn up() -> World {
    let mut world = world();
    world.connect(true);
    world
}

#[test]
fn pubrel_waits_until_the_release_is_durable() {
    let mut world = up();
    world.queues.outcome = Some(Outcome::Pending);
    world.queue(1, 2, "a");
    world.read();
    world.pubrec(0x8000);
    assert_eq!(world.read(), []);
    world.settle_releases(Ok(()));
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
    world.pubcomp(0x8000);
    assert_eq!((&world.queues.completed[..], world.queues.due(DestId(1))), (&[0x8000][..], &[][..]));
}

#[test]
fn pubrels_leave_in_the_order_of_the_pubrecs() {
    let mut world = up();
    for payload in ["a", "b"] {
        world.queue(1, 2, payload);
    }
    world.read();
    world.queues.outcome = Some(Outcome::Pending);
    world.pubrec(0x8001);
    world.queues.outcome = Some(Outcome::Done);
    world.pubrec(0x8000);
    assert_eq!(world.read(), [], "the first waits for the store, and the second for its turn");
    world.settle_releases(Ok(()));
    assert_eq!(world.read(), [Seen::PubRel(0x8001, OK), Seen::PubRel(0x8000, OK)]);
}

#[test]
fn a_repeated_pubrec_gets_its_pubrel_again() {
    let mut world = up();
    world.queue(1, 2, "a");
    world.pubrec(0x8000);
    world.read();
    world.pubrec(0x8000);
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
}

#[test]
fn a_pubrec_of_nothing_is_answered_unless_its_message_may_still_come() {
    let mut world = up();
    world.send(&Packet::PubRec(PubRec::new(7, OK)));
    world.send(&Packet::PubRec(PubRec::new(0x8007, OK)));
    world.pubcomp(0x8007);
    assert_eq!(world.read(), [Seen::PubRel(7, ReasonCode::PacketIdentifierNotFound)]);
    assert_eq!(world.bridge.stats(UP).unwrap().unsolicited, 3);
}

#[test]
fn a_resumed_session_gets_pubrels_first_and_messages_again_under_their_identifiers() {
    let mut world = up();
    for (qos, payload) in [(2, "a"), (1, "b"), (2, "c"), (1, "d")] {
        world.queue(1, qos, payload);
    }
    assert_eq!(world.read_brief(), ["32768:a", "1:b", "32770:c", "2:d"]);
    world.pubrec(0x8000);
    world.puback(1, OK);
    world.hang_up();
    world.queue(1, 1, "e");
    world.connect(true);
    let seen = world.read();
    assert_eq!(seen[0], Seen::PubRel(0x8000, OK));
    let messages: Vec<String> = seen[1..].iter().map(Seen::brief).collect();
    assert_eq!(messages, ["32770:c!", "2:d!", "3:e"]);
    world.pubcomp(0x8000);
    assert_eq!(world.queues.completed, [0x8000]);
}

#[test]
fn a_new_session_gets_everything_anew_and_nothing_of_the_old() {
    let mut world = up();
    for (qos, payload) in [(2, "a"), (1, "b"), (2, "c")] {
        world.queue(1, qos, payload);
    }
    world.pubrec(0x8000);
    world.read();
    world.hang_up();
    world.connect(false);
    assert!(world.queues.due(DestId(1)).is_empty(), "no PUBREL: the identifier means nothing there");
    assert_eq!(world.read_brief(), ["32768:a", "2:b", "32770:c"], "PUBREC alone did not make it safe there");
    world.pubrec(0x8000);
    world.pubcomp(0x8000);
    world.hang_up();
    world.connect(false);
    assert_eq!(world.read_brief(), ["3:b", "32770:c"], "what is complete is not sent again");
}

#[test]
fn after_a_restart_what_was_stored_before_may_have_been_sent() {
    let mut world = World::with(setup(), 10);
    world.queues.skip();
    world.queues.push_with_pkid(DestId(1), parts(2, "new"), 0x9000);
    world.connect(true);
    assert_eq!(world.read_brief(), ["36864:new"], "seq 11");

    let mut world = World::with(setup(), 10);
    world.queues.push_with_pkid(DestId(1), parts(2, "old"), 0x9000);
    world.connect(true);
    assert_eq!(world.read_brief(), ["36864:old!"], "seq 10");
}

#[test]
fn a_release_that_is_not_settled_when_the_link_dies_is_not_sent_early_on_the_next() {
    let mut world = up();
    world.queues.outcome = Some(Outcome::Pending);
    world.queue(1, 2, "a");
    world.pubrec(0x8000);
    world.hang_up();
    world.connect(true);
    assert_eq!(world.read(), [], "a power cut now would bring the message back");
    world.settle_releases(Ok(()));
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
}

#[test]
fn a_release_that_is_settled_while_the_link_is_down_is_sent_when_it_is_up() {
    let mut world = up();
    world.queues.outcome = Some(Outcome::Pending);
    world.queue(1, 2, "a");
    world.pubrec(0x8000);
    world.hang_up();
    world.settle_releases(Ok(()));
    world.connect(true);
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
}

#[test]
fn a_store_that_cannot_take_a_release_ends_the_link_and_the_message_is_sent_again() {
    let mut world = up();
    world.queues.outcome = Some(Outcome::Refused(Refusal::Store));
    world.queue(1, 2, "a");
    world.read();
    world.pubrec(0x8000);
    assert_eq!((world.read(), world.closes.len()), (vec![], 1));
    world.queues.outcome = Some(Outcome::Done);
    world.connect(true);
    assert_eq!(world.read_brief(), ["32768:a!"]);
    world.pubrec(0x8000);
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
}

#[test]
fn a_release_that_fails_in_the_store_ends_the_link_and_the_message_is_sent_again() {
    let mut world = up();
    world.queues.outcome = Some(Outcome::Pending);
    world.queue(1, 2, "a");
    world.queue(1, 2, "b");
    world.read();
    world.pubrec(0x8000);
    world.pubrec(0x8001);
    world.settle_releases(Err(Refusal::Store));
    assert_eq!((world.read(), world.closes.len()), (vec![], 1));
    world.connect(true);
    assert_eq!(world.read_brief(), ["32768:a!", "32769:b!"]);
}

#[test]
fn an_identifier_that_another_rule_has_in_flight_is_waited_for() {
    let mut world = up();
    world.queues.skip();
    world.queues.push_with_pkid(DestId(1), parts(2, "a"), 0x8000);
    world.queues.skip();
    world.queues.push_with_pkid(DestId(2), parts(2, "b"), 0x8000);
    world.queue(2, 1, "behind it");
    assert_eq!(world.read_brief(), ["32768:a"], "order within the rule holds");
    world.pubrec(0x8000);
    assert_eq!(world.read(), [Seen::PubRel(0x8000, OK)]);
    world.pubcomp(0x8000);
    assert_eq!(world.read_brief(), ["32768:b", "1:behind it"]);
}

#[test]
fn the_identifier_of_a_message_that_will_not_come_again_is_freed_upstream() {
    let mut world = up();
    let lost = world.queue(1, 2, "a");
    world.queue(1, 1, "b");
    world.hang_up();
    world.queues.evict(DestId(1), lost);
    world.connect(true);
    assert_eq!(world.read_brief(), ["PubRel(32768, Success)", "1:b!"]);
    world.hang_up();
    world.connect(true);
    assert_eq!(world.read_brief()[0], "PubRel(32768, Success)", "until it is answered");
    world.pubcomp(0x8000);
    world.hang_up();
    world.connect(true);
    assert_eq!(world.read_brief(), ["1:b!"]);
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
}
