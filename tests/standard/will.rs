//! The will: sections 3.1.2.5 and 3.1.3.2 of 5.0, 3.1.2.5 of 3.1.1.

use crate::rig::{Client, Rig};
use crate::wire::{
    ALL, Connect, DISCONNECT, PINGREQ, V5, hello, packet, pair, puback, publish, resume, subscribe, text,
};

/// A server, and somebody who waits for wills.
fn watched(level: u8) -> (Rig, Client) {
    let mut rig = Rig::new();
    let watch = rig.connect(&hello(level, "watch"));
    rig.subscribe(watch, "will/#", 2);
    (rig, watch)
}

/// Will delay in seconds.
fn delay(secs: u8) -> [u8; 5] {
    [0x18, 0, 0, 0, secs]
}

/// A client that leaves a session and has a will that waits.
fn patient(secs: u8) -> Connect {
    resume(V5, "c").will_with(&delay(secs), "will/c", "gone", 0, false)
}

const GONE: [&str; 1] = ["will/c=gone qos 0"];
const NOTHING: [&str; 0] = [];

#[test]
fn a_will_goes_out_when_the_network_fails() {
    for level in ALL {
        for qos in 0..=2 {
            let (mut rig, watch) = watched(level);
            let client = rig.connect(&hello(level, "c").will("will/c", "gone", qos, false));
            assert_eq!(rig.read(watch), NOTHING);
            rig.lose(client);
            assert_eq!(rig.read(watch), [format!("will/c=gone qos {qos}")]);
        }
    }
}

#[test]
fn a_client_without_a_will_leaves_none() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        let client = rig.connect(&resume(level, "c").will("will/c", "gone", 0, false));
        rig.send(client, DISCONNECT);
        let client = rig.connect(&resume(level, "c"));
        rig.lose(client);
        rig.pass_secs(10_000);
        assert_eq!(rig.read(watch), NOTHING);
    }
}

#[test]
fn disconnect_takes_the_will_back() {
    for level in ALL {
        for connect in [hello(level, "c"), resume(level, "c")] {
            let (mut rig, watch) = watched(level);
            let client = rig.connect(&connect.will("will/c", "gone", 1, true));
            rig.send(client, DISCONNECT);
            assert!(rig.is_closed(client));
            rig.pass_secs(10_000);
            rig.restart();
            rig.pass_secs(10_000);
            let late = rig.connect(&hello(level, "late"));
            rig.subscribe(late, "will/#", 0);
            assert_eq!((rig.read(watch), rig.read(late)), (vec![], vec![]));
        }
    }
}

#[test]
fn a_disconnect_that_is_not_normal_leaves_the_will() {
    for reason in [0x04, 0x80, 0x81, 0x97] {
        let (mut rig, watch) = watched(V5);
        let client = rig.connect(&hello(V5, "c").will("will/c", "gone", 0, false));
        rig.send(client, packet(0xE0, [reason, 0]));
        assert!(rig.is_closed(client));
        assert_eq!(rig.read(watch), GONE, "reason {reason:#04X}");
    }
    let (mut rig, watch) = watched(V5);
    let client = rig.connect(&hello(V5, "c").will("will/c", "gone", 0, false));
    rig.send(client, packet(0xE0, [0x00]));
    assert_eq!(rig.read(watch), NOTHING, "a reason without properties is understood");
}

#[test]
fn a_protocol_error_leaves_the_will() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        let client = rig.connect(&hello(level, "c").will("will/c", "gone", 0, false));
        rig.send(client, [0x00, 0x00]);
        assert!(rig.is_closed(client));
        assert_eq!(rig.read(watch), GONE);
    }
}

#[test]
fn a_takeover_of_a_session_leaves_the_old_ones_will() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        rig.connect(&resume(level, "c").will("will/c", "gone", 0, false));
        rig.connect(&resume(level, "c"));
        assert_eq!(rig.read(watch), GONE, "its connection was closed without a DISCONNECT of its own");
    }
}

#[test]
fn a_shutdown_of_the_server_lets_the_wills_go_out() {
    for level in ALL {
        let (mut rig, _) = watched(level);
        rig.connect(&hello(level, "c").will("will/c", "gone", 1, true));
        rig.shut_down();
        rig.restart();
        let late = rig.connect(&hello(level, "late"));
        rig.subscribe(late, "will/#", 0);
        assert_eq!(rig.read(late), ["will/c=gone qos 0 retained"]);
    }
}

#[test]
fn the_will_is_retained_only_if_it_says_so() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        for (id, retain) in [("plain", false), ("kept", true)] {
            let client = rig.connect(&hello(level, id).will(&format!("will/{id}"), "gone", 0, retain));
            rig.lose(client);
        }
        assert_eq!(rig.read(watch), ["will/plain=gone qos 0", "will/kept=gone qos 0"]);
        let late = rig.connect(&hello(level, "late"));
        rig.subscribe(late, "will/#", 0);
        assert_eq!(rig.read(late), ["will/kept=gone qos 0 retained"]);
    }
}

#[test]
fn an_empty_retained_will_removes_what_is_there() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        rig.publish(watch, &publish("will/c", "there").retain());
        let client = rig.connect(&hello(level, "c").will("will/c", "", 0, true));
        rig.lose(client);
        assert_eq!(rig.read(watch), ["will/c=there qos 0", "will/c= qos 0"]);
        assert_eq!(rig.stored_retained(), 0);
    }
}

#[test]
fn a_will_that_was_sent_does_not_go_out_again() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        let client = rig.connect(&resume(level, "c").will("will/c", "gone", 0, false));
        rig.lose(client);
        assert_eq!(rig.read(watch), GONE);
        rig.restart();
        let watch = rig.connect(&hello(level, "watch"));
        rig.subscribe(watch, "will/#", 0);
        rig.pass_secs(10_000);
        assert_eq!(rig.read(watch), NOTHING);
    }
}

#[test]
fn a_will_survives_a_power_cut_while_its_client_is_connected() {
    for level in ALL {
        let (mut rig, _) = watched(level);
        rig.connect(&resume(level, "c").will("will/c", "gone", 1, true));
        rig.restart();
        rig.pass_secs(10);
        let late = rig.connect(&hello(level, "late"));
        rig.subscribe(late, "will/#", 0);
        assert_eq!(rig.read(late), ["will/c=gone qos 0 retained"]);
    }
}

#[test]
fn a_delayed_will_waits_and_a_client_that_returns_takes_it_back() {
    let (mut rig, watch) = watched(V5);
    let client = rig.connect(&patient(20));
    rig.lose(client);
    rig.pass_secs(18);
    assert_eq!(rig.read(watch), NOTHING);
    let client = rig.connect(&patient(20));
    rig.pass_secs(100);
    assert_eq!(rig.read(watch), NOTHING, "it came back in time [MQTT-3.1.3-9]");
    rig.lose(client);
    rig.pass_secs(21);
    assert_eq!(rig.read(watch), GONE);
    rig.pass_secs(10_000);
    assert_eq!(rig.read(watch), NOTHING, "once");
}

#[test]
fn a_delayed_will_goes_out_when_its_session_ends_first() {
    let will = |connect: Connect| connect.will_with(&delay(100), "will/c", "gone", 0, false);
    let (mut rig, watch) = watched(V5);
    let client = rig.connect(&will(hello(V5, "c").expiry(10)));
    rig.lose(client);
    rig.pass_secs(8);
    assert_eq!(rig.read(watch), NOTHING);
    rig.pass_secs(3);
    assert_eq!(rig.read(watch), GONE, "the session's end");
    // No session at all, and one that a clean start ends.
    let client = rig.connect(&will(hello(V5, "c")));
    rig.lose(client);
    assert_eq!(rig.read(watch), GONE);
    let client = rig.connect(&will(hello(V5, "c").expiry(1000)));
    rig.lose(client);
    assert_eq!(rig.read(watch), NOTHING);
    rig.connect(&hello(V5, "c"));
    assert_eq!(rig.read(watch), GONE, "a clean start ends the session before");
}

#[test]
fn a_delayed_will_survives_a_power_cut() {
    let (mut rig, _) = watched(V5);
    let client = rig.connect(&patient(60));
    rig.lose(client);
    rig.restart();
    let watch = rig.connect(&hello(V5, "watch"));
    rig.subscribe(watch, "will/#", 0);
    rig.pass_secs(61);
    assert_eq!(rig.read(watch), GONE);
}

#[test]
fn properties_of_the_will_go_with_it() {
    let (mut rig, watch) = watched(V5);
    let properties = [
        vec![0x01, 1],
        vec![0x02, 0, 0, 0, 100],
        text(0x03, "text/plain"),
        text(0x08, "answer/here"),
        text(0x09, [0, 255]),
        pair("b", "1"),
        pair("a", "2"),
        pair("b", "3"),
    ];
    let client = rig.connect(&hello(V5, "c").will_with(&properties.concat(), "will/c", "gone", 0, false));
    rig.pass_secs(500);
    rig.lose(client);
    let sent = rig.one(watch);
    assert_eq!(sent.number(0x01), Some(1));
    assert_eq!(sent.number(0x02), Some(100), "counted from the will's publication");
    assert_eq!(sent.property(0x03), Some(&b"text/plain"[..]));
    assert_eq!(sent.property(0x08), Some(&b"answer/here"[..]));
    assert_eq!(sent.property(0x09), Some(&[0, 255][..]));
    assert_eq!(sent.property(0x18), None, "the delay is the server's");
    let pairs = [pair("b", "1"), pair("a", "2"), pair("b", "3")].map(|pair| pair[1..].to_vec());
    assert_eq!(sent.all(0x26), pairs);
}

#[test]
fn a_new_connect_brings_a_new_will() {
    for level in ALL {
        let (mut rig, watch) = watched(level);
        let client = rig.connect(&resume(level, "c").will("will/c", "first", 0, false));
        rig.send(client, DISCONNECT);
        let client = rig.connect(&resume(level, "c").will("will/c", "second", 0, false));
        rig.lose(client);
        assert_eq!(rig.read(watch), ["will/c=second qos 0"]);
    }
}

#[test]
fn the_will_of_a_session_that_ends_with_its_connection_survives_a_power_cut_too() {
    for level in ALL {
        let mut rig = Rig::new();
        let watch = rig.connect(&resume(level, "watch"));
        rig.subscribe(watch, "will/#", 1);
        // Whoever has CONNACK has a will that is on the disk, and the power goes at that moment.
        let client = rig.connect(&hello(level, "c").will("will/c", "gone", 1, false));
        rig.subscribe(client, "t", 1);
        rig.cut_power();
        let (client, present) = rig.join(&resume(level, "c"));
        assert!(!present, "the session ended with its connection");
        let watch = rig.connect(&resume(level, "watch"));
        let sent = rig.one(watch);
        assert_eq!(sent.text(), "will/c=gone qos 1");
        rig.send(watch, puback(sent.pkid));
        // It went out, and does not again.
        rig.lose(client);
        rig.restart();
        let watch = rig.connect(&resume(level, "watch"));
        assert_eq!(rig.read(watch), NOTHING);
        // The will of one that said goodbye is no more.
        let client = rig.connect(&hello(level, "c").will("will/c", "gone", 1, false));
        rig.send(client, DISCONNECT);
        rig.restart();
        let watch = rig.connect(&resume(level, "watch"));
        assert_eq!(rig.read(watch), NOTHING);
    }
}

#[test]
fn connack_waits_for_the_will_to_be_safe_and_for_nothing_where_there_is_none() {
    for level in ALL {
        let mut rig = Rig::new();
        rig.store_hangs = true;
        let other = rig.connect(&hello(level, "without a will"));
        let client = rig.dial(&hello(level, "c").will("will/c", "gone", 0, false));
        rig.send(client, [subscribe(level, 5, &[], &[("t", 0)]), PINGREQ.to_vec()].concat());
        rig.publish(other, &publish("t", "early"));
        assert_eq!(rig.read(client), NOTHING, "CONNACK comes first [MQTT-3.2.0-1]");
        rig.store_answers();
        let mut sent = rig.read(client);
        assert!(sent.remove(0).starts_with("connack"), "{sent:?}");
        sent.sort();
        assert_eq!(sent, ["pingresp", "suback 5 [00]", "t=early qos 0"]);
        // One that goes before it is in was never there.
        rig.store_hangs = true;
        let client = rig.dial(&hello(level, "d").will("will/c", "gone", 0, false));
        rig.send(client, DISCONNECT);
        assert!(rig.is_closed(client));
        assert_eq!(rig.read(client), NOTHING);
    }
}

#[test]
fn wills_do_not_gather_while_the_disk_hangs() {
    let mut rig = Rig::with("[store]\ncommit_bytes = \"32KiB\"\nmax_pending_bytes = \"64KiB\"");
    rig.store_hangs = true;
    let mut let_in = 0;
    for number in 0..200 {
        let connect = hello(V5, &format!("c{number}")).will("will/c", &"x".repeat(1000), 0, false);
        let client = rig.dial(&connect);
        let_in += rig.read(client).len();
    }
    assert!(rig.pending_bytes() <= 80 << 10, "{}", rig.pending_bytes());
    assert!(let_in > 100, "whoever there is no room for is let in without a will on the disk: {let_in}");
}
