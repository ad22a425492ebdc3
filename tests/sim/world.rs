//! The simulated world: one seed, virtual time. The real engine in the middle; clients, cloud, disk and power are
//! pretended, and fail as the seed says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

use moteway::config::{Bind, Config, Ids, LinkId, Rule, UpstreamId};
use moteway::engine::{Credentials, Engine, Input, Login, Output, Plan, Start, Status};
use moteway::mqtt::ConnId;
use moteway::time::{Duration, Instant, Now, Wall};

use crate::client::Client;
use crate::cloud::Cloud;
use crate::node::Node;
use crate::store::SimStore;

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToEngine(u32, Vec<u8>),
    ToPeer(u32, Vec<u8>),
    EngineClosed(u32),
    PeerClosed(u32),
    Store,
    Dial(UpstreamId),
    Probe(UpstreamId),
    Client(usize),
    Node(usize),
    ToGateway(usize, Vec<u8>),
    ToNode(usize, Vec<u8>),
    Command,
    Flap,
    Cut,
    Disk,
    Crash,
    Reload,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client(usize),
    Cloud,
}

#[derive(Debug)]
struct Pipe {
    peer: Peer,
    id: ConnId,
    /// The peer has lost it; the engine does not know yet.
    cut: bool,
    /// Bytes arrive in order: no sooner than those before them.
    down_at: Instant,
    up_at: Instant,
}

/// How rough the world is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub flap: Option<Duration>,
    pub cut: Option<Duration>,
    pub crash: Option<Duration>,
    pub disk_full: Option<Duration>,
    pub reload: Option<Duration>,
    pub radio_loss: f32,
    /// The upstream may come back without its sessions.
    pub forgets: bool,
}

impl Weather {
    pub const CALM: Self =
        Self { flap: None, cut: None, crash: None, disk_full: None, reload: None, radio_loss: 0.0, forgets: false };
}

pub struct World {
    pub config: Config,
    ids: Ids,
    engine: Engine,
    pub store: SimStore,
    pub cloud: Cloud,
    pub clients: Vec<Client>,
    pub nodes: Vec<Node>,
    pub rng: fastrand::Rng,
    seed: u64,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    /// By a number that is never used again.
    pipes: BTreeMap<u32, Pipe>,
    next_pipe: u32,
    pub cloud_up: bool,
    store_busy: bool,
    weather: Weather,
    publishing: bool,
    pub crashes: u32,
    pub flaps: u32,
    pub reloads: u32,
    /// Sessions ended by their clients, and messages that ended with a session.
    pub left: u32,
    ended_with_session: u64,
    /// By rule, what gave way to a newer message or was too old, over earlier runs of the engine.
    evicted: BTreeMap<String, u64>,
    pub had_full_disk: bool,
}

const WALL_AT_START: u64 = 1_700_000_000_000;

impl World {
    pub fn new(seed: u64, config: Config, clients: Vec<Client>, nodes: Vec<Node>) -> Self {
        let store = SimStore::default();
        let now = Instant::ZERO;
        let engine = start(now, &config, &store, seed);
        let counts = (clients.len(), nodes.len());
        let mut world = Self {
            ids: Ids::new(&config),
            config,
            engine,
            store,
            cloud: Cloud::new(seed % 6 >= 3),
            clients,
            nodes,
            rng: fastrand::Rng::with_seed(seed),
            seed,
            now,
            events: BinaryHeap::new(),
            sequence: 0,
            pipes: BTreeMap::new(),
            next_pipe: 0,
            cloud_up: true,
            store_busy: false,
            weather: Weather::CALM,
            publishing: true,
            crashes: 0,
            flaps: 0,
            reloads: 0,
            left: 0,
            ended_with_session: 0,
            evicted: BTreeMap::new(),
            had_full_disk: false,
        };
        world.drain();
        for client in 0..counts.0 {
            world.plan(Duration::from_millis(client as u64), Event::Client(client));
        }
        for node in 0..counts.1 {
            world.plan(Duration::from_millis(node as u64), Event::Node(node));
        }
        world.plan(Duration::from_millis(50), Event::Command);
        world
    }

    pub fn weather(&mut self, weather: Weather) {
        self.weather = weather;
        for event in [Event::Flap, Event::Cut, Event::Disk, Event::Crash, Event::Reload] {
            self.plan_weather(event);
        }
    }

    /// What the engine says of itself.
    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// Everything works again and nobody publishes any more.
    pub fn heal(&mut self) {
        self.weather = Weather::CALM;
        self.publishing = false;
        self.cloud_up = true;
        self.store.full = false;
        let kept =
            |event: &Event| !matches!(event, Event::Flap | Event::Cut | Event::Disk | Event::Crash | Event::Reload);
        self.keep_events(kept);
    }

    fn keep_events(&mut self, kept: impl Fn(&Event) -> bool) {
        self.events.retain(|Reverse((.., event))| kept(event));
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let event_at = self.events.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.engine.deadline();
            let next = moteway::time::earliest(event_at, deadline).filter(|at| *at <= until);
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
        self.plan_at(self.now + after, event);
    }

    fn plan_at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn plan_weather(&mut self, event: Event) {
        let mean = match event {
            Event::Flap => self.weather.flap,
            Event::Cut => self.weather.cut,
            Event::Disk => self.weather.disk_full,
            Event::Crash => self.weather.crash,
            Event::Reload => self.weather.reload,
            _ => None,
        };
        if let Some(mean) = mean {
            let micros = u64::try_from(mean.as_micros()).unwrap();
            let after = Duration::from_micros(self.rng.u64(micros / 4..micros * 2));
            self.plan(after, event);
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(100..5_000))
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(at(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Flush { conn } => self.flush(conn),
                Output::Close { conn } => {
                    self.flush(conn);
                    if let Some(pipe) = self.pipe_of(conn) {
                        let closed_at = self.pipes[&pipe].down_at;
                        self.plan_at(closed_at, Event::PeerClosed(pipe));
                    }
                }
                Output::Commit(batch) => {
                    self.store.commit(batch);
                    self.wake_store();
                }
                Output::Read(read) => {
                    self.store.read(read);
                    self.wake_store();
                }
                Output::Dial { upstream, .. } => {
                    let after = self.latency();
                    self.plan(after, Event::Dial(upstream));
                }
                Output::Probe { upstream, .. } => {
                    let after = self.latency();
                    self.plan(after, Event::Probe(upstream));
                }
                // Nobody logs in here.
                Output::Verify { .. } => unreachable!("there are no passwords"),
                Output::Notice(_) | Output::ShutdownDone => {}
                Output::Datagram { to, bytes, .. } => {
                    if let Some(node) = self.nodes.iter().position(|node| node.address == to) {
                        self.radio(Event::ToNode(node, bytes));
                    }
                }
                Output::SerialWrite { .. } | Output::Multicast { .. } => {}
            }
        }
    }

    fn wake_store(&mut self) {
        if !self.store_busy && self.store.has_jobs() {
            self.store_busy = true;
            let after = Duration::from_micros(self.rng.u64(200..30_000));
            self.plan(after, Event::Store);
        }
    }

    /// The air: datagrams are lost, doubled and overtake each other.
    fn radio(&mut self, event: Event) {
        let copies =
            if self.rng.f32() < self.weather.radio_loss { 0 } else { 1 + u8::from(self.rng.u8(0..20) == 0) };
        for _ in 0..copies {
            let after = self.latency();
            self.plan(after, event.clone());
        }
    }

    fn node(&mut self, index: usize) {
        if self.publishing {
            self.nodes[index].publish();
        }
        for datagram in self.nodes[index].poll(self.now) {
            self.radio(Event::ToGateway(index, datagram));
        }
        let after = Duration::from_micros(self.rng.u64(5_000..50_000));
        self.plan(after, Event::Node(index));
    }

    fn pipe_of(&self, conn: ConnId) -> Option<u32> {
        self.pipes.iter().find(|(_, pipe)| pipe.id == conn).map(|(number, _)| *number)
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
        let latency = self.latency();
        let Some(number) = self.pipe_of(conn) else { return };
        let Some(pipe) = self.pipes.get_mut(&number) else { return };
        if bytes.is_empty() {
            return;
        }
        pipe.down_at = (self.now + latency).max(pipe.down_at);
        let down_at = pipe.down_at;
        self.plan_at(down_at, Event::ToPeer(number, bytes));
        self.engine.handle_input(at(self.now), Input::Flushed { conn });
    }

    fn send(&mut self, number: u32, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let latency = self.latency();
        let Some(pipe) = self.pipes.get_mut(&number) else { return };
        pipe.up_at = (self.now + latency).max(pipe.up_at);
        let at = pipe.up_at;
        self.plan_at(at, Event::ToEngine(number, bytes));
    }

    fn open(&mut self, peer: Peer) -> (u32, ConnId) {
        let id = (0..).map(ConnId).find(|id| self.pipe_of(*id).is_none()).expect("a free number");
        let number = self.next_pipe;
        self.next_pipe += 1;
        self.pipes.insert(number, Pipe { peer, id, cut: false, down_at: self.now, up_at: self.now });
        (number, id)
    }

    fn pipe_to(&self, peer: Peer) -> Option<u32> {
        self.pipes.iter().find(|(_, pipe)| pipe.peer == peer && !pipe.cut).map(|(number, _)| *number)
    }

    fn peer_lost(&mut self, peer: Peer) {
        match peer {
            Peer::Client(client) => self.clients[client].lost(),
            Peer::Cloud => self.cloud.lost(),
        }
    }

    /// Both ends notice, the engine a little later; what was under way is gone.
    fn cut(&mut self, number: u32) {
        if let Some(pipe) = self.pipes.get_mut(&number).filter(|pipe| !pipe.cut) {
            pipe.cut = true;
            let peer = pipe.peer;
            self.peer_lost(peer);
            let after = self.latency();
            self.plan(after, Event::EngineClosed(number));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToEngine(number, bytes) => {
                if let Some(conn) = self.pipes.get(&number).filter(|pipe| !pipe.cut).map(|pipe| pipe.id) {
                    self.input(Input::Received { conn, bytes: &bytes });
                }
            }
            Event::ToPeer(number, bytes) => self.hand_to_peer(number, &bytes),
            Event::EngineClosed(number) => {
                if let Some(pipe) = self.pipes.remove(&number) {
                    self.input(Input::Closed { conn: pipe.id, error: Some("connection reset".into()) });
                }
            }
            Event::PeerClosed(number) => {
                if let Some(pipe) = self.pipes.remove(&number).filter(|pipe| !pipe.cut) {
                    self.peer_lost(pipe.peer);
                }
            }
            Event::Store => {
                self.store_busy = false;
                if let Some(reply) = self.store.finish() {
                    self.input(Input::Store(reply));
                }
                self.wake_store();
            }
            Event::Dial(upstream) => self.dial(upstream),
            Event::Probe(upstream) => self.input(Input::Probed { upstream, answers: self.cloud_up }),
            Event::Client(client) => self.client(client),
            Event::Node(node) => self.node(node),
            Event::ToGateway(node, bytes) => {
                let from = self.nodes[node].address;
                self.input(Input::Datagram { link: LinkId(0), from, bytes: &bytes });
            }
            Event::ToNode(node, bytes) => {
                for datagram in self.nodes[node].handle(self.now, &bytes) {
                    self.radio(Event::ToGateway(node, datagram));
                }
            }
            Event::Command => {
                if let (true, Some(pipe)) = (self.publishing, self.pipe_to(Peer::Cloud)) {
                    let mut out = Vec::new();
                    self.cloud.command(&mut out);
                    self.send(pipe, out);
                }
                self.plan(Duration::from_millis(80), Event::Command);
            }
            Event::Flap => self.flap(),
            Event::Cut => {
                let victims: Vec<u32> = self.pipes.keys().copied().collect();
                if let Some(victim) = self.rng.choice(victims) {
                    self.cut(victim);
                }
                if self.rng.bool() {
                    self.input(Input::NetworkChanged);
                }
                self.plan_weather(Event::Cut);
            }
            Event::Disk => {
                self.store.full = !self.store.full;
                self.had_full_disk = true;
                self.plan_weather(Event::Disk);
            }
            Event::Crash => self.crash(),
            Event::Reload => self.reload(),
        }
    }

    fn hand_to_peer(&mut self, number: u32, bytes: &[u8]) {
        let Some(peer) = self.pipes.get(&number).filter(|pipe| !pipe.cut).map(|pipe| pipe.peer) else { return };
        let mut out = Vec::new();
        match peer {
            Peer::Client(client) if self.clients[client].connected => self.clients[client].handle(bytes, &mut out),
            Peer::Cloud if self.cloud_up => self.cloud.handle(bytes, &mut out),
            _ => return,
        }
        self.send(number, out);
    }

    fn dial(&mut self, upstream: UpstreamId) {
        if !self.cloud_up {
            self.input(Input::DialFailed { upstream, error: "connection refused".into() });
            return;
        }
        if let Some(old) = self.pipe_to(Peer::Cloud) {
            // The cloud ends the old connection when the same client comes again.
            self.cut(old);
        }
        let (_, conn) = self.open(Peer::Cloud);
        // While the weather is rough, passwords are good for a short while: the link is left to renew them.
        let short = self.publishing && self.rng.bool();
        let valid_for = short.then(|| Duration::from_millis(self.rng.u64(200..3000)));
        self.input(Input::Dialed { upstream, conn, login: Login { password: None, valid_for } });
    }

    fn client(&mut self, index: usize) {
        let mut out = Vec::new();
        if self.leave(index) {
            // It comes back at its next turn.
        } else if !self.clients[index].connected {
            let (number, conn) = self.open(Peer::Client(index));
            let listener = self.ids.listener[0];
            self.input(Input::Accepted { conn, listener, peer: None, certificate: None });
            self.clients[index].connect(&mut out);
            self.send(number, out);
        } else if self.publishing && self.rng.u8(0..4) > 0 {
            self.clients[index].publish(&mut out);
            if let Some(pipe) = self.pipe_to(Peer::Client(index)) {
                self.send(pipe, out);
            }
        }
        let after = Duration::from_micros(self.rng.u64(2_000..60_000));
        self.plan(after, Event::Client(index));
    }

    /// A client goes to end its session, or has ended it. True when it did something of the kind.
    fn leave(&mut self, index: usize) -> bool {
        let starts = self.publishing && self.rng.u8(0..50) == 0;
        let client = &mut self.clients[index];
        if !client.connected || !client.ready {
            return false;
        }
        if client.leaving {
            (client.leaving, client.subscribed) = (false, false);
        } else if client.leaves && client.subscribed && !client.hold && starts {
            client.leaving = true;
            self.left += 1;
        } else {
            return false;
        }
        if let Some(pipe) = self.pipe_to(Peer::Client(index)) {
            self.cut(pipe);
        }
        true
    }

    /// Messages that ended with a session, over all runs of the engine.
    pub fn ended_with_session(&self) -> u64 {
        self.ended_with_session + self.status().broker.ended_with_session
    }

    /// Messages of a rule that gave way to a newer one or were too old, over all runs of the engine.
    pub fn evicted(&self, rule: &str) -> u64 {
        let name = format!("rule:cloud/{rule}");
        let now = self.status().lines.into_iter().find(|line| line.name == name);
        let now = now.map_or(0, |line| line.stats.replaced + line.stats.expired);
        self.evicted.get(rule).copied().unwrap_or(0) + now
    }

    fn flap(&mut self) {
        self.cloud_up = !self.cloud_up;
        self.flaps += 1;
        if let (false, Some(pipe)) = (self.cloud_up, self.pipe_to(Peer::Cloud)) {
            self.cut(pipe);
        }
        if self.weather.forgets && self.cloud_up && self.rng.bool() {
            self.cloud.forget();
        }
        self.plan_weather(Event::Flap);
    }

    /// The operator changes something of everything that no message depends on: rules beside the one that all go by,
    /// limits, where the listener and the upstream are.
    fn reload(&mut self) {
        let mut config = self.config.clone();
        let upstream = &mut config.upstream[0];
        match self.rng.u8(0..7) {
            0 => upstream.url[0].port = self.rng.u16(1..100),
            1 if upstream.rule.len() < 5 => {
                // In front of the others, so that these have other places.
                let name = format!("extra-{}", self.reloads);
                let priority = self.rng.u8(0..10);
                upstream.rule.insert(0, Rule { name, filter: "other/#".into(), priority, ..Rule::default() });
            }
            2 if upstream.rule[0].name.starts_with("extra-") => drop(upstream.rule.remove(0)),
            3 => upstream.rule.iter_mut().for_each(|rule| rule.max_messages = 1_000_000 + rule.max_messages % 10),
            4 => config.listener[0].bind = Bind::from(SocketAddr::from(([127, 0, 0, 1], self.rng.u16(1..9)))),
            5 => config.store.commit_interval = Duration::from_millis(self.rng.u64(1..200)),
            // With one alone, a subscriber that acknowledges out of turn would wait for ever.
            _ => config.broker.max_inflight_messages = self.rng.choice([2, 3, 5, 100]).expect("one of them"),
        }
        self.reloads += 1;
        let ids = self.ids.after(&self.config, &config).expect("few changes");
        if !self.config.upstream[0].connects_like(&config.upstream[0]) {
            // As the shell does: attempts to reach the place of before are given up.
            self.keep_events(|event| !matches!(event, Event::Dial(_)));
        }
        let plan = Plan::new(config.clone(), ids.clone(), Credentials::default());
        (self.config, self.ids) = (config, ids);
        self.input(Input::Reconfigure(Box::new(plan.expect("the rules are sound"))));
        self.plan_weather(Event::Reload);
    }

    /// The power goes and comes back: everything in memory is gone, everything committed is there.
    ///
    /// Not between a CONNACK that says that the upstream lost its session and the commit of what follows from it: after the
    /// power cut the upstream has a session again, and MQTT has no way to say that it is another one. What it had
    /// acknowledged with PUBREC alone and lost would stay lost.
    pub fn crash(&mut self) {
        self.cloud.begun_anew &= self.engine.status().pending_bytes > 0;
        if self.cloud.begun_anew {
            self.plan(Duration::from_millis(100), Event::Crash);
            return;
        }
        self.crashes += 1;
        self.ended_with_session = self.ended_with_session();
        for rule in ["newest", "fresh"] {
            self.evicted.insert(rule.to_owned(), self.evicted(rule));
        }
        self.store.crash(&mut self.rng);
        self.store_busy = false;
        for pipe in std::mem::take(&mut self.pipes).into_values() {
            self.peer_lost(pipe.peer);
        }
        let told_too_soon = self.had_full_disk;
        for client in self.clients.iter_mut().filter(|client| client.leaves && (!client.ended || told_too_soon)) {
            // The end of its last session may be undone: it makes sure.
            (client.leaving, client.subscribed) = (true, false);
        }
        self.keep_events(|event| !matches!(event, Event::Store | Event::Dial(_)));
        let seed = self.seed ^ u64::from(self.crashes);
        self.engine = start(self.now, &self.config, &self.store, seed);
        self.ids = Ids::new(&self.config);
        self.drain();
        self.plan_weather(Event::Crash);
    }
}

fn start(now: Instant, config: &Config, store: &SimStore, seed: u64) -> Engine {
    let start = Start { config, recovered: store.disk.recover(), seed };
    Engine::new(at(now), start).expect("the configuration is good")
}

fn at(now: Instant) -> Now {
    Now { at: now, wall: Wall::from_millis(WALL_AT_START + now.as_micros() / 1000) }
}
