//! What months in a cabinet do: a long outage, a file that was damaged, and noise on every line.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;

use crate::flood::Flood;
use crate::harness::client::{v5, v311};
use crate::harness::gateway::Gateway;
use crate::harness::{free_port, until};

/// An upstream that is not there, and a queue that is large enough.
fn outage() -> String {
    format!(
        "[[upstream]]\nname = \"cloud\"\nurl = [\"mqtt://127.0.0.1:{}\"]\n\
         [[upstream.rule]]\nname = \"all\"\nfilter = \"site/#\"\nlimit = {{ messages = 2_000_000, bytes = \"800MiB\" }}\n",
        free_port()
    )
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[test]
fn a_million_messages_queue_in_flat_memory_and_start_in_time() {
    let mut gateway = Gateway::start(&outage());
    let mut flood = Flood::connect(gateway.address(), &v311("flood"));
    let payload = [b'x'; 200];
    let mut sizes = Vec::new();
    let begin = Instant::now();
    for hundred_thousand in 0..10 {
        let first = hundred_thousand * 100_000;
        flood.publish("site/room/sensor", &payload, first..first + 100_000);
        sizes.push(gateway.rss());
        println!(
            "{:7} queued after {:5.1} s, RSS {} MiB",
            first + 100_000,
            begin.elapsed().as_secs_f64(),
            mib(sizes[sizes.len() - 1])
        );
    }
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    assert!(last < first + (8 << 20), "RSS grew from {} to {} MiB with the queue", mib(first), mib(last));
    // Looking costs as little as with ten: nothing counts the messages.
    let begin = Instant::now();
    let report: serde_json::Value = serde_json::from_slice(&gateway.ask(&["status", "--json"]).stdout).unwrap();
    println!("status of 1 000 000 messages in {} ms", begin.elapsed().as_millis());
    assert_eq!(report["queues"][0]["messages"], 1_000_000);
    assert!(report["queues"][0]["oldest"].as_u64() > Some(0), "{report}");
    let start = gateway.kill_and_restart();
    println!("started with 1 000 000 messages in {} ms, RSS {} MiB", start.as_millis(), mib(gateway.rss()));
    assert!(start < Duration::from_secs(2), "started in {start:?}");
    let mut client = gateway.client(&v5("after"));
    client.ping();
}

#[test]
fn a_damaged_file_is_set_aside_and_told_of() {
    let mut gateway = Gateway::start(&outage());
    let mut flood = Flood::connect(gateway.address(), &v311("flood"));
    flood.publish("site/room/sensor", &[b'x'; 200], 0..20_000);
    gateway.kill();
    let path = gateway.state_dir().join("moteway.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let (len, mut rng) = (bytes.len(), fastrand::Rng::with_seed(7));
    bytes.truncate(len - len / 10);
    for _ in 0..50 {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(0..8);
    }
    std::fs::write(&path, bytes).unwrap();
    gateway.start_again();
    let mut client = gateway.client(&v5("after"));
    assert!(!client.publish("site/room/sensor", "still works", QoS::AtLeastOnce).is_error());
    let (status, said) = gateway.terminate();
    assert!(status.success());
    let aside = std::fs::read_dir(gateway.state_dir()).unwrap().flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().contains("damaged")).count();
    println!("{}", said.lines().filter(|line| line.contains("damaged")).collect::<Vec<_>>().join("\n"));
    assert!(aside > 0, "the damaged file was kept");
    assert!(said.contains("store was damaged"), "{said}");
}

/// Seconds of noise: short here, `MOTEWAY_NOISE_SECONDS=600` for the ten minutes of a release.
fn noise_time() -> Duration {
    let seconds = std::env::var("MOTEWAY_NOISE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

#[test]
fn random_bytes_on_every_line_stop_nobody() {
    let (udp, terminal) = (free_port(), nix::pty::openpty(None, None).unwrap());
    let device = nix::unistd::ttyname(&terminal.slave).unwrap();
    let mut gateway = Gateway::start(&format!(
        "[[link]]\nname = \"air\"\nkind = \"udp\"\nbind = \"127.0.0.1:{udp}\"\n\
         [[link]]\nname = \"line\"\nkind = \"serial\"\ndevice = {device:?}\n"
    ));
    let mut serial = std::fs::File::from(terminal.master);
    nix::fcntl::fcntl(&serial, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = gateway.client(&v5("calm"));
    client.subscribe("calm", QoS::AtLeastOnce);
    let mut rng = fastrand::Rng::with_seed(42);
    let (end, mut rounds, mut first) = (Instant::now() + noise_time(), 0_u64, None);
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        for _ in 0..20 {
            let mut noise = vec![0; rng.usize(1..400)];
            rng.fill(&mut noise);
            socket.send_to(&noise, ("127.0.0.1", udp)).unwrap();
            // A full terminal drops the rest: noise is noise.
            drop(serial.write(&noise));
            if let Ok(mut stream) = TcpStream::connect(gateway.address()) {
                let mut bytes = noise;
                if rng.bool() {
                    // Past the door: a good CONNECT first.
                    let mut hello = Vec::new();
                    v311("noise").encode(&mut hello);
                    bytes.splice(0..0, hello);
                }
                // The gateway may hang up in the middle of it.
                drop(stream.write_all(&bytes));
            }
        }
        let begin = Instant::now();
        assert!(!client.publish("calm", "x", QoS::AtLeastOnce).is_error());
        let delivery = client.take();
        assert_eq!(delivery.text(), "x");
        slowest = slowest.max(begin.elapsed());
        rounds += 1;
        if rounds == 50 {
            first = Some(gateway.rss());
        }
    }
    assert!(gateway.is_running());
    let last = gateway.rss();
    println!("{} rounds of 20, slowest round trip {slowest:?}, RSS {} MiB", rounds, mib(last));
    let first = first.expect("more than 50 rounds");
    assert!(last < first + (8 << 20), "RSS grew from {} to {} MiB", mib(first), mib(last));
    until("the noise is gone and the gateway still serves", || gateway.is_running());
    let (status, said) = gateway.terminate();
    assert!(status.success() && !said.contains("panicked"), "{said}");
}
