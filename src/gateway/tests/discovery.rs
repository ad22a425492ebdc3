//! Being found (MQTT-SN 6.1).

use super::*;
use crate::mqttsn::{Advertise, GwInfo, SearchGw};

const INFO: Message<'static> = Message::GwInfo(GwInfo { gateway_id: 7, address: &[] });
const SEARCH: [u8; 3] = [3, 0x01, 2];

fn advertising() -> World {
    World::with(Sn { advertise_interval: secs(900), ..config() })
}

fn advertise(duration: u16) -> Message<'static> {
    Message::Advertise(Advertise { gateway_id: 7, duration })
}

#[test]
fn the_gateway_advertises_each_period_to_its_groups_and_lines() {
    let mut world = advertising();
    world.input(Input::SerialOpened { link: SERIAL });
    world.pass(secs(0));
    // Both UDP links have groups. A line waits for the first period.
    world.expect(GROUP, &[advertise(900), advertise(900)]);
    world.expect(0, &[]);
    world.pass(Duration::from_millis(899_999));
    world.expect(GROUP, &[]);
    world.pass(Duration::from_millis(1));
    world.expect(GROUP, &[advertise(900), advertise(900)]);
    world.expect(0, &[advertise(900)]);
    world.input(Input::SerialClosed { link: SERIAL });
    world.pass(secs(900));
    world.expect(0, &[]);
}

#[test]
fn without_a_period_it_never_advertises() {
    let mut world = World::new();
    world.input(Input::SerialOpened { link: SERIAL });
    assert_eq!(world.gateway.deadline(), None);
    assert_eq!(world.sent, []);
}

#[test]
fn searchgw_by_multicast_is_answered_to_the_asker_and_to_the_group_as_far_as_it_asked() {
    let mut world = World::new();
    world.gateway.handle_input(
        world.now,
        Input::Multicast { link: UDP, from: addr(1), bytes: &SEARCH },
        &mut world.broker,
    );
    let mut radii = Vec::new();
    while let Some(output) = world.gateway.poll_output() {
        match output {
            Output::Send { link: UDP, to, bytes } => assert_eq!((to, bytes), (Some(addr(1)), &[3, 0x02, 7][..])),
            Output::Multicast { link: UDP, radius, bytes } => {
                assert_eq!(bytes, [3, 0x02, 7]);
                radii.push(radius);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(radii, [2]);
    assert_eq!(world.gateway.stats().searches, 1);
}

#[test]
fn searchgw_is_answered_to_the_asker_alone_when_it_asked_alone() {
    let mut world = World::new();
    world.raw(1, &SEARCH);
    world.expect(1, &[INFO]);
    world.expect(GROUP, &[]);
    // Behind a forwarder, with the radius in the envelope, which has two bits for it.
    world.raw(1, &[4, 0xFE, 0, 1, 3, 0x01, 2]);
    assert_eq!(world.sent.pop(), Some((1, vec![4, 0xFE, 2, 1, 3, 0x02, 7])));
    world.raw(1, &[4, 0xFE, 0, 1, 3, 0x01, 200]);
    assert_eq!(world.sent.pop(), Some((1, vec![4, 0xFE, 3, 1, 3, 0x02, 7])));
    world.ask(1, Message::SearchGw(SearchGw { radius: 0 }), &[INFO]);
}

#[test]
fn other_gateways_on_the_network_are_counted_and_left_alone() {
    let mut world = World::connected(&[(1, "a")], true);
    for message in [Message::Advertise(Advertise { gateway_id: 8, duration: 9 }), INFO] {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        world.input(Input::Multicast { link: UDP, from: addr(3), bytes: &bytes });
        world.raw(4, &bytes);
    }
    assert_eq!((world.sent.len(), world.gateway.stats().other_gateways), (0, 4));
}

#[test]
fn only_discovery_comes_by_multicast() {
    let mut world = World::connected(&[(1, "a")], true);
    for bytes in [&[7, 0x04, 0x04, 0x01, 0, 0x3C, b'b'][..], &[8, 0x0C, 0x62, b't', b't', 0, 0, b'x'], &[2, 0x16]] {
        world.input(Input::Multicast { link: UDP, from: addr(1), bytes });
    }
    world.input(Input::Multicast { link: UDP, from: addr(1), bytes: &[9, 0x01] });
    world.input(Input::Multicast { link: LinkId(9), from: addr(1), bytes: &SEARCH });
    assert_eq!((world.sent.len(), world.broker.published.len(), world.gateway.stats().clients), (0, 0, 1));
    assert_eq!((world.gateway.stats().unexpected, world.gateway.stats().malformed), (3, 1));
}

#[test]
fn forwarders_are_known_by_what_they_send_and_advertised_to_while_they_are_heard() {
    let mut world = advertising();
    world.pass(secs(0));
    world.sent.clear();
    world.raw(5, &[4, 0xFE, 0, 9, 2, 0x16]);
    assert_eq!(world.gateway.stats().forwarders, 1);
    world.sent.clear();
    world.pass(secs(900));
    let mut to_forwarder = vec![3, 0xFE, 0];
    advertise(900).encode(&mut to_forwarder).unwrap();
    assert!(world.sent.contains(&(5, to_forwarder)), "{:?}", world.sent);
    world.sent.clear();
    world.pass(secs(1800));
    assert_eq!(world.gateway.stats().forwarders, 0);
    assert_eq!(world.sent.iter().filter(|(port, _)| *port == 5).count(), 1, "two periods are its patience");
}

#[test]
fn forwarders_are_bounded_and_the_one_silent_for_longest_is_forgotten() {
    let mut world = World::new();
    for port in 0..300 {
        world.pass(Duration::from_millis(1));
        world.raw(1000 + port, &[4, 0xFE, 0, 9, 2, 0x16]);
    }
    assert_eq!(world.gateway.stats().forwarders, 256);
}

#[test]
fn an_envelope_in_an_envelope_is_refused() {
    let mut world = World::new();
    world.raw(5, &[4, 0xFE, 0, 1, 4, 0xFE, 0, 2, 7, 0x04, 0x04, 0x01, 0, 0x3C, b'a']);
    assert_eq!((world.sent.len(), world.gateway.stats().malformed, world.gateway.stats().clients), (0, 1, 0));
}
