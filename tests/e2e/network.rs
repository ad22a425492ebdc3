//! A network of the test's own, which is cut, slowed, black-holed, and whose DNS is dead: what the local side feels of it.

use std::process::Command;
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::harness::client::{Client, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::process::Process;
use crate::harness::until;

const HERE: &str = "10.231.7.1";
const CLOUD: &str = "10.231.7.2";
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
        std::fs::write(&resolv, "nameserver 10.231.7.99\noptions timeout:1 attempts:1\n").unwrap();
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
            Client::connect((CLOUD.parse::<std::net::IpAddr>().unwrap(), 1883).into(), &v5_persistent("receiver"));
        if !client.session_present {
            client.subscribe("data/#", QoS::AtLeastOnce);
        }
        client
    }
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
    let rule = "[[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n";
    let waits =
        "reconnect_min = \"50ms\"\nreconnect_max = \"500ms\"\nstuck_timeout = \"2s\"\nconnect_timeout = \"1s\"\n";
    let mut gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://{CLOUD}\"\n{waits}{rule}\
         [[upstream]]\nname = \"nameless\"\nurl = \"mqtt://cloud.example.com\"\n{waits}{rule}"
    ));
    let upstream_is = |gateway: &Gateway, state: &str| {
        let mut observer = gateway.client(&v5(&format!("observer {}", fastrand::u32(..))));
        observer.subscribe("moteway/upstream/cloud", QoS::AtMostOnce);
        while !observer.delivery().text().contains(state) {}
    };
    upstream_is(&gateway, "online");
    let mut report = vec![("all is well, but for DNS", latency(&gateway, 0))];
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
    upstream_is(&gateway, "offline");
    report.push(("cut", latency(&gateway, 0)));
    // The address went with the link; back with it.
    net.there("ip link set there up");
    upstream_is(&gateway, "online");

    // Packets go, answers do not come, and nobody is told.
    net.there(&format!("ip route add blackhole {HERE}/32"));
    keep(&mut gateway);
    upstream_is(&gateway, "offline");
    report.push(("black-holed, no RST", latency(&gateway, 0)));
    net.there(&format!("ip route del blackhole {HERE}/32"));
    upstream_is(&gateway, "online");

    let slow = "tc qdisc add dev there root netem delay 100ms rate 256kbit";
    let netem = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", net.cloud.pid()))
        .args(slow.split(' '))
        .status()
        .is_ok_and(|status| status.success());
    if netem {
        report.push(("slow: 100 ms, 256 kbit/s", latency(&gateway, 0)));
        keep(&mut gateway);
        net.there("tc qdisc del dev there root");
    } else {
        println!("slow: not measured, this kernel has no netem");
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
    for (state, [median, p99, longest]) in report {
        println!("{state:50} {median:9.0?} {p99:9.0?} {longest:9.0?}");
    }
    drop(net.dir);
}
