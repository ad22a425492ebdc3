//! Topic names and topic filters: section 4.7 of both standards.

use crate::rig::Rig;
use crate::wire::{ALL, V5, hello, packet, publish, subscribe};

/// Filter, names that it matches, names that it does not. The standard's own examples, and the edges.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    (
        "sport/tennis/player1/#",
        &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"],
        &["sport/tennis", "sport/tennis/player12"],
    ),
    ("sport/#", &["sport", "sport/", "sport/a/b/c"], &["sports", "/sport"]),
    ("#", &["a", "/", "a/b", "a/$b"], &["$a", "$SYS", "$SYS/a", "$share/a"]),
    ("sport/tennis/+", &["sport/tennis/player1", "sport/tennis/"], &["sport/tennis", "sport/tennis/a/b"]),
    ("sport/+", &["sport/"], &["sport"]),
    ("+/+", &["/finance", "a/b"], &["a", "a/b/c", "$a/b"]),
    ("/+", &["/finance", "/"], &["finance", "//"]),
    ("+", &["finance"], &["/finance", "$a"]),
    ("+/monitor/#", &["a/monitor", "a/monitor/b"], &["$dev/monitor", "$dev/monitor/b"]),
    ("$dev/#", &["$dev", "$dev/a", "$dev/a/b"], &["dev", "a"]),
    ("$dev/+/x", &["$dev/a/x", "$dev/$a/x"], &["$dev/x"]),
    ("a/+/c", &["a//c", "a/b/c", "a/$b/c"], &["a/c", "a/b/b/c"]),
    ("ACCOUNTS", &["ACCOUNTS"], &["Accounts", "ACCOUNTS/"]),
    ("Accounts payable", &["Accounts payable"], &["Accounts  payable"]),
    ("/", &["/"], &["a", "//"]),
    ("é", &["é"], &["e\u{301}", "e", "É"]),
    ("\u{FEFF}a", &["\u{FEFF}a"], &["a"]),
    ("a\tb\u{1}", &["a\tb\u{1}"], &["a b"]),
    ("😀/+", &["😀/😀"], &["😀"]),
];

#[test]
fn filters_match_names_as_the_standard_says() {
    for level in ALL {
        for (filter, yes, no) in MATCHES {
            let mut rig = Rig::new();
            let client = rig.connect(&hello(level, "c"));
            rig.subscribe(client, filter, 0);
            for name in *yes {
                rig.publish(client, &publish(name, "x"));
                assert_eq!(rig.read(client), [format!("{name}=x qos 0")], "{filter} matches {name}");
            }
            for name in *no {
                rig.publish(client, &publish(name, "x"));
                assert_eq!(rig.read(client), Vec::<String>::new(), "{filter} does not match {name}");
            }
        }
    }
}

#[test]
fn retained_messages_are_found_by_the_same_rules() {
    for level in ALL {
        for (filter, yes, no) in MATCHES {
            let mut rig = Rig::new();
            let client = rig.connect(&hello(level, "c"));
            for name in yes.iter().chain(*no) {
                rig.publish(client, &publish(name, "x").retain());
            }
            rig.send(client, subscribe(level, 1, &[], &[(filter, 0)]));
            let sent = rig.take(client);
            let mut found: Vec<&str> =
                sent.iter().filter(|sent| sent.name == "publish").map(|sent| sent.topic.as_str()).collect();
            found.sort_unstable();
            let mut expected = yes.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{filter}");
        }
    }
}

#[test]
fn topics_that_begin_with_a_dollar_are_only_for_those_that_name_it() {
    for level in ALL {
        let mut rig = Rig::new();
        let all = rig.connect(&hello(level, "all"));
        rig.subscribe(all, "#", 0);
        rig.subscribe(all, "+/a", 0);
        let named = rig.connect(&hello(level, "named"));
        rig.subscribe(named, "$mine/#", 0);
        rig.publish(named, &publish("$mine/a", "x").retain());
        assert_eq!(rig.read(named), ["$mine/a=x qos 0"]);
        assert_eq!(rig.read(all), Vec::<String>::new());
        let late = rig.connect(&hello(level, "late"));
        rig.subscribe(late, "#", 0);
        assert_eq!(rig.read(late), Vec::<String>::new(), "nor when it was retained");
    }
}

#[test]
fn topics_of_the_greatest_length_are_handled() {
    let config = "[broker]\nmax_topic_bytes = 65_535\nmax_topic_levels = 65_535";
    for level in ALL {
        let mut rig = Rig::with(config);
        let client = rig.connect(&hello(level, "c"));
        for longest in ["x".repeat(65_535), "é".repeat(32_767), "/".repeat(65_534)] {
            rig.subscribe(client, &longest, 0);
            rig.publish(client, &publish(&longest, "x"));
            let sent = rig.one(client);
            assert!(sent.topic == longest, "{} bytes", longest.len());
        }
    }
}

#[test]
fn strings_are_taken_as_they_are() {
    // Each a string that some codec trips over: the largest code point, a non-character, controls, a BOM in the middle.
    for level in ALL {
        let mut rig = Rig::new();
        for text in
            ["\u{10FFFF}", "\u{FFFF}", "\u{FFFE}x", "\u{1}\u{1F}\u{7F}\u{9F}", "a\u{FEFF}b", "\u{FEFF}", " "]
        {
            let client = rig.connect(&hello(level, &format!("id {text}")).will(text, "gone", 0, false));
            let watch = rig.connect(&hello(level, "watch"));
            rig.subscribe(watch, text, 0);
            rig.publish(client, &publish(text, text));
            rig.lose(client);
            assert_eq!(rig.read(watch), [format!("{text}={text} qos 0"), format!("{text}=gone qos 0")]);
            rig.lose(watch);
        }
    }
}

#[test]
fn strings_that_are_not_utf_8_are_refused_wherever_they_come() {
    // Overlong forms, surrogates, beyond U+10FFFF, cut off, a lone continuation, U+0000.
    let bad: [&[u8]; 9] = [
        b"\xC0\xAF",
        b"\xE0\x80\xAF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xE2\x82",
        b"\x80",
        b"\xFE",
        b"\0",
    ];
    for level in ALL {
        for bytes in bad {
            let field = crate::wire::field(bytes);
            let none: &[u8] = if level == V5 { &[0] } else { &[] };
            let packets = [
                packet(0x30, [&field[..], none].concat()),
                packet(0x82, [&[0, 1], none, &field, &[0]].concat()),
                packet(0xA2, [&[0, 1], none, &field].concat()),
            ];
            for packet in packets {
                let mut rig = Rig::new();
                let client = rig.connect(&hello(level, "c"));
                let answer = rig.ask(client, &packet);
                assert!(rig.is_closed(client), "version {level}: {packet:02X?}");
                assert_eq!(answer, if level == V5 { vec!["disconnect 81"] } else { vec![] }, "{packet:02X?}");
            }
        }
    }
}
