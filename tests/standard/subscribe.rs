//! SUBSCRIBE, UNSUBSCRIBE and their answers: sections 3.8 to 3.11 of both standards.

use crate::rig::{Client, Rig};
use crate::wire::{
    ALL, V5, V311, hello, packet, pair, puback, pubcomp, publish, pubrec, resume, subscribe, unsubscribe,
};

fn client(level: u8) -> (Rig, Client) {
    let mut rig = Rig::new();
    let client = rig.connect(&hello(level, "c"));
    (rig, client)
}

const NOTHING: [&str; 0] = [];

#[test]
fn suback_answers_each_filter_in_order_under_the_same_identifier() {
    for level in ALL {
        let (mut rig, client) = client(level);
        let filters = [("a", 2), ("b/#", 0), ("c/+", 1), ("a", 0)];
        assert_eq!(rig.ask(client, subscribe(level, 513, &[], &filters)), ["suback 513 [02 00 01 00]"]);
        // As if they had come one by one: the last of two that are the same counts.
        rig.publish(client, &publish("a", "x").qos(1, 1));
        assert_eq!(rig.read(client).iter().filter(|sent| *sent == "a=x qos 0").count(), 1);
    }
}

#[test]
fn a_filter_that_is_refused_has_its_own_code_and_does_not_harm_the_others() {
    let deep = "a/".repeat(100);
    for level in ALL {
        let (mut rig, client) = client(level);
        let answer = rig.ask(client, subscribe(level, 1, &[], &[("a", 1), (&deep, 1), ("b", 2)]));
        assert_eq!(answer, [if level == V5 { "suback 1 [01 8F 02]" } else { "suback 1 [01 80 02]" }]);
        rig.publish(client, &publish("b", "x"));
        assert_eq!(rig.read(client), ["b=x qos 0"]);
    }
}

#[test]
fn messages_come_at_the_lower_of_both_levels() {
    for level in ALL {
        for granted in 0..=2 {
            let (mut rig, client) = client(level);
            let other = rig.connect(&hello(level, "pub"));
            rig.subscribe(client, "t", granted);
            for (qos, pkid) in [(0, 0), (1, 1), (2, 2)] {
                rig.publish(other, &publish("t", "x").qos(qos, pkid));
                assert_eq!(rig.read(client), [format!("t=x qos {}", granted.min(qos))]);
            }
        }
    }
}

#[test]
fn a_second_subscription_with_the_same_filter_replaces_the_first() {
    for level in ALL {
        let (mut rig, client) = client(level);
        let other = rig.connect(&hello(level, "pub"));
        for granted in [2, 0, 1] {
            rig.subscribe(client, "t", granted);
            rig.publish(other, &publish("t", "x").qos(2, 1));
            rig.send(other, packet(0x62, [0, 1]));
            assert_eq!(rig.read(client), [format!("t=x qos {granted}")], "once, at the new level");
        }
        assert_eq!(rig.ask(client, unsubscribe(level, 2, &["t"])).len(), 1);
        rig.publish(other, &publish("t", "x"));
        assert_eq!(rig.read(client), NOTHING, "nothing of it is left");
    }
}

#[test]
fn replacing_a_subscription_loses_nothing() {
    for level in ALL {
        let (mut rig, client) = client(level);
        let other = rig.connect(&hello(level, "pub"));
        rig.subscribe(client, "t", 1);
        let mut received = Vec::new();
        for number in 1..=20 {
            rig.publish(other, &publish("t", &number.to_string()).qos(1, number));
            rig.send(client, subscribe(level, 9, &[], &[("t", 1)]));
            received.extend(rig.take(client).into_iter().filter(|sent| sent.name == "publish"));
        }
        assert_eq!(received.len(), 20);
    }
}

#[test]
fn a_subscribe_that_no_client_may_send_ends_the_connection() {
    let all: &[(&str, u8, &[u8])] = &[
        ("flags 0", 0x80, b"\0\x01|\0\x01a\0"),
        ("flags 1", 0x81, b"\0\x01|\0\x01a\0"),
        ("flags 6", 0x86, b"\0\x01|\0\x01a\0"),
        ("flags 15", 0x8F, b"\0\x01|\0\x01a\0"),
        ("packet identifier 0", 0x82, b"\0\0|\0\x01a\0"),
        ("no filter", 0x82, b"\0\x01|"),
        ("no options", 0x82, b"\0\x01|\0\x01a"),
        ("half a filter", 0x82, b"\0\x01|\0\x09a\0"),
        ("an empty filter", 0x82, b"\0\x01|\0\0\0"),
        ("QoS 3", 0x82, b"\0\x01|\0\x01a\x03"),
        ("reserved bit 6", 0x82, b"\0\x01|\0\x01a\x40"),
        ("reserved bit 7", 0x82, b"\0\x01|\0\x01a\x80"),
        ("a filter with U+0000", 0x82, b"\0\x01|\0\x03a\0b\0"),
        ("a filter that is not UTF-8", 0x82, b"\0\x01|\0\x01\xFF\0"),
        ("# before the end", 0x82, b"\0\x01|\0\x03#/a\0"),
        ("# inside a level", 0x82, b"\0\x01|\0\x02a#\0"),
        ("+ inside a level", 0x82, b"\0\x01|\0\x04a/b+\0"),
        ("the second of two is wrong", 0x82, b"\0\x01|\0\x01a\0\0\x01b\x43"),
    ];
    for level in ALL {
        for (what, header, body) in all {
            let (mut rig, client) = client(level);
            let at = body.iter().position(|byte| *byte == b'|').unwrap();
            let properties: &[u8] = if level == V5 { &[0] } else { &[] };
            let answer = rig.ask(client, packet(*header, [&body[..at], properties, &body[at + 1..]].concat()));
            assert!(rig.is_closed(client), "version {level}: {what}");
            assert_eq!(answer.len(), usize::from(level == V5), "{what}: {answer:?}");
            assert!(
                answer
                    .iter()
                    .all(|sent| { ["disconnect 81", "disconnect 82", "disconnect 8F"].contains(&sent.as_str()) }),
                "{what}: {answer:?}"
            );
        }
    }
    // Options that only 5.0 knows.
    for options in [0x04, 0x08, 0x10, 0x20] {
        let (mut rig, client) = client(V311);
        assert_eq!(rig.ask(client, subscribe(V311, 1, &[], &[("a", options)])), NOTHING);
        assert!(rig.is_closed(client), "options {options:#04X} in 3.1.1");
    }
    let (mut rig, client) = client(V5);
    assert_eq!(rig.ask(client, subscribe(V5, 1, &[], &[("a", 0x30)])), ["disconnect 82"], "retain handling 3");
    assert!(rig.is_closed(client));
}

#[test]
fn properties_of_subscribe_and_unsubscribe_must_be_as_the_standard_says() {
    let cases: &[(&str, &[u8])] = &[
        ("identifier 0", &[0x0B, 0]),
        ("identifier twice", &[0x0B, 1, 0x0B, 2]),
        ("identifier of five bytes", &[0x0B, 0x80, 0x80, 0x80, 0x80, 1]),
        ("a property of PUBLISH", &[0x01, 1]),
        ("no such property", &[0x7E]),
        ("a user property cut off", b"\x26\0\x01a\0"),
    ];
    for (what, properties) in cases {
        let (mut rig, client) = client(V5);
        let answer = rig.ask(client, subscribe(V5, 1, properties, &[("a", 0)]));
        assert!(answer == ["disconnect 81"] || answer == ["disconnect 82"], "{what}: {answer:?}");
        assert!(rig.is_closed(client));
    }
    let (mut rig, client) = client(V5);
    let answer = rig.ask(client, packet(0xA2, b"\0\x01\x02\x0B\x01\0\x01a"));
    assert!(answer == ["disconnect 81"] || answer == ["disconnect 82"], "an identifier in UNSUBSCRIBE: {answer:?}");
    // User properties are welcome, and the largest identifier there is.
    let client = rig.connect(&hello(V5, "d"));
    let properties = [pair("a", "b"), pair("a", "b"), vec![0x0B, 0xFF, 0xFF, 0xFF, 0x7F]].concat();
    assert_eq!(rig.ask(client, subscribe(V5, 1, &properties, &[("a", 0)])), ["suback 1 [00]"]);
    rig.publish(client, &publish("a", "x"));
    assert_eq!(rig.one(client).all(0x0B), [[0xFF, 0xFF, 0xFF, 0x7F]]);
}

#[test]
fn an_unsubscribe_that_no_client_may_send_ends_the_connection() {
    let all: &[(&str, u8, &[u8])] = &[
        ("flags 0", 0xA0, b"\0\x01|\0\x01a"),
        ("flags 3", 0xA3, b"\0\x01|\0\x01a"),
        ("flags 15", 0xAF, b"\0\x01|\0\x01a"),
        ("packet identifier 0", 0xA2, b"\0\0|\0\x01a"),
        ("no filter", 0xA2, b"\0\x01|"),
        ("half a filter", 0xA2, b"\0\x01|\0\x02a"),
        ("a filter that is not UTF-8", 0xA2, b"\0\x01|\0\x01\xFF"),
        ("a filter with U+0000", 0xA2, b"\0\x01|\0\x01\0"),
        ("half of a second filter", 0xA2, b"\0\x01|\0\x01a\0"),
    ];
    for level in ALL {
        for (what, header, body) in all {
            let (mut rig, client) = client(level);
            let at = body.iter().position(|byte| *byte == b'|').unwrap();
            let properties: &[u8] = if level == V5 { &[0] } else { &[] };
            let answer = rig.ask(client, packet(*header, [&body[..at], properties, &body[at + 1..]].concat()));
            assert!(rig.is_closed(client), "version {level}: {what}");
            assert!(
                level != V5 || answer == ["disconnect 81"] || answer == ["disconnect 82"],
                "{what}: {answer:?}"
            );
        }
    }
}

#[test]
fn unsubscribe_compares_character_by_character() {
    for level in ALL {
        let (mut rig, client) = client(level);
        for filter in ["a/b", "a/+", "a/#", "é"] {
            rig.subscribe(client, filter, 0);
        }
        // Other filters that match, or look, the same: e with an accent of its own, another case, a slash.
        let others = ["+/b", "#", "e\u{301}", "A/B", "a/b/", "/a/b"];
        let answer = rig.ask(client, unsubscribe(level, 7, &others));
        let expected = if level == V5 { "unsuback 7 [11 11 11 11 11 11]" } else { "unsuback 7 []" };
        assert_eq!(answer, [expected], "an answer comes though nothing was there");
        rig.publish(client, &publish("a/b", "x"));
        rig.publish(client, &publish("é", "x"));
        assert_eq!(rig.read(client), ["a/b=x qos 0", "é=x qos 0"]);
        let answer = rig.ask(client, unsubscribe(level, 8, &["a/#", "nothing", "a/b", "a/+", "é"]));
        assert_eq!(answer, [if level == V5 { "unsuback 8 [00 11 00 00 00]" } else { "unsuback 8 []" }]);
        rig.publish(client, &publish("a/b", "x"));
        rig.publish(client, &publish("é", "x"));
        assert_eq!(rig.read(client), NOTHING);
    }
}

#[test]
fn what_was_begun_before_unsubscribe_is_completed() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&resume(level, "c"));
        rig.subscribe(client, "t", 2);
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("t", "1").qos(1, 1));
        rig.publish(other, &publish("t", "2").qos(2, 2));
        let begun: Vec<u16> = rig.take(client).iter().map(|sent| sent.pkid).collect();
        assert_eq!(rig.ask(client, unsubscribe(level, 3, &["t"])).len(), 1);
        rig.publish(other, &publish("t", "3").qos(1, 3));
        assert_eq!(rig.read(client), NOTHING);
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), ["t=1 qos 1 dup", "t=2 qos 2 dup"]);
        rig.send(client, puback(begun[0]));
        assert_eq!(rig.ask(client, pubrec(begun[1])), [format!("pubrel {} 00", begun[1])]);
        assert_eq!(rig.ask(client, pubcomp(begun[1])), NOTHING);
    }
}

#[test]
fn no_local_spares_the_client_that_published() {
    let (mut rig, client) = client(V5);
    let other = rig.connect(&hello(V5, "other"));
    rig.subscribe(client, "t", 0x04);
    rig.subscribe(other, "t", 0x04);
    rig.publish(client, &publish("t", "mine"));
    assert_eq!((rig.read(client), rig.read(other)), (vec![], vec!["t=mine qos 0".to_owned()]));
    // It is the client id that counts, over connections.
    let client = rig.connect(&resume(V5, "stays"));
    rig.subscribe(client, "t", 0x05);
    rig.publish(client, &publish("t", "mine").qos(1, 1));
    rig.lose(client);
    let client = rig.connect(&resume(V5, "stays"));
    assert_eq!(rig.read(client), NOTHING);
}

#[test]
fn the_options_of_a_subscription_are_replaced_with_it() {
    let (mut rig, client) = client(V5);
    rig.subscribe(client, "t", 0x04);
    rig.subscribe(client, "t", 0x08);
    rig.publish(client, &publish("t", "x").retain());
    assert_eq!(rig.read(client), ["t=x qos 0 retained"], "no local went, retain as published came");
    rig.send(client, subscribe(V5, 1, &[0x0B, 5], &[("i", 0)]));
    rig.send(client, subscribe(V5, 2, &[0x0B, 6], &[("i", 0)]));
    rig.take(client);
    rig.publish(client, &publish("i", "x"));
    assert_eq!(rig.one(client).all(0x0B), [[6]]);
    rig.subscribe(client, "i", 0);
    rig.publish(client, &publish("i", "x"));
    assert_eq!(rig.one(client).all(0x0B), Vec::<&[u8]>::new());
}

#[test]
fn subscriptions_are_there_after_a_power_cut() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&resume(level, "c"));
        rig.subscribe(client, "t/#", 1);
        rig.subscribe(client, "u", 1);
        rig.send(client, unsubscribe(level, 2, &["u"]));
        rig.restart();
        let other = rig.connect(&hello(level, "pub"));
        rig.publish(other, &publish("t/x", "1").qos(1, 1));
        rig.publish(other, &publish("u", "2").qos(1, 2));
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), ["t/x=1 qos 1"]);
    }
}
