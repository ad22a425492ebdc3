//! Links that know their peers: a client belongs to the name that was proved.

use super::*;

impl World {
    fn identify(&mut self, port: u16, identity: Option<&str>) {
        self.input(Input::Identified { link: UDP, from: addr(port), identity });
    }

    fn user(&self, client: &str) -> Option<&str> {
        self.broker.user(client)
    }
}

#[test]
fn a_session_has_the_name_that_its_node_proved() {
    let mut world = World::new();
    world.identify(1, Some("meter-1"));
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(2, connect("b", true), &[connack(ACCEPTED)]);
    assert_eq!((world.user("a"), world.user("b")), (Some("meter-1"), None));
}

#[test]
fn nobody_else_takes_or_wakes_or_talks_for_a_client_with_a_name() {
    let mut world = World::new();
    world.identify(1, Some("meter-1"));
    world.identify(2, Some("meter-2"));
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    for port in [2, 3] {
        world.ask(port, connect("a", false), &[connack(UNSUPPORTED)]);
    }
    world.ask(1, sleep(60), &[DISCONNECT]);
    for port in [2, 3] {
        world.ask(port, ping("a"), &[DISCONNECT]);
    }
    assert_eq!((world.state("a"), world.gateway.stats().foreign), ("asleep", 2));
    // The same address, but somebody else there.
    world.identify(1, Some("meter-2"));
    world.ask(1, ping(""), &[DISCONNECT]);
    world.pass(secs(1));
    world.identify(1, None);
    world.ask(1, ping(""), &[DISCONNECT]);
    assert_eq!(world.state("a"), "asleep");
    world.identify(4, Some("meter-1"));
    world.ask(4, ping("a"), &[PINGRESP]);
    world.ask(4, connect("a", false), &[connack(ACCEPTED)]);
}

#[test]
fn a_client_keeps_its_name_over_a_restart() {
    let mut world = World::new();
    world.identify(1, Some("meter-1"));
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    world.restart();
    assert_eq!(world.user("a"), Some("meter-1"));
    world.ask(1, ping(""), &[DISCONNECT]);
    world.ask(2, connect("a", false), &[connack(UNSUPPORTED)]);
    world.identify(1, Some("meter-1"));
    world.ask(1, ping(""), &[PINGRESP]);
}

#[test]
fn a_client_that_proves_a_name_for_the_first_time_starts_anew() {
    let mut world = World::connected(&[(1, "a")], false);
    world.ask(1, sleep(60), &[DISCONNECT]);
    world.identify(1, Some("meter-1"));
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    assert_eq!((world.user("a"), world.state("a")), (Some("meter-1"), "active"));
}

#[test]
fn names_are_bounded() {
    let mut world = World::new();
    for port in 1..=17 {
        world.identify(port, Some("meter"));
    }
    assert_eq!(world.gateway.stats().identities_refused, 1);
    world.identify(1, None);
    world.identify(17, Some("meter"));
    assert_eq!(world.gateway.stats().identities_refused, 1);
}
