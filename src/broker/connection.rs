//! One MQTT connection: what belongs to it and ends with it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::broker::acks::Acks;
use crate::broker::alias::Aliases;
use crate::broker::login::Guest;
use crate::config::ListenerId;
use crate::mqtt::{ConnId, Outbox, Packet, Version};
use crate::queue::{Seq, Token};
use crate::time::{Duration, Instant};

/// The end of the lower half of packet identifiers.
const MAX_QOS1_PKID: u16 = 0x7FFF;

/// A message on its way to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    pub pkid: u16,
    pub state: FlightState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "they are packets")]
pub(crate) enum FlightState {
    /// QoS 1: PUBACK is due.
    PubAck(Seq),
    /// QoS 2: PUBREC is due.
    PubRec(Seq),
    /// QoS 2: PUBREC came, PUBCOMP is due.
    PubComp,
}

/// What a connection leaves to the next one of its session: QoS 1 messages without PUBACK, oldest first, with the
/// identifiers under which they go out again [MQTT-4.4.0-1]. Those of QoS 2 lie in the queue.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    flights: VecDeque<(Seq, u16)>,
    last_pkid: u16,
    has_skipped: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub listener: ListenerId,
    pub peer: Option<SocketAddr>,
    /// Grows with each use of the connection's number.
    pub epoch: u16,
    pub version: Version,
    /// Set once CONNECT was accepted.
    pub session: Option<u32>,
    /// Boxed, because most need it only until they are let in.
    pub guest: Option<Box<Guest>>,
    /// An unfinished packet.
    pub partial: Vec<u8>,
    pub outbox: Outbox,
    /// What [`crate::broker::Broker::account`] last found in the outbox, and in what the client sent and is kept.
    pub counted_outbox: usize,
    pub counted_input: usize,
    pub flush_queued: bool,
    pub closing: bool,
    pub last_received: Instant,
    /// When its silence is looked at.
    pub timer_at: Option<Instant>,
    /// One and a half times the keep-alive.
    pub silence: Option<Duration>,
    /// The client's Receive Maximum, within our own limit.
    pub window: usize,
    /// The client's Maximum Packet Size.
    pub max_packet: u32,
    /// Reason strings may come with other packets than CONNACK and DISCONNECT [MQTT-3.1.2-29].
    pub wants_reasons: bool,
    /// Boxed, because most have none.
    pub aliases: Option<Box<Aliases>>,
    /// What the aliases that the client defined take, about.
    pub alias_bytes: usize,
    pub acks: Acks,
    /// QoS 1 and 2 messages of the client that have not had their last answer on this connection.
    pub unanswered: u16,
    pub inflight: VecDeque<Flight>,
    /// What the connection before it left and was not sent again yet.
    unacked: VecDeque<(Seq, u16)>,
    last_pkid: u16,
    /// An identifier in flight was passed over since the connection last had none in flight.
    has_skipped: bool,
}

impl Connection {
    pub(crate) fn new(now: Instant, listener: ListenerId, peer: Option<SocketAddr>, epoch: u16) -> Self {
        Self {
            listener,
            peer,
            epoch,
            version: Version::V311,
            session: None,
            guest: None,
            partial: Vec::new(),
            outbox: Outbox::default(),
            counted_outbox: 0,
            counted_input: 0,
            flush_queued: false,
            closing: false,
            last_received: now,
            timer_at: None,
            silence: None,
            window: 1,
            max_packet: u32::MAX,
            wants_reasons: true,
            aliases: None,
            alias_bytes: 0,
            acks: Acks::default(),
            unanswered: 0,
            inflight: VecDeque::new(),
            unacked: VecDeque::new(),
            last_pkid: 0,
            has_skipped: false,
        }
    }

    /// Whether its CONNECT waits for the check of what it proves.
    pub(crate) fn is_waiting(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.is_waiting())
    }

    /// Bytes kept of what the client sent.
    pub(crate) fn input_bytes(&self) -> usize {
        self.partial.capacity() + self.alias_bytes
    }

    /// Appends a packet. One that is larger than the client takes is left out and counts as sent [MQTT-3.1.2-24],
    /// [MQTT-3.1.2-25]; false then.
    pub(crate) fn put(&mut self, packet: &Packet<'_>) -> bool {
        let (version, max_packet) = (self.version, self.max_packet as usize);
        let mut fits = true;
        self.outbox.put_with(|out| {
            let before = out.len();
            packet.encode(version, out);
            fits = out.len() - before <= max_packet;
            if !fits {
                out.truncate(before);
            }
        });
        fits
    }

    /// Goes on where the session's last connection was.
    pub(crate) fn resume(&mut self, left: Unacked) {
        (self.unacked, self.last_pkid, self.has_skipped) = (left.flights, left.last_pkid, left.has_skipped);
    }

    /// What the session's next connection goes on with.
    pub(crate) fn leave(&mut self) -> Unacked {
        let sent = self.inflight.iter().filter_map(|flight| match flight.state {
            FlightState::PubAck(seq) => Some((seq, flight.pkid)),
            FlightState::PubRec(_) | FlightState::PubComp => None,
        });
        let flights = sent.chain(std::mem::take(&mut self.unacked)).collect();
        Unacked { flights, last_pkid: self.last_pkid, has_skipped: self.has_skipped }
    }

    /// The packet identifier of a QoS 1 message: the one it was sent with before [MQTT-4.4.0-1], or the next.
    pub(crate) fn pkid_of(&mut self, seq: Seq) -> u16 {
        // They go out again in order; what is missing has expired or was dropped.
        while self.unacked.front().is_some_and(|(old, _)| *old < seq) {
            self.unacked.pop_front();
        }
        match self.unacked.pop_front_if(|(old, _)| *old == seq) {
            Some((_, pkid)) => pkid,
            None => self.next_pkid(),
        }
    }

    /// A packet identifier for QoS 1, from the lower half: the upper half is fixed in the queue, for QoS 2.
    fn next_pkid(&mut self) -> u16 {
        if self.inflight.is_empty() && self.unacked.is_empty() {
            self.has_skipped = false;
        }
        loop {
            self.last_pkid = if self.last_pkid >= MAX_QOS1_PKID { 1 } else { self.last_pkid + 1 };
            // Identifiers are given out in turn and flights lie in that order: the first one to be met again is that
            // of the oldest flight. Only once one was passed over can others be met without meeting that first.
            let is_free = match self.inflight.front() {
                _ if self.unacked.iter().any(|(_, pkid)| *pkid == self.last_pkid) => false,
                None => true,
                Some(oldest) if !self.has_skipped && oldest.pkid <= MAX_QOS1_PKID => oldest.pkid != self.last_pkid,
                Some(_) => !self.inflight.iter().any(|flight| flight.pkid == self.last_pkid),
            };
            if is_free {
                return self.last_pkid;
            }
            self.has_skipped = true;
        }
    }

    /// Takes the flight with this identifier out, if it is in the given kind of state.
    pub(crate) fn land(&mut self, pkid: u16, expected: impl Fn(FlightState) -> bool) -> Option<FlightState> {
        let index = self.inflight.iter().position(|flight| flight.pkid == pkid)?;
        if !expected(self.inflight[index].state) {
            return None;
        }
        self.inflight.remove(index).map(|flight| flight.state)
    }
}

/// The token of a reply: connection, use of its number, and the reply's number.
pub(crate) fn reply_token(conn: ConnId, epoch: u16, number: u32) -> Token {
    Token(u64::from(conn.0 & 0xF_FFFF) << 40 | u64::from(epoch & 0xFFF) << 28 | u64::from(number & 0xFFF_FFFF))
}

/// Takes a reply's token apart.
pub(crate) fn split_token(token: Token) -> (ConnId, u16, u32) {
    let Token(bits) = token;
    let part = |shift: u32, width: u32| u32::try_from(bits >> shift & ((1 << width) - 1)).unwrap_or(0);
    (ConnId(part(40, 20)), u16::try_from(part(28, 12)).unwrap_or(0), part(0, 28))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_apart_as_it_was_put_together() {
        let token = reply_token(ConnId(0xF_FFFF), 0xFFF, 0xFFF_FFFF);
        assert_eq!(split_token(token), (ConnId(0xF_FFFF), 0xFFF, 0xFFF_FFFF));
        assert_eq!(token.owned_by(3).split(), (3, token));
    }

    #[test]
    fn packet_identifiers_in_flight_are_skipped() {
        let mut conn = Connection::new(Instant::ZERO, ListenerId(0), None, 0);
        let send = |conn: &mut Connection| {
            let pkid = conn.next_pkid();
            conn.inflight.push_back(Flight { pkid, state: FlightState::PubAck(Seq(1)) });
            pkid
        };
        assert_eq!([send(&mut conn), send(&mut conn), send(&mut conn)], [1, 2, 3]);
        assert_eq!(conn.land(2, |state| state == FlightState::PubComp), None);
        assert!(conn.land(2, |state| matches!(state, FlightState::PubAck(_))).is_some());
        // A whole turn later the two that were never acknowledged are still there.
        for expected in 4..=MAX_QOS1_PKID {
            assert_eq!(send(&mut conn), expected);
            assert!(conn.land(expected, |_| true).is_some());
        }
        assert_eq!([send(&mut conn), send(&mut conn)], [2, 4]);
        conn.last_pkid = MAX_QOS1_PKID;
        assert_eq!(send(&mut conn), 5, "1 to 4 are in flight");
    }

    #[test]
    fn identifiers_of_qos_2_do_not_hide_those_of_qos_1() {
        let mut conn = Connection::new(Instant::ZERO, ListenerId(0), None, 0);
        conn.inflight.push_back(Flight { pkid: 0x8000, state: FlightState::PubComp });
        conn.inflight.push_back(Flight { pkid: 1, state: FlightState::PubAck(Seq(1)) });
        assert_eq!(conn.next_pkid(), 2);
    }
}
