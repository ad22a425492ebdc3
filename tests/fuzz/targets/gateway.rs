//! The gateway with the broker behind it: any datagrams from several addresses, to the socket, to a multicast group and
//! through a forwarder, any octets on a serial line, peers that prove a name or another, time, and power cuts. Whatever
//! goes out is one whole message within its link's limit, and what is held is bounded.

use std::sync::LazyLock;

use moteway::config::{Config, LinkId};
use moteway::engine::{Engine, Input, Output, Start};
use moteway::mqttsn::decode_datagram;
use moteway::mqttsn::framing::Framer;
use moteway::time::{Duration, Instant, Now, Wall};

use crate::store::SimStore;
use crate::targets::engine::radio;
use crate::targets::source::Source;

const CONFIG: &str = "
[sn]
max_clients = 6
max_topics_per_client = 4
max_sleep_messages = 8
max_sleep_bytes = '1KiB'
max_sleep_age = '1h'
retry_interval = '1s'
retries = 2
advertise_interval = '1min'
node_rate = 50
node_burst = 40
[sn.predefined]
'a' = 1
[[sn.client]]
client_id = 'sn1'
identity = 'key'
predefined = { 'b' = 1 }
[[sn.client]]
client_id = 'sn*'
[[link]]
name = 'air'
kind = 'udp'
bind = '127.0.0.1:1883'
multicast = '225.1.1.1:1883'
mtu = 200
[[link]]
name = 'known'
kind = 'udp'
bind = '127.0.0.1:1884'
known_only = true
[[link]]
name = 'wire'
kind = 'serial'
device = '/dev/ttyS0'
framing = 'cobs'
mtu = 64
";
const WIRE: LinkId = LinkId(2);
const MTU: [usize; 3] = [200, 1400, 64];
const ADDRESSES: u16 = 4;

static PARSED: LazyLock<Config> = LazyLock::new(|| {
    let parsed = Config::parse(CONFIG).unwrap_or_else(|errors| panic!("{errors}"));
    parsed.resolve("box").unwrap_or_else(|error| panic!("{error}"))
});

struct World {
    engine: Engine,
    store: SimStore,
    now: Instant,
    lives: u64,
    /// What each address was sent last.
    last: [Option<Vec<u8>>; ADDRESSES as usize],
    far: Framer,
}

/// Plays the input.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new();
    while !source.is_empty() {
        world.step(&mut source);
    }
    // It comes to rest.
    for _ in 0..3 {
        world.pass(Duration::from_secs(3600));
    }
}

fn at(now: Instant) -> Now {
    Now { at: now, wall: Wall::from_millis(1_700_000_000_000 + now.as_micros() / 1000) }
}

fn start(store: &SimStore, now: Instant, seed: u64) -> Engine {
    let start = Start { config: &PARSED, recovered: store.disk.recover(), seed };
    Engine::new(at(now), start).expect("the configuration is good")
}

impl World {
    fn new() -> Self {
        let store = SimStore::default();
        let engine = start(&store, Instant::ZERO, 1);
        let last = [const { None }; ADDRESSES as usize];
        Self { engine, store, now: Instant::ZERO, lives: 1, last, far: Framer::cobs(MTU[2]) }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let what = source.byte();
        let from = ([10, 0, 0, 1], 1000 + u16::from(what >> 3) % ADDRESSES).into();
        let link = LinkId(u16::from(what >> 5 & 1));
        match what & 7 {
            0 => self.input(Input::Datagram { link, from, bytes: source.chunk() }),
            1 | 2 => {
                let mut message = Vec::new();
                let last = self.last[usize::from(what >> 3) % self.last.len()].clone();
                radio::message(source, last.as_deref(), &mut message);
                self.input(Input::Datagram { link, from, bytes: &message });
            }
            3 => {
                let mut message = Vec::new();
                radio::message(source, None, &mut message);
                if what & 0x80 != 0 {
                    self.input(Input::Multicast { link, from, bytes: &message });
                } else {
                    let mut octets = Vec::new();
                    self.far.encode(&message, &mut octets);
                    self.input(Input::SerialBytes { link: WIRE, bytes: &octets });
                }
            }
            4 => self.input(Input::SerialBytes { link: WIRE, bytes: source.chunk() }),
            5 => match what >> 6 {
                0 => self.input(Input::SerialOpened { link: WIRE }),
                1 => self.input(Input::SerialClosed { link: WIRE, error: String::new() }),
                name => {
                    let identity = (what & 8 != 0).then_some(if name == 2 { "key" } else { "other" });
                    self.input(Input::Identified { link, from, identity });
                }
            },
            6 => self.pass(Duration::from_millis(u64::from(source.byte()) << (what >> 4))),
            _ if what >> 3 == 0 => self.crash(),
            _ => self.store_answers(),
        }
        let status = self.engine.status();
        let sn = &PARSED.sn;
        assert!(status.gateway.clients <= sn.max_clients as u64, "{:?}", status.gateway);
        assert!(
            status.gateway.topics <= (sn.max_clients * sn.max_topics_per_client) as u64,
            "{:?}",
            status.gateway
        );
        for client in self.engine.sn_clients() {
            assert!(client.buffered.messages <= sn.max_sleep_messages, "{client:?}");
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(at(self.now), input);
        self.drain();
    }

    fn store_answers(&mut self) {
        while let Some(reply) = self.store.finish() {
            self.engine.handle_input(at(self.now), Input::Store(reply));
            self.drain();
        }
    }

    fn crash(&mut self) {
        self.lives += 1;
        self.store.crash(&mut fastrand::Rng::with_seed(self.lives));
        self.engine = start(&self.store, self.now, self.lives);
        self.drain();
    }

    /// Time passes, and the store is quick.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let (mut turns, mut before) = (0, self.now);
        self.store_answers();
        while let Some(due) = self.engine.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            turns = if self.now == before { turns + 1 } else { 0 };
            before = self.now;
            assert!(turns < 200, "a deadline is due again and again");
            self.input(Input::Timeout);
            self.store_answers();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Commit(batch) => self.store.commit(batch),
                Output::Read(read) => self.store.read(read),
                Output::Datagram { link, to, bytes } => {
                    check(link, &bytes);
                    self.last[usize::from(to.port() - 1000)] = Some(bytes);
                }
                Output::Multicast { link, bytes, .. } => {
                    assert_eq!(link, LinkId(0), "the other has no groups");
                    check(link, &bytes);
                }
                Output::SerialWrite { link, bytes } => {
                    assert_eq!(link, WIRE);
                    self.far.feed(self.now, &bytes);
                    let frame = self.far.next_frame().expect("a whole frame");
                    check(link, frame);
                }
                Output::Notice(notice) => assert!(!notice.what.is_empty()),
                other => panic!("{other:?} without a connection"),
            }
        }
    }
}

fn check(link: LinkId, datagram: &[u8]) {
    let (envelope, _) = decode_datagram(datagram).unwrap_or_else(|error| panic!("{error:?}: {datagram:?}"));
    let inner = datagram.len() - envelope.map_or(0, |envelope| 3 + envelope.node.len());
    assert!(inner <= MTU[usize::from(link.0)], "{inner} octets on link {link:?}");
}
