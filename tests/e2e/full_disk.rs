//! A small file system that is full: by others, or by what waits for an upstream that is away.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use moteway::mqtt::{Packet, Publish, QoS, ReasonCode};

use crate::harness::BOUND;
use crate::harness::client::{Client, message, v5, v5_persistent};
use crate::harness::gateway::{Gateway, binary};
use crate::harness::mosquitto::Mosquitto;
use crate::harness::process::Process;
use crate::harness::proxy::Proxy;

/// A message that is not acknowledged by then waits for the disk.
const HELD: Duration = Duration::from_secs(3);

/// A gateway whose state directory is a file system of 8 MB, in a name space of its own.
struct Small {
    gateway: Gateway,
    process: Process,
}

impl Small {
    fn start(upstream: SocketAddr) -> Self {
        let gateway = Gateway::prepare(
            "box",
            &format!(
                "[[upstream]]\nname = \"cloud\"\nurl = [\"mqtt://{upstream}\"]\nreconnect_min = \"50ms\"\n\
                 reconnect_max = \"200ms\"\n[[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n"
            ),
        );
        std::fs::create_dir_all(gateway.state_dir()).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(if is_root { &["-m"][..] } else { &["-U", "-r", "-m"][..] });
        command.args([
            "sh",
            "-c",
            "mount -t tmpfs -o size=8m none \"$1\" && exec \"$2\" run --config \"$3\"",
            "sh",
        ]);
        command.arg(gateway.state_dir()).arg(binary()).arg(gateway.config()).env_remove("JOURNAL_STREAM");
        let mut process = Process::start("moteway", &mut command);
        process.line("ready", |line| line.contains(" ready ").then_some(()));
        Self { gateway, process }
    }

    /// A path in its state directory, seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.gateway.state_dir().join(name);
        let root = format!("/proc/{}/root", self.process.pid());
        PathBuf::from(root).join(inside.strip_prefix("/").unwrap())
    }
}

/// Publishes numbers until one is not acknowledged: the disk does not take it. That one is not lost, it waits: its
/// acknowledgement comes when there is room. Says which number that is.
fn fill(client: &mut Client, numbers: std::ops::Range<u32>) -> u32 {
    client.set_read_timeout(HELD);
    for number in numbers {
        let (pkid, text) = (client.next_pkid(), format!("{number:<1000}"));
        client.send(&Packet::Publish(Publish { pkid, ..message("data/t", text.as_bytes(), QoS::AtLeastOnce) }));
        match client.try_receive() {
            Ok(Some(received)) => {
                let Packet::PubAck(ack) = received.packet() else { panic!("{:?}", received.packet()) };
                assert_eq!((ack.pkid, ack.reason), (pkid, ReasonCode::Success), "number {number}");
            }
            Ok(None) => panic!("the connection ended at number {number}"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                return number;
            }
        }
    }
    panic!("the disk is never full");
}

/// The acknowledgement that [`fill`] waited for in vain.
fn take_held(client: &mut Client) {
    client.set_read_timeout(BOUND);
    let received = client.receive().expect("the connection is there");
    let Packet::PubAck(ack) = received.packet() else { panic!("{:?}", received.packet()) };
    assert_eq!(ack.reason, ReasonCode::Success);
}

/// Receives numbers in order until this many came, copies left out.
fn drain(cloud: &mut Client, numbers: std::ops::Range<u32>) {
    let mut next = numbers.start;
    while next < numbers.end {
        let number: u32 = cloud.take().text().trim_end().parse().unwrap();
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
}

/// Others are told that there is no room, and what needs no disk goes on.
fn refuses_and_serves(small: &mut Small) {
    small.process.says("store cannot commit");
    let mut client = small.gateway.client(&v5("local"));
    assert_eq!(client.publish("data/other", "x", QoS::AtLeastOnce), ReasonCode::QuotaExceeded);
    client.subscribe("local/#", QoS::AtMostOnce);
    client.publish("local/t", "x", QoS::AtMostOnce);
    client.expect("local/t", "x");
}

#[test]
fn a_file_system_of_8_mb_filled_to_the_brim_by_the_queue_drains_and_takes_messages_again() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    proxy.refuse();
    let mut small = Small::start(SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::AtLeastOnce);
    let mut publisher = small.gateway.client(&v5("publisher"));
    let held = fill(&mut publisher, 0..20_000);
    println!("{held} messages of 1000 bytes in 8 MB");
    assert!(held > 2_000, "{held}");
    refuses_and_serves(&mut small);
    proxy.resume();
    drain(&mut cloud, 0..held + 1);
    take_held(&mut publisher);
    publisher.publish_numbers("data/u", 0..100, QoS::AtLeastOnce);
    cloud.expect_numbers("data/u", 0..100);
    assert!(small.process.is_running());
}

#[test]
fn a_file_system_filled_by_others_refuses_and_takes_messages_again_when_it_is_freed() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    proxy.refuse();
    let mut small = Small::start(SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let mut cloud = mosquitto.client(&v5_persistent("cloud"));
    cloud.subscribe("data/#", QoS::AtLeastOnce);
    let mut publisher = small.gateway.client(&v5("publisher"));
    publisher.publish_numbers("data/t", 0..500, QoS::AtLeastOnce);
    // As much as there is room for.
    let others = small.path("others");
    let error = std::fs::write(&others, vec![0; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let held = fill(&mut publisher, 500..20_000);
    println!("{held} messages before the disk was full");
    refuses_and_serves(&mut small);
    std::fs::remove_file(&others).unwrap();
    take_held(&mut publisher);
    publisher.publish_numbers("data/t", held + 1..held + 100, QoS::AtLeastOnce);
    proxy.resume();
    drain(&mut cloud, 0..held + 100);
    assert!(small.process.is_running());
}
