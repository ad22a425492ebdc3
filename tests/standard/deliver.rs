//! The server as sender: sections 3.3.4, 4.3 to 4.6 and 4.9 of 5.0, and what bounds it.

use crate::rig::{Client, Rig, WRITTEN};
use crate::sent::Sent;
use crate::wire::{
    ALL, Connect, PINGREQ, V5, V311, hello, packet, puback, pubcomp, publish, pubrec, resume, subscribe,
    unsubscribe,
};

/// A subscriber to everything under `t` that keeps its session, and a publisher.
fn subscribed(level: u8, connect: &Connect) -> (Rig, Client, Client) {
    let mut rig = Rig::new();
    let client = rig.connect(connect);
    rig.subscribe(client, "t/#", 2);
    let publisher = rig.connect(&hello(level, "pub"));
    (rig, client, publisher)
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_message_is_unacknowledged_until_its_answer_came_and_goes_out_again_after_a_reconnect_only() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &resume(level, "c"));
        rig.publish(publisher, &publish("t", "0"));
        rig.publish(publisher, &publish("t", "1").qos(1, 1));
        rig.publish(publisher, &publish("t", "2").qos(2, 2));
        let first = rig.take(client);
        let expected = ["t=0 qos 0", "t=1 qos 1", "t=2 qos 2"];
        assert_eq!(first.iter().map(Sent::text).collect::<Vec<_>>(), expected, "DUP is 0 the first time");
        rig.pass_secs(100_000);
        assert_eq!(rig.read(client), NOTHING, "nothing is sent again on the same connection [MQTT-4.4.0-1]");
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        let again = rig.take(client);
        assert_eq!(again.iter().map(Sent::text).collect::<Vec<_>>(), ["t=1 qos 1 dup", "t=2 qos 2 dup"]);
        let ids = |sent: &[Sent]| sent.iter().map(|sent| sent.pkid).collect::<Vec<_>>();
        assert_eq!(ids(&again), ids(&first[1..]), "under the same identifiers");
        rig.send(client, puback(again[0].pkid));
        assert_eq!(rig.ask(client, pubrec(again[1].pkid)), [format!("pubrel {} 00", again[1].pkid)]);
        // PUBREL went out: the message never does again, PUBREL does.
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), [format!("pubrel {} 00", again[1].pkid)]);
        rig.send(client, pubcomp(again[1].pkid));
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), NOTHING);
    }
}

#[test]
fn what_a_client_has_not_acknowledged_survives_a_power_cut() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &resume(level, "c"));
        rig.publish(publisher, &publish("t", "1").qos(1, 1));
        rig.publish(publisher, &publish("t", "2").qos(2, 2));
        rig.publish(publisher, &publish("t", "3").qos(2, 3));
        let first = rig.take(client);
        assert_eq!(rig.ask(client, pubrec(first[1].pkid)).len(), 1);
        rig.restart();
        let client = rig.connect(&resume(level, "c"));
        let again = rig.take(client);
        let texts: Vec<String> = again.iter().map(Sent::text).collect();
        assert_eq!(texts[0], format!("pubrel {} 00", first[1].pkid));
        assert_eq!(texts[1..], ["t=1 qos 1 dup", "t=3 qos 2 dup"]);
        assert_eq!([again[1].pkid, again[2].pkid], [first[0].pkid, first[2].pkid], "under their identifiers");
    }
}

#[test]
fn after_each_of_many_power_cuts_the_old_identifiers_come_in_the_old_order() {
    for level in ALL {
        let (mut rig, mut client, mut publisher) = subscribed(level, &resume(level, "c"));
        let mut open: Vec<(u8, u16, Vec<u8>)> = Vec::new();
        let identity = |sent: Sent| (sent.flags >> 1 & 3, sent.pkid, sent.payload);
        for round in 0..20_u16 {
            for number in 0..4 {
                let qos = u8::try_from((round + number) % 2 + 1).unwrap();
                rig.publish(publisher, &publish("t", &format!("{round}.{number}")).qos(qos, number + 1));
            }
            open.extend(rig.take(client).into_iter().map(identity));
            // Some are acknowledged, out of turn.
            let at = usize::from(round) % open.len();
            let done = [open.remove(at), open.remove(at / 2)];
            for (qos, pkid, _) in done {
                rig.send(client, if qos == 1 { puback(pkid) } else { [pubrec(pkid), pubcomp(pkid)].concat() });
            }
            let releases = rig.take(client);
            assert!(releases.iter().all(|sent| sent.name == "pubrel"), "{releases:?}");
            rig.restart();
            client = rig.connect(&resume(level, "c"));
            publisher = rig.connect(&hello(level, "pub"));
            let again = rig.take(client);
            assert!(again.iter().all(|sent| sent.flags & 8 != 0), "{again:?}");
            assert_eq!(again.into_iter().map(identity).collect::<Vec<_>>(), open, "round {round}");
        }
    }
}

#[test]
fn a_clean_start_gets_nothing_of_the_old_session_again() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &resume(level, "c"));
        rig.publish(publisher, &publish("t", "1").qos(1, 1));
        rig.publish(publisher, &publish("t", "2").qos(2, 2));
        assert_eq!(rig.read(client).len(), 2);
        rig.lose(client);
        let client = rig.connect(&hello(level, "c"));
        assert_eq!(rig.read(client), NOTHING);
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(client), NOTHING);
    }
}

#[test]
fn the_dup_flag_of_the_publisher_is_not_passed_on() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &hello(level, "c"));
        rig.publish(publisher, &publish("t", "1").qos(1, 1).dup());
        rig.publish(publisher, &publish("t", "2").qos(2, 2).dup());
        assert_eq!(rig.read(client), ["t=1 qos 1", "t=2 qos 2"]);
    }
}

#[test]
fn a_refused_message_is_done_and_does_not_come_again() {
    let (mut rig, client, publisher) = subscribed(V5, &resume(V5, "c"));
    rig.publish(publisher, &publish("t", "1").qos(1, 1));
    rig.publish(publisher, &publish("t", "2").qos(2, 2));
    let sent = rig.take(client);
    let refusal = |header: u8, pkid: u16| packet(header, [&pkid.to_be_bytes()[..], &[0x80]].concat());
    rig.send(client, refusal(0x40, sent[0].pkid));
    assert_eq!(rig.ask(client, refusal(0x50, sent[1].pkid)), NOTHING, "no PUBREL after a refusal");
    rig.lose(client);
    let client = rig.connect(&resume(V5, "c"));
    assert_eq!(rig.read(client), NOTHING);
}

#[test]
fn pubrec_of_a_message_that_is_not_there_is_answered() {
    for level in ALL {
        let (mut rig, client, _) = subscribed(level, &hello(level, "c"));
        let code = if level == V5 { "92" } else { "00" };
        assert_eq!(rig.ask(client, pubrec(7)), [format!("pubrel 7 {code}")]);
        assert_eq!(rig.ask(client, [puback(8), pubcomp(9)].concat()), NOTHING);
        if level == V5 {
            assert_eq!(rig.ask(client, packet(0x50, [0, 7, 0x80])), NOTHING, "a refusal asks for no PUBREL");
        }
        assert_eq!(rig.ask(client, PINGREQ), ["pingresp"], "late answers harm nobody");
    }
}

#[test]
fn messages_for_an_absent_client_wait_for_it_in_order() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &resume(level, "c"));
        rig.lose(client);
        for number in 1..=30 {
            rig.publish(
                publisher,
                &publish("t", &number.to_string()).qos(u8::try_from(number % 2 + 1).unwrap(), number),
            );
            rig.send(publisher, packet(0x62, number.to_be_bytes()));
        }
        rig.publish(publisher, &publish("t", "QoS 0 need not wait"));
        let client = rig.connect(&resume(level, "c"));
        let received: Vec<Vec<u8>> = rig.take(client).into_iter().map(|sent| sent.payload).collect();
        let expected: Vec<Vec<u8>> = (1..=30).map(|number: u16| number.to_string().into_bytes()).collect();
        assert_eq!(received[..30], expected);
    }
}

#[test]
fn order_holds_for_each_publisher_topic_and_level() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &hello(level, "c"));
        let mut pkid = 0;
        for number in 0..60_u16 {
            let topic = format!("t/{}", number % 3);
            let qos = u8::try_from(number % 3).unwrap();
            pkid += 1;
            rig.publish(publisher, &publish(&topic, &format!("{number:02}")).qos(qos, pkid));
        }
        let mut received = rig.take(client);
        for sent in received.clone().iter().filter(|sent| sent.pkid != 0) {
            rig.send(client, if sent.qos() == 1 { puback(sent.pkid) } else { pubrec(sent.pkid) });
        }
        received.extend(rig.take(client).into_iter().filter(|sent| sent.name == "publish"));
        for topic in ["t/0", "t/1", "t/2"] {
            let of_topic: Vec<&Vec<u8>> =
                received.iter().filter(|sent| sent.topic == topic).map(|sent| &sent.payload).collect();
            assert_eq!(of_topic.len(), 20);
            assert!(of_topic.is_sorted(), "{topic}: {of_topic:?}");
        }
    }
}

#[test]
fn messages_are_sent_again_in_their_order() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &resume(level, "c"));
        for number in 1..=9 {
            let qos = if number % 3 == 0 { 2 } else { 1 };
            rig.publish(publisher, &publish("t", &number.to_string()).qos(qos, number));
        }
        let first = rig.take(client);
        // Acknowledged out of turn.
        rig.send(client, puback(first[4].pkid));
        rig.send(client, puback(first[0].pkid));
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        let again: Vec<(u16, Vec<u8>)> =
            rig.take(client).into_iter().map(|sent| (sent.pkid, sent.payload)).collect();
        let expected: Vec<(u16, Vec<u8>)> =
            [1, 2, 3, 5, 6, 7, 8].map(|at: usize| (first[at].pkid, first[at].payload.clone())).to_vec();
        assert_eq!(again, expected);
    }
}

#[test]
fn no_more_messages_are_under_way_than_the_client_takes() {
    let (mut rig, client, publisher) = subscribed(V5, &resume(V5, "c").receive_maximum(3));
    for number in 1..=6 {
        rig.publish(publisher, &publish("t", &number.to_string()).qos(1 + u8::from(number > 3), number));
    }
    let first = rig.take(client);
    assert_eq!(first.iter().map(Sent::text).collect::<Vec<_>>(), ["t=1 qos 1", "t=2 qos 1", "t=3 qos 1"]);
    // What is not a QoS 1 or 2 message goes on.
    rig.publish(publisher, &publish("t", "QoS 0"));
    rig.send(client, [PINGREQ.to_vec(), subscribe(V5, 1, &[], &[("a", 0)]), unsubscribe(V5, 2, &["a"])].concat());
    rig.publish(client, &publish("u", "x").qos(1, 9));
    assert_eq!(rig.read(client), ["t=QoS 0 qos 0", "pingresp", "suback 1 [00]", "unsuback 2 [00]", "puback 9 10"]);
    rig.send(client, puback(first[0].pkid));
    let fourth = rig.one(client);
    assert_eq!(fourth.text(), "t=4 qos 2");
    // QoS 2 has a place until PUBCOMP.
    assert_eq!(rig.ask(client, pubrec(fourth.pkid)), [format!("pubrel {} 00", fourth.pkid)]);
    assert_eq!(rig.ask(client, pubcomp(fourth.pkid)), ["t=5 qos 2"]);
    rig.send(client, puback(first[1].pkid));
    let sixth = rig.one(client);
    // A refusal makes room as well; nothing is left to be sent.
    let refusal = packet(0x50, [&sixth.pkid.to_be_bytes()[..], &[0x97]].concat());
    assert_eq!(rig.ask(client, refusal), NOTHING);
    // It holds for what is sent again.
    rig.lose(client);
    let client = rig.connect(&resume(V5, "c").receive_maximum(1));
    assert_eq!(rig.read(client), ["t=3 qos 1 dup"]);
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_level_with_all_identifiers() {
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&hello(level, "c"));
        for (filter, qos, id) in [("t/#", 0, 1), ("t/+", 2, 2), ("t/a", 1, 3), ("+/a", 1, 0), ("other", 2, 4)] {
            let properties = if level == V5 && id > 0 { vec![0x0B, id] } else { vec![] };
            rig.send(client, subscribe(level, 1, &properties, &[(filter, qos)]));
        }
        rig.take(client);
        rig.publish(client, &publish("t/a", "x").qos(2, 1));
        let sent: Vec<Sent> = rig.take(client).into_iter().filter(|sent| sent.name == "publish").collect();
        assert_eq!(sent.iter().map(Sent::text).collect::<Vec<_>>(), ["t/a=x qos 2"], "one copy");
        let mut ids = sent[0].all(0x0B);
        ids.sort_unstable();
        assert_eq!(ids, if level == V5 { vec![[1], [2], [3]] } else { vec![] });
    }
}

#[test]
fn identifiers_go_with_messages_of_all_levels_and_stay_with_the_session() {
    let mut rig = Rig::new();
    let client = rig.connect(&resume(V5, "c"));
    rig.send(client, subscribe(V5, 1, &[0x0B, 0x80, 0x01], &[("t", 2)]));
    rig.take(client);
    let publisher = rig.connect(&hello(V5, "pub"));
    for (qos, pkid) in [(0, 0), (1, 1), (2, 2)] {
        rig.publish(publisher, &publish("t", "x").qos(qos, pkid));
        assert_eq!(rig.one(client).all(0x0B), [[0x80, 0x01]]);
    }
    rig.lose(client);
    rig.publish(publisher, &publish("t", "late").qos(1, 3));
    rig.restart();
    let client = rig.connect(&resume(V5, "c"));
    assert!(rig.take(client).iter().all(|sent| sent.all(0x0B) == [[0x80, 0x01]]));
    // The message's own properties do not travel to 3.1.1, which has none.
    let old = rig.connect(&hello(V311, "old"));
    rig.subscribe(old, "t", 1);
    let publisher = rig.connect(&hello(V5, "pub"));
    rig.publish(publisher, &publish("t", "x").property(&[0x01, 1]));
    assert_eq!(rig.read(old), ["t=x qos 0"]);
}

#[test]
fn the_expiry_of_a_message_counts_down_while_it_waits() {
    let (mut rig, client, publisher) = subscribed(V5, &resume(V5, "c"));
    let expiring =
        |payload: &str, pkid: u16, secs: u8| publish("t", payload).qos(1, pkid).property(&[0x02, 0, 0, 0, secs]);
    rig.publish(publisher, &expiring("at once", 1, 100));
    let sent = rig.one(client);
    assert!(sent.number(0x02).is_some_and(|left| (99..=100).contains(&left)));
    rig.send(client, puback(sent.pkid));
    rig.lose(client);
    rig.publish(publisher, &expiring("short", 2, 10));
    rig.publish(publisher, &expiring("long", 3, 100));
    rig.publish(publisher, &publish("t", "for ever").qos(1, 4));
    rig.pass_secs(30);
    let client = rig.connect(&resume(V5, "c"));
    let sent = rig.take(client);
    assert_eq!(sent.iter().map(Sent::text).collect::<Vec<_>>(), ["t=long qos 1", "t=for ever qos 1"]);
    let left = sent[0].number(0x02).unwrap();
    assert!((68..=70).contains(&left), "{left} of 100 s are left after 30");
    assert_eq!(sent[1].number(0x02), None);
}

#[test]
fn what_was_sent_once_does_not_expire_any_more() {
    for (qos, acknowledge) in [(1, puback as fn(u16) -> Vec<u8>), (2, pubrec)] {
        let (mut rig, client, publisher) = subscribed(V5, &resume(V5, "c"));
        rig.publish(publisher, &publish("t", "x").qos(qos, 1).property(&[0x02, 0, 0, 0, 5]));
        let first = rig.one(client);
        rig.lose(client);
        rig.pass_secs(100);
        let client = rig.connect(&resume(V5, "c"));
        let again = rig.take(client);
        if qos == 2 {
            assert_eq!(again.iter().map(Sent::text).collect::<Vec<_>>(), ["t=x qos 2 dup"], "[MQTT-4.3.3-7]");
        }
        // Either way its identifier is at rest: what the client says of it harms nobody.
        rig.send(client, acknowledge(first.pkid));
        assert!(!rig.is_closed(client));
    }
}

#[test]
fn no_packet_is_larger_than_the_client_takes_and_what_is_counts_as_delivered() {
    // The rig holds each packet against the limit.
    let (mut rig, client, publisher) = subscribed(V5, &resume(V5, "c").max_packet(64).receive_maximum(1));
    let long = "x".repeat(80);
    for (qos, pkid) in [(0, 0), (1, 1), (2, 2)] {
        rig.publish(publisher, &publish("t", &long).qos(qos, pkid));
        rig.publish(publisher, &publish("t", "short").qos(qos, pkid + 10));
        let sent = rig.one(client);
        assert_eq!(sent.text(), format!("t=short qos {qos}"), "the long one does not stand in the way");
        match qos {
            1 => rig.send(client, puback(sent.pkid)),
            2 => {
                rig.send(client, pubrec(sent.pkid));
                rig.send(client, pubcomp(sent.pkid));
                rig.take(client);
            }
            _ => {}
        }
    }
    // Exactly the limit fits: 2 bytes of header, 3 of topic, 1 of properties.
    rig.publish(publisher, &publish("t", &"x".repeat(58)));
    assert_eq!(rig.one(client).len, 64);
    rig.publish(publisher, &publish("t", &"x".repeat(59)));
    assert_eq!(rig.read(client), NOTHING);
    // Its larger properties count too.
    rig.publish(publisher, &publish("t", "x").property(&crate::wire::pair("name", &"x".repeat(60))));
    assert_eq!(rig.read(client), NOTHING);
    rig.lose(client);
    let client = rig.connect(&resume(V5, "c"));
    assert_eq!(rig.read(client), NOTHING, "nothing of it waits for a client that takes more");
}

#[test]
fn the_topic_that_is_sent_matches_the_filter_and_is_what_was_published() {
    for level in ALL {
        let (mut rig, client, publisher) = subscribed(level, &hello(level, "c"));
        for topic in ["t", "t/", "t//", "t/ä/ ", "t/\u{FEFF}x", "t/$x"] {
            rig.publish(publisher, &publish(topic, "x"));
            assert_eq!(rig.read(client), [format!("{topic}=x qos 0")]);
        }
        for topic in ["T", "/t", "tt", "u/t"] {
            rig.publish(publisher, &publish(topic, "x"));
            assert_eq!(rig.read(client), NOTHING);
        }
    }
}

#[test]
fn identifiers_come_round_without_meeting_those_under_way() {
    // The rig holds each new identifier against those that are not acknowledged.
    for level in ALL {
        let mut rig = Rig::new();
        let client = rig.connect(&resume(level, "c"));
        rig.subscribe(client, "t", 2);
        let publisher = rig.connect(&hello(level, "pub"));
        rig.publish(publisher, &publish("t", "held").qos(1, 1));
        rig.publish(publisher, &publish("t", "held").qos(2, 2));
        let held: Vec<u16> = rig.take(client).iter().map(|sent| sent.pkid).collect();
        let batch: Vec<u8> = (0..512).flat_map(|_| publish("t", "x").qos(1, 9).bytes(level)).collect();
        let mut seen = 0;
        for _ in 0..130 {
            rig.send(publisher, &batch);
            rig.take(publisher);
            // The window is smaller than what came.
            loop {
                let sent = rig.take(client);
                if sent.is_empty() {
                    break;
                }
                seen += sent.len();
                let acknowledgements: Vec<u8> = sent.iter().flat_map(|sent| puback(sent.pkid)).collect();
                rig.acknowledge(client, &acknowledgements);
            }
        }
        assert_eq!(seen, 130 * 512, "all identifiers had their turn, and most of them two");
        rig.lose(client);
        let client = rig.connect(&resume(level, "c"));
        let again: Vec<u16> = rig.take(client).iter().map(|sent| sent.pkid).collect();
        assert_eq!(again, held, "they have theirs still");
    }
}

#[test]
fn one_message_without_an_answer_does_not_stop_the_others() {
    for held in [10, 20_000] {
        let mut rig = Rig::with("[store]\nwindow_bytes = \"16KiB\"");
        let client = rig.connect(&resume(V5, "c"));
        rig.subscribe(client, "t", 1);
        let publisher = rig.connect(&hello(V5, "pub"));
        rig.publish(publisher, &publish("t", &"h".repeat(held)).qos(1, 1));
        for _ in 0..500 {
            rig.publish(publisher, &publish("t", "x").qos(1, 9));
        }
        let mut sent = rig.take(client);
        sent.remove(0);
        let mut seen = 0;
        while !sent.is_empty() {
            seen += sent.len();
            let acknowledgements: Vec<u8> = sent.iter().flat_map(|sent| puback(sent.pkid)).collect();
            rig.acknowledge(client, &acknowledgements);
            rig.pass(WRITTEN);
            sent = rig.take(client);
        }
        assert_eq!(seen, 500, "behind {held} bytes");
        rig.lose(client);
        rig.restart();
        let client = rig.connect(&resume(V5, "c"));
        let again = rig.take(client);
        assert_eq!(again.len(), 1, "only the one that was not acknowledged");
        rig.acknowledge(client, &puback(again[0].pkid));
        rig.lose(client);
        let client = rig.connect(&resume(V5, "c"));
        assert_eq!(rig.read(client), NOTHING);
    }
}

#[test]
fn aliases_to_a_client_are_those_it_takes() {
    // The rig resolves each alias, and holds it against the client's maximum.
    for maximum in [0, 1, 2, 3, 100, u16::MAX] {
        let connect = hello(V5, "c").alias_maximum(maximum).max_packet(200);
        let (mut rig, client, publisher) = subscribed(V5, &connect);
        for number in 0..60 {
            let topic = format!("t/{}", number % 7);
            let qos = u8::try_from(number % 3).unwrap();
            rig.publish(publisher, &publish(&topic, &number.to_string()).qos(qos, number + 1));
            rig.publish(publisher, &publish(&topic, &"too large".repeat(30)));
            let sent = rig.one(client);
            assert_eq!(sent.text(), format!("{topic}={number} qos {qos}"), "alias maximum {maximum}");
        }
    }
}
