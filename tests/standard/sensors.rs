//! MQTT-SN 1.2 with the real broker and a store behind the gateway. Its every step is shown beside the code, in
//! `src/gateway/tests`; here is what takes all of it.

use crate::rig::Rig;
use crate::wire::{V311, hello, publish};

const LINK: &str = "[[link]]\nname = 'air'\nkind = 'udp'\nbind = '127.0.0.1:1883'\n";
const NODE: u16 = 1001;

const CONNACK: [u8; 3] = [3, 0x05, 0];
const DISCONNECT: [u8; 2] = [2, 0x18];
const PINGRESP: [u8; 2] = [2, 0x17];
const ASLEEP: [u8; 4] = [4, 0x18, 0, 60];
const WAKE: [u8; 3] = [3, 0x16, b'n'];

/// A message of up to 255 octets.
fn message(code: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let len = u8::try_from(2 + body.len()).expect("a short message");
    [&[len, code][..], body].concat()
}

fn connect(flags: u8) -> Vec<u8> {
    message(0x04, [flags, 1, 0, 60, b'n'])
}

fn subscribe(topic: &str) -> Vec<u8> {
    message(0x12, [&[0x20, 0, 9][..], topic.as_bytes()].concat())
}

/// PUBLISH of QoS 1 to the node, under its own normal topic id.
fn heard(dup: u8, id: u8, msg_id: u8, payload: &str) -> Vec<u8> {
    message(0x0C, [&[0x20 | dup, 0, id, 0, msg_id][..], payload.as_bytes()].concat())
}

fn puback(id: u8, msg_id: u8, code: u8) -> Vec<u8> {
    message(0x0D, [0, id, 0, msg_id, code])
}

#[test]
fn a_sleeper_survives_a_power_cut_with_its_will_ids_and_messages() {
    let mut rig = Rig::with(LINK);
    let witness = rig.connect(&hello(V311, "witness"));
    rig.subscribe(witness, "#", 1);
    assert_eq!(rig.radio(NODE, connect(0x08)), [[2, 0x06]]);
    assert_eq!(rig.radio(NODE, message(0x07, b"\x20last")), [[2, 0x08]]);
    assert_eq!(rig.radio(NODE, message(0x09, b"words")), [CONNACK]);
    let up = rig.radio(NODE, message(0x0A, b"\0\0\0\x01up")).remove(0);
    assert_eq!((up[1], up[6]), (0x0B, 0));
    let down = rig.radio(NODE, subscribe("down")).remove(0);
    assert_eq!((down[1], down[7]), (0x13, 0));
    assert_eq!(rig.radio(NODE, ASLEEP), [DISCONNECT]);
    let publisher = rig.connect(&hello(V311, "pub"));
    for (id, text) in [(1, "a"), (2, "b")] {
        rig.publish(publisher, &publish("down", text).qos(1, id));
        assert_eq!(rig.read(publisher), [format!("puback {id} 00")]);
    }
    rig.restart();

    // Without a CONNECT: it slept through it.
    assert_eq!(rig.radio(NODE, WAKE), [heard(0, down[4], 1, "a")]);
    assert_eq!(rig.radio(NODE, puback(down[4], 1, 0)), [heard(0, down[4], 2, "b")]);
    assert_eq!(rig.radio(NODE, puback(down[4], 2, 0)), [PINGRESP]);
    // Its ids mean the same as before.
    let witness = rig.connect(&hello(V311, "witness"));
    rig.subscribe(witness, "#", 1);
    assert_eq!(rig.radio(NODE, connect(0)), [CONNACK]);
    let measured = message(0x0C, [&[0x20, up[2], up[3], 0, 5][..], b"21"].concat());
    assert_eq!(rig.radio(NODE, measured), [message(0x0D, [up[2], up[3], 0, 5, 0])]);
    assert_eq!(rig.read(witness), ["up=21 qos 1"]);
    assert_eq!(rig.radio(NODE, ASLEEP), [DISCONNECT]);
    // It has its will from before, which goes out when it does not come back.
    rig.restart();
    let witness = rig.connect(&hello(V311, "witness"));
    rig.subscribe(witness, "last", 1);
    rig.pass_secs(89);
    assert_eq!(rig.read(witness), [""; 0]);
    rig.pass_secs(2);
    assert_eq!(rig.read(witness), ["last=words qos 1"]);
}

#[test]
fn what_waits_for_a_sleeper_is_bounded_and_the_oldest_gives_way() {
    let mut rig = Rig::with(&format!("{LINK}[sn]\nmax_sleep_messages = 3\n"));
    assert_eq!(rig.radio(NODE, connect(0)), [CONNACK]);
    rig.radio(NODE, subscribe("t"));
    assert_eq!(rig.radio(NODE, ASLEEP), [DISCONNECT]);
    let publisher = rig.connect(&hello(V311, "pub"));
    for number in 1..=5 {
        rig.publish(publisher, &publish("t", &number.to_string()).qos(1, number));
    }
    let line = rig.status().lines.into_iter().find(|line| line.name == "session:n").unwrap();
    assert_eq!((line.depth.messages, line.stats.dropped_oldest), (3, 2));
    let mut sent = rig.radio(NODE, WAKE);
    for (msg_id, text) in [(1, "3"), (2, "4"), (3, "5")] {
        assert_eq!(sent, [heard(0, 1, msg_id, text)]);
        sent = rig.radio(NODE, puback(1, msg_id, 0));
    }
    assert_eq!(sent, [PINGRESP]);
}

#[test]
fn nodes_may_do_what_the_acl_lets_them() {
    let rules = "[[acl]]\nclient_id = 'n'\npublish = 'up/{client_id}'\nsubscribe = 'down/#'\n\
        [[acl]]\nuser = 'key-7'\npublish = 'vault'\n[sn.predefined]\n'up/n' = 1\n'vault' = 2\n";
    let mut rig = Rig::with(&format!("{LINK}{rules}"));
    let publish = |id, msg_id| message(0x0C, [0x21, 0, id, 0, msg_id, b'x']);
    assert_eq!(rig.radio(NODE, connect(0x04)), [CONNACK]);
    assert_eq!(rig.radio(NODE, publish(1, 1)), [puback(1, 1, 0)]);
    assert_eq!(rig.radio(NODE, publish(2, 2)), [puback(2, 2, 3)]);
    assert_eq!(rig.radio(NODE, subscribe("down/+"))[0][7], 0);
    assert_eq!(rig.radio(NODE, subscribe("up/#"))[0][7], 3);
    // What was proved where it connects from counts, whatever it calls itself.
    rig.identify(NODE + 1, "key-7");
    assert_eq!(rig.radio(NODE + 1, message(0x04, b"\x04\x01\0\x3Cm")), [CONNACK]);
    assert_eq!(rig.radio(NODE + 1, publish(2, 1)), [puback(2, 1, 0)]);
    assert_eq!(rig.radio(NODE + 1, publish(1, 2)), [puback(1, 2, 3)]);
}
