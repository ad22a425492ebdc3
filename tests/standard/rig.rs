//! The real engine with a store in memory and clients of raw bytes, in virtual time. Each connection is watched for what
//! holds whatever a test is about: CONNACK comes first and once, nothing follows a refusal or a DISCONNECT, no packet is
//! larger than the client said, no packet identifier is given out twice, no topic alias is one that the client does not take.

use std::collections::{BTreeMap, BTreeSet};

use moteway::config::{Config, LinkId, ListenerId};
use moteway::engine::{Engine, Input, Output, Start, Status};
use moteway::mqtt::ConnId;
use moteway::queue::Recovered;
use moteway::time::{Duration, Instant, Now, Wall};

use crate::sent::{Sent, read};
use crate::store::SimStore;
use crate::wire::{Connect, Publish, V5, V311, subscribe};

const EPOCH: u64 = 1_700_000_000_000;
/// After this time all that waits for the disk in no haste is there.
pub const WRITTEN: Duration = Duration::from_millis(300);

/// The server's side of a client, and what was seen of it.
#[derive(Debug, Default)]
struct Line {
    level: u8,
    max_packet: usize,
    unread: Vec<Sent>,
    has_connack: bool,
    /// Nothing may come any more.
    is_over: bool,
    is_closed: bool,
    alias_maximum: u16,
    /// What the topic aliases that the server sent stand for.
    aliases: BTreeMap<u32, String>,
    /// Packet identifiers of PUBLISH packets that the client did not acknowledge.
    open: BTreeSet<u16>,
}

/// A connection, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(usize);

pub struct Rig {
    config: Config,
    engine: Engine,
    pub store: SimStore,
    /// The store takes what it is given and does not answer.
    pub store_hangs: bool,
    lines: Vec<Line>,
    /// Datagrams to radio nodes, by the port of the node.
    air: Vec<(u16, Vec<u8>)>,
    now: Instant,
    lives: u64,
}

fn now(at: Instant) -> Now {
    Now { at, wall: Wall::from_millis(EPOCH + at.as_micros() / 1000) }
}

fn start(config: &Config, at: Instant, recovered: Recovered, seed: u64) -> Engine {
    let start = Start { config, recovered, seed };
    Engine::new(now(at), start).unwrap_or_else(|error| panic!("{error}"))
}

impl Rig {
    /// With the defaults.
    pub fn new() -> Self {
        Self::with("")
    }

    /// With this configuration.
    pub fn with(text: &str) -> Self {
        let config = Config::parse(text).unwrap_or_else(|errors| panic!("{errors}"));
        let config = config.resolve("box").unwrap_or_else(|error| panic!("{error:?}"));
        let engine = start(&config, Instant::ZERO, Recovered::default(), 1);
        let store = SimStore::default();
        Self { config, engine, store, store_hangs: false, lines: vec![], air: vec![], now: Instant::ZERO, lives: 1 }
    }

    /// Opens a connection and says nothing.
    pub fn open(&mut self) -> Client {
        let number = u32::try_from(self.lines.len()).expect("few connections");
        self.lines.push(Line { level: V311, max_packet: usize::MAX, ..Line::default() });
        let peer = Some(([192, 0, 2, 1], 40_000).into());
        let (conn, listener) = (ConnId(number), ListenerId(0));
        self.input(Input::Accepted { conn, listener, peer, certificate: None });
        Client(number as usize)
    }

    /// Opens a connection and sends CONNECT. The answer is left to be read.
    pub fn dial(&mut self, connect: &Connect) -> Client {
        let client = self.open();
        let line = &mut self.lines[client.0];
        (line.max_packet, line.alias_maximum) = (connect.max_packet, connect.alias_maximum);
        self.send(client, connect.bytes());
        client
    }

    /// How many retained messages are on the disk.
    pub fn stored_retained(&self) -> usize {
        self.store.disk.recover().retained.len()
    }

    /// Bytes that wait for the disk.
    pub fn pending_bytes(&self) -> usize {
        self.engine.status().pending_bytes
    }

    /// A client that must be let in; true with it if the server has its session.
    pub fn join(&mut self, connect: &Connect) -> (Client, bool) {
        let client = self.dial(connect);
        assert!(!self.lines[client.0].unread.is_empty(), "no CONNACK");
        let connack = self.lines[client.0].unread.remove(0);
        assert_eq!((connack.name, &connack.codes[..]), ("connack", &[0][..]));
        (client, connack.session_present)
    }

    /// A client that must be let in.
    pub fn connect(&mut self, connect: &Connect) -> Client {
        self.join(connect).0
    }

    /// Sends bytes, and lets everything happen that follows at once.
    pub fn send(&mut self, client: Client, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.note_version(client, bytes);
        self.note_acknowledgement(client, bytes);
        self.input(Input::Received { conn: conn(client), bytes });
        self.settle();
    }

    /// Sends many acknowledgements of four bytes in one go.
    pub fn acknowledge(&mut self, client: Client, packets: &[u8]) {
        for packet in packets.chunks(4) {
            self.note_acknowledgement(client, packet);
        }
        self.input(Input::Received { conn: conn(client), bytes: packets });
        self.settle();
    }

    pub fn publish(&mut self, client: Client, publish: &Publish) {
        self.send(client, publish.bytes(self.lines[client.0].level));
    }

    /// Subscribes; it must be granted at the level that the options ask for.
    pub fn subscribe(&mut self, client: Client, filter: &str, options: u8) {
        self.send(client, subscribe(self.lines[client.0].level, 77, &[], &[(filter, options)]));
        let unread = &mut self.lines[client.0].unread;
        let at = unread.iter().position(|sent| sent.name == "suback").expect("a SUBACK");
        let suback = unread.remove(at);
        assert_eq!((suback.pkid, &suback.codes[..]), (77, &[options & 3][..]));
    }

    /// What the client was sent since the last time.
    pub fn take(&mut self, client: Client) -> Vec<Sent> {
        std::mem::take(&mut self.lines[client.0].unread)
    }

    /// The same in short.
    pub fn read(&mut self, client: Client) -> Vec<String> {
        self.take(client).iter().map(Sent::text).collect()
    }

    /// Sends bytes and gives the answers in short.
    pub fn ask(&mut self, client: Client, bytes: impl AsRef<[u8]>) -> Vec<String> {
        self.send(client, bytes);
        self.read(client)
    }

    /// The only packet that came.
    pub fn one(&mut self, client: Client) -> Sent {
        let mut sent = self.take(client);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// Sends a datagram of a radio node and gives what it is sent, in the order of sending.
    pub fn radio(&mut self, port: u16, datagram: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
        let from = ([10, 0, 0, 1], port).into();
        self.input(Input::Datagram { link: LinkId(0), from, bytes: datagram.as_ref() });
        self.settle();
        self.heard(port)
    }

    /// A radio node proved who it is.
    pub fn identify(&mut self, port: u16, identity: &str) {
        let from = ([10, 0, 0, 1], port).into();
        self.input(Input::Identified { link: LinkId(0), from, identity: Some(identity) });
    }

    /// What a radio node was sent since the last time.
    pub fn heard(&mut self, port: u16) -> Vec<Vec<u8>> {
        self.air.extract_if(.., |(to, _)| *to == port).map(|(_, datagram)| datagram).collect()
    }

    /// What the engine says of itself.
    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&self, client: Client) -> bool {
        self.lines[client.0].is_closed
    }

    /// The network fails.
    pub fn lose(&mut self, client: Client) {
        assert!(!self.is_closed(client), "the server closed it already");
        self.lines[client.0].is_closed = true;
        self.input(Input::Closed { conn: conn(client), error: None });
        self.settle();
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = until;
    }

    pub fn pass_secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    /// The power goes and comes back: only what the store has is left. What waits for company to be written does not
    /// wait for longer than a quarter of a second.
    pub fn restart(&mut self) {
        self.pass(WRITTEN);
        self.cut_power();
    }

    /// The same at this very moment.
    pub fn cut_power(&mut self) {
        self.lives += 1;
        self.store_hangs = false;
        let disk = std::mem::take(&mut self.store).disk;
        self.store.disk = disk;
        self.engine = start(&self.config, self.now, self.store.disk.recover(), self.lives);
        self.lines.iter_mut().for_each(|line| line.is_closed = true);
        self.drain();
        self.settle();
    }

    /// A store that hung answers again.
    pub fn store_answers(&mut self) {
        self.store_hangs = false;
        self.drain();
        self.settle();
    }

    pub fn shut_down(&mut self) {
        self.input(Input::Shutdown);
        self.settle();
    }

    /// Everything that happens at once, commits too.
    fn settle(&mut self) {
        self.pass(Duration::from_millis(50));
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(now(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Flush { conn } => self.flush(conn),
                    Output::Close { conn } => {
                        self.flush(conn);
                        self.lines[conn.0 as usize].is_closed = true;
                    }
                    Output::Commit(batch) => self.store.commit(batch),
                    Output::Read(read) => self.store.read(read),
                    Output::Datagram { to, bytes, .. } => self.air.push((to.port(), bytes)),
                    _ => {}
                }
            }
            if self.store_hangs {
                return;
            }
            let Some(reply) = self.store.finish() else { return };
            self.engine.handle_input(now(self.now), Input::Store(reply));
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(outbox) = self.engine.outbox(conn) else { return };
        let mut bytes = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = outbox.slices(&mut slices);
            let count: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
            slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
            outbox.consume(count);
        }
        if bytes.is_empty() {
            return;
        }
        let line = &mut self.lines[conn.0 as usize];
        assert!(!line.is_closed, "bytes after the connection was closed");
        for mut sent in read(line.level, &bytes) {
            line.check(&sent);
            line.resolve_alias(&mut sent);
            line.unread.push(sent);
        }
        self.engine.handle_input(now(self.now), Input::Flushed { conn });
    }

    /// The answers are in the version that CONNECT names; where it names none, in the form that all know.
    fn note_version(&mut self, client: Client, bytes: &[u8]) {
        let name = bytes.windows(5).position(|window| window[..4] == *b"MQTT").map(|at| bytes[at + 4]);
        if bytes.first().is_some_and(|header| header >> 4 == 1) && !self.lines[client.0].has_connack {
            self.lines[client.0].level = name.filter(|level| *level == V5).unwrap_or(V311);
        }
    }

    /// Frees a packet identifier when the client says that it is done with it.
    fn note_acknowledgement(&mut self, client: Client, bytes: &[u8]) {
        let [header @ (0x40 | 0x50 | 0x70), _, high, low, rest @ ..] = bytes else { return };
        // PUBREC ends it only with an error.
        if *header != 0x50 || rest.first().is_some_and(|code| *code >= 0x80) {
            self.lines[client.0].open.remove(&u16::from_be_bytes([*high, *low]));
        }
    }
}

fn conn(client: Client) -> ConnId {
    ConnId(u32::try_from(client.0).expect("few connections"))
}

impl Line {
    fn check(&mut self, sent: &Sent) {
        assert!(!self.is_over, "{} came after the end [MQTT-3.14.4-1]", sent.name);
        assert!(sent.len <= self.max_packet, "{} of {} bytes [MQTT-3.1.2-24]", sent.name, sent.len);
        assert_eq!(
            sent.name == "connack",
            !self.has_connack,
            "{}: CONNACK is first, and only once [MQTT-3.2.0-1] [MQTT-3.2.0-2]",
            sent.name
        );
        self.has_connack = true;
        let failed = sent.codes.first().is_some_and(|code| *code != 0);
        if sent.name == "connack" && failed {
            assert!(!sent.session_present, "a session for the refused [MQTT-3.2.2-6]");
        }
        self.is_over = sent.name == "disconnect" || (sent.name == "connack" && failed);
        if sent.name == "publish" && sent.pkid != 0 {
            assert!(self.open.insert(sent.pkid), "identifier {} is in use [MQTT-2.2.1-4]", sent.pkid);
        }
    }

    /// Gives a message that came with an alias its topic.
    fn resolve_alias(&mut self, sent: &mut Sent) {
        match sent.number(0x23) {
            Some(alias) => {
                let allowed = 1..=u32::from(self.alias_maximum);
                assert!(allowed.contains(&alias), "alias {alias} of {allowed:?} [MQTT-3.1.2-26] [MQTT-3.3.2-8]");
                if sent.topic.is_empty() {
                    sent.topic = self.aliases.get(&alias).expect("an alias that stands for something").clone();
                } else {
                    self.aliases.insert(alias, sent.topic.clone());
                }
            }
            None => assert!(sent.name != "publish" || !sent.topic.is_empty(), "no topic and no alias"),
        }
    }
}
