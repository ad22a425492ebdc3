//! Peers that take their time: slow writers, silent ones, and packets that are announced and do not come.

use std::time::{Duration, Instant};

use moteway::mqtt::Connect;

use crate::harness::client::{v5, v311};
use crate::harness::until;
use crate::hostile::{Attacker, MIB, Scene};

/// Writes one byte to each from time to time until all are closed. Says how long that took.
fn drip(attackers: &mut Vec<Attacker>, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    let mut position = 0;
    until("the slow ones are closed", || {
        let byte = [bytes[position % bytes.len()]];
        position += 1;
        attackers.retain_mut(|attacker| attacker.send(&byte));
        std::thread::park_timeout(Duration::from_millis(50));
        attackers.is_empty()
    });
    begin.elapsed()
}

#[test]
fn a_connect_that_comes_byte_by_byte_is_ended_by_connect_timeout() {
    let scene = Scene::new("slow CONNECT", "[broker]\nconnect_timeout = \"1s\"");
    let mut attackers: Vec<Attacker> = (0..100).map(|_| Attacker::dial(scene.address())).collect();
    // A CONNECT of 60 000 bytes, so that it is never complete.
    let took = drip(&mut attackers, &[0x10, 0xE0, 0xD4, 0x03, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0]);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    scene.end(8 * MIB);
}

#[test]
fn a_publish_that_comes_byte_by_byte_is_no_sign_of_life() {
    // The keep-alive counts packets, not bytes [MQTT-3.1.2-22].
    let scene = Scene::new("slow PUBLISH", "");
    let names: Vec<String> = (0..50).map(|number| format!("slow{number}")).collect();
    let connect = |name| Connect { keep_alive: 1, ..v311(name) };
    let mut attackers: Vec<Attacker> = names.iter().map(|name| scene.attacker(&connect(name))).collect();
    let took = drip(&mut attackers, &[0x30, 0xE0, 0xD4, 0x03, 0, 1, b't', b'x', b'x', b'x']);
    assert!(took >= Duration::from_millis(1300), "{took:?}");
    scene.end(8 * MIB);
}

#[test]
fn peers_that_never_say_anything_are_closed() {
    let scene = Scene::new("silent peers", "[broker]\nconnect_timeout = \"1s\"");
    let mut silent: Vec<Attacker> = (0..100).map(|_| Attacker::dial(scene.address())).collect();
    let mut alive = scene.attacker(&Connect { keep_alive: 1, ..v5("half open") });
    silent.iter_mut().for_each(|peer| assert_eq!(peer.drain(), 0));
    // It is told why, and closed.
    assert!(alive.drain() > 0);
    scene.end(8 * MIB);
}

/// PUBLISH of 3.1.1 with the largest remaining length there is.
const ANNOUNCED: [u8; 8] = [0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b't'];

#[test]
fn a_packet_of_256_megabytes_is_refused_at_its_header() {
    let scene = Scene::new("256 MB announced", "");
    for number in 0..50 {
        let mut attacker = scene.attacker(&v311(&format!("large{number}")));
        attacker.send(&ANNOUNCED);
        attacker.drain();
    }
    scene.end(8 * MIB);
}

#[test]
fn a_packet_that_may_be_large_takes_the_memory_of_what_came() {
    // One byte less than 256 MiB is the most that can be configured.
    let limits = "[broker]\nmax_packet_bytes = 268435455\nmax_buffered_bytes = \"256MiB\"";
    let mut scene = Scene::new("256 MB allowed, announced and not sent", limits);
    let announced = [0x30, 0xF0, 0xFF, 0xFF, 0x7F, 0, 1, b't'];
    let names: Vec<String> = (0..50).map(|number| format!("large{number}")).collect();
    let mut attackers: Vec<Attacker> = names.iter().map(|name| scene.attacker(&v311(name))).collect();
    for attacker in &mut attackers {
        assert!(attacker.send(&announced));
    }
    let before = scene.growth();
    assert!(before < 16 * MIB, "{before} bytes for announcements");
    for attacker in &mut attackers {
        assert!(attacker.send(&[b'x'; 100_000]));
    }
    // 5 MB came; vectors grow by doubling.
    scene.end(32 * MIB);
}

#[test]
fn unfinished_packets_of_many_share_what_there_is() {
    let limits = "[broker]\nmax_buffered_bytes = \"8MiB\"";
    let scene = Scene::new("unfinished packets", limits);
    let names: Vec<String> = (0..200).map(|number| format!("half{number}")).collect();
    let mut attackers: Vec<Attacker> = names.iter().map(|name| scene.attacker(&v311(name))).collect();
    for attacker in &mut attackers {
        // A PUBLISH of 1 MB, but for its end: some are closed before that, and it cannot be written.
        attacker.send(&[0x30, 0xC0, 0x84, 0x3D, 0, 1, b't']);
        attacker.send(&vec![b'x'; 900_000]);
    }
    scene.end(24 * MIB);
}

#[test]
fn answers_that_nobody_takes_stop_the_asking() {
    let limits = "[broker]\nmax_outbox_bytes = \"64KiB\"";
    let scene = Scene::new("answers not taken", limits);
    // PINGREQ; PUBREL of an identifier that nobody knows.
    for (name, bytes) in [("ping", &[0xC0, 0][..]), ("pubrel", &[0x62, 2, 0, 1][..])] {
        let mut attacker = scene.attacker(&v311(name));
        let taken = attacker.repeat(bytes, 50_000_000 / bytes.len());
        assert!(taken < 40_000_000 / bytes.len(), "{taken} times {name} were taken");
    }
    scene.end(8 * MIB);
}
