//! Retained messages: sections 3.3.1.3, 3.8.3.1 and 3.8.4 of 5.0, 3.3.1.3 of 3.1.1.

use crate::rig::{Client, Rig};
use crate::wire::{ALL, V5, hello, publish, resume, subscribe};

fn pair(level: u8) -> (Rig, Client) {
    let mut rig = Rig::new();
    let publisher = rig.connect(&hello(level, "pub"));
    (rig, publisher)
}

/// What a new subscriber finds.
fn found(rig: &mut Rig, level: u8, filter: &str) -> Vec<String> {
    let client = rig.connect(&hello(level, "finder"));
    rig.subscribe(client, filter, 2);
    let found = rig.read(client);
    rig.lose(client);
    found
}

#[test]
fn the_last_retained_message_of_each_topic_waits_for_new_subscribers() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a/1", "old").retain());
        rig.publish(publisher, &publish("a/1", "new").retain().qos(1, 1));
        rig.publish(publisher, &publish("a/2", "two").retain().qos(2, 2));
        rig.publish(publisher, &publish("b", "other").retain());
        let expected = ["a/1=new qos 1 retained", "a/2=two qos 2 retained"];
        assert_eq!(found(&mut rig, level, "a/+"), expected);
        assert_eq!(found(&mut rig, level, "a/1"), expected[..1], "its QoS was stored with it");
        rig.restart();
        assert_eq!(found(&mut rig, level, "a/#"), expected, "a power cut does not take them");
    }
}

#[test]
fn a_qos_0_message_replaces_what_was_retained() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "1").retain().qos(2, 1));
        rig.publish(publisher, &publish("a", "2").retain());
        assert_eq!(found(&mut rig, level, "a"), ["a=2 qos 0 retained"]);
    }
}

#[test]
fn an_empty_payload_removes_and_is_passed_on_but_never_kept() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "a", 1);
        rig.publish(publisher, &publish("a", "1").retain());
        rig.publish(publisher, &publish("a", "").retain().qos(1, 5));
        assert_eq!(rig.read(watch), ["a=1 qos 0", "a= qos 1"]);
        assert_eq!(found(&mut rig, level, "a"), Vec::<String>::new());
        assert_eq!(rig.stored_retained(), 0);
        rig.publish(publisher, &publish("never/there", "").retain());
        assert_eq!(found(&mut rig, level, "never/there"), Vec::<String>::new());
    }
}

#[test]
fn a_message_without_the_flag_neither_replaces_nor_removes() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "kept").retain());
        rig.publish(publisher, &publish("a", "passing").qos(1, 1));
        rig.publish(publisher, &publish("a", ""));
        rig.publish(publisher, &publish("b", "not kept"));
        assert_eq!(found(&mut rig, level, "#"), ["a=kept qos 0 retained"]);
    }
}

#[test]
fn the_flag_is_set_for_a_new_subscription_and_cleared_for_an_established_one() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "before").retain());
        let client = rig.connect(&hello(level, "c"));
        rig.subscribe(client, "a", 0);
        rig.publish(publisher, &publish("a", "after").retain());
        assert_eq!(rig.read(client), ["a=before qos 0 retained", "a=after qos 0"]);
    }
}

#[test]
fn retain_as_published_keeps_the_flag_as_it_came() {
    let (mut rig, publisher) = pair(V5);
    let client = rig.connect(&hello(V5, "c"));
    rig.subscribe(client, "a", 0x08);
    rig.publish(publisher, &publish("a", "1").retain());
    rig.publish(publisher, &publish("a", "2"));
    rig.publish(publisher, &publish("a", "3").retain().qos(1, 1));
    assert_eq!(rig.read(client), ["a=1 qos 0 retained", "a=2 qos 0", "a=3 qos 0 retained"]);
}

#[test]
fn retain_handling_decides_what_a_subscription_begins_with() {
    let (mut rig, publisher) = pair(V5);
    rig.publish(publisher, &publish("a/b", "kept").retain());
    let client = rig.connect(&resume(V5, "c"));
    let kept = ["a/b=kept qos 0 retained"];
    let subscribed = |rig: &mut Rig, client, handling: u8| {
        rig.subscribe(client, "a/+", handling << 4);
        rig.read(client)
    };
    assert_eq!(subscribed(&mut rig, client, 2), Vec::<String>::new(), "2: never");
    assert_eq!(subscribed(&mut rig, client, 1), Vec::<String>::new(), "1: only if it is new");
    assert_eq!(subscribed(&mut rig, client, 0), kept, "0: always");
    assert_eq!(subscribed(&mut rig, client, 0), kept, "0: again");
    rig.lose(client);
    // It exists as long as its session does.
    let client = rig.connect(&resume(V5, "c"));
    assert_eq!(subscribed(&mut rig, client, 1), Vec::<String>::new());
    rig.lose(client);
    let client = rig.connect(&hello(V5, "c"));
    assert_eq!(subscribed(&mut rig, client, 1), kept, "1: and now it is new");
}

#[test]
fn subscribing_again_sends_retained_messages_again() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "kept").retain().qos(2, 1));
        let client = rig.connect(&hello(level, "c"));
        for qos in 0..=2 {
            rig.subscribe(client, "a", qos);
            assert_eq!(rig.read(client), [format!("a=kept qos {qos} retained")]);
        }
    }
}

#[test]
fn each_filter_of_a_subscribe_brings_its_retained_messages() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "1").retain());
        rig.publish(publisher, &publish("b", "2").retain());
        let client = rig.connect(&hello(level, "c"));
        let mut sent = rig.ask(client, subscribe(level, 1, &[], &[("a", 0), ("b", 1), ("c", 2)]));
        sent.sort();
        assert_eq!(sent, ["a=1 qos 0 retained", "b=2 qos 0 retained", "suback 1 [00 01 02]"]);
    }
}

#[test]
fn a_shared_subscription_begins_without_retained_messages() {
    let (mut rig, publisher) = pair(V5);
    rig.publish(publisher, &publish("a", "kept").retain());
    assert_eq!(found(&mut rig, V5, "$share/g/a"), Vec::<String>::new());
}

#[test]
fn a_retained_message_carries_the_identifier_of_the_subscription_that_asked() {
    let (mut rig, publisher) = pair(V5);
    rig.publish(publisher, &publish("a", "kept").retain());
    let client = rig.connect(&hello(V5, "c"));
    rig.send(client, subscribe(V5, 1, &[0x0B, 9], &[("a", 0)]));
    let sent = rig.take(client);
    let retained = sent.iter().find(|sent| sent.name == "publish").unwrap();
    assert_eq!(retained.all(0x0B), [[9]]);
}

#[test]
fn retained_messages_do_not_end_with_the_session_of_their_publisher() {
    for level in ALL {
        let (mut rig, publisher) = pair(level);
        rig.publish(publisher, &publish("a", "kept").retain());
        rig.lose(publisher);
        rig.connect(&hello(level, "pub"));
        assert_eq!(found(&mut rig, level, "a"), ["a=kept qos 0 retained"]);
    }
}

#[test]
fn a_retained_message_expires_and_its_rest_is_told() {
    let (mut rig, publisher) = pair(V5);
    rig.publish(publisher, &publish("a", "x").retain().property(&[0x02, 0, 0, 0, 60]));
    rig.pass_secs(20);
    let client = rig.connect(&hello(V5, "c"));
    rig.subscribe(client, "a", 0);
    let left = rig.one(client).number(0x02).unwrap();
    assert!((38..=40).contains(&left), "{left} s are left");
    rig.pass_secs(41);
    assert_eq!(found(&mut rig, V5, "a"), Vec::<String>::new());
}
