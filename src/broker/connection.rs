//! One MQTT connection: what belongs to it and ends with it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::broker::acks::{Acks, ReplyBytes};
use crate::broker::alias::Aliases;
use crate::broker::login::Guest;
use crate::config::ListenerId;
use crate::mqtt::{ConnId, Outbox, Packet, Version};
use crate::queue::{Seq, Token};
use crate::time::{Duration, Instant};

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
    /// CONNACK, and with it all that follows, waits for the disk.
    pub is_held: bool,
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
    /// See [`Connection::is_free`].
    is_tangled: bool,
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
            is_held: false,
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
            is_tangled: false,
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

    /// Keeps back all that the client is sent until the token of its first reply is settled.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
        self.acks.push(ReplyBytes::new(&[]), false);
    }

    /// Whether no message is in flight under this identifier, so that another may be sent [MQTT-2.2.1-4].
    pub(crate) fn is_free(&mut self, pkid: u16) -> bool {
        let (Some(oldest), Some(newest)) = (self.inflight.front(), self.inflight.back()) else {
            self.is_tangled = false;
            return true;
        };
        // Identifiers are fixed in the order of the queue, and flights lie in it: one that lies ahead of the newest,
        // counted from the oldest, is not among them.
        let ahead = |id: u16| id.wrapping_sub(oldest.pkid);
        if !self.is_tangled && ahead(pkid) > ahead(newest.pkid) {
            return true;
        }
        let is_free = self.inflight.iter().all(|flight| flight.pkid != pkid);
        self.is_tangled |= is_free;
        is_free
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
    fn an_identifier_in_flight_is_not_free_whatever_the_order() {
        let mut conn = Connection::new(Instant::ZERO, ListenerId(0), None, 0);
        let send = |conn: &mut Connection, pkid: u16| {
            let is_free = conn.is_free(pkid);
            if is_free {
                conn.inflight.push_back(Flight { pkid, state: FlightState::PubAck(Seq(1)) });
            }
            is_free
        };
        // In turn, over the end of the range.
        assert!([0x7FFD, 0x7FFE, 0x7FFF, 1, 2].into_iter().all(|pkid| send(&mut conn, pkid)));
        assert!(!conn.is_tangled);
        assert_eq!(conn.land(0x7FFE, |state| state == FlightState::PubComp), None);
        assert!(conn.land(0x7FFE, |state| matches!(state, FlightState::PubAck(_))).is_some());
        // A whole turn later the first is still there, and so is one behind it.
        assert!((3..0x7FFD).all(|pkid| send(&mut conn, pkid) && conn.land(pkid, |_| true).is_some()));
        assert!(!send(&mut conn, 0x7FFD));
        assert!(send(&mut conn, 0x7FFE));
        assert!(!send(&mut conn, 0x7FFF));
        assert!(conn.is_tangled);
        assert!(!send(&mut conn, 1));
        assert!(send(&mut conn, 3) && !send(&mut conn, 3));
        conn.inflight.clear();
        assert!(send(&mut conn, 3) && !conn.is_tangled);
    }
}
