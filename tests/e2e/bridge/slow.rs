//! A slow link: 200 ms there and back, 256 kbit/s, with stalls and resets.

use std::time::{Duration, Instant};

use moteway::mqtt::QoS;

use crate::bridge::{DATA, LinkState, upstream};
use crate::harness::client::{v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::proxy::{Proxy, Shape};

/// Half of the round trip each way; 256 kbit/s.
const SLOW: Shape = Shape { delay: Duration::from_millis(100), bytes_per_second: 32_000 };
const BACKLOG: u32 = 500;

/// A gateway with a backlog for a cloud behind a slow link that refuses connections for now, and a receiver there.
fn backlog(mosquitto: &Mosquitto, keys: &str, more: &str) -> (Proxy, Gateway) {
    let proxy = Proxy::start(mosquitto.address());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let tables = upstream(&url, keys, &[DATA]);
    let gateway = Gateway::start(&format!("[store]\ncommit_interval = \"1ms\"\n{tables}{more}"));
    let mut link = LinkState::of(&gateway);
    link.wait("online");
    proxy.refuse();
    link.wait("offline");
    proxy.shape(SLOW);
    let mut publisher = gateway.client(&v5("publisher"));
    for number in 0..BACKLOG {
        publisher.publish("data/t", format!("{number:<250}"), QoS::AtLeastOnce);
    }
    (proxy, gateway)
}

#[test]
fn a_backlog_drains_over_a_slow_link_with_stalls_and_resets_in_order() {
    let mosquitto = Mosquitto::start();
    let (proxy, _gateway) = backlog(&mosquitto, "stuck_timeout = \"10s\"\nkeepalive = \"5s\"", "");
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::AtLeastOnce);
    let begin = Instant::now();
    proxy.resume();
    let (mut next, mut copies, mut events) = (0, 0, [100, 200, 300].into_iter().peekable());
    while next < BACKLOG {
        let number: u32 = cloud.take().text().trim_end().parse().unwrap();
        assert!(number <= next, "{number} came before {next}");
        copies += u32::from(number < next);
        next = next.max(number + 1);
        if events.next_if(|at| *at == next).is_some() {
            if next == 200 {
                proxy.cut();
            } else {
                proxy.stall();
                std::thread::park_timeout(Duration::from_millis(400));
                proxy.resume();
            }
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{BACKLOG} messages of 250 bytes in {took:.1} s, {:.0} a second, {copies} copies",
        f64::from(BACKLOG) / took
    );
}

#[test]
fn live_messages_go_before_a_backlog_over_a_slow_link() {
    let mosquitto = Mosquitto::start();
    let more = "drain = \"live-first\"\npace = { bytes = \"24kB\" }\n";
    let (proxy, gateway) = backlog(&mosquitto, "", more);
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::AtLeastOnce);
    let mut publisher = gateway.client(&v5("live"));
    proxy.resume();
    let begin = Instant::now();
    let (mut next, mut slowest) = (0, Duration::ZERO);
    // The link is there when the first of the backlog comes.
    for live in 0..5 {
        let mut sent = None;
        loop {
            let delivery = cloud.take();
            if delivery.topic == "data/live" {
                let took = sent.map(|at: Instant| at.elapsed()).expect("it was sent");
                slowest = slowest.max(took);
                break;
            }
            assert_eq!(delivery.text().trim_end(), next.to_string(), "the backlog is in order in itself");
            next += 1;
            if sent.is_none() {
                publisher.publish("data/live", format!("{live}"), QoS::AtLeastOnce);
                sent = Some(Instant::now());
            }
        }
        assert!(next < BACKLOG, "live message {live} came after the backlog");
    }
    while next < BACKLOG {
        assert_eq!(cloud.take().text().trim_end(), next.to_string());
        next += 1;
    }
    println!("the backlog in {:.1} s, the slowest live message in {slowest:?}", begin.elapsed().as_secs_f64());
}
