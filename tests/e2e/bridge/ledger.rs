//! The ledger: what was acknowledged is delivered, in order, whatever is cut and whoever is killed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use moteway::mqtt::{Packet, PubAck, Publish, QoS, ReasonCode, Version};

use crate::bridge::{DATA, LinkState, upstream};
use crate::harness::client::{Client, message, v5, v5_persistent};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::proxy::Proxy;

/// Messages of all publishers together, unless `MOTEWAY_E2E_MESSAGES` says otherwise.
const MESSAGES: u32 = 100_000;
const PUBLISHERS: u32 = 2;
/// Topics of each publisher, which it uses in turn.
const TOPICS: u32 = 4;
/// Messages that a publisher sends before the first is acknowledged.
const WINDOW: usize = 200;
const CUTS: u32 = 20;
const KILLS: u32 = 20;
/// All of it takes no longer.
const LIMIT: Duration = Duration::from_secs(220);

/// What did not arrive by then, though all was acknowledged, is lost.
const SILENCE: Duration = Duration::from_secs(15);

/// What all threads look at.
struct World {
    messages: u32,
    gateway: std::net::SocketAddr,
    cloud: std::net::SocketAddr,
    acknowledged: AtomicU32,
    delivered: AtomicU32,
    /// The moments that the next cut and the next kill wait for.
    next_cut: AtomicU32,
    next_kill: AtomicU32,
    begin: Instant,
}

impl World {
    /// Nobody waits for ever.
    #[track_caller]
    fn check_time(&self) {
        assert!(
            self.begin.elapsed() < LIMIT,
            "after {LIMIT:?}: {} acknowledged, {} delivered",
            self.acknowledged.load(Ordering::Relaxed),
            self.delivered.load(Ordering::Relaxed)
        );
    }

    /// Waits between two looks at something.
    #[track_caller]
    fn pause(&self, millis: u64) {
        self.check_time();
        std::thread::park_timeout(Duration::from_millis(millis));
    }

    /// So many counts of acknowledged messages, at random.
    fn moments(&self, count: u32, rng: &mut Rng) -> Vec<u32> {
        let end = self.messages / 20 * 19;
        let mut moments = (0..count).map(|_| rng.u32(0..end)).collect::<Vec<_>>();
        moments.sort_unstable();
        moments
    }

    /// Waits until so many messages are acknowledged.
    fn wait_for_moment(&self, next: &AtomicU32, moment: u32) {
        next.store(moment, Ordering::Relaxed);
        while self.acknowledged.load(Ordering::Relaxed) < moment {
            self.pause(1);
        }
    }

    /// Publishers do not run far ahead of what is to happen to them, or it would all happen when they are done.
    fn wait_for_events(&self) {
        let due = || self.next_cut.load(Ordering::Relaxed).min(self.next_kill.load(Ordering::Relaxed));
        while self.acknowledged.load(Ordering::Relaxed) > due().saturating_add(self.messages / 50) {
            self.pause(1);
        }
    }
}

/// What one publisher did.
#[derive(Default)]
struct Sent {
    sent: u32,
    resent: u32,
}

/// Sends the numbers of one publisher until all are acknowledged. What was not is sent again, in order, when the
/// connection is lost.
fn publish(world: &World, publisher: u32) -> Sent {
    let mut count = Sent::default();
    let mut numbers = 0..world.messages / PUBLISHERS;
    let mut unanswered = VecDeque::new();
    loop {
        let id = format!("publisher {publisher}");
        let Some(mut client) = Client::try_connect(world.gateway, &v5(&id)) else {
            world.pause(5);
            continue;
        };
        client.set_read_timeout(Duration::from_secs(5));
        count.resent += u32::try_from(unanswered.len()).unwrap();
        let again = unanswered.drain(..).map(|(_, number)| number).collect::<Vec<u32>>();
        let mut again = again.into_iter();
        loop {
            world.wait_for_events();
            let mut bytes = Vec::new();
            while unanswered.len() < WINDOW
                && let Some(number) = again.next().or_else(|| numbers.next().inspect(|_| count.sent += 1))
            {
                let pkid = client.next_pkid();
                unanswered.push_back((pkid, number));
                let topic = format!("data/{publisher}/{}", number % TOPICS);
                let text = format!("{number:<64}");
                let publish = Publish { pkid, ..message(&topic, text.as_bytes(), QoS::AtLeastOnce) };
                Packet::Publish(publish).encode(Version::V5, &mut bytes);
            }
            if unanswered.is_empty() {
                return count;
            }
            if client.send_bytes(&bytes).is_err() {
                break;
            }
            // Half a window at once, so that there is always something under way.
            let wanted = unanswered.len().min(WINDOW / 2);
            if !(0..wanted).all(|_| take_puback(world, &mut client, &mut unanswered)) {
                break;
            }
        }
        assert_eq!(again.len(), 0, "they fit into the window");
        world.check_time();
    }
}

/// Takes the acknowledgement of the oldest message. False if the connection is lost.
fn take_puback(world: &World, client: &mut Client, unanswered: &mut VecDeque<(u16, u32)>) -> bool {
    let Ok(Some(received)) = client.try_receive() else { return false };
    let Packet::PubAck(ack) = received.packet() else {
        // Not in this test, but a gateway may say goodbye.
        return false;
    };
    let (pkid, number) = unanswered.pop_front().unwrap();
    assert_eq!((ack.pkid, ack.reason.is_error()), (pkid, false), "for number {number}: {}", ack.reason);
    world.acknowledged.fetch_add(1, Ordering::Relaxed);
    true
}

/// What arrived.
struct Arrived {
    /// By publisher and number.
    copies: Vec<Vec<u8>>,
    duplicates: u32,
    /// First copies that came before an older one of their publisher and topic.
    out_of_order: Vec<String>,
}

impl Arrived {
    fn lost(&self) -> usize {
        self.copies.iter().flatten().filter(|copies| **copies == 0).count()
    }
}

/// Receives until each number arrived, or nothing comes any more, resuming its session when the cloud was away.
fn receive(world: &World) -> Arrived {
    let share = world.messages / PUBLISHERS;
    let mut arrived = Arrived {
        copies: vec![vec![0; share as usize]; PUBLISHERS as usize],
        duplicates: 0,
        out_of_order: Vec::new(),
    };
    // The number that comes next, by publisher and topic.
    let mut next = vec![(0..TOPICS).collect::<Vec<_>>(); PUBLISHERS as usize];
    let mut heard = Instant::now();
    while world.delivered.load(Ordering::Relaxed) < world.messages {
        if world.acknowledged.load(Ordering::Relaxed) == world.messages && heard.elapsed() > SILENCE {
            break;
        }
        let Some(mut client) = Client::try_connect(world.cloud, &v5_persistent("receiver")) else {
            world.pause(5);
            continue;
        };
        assert!(client.session_present, "the cloud forgot the receiver");
        client.set_read_timeout(Duration::from_secs(5));
        while world.delivered.load(Ordering::Relaxed) < world.messages {
            world.check_time();
            let Ok(Some(received)) = client.try_receive() else { break };
            let Packet::Publish(publish) = received.packet() else { break };
            heard = Instant::now();
            let mut levels = publish.topic.split('/').skip(1).map(|level| level.parse::<usize>().unwrap());
            let (publisher, topic) = (levels.next().unwrap(), levels.next().unwrap());
            let number: u32 = std::str::from_utf8(publish.payload).unwrap().trim_end().parse().unwrap();
            let copies = &mut arrived.copies[publisher][number as usize];
            *copies = copies.saturating_add(1);
            if *copies == 1 {
                let next = &mut next[publisher][topic];
                if number != *next {
                    arrived.out_of_order.push(format!("{}: {number} came before {next}", publish.topic));
                }
                *next = (*next).max(number + TOPICS);
                world.delivered.fetch_add(1, Ordering::Relaxed);
            } else {
                arrived.duplicates += 1;
            }
            let ack = Packet::PubAck(PubAck::new(publish.pkid, ReasonCode::Success));
            if client.try_send(&ack).is_err() {
                break;
            }
        }
    }
    arrived
}

/// Half of the cuts stop the cloud, the others cut or stall the line to it.
fn cut(world: &World, mosquitto: &mut Mosquitto, proxy: &Proxy, rng: &mut Rng) -> Cuts {
    let mut kinds = (0..CUTS).collect::<Vec<_>>();
    rng.shuffle(&mut kinds);
    let mut cuts = Cuts::default();
    for (moment, kind) in world.moments(CUTS, rng).into_iter().zip(kinds) {
        world.wait_for_moment(&world.next_cut, moment);
        match kind % 4 {
            0 | 2 => {
                mosquitto.stop();
                world.pause(rng.u64(0..300));
                mosquitto.start_again();
                cuts.stops += 1;
            }
            1 => {
                proxy.cut();
                cuts.cuts += 1;
            }
            _ => {
                proxy.stall();
                // Shorter and longer than the watchdog's patience.
                world.pause(rng.u64(100..2500));
                proxy.resume();
                cuts.stalls += 1;
            }
        }
    }
    world.next_cut.store(u32::MAX, Ordering::Relaxed);
    cuts
}

#[derive(Default)]
struct Cuts {
    stops: u32,
    cuts: u32,
    stalls: u32,
}

/// Power cuts for the gateway.
fn kill(world: &World, gateway: &mut Gateway, rng: &mut Rng) -> u32 {
    let moments = world.moments(KILLS, rng);
    for moment in &moments {
        world.wait_for_moment(&world.next_kill, *moment);
        // Not always in step with what was just counted.
        world.pause(rng.u64(0..50));
        gateway.kill_and_restart();
    }
    world.next_kill.store(u32::MAX, Ordering::Relaxed);
    u32::try_from(moments.len()).unwrap()
}

struct Ledger {
    sent: Vec<Sent>,
    acknowledged: u32,
    arrived: Arrived,
    cuts: Cuts,
    kills: u32,
    took: Duration,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, arrived, cuts, kills, took } = self;
        let line =
            |f: &mut fmt::Formatter<'_>, what: &str, count: &dyn fmt::Display| writeln!(f, "{what:<22}{count:>8}");
        line(f, "sent", &sent.iter().map(|sent| sent.sent).sum::<u32>())?;
        line(f, "sent again", &sent.iter().map(|sent| sent.resent).sum::<u32>())?;
        line(f, "acknowledged", acknowledged)?;
        line(f, "delivered", &(arrived.copies.iter().map(Vec::len).sum::<usize>() - arrived.lost()))?;
        line(f, "duplicates", &arrived.duplicates)?;
        line(f, "out of order", &arrived.out_of_order.len())?;
        line(f, "lost", &arrived.lost())?;
        line(f, "cloud stopped", &cuts.stops)?;
        line(f, "line cut", &cuts.cuts)?;
        line(f, "line stalled", &cuts.stalls)?;
        line(f, "gateway killed", kills)?;
        line(f, "seconds", &format!("{:.1}", took.as_secs_f64()))
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_order_holds_through_20_cuts_and_20_power_cuts() {
    let messages = std::env::var("MOTEWAY_E2E_MESSAGES").map_or(MESSAGES, |text| text.parse().unwrap());
    let seed = std::env::var("MOTEWAY_E2E_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("MOTEWAY_E2E_SEED={seed} MOTEWAY_E2E_MESSAGES={messages}");
    let mut rng = Rng::with_seed(seed);
    let log_types = "log_type error\nlog_type warning\nlog_type notice\nlog_type information";
    let mut mosquitto = Mosquitto::start_with(None, log_types);
    let proxy = Proxy::start(mosquitto.address());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let keys = "stuck_timeout = \"1s\"\nconnect_timeout = \"2s\"";
    let mut gateway = Gateway::start(&upstream(&url, keys, &[DATA]));
    LinkState::of(&gateway).wait("online");
    let mut receiver = mosquitto.client(&v5_persistent("receiver"));
    receiver.subscribe("data/#", QoS::AtLeastOnce);
    receiver.disconnect();

    let world = World {
        messages,
        gateway: gateway.address(),
        cloud: mosquitto.address(),
        acknowledged: AtomicU32::new(0),
        delivered: AtomicU32::new(0),
        next_cut: AtomicU32::new(0),
        next_kill: AtomicU32::new(0),
        begin: Instant::now(),
    };
    let (mut cut_rng, mut kill_rng) = (rng.fork(), rng.fork());
    let ledger = std::thread::scope(|scope| {
        let world = &world;
        let receiver = scope.spawn(|| receive(world));
        let publishers =
            (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(world, publisher))).collect::<Vec<_>>();
        let cutter = scope.spawn(|| cut(world, &mut mosquitto, &proxy, &mut cut_rng));
        let killer = scope.spawn(|| kill(world, &mut gateway, &mut kill_rng));
        let sent = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
        let (cuts, kills) = (cutter.join().unwrap(), killer.join().unwrap());
        let arrived = receiver.join().unwrap();
        let acknowledged = world.acknowledged.load(Ordering::Relaxed);
        Ledger { sent, acknowledged, arrived, cuts, kills, took: world.begin.elapsed() }
    });
    println!("{ledger}");
    assert_eq!(ledger.acknowledged, messages);
    assert_eq!(ledger.arrived.lost(), 0);
    assert!(ledger.arrived.out_of_order.is_empty(), "{:?}", ledger.arrived.out_of_order);
    let Cuts { stops, cuts, stalls } = ledger.cuts;
    assert_eq!((stops, cuts + stalls, ledger.kills), (CUTS / 2, CUTS / 2, KILLS));
}
