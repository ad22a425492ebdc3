//! The local broker: MQTT sessions, the subscription tree, retained messages and wills, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Every client is a session here: those of MQTT connections, whose packets this module reads and writes, and those
//! of the MQTT-SN gateway, which calls [`local`]. A bridge's out-rules are targets in the same tree.
//!
//! What has to outlive its receiver's absence goes through [`Queues`]; QoS 0 to a connected client is written into
//! its [`Outbox`] at once, without an allocation.

mod acks;
pub mod acl;
mod alias;
mod children;
mod connect;
mod connection;
mod deliver;
mod expiry;
mod flat_map;
mod gateways;
mod limits;
mod load;
pub mod local;
pub mod login;
mod packets;
mod publish;
mod reconfigure;
mod recover;
mod retained;
mod roster;
mod routes;
pub(crate) mod session;
mod share;
mod subscribe;
mod sys_topics;
mod target;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::broker::acl::Acl;
use crate::broker::connection::Connection;
use crate::broker::gateways::Gateways;
use crate::broker::limits::Told;
use crate::broker::login::{Check, Door, Logins};
use crate::broker::packets::Fault;
use crate::broker::retained::Retained;
use crate::broker::routes::Routes;
use crate::broker::session::Session;
use crate::broker::sys_topics::SysTopics;
use crate::broker::tree::Tree;
use crate::config::{self, ListenerId};
use crate::metrics::{Level, Notice};
use crate::mqtt::hop::Gateway;
use crate::mqtt::{ConnId, Disconnect, Outbox, Packet, ReasonCode, Version};
use crate::queue::{Limits, Queues, Seq, Token};
use crate::time::{Duration, Instant, Now, Timers, Wall};

pub use limits::{Limit, LimitHits};
pub use roster::{ClientInfo, Way};
pub use session::Will;
pub use target::BridgeRule;

/// What the broker wants done. Commits and reads come out of [`Queues`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The connection's outbox has bytes. Once per turn and connection.
    Flush(ConnId),
    /// Write what the outbox holds, then close.
    Close(ConnId),
    /// A session of the gateway was taken over by an MQTT connection.
    TakenOver(u32),
    /// It is time for values below `$SYS`: answer with [`Broker::publish_sys_topics`].
    SysDue,
    /// Check this and answer with [`Broker::handle_verified`].
    Verify(Check),
    /// For the log.
    Notice(Notice),
}

/// What has happened since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections accepted by a listener.
    pub connections_opened: u64,
    /// Connections refused for a limit, at CONNECT or before.
    pub connections_refused: u64,
    /// Of them, log-ins with a wrong proof or with none where one is needed.
    pub logins_refused: u64,
    /// Of them, log-ins from an address that failed too often.
    pub logins_throttled: u64,
    /// Of them, log-ins that there was no room or time to check.
    pub logins_busy: u64,
    /// Addresses whose failures were forgotten before their time, because there were too many.
    pub login_addresses_forgotten: u64,
    /// Connections ended for breaking the protocol.
    pub protocol_errors: u64,
    /// Connections ended because they were silent.
    pub silent: u64,
    /// PUBLISH packets received.
    pub publish_received: u64,
    /// Payload bytes in them.
    pub publish_bytes_received: u64,
    /// PUBLISH packets sent.
    pub publish_sent: u64,
    /// Payload bytes in them.
    pub publish_bytes_sent: u64,
    /// MQTT packets of any type received.
    pub messages_received: u64,
    /// MQTT packets sent, other than PUBLISH.
    pub control_sent: u64,
    /// Clients that were let in.
    pub connects: u64,
    /// The most sessions there were at once.
    pub sessions_peak: usize,
    /// QoS 0 messages shed because the receiver was too slow.
    pub shed_qos0: u64,
    /// Messages larger than the receiver's maximum packet size.
    pub too_large_for_receiver: u64,
    /// Publishes refused because they could not be made safe.
    pub publish_refused: u64,
    /// Retained messages not kept for a limit.
    pub retained_refused: u64,
    /// Messages that had been through this gateway before: they went round.
    pub looped: u64,
    /// Publishes, wills too, that the client had no right to.
    pub publish_denied: u64,
    /// Subscriptions that the client had no right to.
    pub subscribe_denied: u64,
    /// Messages that subscribers did not get because they may not read them.
    pub delivery_denied: u64,
    /// Messages that waited in a session when another user took its client id.
    pub dropped_for_other_user: u64,
    /// Sessions whose client stayed away for longer than they last.
    pub sessions_expired: u64,
    /// Bytes that connections sent, and were sent: whole packets, without TLS.
    pub bytes_received: u64,
    /// See there.
    pub bytes_sent: u64,
    /// How often each limit was reached.
    pub limits: LimitHits,
    /// Messages of shared subscriptions that went to another member when their session ended.
    pub handed_on: u64,
    /// Messages that waited for a session when it ended.
    pub ended_with_session: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Look whether a connection is silent.
    Silence(ConnId, u16),
    /// Look whether a session's will is due or its life over.
    Session(u32, u32),
    /// Look whether the token with which a connection logged in is over.
    Token(ConnId, u16),
    /// Look for expired retained messages.
    Retained,
    /// Send what changed below `$SYS`.
    Sys,
}

/// How often expired retained messages are looked for.
const RETAINED_SWEEP: Duration = Duration::from_secs(60);

/// A listener, as far as the broker cares.
#[derive(Debug, Clone)]
struct Listener {
    name: String,
    door: Door,
    max_connections: usize,
    max_packet_bytes: u32,
    connect_timeout: Duration,
    connections: usize,
}

impl Listener {
    fn new(config: &config::Listener, limits: &config::Broker) -> Self {
        Self {
            name: config.name.clone(),
            door: Door::new(config),
            max_connections: config.max_connections,
            max_packet_bytes: config.max_packet_bytes.unwrap_or(limits.max_packet_bytes),
            connect_timeout: config.connect_timeout.unwrap_or(limits.connect_timeout),
            connections: 0,
        }
    }

    /// In place of one that is no more.
    fn gone() -> Self {
        Self {
            name: String::new(),
            door: Door::default(),
            max_connections: 0,
            max_packet_bytes: 0,
            connect_timeout: Duration::ZERO,
            connections: 0,
        }
    }
}

/// The broker core.
#[derive(Debug)]
pub struct Broker {
    limits: config::Broker,
    /// Of the queue of an MQTT client, and of a client of the gateway, which sleeps.
    queue_limits: Limits,
    sleeper_limits: Limits,
    listeners: Vec<Listener>,
    tree: Tree,
    routes: Routes,
    rules: Vec<BridgeRule>,
    /// Who may do what; none: everyone may do everything.
    acl: Option<Box<Acl>>,
    /// Messages queued up to here were so under other rules: whether they may be read is asked again.
    recheck_up_to: Seq,
    retained: Retained,
    sessions: Slab<Session>,
    by_client: HashMap<Box<str>, u32, FixedState>,
    generation: u32,
    conns: Vec<Option<Box<Connection>>>,
    open: usize,
    epoch: u16,
    timers: Timers<Timer>,
    logins: Logins,
    dirty: VecDeque<ConnId>,
    outputs: VecDeque<Output>,
    /// Whose turn it is to be encoded into, kept between messages for its capacity.
    scratch: Vec<u8>,
    gateways: Gateways,
    rng: fastrand::Rng,
    stats: Stats,
    /// Bytes in memory for all connections, see [`Broker::account`].
    buffered: usize,
    told: Told,
    sys: SysTopics,
}

impl Broker {
    /// An empty broker.
    #[must_use]
    pub fn new(now: Now, config: &config::Config, seed: u64) -> Self {
        let limits = config.broker.clone();
        let mut timers = Timers::default();
        timers.set(now.at + RETAINED_SWEEP, Timer::Retained);
        if !limits.sys_interval.is_zero() {
            timers.set(now.at + limits.sys_interval, Timer::Sys);
        }
        let listeners = config.listener.iter().map(|listener| Listener::new(listener, &limits));
        let (queue_limits, sleeper_limits) = reconfigure::queue_limits(config);
        Self {
            queue_limits,
            sleeper_limits,
            listeners: listeners.collect(),
            tree: Tree::default(),
            routes: Routes::new(seed),
            rules: Vec::new(),
            acl: Acl::new(config, seed).map(Box::new),
            recheck_up_to: Seq(0),
            retained: Retained::new(limits.max_retained_messages, limits.max_retained_bytes),
            sessions: Slab::new(),
            by_client: HashMap::with_hasher(FixedState::with_seed(seed)),
            generation: 0,
            conns: Vec::new(),
            open: 0,
            epoch: 0,
            timers,
            logins: Logins::new(&config.auth),
            dirty: VecDeque::new(),
            outputs: VecDeque::new(),
            scratch: Vec::new(),
            gateways: Gateways::new(Gateway::new(&config.gateway.name)),
            rng: fastrand::Rng::with_seed(seed),
            stats: Stats::default(),
            buffered: 0,
            told: Told::default(),
            sys: SysTopics::new(now.at, limits.sys_interval),
            limits,
        }
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Sessions, connected and not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open
    }

    /// Subscriptions, rules of bridges too.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.tree.len()
    }

    /// Retained messages and the bytes they hold.
    #[must_use]
    pub fn retained(&self) -> (usize, usize) {
        (self.retained.len(), self.retained.bytes())
    }

    /// Bytes in memory for all connections: on their way to slow clients, and packets that are not complete yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    fn conn(&self, conn: ConnId) -> Option<&Connection> {
        self.conns.get(conn.0 as usize)?.as_deref()
    }

    fn conn_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.conns.get_mut(conn.0 as usize)?.as_deref_mut()
    }

    /// The bytes on their way to a connection, once they may go. Kept after `Output::Close` until the shell lets go.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.conn_mut(conn).filter(|conn| !conn.is_held).map(|conn| &mut conn.outbox)
    }

    /// A client connected.
    pub fn handle_accepted(&mut self, now: Now, conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>) {
        self.stats.connections_opened += 1;
        self.epoch = self.epoch.wrapping_add(1) & 0xFFF;
        let index = conn.0 as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Box::new(Connection::new(now.at, listener, peer, self.epoch)));
        self.open += 1;
        let within_total = self.open <= self.limits.max_connections;
        let within_listener = self.listeners.get_mut(usize::from(listener.0)).is_some_and(|listener| {
            listener.connections += 1;
            listener.connections <= listener.max_connections
        });
        if !within_total || !within_listener {
            self.stats.connections_refused += 1;
            self.hit(now, if within_total { Limit::ListenerConnections } else { Limit::Connections }, conn);
            self.close(conn);
            return;
        }
        self.watch_silence(conn, Some(now.at + self.connect_timeout(listener)));
    }

    /// The connection is gone, by the peer or by the transport.
    pub fn handle_closed(&mut self, now: Now, queues: &mut Queues, conn: ConnId) {
        self.watch_silence(conn, None);
        self.forget_login(conn);
        let Some(gone) = self.conns.get_mut(conn.0 as usize).and_then(Option::take) else { return };
        if !gone.closing {
            self.uncount(gone.listener);
            self.buffered -= gone.counted_outbox + gone.counted_input;
        }
        if let Some(session) = gone.session {
            self.session_lost(now, queues, session, true);
        }
    }

    /// The shell wrote all that the outbox held.
    pub fn handle_flushed(&mut self, now: Now, queues: &mut Queues, conn: ConnId) {
        self.account(conn);
        if let Some(session) = self.conn(conn).and_then(|conn| conn.session) {
            self.pump(now, queues, session);
        }
    }

    /// What a reply waited for is safe.
    pub fn handle_settled(&mut self, token: Token) {
        let (id, epoch, number) = connection::split_token(token);
        let Some(conn) = self.conn_mut(id) else { return };
        // Nothing follows a DISCONNECT [MQTT-3.14.4-1]; a client whose message is safe all the same sends it again.
        if conn.epoch != epoch || conn.closing {
            return;
        }
        conn.acks.settle(number);
        while let Some((bytes, is_last)) = conn.acks.pop() {
            // What it waits for is always what the first reply waits for.
            conn.is_held = false;
            conn.outbox.put(bytes.as_slice());
            conn.unanswered = conn.unanswered.saturating_sub(u16::from(is_last));
        }
        self.flush(id);
    }

    /// The daemon is about to stop: clients are told [MQTT-4.13.2].
    pub fn handle_shutdown(&mut self, now: Now, queues: &mut Queues) {
        let why = Fault::new(ReasonCode::ServerShuttingDown, "the gateway is stopped");
        for index in 0..self.conns.len() {
            let Ok(number) = u32::try_from(index) else { break };
            self.end(now, queues, ConnId(number), Some(why), true);
        }
    }

    /// What the broker wants done.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        while let Some(id) = self.dirty.pop_front() {
            let Some(conn) = self.conn_mut(id) else { continue };
            conn.flush_queued = false;
            // What is left in its outbox goes with `Output::Close`, which was the last word about it.
            if !conn.closing {
                return Some(Output::Flush(id));
            }
        }
        None
    }

    /// When to call [`Broker::handle_timeout`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }

    /// Has the connection's outbox written at the end of the turn.
    fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if conn.closing {
            return;
        }
        // Only what was added since, once for each message: the rest of the account has time until the turn ends.
        let added = conn.outbox.take_added();
        conn.counted_outbox += added;
        self.buffered += added;
        if !conn.flush_queued && !conn.is_held && !conn.outbox.is_empty() {
            conn.flush_queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Ends a connection from this side: why is told to a 5.0 client that was accepted, the session is left.
    fn end(&mut self, now: Now, queues: &mut Queues, id: ConnId, why: Option<Fault>, will: bool) {
        let Some(conn) = self.conn_mut(id) else { return };
        if conn.closing {
            return;
        }
        let session = conn.session.take();
        if let (Some(why), Some(_), Version::V5) = (why, session, conn.version) {
            let mut disconnect = Disconnect::new(why.reason);
            disconnect.properties.reason_string = Some(why.text);
            let told = conn.put(&Packet::Disconnect(disconnect))
                // A reason string must not make it too large [MQTT-3.14.2-3].
                || conn.put(&Packet::Disconnect(Disconnect::new(why.reason)));
            self.stats.control_sent += u64::from(told);
        }
        self.close(id);
        if let Some(session) = session {
            self.session_lost(now, queues, session, will);
        }
    }

    fn close(&mut self, id: ConnId) {
        self.account(id);
        let Some(conn) = self.conn_mut(id) else { return };
        if !conn.closing {
            conn.closing = true;
            (conn.partial, conn.alias_bytes) = (Vec::new(), 0);
            conn.aliases = None;
            if conn.is_held {
                // Not even CONNACK was sent, and it must not be now.
                conn.outbox.consume(conn.outbox.len());
                conn.is_held = false;
            }
            let listener = conn.listener;
            self.discount(id);
            self.uncount(listener);
            self.watch_silence(id, None);
            self.forget_login(id);
            self.outputs.push_back(Output::Close(id));
        }
    }

    /// The shell takes over what the connection still holds.
    fn discount(&mut self, id: ConnId) {
        let Some(conn) = self.conn_mut(id) else { return };
        let held = std::mem::take(&mut conn.counted_outbox) + std::mem::take(&mut conn.counted_input);
        self.buffered -= held;
    }

    /// The largest packet that a connection's listener takes.
    pub(crate) fn max_packet_bytes(&self, listener: ListenerId) -> u32 {
        let listener = self.listeners.get(usize::from(listener.0));
        listener.map_or(self.limits.max_packet_bytes, |listener| listener.max_packet_bytes)
    }

    /// How long a connection of this listener may take to say CONNECT.
    pub(crate) fn connect_timeout(&self, listener: ListenerId) -> Duration {
        let listener = self.listeners.get(usize::from(listener.0));
        listener.map_or(self.limits.connect_timeout, |listener| listener.connect_timeout)
    }

    fn uncount(&mut self, listener: ListenerId) {
        self.open -= 1;
        if let Some(listener) = self.listeners.get_mut(usize::from(listener.0)) {
            listener.connections -= 1;
        }
    }

    fn notice(&mut self, level: Level, what: &'static str, conn: ConnId, detail: impl Into<String>) {
        let who = self.describe(conn);
        self.outputs.push_back(Output::Notice(Notice::new(level, what, who, detail)));
    }

    /// A connection as the log names it: client id, address, listener.
    fn describe(&self, id: ConnId) -> String {
        let Some(conn) = self.conn(id) else { return format!("connection {}", id.0) };
        let client = conn.session.and_then(|session| self.sessions.get(session as usize));
        let client = client.map_or("not yet connected", |session| &session.client_id);
        let listener = self.listeners.get(usize::from(conn.listener.0)).map_or("", |listener| &listener.name);
        match conn.peer {
            Some(peer) => format!("{client} ({peer}, listener {listener})"),
            None => format!("{client} (listener {listener})"),
        }
    }

    fn session_mut(&mut self, session: u32) -> Option<&mut Session> {
        self.sessions.get_mut(session as usize)
    }

    fn expires_at(received_at: Wall, secs: Option<u32>) -> Option<Wall> {
        secs.map(|secs| received_at + Duration::from_secs(u64::from(secs)))
    }
}
