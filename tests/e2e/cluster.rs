//! The cloud as a cluster of three RabbitMQ nodes, one of which is killed during a drain.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moteway::mqtt::{Packet, PubAck, QoS, ReasonCode};

use crate::harness::client::{Client, message, v5, v311_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::proxy::Proxy;
use crate::harness::rabbitmq::Cluster;
use crate::harness::until_within;

/// Messages that wait when the drain begins.
const BACKLOG: u32 = 5_000;
/// So many of them have arrived when the node is killed.
const BEFORE_THE_KILL: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// A receiver whose messages outlive its node: RabbitMQ keeps them in a quorum queue.
fn receiver(at: SocketAddr, filter: &str) -> Client {
    let mut client = None;
    until_within(PATIENCE, "the cluster lets the receiver in", || {
        client = Client::try_connect(at, &v311_persistent("receiver"));
        client.is_some()
    });
    let mut client = client.unwrap();
    client.set_read_timeout(PATIENCE);
    if !client.session_present {
        client.subscribe(filter, QoS::AtLeastOnce);
    }
    client
}

/// Takes a message and acknowledges it. `None` when the connection is gone.
fn take(client: &mut Client) -> Option<u32> {
    loop {
        let received = client.try_receive().ok()??;
        if let Packet::Publish(publish) = received.packet() {
            let number = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
            let pkid = publish.pkid;
            client.try_send(&Packet::PubAck(PubAck::new(pkid, ReasonCode::Success))).ok()?;
            return Some(number);
        }
    }
}

#[test]
fn a_cluster_loses_the_node_in_use_during_a_drain_and_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start();
    let proxies: Vec<Proxy> = (0..3).map(|node| Proxy::start(cluster.address(node))).collect();
    proxies.iter().for_each(Proxy::refuse);
    let url: Vec<String> = proxies.iter().map(|proxy| format!("mqtt://127.0.0.1:{}", proxy.port())).collect();
    let mut gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = {url:?}\nversion = \"3.1.1\"\n\
         max_inflight_messages = 100\nreconnect_min = \"50ms\"\nreconnect_max = \"500ms\"\n\
         [[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n"
    ));
    let mut publisher = gateway.client(&v5("publisher"));
    for number in 0..BACKLOG {
        let text = number.to_string();
        let pkid = publisher.post(&message("data/t", text.as_bytes(), QoS::AtLeastOnce));
        assert_eq!(publisher.puback(pkid), ReasonCode::Success);
    }
    let mut cloud = receiver(cluster.address(2), "data/#");
    // The link shall be to the node that is killed.
    proxies[0].resume();
    gateway.process().says("upstream connected");
    proxies.iter().for_each(Proxy::resume);
    let begin = Instant::now();
    let (mut seen, mut duplicates, mut killed) = (vec![false; BACKLOG as usize], 0, None);
    let mut arrived = 0;
    while arrived < BACKLOG as usize {
        let number = take(&mut cloud).expect("the receiver's node lives");
        if std::mem::replace(&mut seen[number as usize], true) {
            duplicates += 1;
            continue;
        }
        arrived += 1;
        if arrived == BEFORE_THE_KILL {
            cluster.kill(0);
            killed = Some(Instant::now());
        }
    }
    let after = killed.expect("it was killed").elapsed();
    gateway.process().says("upstream lost");
    println!(
        "failover: {BACKLOG} acknowledged, {arrived} delivered, {duplicates} duplicates, 0 lost; node killed after \
         {BEFORE_THE_KILL}, the rest took {after:.1?} of {:.1?}",
        begin.elapsed()
    );
    cloud.disconnect();
}
