//! A fleet: the bridges of 300 gateways, each with its own store, against a cluster that goes away for a minute.

mod balancer;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moteway::config::{Config, Listener, Pace, Rule, Upstream, UpstreamUrl, UpstreamVersion};
use moteway::daemon::{self, Running};
use moteway::mqtt::{
    Packet, PubAck, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscribeProperties, Subscription,
};
use moteway::sys;
use tempfile::TempDir;

use crate::fleet::balancer::{Attempt, Balancer};
use crate::harness::client::{Client, message, v5, v311_persistent};
use crate::harness::rabbitmq::Cluster;
use crate::harness::until_within;

const GATEWAYS: usize = 300;
/// Messages of each gateway before the outage, in it, and after it.
const BEFORE: u32 = 3;
const BACKLOG: u32 = 30;
const AFTER: u32 = 2;
const ALL: u32 = BEFORE + BACKLOG + AFTER;
/// Messages a second of each gateway.
const PACE: u64 = 2;
const OUTAGE: Duration = Duration::from_secs(60);
const RECONNECT_MAX: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(240);
/// How long one read may take of the receiver, which looks meanwhile whether it is to end.
const TICK: Duration = Duration::from_millis(200);

/// A gateway, and who publishes there.
struct Member {
    name: String,
    publisher: Client,
    _daemon: Running,
}

impl Member {
    fn start(number: usize, state: &TempDir, cloud: SocketAddr) -> Self {
        let name = format!("box-{number:03}");
        let mut config = Config::default();
        (config.admin.socket, config.admin.http) = (None, None);
        config.gateway.name.clone_from(&name);
        config.gateway.state_dir = state.path().join(&name);
        let bind = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        config.listener = vec![Listener { name: "local".to_owned(), bind, ..Listener::default() }];
        let rule = Rule {
            name: "data".to_owned(),
            filter: "data/{rest#}".to_owned(),
            remap: "fleet/{gateway}/{rest}".to_owned(),
            ..Rule::default()
        };
        let host = cloud.ip().to_string();
        config.upstream = vec![Upstream {
            name: "cloud".to_owned(),
            url: vec![UpstreamUrl { tls: false, host, port: cloud.port(), websocket: None }],
            version: UpstreamVersion::V311,
            client_id: "{gateway}".to_owned(),
            reconnect_max: RECONNECT_MAX,
            pace: Pace { messages: PACE, bytes: 0 },
            rule: vec![rule],
            ..Upstream::default()
        }];
        let daemon = daemon::spawn(config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let publisher = Client::connect(daemon.ready.listeners[0].1, &v5("publisher"));
        Self { name, publisher, _daemon: daemon }
    }
}

/// Each gateway is given each of these numbers, and acknowledges it.
fn publish(fleet: &mut [Member], numbers: std::ops::Range<u32>) {
    for number in numbers {
        let text = number.to_string();
        let post =
            |member: &mut Member| member.publisher.post(&message("data/t", text.as_bytes(), QoS::AtLeastOnce));
        let pkids: Vec<u16> = fleet.iter_mut().map(post).collect();
        for (member, pkid) in fleet.iter_mut().zip(pkids) {
            assert_eq!(member.publisher.puback(pkid), ReasonCode::Success, "{}", member.name);
        }
    }
}

/// What one gateway's messages came to, and when.
#[derive(Default, Clone)]
struct Arrived {
    /// How often each number came.
    times: BTreeMap<u32, u32>,
    last: Option<Instant>,
}

type Book = Arc<Mutex<BTreeMap<String, Arrived>>>;

/// The consumer in the cloud: one durable session, which subscribes whenever it comes in.
struct Receiver {
    book: Book,
    ready: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(nodes: Vec<SocketAddr>) -> Self {
        let book = Book::default();
        let (ready, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (book, ready, stop) = (Arc::clone(&book), Arc::clone(&ready), Arc::clone(&stop));
            move || {
                for node in nodes.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(mut client) = Client::try_connect(*node, &v311_persistent("receiver")) {
                        client.set_read_timeout(TICK);
                        receive(&mut client, &book, &ready, &stop);
                    } else {
                        std::thread::park_timeout(TICK);
                    }
                }
            }
        });
        Self { book, ready, stop, thread: Some(thread) }
    }

    /// Gateways with so many different messages here.
    fn complete(&self, count: u32) -> usize {
        let book = self.book.lock().unwrap();
        book.values().filter(|arrived| arrived.times.len() == count as usize).count()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the receiver died");
        }
    }
}

/// Takes what comes and acknowledges it, until the node is gone or nothing more is wanted.
fn receive(client: &mut Client, book: &Book, ready: &AtomicBool, stop: &AtomicBool) {
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() };
    let filters = [Subscription { filter: "fleet/+/t", options }];
    let properties = SubscribeProperties::default();
    let subscribe = Subscribe { pkid: client.next_pkid(), properties, filters: filters.as_slice().into() };
    if client.try_send(&Packet::Subscribe(subscribe)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let received = match client.try_receive() {
            Ok(Some(received)) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Ok(None) | Err(_) => return,
        };
        let publish = match received.packet() {
            Packet::Publish(publish) => publish,
            Packet::SubAck(ack) => {
                assert!(!ack.reasons().any(ReasonCode::is_error), "the subscription is refused");
                ready.store(true, Ordering::Relaxed);
                continue;
            }
            packet => panic!("{packet:?} instead of PUBLISH"),
        };
        let name = publish.topic.split('/').nth(1).unwrap().to_owned();
        let number = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
        // Counted before it is acknowledged: what was acknowledged does not come again.
        {
            let mut book = book.lock().unwrap();
            let arrived = book.entry(name).or_default();
            *arrived.times.entry(number).or_default() += 1;
            arrived.last = Some(Instant::now());
        }
        if client.try_send(&Packet::PubAck(PubAck::new(publish.pkid, ReasonCode::Success))).is_err() {
            return;
        }
    }
}

/// How many of `times` fall into each second since `begin`.
fn per_second(begin: Instant, times: impl Iterator<Item = Instant>) -> Vec<usize> {
    let mut counts = Vec::new();
    for time in times.filter(|time| *time >= begin) {
        let second = usize::try_from((time - begin).as_secs()).unwrap();
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        counts[second] += 1;
    }
    counts
}

fn histogram(what: &str, counts: &[usize]) {
    println!("{what}:");
    for (second, count) in counts.iter().enumerate() {
        println!("  {second:3} s {count:4} {}", "#".repeat(count.div_ceil(2)));
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// The first attempt of each gateway that got in since `begin`.
fn first_ups(attempts: &[Attempt], begin: Instant) -> BTreeMap<&str, &Attempt> {
    let mut first = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.at >= begin && attempt.up_at.is_some()) {
        first.entry(attempt.client_id.as_str()).or_insert(attempt);
    }
    first
}

#[test]
fn a_cluster_that_was_away_for_a_minute_gets_its_fleet_back_spread_and_paced_and_loses_nothing() {
    sys::raise_open_files_limit().unwrap();
    let begin = Instant::now();
    let mut cluster = Cluster::start();
    let nodes: Vec<SocketAddr> = (0..3).map(|node| cluster.address(node)).collect();
    let receiver = Receiver::start(nodes.clone());
    until_within(PATIENCE, "the receiver has its subscription", || receiver.ready.load(Ordering::Relaxed));
    let (started, idle) = (begin.elapsed(), cluster.usage());

    let state = TempDir::new().unwrap();
    let balancer = Balancer::start(nodes);
    let start = Instant::now();
    let mut fleet: Vec<Member> =
        (0..GATEWAYS).map(|number| Member::start(number, &state, balancer.address())).collect();
    until_within(PATIENCE, "all are in", || first_ups(&balancer.attempts(), start).len() == GATEWAYS);
    let (all_in, connected) = (start.elapsed(), cluster.usage());
    publish(&mut fleet, 0..BEFORE);
    until_within(PATIENCE, "what came before the outage arrives", || receiver.complete(BEFORE) == GATEWAYS);

    // The cluster dies, and is started again at once; those who would come in are turned away for a minute.
    balancer.set_open(false);
    let gone_at = Instant::now();
    (0..3).for_each(|node| cluster.kill(node));
    publish(&mut fleet, BEFORE..BEFORE + BACKLOG);
    let published = gone_at.elapsed();
    cluster.restart_all();
    let restarted = gone_at.elapsed();
    until_within(PATIENCE, "the outage ends", || gone_at.elapsed() >= OUTAGE);
    let (before_return, back_at) = (cluster.usage(), Instant::now());
    balancer.set_open(true);
    publish(&mut fleet, BEFORE + BACKLOG..ALL);
    until_within(PATIENCE, "everything arrives", || receiver.complete(ALL) == GATEWAYS);
    let (drained, after) = (back_at.elapsed(), cluster.usage());

    let attempts = balancer.attempts();
    let during = per_second(gone_at, attempts.iter().map(|attempt| attempt.at).filter(|at| *at < back_at));
    histogram("tries a second while the cluster was away", &during);
    let ups = first_ups(&attempts, back_at);
    let returns = per_second(back_at, ups.values().map(|attempt| attempt.at));
    histogram("gateways that came back in each second after it returned", &returns);
    let book = receiver.book.lock().unwrap();
    let copies: u32 = book.values().flat_map(|arrived| arrived.times.values()).map(|times| times - 1).sum();
    println!(
        "fleet: {GATEWAYS} gateways in one process, {} MiB at most; cluster of 3 started after {started:.1?}, all in \
         after {all_in:.1?}; {} messages acknowledged, {} delivered, {copies} copies, 0 lost\n\
         outage {:.1?}: {BACKLOG} messages each published in {published:.1?}, cluster up again after {restarted:.1?}; \
         all back within {:.1?}, drained {drained:.1?} after the return at {PACE} messages a second each\n\
         cluster: {} MiB without gateways, {} MiB with {GATEWAYS}; CPU {:.1} s to let them in, {:.1} s for return and drain",
        mib(peak_rss()),
        GATEWAYS * ALL as usize,
        book.values().map(|arrived| arrived.times.len()).sum::<usize>(),
        back_at - gone_at,
        ups.values().filter_map(|attempt| attempt.up_at).max().unwrap() - back_at,
        mib(idle.rss),
        mib(connected.rss),
        connected.cpu_secs - idle.cpu_secs,
        after.cpu_secs - before_return.cpu_secs,
    );

    assert_eq!(ups.len(), GATEWAYS, "each came back");
    let most = returns.iter().max().copied().unwrap();
    assert!(most <= GATEWAYS / 8, "{most} came back in one second");
    assert!(returns.len() >= 10, "they came back within {} s", returns.len());
    // Two may go at once, the rest not faster than the pace.
    let at_least = Duration::from_secs((u64::from(BACKLOG) - 2) / PACE);
    for (name, attempt) in ups {
        let took = book[name].last.unwrap() - attempt.at;
        assert!(took >= at_least, "{name} drained within {took:?}");
    }
}

/// The most memory that this process had.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}
