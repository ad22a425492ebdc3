//! PUBLISH from a client, and the server as receiver: sections 3.3 and 4.3 of both standards.

use crate::rig::{Client, Rig};
use crate::wire::{ALL, Publish, V5, V311, hello, packet, pair, publish, pubrel, resume, subscribe, text};

/// Somebody who sees everything, and a publisher.
fn watched(level: u8) -> (Rig, Client, Client) {
    let mut rig = Rig::new();
    let watch = rig.connect(&hello(level, "watch").receive_max_if_5(1000));
    rig.subscribe(watch, "#", 2);
    let client = rig.connect(&resume(level, "pub"));
    (rig, watch, client)
}

impl crate::wire::Connect {
    fn receive_max_if_5(self, count: u16) -> Self {
        if self.level == V5 { self.receive_maximum(count) } else { self }
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn each_level_gets_its_answer() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        rig.publish(client, &publish("t", "0"));
        assert_eq!(rig.read(client), NOTHING);
        rig.publish(client, &publish("t", "1").qos(1, 11));
        assert_eq!(rig.read(client), ["puback 11 00"]);
        rig.publish(client, &publish("t", "2").qos(2, 12));
        assert_eq!(rig.read(client), ["pubrec 12 00"]);
        assert_eq!(rig.ask(client, pubrel(12)), ["pubcomp 12 00"]);
        assert_eq!(rig.read(watch), ["t=0 qos 0", "t=1 qos 1", "t=2 qos 2"]);
    }
}

#[test]
fn acknowledgements_come_when_the_message_is_safe_and_in_order() {
    for level in ALL {
        let (mut rig, _, client) = watched(level);
        let stored = rig.connect(&resume(level, "stored"));
        rig.subscribe(stored, "t", 2);
        rig.lose(stored);
        rig.store_hangs = true;
        rig.publish(client, &publish("t", "1").qos(1, 1));
        rig.publish(client, &publish("t", "2").qos(2, 2));
        rig.publish(client, &publish("t", "3").qos(1, 3));
        assert_eq!(rig.read(client), NOTHING, "the server has no ownership yet");
        rig.store_answers();
        assert_eq!(rig.read(client), ["puback 1 00", "pubrec 2 00", "puback 3 00"]);
    }
}

#[test]
fn after_puback_the_same_identifier_is_a_new_message() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        rig.publish(client, &publish("t", "x").qos(1, 5));
        rig.publish(client, &publish("t", "x").qos(1, 5).dup());
        assert_eq!(rig.read(client), ["puback 5 00", "puback 5 00"]);
        assert_eq!(rig.read(watch), ["t=x qos 1", "t=x qos 1"], "whatever its DUP flag says");
    }
}

#[test]
fn before_pubrel_the_same_identifier_is_the_same_message() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        rig.publish(client, &publish("t", "x").qos(2, 5));
        rig.publish(client, &publish("t", "x").qos(2, 5).dup());
        rig.lose(client);
        let client = rig.connect(&resume(level, "pub"));
        rig.publish(client, &publish("t", "x").qos(2, 5).dup());
        assert_eq!(rig.read(client), ["pubrec 5 00"]);
        assert_eq!(rig.read(watch), ["t=x qos 2"], "once, also over two connections");
        assert_eq!(rig.ask(client, pubrel(5)), ["pubcomp 5 00"]);
        // After PUBCOMP it is a new one.
        rig.publish(client, &publish("t", "y").qos(2, 5));
        assert_eq!(rig.read(client), ["pubrec 5 00"]);
        assert_eq!(rig.read(watch), ["t=y qos 2"]);
    }
}

#[test]
fn qos_2_is_once_through_a_power_cut_too() {
    for level in ALL {
        let (mut rig, _, client) = watched(level);
        let stored = rig.connect(&resume(level, "stored"));
        rig.subscribe(stored, "t", 2);
        rig.lose(stored);
        rig.publish(client, &publish("t", "x").qos(2, 5));
        assert_eq!(rig.read(client), ["pubrec 5 00"]);
        rig.restart();
        let client = rig.connect(&resume(level, "pub"));
        rig.publish(client, &publish("t", "x").qos(2, 5).dup());
        assert_eq!(rig.read(client), ["pubrec 5 00"]);
        assert_eq!(rig.ask(client, pubrel(5)), ["pubcomp 5 00"]);
        let stored = rig.connect(&resume(level, "stored"));
        assert_eq!(rig.read(stored), ["t=x qos 2"]);
    }
}

#[test]
fn a_new_session_knows_nothing_of_the_old_ones_identifiers() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        rig.publish(client, &publish("t", "x").qos(2, 5));
        rig.lose(client);
        let client = rig.connect(&hello(level, "pub"));
        rig.publish(client, &publish("t", "y").qos(2, 5));
        assert_eq!(rig.read(client), ["pubrec 5 00"]);
        assert_eq!(rig.read(watch), ["t=x qos 2", "t=y qos 2"]);
    }
}

#[test]
fn pubrel_is_answered_even_for_an_identifier_that_nobody_knows() {
    for level in ALL {
        let (mut rig, _, client) = watched(level);
        let code = if level == V5 { "92" } else { "00" };
        assert_eq!(rig.ask(client, pubrel(99)), [format!("pubcomp 99 {code}")]);
        assert!(!rig.is_closed(client));
    }
}

#[test]
fn nobody_to_hear_it_is_told_in_5() {
    let mut rig = Rig::new();
    let client = rig.connect(&hello(V5, "c"));
    rig.publish(client, &publish("nobody", "x").qos(1, 1));
    rig.publish(client, &publish("nobody", "x").qos(2, 2));
    assert_eq!(rig.read(client), ["puback 1 10", "pubrec 2 10"]);
    assert_eq!(rig.ask(client, pubrel(2)), ["pubcomp 2 00"], "the exchange goes on");
    let old = rig.connect(&hello(V311, "old"));
    rig.publish(old, &publish("nobody", "x").qos(1, 1));
    assert_eq!(rig.read(old), ["puback 1 00"]);
}

#[test]
fn a_publish_that_no_client_may_send_ends_the_connection() {
    let all: &[(&str, &[u8])] = &[
        ("QoS 3", b"\x36\x05\0\x01a\0\x01"),
        ("DUP at QoS 0", b"\x38\x04\0\x01ax"),
        ("packet identifier 0", b"\x32\x05\0\x01a\0\0"),
        ("no packet identifier", b"\x32\x03\0\x01a"),
        ("no topic", b"\x30\x00"),
        ("half a topic", b"\x30\x03\0\x05a"),
        ("an empty topic", b"\x30\x02\0\0"),
        ("a topic with +", b"\x30\x05\0\x03a/+"),
        ("a topic with #", b"\x30\x03\0\x01#"),
        ("a topic with # inside a level", b"\x30\x04\0\x02a#"),
        ("a topic with U+0000", b"\x30\x05\0\x03a\0b"),
        ("a topic that is not UTF-8", b"\x30\x04\0\x02\xC3\x28"),
        ("a topic with a surrogate", b"\x30\x05\0\x03\xED\xBF\xBF"),
    ];
    for level in ALL {
        for (what, bytes) in all {
            let (mut rig, watch, client) = watched(level);
            // 5.0 has properties between identifier and payload: none.
            let bytes = if level == V5 { packet(bytes[0], [&bytes[2..], &[0]].concat()) } else { bytes.to_vec() };
            let answer = rig.ask(client, bytes);
            assert!(rig.is_closed(client), "version {level}: {what}");
            assert_eq!(answer.len(), usize::from(level == V5), "{what}: {answer:?}");
            assert!(
                answer
                    .iter()
                    .all(|sent| { ["disconnect 81", "disconnect 82", "disconnect 90"].contains(&sent.as_str()) })
            );
            assert_eq!(rig.read(watch), NOTHING, "{what}");
        }
    }
}

#[test]
fn properties_of_publish_must_be_as_the_standard_says() {
    let twice = |property: &[u8]| [property, property].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("payload format 2", vec![0x01, 2], &["disconnect 81", "disconnect 82"]),
        ("payload format twice", twice(&[0x01, 1]), &["disconnect 82"]),
        ("message expiry twice", twice(&[0x02, 0, 0, 0, 1]), &["disconnect 82"]),
        ("topic alias twice", twice(&[0x23, 0, 1]), &["disconnect 82"]),
        ("response topic twice", twice(&text(0x08, "r")), &["disconnect 82"]),
        ("correlation data twice", twice(&text(0x09, "r")), &["disconnect 82"]),
        ("content type twice", twice(&text(0x03, "r")), &["disconnect 82"]),
        ("a response topic with a wildcard", text(0x08, "a/+"), &["disconnect 82", "disconnect 90"]),
        ("a response topic that is not UTF-8", text(0x08, [0xFF]), &["disconnect 81"]),
        ("a response topic with U+0000", text(0x08, [0]), &["disconnect 81"]),
        ("a content type that is not UTF-8", text(0x03, [0xC0, 0x80]), &["disconnect 81"]),
        ("a user property that is not UTF-8", b"\x26\0\x01\xFF\0\0".to_vec(), &["disconnect 81"]),
        ("a subscription identifier", vec![0x0B, 1], &["disconnect 82"]),
        ("topic alias 0", vec![0x23, 0, 0], &["disconnect 94"]),
        ("a topic alias above the maximum", vec![0x23, 0, 17], &["disconnect 94"]),
        ("a property of CONNECT", vec![0x21, 0, 1], &["disconnect 81", "disconnect 82"]),
        ("no such property", vec![0x04], &["disconnect 81"]),
        ("a property cut off", vec![0x02, 0, 0], &["disconnect 81"]),
    ];
    for (what, properties, expected) in cases {
        for (qos, pkid) in [(0, 0), (1, 1)] {
            let (mut rig, watch, client) = watched(V5);
            rig.publish(client, &publish("t", "x").qos(qos, pkid).property(&properties));
            let answer = rig.read(client);
            assert!(answer.len() == 1 && expected.contains(&answer[0].as_str()), "{what}: {answer:?}");
            assert!(rig.is_closed(client));
            assert_eq!(rig.read(watch), NOTHING, "{what}");
        }
    }
    // The property length: in more bytes than it needs, in more than four, and beyond the packet.
    for len in [&[0x80, 0x00][..], &[0x80, 0x80, 0x80, 0x80, 0x01], &[0x7F]] {
        let (mut rig, _, client) = watched(V5);
        let answer = rig.ask(client, packet(0x30, [&b"\0\x01t"[..], len, b"payload"].concat()));
        assert_eq!((answer, rig.is_closed(client)), (vec!["disconnect 81".to_owned()], true));
    }
}

#[test]
fn what_belongs_to_the_message_is_passed_on_unaltered() {
    let (mut rig, watch, client) = watched(V5);
    let pairs = [pair("b", "1"), pair("a", ""), pair("b", "2"), pair("b", "1")];
    let properties = [
        vec![0x01, 1],
        text(0x03, "application/x;\u{FEFF}"),
        text(0x08, "answer/to/Ärger"),
        text(0x09, [0, 1, 254, 255]),
        pairs.concat(),
    ];
    for (qos, pkid) in [(0, 0), (1, 1), (2, 2)] {
        rig.publish(client, &publish("t", "grüße").qos(qos, pkid).property(&properties.concat()));
        let sent = rig.one(watch);
        assert_eq!(sent.text(), format!("t=grüße qos {qos}"));
        assert_eq!(sent.number(0x01), Some(1));
        assert_eq!(sent.property(0x03), Some("application/x;\u{FEFF}".as_bytes()));
        assert_eq!(sent.property(0x08), Some("answer/to/Ärger".as_bytes()));
        assert_eq!(sent.property(0x09), Some(&[0, 1, 254, 255][..]));
        assert_eq!(sent.all(0x26), pairs.clone().map(|pair| pair[1..].to_vec()), "and in their order");
        assert_eq!(sent.properties.len(), 8, "nothing was added: {sent:?}");
    }
}

#[test]
fn payloads_of_any_bytes_and_none_are_passed_on() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        let payloads: [Vec<u8>; 4] = [vec![], vec![0; 10], (0..=255).collect(), vec![0xFF; 100_000]];
        for payload in payloads {
            rig.publish(client, &Publish { payload: payload.clone(), ..publish("t", "") });
            assert!(rig.one(watch).payload == payload, "{} bytes", payload.len());
        }
    }
}

#[test]
fn an_alias_stands_for_its_topic_until_it_is_given_another() {
    let (mut rig, watch, client) = watched(V5);
    let alias = |topic: &str, payload: &str, alias: u8| publish(topic, payload).property(&[0x23, 0, alias]);
    // Every alias up to the maximum that CONNACK told.
    for number in 1..=16 {
        rig.publish(client, &alias(&format!("t/{number}"), "named", number));
        rig.publish(client, &alias("", "alias", number));
        assert_eq!(rig.read(watch), [format!("t/{number}=named qos 0"), format!("t/{number}=alias qos 0")]);
    }
    rig.publish(client, &alias("other", "named", 3));
    rig.publish(client, &alias("", "alias", 3));
    assert_eq!(rig.read(watch), ["other=named qos 0", "other=alias qos 0"]);
    rig.publish(client, &alias("", "at QoS 1", 2).qos(1, 1));
    let sent = rig.one(watch);
    assert_eq!(
        (sent.text(), sent.property(0x23)),
        ("t/2=at QoS 1 qos 1".to_owned(), None),
        "an alias is one link's"
    );
    // Another connection does not know them, of another client or of the same.
    rig.lose(client);
    let client = rig.connect(&resume(V5, "pub"));
    rig.publish(client, &alias("", "x", 2));
    assert_eq!(rig.read(client), ["disconnect 82"]);
    assert!(rig.is_closed(client));
}

#[test]
fn a_server_without_aliases_takes_none() {
    let mut rig = Rig::with("[broker]\ntopic_alias_maximum = 0");
    let client = rig.connect(&hello(V5, "c"));
    rig.publish(client, &publish("t", "x").property(&[0x23, 0, 1]));
    assert_eq!(rig.read(client), ["disconnect 94"]);
    assert!(rig.is_closed(client));
}

#[test]
fn more_unfinished_messages_than_receive_maximum_end_the_connection() {
    let mut rig = Rig::with("[broker]\nreceive_maximum = 3");
    let client = rig.connect(&hello(V5, "c"));
    for pkid in 1..=3 {
        rig.publish(client, &publish("t", "x").qos(2, pkid));
    }
    assert_eq!(rig.read(client).len(), 3);
    // What is not a new message goes on.
    rig.publish(client, &publish("t", "x").qos(2, 3).dup());
    rig.publish(client, &publish("t", "x"));
    rig.send(client, subscribe(V5, 9, &[], &[("a", 0)]));
    assert_eq!(rig.read(client), ["pubrec 3 00", "suback 9 [00]"]);
    assert_eq!(rig.ask(client, pubrel(1)), ["pubcomp 1 00"]);
    rig.publish(client, &publish("t", "x").qos(1, 1));
    assert_eq!(rig.read(client), ["puback 1 10"], "there is room again");
    rig.publish(client, &publish("t", "x").qos(2, 4));
    rig.publish(client, &publish("t", "x").qos(2, 5));
    assert_eq!(rig.read(client), ["pubrec 4 10", "disconnect 93"]);
    assert!(rig.is_closed(client));
}

#[test]
fn a_packet_larger_than_the_server_takes_ends_the_connection() {
    for level in ALL {
        let mut rig = Rig::with("[broker]\nmax_packet_bytes = \"1KiB\"");
        let client = rig.connect(&hello(level, "c"));
        // Larger by one byte: told as soon as its length is known.
        rig.publish(client, &Publish { payload: vec![0; 1000], ..publish("t", "") });
        assert!(!rig.is_closed(client));
        let answer = rig.ask(client, [0x30, 0xFE, 0x07]);
        assert!(rig.is_closed(client));
        assert_eq!(answer, if level == V5 { vec!["disconnect 95"] } else { vec![] });
    }
}

#[test]
fn a_publish_that_is_not_authorised_is_acknowledged_in_3_1_1_and_refused_in_5() {
    for level in ALL {
        let (mut rig, watch, client) = watched(level);
        rig.publish(client, &publish("$SYS/broker/version", "mine").qos(1, 1));
        assert_eq!(rig.read(client), [if level == V5 { "puback 1 87" } else { "puback 1 00" }]);
        assert_eq!(rig.read(watch), NOTHING);
    }
}

#[test]
fn after_a_refusal_the_same_identifier_is_a_new_message() {
    let (mut rig, watch, client) = watched(V5);
    rig.publish(client, &publish("$SYS/mine", "x").qos(2, 5));
    assert_eq!(rig.read(client), ["pubrec 5 87"]);
    rig.publish(client, &publish("t", "y").qos(2, 5));
    assert_eq!(rig.read(client), ["pubrec 5 00"]);
    assert_eq!(rig.read(watch), ["t=y qos 2"]);
    assert_eq!(rig.ask(client, pubrel(5)), ["pubcomp 5 00"]);
}

#[test]
fn an_exchange_goes_on_though_its_message_expired() {
    let (mut rig, _, client) = watched(V5);
    let away = rig.connect(&resume(V5, "away"));
    rig.subscribe(away, "t", 2);
    rig.lose(away);
    rig.publish(client, &publish("t", "x").qos(2, 5).property(&[0x02, 0, 0, 0, 1]));
    assert_eq!(rig.read(client), ["pubrec 5 00"]);
    rig.pass_secs(100);
    rig.publish(client, &publish("t", "x").qos(2, 5).dup().property(&[0x02, 0, 0, 0, 1]));
    assert_eq!(rig.read(client), ["pubrec 5 00"]);
    assert_eq!(rig.ask(client, pubrel(5)), ["pubcomp 5 00"]);
    let away = rig.connect(&resume(V5, "away"));
    assert_eq!(rig.read(away), NOTHING);
}
