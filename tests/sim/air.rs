//! A world of radio nodes alone: the real engine, nodes on UDP, behind a forwarder, and on two serial lines that noise
//! spoils; a store that forgets what was not committed. Each node listens to what the next one publishes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use moteway::config::{Config, LinkId};
use moteway::engine::{Engine, Input, Output, Start};
use moteway::mqtt::QoS;
use moteway::mqttsn::framing::Framer;
use moteway::mqttsn::{Forwarded, decode_datagram};
use moteway::time::{Duration, Instant, Now, Wall};

use crate::mote::Mote;
use crate::store::SimStore;

const CONFIG: &str = "
[store]
window_bytes = 2000
[sn]
retry_interval = '1s'
max_clients = 300
[[link]]
name = 'air'
kind = 'udp'
bind = '127.0.0.1:1883'
[[link]]
name = 'cobs'
kind = 'serial'
device = '/dev/ttyS0'
framing = 'cobs'
[[link]]
name = 'hdlc'
kind = 'serial'
device = '/dev/ttyS1'
framing = 'hdlc'
";
const AIR: LinkId = LinkId(0);
/// Messages that are lost, of each 100.
const LOST: u8 = 20;
/// Messages that come twice.
const DOUBLED: u8 = 5;
/// Messages on a serial line in which an octet is another.
const SPOILT: u8 = 10;
const MTU: usize = 255;

/// How a node reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp { port: u16 },
    Forwarder,
    Line(LinkId),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Store,
    Mote(usize),
    /// As it leaves the node, and as it comes to the other end of its way.
    Up(usize, Vec<u8>),
    Down(usize, Vec<u8>),
    Crash,
}

/// A serial line, as the far end sees it, and as noise does.
struct Line {
    link: LinkId,
    far: Framer,
}

pub struct Air {
    config: Config,
    engine: Engine,
    store: SimStore,
    store_busy: bool,
    pub motes: Vec<Mote>,
    ways: Vec<Way>,
    lines: Vec<Line>,
    rng: fastrand::Rng,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    rough: bool,
    publishing: bool,
    crash_every: Duration,
    pub crashes: u64,
    pub spoilt: u64,
    pub crc_errors: u64,
    pub moves: u64,
}

const FORWARDER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9)), 99);

fn at(now: Instant) -> Now {
    Now { at: now, wall: Wall::from_millis(1_700_000_000_000 + now.as_micros() / 1000) }
}

fn start(config: &Config, store: &SimStore, now: Instant, seed: u64) -> Engine {
    let start = Start { config, recovered: store.disk.recover(), seed };
    Engine::new(at(now), start).expect("the configuration is good")
}

impl Air {
    pub fn new(seed: u64, count: u32, crash_every: Duration) -> Self {
        let parsed = Config::parse(CONFIG).unwrap_or_else(|errors| panic!("{errors}"));
        let config = parsed.resolve("box").unwrap_or_else(|error| panic!("{error:?}"));
        let store = SimStore::default();
        let engine = start(&config, &store, Instant::ZERO, seed);
        let qos = |number: u32| if number % 4 < 2 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let lines = [(LinkId(1), Framer::cobs(MTU)), (LinkId(2), Framer::hdlc(MTU))];
        let way = |number: u32| match number % 5 {
            0 => Way::Forwarder,
            1 => Way::Line(LinkId(1)),
            2 => Way::Line(LinkId(2)),
            _ => Way::Udp { port: u16::try_from(1000 + number).expect("few nodes") },
        };
        let mut air = Self {
            config,
            engine,
            store,
            store_busy: false,
            motes: (0..count).map(|number| Mote::new(number, (number + 1) % count, qos(number))).collect(),
            ways: (0..count).map(way).collect(),
            lines: lines.into_iter().map(|(link, far)| Line { link, far }).collect(),
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            rough: false,
            publishing: false,
            crash_every,
            crashes: 0,
            spoilt: 0,
            crc_errors: 0,
            moves: 0,
        };
        air.open_lines();
        for mote in 0..air.motes.len() {
            air.plan(Duration::from_millis(mote as u64), Event::Mote(mote));
        }
        air
    }

    /// From now on messages are lost, doubled and spoilt, and the power fails.
    pub fn storm(&mut self) {
        (self.rough, self.publishing) = (true, true);
        self.plan_crash();
    }

    /// Everything works again, and nobody has anything more to say.
    pub fn heal(&mut self) {
        (self.rough, self.publishing) = (false, false);
        self.events.retain(|Reverse((.., event))| *event != Event::Crash);
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let event_at = self.events.peek().map(|Reverse((at, ..))| *at);
            let next = moteway::time::earliest(event_at, self.engine.deadline()).filter(|at| *at <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if event_at == Some(next) {
                if let Some(Reverse((_, _, event))) = self.events.pop() {
                    self.handle(event);
                }
            } else {
                self.input(Input::Timeout);
            }
        }
        self.now = until;
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + after, self.sequence, event)));
    }

    fn plan_crash(&mut self) {
        let mean = u64::try_from(self.crash_every.as_micros()).expect("a short time");
        let after = Duration::from_micros(self.rng.u64(0..2 * mean));
        self.plan(after, Event::Crash);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Store => {
                self.store_busy = false;
                if let Some(reply) = self.store.finish() {
                    self.input(Input::Store(reply));
                }
                self.wake_store();
            }
            Event::Mote(mote) => self.mote(mote),
            Event::Up(mote, octets) => self.arrive(mote, &octets),
            Event::Down(mote, octets) => {
                if let Some(answer) = self.motes[mote].handle(self.now, &octets) {
                    self.radio(|octets| Event::Up(mote, octets), answer);
                }
            }
            Event::Crash => self.crash(),
        }
    }

    fn mote(&mut self, index: usize) {
        match self.rng.u8(0..100) {
            0..35 if self.publishing => self.motes[index].publish(),
            35..45 if self.publishing => self.motes[index].tire(),
            45..55 if self.rough && self.motes[index].is_asleep() => self.move_away(index),
            _ => {}
        }
        if let Some(request) = self.motes[index].poll(self.now) {
            self.radio(|octets| Event::Up(index, octets), request);
        }
        let after = Duration::from_micros(self.rng.u64(20_000..150_000));
        self.plan(after, Event::Mote(index));
    }

    /// A node behind NAT has another port when it wakes up.
    fn move_away(&mut self, index: usize) {
        if let Way::Udp { port } = &mut self.ways[index] {
            *port = 1000 + (*port - 1000 + 1000) % 60_000;
            self.moves += 1;
        }
    }

    /// The air: messages are lost, doubled and overtake each other.
    fn radio(&mut self, event: impl Fn(Vec<u8>) -> Event, octets: Vec<u8>) {
        let copies = match self.rng.u8(0..100) {
            chance if self.rough && chance < LOST => 0,
            chance if self.rough && chance >= 100 - DOUBLED => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let after = Duration::from_micros(self.rng.u64(100..5_000));
            self.plan(after, event(octets.clone()));
        }
    }

    /// A message of a node comes to the gateway by its way.
    fn arrive(&mut self, mote: usize, octets: &[u8]) {
        let envelope = |octets: &[u8]| {
            let mut out = Vec::new();
            let node = u16::try_from(mote).expect("few nodes").to_be_bytes();
            Forwarded { radius: 0, node: &node }.encode(&mut out).expect("a short name");
            out.extend_from_slice(octets);
            out
        };
        match self.ways[mote] {
            Way::Udp { port } => {
                let from = ([10, 0, 0, 1], port).into();
                self.input(Input::Datagram { link: AIR, from, bytes: octets });
            }
            Way::Forwarder => {
                self.input(Input::Datagram { link: AIR, from: FORWARDER, bytes: &envelope(octets) });
            }
            Way::Line(link) => {
                let line = self.lines.iter_mut().find(|line| line.link == link).expect("a line");
                let mut bytes = Vec::new();
                line.far.encode(&envelope(octets), &mut bytes);
                self.spoil(&mut bytes);
                self.input(Input::SerialBytes { link, bytes: &bytes });
            }
        }
    }

    /// One octet becomes another, and there is noise between frames: a checksum finds each of these.
    fn spoil(&mut self, bytes: &mut [u8]) {
        if !self.rough || self.rng.u8(0..100) >= SPOILT {
            return;
        }
        self.spoilt += 1;
        let place = self.rng.usize(0..bytes.len());
        bytes[place] ^= self.rng.u8(1..=255);
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(at(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Commit(batch) => {
                    self.store.commit(batch);
                    self.wake_store();
                }
                Output::Read(read) => {
                    self.store.read(read);
                    self.wake_store();
                }
                Output::Datagram { to, bytes, .. } if to == FORWARDER => self.unwrap(&bytes),
                Output::Datagram { to, bytes, .. } => {
                    let port = to.port();
                    // To where it was, if it moved: nobody is there.
                    if let Some(mote) = self.ways.iter().position(|way| *way == Way::Udp { port }) {
                        self.radio(|octets| Event::Down(mote, octets), bytes);
                    }
                }
                Output::SerialWrite { link, mut bytes } => {
                    self.spoil(&mut bytes);
                    self.hear(link, &bytes);
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, link: LinkId, bytes: &[u8]) {
        let line = self.lines.iter_mut().find(|line| line.link == link).expect("a line");
        line.far.feed(self.now, bytes);
        let mut frames = Vec::new();
        while let Some(frame) = line.far.next_frame() {
            // CRC-16 lets one of 65 536 spoilt frames pass; what is no message then is dropped by whoever decodes it.
            if decode_datagram(frame).is_ok() {
                frames.push(frame.to_vec());
            }
        }
        for frame in frames {
            self.unwrap(&frame);
        }
    }

    /// A forwarder hands on what is for one of its nodes.
    fn unwrap(&mut self, datagram: &[u8]) {
        let (envelope, _) = decode_datagram(datagram).expect("whole and sound");
        let Some(Forwarded { node, .. }) = envelope else { return };
        let [high, low] = *node else { return };
        let mote = usize::from(u16::from_be_bytes([high, low]));
        let inner = datagram[usize::from(datagram[0])..].to_vec();
        self.radio(|octets| Event::Down(mote, octets), inner);
    }

    fn wake_store(&mut self) {
        if !self.store_busy && self.store.has_jobs() {
            self.store_busy = true;
            let after = Duration::from_micros(self.rng.u64(200..30_000));
            self.plan(after, Event::Store);
        }
    }

    fn open_lines(&mut self) {
        for link in [LinkId(1), LinkId(2)] {
            self.input(Input::SerialOpened { link });
        }
    }

    /// The process dies: everything in memory is gone, everything committed is there.
    fn crash(&mut self) {
        self.crashes += 1;
        self.count_noise();
        self.store.crash(&mut self.rng);
        self.store_busy = false;
        self.events.retain(|Reverse((.., event))| *event != Event::Store);
        self.engine = start(&self.config, &self.store, self.now, self.crashes);
        self.drain();
        self.open_lines();
        self.plan_crash();
    }

    /// Wrong checksums seen so far by the engine, before it is gone.
    pub fn count_noise(&mut self) {
        let framings = self.engine.status().links.into_iter().filter_map(|link| link.framing);
        self.crc_errors += framings.map(|framing| framing.crc_errors).sum::<u64>();
    }

    /// What was found wrong, in words.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for listener in &self.motes {
            let of = self.motes[(listener.number as usize + 1) % self.motes.len()].number;
            let publisher = &self.motes[of as usize];
            crate::checker::from_one_to_one(publisher, listener, &mut wrong);
        }
        wrong
    }
}
