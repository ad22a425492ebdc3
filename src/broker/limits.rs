//! What a client can run into: each limit has its counter, and says once per burst which key raises it.

use std::fmt;

use crate::broker::{Broker, Output};
use crate::metrics::{Level, Notice};
use crate::mqtt::{ConnId, topic};
use crate::time::{Duration, Instant, Now};

/// A limit that keeps being reached says so again after this long.
const BURST: Duration = Duration::from_secs(60);

/// A connection may always hold this much, however little memory is left.
pub(crate) const FLOOR_BYTES: usize = 16 * 1024;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $what:literal;)*) => {
        /// A limit of the configuration at which something is refused, shed or ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Limit { $($(#[$doc])* $name,)* }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The key that sets it, with its table.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// The event, for the log.
            const fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }

        const COUNT: usize = [$(Limit::$name,)*].len();
    };
}

limits! {
    /// Connections on all listeners: closed at once.
    Connections = "broker.max_connections", "too many connections";
    /// Connections on one listener: closed at once.
    ListenerConnections = "listener.max_connections", "too many connections on a listener";
    /// From the connection to a complete CONNECT: closed.
    ConnectTimeout = "broker.connect_timeout", "no CONNECT in time";
    /// One packet: DISCONNECT 0x95 before it came.
    PacketBytes = "broker.max_packet_bytes", "packet too large";
    /// A client identifier: CONNACK 0x85.
    ClientIdBytes = "broker.max_client_id_bytes", "client id too long";
    /// A will with its topic and properties: CONNACK 0x97.
    WillBytes = "broker.max_will_bytes", "will too large";
    /// User properties of one message: 0x97.
    UserProperties = "broker.max_user_properties", "too many user properties";
    /// Sessions with and without their client: CONNACK 0x97.
    Sessions = "broker.max_sessions", "too many sessions";
    /// Filters of one client: SUBACK 0x97.
    Subscriptions = "broker.max_subscriptions_per_client", "too many subscriptions of one client";
    /// Levels of a topic or filter: 0x90, SUBACK 0x8F.
    TopicLevels = "broker.max_topic_levels", "topic too deep";
    /// Length of a topic or filter: 0x90, SUBACK 0x8F.
    TopicBytes = "broker.max_topic_bytes", "topic too long";
    /// A topic alias that was not offered: DISCONNECT 0x94.
    TopicAlias = "broker.topic_alias_maximum", "topic alias above the maximum";
    /// More messages at once than the client was told to send: DISCONNECT 0x93.
    ReceiveMaximum = "broker.receive_maximum", "more messages at once than allowed";
    /// Retained messages: the message is delivered, but not kept.
    RetainedMessages = "broker.max_retained_messages", "too many retained messages";
    /// Bytes of retained messages: the message is delivered, but not kept.
    RetainedBytes = "broker.max_retained_bytes", "too many bytes of retained messages";
    /// Bytes that wait for one connection: QoS 0 is shed.
    OutboxBytes = "broker.max_outbox_bytes", "slow client, QoS 0 dropped";
    /// Bytes in memory for all connections: QoS 0 is shed, a large unfinished packet, or many aliases, end their connection.
    BufferedBytes = "broker.max_buffered_bytes", "memory for connections used up";
}

/// How often each limit was reached since start.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitHits([u64; COUNT]);

impl LimitHits {
    /// How often this one was.
    #[must_use]
    pub const fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// Those that were reached at least once.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.iter().map(|limit| (*limit, self.of(*limit))).filter(|(_, count)| *count > 0)
    }
}

impl fmt::Debug for LimitHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// When the log was last told of each limit, and how often it was reached then.
#[derive(Debug, Default)]
pub(crate) struct Told([Option<(Instant, u64)>; COUNT]);

impl Broker {
    /// Counts that a limit was reached, and says so unless it just did.
    pub(crate) fn hit(&mut self, now: Now, limit: Limit, id: ConnId) {
        if let Some(detail) = self.count(now, limit) {
            self.notice(Level::Warn, limit.what(), id, detail);
        }
    }

    /// As [`Broker::hit`], by who is not a connection.
    pub(crate) fn hit_by(&mut self, now: Now, limit: Limit, who: &str) {
        if let Some(detail) = self.count(now, limit) {
            self.outputs.push_back(Output::Notice(Notice::new(Level::Warn, limit.what(), who, detail)));
        }
    }

    /// As [`Broker::hit`], by a session.
    pub(crate) fn hit_from(&mut self, now: Now, limit: Limit, session: u32) {
        if let Some(detail) = self.count(now, limit) {
            let who = self.sessions.get(session as usize).map_or("", |session| &session.client_id);
            self.outputs.push_back(Output::Notice(Notice::new(Level::Warn, limit.what(), who, detail)));
        }
    }

    /// What the log is to be told, if anything.
    fn count(&mut self, now: Now, limit: Limit) -> Option<String> {
        let count = &mut self.stats.limits.0[limit as usize];
        *count += 1;
        let told = &mut self.told.0[limit as usize];
        if told.is_some_and(|(at, _)| now.at.since(at) < BURST) {
            return None;
        }
        let before = told.replace((now.at, *count)).map_or(0, |(_, count)| count);
        let more = *count - before - 1;
        let key = limit.key();
        Some(if more == 0 {
            format!("{key} is reached; raise it if that is meant")
        } else {
            format!("{key} is reached, {more} times more since this was last said; raise it if that is meant")
        })
    }

    /// Bytes that one connection may hold now. What is left in all bounds it as well, so that many slow clients share
    /// and always leave room for one more (dynamic thresholds, as in the buffers of network switches).
    pub(crate) fn outbox_limit(&self) -> usize {
        let left = self.limits.max_buffered_bytes.saturating_sub(self.buffered);
        self.limits.max_outbox_bytes.min(left.max(FLOOR_BYTES))
    }

    /// Whether the peer has to take what it is sent, or wait for the disk, before it may send more.
    #[must_use]
    pub fn is_backlogged(&self, id: ConnId) -> bool {
        let most_waiting = usize::from(self.limits.receive_maximum);
        self.conn(id).is_some_and(|conn| {
            conn.outbox.len() >= self.outbox_limit().saturating_mul(2) || conn.acks.len() > most_waiting
        })
    }

    /// Brings up to date what is known of a connection's memory, and with it how many bytes it was sent. One that is
    /// closing is the shell's.
    pub(crate) fn account(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(id.0 as usize).and_then(Option::as_deref_mut);
        let Some(conn) = conn.filter(|conn| !conn.closing) else { return };
        let (outbox, input) = (conn.outbox.len(), conn.input_bytes());
        let added = conn.outbox.take_added();
        self.stats.bytes_sent += (conn.counted_outbox + added).saturating_sub(outbox) as u64;
        self.buffered = self.buffered + outbox + input - conn.counted_outbox - conn.counted_input;
        (conn.counted_outbox, conn.counted_input) = (outbox, input);
    }

    /// Why clients may not use this topic or filter, if it is too long or too deep.
    pub(crate) fn topic_limit(&self, name: &str) -> Option<Limit> {
        if name.len() > self.limits.max_topic_bytes {
            return Some(Limit::TopicBytes);
        }
        (topic::levels(name).count() > self.limits.max_topic_levels).then_some(Limit::TopicLevels)
    }
}
