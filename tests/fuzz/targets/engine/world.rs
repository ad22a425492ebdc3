//! What is around the engine, and what the input makes it do.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::LazyLock;

use moteway::config::{Config, LinkId, ListenerId, UpstreamId, UpstreamVersion};
use moteway::engine::{Engine, Input, Login, Output, Start, Status};
use moteway::mqtt::{ConnAck, ConnAckProperties, ConnId, Packet, ReasonCode, Version};
use moteway::mqttsn::decode_datagram;
use moteway::mqttsn::framing::Framer;
use moteway::queue::{RecordKind, Recovered, Reply};
use moteway::time::{Duration, Instant, Now, Wall};

use crate::store::SimStore;
use crate::targets::engine::pipe::{Far, Pipe};
use crate::targets::engine::{limits, radio, wire};
use crate::targets::source::Source;

/// Every limit is low, so that it is reached.
const CONFIG: &str = include_str!("box.toml");

static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
    ["5", "3.1.1"].map(|version| {
        let parsed = Config::parse(&CONFIG.replace("VERSION", version)).unwrap_or_else(|errors| panic!("{errors}"));
        parsed.resolve("box").unwrap_or_else(|error| panic!("{error}"))
    })
});

const WALL_AT_START: u64 = 1_700_000_000_000;
/// The links of the configuration: one of datagrams, two of bytes.
const AIR: LinkId = LinkId(0);
const LINES: [LinkId; 2] = [LinkId(1), LinkId(2)];
const MAX_PIPES: usize = 10;
/// How often in a row a deadline may be due without time passing.
const MAX_TIMEOUTS: usize = 200;

/// Topics that an upstream sends to.
const REMOTE: [&str; 4] = ["fleet/box/command", "fleet/box/both/x", "elsewhere", "fleet/box/both/y"];

pub struct World {
    config: &'static Config,
    engine: Engine,
    store: SimStore,
    now: Instant,
    /// The wall clock jumps.
    wall: u64,
    pipes: BTreeMap<ConnId, Pipe>,
    dials: Vec<UpstreamId>,
    /// What each node was sent last.
    heard: BTreeMap<SocketAddr, Vec<u8>>,
    framers: [Framer; 2],
    on_line: [Option<Vec<u8>>; 2],
    steps: u32,
    restarts: u64,
    shut_down: bool,
    done: bool,
    /// Prints what happens (`MOTEWAY_FUZZ_TELL`).
    tells: bool,
}

impl World {
    pub fn new(source: &mut Source<'_>) -> Self {
        let config = &CONFIGS[usize::from(source.byte() & 1)];
        let mut world = Self {
            config,
            engine: start(config, at(Instant::ZERO, WALL_AT_START), Recovered::default(), 0),
            store: SimStore::default(),
            now: Instant::ZERO,
            wall: WALL_AT_START,
            pipes: BTreeMap::new(),
            dials: Vec::new(),
            heard: BTreeMap::new(),
            framers: [Framer::slip(200), Framer::length(200)],
            on_line: [None, None],
            steps: 0,
            restarts: 0,
            shut_down: false,
            done: false,
            tells: std::env::var_os("MOTEWAY_FUZZ_TELL").is_some(),
        };
        world.drain();
        for link in LINES {
            world.input(Input::SerialOpened { link });
        }
        world
    }

    /// One thing happens.
    pub fn step(&mut self, source: &mut Source<'_>) {
        let kind = source.byte();
        match kind & 31 {
            0..=2 => self.accept(source, kind),
            3..=13 => self.packet(source, kind),
            14 => self.raw(source),
            15 => self.take_bytes(source),
            16 => self.lose(source),
            17..=20 => self.datagram(source),
            21 | 22 => self.serial(source),
            23 => self.serial_port(source),
            24 | 25 => self.pass(source),
            26 | 27 => self.commit(source),
            28 => self.dialled(source),
            29 => self.upstream(source),
            30 => self.restart(source),
            _ => self.rare(source),
        }
        self.steps += 1;
        if self.steps.is_multiple_of(8) {
            self.check();
        }
    }

    /// Everything heals and ends: nothing is stuck, and what is counted is what is stored.
    pub fn finish(&mut self) {
        self.check();
        self.store.full = false;
        self.work_off();
        for _ in 0..20 {
            self.advance(Duration::from_secs(1));
            self.work_off();
        }
        for conn in self.pipes.keys().copied().collect::<Vec<_>>() {
            self.pipes.remove(&conn);
            self.input(Input::Closed { conn, error: None });
        }
        self.work_off();
        self.check();
        if !self.shut_down {
            self.shut_down = true;
            self.input(Input::Shutdown);
        }
        for _ in 0..20 {
            self.work_off();
            self.advance(Duration::from_secs(1));
        }
        assert!(self.done, "told to stop, and it does not: {:?}", self.status());
        self.balance();
    }

    /// At rest, each queue holds as many messages as there are rows of it on the disk. Only nodes, which know nothing of
    /// connections, may have QoS 0 messages waiting.
    fn balance(&mut self) {
        self.work_off();
        let counted = self.lines();
        let has_nodes = self.status().gateway.clients > 0;
        let recovered = self.store.disk.recover();
        let found = rows(&recovered);
        // A start may add to them: wills that are due by the clock on the wall.
        self.engine = start(self.config, at(self.now, self.wall), recovered, self.restarts + 1);
        if has_nodes {
            let is_known = |(name, count): (&String, &u64)| counted.get(name).is_some_and(|known| known >= count);
            assert!(found.iter().all(is_known), "{counted:?} were counted, and {found:?} found again");
        } else {
            assert_eq!(found, counted, "what is found again, and what was counted");
        }
    }

    fn lines(&self) -> BTreeMap<String, u64> {
        let lines = self.status().lines.into_iter();
        lines.filter(|line| line.depth.messages > 0).map(|line| (line.name, line.depth.messages)).collect()
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn check(&self) {
        let clients = self.pipes.values().filter(|pipe| pipe.far == Far::Client).count();
        limits::check(self.config, &self.status(), clients);
    }

    fn input(&mut self, input: Input<'_>) {
        if self.tells {
            eprintln!("{:?} {input:?}", self.now);
        }
        self.engine.handle_input(at(self.now, self.wall), input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut flushes = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if self.tells {
                eprintln!("  {output:?}");
            }
            match output {
                // No listener here takes passwords.
                Output::Verify { .. } => unreachable!("there is nothing to log in with"),
                Output::Flush { conn } => {
                    assert!(self.pipes.contains_key(&conn), "{conn:?} is closed and has output");
                    flushes.push(conn);
                }
                Output::Close { conn } => {
                    let mut pipe = self.pipes.remove(&conn).expect("only an open connection can be closed");
                    pipe.receive(&self.outbox_bytes(conn, usize::MAX));
                    pipe.end();
                }
                Output::Datagram { link, to, bytes } => {
                    assert_eq!(link, AIR, "a datagram on a serial line");
                    self.check_message(link, &bytes);
                    self.heard.insert(to, bytes);
                }
                Output::Multicast { link, bytes, .. } => {
                    assert_eq!(link, AIR, "a datagram on a serial line");
                    self.check_message(link, &bytes);
                }
                Output::SerialWrite { link, bytes } => self.hear(link, &bytes),
                Output::Dial { upstream, endpoint } => {
                    assert_eq!((upstream, endpoint), (UpstreamId(0), 0));
                    assert!(self.dials.is_empty(), "dialled twice");
                    self.dials.push(upstream);
                }
                Output::Probe { .. } => unreachable!("there is one endpoint"),
                Output::Commit(batch) => self.store.commit(batch),
                Output::Read(read) => self.store.read(read),
                Output::Notice(notice) => assert!(!notice.what.is_empty()),
                Output::ShutdownDone => {
                    assert!(self.shut_down && !self.done);
                    self.done = true;
                }
            }
        }
        for conn in flushes {
            if self.pipes.get(&conn).is_some_and(|pipe| !pipe.is_slow) {
                self.flush(conn, usize::MAX);
            }
        }
    }

    fn check_message(&self, link: LinkId, bytes: &[u8]) {
        let (envelope, message) = decode_datagram(bytes).expect("the gateway sends messages");
        let head = envelope.map_or(0, |envelope| envelope.node.len() + 3);
        let mtu = self.config.link[usize::from(link.0)].mtu;
        assert!(bytes.len() - head <= mtu, "{message:?} is longer than the MTU");
    }

    /// A node at the far end of a serial line listens.
    fn hear(&mut self, link: LinkId, bytes: &[u8]) {
        let line = usize::from(link.0) - 1;
        let mut heard = Vec::new();
        self.framers[line].feed(self.now, bytes);
        while let Some(frame) = self.framers[line].next_frame() {
            heard.push(frame.to_vec());
        }
        assert_eq!(heard.len(), 1, "one write, one message");
        self.check_message(link, &heard[0]);
        self.on_line[line] = heard.pop();
    }

    fn outbox_bytes(&mut self, conn: ConnId, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(outbox) = self.engine.outbox(conn) else { return bytes };
        while !outbox.is_empty() && bytes.len() < most {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = outbox.slices(&mut slices);
            assert!(filled > 0, "it is not empty");
            let there: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = there.len().min(most - bytes.len());
            bytes.extend_from_slice(&there[..count]);
            outbox.consume(count);
        }
        bytes
    }

    /// The peer takes bytes.
    fn flush(&mut self, conn: ConnId, most: usize) {
        let bytes = self.outbox_bytes(conn, most);
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        if self.tells {
            eprintln!("  to {conn:?}: {bytes:?}");
        }
        pipe.receive(&bytes);
        assert!(!pipe.refused, "refused, and not closed");
        if self.engine.outbox(conn).is_some_and(|outbox| outbox.is_empty()) && !bytes.is_empty() {
            self.input(Input::Flushed { conn });
        }
    }

    fn pick(&self, source: &mut Source<'_>, wanted: impl Fn(&Pipe) -> bool) -> Option<ConnId> {
        let fitting: Vec<ConnId> =
            self.pipes.iter().filter(|(_, pipe)| wanted(pipe)).map(|(conn, _)| *conn).collect();
        let choice = usize::from(source.byte());
        (!fitting.is_empty()).then(|| fitting[choice % fitting.len()])
    }

    fn pick_client(&self, source: &mut Source<'_>) -> Option<ConnId> {
        self.pick(source, |pipe| pipe.far == Far::Client)
    }

    /// The peer sends bytes, unless it takes none itself: then the shell does not read.
    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let pause = self.config.broker.max_outbox_bytes * 2;
        if self.engine.outbox(conn).is_some_and(|outbox| outbox.len() >= pause) {
            return;
        }
        let max_packet = self.config.broker.max_packet_bytes;
        let Some(pipe) = self.pipes.get_mut(&conn).filter(|_| !bytes.is_empty()) else { return };
        pipe.watch_sent(bytes, max_packet);
        self.input(Input::Received { conn, bytes });
    }

    fn free_conn(&self) -> ConnId {
        (0..).map(ConnId).find(|conn| !self.pipes.contains_key(conn)).expect("there are more numbers than pipes")
    }

    fn accept(&mut self, source: &mut Source<'_>, kind: u8) {
        if self.pipes.len() >= MAX_PIPES {
            return;
        }
        let conn = self.free_conn();
        self.pipes.insert(conn, Pipe::new(Far::Client, kind & 0x80 != 0));
        self.input(Input::Accepted { conn, listener: ListenerId(0), peer: None, certificate: None });
        let mut bytes = Vec::new();
        wire::connect(source, &mut bytes);
        if kind & 0x40 != 0 {
            wire::spoil(source, &mut bytes);
        }
        self.send(conn, &bytes);
    }

    /// A client sends a packet, whole or in two pieces, sound or spoilt.
    fn packet(&mut self, source: &mut Source<'_>, kind: u8) {
        let Some(conn) = self.pick_client(source) else { return };
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        let version = pipe.version();
        let mut bytes = Vec::new();
        match kind & 31 {
            3..=6 => wire::publish(source, version, &wire::TOPICS, &mut bytes),
            7 | 8 => wire::subscribe(source, version, &mut bytes),
            9 => wire::unsubscribe(source, version, &mut bytes),
            10 | 11 => {
                while let Some(owed) = pipe.owed.pop_front() {
                    wire::answer(owed, version, kind & 0x20 != 0 && kind & 31 == 11, &mut bytes);
                    if kind & 31 == 10 {
                        break;
                    }
                }
            }
            12 => Packet::PingReq.encode(version, &mut bytes),
            _ => wire::disconnect(source, version, &mut bytes),
        }
        if kind & 0x40 != 0 {
            wire::spoil(source, &mut bytes);
        }
        let cut = if kind & 0x80 != 0 { bytes.len() / 2 } else { 0 };
        self.send(conn, &bytes[..cut]);
        self.send(conn, &bytes[cut..]);
    }

    fn raw(&mut self, source: &mut Source<'_>) {
        if let Some(conn) = self.pick(source, |_| true) {
            let bytes = source.chunk();
            self.send(conn, bytes);
        }
    }

    fn take_bytes(&mut self, source: &mut Source<'_>) {
        if let Some(conn) = self.pick(source, |_| true) {
            let most = usize::from(source.byte()) * 16 + 1;
            self.flush(conn, most);
        }
    }

    fn lose(&mut self, source: &mut Source<'_>) {
        if let Some(conn) = self.pick(source, |_| true) {
            self.pipes.remove(&conn);
            self.input(Input::Closed { conn, error: Some("reset".into()) });
        }
    }

    fn datagram(&mut self, source: &mut Source<'_>) {
        let number = source.byte();
        let from = SocketAddr::from(([10, 0, 0, 1], 1000 + u16::from(number & 7)));
        let mut bytes = Vec::new();
        if number & 0x80 != 0 {
            bytes.extend_from_slice(source.chunk());
        } else {
            radio::message(source, self.heard.get(&from).map(Vec::as_slice), &mut bytes);
        }
        if number & 0x40 != 0 {
            wire::spoil(source, &mut bytes);
        }
        self.input(Input::Datagram { link: AIR, from, bytes: &bytes });
    }

    fn serial(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        let line = usize::from(bits & 1);
        let mut bytes = Vec::new();
        if bits & 0x80 != 0 {
            bytes.extend_from_slice(source.chunk());
        } else {
            let mut message = Vec::new();
            radio::message(source, self.on_line[line].as_deref(), &mut message);
            self.framers[line].encode(&message, &mut bytes);
        }
        if bits & 0x40 != 0 {
            wire::spoil(source, &mut bytes);
        }
        let step = if bits & 0x20 != 0 { 1 } else { usize::MAX };
        for piece in bytes.chunks(step.min(bytes.len().max(1))) {
            self.input(Input::SerialBytes { link: LINES[line], bytes: piece });
        }
    }

    fn serial_port(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        let link = LINES[usize::from(bits & 1)];
        if bits & 2 != 0 {
            self.input(Input::SerialClosed { link, error: "unplugged".into() });
        } else {
            self.input(Input::SerialOpened { link });
        }
    }

    fn pass(&mut self, source: &mut Source<'_>) {
        let byte = source.byte();
        let unit = [1, 100, 1_000, 20_000, 60_000, 3_600_000, 86_400_000, 1_000][usize::from(byte >> 5)];
        self.advance(Duration::from_millis(unit * u64::from(byte & 31)));
    }

    /// Time passes. Deadlines are met one after the other, as far as there are not too many.
    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        let mut stops = 0;
        while let Some(deadline) = self.engine.deadline().filter(|at| *at <= until) {
            stops += 1;
            let then = if stops > 50 { until } else { deadline.max(self.now) };
            self.clock(then);
            let mut rounds = 0;
            while self.engine.deadline().is_some_and(|at| at <= self.now) {
                rounds += 1;
                assert!(rounds < MAX_TIMEOUTS, "a deadline is due again and again");
                self.input(Input::Timeout);
            }
        }
        self.clock(until);
    }

    fn clock(&mut self, then: Instant) {
        self.wall += u64::try_from(then.since(self.now).as_millis()).unwrap_or(0);
        self.now = then;
    }

    /// The store finishes some of its work, or cannot.
    fn commit(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        self.store.full = bits & 1 != 0;
        for _ in 0..usize::from(bits >> 4).max(1) {
            let Some(reply) = self.store.finish() else { break };
            let reply = match reply {
                Reply::Rows { dest, after, .. } if bits & 2 != 0 => {
                    Reply::Unreadable { dest, after, error: "bad sector".into() }
                }
                reply => reply,
            };
            self.input(Input::Store(reply));
        }
    }

    fn work_off(&mut self) {
        const MOST: usize = 10_000;
        for _ in 0..MOST {
            let Some(reply) = self.store.finish() else { break };
            self.input(Input::Store(reply));
        }
        assert!(!self.store.has_jobs(), "the store is never done");
    }

    fn dialled(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        let Some(upstream) = self.dials.pop() else { return };
        if bits & 1 != 0 {
            self.input(Input::DialFailed { upstream, error: "refused".into() });
            return;
        }
        let version = match self.config.upstream[0].version {
            UpstreamVersion::V5 => Version::V5,
            UpstreamVersion::V311 => Version::V311,
        };
        let conn = self.free_conn();
        self.pipes.insert(conn, Pipe::new(Far::Upstream(version), bits & 0x80 != 0));
        self.input(Input::Dialed { upstream, conn, login: Login::default() });
        let mut ack = ConnAck { session_present: bits & 4 != 0, ..ConnAck::default() };
        if version == Version::V5 {
            let receive_maximum = (bits & 8 != 0).then_some(2);
            let maximum_packet_size = (bits & 16 != 0).then_some(100);
            ack.properties =
                ConnAckProperties { receive_maximum, maximum_packet_size, ..ConnAckProperties::default() };
        }
        if bits & 0x60 == 0x60 {
            ack = ConnAck::refusal(ReasonCode::NotAuthorized);
        }
        let mut bytes = Vec::new();
        Packet::ConnAck(ack).encode(version, &mut bytes);
        self.send(conn, &bytes);
    }

    fn upstream(&mut self, source: &mut Source<'_>) {
        let kind = source.byte();
        let Some(conn) = self.pick(source, |pipe| pipe.far != Far::Client) else { return };
        let Some(pipe) = self.pipes.get_mut(&conn) else { return };
        let version = pipe.version();
        let mut bytes = Vec::new();
        match kind & 7 {
            0..=2 => wire::publish(source, version, &REMOTE, &mut bytes),
            3..=5 => {
                while let Some(owed) = pipe.owed.pop_front() {
                    wire::answer(owed, version, kind & 0x20 != 0, &mut bytes);
                }
            }
            6 => wire::disconnect(source, version, &mut bytes),
            _ => Packet::PingResp.encode(version, &mut bytes),
        }
        if kind & 0x40 != 0 {
            wire::spoil(source, &mut bytes);
        }
        self.send(conn, &bytes);
    }

    /// The power goes. What was committed is there again.
    fn restart(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        self.restarts += 1;
        self.store.crash(&mut fastrand::Rng::with_seed(u64::from(bits)));
        self.store.full = false;
        self.pipes.clear();
        self.dials.clear();
        (self.shut_down, self.done) = (false, false);
        let now = at(self.now, self.wall);
        self.engine = start(self.config, now, self.store.disk.recover(), self.restarts);
        self.drain();
        for link in LINES {
            self.input(Input::SerialOpened { link });
        }
    }

    /// The clock jumps, or the operator wants the gateway to stop.
    fn rare(&mut self, source: &mut Source<'_>) {
        let bits = source.byte();
        match bits & 3 {
            0 => self.wall = self.wall.saturating_add(u64::from(bits) * 60_000),
            1 => self.wall = self.wall.saturating_sub(u64::from(bits) * 60_000),
            2 => self.wall = u64::from(bits),
            _ if bits == 0xFF && !self.shut_down => {
                self.shut_down = true;
                self.input(Input::Shutdown);
            }
            _ => {}
        }
    }
}

fn start(config: &Config, now: Now, recovered: Recovered, seed: u64) -> Engine {
    let start = Start { config, recovered, seed };
    Engine::new(now, start).expect("the configuration is good")
}

/// How many rows each queue has, by its name.
fn rows(recovered: &Recovered) -> BTreeMap<String, u64> {
    let dests = recovered.records.iter().filter(|(kind, ..)| *kind == RecordKind::Dest);
    let names: BTreeMap<&[u8], String> =
        dests.map(|(_, key, name)| (&**key, String::from_utf8_lossy(name).into_owned())).collect();
    let name = |dest: u16| names.get(&dest.to_be_bytes()[..]).cloned().unwrap_or_else(|| format!("orphan:{dest}"));
    recovered.queues.iter().map(|queue| (name(queue.dest.0), queue.count)).collect()
}

fn at(now: Instant, wall: u64) -> Now {
    Now { at: now, wall: Wall::from_millis(wall) }
}
