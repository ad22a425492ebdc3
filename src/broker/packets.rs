//! Bytes of a connection to packets, and packets to whoever handles them.

use zeroize::Zeroize;

use crate::broker::acks::ReplyBytes;
use crate::broker::connection::{FlightState, reply_token};
use crate::broker::limits::FLOOR_BYTES;
use crate::broker::{Broker, Limit};
use crate::metrics::Level;
use crate::mqtt::{
    ConnAck, ConnId, Connect, DecodeError, Disconnect, Frame, Packet, PacketType, PubAck, PubComp, PubRec, PubRel,
    ReasonCode, Version, frame,
};
use crate::queue::{Outcome, Queues, Refusal};
use crate::time::Now;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub reason: ReasonCode,
    pub text: &'static str,
    /// Not against the standard, but more than is allowed here.
    pub limit: Option<Limit>,
}

impl Fault {
    pub(crate) const fn new(reason: ReasonCode, text: &'static str) -> Self {
        Self { reason, text, limit: None }
    }

    pub(crate) const fn beyond(limit: Limit, reason: ReasonCode) -> Self {
        Self { reason, text: limit.key(), limit: Some(limit) }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        let limit = (error.reason() == ReasonCode::PacketTooLarge).then_some(Limit::PacketBytes);
        Self { reason: error.reason(), text: error.text(), limit }
    }
}

impl Broker {
    /// Bytes came. Whole packets are decoded where they lie; only an unfinished one is kept.
    pub fn handle_received(&mut self, now: Now, queues: &mut Queues, id: ConnId, bytes: &[u8]) {
        self.stats.bytes_received += bytes.len() as u64;
        let Some(conn) = self.conn_mut(id) else { return };
        if conn.partial.is_empty() {
            let used = self.handle_packets(now, queues, id, bytes);
            if let Some(conn) = self.conn_mut(id)
                && !conn.closing
            {
                conn.partial.extend_from_slice(&bytes[used..]);
            }
        } else {
            let is_new = conn.session.is_none();
            let mut partial = std::mem::take(&mut conn.partial);
            partial.extend_from_slice(bytes);
            let used = self.handle_packets(now, queues, id, &partial);
            if is_new {
                // There may have been a secret in CONNECT.
                partial[..used].zeroize();
            }
            if let Some(conn) = self.conn_mut(id)
                && !conn.closing
                && used < partial.len()
            {
                partial.drain(..used);
                conn.partial = partial;
            }
        }
        self.account(id);
        self.flush(id);
        self.check_input(now, queues, id);
    }

    /// Ends a connection of which more is kept, unfinished packet and aliases, than is left in memory for all.
    fn check_input(&mut self, now: Now, queues: &mut Queues, id: ConnId) {
        let Some(held) = self.conn(id).map(|conn| conn.partial.len() + conn.alias_bytes) else { return };
        let left = self.limits.max_buffered_bytes.saturating_sub(self.buffered);
        if held > FLOOR_BYTES && held > left {
            let fault = Fault::beyond(Limit::BufferedBytes, ReasonCode::QuotaExceeded);
            self.fail(now, queues, id, fault);
        }
    }

    /// Handles all whole packets and says how many bytes they were.
    fn handle_packets(&mut self, now: Now, queues: &mut Queues, id: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(conn) = self.conn_mut(id) else { return used };
            if conn.closing || conn.is_waiting() {
                return used;
            }
            let (version, session, listener) = (conn.version, conn.session, conn.listener);
            let result = match frame(&bytes[used..], self.max_packet_bytes(listener)) {
                Ok(None) => return used,
                Ok(Some(frame)) => {
                    used += frame.raw.len();
                    self.stats.messages_received += 1;
                    if let Some(conn) = self.conn_mut(id) {
                        conn.last_received = now.at;
                    }
                    match session {
                        Some(session) => self.handle_packet(now, queues, id, session, version, &frame),
                        None => self.handle_first(now, queues, id, &frame),
                    }
                }
                Err(error) => Err(error.into()),
            };
            if let Err(fault) = result {
                self.fail(now, queues, id, fault);
                return used;
            }
        }
    }

    /// The first packet must be CONNECT [MQTT-3.1.0-1].
    fn handle_first(&mut self, now: Now, queues: &mut Queues, id: ConnId, frame: &Frame<'_>) -> Result<(), Fault> {
        if frame.packet_type() != Some(PacketType::Connect) {
            return Err(Fault::new(ReasonCode::ProtocolError, "the first packet is not CONNECT [MQTT-3.1.0-1]"));
        }
        let version = Connect::peek_version(frame).unwrap_or(Version::V311);
        if let Some(conn) = self.conn_mut(id) {
            conn.version = version;
        }
        match Connect::decode(frame) {
            Ok(connect) => {
                self.handle_login(now, queues, id, frame.raw, &connect);
                Ok(())
            }
            Err(error) => {
                // A 5.0 client, and one of an unknown version, is told why [MQTT-3.1.2-2], [MQTT-3.1.4-1].
                if version == Version::V5 || error.reason() == ReasonCode::UnsupportedProtocolVersion {
                    self.reply(id, &Packet::ConnAck(ConnAck::refusal(error.reason())));
                }
                Err(error.into())
            }
        }
    }

    fn handle_packet(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        version: Version,
        frame: &Frame<'_>,
    ) -> Result<(), Fault> {
        if self.conn(id).is_some_and(|conn| conn.acks.len() > usize::from(u16::MAX)) {
            let text = "more requests wait than there are packet identifiers [MQTT-2.2.1-3]";
            return Err(Fault::new(ReasonCode::ReceiveMaximumExceeded, text));
        }
        if frame.packet_type() == Some(PacketType::Publish) {
            return self.handle_publish(now, queues, id, session, version, frame);
        }
        // Whatever is in it: what would be said of a first one cannot be said here.
        if frame.packet_type() == Some(PacketType::Connect) {
            return Err(Fault::new(ReasonCode::ProtocolError, "a second CONNECT [MQTT-3.1.0-2]"));
        }
        match Packet::decode(version, frame)? {
            Packet::PubAck(ack) => self.handle_puback(now, queues, id, session, ack),
            Packet::PubRec(rec) => self.handle_pubrec(now, queues, id, session, rec),
            Packet::PubRel(rel) => self.handle_pubrel(now, queues, id, session, rel),
            Packet::PubComp(comp) => self.handle_pubcomp(now, queues, id, session, comp),
            Packet::Subscribe(subscribe) => self.handle_subscribe(now, queues, id, session, &subscribe)?,
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(now, queues, id, session, &unsubscribe),
            Packet::PingReq => self.reply(id, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(now, queues, id, session, &disconnect)?,
            Packet::Auth(_) => {
                return Err(Fault::new(
                    ReasonCode::ProtocolError,
                    "AUTH without a method in CONNECT [MQTT-4.12.0-6]",
                ));
            }
            _ => return Err(Fault::new(ReasonCode::ProtocolError, "a packet that only a server sends")),
        }
        Ok(())
    }

    /// Ends a connection that broke the protocol.
    fn fail(&mut self, now: Now, queues: &mut Queues, id: ConnId, fault: Fault) {
        if let Some(limit) = fault.limit {
            self.hit(now, limit, id);
        } else {
            self.stats.protocol_errors += 1;
            self.notice(Level::Info, "client broke the protocol", id, fault.text);
        }
        self.end(now, queues, id, Some(fault), true);
    }

    /// Appends a packet to the outbox.
    pub(crate) fn reply(&mut self, id: ConnId, packet: &Packet<'_>) {
        if self.conn_mut(id).is_some_and(|conn| conn.put(packet)) {
            self.stats.control_sent += 1;
        }
        self.flush(id);
    }

    /// Sends the reply now, or when what it waits for is safe; in the order of the requests either way.
    pub(crate) fn reply_when(&mut self, id: ConnId, outcome: Outcome, packet: &Packet<'_>) {
        self.stats.control_sent += 1;
        let Some(conn) = self.conn_mut(id) else { return };
        let settled = outcome != Outcome::Pending;
        let is_last = match packet {
            Packet::PubAck(_) | Packet::PubComp(_) => true,
            Packet::PubRec(rec) => rec.reason.is_error(),
            _ => false,
        };
        if settled && conn.acks.is_empty() {
            conn.put(packet);
            conn.unanswered = conn.unanswered.saturating_sub(u16::from(is_last));
            return;
        }
        let mut bytes = Vec::with_capacity(8);
        packet.encode(conn.version, &mut bytes);
        if bytes.len() > conn.max_packet as usize {
            // It counts as sent [MQTT-3.1.2-25], in its turn.
            bytes.clear();
        }
        let bytes = ReplyBytes::new(&bytes);
        if settled {
            conn.acks.push_settled(bytes, is_last);
        } else {
            conn.acks.push(bytes, is_last);
        }
    }

    /// The token for the reply that the connection's next [`Broker::reply_when`] makes.
    pub(crate) fn next_token(&self, id: ConnId) -> crate::queue::Token {
        let (epoch, number) = self.conn(id).map_or((0, 0), |conn| (conn.epoch, conn.acks.next_number()));
        reply_token(id, epoch, number)
    }

    fn handle_puback(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32, ack: PubAck<'_>) {
        let landed =
            self.conn_mut(id).and_then(|conn| conn.land(ack.pkid, |state| matches!(state, FlightState::PubAck(_))));
        let (Some(FlightState::PubAck(seq)), Some(dest)) = (landed, self.line_of(session)) else { return };
        queues.acked(now, dest, seq);
        self.pump(now, queues, session);
    }

    fn handle_pubrec(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32, rec: PubRec<'_>) {
        let dest = self.line_of(session);
        let Some(conn) = self.conn_mut(id) else { return };
        let flight = conn.inflight.iter_mut().find(|flight| flight.pkid == rec.pkid);
        match flight.map(|flight| (flight.state, flight)).zip(dest) {
            Some(((FlightState::PubRec(seq), _), dest)) if rec.reason.is_error() => {
                // The client will not have it [MQTT-4.3.3-4]: done.
                conn.land(rec.pkid, |_| true);
                queues.acked(now, dest, seq);
                self.pump(now, queues, session);
            }
            Some(((FlightState::PubRec(seq), flight), dest)) => {
                flight.state = FlightState::PubComp;
                let token = self.next_token(id);
                let outcome = queues.release(now, dest, seq, rec.pkid, token);
                self.reply_when(id, outcome, &Packet::PubRel(PubRel::new(rec.pkid, ReasonCode::Success)));
            }
            Some(((FlightState::PubComp, _), _)) => {
                self.reply_when(id, Outcome::Done, &Packet::PubRel(PubRel::new(rec.pkid, ReasonCode::Success)));
            }
            // A refusal of what nobody sent ends nothing.
            _ if rec.reason.is_error() => {}
            // Also where nothing was ever sent, so that the client can go on [MQTT-4.3.3-4].
            _ => {
                let rel = PubRel::new(rec.pkid, ReasonCode::PacketIdentifierNotFound);
                self.reply_when(id, Outcome::Done, &Packet::PubRel(rel));
            }
        }
    }

    fn handle_pubrel(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32, rel: PubRel<'_>) {
        let token = self.next_token(id);
        let forgotten = self.line_of(session).and_then(|dest| queues.forget(now, dest, rel.pkid, token));
        // An unknown identifier is answered all the same, so that the client can go on [MQTT-4.3.3-11].
        let reason = if forgotten.is_some() { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        let outcome = forgotten.unwrap_or(Outcome::Done);
        self.reply_when(id, outcome, &Packet::PubComp(PubComp::new(rel.pkid, reason)));
    }

    fn handle_pubcomp(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32, comp: PubComp<'_>) {
        let landed = self.conn_mut(id).and_then(|conn| conn.land(comp.pkid, |state| state == FlightState::PubComp));
        let (Some(_), Some(dest)) = (landed, self.line_of(session)) else { return };
        queues.complete(now, dest, comp.pkid);
        self.pump(now, queues, session);
    }

    fn handle_disconnect(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), Fault> {
        if let Some(expiry) = disconnect.properties.session_expiry {
            let max = self.max_session_expiry();
            let Some(session) = self.session_mut(session) else { return Ok(()) };
            if session.expiry == 0 && expiry != 0 {
                return Err(Fault::new(
                    ReasonCode::ProtocolError,
                    "session expiry was 0 in CONNECT and is not in DISCONNECT (section 3.14.2.2.2)",
                ));
            }
            session.expiry = expiry.min(max);
        }
        // A normal DISCONNECT takes the will back [MQTT-3.14.4-3]; any other reason does not.
        let will = disconnect.reason != ReasonCode::Success;
        self.end(now, queues, id, None, will);
        Ok(())
    }
}

/// The reason that a 5.0 client gets for a publish that was refused.
pub(crate) fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAuthorised => "the client may not publish to the topic",
        Refusal::Full => "a queue that needs the message is full",
        Refusal::Store => "the disk is full, or does not answer",
        Refusal::Topic => "the topic is longer or deeper than is allowed here",
    }
}

pub(crate) fn refusal_reason(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::NotAuthorised => ReasonCode::NotAuthorized,
        Refusal::Full | Refusal::Store => ReasonCode::QuotaExceeded,
        Refusal::Topic => ReasonCode::TopicNameInvalid,
    }
}
