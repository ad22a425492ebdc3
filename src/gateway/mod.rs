//! The MQTT-SN gateway as a value: sessions, topic registry, sleeping clients, retransmission.
//!
//! It owns what only MQTT-SN has (addresses, topic ids, sleep, the one message in flight) and asks the broker for the
//! rest through [`Sessions`]. It never answers a request before the port says that it is safe, never sends to a
//! sleeper on its own account, and holds nothing without a limit.

mod access;
mod acks;
mod client;
mod clients;
mod connect;
mod discovery;
mod identity;
mod peers;
mod port;
mod publish_in;
mod publish_out;
mod radio;
mod rate;
mod record;
mod registry;
mod sleep;
mod stats;
mod subscribe;
#[cfg(test)]
mod tests;
mod will;

use std::net::SocketAddr;

pub use port::{Next, Opened, Publish, SessionId, Sessions, Will};
pub use stats::{LinkInfo, LinkStats, Stats};

use crate::config::{self, LinkId};
use crate::gateway::access::Known;
use crate::gateway::client::{Client, Retry, State};
use crate::gateway::clients::{Clients, Slot};
use crate::gateway::discovery::Discovery;
use crate::gateway::identity::Identities;
use crate::gateway::peers::{PeerRef, Strangers};
use crate::gateway::radio::Radio;
use crate::gateway::rate::Rate;
use crate::metrics::{Level, Notice};
use crate::mqttsn::{Disconnect, Message, PublishQos, SearchGw, decode_datagram, framing};
use crate::queue::{Refusal, Token};
use crate::time::{Instant, Now, Timers, earliest};

/// Exactly one fact about the world.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came on a UDP link.
    Datagram { link: LinkId, from: SocketAddr, bytes: &'a [u8] },
    /// A datagram came to a multicast group of a UDP link.
    Multicast { link: LinkId, from: SocketAddr, bytes: &'a [u8] },
    /// The peer at an address of a link that knows its peers (DTLS) proved who it is, before its first datagram; or,
    /// with `None`, what proved it is over.
    Identified { link: LinkId, from: SocketAddr, identity: Option<&'a str> },
    /// A serial port was opened; what came before is void.
    SerialOpened { link: LinkId },
    /// Bytes came from a serial port.
    SerialBytes { link: LinkId, bytes: &'a [u8] },
    /// A serial port is away.
    SerialClosed { link: LinkId },
    /// What became of something that the port called pending. Once for each such answer.
    Settled { token: Token, outcome: Result<(), Refusal> },
    /// The broker has something for this session.
    Ready { session: SessionId },
    /// A connection that is not of this gateway opened the same client id; the session is no longer ours.
    TakenOver { session: SessionId },
    /// An operator ends a client's connection.
    Kick { client_id: &'a str },
    /// The deadline passed.
    Timeout,
}

/// What the gateway wants done. Drained to `None` after each input.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send this on a link: one datagram to an address, or bytes to a serial port (`to` is `None`).
    Send { link: LinkId, to: Option<SocketAddr>, bytes: &'a [u8] },
    /// Send this to the multicast groups of a UDP link: so many hops, 0 for the whole network.
    Multicast { link: LinkId, radius: u8, bytes: &'a [u8] },
    /// Write this to the log.
    Notice(Notice),
}

/// A client as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    pub client_id: &'a str,
    /// `disconnected`, `connecting`, `active`, `asleep` or `awake`.
    pub state: &'static str,
    /// Address and node, or empty.
    pub peer: String,
    /// Who it proved to be.
    pub user: Option<&'a str>,
    /// Its session, while it is connected, asleep too.
    pub session: Option<SessionId>,
    /// When a sleeper is given up.
    pub sleep_until: Option<Instant>,
    pub link: Option<LinkId>,
    pub clean_session: bool,
    /// Seconds.
    pub keepalive: u16,
    pub topics: usize,
    pub last_heard_at: Instant,
}

fn info(client: &Client) -> ClientInfo<'_> {
    ClientInfo {
        client_id: &client.id,
        state: match client.state {
            State::Disconnected { .. } => "disconnected",
            State::AwaitingWill { .. } => "connecting",
            State::Active { .. } => "active",
            State::Asleep { .. } => "asleep",
            State::Awake { .. } => "awake",
        },
        peer: client.peer.as_ref().map(|peer| peer.as_ref().describe()).unwrap_or_default(),
        user: client.user.as_deref(),
        session: client.session(),
        sleep_until: match client.state {
            State::Asleep { until, .. } => Some(until),
            _ => None,
        },
        link: client.peer.as_ref().map(|peer| peer.link),
        clean_session: client.clean,
        keepalive: client.keepalive,
        topics: client.registry.len(),
        last_heard_at: client.heard_at,
    }
}

/// The time, and the broker: what every step of the gateway may need.
struct Cx<'a> {
    now: Now,
    sessions: &'a mut dyn Sessions,
}

/// The MQTT-SN gateway.
#[derive(Debug)]
pub struct Gateway {
    config: config::Sn,
    known: Known,
    rate: Rate,
    clients: Clients,
    radio: Radio,
    timers: Timers<(Slot, Instant)>,
    /// Timers while they are handled.
    due: Vec<(Slot, Instant)>,
    strangers: Strangers,
    discovery: Discovery,
    identities: Identities,
    last_token: u32,
    /// A frame of a serial link while it is handled.
    frame: Vec<u8>,
    stats: Stats,
}

impl Gateway {
    /// A gateway without clients. A [`LinkId`] is a position in `links`.
    #[must_use]
    pub fn new(config: config::Sn, links: &[config::Link]) -> Self {
        Self {
            known: Known::new(&config),
            rate: Rate::new(config.node_rate, config.node_burst, config.max_clients),
            clients: Clients::new(config.max_clients),
            radio: Radio::new(links),
            timers: Timers::default(),
            due: Vec::new(),
            strangers: Strangers::default(),
            discovery: Discovery::new(config.advertise_interval),
            identities: Identities::new(config.max_clients),
            last_token: 0,
            frame: Vec::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// Another configuration from now on. Clients stay; those of a link that is no more can be reached again once they
    /// were heard elsewhere.
    pub fn configure(&mut self, config: config::Sn, links: &[config::Link], ids: &[LinkId]) {
        self.known = Known::new(&config);
        self.clients.set_known(&self.known);
        if (config.node_rate, config.node_burst) != (self.config.node_rate, self.config.node_burst) {
            self.rate = Rate::new(config.node_rate, config.node_burst, config.max_clients);
        }
        self.clients.set_max(config.max_clients);
        self.identities.set_max(config.max_clients);
        if config.advertise_interval != self.config.advertise_interval {
            self.discovery = Discovery::new(config.advertise_interval);
        }
        self.radio.configure(links, ids);
        self.config = config;
    }

    /// Takes in one fact. Drain [`Gateway::poll_output`] before the next one.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, sessions: &mut dyn Sessions) {
        let cx = &mut Cx { now, sessions };
        match input {
            Input::Datagram { link, from, bytes } => self.on_datagram(cx, link, Some(from), bytes),
            Input::Multicast { link, from, bytes } => self.on_multicast(link, from, bytes),
            Input::Identified { link, from, identity } => {
                self.stats.identities_refused += u64::from(!self.identities.set(link, from, identity));
            }
            Input::SerialOpened { link } => self.radio.set_open(link, true),
            Input::SerialClosed { link } => self.radio.set_open(link, false),
            Input::SerialBytes { link, bytes } => {
                self.radio.feed(now.at, link, bytes);
                self.drain_serial(cx, link);
            }
            Input::Settled { token, outcome } => self.on_settled(cx, token, outcome),
            Input::Ready { session } => {
                if let Some(slot) = self.clients.by_session(session) {
                    self.pump(cx, slot);
                    self.arm(slot);
                }
            }
            Input::TakenOver { session } => self.on_taken_over(cx, session),
            Input::Kick { client_id } => self.on_kick(cx, client_id),
            Input::Timeout => self.on_timeout(cx),
        }
    }

    /// The next thing to do. The bytes of a `Send` are valid until the next call.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        self.radio.poll_output()
    }

    /// When [`Input::Timeout`] is due. May be early, never late.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        earliest(earliest(self.timers.deadline(), self.radio.deadline()), self.discovery.deadline())
    }

    /// Gauges and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            clients: self.clients.len() as u64,
            messages_sent: self.radio.sent,
            unsendable: self.radio.too_long - self.stats.dropped_too_long,
            link_down: self.radio.link_down,
            forwarders: self.discovery.forwarders() as u64,
            ..self.stats
        };
        for client in self.clients.iter() {
            stats.active += u64::from(matches!(client.state, State::Active { .. }));
            stats.sleeping += u64::from(client.is_sleeping());
            stats.topics += client.registry.len() as u64;
            stats.pending += client.pending.len() as u64;
        }
        stats
    }

    /// All links in the order of the configuration.
    pub fn links(&self) -> impl Iterator<Item = LinkInfo<'_>> {
        self.radio.infos()
    }

    /// Frames and noise of a serial link.
    #[must_use]
    pub fn framing_stats(&self, link: LinkId) -> Option<framing::Stats> {
        self.radio.framing_stats(link)
    }

    /// All clients in order of client id.
    pub fn clients(&self) -> impl Iterator<Item = ClientInfo<'_>> {
        self.clients.iter().map(info)
    }

    /// The ids of all clients, in order.
    pub fn client_ids(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| &*client.id)
    }

    /// A client.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<ClientInfo<'_>> {
        self.clients.by_id(client_id).map(|slot| info(&self.clients[slot]))
    }

    fn drain_serial(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        let mut frame = std::mem::take(&mut self.frame);
        while self.radio.next_frame(link, &mut frame) {
            self.on_datagram(cx, link, None, &frame);
        }
        self.frame = frame;
    }

    fn on_datagram(&mut self, cx: &mut Cx<'_>, link: LinkId, addr: Option<SocketAddr>, octets: &[u8]) {
        if !self.radio.knows(link) {
            return;
        }
        let Ok((envelope, message)) = decode_datagram(octets) else {
            self.stats.malformed += 1;
            return self.radio.count(link, |stats| stats.malformed += 1);
        };
        self.stats.messages_received += 1;
        self.radio.count(link, |stats| {
            stats.messages_received += 1;
            stats.heard_at = Some(cx.now.at);
        });
        if envelope.is_some() {
            self.discovery.on_envelope(cx.now.at, link, addr);
        }
        let peer = PeerRef { link, addr, node: envelope.map(|envelope| envelope.node) };
        if !self.rate.admits(cx.now.at, peer) {
            self.stats.rate_limited += 1;
            return self.radio.count(link, |stats| stats.rate_limited += 1);
        }
        match message {
            Message::SearchGw(SearchGw { radius }) => self.on_search(peer, radius),
            // Other gateways.
            Message::Advertise(_) | Message::GwInfo(_) => self.stats.other_gateways += 1,
            Message::Connect(connect) => self.on_connect(cx, peer, connect),
            Message::Publish(publish) if publish.qos == PublishQos::MinusOne => {
                self.on_publish_minus_one(cx, peer, &publish);
            }
            Message::PingReq(ping) if !ping.client_id.is_empty() => self.on_wake(cx, peer, ping.client_id),
            message => match self.clients.by_peer(peer) {
                Some(slot) if self.is_owner(slot, peer) => self.on_message(cx, slot, message),
                _ => self.on_stranger(cx.now.at, peer),
            },
        }
    }

    /// A message of a client that is not a stranger.
    fn on_message(&mut self, cx: &mut Cx<'_>, slot: Slot, message: Message<'_>) {
        self.on_heard(cx, slot);
        if !matches!(message, Message::Disconnect(_)) {
            self.on_talk(cx, slot);
        }
        match message {
            Message::WillTopic(topic) => self.on_will_topic(cx, slot, topic),
            Message::WillMsg(payload) => self.on_will_msg(cx, slot, payload),
            Message::Disconnect(Disconnect { duration }) => self.on_disconnect(cx, slot, duration),
            _ if !self.clients[slot].state.is_connected() => self.stats.unexpected += 1,
            Message::Publish(publish) => self.on_publish(cx, slot, &publish),
            Message::PubRel(msg_id) => self.on_pubrel(cx, slot, msg_id),
            Message::PubAck(puback) => self.on_puback(cx, slot, puback),
            Message::PubRec(msg_id) => self.on_pubrec(cx, slot, msg_id),
            Message::PubComp(msg_id) => self.on_pubcomp(cx, slot, msg_id),
            Message::Register(register) => self.on_register(cx, slot, register),
            Message::RegAck(regack) => self.on_regack(cx, slot, regack),
            Message::Subscribe(subscribe) => self.on_subscribe(cx, slot, subscribe),
            Message::Unsubscribe(unsubscribe) => self.on_unsubscribe(cx, slot, unsubscribe),
            Message::PingReq(_) => self.on_ping(cx, slot),
            Message::WillTopicUpd(topic) => self.on_will_topic_upd(cx, slot, topic),
            Message::WillMsgUpd(payload) => self.on_will_msg_upd(cx, slot, payload),
            Message::PingResp => {}
            _ => self.stats.unexpected += 1,
        }
        if self.clients.contains(slot) {
            self.arm(slot);
        }
    }

    /// "I do not know you, connect" (MQTT-SN 5.4.21), to a forged address no more than once a second.
    fn on_stranger(&mut self, now: Instant, peer: PeerRef<'_>) {
        self.stats.strangers += 1;
        if self.strangers.may_tell(now, peer) {
            self.radio.send(peer, &Message::Disconnect(Disconnect { duration: None }));
        } else {
            self.stats.strangers_unanswered += 1;
        }
    }

    fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        self.advertise_when_due(cx.now.at);
        for link in self.radio.take_silent(cx.now.at) {
            self.drain_serial(cx, link);
        }
        // What is set anew meanwhile has its turn when others had theirs.
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.timers.pop_due(cx.now.at)));
        for (slot, at) in due.drain(..) {
            // Only the timer that the client knows of is its own.
            if !self.clients.contains(slot) || self.clients[slot].timer_at != Some(at) {
                continue;
            }
            self.clients[slot].timer_at = None;
            if self.clients[slot].deadline(self.config.idle_timeout).is_some_and(|at| at <= cx.now.at) {
                self.on_deadline(cx, slot);
            }
            if self.clients.contains(slot) {
                self.arm(slot);
            }
        }
        self.due = due;
    }

    /// Sets a timer for the client's deadline, unless one comes before it anyway.
    fn arm(&mut self, slot: Slot) {
        if !self.clients.contains(slot) {
            return;
        }
        let client = &mut self.clients[slot];
        let Some(at) = client.deadline(self.config.idle_timeout) else { return };
        if client.timer_at.is_none_or(|set| at < set) {
            if let Some(before) = client.timer_at.replace(at) {
                self.timers.cancel(before, (slot, before));
            }
            self.timers.set(at, (slot, at));
        }
    }

    /// Sends to a client, if it has an address.
    fn reply(&mut self, slot: Slot, message: &Message<'_>) {
        if let Some(peer) = &self.clients[slot].peer {
            self.radio.send(peer.as_ref(), message);
        }
    }

    /// An answer came: the time it took, unless the request was sent more than once.
    fn measure(&mut self, cx: &Cx<'_>, slot: Slot, retry: Retry) {
        if retry.left == self.config.retries
            && let Some(peer) = &self.clients[slot].peer
        {
            let round_trip = self.config.retry_interval.saturating_sub(retry.at.since(cx.now.at));
            self.radio.count(peer.link, |stats| stats.measure(round_trip));
        }
    }

    /// Counts what is sent again, for the client's link too.
    fn count_again(&mut self, slot: Slot) {
        self.stats.retransmissions += 1;
        if let Some(peer) = &self.clients[slot].peer {
            self.radio.count(peer.link, |stats| stats.retransmissions += 1);
        }
    }

    /// The first of N_RETRY retransmissions is due after T_RETRY.
    fn retry(&self, cx: &Cx<'_>) -> Retry {
        Retry { at: cx.now.at + self.config.retry_interval, left: self.config.retries }
    }

    fn notice(&mut self, level: Level, what: &'static str, slot: Slot, detail: impl Into<String>) {
        let who = &*self.clients[slot].id;
        self.radio.notice(Notice::new(level, what, who, detail));
    }
}
