//! Shared subscriptions: section 4.8.2 of 5.0.

use crate::rig::{Client, Rig, WRITTEN};
use crate::wire::{
    DISCONNECT, V5, hello, packet, puback, pubcomp, publish, pubrec, resume, subscribe, unsubscribe,
};

/// Members of one share at this level, and a publisher.
fn share(names: &[&str], qos: u8) -> (Rig, Vec<Client>, Client) {
    let mut rig = Rig::new();
    let members: Vec<Client> = names.iter().map(|name| rig.connect(&resume(V5, name))).collect();
    for member in &members {
        rig.subscribe(*member, "$share/g/t/#", qos);
    }
    let publisher = rig.connect(&hello(V5, "pub"));
    (rig, members, publisher)
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_share_has_a_name_and_a_filter() {
    for filter in [
        "$share/",
        "$share/g",
        "$share//t",
        "$share/g/",
        "$share/+/t",
        "$share/#/t",
        "$share/g+/t",
        "$share/a#b/t",
        "$share/g/t#",
        "$share/g/#/t",
        "$share/g/a+",
    ] {
        let mut rig = Rig::new();
        let client = rig.connect(&hello(V5, "c"));
        let answer = rig.ask(client, subscribe(V5, 1, &[], &[(filter, 0)]));
        let refused = ["disconnect 81", "disconnect 82", "disconnect 8F"].contains(&answer[0].as_str());
        assert!(refused && rig.is_closed(client), "{filter}: {answer:?}");
    }
    let mut rig = Rig::new();
    let client = rig.connect(&hello(V5, "c"));
    for filter in ["$share/g/t", "$share/ä ö/#", "$share/$g/+/x", "$share/g//", "$shared/t", "$share"] {
        let answer = rig.ask(client, subscribe(V5, 1, &[], &[(filter, 0)]));
        assert!(answer == ["suback 1 [00]"] || filter == "$share", "{filter}: {answer:?}");
    }
}

#[test]
fn no_local_has_no_place_in_a_share() {
    let mut rig = Rig::new();
    let client = rig.connect(&hello(V5, "c"));
    assert_eq!(rig.ask(client, subscribe(V5, 1, &[], &[("$share/g/t", 0x04)])), ["disconnect 82"]);
    assert!(rig.is_closed(client));
}

#[test]
fn each_message_goes_to_one_member_of_each_share() {
    let (mut rig, members, publisher) = share(&["a", "b"], 0);
    let other = rig.connect(&hello(V5, "other share"));
    rig.subscribe(other, "$share/h/t/#", 0);
    let plain = rig.connect(&hello(V5, "plain"));
    rig.subscribe(plain, "t/#", 0);
    for _ in 0..10 {
        rig.publish(publisher, &publish("t/x", "x"));
    }
    let counts = [members[0], members[1], other, plain].map(|client| rig.read(client).len());
    assert_eq!(counts[0] + counts[1], 10);
    assert!(counts[0] > 0 && counts[1] > 0, "both have a turn: {counts:?}");
    assert_eq!(counts[2..], [10, 10]);
    // A member that leaves the share has no part in it.
    rig.send(members[0], unsubscribe(V5, 1, &["$share/g/t/#"]));
    assert_eq!(rig.read(members[0]), ["unsuback 1 [00]"]);
    rig.send(members[0], unsubscribe(V5, 2, &["$share/g/t/#", "t/#", "$share/x/t/#"]));
    assert_eq!(rig.read(members[0]), ["unsuback 2 [11 11 11]"]);
    for _ in 0..4 {
        rig.publish(publisher, &publish("t/x", "x"));
    }
    assert_eq!((rig.read(members[0]).len(), rig.read(members[1]).len()), (0, 4));
}

#[test]
fn each_member_gets_its_own_level_and_identifier() {
    let mut rig = Rig::new();
    let members: Vec<Client> = (0..3_u8)
        .map(|qos| {
            let client = rig.connect(&hello(V5, &format!("m{qos}")));
            rig.send(client, subscribe(V5, 1, &[0x0B, qos + 1], &[("$share/g/t", qos)]));
            assert_eq!(rig.read(client), [format!("suback 1 [{qos:02}]")]);
            client
        })
        .collect();
    let publisher = rig.connect(&hello(V5, "pub"));
    for number in 1..=9 {
        rig.publish(publisher, &publish("t", "x").qos(2, number));
    }
    for (qos, member) in (0..3_u8).zip(&members) {
        let sent = rig.take(*member);
        assert!(!sent.is_empty());
        assert!(sent.iter().all(|sent| sent.qos() == qos && sent.all(0x0B) == [[qos + 1]]), "{sent:?}");
    }
}

#[test]
fn a_member_that_was_sent_a_message_gets_it_again_when_it_returns() {
    for qos in [1, 2] {
        let (mut rig, members, publisher) = share(&["a"], 2);
        rig.publish(publisher, &publish("t", "x").qos(qos, 1));
        let first = rig.one(members[0]);
        rig.lose(members[0]);
        let back = rig.connect(&resume(V5, "a"));
        rig.pass(WRITTEN);
        let again = rig.one(back);
        assert_eq!((again.text(), again.pkid), (format!("t=x qos {qos} dup"), first.pkid));
        if qos == 1 {
            rig.send(back, puback(again.pkid));
        } else {
            assert_eq!(rig.ask(back, pubrec(again.pkid)), [format!("pubrel {} 00", again.pkid)]);
            rig.send(back, pubcomp(again.pkid));
        }
        rig.lose(back);
        let back = rig.connect(&resume(V5, "a"));
        assert_eq!(rig.read(back), NOTHING);
    }
}

#[test]
fn a_qos_2_message_that_a_member_was_sent_goes_to_nobody_else() {
    for ends_by in ["a clean start", "its expiry", "its DISCONNECT"] {
        let (mut rig, members, publisher) = share(&["a", "b"], 2);
        rig.publish(publisher, &publish("t", "x").qos(2, 1));
        let holder = usize::from(rig.read(members[0]).is_empty());
        let (holder, other) = (members[holder], members[1 - holder]);
        rig.take(other);
        match ends_by {
            "a clean start" => {
                rig.lose(holder);
                let name = if holder == members[0] { "a" } else { "b" };
                rig.connect(&hello(V5, name));
            }
            "its expiry" => {
                rig.lose(holder);
                rig.pass_secs(4000);
            }
            _ => rig.send(holder, packet(0xE0, b"\0\x05\x11\0\0\0\0")),
        }
        rig.pass_secs(10);
        assert_eq!(rig.read(other), NOTHING, "after {ends_by}");
    }
}

#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    for (qos, header) in [(1, 0x40), (2, 0x50)] {
        let (mut rig, members, publisher) = share(&["a", "b"], 2);
        rig.publish(publisher, &publish("t", "x").qos(qos, 1));
        let sent: Vec<_> = members.iter().map(|member| rig.take(*member)).collect();
        let holder = usize::from(sent[0].is_empty());
        let pkid = sent[holder][0].pkid.to_be_bytes();
        rig.send(members[holder], packet(header, [pkid[0], pkid[1], 0x83]));
        rig.send(members[holder], DISCONNECT);
        rig.pass_secs(4000);
        assert_eq!(rig.read(members[1 - holder]), NOTHING);
        let back = rig.connect(&resume(V5, ["a", "b"][holder]));
        assert_eq!(rig.read(back), NOTHING);
    }
}

#[test]
fn a_share_of_members_that_are_away_keeps_its_messages() {
    let (mut rig, members, publisher) = share(&["a", "b"], 1);
    for member in members {
        rig.lose(member);
    }
    for number in 1..=4 {
        rig.publish(publisher, &publish("t", &number.to_string()).qos(1, number));
    }
    rig.restart();
    let mut received = Vec::new();
    for name in ["a", "b"] {
        let client = rig.connect(&resume(V5, name));
        received.extend(rig.take(client).into_iter().map(|sent| sent.payload));
    }
    received.sort();
    assert_eq!(received, [b"1", b"2", b"3", b"4"]);
}
