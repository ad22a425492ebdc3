//! Clients that are known beforehand, links that are for them alone, and nodes that send too much.

use super::*;
use crate::gateway::LinkStats;

fn known(client_id: &str) -> SnClient {
    SnClient { client_id: client_id.to_owned(), ..SnClient::default() }
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// The first UDP link is for clients of the list alone.
fn closed(client: Vec<SnClient>) -> World {
    let config = Sn { client, ..config() };
    let mut links = links();
    links[0].known_only = true;
    World { gateway: Gateway::new(config.clone(), &links), ..World::with(config) }
}

#[test]
fn a_client_that_is_not_known_is_refused_where_that_is_configured() {
    let mut world = closed(vec![known("meter-*"), known("pump")]);
    for (port, id, code) in
        [(1, "meter-7", ACCEPTED), (2, "pump", ACCEPTED), (3, "pump-2", UNSUPPORTED), (4, "meter", UNSUPPORTED)]
    {
        world.ask(port, connect(id, true), &[connack(code)]);
    }
    let stranger = [7, 0x04, 0x04, 0x01, 0x00, 0x3C, b'x'];
    world.input(Input::Datagram { link: OTHER_UDP, from: addr(5), bytes: &stranger });
    world.expect(5, &[connack(ACCEPTED)]);
    let stats = world.gateway.stats();
    assert_eq!((stats.forbidden, stats.connects_refused, stats.clients), (2, 2, 3));
}

#[test]
fn qos_minus_one_of_nobody_is_refused_where_only_known_clients_may_send() {
    let mut world = closed(vec![known("meter-*")]);
    let publish = publish_as(PublishQos::MinusOne, Topic::Predefined(TopicId(1)), 0, "x", false);
    world.ask(1, publish, &[]);
    assert_eq!((world.broker.published.len(), world.gateway.stats().minus_one_refused), (0, 1));
    world.ask(1, connect("meter-1", true), &[connack(ACCEPTED)]);
    world.ask(1, publish, &[]);
    assert_eq!(world.broker.published, [published(Some("meter-1"), "pre/one", "x")]);
}

#[test]
fn a_known_client_comes_by_its_own_links_only() {
    let mut world = World::with(Sn {
        client: vec![SnClient { link: names(&["other", "serial"]), ..known("a") }, known("*")],
        ..config()
    });
    world.ask(1, connect("a", true), &[connack(UNSUPPORTED)]);
    world.ask(2, connect("b", true), &[connack(ACCEPTED)]);
    world.input(Input::Datagram { link: OTHER_UDP, from: addr(1), bytes: &[7, 0x04, 0x04, 0x01, 0, 0x3C, b'a'] });
    world.expect(1, &[connack(ACCEPTED)]);
    // Nor does it wake up on another one.
    world.input(Input::Datagram { link: OTHER_UDP, from: addr(1), bytes: &[4, 0x18, 0, 30] });
    world.expect(1, &[DISCONNECT]);
    world.ask(3, ping("a"), &[DISCONNECT]);
    assert_eq!(world.state("a"), "asleep");
}

#[test]
fn a_known_client_may_have_to_prove_who_it_is() {
    let mut world =
        World::with(Sn { client: vec![SnClient { identity: names(&["key-1"]), ..known("a") }], ..config() });
    world.input(Input::Identified { link: UDP, from: addr(2), identity: Some("key-2") });
    world.input(Input::Identified { link: UDP, from: addr(3), identity: Some("key-1") });
    for (port, code) in [(1, UNSUPPORTED), (2, UNSUPPORTED), (3, ACCEPTED)] {
        world.ask(port, connect("a", true), &[connack(code)]);
    }
}

#[test]
fn predefined_ids_of_a_client_come_before_those_of_all() {
    let own = BTreeMap::from([("meter/own".to_owned(), 1), ("meter/two".to_owned(), 2)]);
    let mut world = World::with(Sn { client: vec![SnClient { predefined: own, ..known("meter-*") }], ..config() });
    world.ask(1, connect("meter-1", true), &[connack(ACCEPTED)]);
    world.ask(2, connect("other", true), &[connack(ACCEPTED)]);
    let to = |id| publish_as(PublishQos::Level(Q1), Topic::Predefined(TopicId(id)), 5, "x", false);
    for (port, id, code) in
        [(1, 1, ACCEPTED), (1, 2, ACCEPTED), (1, 9, ACCEPTED), (2, 1, ACCEPTED), (2, 2, INVALID), (2, 9, ACCEPTED)]
    {
        world.ask(port, to(id), &[puback(id, 5, code)]);
    }
    let topics: Vec<_> = world.broker.published.iter().map(|(_, topic, _)| topic.as_str()).collect();
    assert_eq!(topics, ["meter/own", "meter/two", "pre/nine", "pre/one", "pre/nine"]);
    // The same names on the way out.
    world.send(1, subscribe_to(SubscribeTopic::Predefined(TopicId(2)), Q0, 1));
    world.expect(1, &[suback(2, Q0, 1, ACCEPTED)]);
    world.publish("meter/two", "y", Q0);
    let out = publish_as(PublishQos::Level(Q0), Topic::Predefined(TopicId(2)), 0, "y", false);
    world.expect(1, &[out]);
}

#[test]
fn a_node_that_sends_too_much_is_not_heard_beyond_its_rate_and_others_are() {
    let mut world = World::with(Sn { node_rate: 10, node_burst: 20, ..config() });
    world.ask(1, connect("a", true), &[connack(ACCEPTED)]);
    world.ask(2, connect("b", true), &[connack(ACCEPTED)]);
    for _ in 0..1000 {
        world.send(1, ping(""));
    }
    world.expect(1, &[PINGRESP; 19]);
    world.ask(2, ping(""), &[PINGRESP]);
    world.pass(Duration::from_millis(200));
    for _ in 0..100 {
        world.send(1, ping(""));
    }
    world.expect(1, &[PINGRESP; 2]);
    // Nodes behind a forwarder have a rate each.
    for node in 0..3 {
        for _ in 0..30 {
            world.raw(7, &[4, 0xFE, 0, node, 3, 0x01, 0]);
        }
    }
    assert_eq!(world.sent.iter().filter(|(port, _)| *port == 7).count(), 60);
    let limited = 981 + 98 + 30;
    assert_eq!(world.gateway.stats().rate_limited, limited);
    assert_eq!(world.gateway.links().next().unwrap().stats.rate_limited, limited);
}

#[test]
fn each_link_counts_and_measures_for_itself() {
    let (mut world, id) = World::subscribed("t", Q1, true);
    world.pass(secs(1));
    world.publish("t", "x", Q1);
    world.expect(1, &[publish(Q1, id, 1, "x")]);
    world.pass(Duration::from_millis(80));
    world.ask(1, puback(id, 1, ACCEPTED), &[]);
    // What was sent again says nothing about the time it takes.
    world.publish("t", "y", Q1);
    world.pass(RETRY);
    world.send(1, puback(id, 2, ACCEPTED));
    world.publish("t", "z", Q1);
    world.pass(Duration::from_millis(160));
    world.send(1, puback(id, 3, ACCEPTED));
    world.raw(1, &[9, 9, 9]);
    let links: Vec<_> = world.gateway.links().map(|link| (link.name.to_owned(), link.open, link.stats)).collect();
    let expected = LinkStats {
        messages_received: 5,
        messages_sent: 2 + 4,
        malformed: 1,
        rate_limited: 0,
        retransmissions: 1,
        round_trip: Some(Duration::from_millis(90)),
        heard_at: Some(world.now.at),
    };
    assert_eq!(links[0], ("udp".to_owned(), true, expected));
    assert_eq!(links[1], ("serial".to_owned(), false, LinkStats::default()));
}

#[test]
fn what_waited_too_long_is_dropped_and_counted() {
    let mut world = World::with(Sn { max_sleep_age: secs(60), ..config() });
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    world.ask(1, subscribe("t", Q1, 1), &[suback(2, Q1, 1, ACCEPTED)]);
    world.ask(1, sleep(600), &[DISCONNECT]);
    world.publish("t", "old", Q1);
    world.now.wall = world.now.wall + secs(30);
    world.broker.wall = world.now.wall;
    world.publish("t", "new", Q1);
    world.now.wall = world.now.wall + secs(31);
    world.ask(1, ping("a"), &[publish(Q1, 2, 1, "new")]);
    world.ask(1, puback(2, 1, ACCEPTED), &[PINGRESP]);
    assert_eq!(world.gateway.stats().dropped_too_old, 1);
}

#[test]
fn a_sleeper_stays_at_its_address_if_it_may_not_move() {
    let mut world = World::with(Sn { wake_from_new_address: false, ..config() });
    world.ask(1, connect("a", false), &[connack(ACCEPTED)]);
    world.ask(1, sleep(60), &[DISCONNECT]);
    world.ask(2, ping("a"), &[DISCONNECT]);
    world.ask(1, ping("a"), &[PINGRESP]);
    assert_eq!(world.gateway.stats().address_changes, 0);
}
