//! CONNECT and CONNACK: section 3.1 and 3.2 of both standards.

use crate::rig::{Client, Rig, WRITTEN};
use crate::wire::{
    ALL, Connect, DISCONNECT, PINGREQ, V5, V31, V311, field, hello, packet, publish, resume, subscribe, text,
};

/// Sends these bytes first on a new connection.
fn knock(rig: &mut Rig, bytes: impl AsRef<[u8]>) -> (Client, Vec<String>) {
    let client = rig.open();
    let answer = rig.ask(client, bytes);
    (client, answer)
}

/// Sends a CONNECT that must be refused, and gives the answer.
fn refused(rig: &mut Rig, connect: &Connect) -> Vec<String> {
    let client = rig.dial(connect);
    assert!(rig.is_closed(client), "it was let in");
    rig.read(client)
}

#[test]
fn the_first_packet_must_be_connect() {
    let mut rig = Rig::new();
    let others = [
        publish("a", "x").bytes(V311),
        subscribe(V311, 1, &[], &[("a", 0)]),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        packet(0xF0, b"\x18\x04\x15\0\x01M"),
        packet(0x20, b"\0\0"),
        packet(0x00, b""),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in others {
        let (client, answer) = knock(&mut rig, &bytes);
        if bytes.starts_with(b"GET") {
            // Half a packet, by its second byte: what is missing does not come in time.
            rig.pass_secs(11);
        }
        assert_eq!((rig.is_closed(client), answer), (true, vec![]), "after {bytes:02X?}");
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    for level in ALL {
        let mut rig = Rig::new();
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "will", 0);
        let client = rig.connect(&hello(level, "c").will("will", "gone", 0, false));
        let answer = rig.ask(client, hello(level, "c").bytes());
        assert_eq!(answer, if level == V5 { vec!["disconnect 82"] } else { vec![] });
        assert!(rig.is_closed(client));
        assert_eq!(rig.read(watch), ["will=gone qos 0"], "no DISCONNECT came from the client");
    }
}

#[test]
fn an_unknown_protocol_or_version_is_refused() {
    let mut rig = Rig::new();
    let connect = |name: &str, level: u8| packet(0x10, [&field(name)[..], &[level, 2, 0, 0], &field("c")].concat());
    for level in [0, 1, 2, 3, 6, 9, 0x83, 0x84, 0xFF] {
        let client = rig.open();
        rig.send(client, connect("MQTT", level));
        let answer = rig.take(client);
        assert!(rig.is_closed(client));
        assert!(answer[0].codes == [0x01] || answer[0].codes == [0x84], "level {level}: {answer:?}");
    }
    for name in ["MQTX", "mqtt", "MQISDP", "", "MQTT "] {
        for level in ALL {
            let (client, answer) = knock(&mut rig, connect(name, level));
            assert!(rig.is_closed(client));
            assert!(answer.iter().all(|sent| sent == "connack 01" || sent == "connack 84"), "{name}: {answer:?}");
        }
    }
}

/// Byte strings that no CONNECT of this version may be.
fn malformed(level: u8) -> Vec<(&'static str, Vec<u8>)> {
    let good = hello(level, "c");
    let with_flags = |flags: u8| Connect { flags, ..good.clone() }.bytes();
    let named = |client_id: &[u8]| Connect { client_id: client_id.to_vec(), ..good.clone() }.bytes();
    let mut cases = vec![
        ("reserved flag", with_flags(0x03)),
        ("will QoS without a will", with_flags(0x0A)),
        ("will retain without a will", with_flags(0x22)),
        ("will QoS 3", Connect { flags: 0x1E, ..good.clone().will("w", "x", 0, false) }.bytes()),
        ("a will is promised and does not come", with_flags(0x06)),
        ("a will topic without a message", Connect { flags: 6, rest: field("w"), ..good.clone() }.bytes()),
        (
            "a will topic that is not UTF-8",
            Connect { flags: 6, rest: b"\0\x01\xFF\0\0".to_vec(), ..good.clone() }.bytes(),
        ),
        ("a user name that is not promised", Connect { rest: field("u"), ..good.clone() }.bytes()),
        (
            "a user name that is not UTF-8",
            Connect { flags: 0x82, rest: field(b"\xC0\x80"), ..good.clone() }.bytes(),
        ),
        (
            "a will that is not promised",
            Connect { rest: [field("w"), field("x")].concat(), ..good.clone() }.bytes(),
        ),
        ("a client id that is not UTF-8", named(b"\xFF")),
        ("a client id with a surrogate", named(b"\xED\xA0\x80")),
        ("a client id with U+0000", named(b"a\0b")),
        ("flags of the fixed header", packet(0x11, good.body())),
        ("no client id", packet(0x10, &good.body()[..good.body().len() - 3])),
    ];
    if level != V31 {
        cases.push(("a user name is promised and does not come", with_flags(0x82)));
        cases.push((
            "a password is promised and does not come",
            Connect { flags: 0xC2, rest: field("u"), ..good.clone() }.bytes(),
        ));
    }
    if level != V5 {
        cases.push(("a password without a user name", good.clone().password("p").bytes()));
    }
    cases
}

#[test]
fn a_malformed_connect_is_refused_in_every_version() {
    for level in ALL {
        for (what, bytes) in malformed(level) {
            let mut rig = Rig::new();
            let client = rig.dial(&hello(level, "other"));
            rig.take(client);
            let client = rig.open();
            rig.send(client, &bytes);
            let answer = rig.take(client);
            assert!(rig.is_closed(client), "version {level}: {what}");
            if level == V5 {
                // 5.0 says why, 3.1.1 must not.
                assert!(matches!(answer[0].codes[..], [0x81 | 0x82 | 0x90]), "{what}: {answer:?}");
            } else {
                assert_eq!(answer, [], "version {level}: {what} [MQTT-3.1.4-1]");
            }
        }
    }
}

#[test]
fn a_connect_that_ends_early_is_refused_wherever_it_ends() {
    for level in ALL {
        let full = hello(level, "client").will("w", "gone", 1, true).user("me").password("pw").body();
        let mut rig = Rig::new();
        for len in 0..full.len() {
            // 3.1 lets the password, or both it and the user name, be left out.
            if level == V31 && (len == full.len() - 4 || len == full.len() - 8) {
                continue;
            }
            let (client, answer) = knock(&mut rig, packet(0x10, &full[..len]));
            assert!(rig.is_closed(client), "version {level}, {len} bytes of {}: {answer:?}", full.len());
        }
        let (client, answer) = knock(&mut rig, packet(0x10, [&full[..], &[0]].concat()));
        assert!(rig.is_closed(client), "a byte too many: {answer:?}");
    }
}

#[test]
fn properties_of_connect_must_be_as_the_standard_says() {
    let twice = |property: &[u8]| [property, property].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("session expiry twice", twice(&[0x11, 0, 0, 0, 1])),
        ("receive maximum twice", twice(&[0x21, 0, 1])),
        ("receive maximum 0", vec![0x21, 0, 0]),
        ("maximum packet size twice", twice(&[0x27, 0, 0, 1, 0])),
        ("maximum packet size 0", vec![0x27, 0, 0, 0, 0]),
        ("topic alias maximum twice", twice(&[0x22, 0, 1])),
        ("request response information 2", vec![0x19, 2]),
        ("request response information twice", twice(&[0x19, 1])),
        ("request problem information 2", vec![0x17, 2]),
        ("request problem information twice", twice(&[0x17, 1])),
        ("authentication data without a method", text(0x16, "x")),
        ("a property of PUBLISH", vec![0x01, 0]),
        ("a property of the will", vec![0x18, 0, 0, 0, 1]),
        ("a property of CONNACK", vec![0x24, 1]),
        ("no such property", vec![0x7F]),
        ("a property cut off", vec![0x11, 0, 0]),
        ("a user property whose name is not UTF-8", b"\x26\0\x01\xFF\0\x01a".to_vec()),
        ("a user property whose value has U+0000", b"\x26\0\x01a\0\x01\0".to_vec()),
    ];
    let mut rig = Rig::new();
    for (what, properties) in &cases {
        let answer = refused(&mut rig, &hello(V5, "c").property(properties));
        assert!(answer == ["connack 81"] || answer == ["connack 82"], "{what}: {answer:?}");
    }
    let will_cases: &[(&str, &[u8])] = &[
        ("will delay twice", &[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1]),
        ("payload format 2", &[0x01, 2]),
        ("a property of CONNECT", &[0x11, 0, 0, 0, 1]),
        ("a topic alias", &[0x23, 0, 1]),
        ("a response topic with a wildcard", b"\x08\0\x01#"),
        ("a content type that is not UTF-8", b"\x03\0\x01\xFF"),
    ];
    for (what, properties) in will_cases {
        let answer = refused(&mut rig, &hello(V5, "c").will_with(properties, "w", "x", 0, false));
        assert!(answer == ["connack 81"] || answer == ["connack 82"], "{what}: {answer:?}");
    }
    // A length of the properties in more bytes than it needs, and one that goes beyond the packet.
    for len in [&[0x80, 0x00][..], &[0x7F]] {
        let body = [&field("MQTT")[..], &[5, 2, 0, 0], len, &field("c")].concat();
        let (client, answer) = knock(&mut rig, packet(0x10, body));
        assert_eq!((rig.is_closed(client), answer), (true, vec!["connack 81".to_owned()]));
    }
}

#[test]
fn what_follows_a_refused_connect_is_not_looked_at() {
    for level in ALL {
        let mut rig = Rig::with("[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:1\"\nallow_anonymous = false");
        let rest = [publish("a", "x").retain().bytes(level), subscribe(level, 1, &[], &[("#", 0)])].concat();
        let client = rig.open();
        let bytes = [hello(level, "c").bytes(), rest].concat();
        rig.send(client, bytes);
        assert!(rig.is_closed(client));
        assert_eq!(rig.take(client).len(), 1, "one CONNACK and nothing else [MQTT-3.1.4-6]");
        assert_eq!(rig.stored_retained(), 0);
    }
}

#[test]
fn packets_that_follow_connect_at_once_are_handled_after_it() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.open();
        let rest = [subscribe(level, 1, &[], &[("a", 0)]), publish("a", "x").bytes(level), PINGREQ.to_vec()];
        rig.send(client, [hello(level, "c").bytes(), rest.concat()].concat());
        let sent = rig.read(client);
        assert_eq!(sent[0], "connack 00");
        for expected in ["suback 1 [00]", "a=x qos 0", "pingresp"] {
            assert!(sent.iter().any(|sent| sent == expected), "{expected} in {sent:?}");
        }
    }
}

#[test]
fn sessions_are_kept_and_resumed_as_the_client_asks() {
    for level in ALL {
        let mut rig = Rig::new();
        let (client, present) = rig.join(&resume(level, "c"));
        assert!(!present, "there was none");
        rig.subscribe(client, "a", 1);
        rig.lose(client);
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("a", "while away").qos(1, 1));
        assert_eq!(rig.read(other), ["puback 1 00"]);
        let (client, present) = rig.join(&resume(level, "c"));
        assert_eq!(present, level != V31, "session present is told from 3.1.1 on");
        assert_eq!(rig.read(client), ["a=while away qos 1"]);
        rig.lose(client);
        // Clean: what was there is gone, and what is made now does not stay.
        let (client, present) = rig.join(&hello(level, "c"));
        assert!(!present);
        assert_eq!(rig.read(client), Vec::<String>::new());
        rig.publish(other, &publish("a", "not for it").qos(1, 2));
        assert_eq!(rig.read(client), Vec::<String>::new(), "its subscriptions are gone");
        rig.subscribe(client, "a", 1);
        rig.lose(client);
        let (client, present) = rig.join(&resume(level, "c"));
        assert!(!present, "a clean session ends with its connection");
        rig.publish(other, &publish("a", "nor this").qos(1, 3));
        assert_eq!(rig.read(client), Vec::<String>::new());
    }
}

#[test]
fn who_was_told_that_the_session_is_new_does_not_get_the_old_one_after_a_power_cut() {
    for level in ALL {
        let mut rig = Rig::new();
        let begin = |rig: &mut Rig| {
            let client = rig.connect(&resume(level, "c"));
            rig.subscribe(client, "a", 1);
            rig.lose(client);
            rig.pass(WRITTEN);
        };
        begin(&mut rig);
        rig.store_hangs = true;
        let client = rig.dial(&hello(level, "c"));
        assert_eq!(rig.read(client), Vec::<String>::new(), "the end of the old session is not on the disk yet");
        rig.cut_power();
        let (_, present) = rig.join(&resume(level, "c"));
        assert_eq!(present, level != V31, "nobody was told that it ended");
        begin(&mut rig);
        rig.connect(&hello(level, "c"));
        rig.cut_power();
        let (client, present) = rig.join(&resume(level, "c"));
        assert!(!present);
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("a", "x").qos(1, 1));
        assert_eq!(rig.read(client), Vec::<String>::new());
    }
}

#[test]
fn sessions_belong_to_their_client_id_and_to_nobody_else() {
    for level in ALL {
        let mut rig = Rig::new();
        for id in ["one", "One", "one "] {
            let client = rig.connect(&resume(level, id));
            rig.subscribe(client, &format!("to/{id}"), 1);
            rig.lose(client);
        }
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("to/One", "x").qos(1, 1));
        for (id, expected) in [("one", vec![]), ("One", vec!["to/One=x qos 1"]), ("one ", vec![])] {
            let client = rig.connect(&resume(level, id));
            assert_eq!(rig.read(client), expected, "{id}");
        }
    }
}

#[test]
fn a_session_outlives_its_connection_as_long_as_it_asked() {
    let mut rig = Rig::new();
    let with = |secs| hello(V5, "c").expiry(secs);
    let back = |secs| Connect { flags: 0, ..with(secs) };
    for (expiry, away, kept) in [(0, 0, false), (10, 8, true), (10, 12, false), (u32::MAX, 86_400, true)] {
        let client = rig.connect(&with(expiry));
        rig.lose(client);
        rig.pass_secs(away);
        let (client, present) = rig.join(&back(0));
        assert_eq!(present, kept, "expiry {expiry}, away {away}");
        rig.lose(client);
    }
    // Without the property it ends at once; as long as the connection is open it does not.
    let client = rig.connect(&hello(V5, "c"));
    rig.lose(client);
    assert!(!rig.join(&back(10)).1);
    let client = rig.connect(&with(10));
    rig.subscribe(client, "a", 0);
    rig.pass_secs(1000);
    rig.publish(client, &publish("a", "x"));
    assert_eq!(rig.read(client), ["a=x qos 0"]);
}

#[test]
fn disconnect_may_change_how_long_the_session_stays() {
    let mut rig = Rig::new();
    let client = rig.connect(&hello(V5, "c").expiry(1000));
    rig.send(client, packet(0xE0, b"\0\x05\x11\0\0\0\x0A"));
    assert!(rig.is_closed(client));
    rig.pass_secs(12);
    let (client, present) = rig.join(&resume(V5, "c"));
    assert!(!present);
    rig.send(client, packet(0xE0, b"\0\x05\x11\0\0\0\0"));
    assert!(!rig.join(&resume(V5, "c")).1, "zero: at once");
    // From zero there is no way back (section 3.14.2.2.2).
    let client = rig.connect(&hello(V5, "d"));
    assert_eq!(rig.ask(client, packet(0xE0, b"\0\x05\x11\0\0\0\x0A")), ["disconnect 82"]);
    assert!(rig.is_closed(client));
}

#[test]
fn client_ids_of_up_to_23_letters_and_digits_are_taken_and_longer_ones_too() {
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for level in ALL {
        let mut rig = Rig::new();
        for at in 0..letters.len() {
            let id: String = letters.chars().cycle().skip(at).take(1 + at % 23).collect();
            rig.connect(&hello(level, &id));
        }
        rig.connect(&hello(level, &letters.repeat(3)));
        rig.connect(&hello(level, "straße/日本 +#$"));
    }
}

#[test]
fn a_client_without_an_id_is_given_one_or_refused() {
    let mut rig = Rig::new();
    let mut assigned = Vec::new();
    for _ in 0..3 {
        let client = rig.dial(&hello(V5, "").expiry(100));
        let connack = rig.one(client);
        assert_eq!(connack.text(), "connack 00");
        assigned.push(String::from_utf8(connack.property(0x12).unwrap().to_vec()).unwrap());
        rig.lose(client);
    }
    assert!(assigned[0] != assigned[1] && assigned[1] != assigned[2] && assigned[0] != assigned[2]);
    let (_, present) = rig.join(&Connect { flags: 0, ..hello(V5, &assigned[1]) });
    assert!(present, "as if the client had said it itself [MQTT-3.1.3-7]");
    let client = rig.dial(&hello(V5, "named"));
    assert_eq!(rig.one(client).property(0x12), None, "only for those that have none");
    // 3.1.1: only with a clean session. 3.1: never.
    let (one, two) = (rig.connect(&hello(V311, "")), rig.connect(&hello(V311, "")));
    assert!(!rig.is_closed(one) && !rig.is_closed(two), "each has its own");
    assert_eq!(refused(&mut rig, &resume(V311, "")), ["connack 02"]);
    assert_eq!(refused(&mut rig, &hello(V31, "")), ["connack 02"]);
}

#[test]
fn a_client_id_that_is_too_long_is_refused_as_such() {
    let long = "x".repeat(65_000);
    let mut rig = Rig::new();
    assert_eq!(refused(&mut rig, &hello(V311, &long)), ["connack 02"]);
    assert_eq!(refused(&mut rig, &hello(V5, &long)), ["connack 85"]);
}

#[test]
fn the_same_client_elsewhere_ends_the_old_connection() {
    for level in ALL {
        let mut rig = Rig::new();
        let old = rig.connect(&resume(level, "c"));
        rig.subscribe(old, "a", 1);
        let (new, present) = rig.join(&resume(level, "c"));
        assert!(rig.is_closed(old));
        assert_eq!(rig.read(old), if level == V5 { vec!["disconnect 8E"] } else { vec![] });
        assert_eq!(present, level != V31);
        rig.publish(new, &publish("a", "x"));
        assert_eq!(rig.read(new), ["a=x qos 0"]);
        // Versions meet in one session.
        let (newest, _) = rig.join(&hello(if level == V5 { V311 } else { V5 }, "c"));
        assert!(rig.is_closed(new) && !rig.is_closed(newest));
    }
}

#[test]
fn connack_says_what_the_server_takes() {
    let mut rig = Rig::with("[broker]\nreceive_maximum = 7\nmax_packet_bytes = \"2KiB\"\ntopic_alias_maximum = 3");
    let client = rig.dial(&hello(V5, "c"));
    let connack = rig.one(client);
    assert_eq!([0x21, 0x27, 0x22].map(|id| connack.number(id)), [Some(7), Some(2048), Some(3)]);
    // Everything is supported, and absent means so: QoS 2, retain, wildcards, identifiers, shared subscriptions.
    for id in [0x24, 0x25, 0x28, 0x29, 0x2A] {
        assert!(connack.number(id).is_none_or(|value| value == 1 && id != 0x24), "property {id:#04X}");
    }
    assert_eq!((connack.property(0x1A), connack.property(0x15)), (None, None), "nobody asked");
}

#[test]
fn a_session_expiry_or_keep_alive_that_is_not_granted_is_told() {
    let mut rig = Rig::with("[broker]\nmax_session_expiry = \"100s\"\nmax_keepalive = \"20s\"");
    let client = rig.dial(&hello(V5, "c").expiry(1000).keep_alive(60));
    let connack = rig.one(client);
    assert_eq!([0x11, 0x13].map(|id| connack.number(id)), [Some(100), Some(20)]);
    rig.pass_secs(29);
    assert!(!rig.is_closed(client));
    rig.pass_secs(2);
    assert_eq!(rig.read(client), ["disconnect 8D"]);
    rig.pass_secs(102);
    assert!(!rig.join(&resume(V5, "c")).1);
    // What the client asked for within the limits stays as it is, and need not be said [MQTT-3.2.2-22].
    let client = rig.dial(&hello(V5, "d").expiry(50).keep_alive(10));
    let connack = rig.one(client);
    assert_eq!([0x11, 0x13].map(|id| connack.number(id)), [None, None]);
    rig.pass_secs(16);
    assert!(rig.is_closed(client));
}

#[test]
fn a_silent_client_is_closed_after_one_and_a_half_keep_alives_and_its_will_goes_out() {
    for level in ALL {
        let mut rig = Rig::new();
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "will", 0);
        let client = rig.connect(&hello(level, "c").keep_alive(10).will("will", "gone", 0, false));
        for bytes in [PINGREQ.to_vec(), publish("a", "x").bytes(level), subscribe(level, 1, &[], &[("b", 0)])] {
            rig.pass_secs(14);
            rig.send(client, bytes);
            assert!(!rig.is_closed(client), "any packet is a sign of life");
        }
        rig.take(client);
        // Half a packet is none.
        rig.pass_secs(10);
        rig.send(client, [0xC0]);
        rig.pass_secs(6);
        assert!(rig.is_closed(client));
        assert_eq!(rig.read(client), if level == V5 { vec!["disconnect 8D"] } else { vec![] });
        assert_eq!(rig.read(watch), ["will=gone qos 0"]);
    }
}

#[test]
fn keep_alive_0_means_that_silence_is_welcome() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&hello(level, "c"));
        rig.pass_secs(1_000_000);
        assert_eq!(rig.ask(client, PINGREQ), ["pingresp"]);
    }
}

#[test]
fn a_user_name_and_password_are_read_where_the_flags_say_so() {
    for level in ALL {
        let mut rig = Rig::new();
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "w/#", 0);
        // Order: client id, will, user name, password. Were one read for another, the will would tell.
        let full = hello(level, "c").will("w/t", "message", 0, false).user("name").password("secret");
        let client = rig.connect(&full);
        rig.lose(client);
        assert_eq!(rig.read(watch), ["w/t=message qos 0"]);
        rig.connect(&hello(level, "d").user("name"));
        if level == V5 {
            rig.connect(&hello(level, "e").password("secret"));
        }
    }
}

#[test]
fn only_one_connack_comes_and_it_comes_first() {
    // The rig watches every connection of every test for this; here, where something else waits to be sent.
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&resume(level, "c"));
        rig.subscribe(client, "a", 1);
        rig.lose(client);
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("a", "1").qos(1, 1));
        rig.publish(other, &publish("a", "2").qos(1, 2));
        let client = rig.dial(&resume(level, "c"));
        let sent = rig.read(client);
        assert!(sent[0].starts_with("connack 00"));
        assert_eq!(sent[1..], ["a=1 qos 1", "a=2 qos 1"]);
    }
}

#[test]
fn a_will_that_cannot_be_published_is_refused_in_the_words_of_the_version() {
    for topic in ["$SYS/broker/uptime", &"a/".repeat(100)] {
        for level in ALL {
            let mut rig = Rig::new();
            let answer = refused(&mut rig, &hello(level, "c").will(topic, "x", 0, false));
            if level == V5 {
                assert_eq!(answer, ["connack 90"]);
            } else {
                assert_eq!(answer, Vec::<String>::new(), "no return code says so [MQTT-3.2.2-6]");
            }
        }
    }
}
