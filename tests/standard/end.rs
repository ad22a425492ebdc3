//! PINGREQ, DISCONNECT, AUTH, and how errors end a connection: sections 2, 3.12 to 3.15, 4.12 and 4.13 of 5.0.

use crate::rig::{Client, Rig};
use crate::wire::{
    ALL, DISCONNECT, PINGREQ, V5, V311, hello, packet, pair, publish, resume, subscribe, text, unsubscribe,
};

fn client(level: u8) -> (Rig, Client) {
    let mut rig = Rig::new();
    let client = rig.connect(&hello(level, "c"));
    (rig, client)
}

const NOTHING: [&str; 0] = [];

#[test]
fn pingreq_gets_its_pingresp() {
    for level in ALL {
        let (mut rig, client) = client(level);
        assert_eq!(rig.ask(client, [PINGREQ, PINGREQ].concat()), ["pingresp", "pingresp"]);
    }
}

#[test]
fn disconnect_closes_and_what_follows_it_is_not_looked_at() {
    for level in ALL {
        let (mut rig, client) = client(level);
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "#", 0);
        rig.send(client, [&DISCONNECT[..], &publish("t", "x").bytes(level), &PINGREQ].concat());
        assert!(rig.is_closed(client));
        assert_eq!((rig.read(client), rig.read(watch)), (vec![], vec![]));
    }
}

#[test]
fn reserved_flags_of_the_fixed_header_are_held_to() {
    for level in ALL {
        let none: &[u8] = if level == V5 { &[0] } else { &[] };
        let kinds: [(u8, Vec<u8>); 8] = [
            (0x40, vec![0, 1]),
            (0x50, vec![0, 1]),
            (0x60, vec![0, 1]),
            (0x70, vec![0, 1]),
            (0x80, [&[0, 1], none, b"\0\x01a\0"].concat()),
            (0xA0, [&[0, 1], none, b"\0\x01a"].concat()),
            (0xC0, vec![]),
            (0xE0, vec![]),
        ];
        for (kind, body) in kinds {
            let right = if matches!(kind, 0x60 | 0x80 | 0xA0) { 2 } else { 0 };
            for flags in 0..16 {
                // 3.1 has a DUP flag in these.
                if flags == right || (level == crate::wire::V31 && flags == right | 8 && right == 2) {
                    continue;
                }
                let (mut rig, client) = client(level);
                let answer = rig.ask(client, packet(kind | flags, &body));
                assert!(rig.is_closed(client), "version {level}: type {kind:#04X} with flags {flags:#06b}");
                assert_eq!(answer, if level == V5 { vec!["disconnect 81"] } else { vec![] });
            }
        }
    }
}

#[test]
fn packets_that_only_a_server_sends_and_those_that_are_forbidden_end_the_connection() {
    for level in ALL {
        for bytes in [
            packet(0x00, b""),
            packet(0x20, if level == V5 { &b"\0\0\0"[..] } else { b"\0\0" }),
            packet(0x90, if level == V5 { &b"\0\x01\0\0"[..] } else { b"\0\x01\0" }),
            packet(0xB0, if level == V5 { &b"\0\x01\0\0"[..] } else { b"\0\x01" }),
            packet(0xD0, b""),
            packet(0xF0, b""),
        ] {
            let (mut rig, client) = client(level);
            let answer = rig.ask(client, &bytes);
            assert!(rig.is_closed(client), "version {level}: {bytes:02X?}");
            assert_eq!(answer.len(), usize::from(level == V5));
        }
    }
}

#[test]
fn malformed_answers_and_lengths_end_the_connection() {
    let cases: &[(&str, &[u8], bool)] = &[
        ("PUBACK of identifier 0", b"\x40\x02\0\0", true),
        ("PUBREL of identifier 0", b"\x62\x02\0\0", true),
        ("PUBACK cut short", b"\x40\x01\0", true),
        ("PINGREQ with a body", b"\xC0\x01\0", true),
        ("a length of five bytes", b"\xC0\xFF\xFF\xFF\xFF\x01", true),
        ("PUBACK with an unknown code", b"\x40\x03\0\x01\x7F", false),
        ("PUBACK with a code of PUBREL", b"\x40\x03\0\x01\x92", false),
        ("PUBREL with a code of PUBREC", b"\x62\x03\0\x01\x10", false),
        ("PUBCOMP with a code of PUBACK", b"\x70\x03\0\x01\x97", false),
        ("PUBREC with a reason string twice", b"\x50\x0A\0\x01\0\x06\x1F\0\0\x1F\0\0", false),
        ("PUBREC with a property of PUBLISH", b"\x50\x06\0\x01\0\x02\x01\x01", false),
        ("PUBACK with a property cut off", b"\x40\x06\0\x01\0\x02\x1F\0", false),
        ("PUBACK with bytes behind it", b"\x40\x05\0\x01\0\0\0", false),
        ("DISCONNECT with a code of CONNACK", b"\xE0\x01\x84", false),
        ("DISCONNECT with an unknown code", b"\xE0\x02\x7F\0", false),
        ("DISCONNECT with a session expiry twice", b"\xE0\x0C\0\x0A\x11\0\0\0\0\x11\0\0\0\0", false),
        ("DISCONNECT with a property of CONNECT", b"\xE0\x05\0\x03\x21\0\x01", false),
        ("a length in more bytes than it needs", b"\xC0\x80\x00", false),
    ];
    for (what, bytes, everywhere) in cases {
        for level in ALL {
            if !everywhere && level != V5 {
                continue;
            }
            let (mut rig, client) = client(level);
            let answer = rig.ask(client, bytes);
            assert!(rig.is_closed(client), "version {level}: {what}");
            if level == V5 {
                assert!(answer == ["disconnect 81"] || answer == ["disconnect 82"], "{what}: {answer:?}");
            }
        }
    }
    // Before 5.0 an acknowledgement is its identifier, and DISCONNECT is empty.
    for bytes in [&b"\x40\x03\0\x01\0"[..], b"\xE0\x01\0", b"\x62\x04\0\x01\0\0"] {
        let (mut rig, client) = client(V311);
        assert_eq!(rig.ask(client, bytes), NOTHING);
        assert!(rig.is_closed(client), "{bytes:02X?}");
    }
}

#[test]
fn answers_with_reasons_strings_and_user_properties_are_understood() {
    let (mut rig, client) = client(V5);
    rig.subscribe(client, "t", 2);
    rig.publish(client, &publish("t", "x").qos(2, 9));
    let pkid = rig.take(client).iter().find(|sent| sent.name == "publish").unwrap().pkid.to_be_bytes();
    let properties = [text(0x1F, "because"), pair("a", "b"), pair("a", "b")].concat();
    let properties = [&[u8::try_from(properties.len()).unwrap()][..], &properties].concat();
    let answer = rig.ask(client, packet(0x50, [&pkid[..], &[0x10], &properties].concat()));
    assert_eq!(answer, [format!("pubrel {} 00", u16::from_be_bytes(pkid))]);
    rig.send(client, packet(0x70, [&pkid[..], &[0x00], &properties].concat()));
    rig.send(client, packet(0x62, [&[0, 9, 0x92][..], &properties].concat()));
    assert_eq!(rig.read(client), ["pubcomp 9 00"]);
    rig.send(client, packet(0xE0, [&[0x00][..], &properties].concat()));
    assert!(rig.is_closed(client));
    assert_eq!(rig.read(client), NOTHING);
}

#[test]
fn an_error_ends_the_connection_and_leaves_the_session() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&resume(level, "c"));
        rig.subscribe(client, "t", 1);
        rig.send(client, [0xF6, 0x00]);
        assert!(rig.is_closed(client));
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("t", "x").qos(1, 1));
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), ["t=x qos 1"]);
    }
}

#[test]
fn a_server_that_stops_says_so_where_it_can() {
    let mut rig = Rig::new();
    let clients = ALL.map(|level| rig.connect(&hello(level, &level.to_string())));
    let silent = rig.open();
    rig.shut_down();
    assert!(clients.iter().all(|client| rig.is_closed(*client)) && rig.is_closed(silent));
    assert_eq!(clients.map(|client| rig.read(client)), [vec![], vec![], vec!["disconnect 8B".to_owned()]]);
    assert_eq!(rig.read(silent), NOTHING, "no DISCONNECT before CONNACK [MQTT-3.14.0-1]");
}

#[test]
fn a_session_must_not_grow_from_nothing_by_disconnect() {
    let (mut rig, client) = client(V5);
    assert_eq!(rig.ask(client, b"\xE0\x07\0\x05\x11\0\0\0\x05"), ["disconnect 82"]);
    assert!(rig.is_closed(client));
}

#[test]
fn an_authentication_method_that_is_not_known_is_refused() {
    let mut rig = Rig::new();
    for properties in [text(0x15, "SCRAM-SHA-1"), [text(0x15, ""), text(0x16, [0, 1, 2])].concat()] {
        let client = rig.dial(&hello(V5, "c").property(&properties));
        let answer = rig.one(client);
        assert!(rig.is_closed(client));
        assert!(matches!(answer.codes[..], [0x8C | 0x87]), "{answer:?}");
        assert_eq!(answer.property(0x15), None);
    }
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    let auth = |reason: u8, method: &str| {
        let method = text(0x15, method);
        packet(0xF0, [&[reason, u8::try_from(method.len()).unwrap()][..], &method].concat())
    };
    for bytes in [auth(0x18, "M"), auth(0x19, "M"), auth(0x00, "M"), packet(0xF0, b"")] {
        let (mut rig, client) = client(V5);
        assert_eq!(rig.ask(client, bytes), ["disconnect 82"]);
        assert!(rig.is_closed(client));
    }
    for bytes in [packet(0xF1, b""), auth(0x80, "M"), packet(0xF0, b"\x18"), packet(0xF0, b"\x18\0")] {
        let (mut rig, client) = client(V5);
        let answer = rig.ask(client, &bytes);
        assert!(answer == ["disconnect 81"] || answer == ["disconnect 82"], "{bytes:02X?}: {answer:?}");
        assert!(rig.is_closed(client));
    }
}

#[test]
fn problem_information_is_not_sent_to_those_that_do_not_want_it() {
    let deep = "a/".repeat(100);
    let mut rig = Rig::new();
    let client = rig.connect(&hello(V5, "c").property(&[0x17, 0]));
    rig.publish(client, &publish("$SYS/x", "x").qos(1, 1));
    rig.publish(client, &publish("$SYS/x", "x").qos(2, 2));
    rig.publish(client, &publish("nobody", "x").qos(1, 3));
    rig.send(client, packet(0x62, [0, 9]));
    rig.send(client, packet(0x50, [0, 9]));
    rig.send(client, subscribe(V5, 4, &[], &[(&deep, 0)]));
    rig.send(client, unsubscribe(V5, 5, &["none"]));
    let sent = rig.take(client);
    assert_eq!(sent.len(), 7);
    for sent in sent {
        assert_eq!((sent.property(0x1F), sent.property(0x26)), (None, None), "{}", sent.name);
    }
}

#[test]
fn response_information_is_only_for_those_that_ask() {
    let mut rig = Rig::new();
    for connect in [hello(V5, "c"), hello(V5, "c").property(&[0x19, 0])] {
        let client = rig.dial(&connect);
        assert_eq!(rig.one(client).property(0x1A), None);
    }
}

#[test]
fn every_answer_fits_the_packet_size_of_its_client() {
    // The rig holds each packet against the limit.
    let deep = "a/".repeat(100);
    for limit in 1..=80 {
        let mut rig = Rig::new();
        let client = rig.dial(&hello(V5, "").max_packet(limit).expiry(u32::MAX).keep_alive(10));
        let sent = rig.take(client);
        if sent.is_empty() {
            assert!(rig.is_closed(client), "CONNACK does not fit {limit} bytes: nothing can be said");
            continue;
        }
        let filters: Vec<(&str, u8)> = vec![(&deep, 0); 60];
        rig.send(client, subscribe(V5, 1, &[], &filters));
        rig.send(client, unsubscribe(V5, 2, &vec!["none"; 60]));
        rig.publish(client, &publish("$SYS/x", "x").qos(1, 3));
        rig.publish(client, &publish("$SYS/x", "x").qos(2, 4));
        rig.send(client, packet(0x62, [0, 9]));
        rig.send(client, packet(0x50, [0, 9]));
        assert!(rig.take(client).len() >= 4, "what is short enough comes");
        rig.send(client, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(rig.is_closed(client));
        let refused = rig.dial(&hello(V5, "c").max_packet(limit).property(&text(0x15, "M")));
        assert!(rig.is_closed(refused));
    }
}
