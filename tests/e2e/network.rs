//! A network of the test's own, which is cut, slowed, black-holed, and whose DNS is dead: what the local side feels of it.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::harness::client::{Client, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::process::Process;
use crate::harness::proxy::{Proxy, Shape};
use crate::harness::until;

const HERE: &str = "10.231.7.1";
const CLOUD: &str = "10.231.7.2";
const NAMESERVER: &str = "10.231.7.99";
/// Local messages that are timed in each state of the network.
const ROUNDS: usize = 2_000;

#[track_caller]
fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two network namespaces with a wire between: this thread and all that it starts from now on, and a mosquitto.
struct Net {
    dir: TempDir,
    cloud: Process,
}

impl Net {
    /// Only root may.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("a network of one's own needs root");
        let dir = TempDir::new().unwrap();
        let resolv = dir.path().join("resolv.conf");
        // Nobody is there.
        std::fs::write(&resolv, format!("nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n")).unwrap();
        sh(&format!("mount --make-rprivate / && mount --bind {} /etc/resolv.conf", resolv.display()));
        sh("ip link set lo up");
        let config = dir.path().join("mosquitto.conf");
        let text = "user root\nallow_anonymous true\nlog_dest stderr\nlog_type all\nmax_queued_messages 0\nlistener 1883 0.0.0.0\n";
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "mosquitto", "-c"]).arg(&config);
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        let mut cloud = Process::start("mosquitto", &mut command);
        cloud.says(" running");
        let net = Self { dir, cloud };
        sh(&format!("ip link add here type veth peer name there netns {}", net.cloud.pid()));
        sh(&format!("ip addr add {HERE}/24 dev here && ip link set here up"));
        net.there(&format!("ip addr add {CLOUD}/24 dev there && ip link set there up && ip link set lo up"));
        net
    }

    /// In the namespace of the cloud.
    fn there(&self, line: &str) {
        sh(&format!("nsenter --net=/proc/{}/ns/net sh -ec '{line}'", self.cloud.pid()));
    }

    /// A receiver at the cloud, over the wire.
    fn receiver(&self) -> Client {
        let mut client =
            Client::connect((CLOUD.parse::<IpAddr>().unwrap(), 1883).into(), &v5_persistent("receiver"));
        if !client.session_present {
            client.subscribe("data/#", QoS::AtLeastOnce);
        }
        client
    }
}

/// A name server to whom all names are the cloud, until it is dropped.
struct Dns {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    fn start() -> Self {
        sh(&format!("ip addr add {NAMESERVER}/32 dev lo"));
        let socket = UdpSocket::bind((NAMESERVER, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut query = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, from)) = socket.recv_from(&mut query) else { continue };
                    socket.send_to(&answer(&query[..len]), from).unwrap();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        sh(&format!("ip addr del {NAMESERVER}/32 dev lo"));
    }
}

/// RFC 1035, 4.1: the question again, and one address if it asks for one of version 4.
fn answer(query: &[u8]) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|octet| *octet == 0).unwrap() + 1;
    let question = &query[12..name_end + 4];
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let counts = [0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
    let mut answer = [&query[..2], &[0x81, 0x80], &counts, question].concat();
    if let (true, IpAddr::V4(cloud)) = (is_a, CLOUD.parse().unwrap()) {
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(cloud.octets());
    }
    answer
}

/// Waits until the gateway says this of its link to an upstream.
fn upstream_is(gateway: &Gateway, name: &str, state: &str) {
    let mut observer = gateway.client(&v5(&format!("observer {}", fastrand::u32(..))));
    observer.subscribe(&format!("moteway/upstream/{name}"), QoS::AtMostOnce);
    while !observer.delivery().text().contains(state) {}
}

/// Makes the link slow: by the kernel's netem where there is one, and else by a proxy on the way of `slowed`.
fn slow_down(net: &Net, gateway: &Gateway, proxy: &Proxy) -> &'static str {
    let line = "tc qdisc add dev there root netem delay 200ms rate 256kbit";
    let netem = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", net.cloud.pid()))
        .args(line.split(' '))
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if netem {
        return "slowed by netem: 200 ms, 256 kbit/s";
    }
    proxy.shape(Shape { delay: Duration::from_millis(100), bytes_per_second: 32_000 });
    proxy.cut();
    // A message of its own, so that it is known to be sent on the slow line.
    upstream_is(gateway, "slowed", "offline");
    upstream_is(gateway, "slowed", "online");
    "slowed by a proxy: 200 ms, 256 kbit/s"
}

/// The 50th and 99th percentile and the longest of local publish to subscribe, one at a time, while the rule of the
/// bridge takes each message too.
fn latency(gateway: &Gateway, first: u32) -> [Duration; 3] {
    let mut subscriber = gateway.client(&v5("local-subscriber"));
    let mut publisher = gateway.client(&v5("local-publisher"));
    subscriber.subscribe("data/#", QoS::AtMostOnce);
    let mut times: Vec<Duration> = (first..)
        .take(ROUNDS)
        .map(|number| {
            let text = number.to_string();
            let begin = Instant::now();
            publisher.publish("data/t", &text, QoS::AtMostOnce);
            subscriber.expect("data/t", &text);
            begin.elapsed()
        })
        .collect();
    times.sort();
    [times[ROUNDS / 2], times[ROUNDS * 99 / 100], times[ROUNDS - 1]]
}

#[test]
fn a_network_that_is_cut_slowed_or_black_holed_or_has_no_dns_is_not_felt_locally_and_loses_nothing() {
    let net = Net::new();
    let proxy = Proxy::start((CLOUD.parse::<IpAddr>().unwrap(), 1883).into());
    let rule = "[[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n";
    let waits =
        "reconnect_min = \"50ms\"\nreconnect_max = \"500ms\"\nstuck_timeout = \"2s\"\nconnect_timeout = \"1s\"\n";
    let mut gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://{CLOUD}\"\n{waits}{rule}\
         [[upstream]]\nname = \"nameless\"\nurl = \"mqtt://cloud.example.com\"\n{waits}{rule}\
         [[upstream]]\nname = \"slowed\"\nurl = \"mqtt://127.0.0.1:{}\"\n{waits}{rule}",
        proxy.port()
    ));
    upstream_is(&gateway, "cloud", "online");
    let mut report = vec![("all is well, but for DNS", latency(&gateway, 0))];
    let dns = Dns::start();
    upstream_is(&gateway, "nameless", "online");
    report.push(("all is well", latency(&gateway, 0)));
    drop(dns);
    let mut kept = gateway.client(&v5("publisher"));
    let mut count = 0;
    let mut keep = |gateway: &mut Gateway| {
        assert!(gateway.is_running());
        kept.publish_numbers("data/kept", count..count + 100, QoS::AtLeastOnce);
        count += 100;
    };
    drop(net.receiver());
    keep(&mut gateway);

    net.there("ip link set there down");
    // Only who sends something can notice.
    keep(&mut gateway);
    upstream_is(&gateway, "cloud", "offline");
    report.push(("cut", latency(&gateway, 0)));
    // The address went with the link; back with it.
    net.there("ip link set there up");
    upstream_is(&gateway, "cloud", "online");

    // Packets go, answers do not come, and nobody is told.
    net.there(&format!("ip route add blackhole {HERE}/32"));
    keep(&mut gateway);
    upstream_is(&gateway, "cloud", "offline");
    report.push(("black-holed, no RST", latency(&gateway, 0)));
    net.there(&format!("ip route del blackhole {HERE}/32"));
    upstream_is(&gateway, "cloud", "online");

    let slowed = slow_down(&net, &gateway, &proxy);
    report.push((slowed, latency(&gateway, 0)));
    keep(&mut gateway);
    if slowed.contains("netem") {
        net.there("tc qdisc del dev there root");
    }
    let text = gateway.process().text();
    assert!(
        text.contains("the name cloud.example.com cannot be resolved") || text.contains("no answer to the name"),
        "{text}"
    );

    let mut cloud = net.receiver();
    let mut seen = vec![false; count as usize];
    until("what was acknowledged is in the cloud", || {
        let delivery = cloud.take();
        if delivery.topic == "data/kept" {
            seen[delivery.text().parse::<usize>().unwrap()] = true;
        }
        seen.iter().all(|seen| *seen)
    });
    println!("local publish to subscribe, {ROUNDS} messages each:   median       p99   longest");
    let [_, fair, _] = report[1].1;
    for (state, [median, p99, longest]) in report {
        println!("{state:50} {median:9.0?} {p99:9.0?} {longest:9.0?}");
        // Noise is within this, and a broker that waits for its upstream is not.
        assert!(
            p99 < fair * 5 + Duration::from_millis(50),
            "{state}: p99 {p99:.0?}, and {fair:.0?} when all is well"
        );
    }
    drop(net.dir);
}
