//! Links: serial lines, forwarders, discovery (MQTT-SN 5.5, 6.1).

use super::*;
use crate::config::Framing;

const CONNECT_A: [u8; 7] = [7, 0x04, 0x04, 0x01, 0x00, 0x3C, b'a'];

#[test]
fn a_serial_line_is_a_link() {
    let mut world = World::new();
    world.input(Input::SerialOpened { link: SERIAL });
    for octet in CONNECT_A {
        world.input(Input::SerialBytes { link: SERIAL, bytes: &[octet] });
    }
    world.expect(0, &[connack(ACCEPTED)]);
    assert_eq!(world.gateway.framing_stats(SERIAL).unwrap().frames, 1);
}

#[test]
fn noise_on_a_serial_line_costs_frames_and_not_the_process() {
    let mut world = World::new();
    world.input(Input::SerialOpened { link: SERIAL });
    // Looks like a PUBLISH of 50 octets, and swallows the CONNECT behind it until the line is silent.
    world.input(Input::SerialBytes { link: SERIAL, bytes: &[&[50, 0x0C][..], &CONNECT_A].concat() });
    world.expect(0, &[]);
    world.pass(Duration::from_millis(100));
    world.expect(0, &[connack(ACCEPTED)]);
    assert_eq!(world.gateway.framing_stats(SERIAL).unwrap().noise_bytes, 2);
}

#[test]
fn a_serial_line_speaks_the_framing_it_is_given() {
    let octets: [(Framing, &[u8], &[u8]); 3] = [
        (Framing::Slip, b"\xC0\x07\x04\x04\x01\0\x3Ca\xC0", b"\xC0\x03\x05\0\xC0"),
        (Framing::Cobs, b"\x05\x07\x04\x04\x01\x05\x3Ca\x2D\xE6\0", b"\x03\x03\x05\x03\x6A\x39\0"),
        (Framing::Hdlc, b"~\x07\x04\x04\x01\0\x3Ca\xE2\x07~", b"~\x03\x05\0\x10\x57~"),
    ];
    for (framing, connect, connack) in octets {
        let mut links = links();
        let LinkKind::Serial(serial) = &mut links[usize::from(SERIAL.0)].kind else { panic!() };
        serial.framing = framing;
        let mut world = World { gateway: Gateway::new(config(), &links), ..World::new() };
        world.input(Input::SerialOpened { link: SERIAL });
        world.input(Input::SerialBytes { link: SERIAL, bytes: connect });
        assert_eq!(world.sent, [(0, connack.to_vec())], "{framing:?}");
        assert_eq!(world.gateway.framing_stats(SERIAL).unwrap().frames, 1);
    }
}

#[test]
fn nothing_is_sent_to_a_port_that_is_away_and_clients_live_on() {
    let mut world = World::new();
    world.input(Input::SerialOpened { link: SERIAL });
    world.input(Input::SerialBytes { link: SERIAL, bytes: &CONNECT_A });
    world.sent.clear();
    world.input(Input::SerialBytes { link: SERIAL, bytes: &[2] });
    world.input(Input::SerialClosed { link: SERIAL });
    world.broker.hold = true;
    world.pass(secs(1));
    world.input(Input::SerialOpened { link: SERIAL });
    world.input(Input::SerialBytes { link: SERIAL, bytes: &[2, 0x16] });
    world.expect(0, &[PINGRESP]);
}

#[test]
fn the_mtu_of_a_link_bounds_what_is_sent_on_it() {
    let mut world = World::new();
    world.input(Input::SerialOpened { link: SERIAL });
    world.input(Input::SerialBytes { link: SERIAL, bytes: &CONNECT_A });
    world.input(Input::SerialBytes { link: SERIAL, bytes: &[6, 0x12, 0x20, 0, 1, b't'] });
    world.sent.clear();
    world.publish("t", &"x".repeat(54), Q0);
    world.expect(0, &[]);
    world.publish("t", &"x".repeat(53), Q0);
    world.expect(0, &[publish(Q0, 2, 0, &"x".repeat(53))]);
    assert_eq!(world.gateway.stats().dropped_too_long, 1);
}

#[test]
fn nodes_behind_one_forwarder_are_clients_of_their_own() {
    let mut world = World::new();
    for (node, id) in [(1, b'a'), (2, b'b')] {
        let connect = [7, 0x04, 0x04, 0x01, 0x00, 0x3C, id];
        world.raw(5, &[&[4, 0xFE, 0, node][..], &connect].concat());
        assert_eq!(world.sent.pop(), Some((5, vec![4, 0xFE, 0, node, 3, 0x05, 0])));
    }
    assert_eq!((world.state("a"), world.state("b")), ("active", "active"));
    // The forwarder itself, and a node without an id, are others again.
    world.ask(5, ping(""), &[DISCONNECT]);
    world.raw(5, &[3, 0xFE, 0, 2, 0x16]);
    assert_eq!(world.sent.pop(), Some((5, vec![3, 0xFE, 0, 2, 0x18])));
}

#[test]
fn messages_that_only_gateways_send_mean_nothing() {
    let mut world = World::connected(&[(1, "a")], true);
    for message in [connack(ACCEPTED), suback(1, Q1, 1, 0), Message::WillTopicReq, Message::UnsubAck(MsgId(1))] {
        world.ask(1, message, &[]);
    }
    assert_eq!(world.gateway.stats().unexpected, 4);
}

#[test]
fn a_link_that_is_not_configured_is_ignored() {
    let mut world = World::new();
    world.input(Input::Datagram { link: LinkId(9), from: addr(1), bytes: &CONNECT_A });
    world.input(Input::SerialBytes { link: LinkId(9), bytes: &CONNECT_A });
    world.input(Input::SerialBytes { link: UDP, bytes: &CONNECT_A });
    assert_eq!((world.sent.len(), world.gateway.stats().clients), (0, 0));
}
