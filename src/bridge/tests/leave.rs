//! Links that are left in good order: for the first endpoint, for a new password; and what a changed network does.

use crate::bridge::tests::world::{Seen, UP, World, config, rule, secs};
use crate::bridge::{Input, LinkState};
use crate::config::{Direction, UpstreamVersion};
use crate::mqtt::{ConnAck, Packet, ReasonCode};

/// Two endpoints; the first is looked at every minute.
fn world(version: UpstreamVersion) -> World {
    World::new(config(version, vec![rule(Direction::Out, "site/#", "")]))
}

fn state(world: &World) -> LinkState {
    world.bridge.stats(UP).unwrap().state
}

fn dial_fails(world: &mut World) {
    while state(world) != LinkState::Dialing {
        world.pass(secs(1));
    }
    world.input(Input::DialFailed { upstream: UP, error: "no route".to_owned() });
}

fn probed(world: &mut World, answers: bool) {
    world.input(Input::Probed { upstream: UP, answers });
}

/// The link is to the second endpoint.
fn on_the_second(version: UpstreamVersion) -> World {
    let mut world = world(version);
    dial_fails(&mut world);
    world.connect(false);
    world.read();
    assert_eq!(world.dials, [0, 1]);
    world
}

/// Keeps the link alive while time passes.
fn minutes(world: &mut World, count: u64) {
    for _ in 0..count * 6 {
        world.pass(secs(10));
        world.send(&Packet::PingResp);
    }
    world.read();
}

#[test]
fn the_first_endpoint_is_looked_at_every_interval_until_it_answers_and_then_the_link_goes_back() {
    for version in [UpstreamVersion::V311, UpstreamVersion::V5] {
        let mut world = on_the_second(version);
        minutes(&mut world, 1);
        assert_eq!(world.probes, [0]);
        minutes(&mut world, 5);
        assert_eq!(world.probes, [0], "one look at a time");
        probed(&mut world, false);
        minutes(&mut world, 1);
        assert_eq!((world.probes.len(), state(&world)), (2, LinkState::Up));
        probed(&mut world, true);
        assert!(matches!(world.read()[..], [Seen::Disconnect(ReasonCode::Success)]), "{version:?}");
        assert_eq!((&world.dials[..], state(&world)), (&[0, 1, 0][..], LinkState::Dialing), "at once");
        assert_eq!(world.bridge.stats(UP).unwrap().losses, 0);
    }
}

#[test]
fn a_link_is_left_when_what_is_on_its_way_is_answered_and_nothing_more_is_sent_on_it() {
    let mut world = on_the_second(UpstreamVersion::V5);
    minutes(&mut world, 1);
    world.queue(1, 1, "one");
    assert_eq!(world.read_brief(), ["1:one"]);
    probed(&mut world, true);
    world.queue(1, 1, "two");
    assert!(world.read().is_empty(), "the second waits for the next link");
    world.puback(1, ReasonCode::Success);
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::Success)]);
    world.connect(true);
    assert_eq!(world.read_brief(), ["2:two"]);
}

#[test]
fn a_link_is_left_in_the_end_though_an_answer_does_not_come() {
    let mut world = on_the_second(UpstreamVersion::V5);
    minutes(&mut world, 1);
    world.queue(1, 1, "one");
    probed(&mut world, true);
    assert_eq!(state(&world), LinkState::Up);
    world.pass(secs(11));
    assert_eq!(world.dials, [0, 1, 0]);
}

#[test]
fn a_first_endpoint_that_answers_and_refuses_us_is_left_alone_longer_each_time() {
    let mut world = on_the_second(UpstreamVersion::V5);
    for round in 1..4_u64 {
        let looks = world.probes.len();
        minutes(&mut world, 1 << (round - 1));
        assert_eq!(world.probes.len(), looks + 1, "round {round}");
        probed(&mut world, true);
        world.dialed();
        world.send(&Packet::ConnAck(ConnAck::refusal(ReasonCode::ServerUnavailable)));
        world.connect(false);
        world.read();
        assert_eq!(world.bridge.stats(UP).unwrap().endpoint, 1);
    }
}

#[test]
fn a_password_is_renewed_before_the_upstream_takes_it_no_longer() {
    let mut world = world(UpstreamVersion::V5);
    world.valid_for = Some(secs(1000));
    world.connect(false);
    minutes(&mut world, 14);
    assert_eq!(state(&world), LinkState::Up);
    world.pass(secs(61));
    assert_eq!(state(&world), LinkState::Dialing, "after nine tenths of its life");
    assert_eq!((world.dials.len(), world.bridge.stats(UP).unwrap().losses), (2, 0));
}

#[test]
fn a_network_that_comes_ends_the_wait_and_has_an_old_link_tested() {
    let mut world = world(UpstreamVersion::V5);
    for _ in 0..8 {
        dial_fails(&mut world);
    }
    let dials = world.dials.len();
    world.input(Input::NetworkChanged);
    assert_eq!((world.dials.len(), state(&world)), (dials + 1, LinkState::Dialing), "at once");
    world.input(Input::NetworkChanged);
    assert_eq!(world.dials.len(), dials + 1, "one try at a time");
    world.connect(false);
    world.read();
    world.input(Input::NetworkChanged);
    assert!(world.read().is_empty(), "the upstream was heard just now");
    world.pass(secs(6));
    world.input(Input::NetworkChanged);
    assert!(matches!(world.read()[..], [Seen::PingReq]));
    world.pass(secs(25));
    assert_ne!(state(&world), LinkState::Up, "the link was dead");
}

#[test]
fn a_network_that_comes_does_not_help_against_a_refusal() {
    let mut world = world(UpstreamVersion::V5);
    world.dialed();
    world.send(&Packet::ConnAck(ConnAck::refusal(ReasonCode::NotAuthorized)));
    world.input(Input::NetworkChanged);
    assert_eq!(state(&world), LinkState::Waiting);
}
