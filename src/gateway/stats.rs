//! What the gateway counts.

use crate::config::LinkId;
use crate::mqttsn::framing;
use crate::time::{Duration, Instant};

/// Gauges at the time of asking, and counters since the start. Everything dropped or refused is in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Clients known, in any state.
    pub clients: u64,
    pub active: u64,
    /// Asleep or awake (MQTT-SN 6.14).
    pub sleeping: u64,
    /// Topic ids of all clients.
    pub topics: u64,
    /// Forwarders heard lately.
    pub forwarders: u64,
    /// Requests that wait until they are safe.
    pub pending: u64,

    pub messages_received: u64,
    pub messages_sent: u64,
    pub publishes_received: u64,
    pub publishes_sent: u64,
    /// Messages beyond the rate of their node.
    pub rate_limited: u64,
    /// Octets that are no message.
    pub malformed: u64,
    /// Messages that mean nothing in the client's state, or answers to no question.
    pub unexpected: u64,
    /// Requests that came again while their answer was not due yet.
    pub duplicates: u64,
    /// Messages from peers that are not connected.
    pub strangers: u64,
    /// Of these, not answered because of the rate limit.
    pub strangers_unanswered: u64,
    /// SEARCHGW that were answered.
    pub searches: u64,
    /// ADVERTISE and GWINFO of others.
    pub other_gateways: u64,
    /// Peers whose proven names found no room.
    pub identities_refused: u64,
    /// QoS -1 publishes that were refused.
    pub minus_one_refused: u64,

    pub connects: u64,
    pub connects_refused: u64,
    /// Of these, because the configuration does not let the client in there.
    pub forbidden: u64,
    /// Of these, because the client belongs to another name than the one that was proved.
    pub foreign: u64,
    /// Will handshakes that the client did not finish.
    pub handshakes_abandoned: u64,
    /// Clients that fell silent.
    pub clients_lost: u64,
    /// Clients that came back from another address.
    pub address_changes: u64,
    /// Sessions that another connection took.
    pub taken_over: u64,

    /// Requests refused with "congestion".
    pub congestion: u64,
    /// Requests refused with "invalid topic id".
    pub invalid_topic_id: u64,
    /// Requests refused with "not supported".
    pub not_supported: u64,

    pub retransmissions: u64,
    /// Deliveries put off because the client did not answer any more; they stay queued.
    pub retries_exhausted: u64,
    /// Messages given up for one client: longer than its link's MTU.
    pub dropped_too_long: u64,
    /// Messages given up for one client: it refused the topic.
    pub dropped_unwanted: u64,
    /// Messages given up for one client: it refused the message twice.
    pub dropped_refused: u64,
    /// Messages given up for one client: they waited for too long.
    pub dropped_too_old: u64,
    /// Messages given up for one client: its topic table is full.
    pub dropped_topics_full: u64,
    /// Topic ids given up for newer ones.
    pub topics_evicted: u64,
    /// Messages of the gateway's own that no link could carry.
    pub unsendable: u64,
    /// Messages not sent because their serial port is away.
    pub link_down: u64,
    /// Records of an earlier run that could not be used.
    pub records_unusable: u64,
}

/// What happened on one link since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkStats {
    pub messages_received: u64,
    pub messages_sent: u64,
    /// Frames or datagrams that are no message.
    pub malformed: u64,
    /// Messages beyond the rate of their node.
    pub rate_limited: u64,
    pub retransmissions: u64,
    /// Time from a request to its answer, smoothed; what was sent again is not measured.
    pub round_trip: Option<Duration>,
    /// When a message last came.
    pub heard_at: Option<Instant>,
}

impl LinkStats {
    /// As TCP does (RFC 6298): an eighth of what is new.
    pub(super) fn measure(&mut self, round_trip: Duration) {
        self.round_trip = Some(self.round_trip.map_or(round_trip, |smooth| (smooth * 7 + round_trip) / 8));
    }
}

/// A link as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo<'a> {
    pub id: LinkId,
    pub name: &'a str,
    /// Whether its serial port is there. A UDP link always is.
    pub open: bool,
    pub stats: LinkStats,
    /// Frames and noise, on a serial line.
    pub framing: Option<framing::Stats>,
}
