//! A connection to the upstream: first only bytes, then a link with limits and watches.

use crate::bridge::connect::Allowance;
use crate::mqtt::alias::SentAliases;
use crate::mqtt::{ConnId, Outbox, Version};
use crate::time::{Duration, Instant, earliest};

/// How long PINGRESP, or any other sign of life, may take.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// How long a link goes on when the upstream waits for acknowledgements that it will only get on the next one.
const RELINK_AFTER: Duration = Duration::from_secs(60);

/// How long a link that is to be left waits for acknowledgements.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// A link that heard of the upstream within this time is good, whatever changed in the network.
const DOUBT_AFTER: Duration = Duration::from_secs(5);

/// A connection, up to and including CONNECT.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) conn: ConnId,
    pub(super) outbox: Outbox,
    pub(super) last_sent: Instant,
    pub(super) last_received: Instant,
}

impl Wire {
    pub(super) fn new(conn: ConnId, now: Instant) -> Self {
        Self { conn, outbox: Outbox::default(), last_sent: now, last_received: now }
    }
}

/// A connection on which CONNACK said yes.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Wire,
    pub(super) version: Version,
    pub(super) allowance: Allowance,
    pub(super) up_at: Instant,
    /// PINGREQ was sent: a sign of life must come before this.
    pong_by: Option<Instant>,
    /// When the upstream last acknowledged something, or first had something to acknowledge.
    pub(super) progress_at: Instant,
    /// The upstream said that its quota is exceeded: nothing is sent before this.
    pub(super) paused_until: Option<Instant>,
    /// Since when the upstream waits for an acknowledgement that it will not get on this link.
    pub(super) withheld_at: Option<Instant>,
    /// Nothing new is sent: the link ends when what is on its way is answered, or then. And why.
    pub(super) leaving: Option<(&'static str, Instant)>,
    /// The password is no longer good soon after this.
    pub(super) renew_at: Option<Instant>,
    /// Names that topics have on this link.
    pub(super) aliases: SentAliases,
}

/// What a link needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// The pause is over.
    Resume,
    /// The password must be renewed.
    Renew,
    /// Nothing passed for as long as the keep-alive: ask whether the upstream is there.
    Ping,
    /// It is over, and why.
    End(&'static str),
}

impl Link {
    pub(super) fn new(wire: Wire, version: Version, allowance: Allowance, now: Instant) -> Self {
        let mut aliases = SentAliases::default();
        if version == Version::V5 {
            aliases.allow(allowance.topic_aliases);
        }
        Self {
            aliases,
            wire: Wire { last_received: now, ..wire },
            version,
            allowance,
            up_at: now,
            pong_by: None,
            progress_at: now,
            paused_until: None,
            withheld_at: None,
            leaving: None,
            renew_at: None,
        }
    }

    /// Bytes came: the upstream lives. A PINGRESP may be far behind other packets on a slow line, so all count.
    pub(super) fn received(&mut self, now: Instant) {
        self.wire.last_received = now;
        self.pong_by = None;
    }

    /// PINGREQ was put into the outbox.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.wire.last_sent = now;
        self.pong_by = Some(now + PONG_WITHIN);
    }

    /// When to ask for a sign of life: the server must hear from us [MQTT-3.1.2-20], and we want to hear from it even
    /// while all we send is QoS 0.
    fn ping_at(&self) -> Option<Instant> {
        let silent_since = self.wire.last_sent.min(self.wire.last_received);
        (!self.allowance.keepalive.is_zero()).then(|| silent_since + self.allowance.keepalive)
    }

    /// `awaited`: the upstream owes us an acknowledgement. `stuck_timeout` of zero watches nothing.
    fn stuck_at(&self, awaited: bool, stuck_timeout: Duration) -> Option<Instant> {
        (awaited && !stuck_timeout.is_zero()).then(|| self.progress_at + stuck_timeout)
    }

    fn relink_at(&self) -> Option<Instant> {
        self.withheld_at.map(|at| at + RELINK_AFTER)
    }

    /// What has become due.
    pub(super) fn need(&self, now: Instant, awaited: bool, stuck_timeout: Duration) -> Need {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.pong_by) {
            Need::End("no answer to PINGREQ")
        } else if due(self.stuck_at(awaited, stuck_timeout)) {
            Need::End("connected, but nothing acknowledged")
        } else if due(self.relink_at()) {
            Need::End("messages could not be taken, the upstream shall send them again")
        } else if self.leaving.is_none() && due(self.renew_at) {
            Need::Renew
        } else if due(self.paused_until) {
            Need::Resume
        } else if self.pong_by.is_none() && due(self.ping_at()) {
            Need::Ping
        } else {
            Need::Nothing
        }
    }

    /// When [`Link::need`] has something to say.
    pub(super) fn deadline(&self, awaited: bool, stuck_timeout: Duration) -> Option<Instant> {
        let life = self.pong_by.or_else(|| self.ping_at());
        let stuck = earliest(self.stuck_at(awaited, stuck_timeout), self.relink_at());
        let leave = self.leaving.map(|(_, latest)| latest).or(self.renew_at);
        earliest(earliest(life, stuck), earliest(self.paused_until, leave))
    }

    /// Ends soon, in good order.
    pub(super) fn leave(&mut self, now: Instant, why: &'static str) {
        self.leaving.get_or_insert((why, now + LEAVE_WITHIN));
    }

    /// Whether it is worth asking if the upstream still hears us.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        self.pong_by.is_none() && now.since(self.wire.last_received) >= DOUBT_AFTER
    }
}
