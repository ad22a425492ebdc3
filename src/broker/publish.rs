//! PUBLISH on its way in: to whom it goes, and when it may be acknowledged.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::broker::connection::Connection;
use crate::broker::packets::{Fault, refusal_reason, refusal_text};
use crate::broker::routes::{Leg, Route};
use crate::broker::session::{Peer, Session};
use crate::broker::target::{BridgeRule, Target};
use crate::broker::{Broker, Limit};
use crate::config::{RuleQos, RuleRetain, UpstreamId};
use crate::mqtt::publish::{Head, encode_head};
use crate::mqtt::{
    ConnId, Frame, Message, MessageParts, Packet, PubAck, PubRec, Publish, QoS, ReasonCode, ReasonProperties,
    UserProperties, Version, topic,
};
use crate::queue::{Admission, Delivery, DestId, Outcome, Queues, Refusal, Token};
use crate::time::Now;

/// A longer payload is shared by its receivers rather than copied to each.
const SHARE_FROM: usize = 2048;

/// A message as it comes in, borrowed from where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inbound<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    /// Forwarded properties in wire form.
    pub properties: &'a [u8],
    /// Message expiry interval in seconds.
    pub expiry: Option<u32>,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// The broker itself, below `$SYS`: not kept.
    pub own: bool,
    pub session: Option<u32>,
    pub upstream: Option<UpstreamId>,
}

/// One message being handed out, with what was made of it so far.
struct Handout<'a> {
    now: Now,
    inbound: Inbound<'a>,
    origin: Origin,
    message: Option<Arc<Message>>,
    /// Encoded for QoS 0 without anything that depends on the receiver.
    buffer: Vec<u8>,
    plain: [Option<Range<usize>>; 2],
}

impl Handout<'_> {
    fn message(&mut self) -> &Arc<Message> {
        let (inbound, wall) = (&self.inbound, self.now.wall);
        self.message.get_or_insert_with(|| {
            Arc::new(Message::new(MessageParts {
                topic: inbound.topic,
                properties: inbound.properties,
                payload: inbound.payload,
                qos: inbound.qos,
                retain: inbound.retain,
                received_at: wall,
                expires_at: Broker::expires_at(wall, inbound.expiry),
            }))
        })
    }

    fn head(&self, ids: &'static [u32]) -> Head<'_> {
        Head {
            topic: self.inbound.topic,
            message_expiry: self.inbound.expiry,
            subscription_ids: ids,
            forwarded: self.inbound.properties,
            payload_len: self.inbound.payload.len(),
            ..Head::default()
        }
    }

    /// The packet for a receiver without wishes of its own; encoded once for each version.
    fn plain(&mut self, version: Version) -> &[u8] {
        let slot = usize::from(version == Version::V5);
        let range = match self.plain[slot].clone() {
            Some(range) => range,
            None => {
                let mut buffer = std::mem::take(&mut self.buffer);
                let start = buffer.len();
                encode_head(version, &self.head(&[]), &mut buffer);
                buffer.extend_from_slice(self.inbound.payload);
                self.buffer = buffer;
                let range = start..self.buffer.len();
                self.plain[slot] = Some(range.clone());
                range
            }
        };
        &self.buffer[range]
    }
}

impl Broker {
    pub(crate) fn handle_publish(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        version: Version,
        frame: &Frame<'_>,
    ) -> Result<(), Fault> {
        let publish = Publish::decode(version, frame)?;
        self.stats.publish_received += 1;
        self.stats.publish_bytes_received += publish.payload.len() as u64;
        if version != Version::V5 {
            return self.take_publish(now, queues, id, session, &publish, publish.topic);
        }
        if !publish.properties.subscription_ids.is_empty() {
            return Err(Fault::new(ReasonCode::ProtocolError, "a client sent a subscription id [MQTT-3.3.4-6]"));
        }
        if self.has_too_many(&publish.properties.user_properties) {
            return Err(Fault::beyond(Limit::UserProperties, ReasonCode::QuotaExceeded));
        }
        match self.resolve_alias(id, &publish)? {
            Some(topic) => self.take_publish(now, queues, id, session, &publish, &topic),
            None => self.take_publish(now, queues, id, session, &publish, publish.topic),
        }
    }

    fn take_publish(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        publish: &Publish<'_>,
        topic: &str,
    ) -> Result<(), Fault> {
        let mut properties = Vec::new();
        publish.properties.forwarded(&mut properties);
        let inbound = Inbound {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: &properties,
            expiry: publish.properties.message_expiry,
        };
        let origin = Origin { session: Some(session), ..Origin::default() };
        if publish.qos == QoS::AtMostOnce {
            self.publish(now, queues, origin, &inbound, None, None);
            return Ok(());
        }
        let receipt = match publish.qos {
            QoS::ExactlyOnce => self.line(queues, now, session).map(|dest| (dest, publish.pkid)),
            _ => None,
        };
        let token = self.next_token(id);
        if let Some((dest, pkid)) = receipt
            && let Some(outcome) = queues.known_receipt(now, dest, pkid, token)
        {
            // Sent again: it was published already [MQTT-4.3.3-10].
            self.reply_when(id, outcome, &Packet::PubRec(PubRec::new(pkid, ReasonCode::Success)));
            return Ok(());
        }
        self.check_receive_maximum(id)?;
        let (outcome, matched) = self.publish(now, queues, origin, &inbound, Some(token), receipt);
        self.acknowledge(id, publish, outcome, matched)
    }

    /// A 5.0 client keeps to the Receive Maximum it was told [MQTT-3.3.4-7]. It counts anew on each connection, so what
    /// an earlier one left open is no part of it (section 4.9).
    fn check_receive_maximum(&mut self, id: ConnId) -> Result<(), Fault> {
        let max = self.limits.receive_maximum;
        let Some(conn) = self.conn_mut(id) else { return Ok(()) };
        if conn.version == Version::V5 && conn.unanswered >= max {
            // [MQTT-3.3.4-9]
            return Err(Fault::beyond(Limit::ReceiveMaximum, ReasonCode::ReceiveMaximumExceeded));
        }
        conn.unanswered = conn.unanswered.saturating_add(1);
        Ok(())
    }

    fn acknowledge(
        &mut self,
        id: ConnId,
        publish: &Publish<'_>,
        outcome: Outcome,
        matched: bool,
    ) -> Result<(), Fault> {
        let version = self.conn(id).map_or(Version::V311, |conn| conn.version);
        let mut properties = ReasonProperties::default();
        let reason = match outcome {
            Outcome::Refused(refusal) => {
                self.stats.publish_refused += u64::from(refusal != Refusal::NotAuthorised);
                let reason = refusal_reason(refusal);
                if version != Version::V5 && refusal != Refusal::NotAuthorised {
                    // 3.1.1 has no way to say no. What is not allowed is acknowledged and dropped, counted and told,
                    // or the client would try for ever. As for the rest: without PUBACK the client sends the message
                    // again, and all after it, when it has connected anew: nothing is lost and the order holds.
                    return Err(Fault::new(
                        reason,
                        "a publish was refused, and 3.1.1 knows no other way to say so",
                    ));
                }
                properties.reason_string = self.reason_string(id, refusal_text(refusal));
                reason
            }
            _ if matched => ReasonCode::Success,
            _ => ReasonCode::NoMatchingSubscribers,
        };
        let packet = match publish.qos {
            QoS::ExactlyOnce => Packet::PubRec(PubRec { properties, ..PubRec::new(publish.pkid, reason) }),
            _ => Packet::PubAck(PubAck { properties, ..PubAck::new(publish.pkid, reason) }),
        };
        self.reply_when(id, outcome, &packet);
        Ok(())
    }

    /// The reason string of an acknowledgement, where the client wants one [MQTT-3.1.2-29] and it fits [MQTT-3.4.2-2].
    fn reason_string(&self, id: ConnId, text: &'static str) -> Option<&'static str> {
        // Header, identifier, reason code and the lengths around the text.
        const REST: usize = 16;
        let conn = self.conn(id)?;
        (conn.wants_reasons && REST + text.len() <= conn.max_packet as usize).then_some(text)
    }

    /// Hands a message to everyone who should have it. Nothing is stored or sent when it is refused. The token is
    /// settled when every destination that must not lose it has it safely; `receipt` is made safe with it. True with
    /// it when somebody wanted it.
    pub(crate) fn publish(
        &mut self,
        now: Now,
        queues: &mut Queues,
        origin: Origin,
        inbound: &Inbound<'_>,
        token: Option<Token>,
        receipt: Option<(DestId, u16)>,
    ) -> (Outcome, bool) {
        let known = self.routes.known(inbound.topic);
        if let Err(refusal) = self.check_topic(now, origin, inbound.topic, known.is_some()) {
            return (Outcome::Refused(refusal), false);
        }
        if let Some(session) = origin.session
            && !self.may_publish(now, session, known.as_deref(), inbound.topic)
        {
            return (Outcome::Refused(Refusal::NotAuthorised), false);
        }
        let went_round = self.gateways.own.has_passed(inbound.properties);
        let route =
            if went_round { Rc::default() } else { known.unwrap_or_else(|| self.find_route(inbound.topic)) };
        self.stats.looped += u64::from(went_round);
        if token.is_some()
            && let Some(refusal) = self.refusal(queues, &route, inbound)
        {
            return (Outcome::Refused(refusal), true);
        }
        let mut admission = queues.begin(token);
        let mut buffer = std::mem::take(&mut self.scratch);
        buffer.clear();
        let mut handout = Handout { now, inbound: *inbound, origin, message: None, buffer, plain: [None, None] };
        if inbound.retain && !origin.own && !went_round {
            self.retain(queues, &mut admission, &mut handout);
        }
        for leg in &route.legs {
            self.hand_to(queues, &mut admission, &mut handout, leg);
        }
        for share in &route.shares {
            if let Some(leg) = self.choose(queues, share, inbound.qos) {
                // Its member may get a copy of its own as well (MQTT 5.0, 4.8.2).
                queues.another_copy(&mut admission);
                self.hand_to(queues, &mut admission, &mut handout, leg);
            }
        }
        self.scratch = handout.buffer;
        self.stats.delivery_denied += u64::from(route.unread);
        if let Some((dest, pkid)) = receipt {
            queues.receive(now, &mut admission, dest, pkid);
        }
        (queues.finish(admission), !route.is_empty())
    }

    /// Whether the topic may be published to: within the limits, and not the broker's own. One that has a route was
    /// within them.
    fn check_topic(&mut self, now: Now, origin: Origin, topic: &str, is_known: bool) -> Result<(), Refusal> {
        if origin.own {
            return Ok(());
        }
        if topic.starts_with("$SYS/") {
            self.stats.publish_denied += 1;
            return Err(Refusal::NotAuthorised);
        }
        let limit = if is_known { None } else { self.topic_limit(topic) };
        let Some(limit) = limit else { return Ok(()) };
        match origin.session {
            Some(session) => self.hit_from(now, limit, session),
            None => self.hit_by(now, limit, "a will, an upstream or a node without a session"),
        }
        Err(Refusal::Topic)
    }

    /// Whether a message carries more user properties than are carried on.
    pub(crate) fn has_too_many(&self, properties: &UserProperties<'_>) -> bool {
        !properties.is_empty() && properties.iter().nth(self.limits.max_user_properties).is_some()
    }

    /// Everyone that a topic leads to.
    pub(crate) fn route(&mut self, name: &str) -> Rc<Route> {
        let known = self.routes.known(name);
        known.unwrap_or_else(|| self.find_route(name))
    }

    /// Who gets messages of this topic: not the rules that exclude it, nor the sessions that may not read it.
    fn find_route(&mut self, name: &str) -> Rc<Route> {
        let (rules, sessions, acl) = (&self.rules, &self.sessions, self.acl.as_deref());
        self.routes.find(&self.tree, name, |target| match target {
            Target::Rule(rule) => rules
                .get(rule as usize)
                .is_some_and(|rule| rule.exclude.iter().any(|filter| topic::matches(filter, name))),
            Target::Session(session) => acl.is_some_and(|acl| {
                !sessions.get(session as usize).is_some_and(|session| acl.lets_read(session, name))
            }),
        })
    }

    /// Whether one of the durable destinations cannot take the message now. Asked before anything is done.
    fn refusal(&self, queues: &mut Queues, route: &Route, inbound: &Inbound<'_>) -> Option<Refusal> {
        let cost = inbound.topic.len() + inbound.properties.len() + inbound.payload.len() + size_of::<Message>();
        for leg in route.legs.iter().chain(route.shares.iter().flat_map(|share| &share.members)) {
            match leg.target {
                Target::Session(session) => {
                    let durable = self.sessions.get(session as usize).is_some_and(Session::is_durable);
                    if durable
                        && leg.options.qos > QoS::AtMostOnce
                        && let Some(refusal) = queues.refuses_durable(cost)
                    {
                        return Some(refusal);
                    }
                }
                Target::Rule(rule) => {
                    let Some(rule) = self.rules.get(rule as usize) else { continue };
                    if let Some(refusal) = queues.refuses(rule.dest, cost) {
                        queues.count_refused(rule.dest);
                        return Some(refusal);
                    }
                }
            }
        }
        None
    }

    fn retain(&mut self, queues: &mut Queues, admission: &mut Admission, handout: &mut Handout<'_>) {
        let now = handout.now;
        let message = Arc::clone(handout.message());
        if let Err(limit) = self.retained.check_room(message.topic(), message.payload().is_empty(), message.cost())
        {
            self.stats.retained_refused += 1;
            self.hit_by(now, limit, message.topic());
            return;
        }
        if self.retained.set(&message) {
            queues.retain(now, admission, &message);
        }
    }

    fn hand_to(&mut self, queues: &mut Queues, admission: &mut Admission, handout: &mut Handout<'_>, leg: &Leg) {
        match leg.target {
            Target::Session(session) => self.hand_to_session(queues, admission, handout, leg, session),
            Target::Rule(rule) => {
                if let Some(rule) = self.rules.get(rule as usize)
                    && !self.gateways.came_from(rule, &handout.inbound)
                {
                    hand_to_rule(queues, admission, handout, rule);
                }
            }
        }
    }

    fn hand_to_session(
        &mut self,
        queues: &mut Queues,
        admission: &mut Admission,
        handout: &mut Handout<'_>,
        leg: &Leg,
        session: u32,
    ) {
        let is_own = handout.origin.session == Some(session);
        if is_own && leg.options.no_local {
            return;
        }
        let leg = leg.own.as_deref().filter(|_| is_own).unwrap_or(leg);
        let qos = handout.inbound.qos.min(leg.options.qos);
        let retain = leg.options.retain_as_published && handout.inbound.retain;
        let Some(receiver) = self.sessions.get(session as usize) else { return };
        if receiver.gateway.as_ref().is_some_and(|gateway| self.has_another_way(gateway, &handout.inbound)) {
            return;
        }
        match (qos, receiver.peer) {
            (QoS::AtMostOnce, Peer::Conn(id)) => self.send_qos0(id, handout, leg, retain),
            (QoS::AtMostOnce, Peer::Away) => {}
            _ => {
                let now = handout.now;
                let Some(dest) = self.line(queues, now, session) else { return };
                let subscription_ids = leg.ids.clone();
                let delivery = Delivery { qos, retain, share: leg.share, subscription_ids, ..Delivery::default() };
                queues.push(now, admission, dest, delivery, handout.message());
            }
        }
    }

    /// Writes a QoS 0 message straight into the receiver's outbox; sheds it when the receiver is too slow.
    fn send_qos0(&mut self, id: ConnId, handout: &mut Handout<'_>, leg: &Leg, retain: bool) {
        let max_outbox = self.outbox_limit();
        let Some(conn) = self.conns.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if conn.outbox.len() + handout.inbound.payload.len() > max_outbox {
            self.stats.shed_qos0 += 1;
            let own = conn.outbox.len() + handout.inbound.payload.len() > self.limits.max_outbox_bytes;
            self.hit(handout.now, if own { Limit::OutboxBytes } else { Limit::BufferedBytes }, id);
            return;
        }
        let plain = leg.ids.is_empty() && !retain && !conn.sends_aliases();
        let sent = if plain && handout.inbound.payload.len() < SHARE_FROM {
            let packet = handout.plain(conn.version);
            let fits = packet.len() <= conn.max_packet as usize;
            if fits {
                conn.outbox.put(packet);
            }
            fits
        } else {
            send_special(conn, handout, leg, retain)
        };
        if sent {
            self.stats.publish_sent += 1;
            self.stats.publish_bytes_sent += handout.inbound.payload.len() as u64;
            self.flush(id);
        } else {
            self.stats.too_large_for_receiver += 1;
        }
    }
}

fn hand_to_rule(queues: &mut Queues, admission: &mut Admission, handout: &mut Handout<'_>, rule: &BridgeRule) {
    if handout.origin.upstream == Some(rule.upstream) {
        return;
    }
    let now = handout.now;
    let qos = match rule.qos {
        RuleQos::Keep => handout.inbound.qos,
        RuleQos::Fixed(qos) => qos,
    };
    let retain = match rule.retain {
        RuleRetain::Keep => handout.inbound.retain,
        RuleRetain::Strip => false,
        RuleRetain::Set => true,
    };
    let message = handout.message();
    if qos > QoS::AtMostOnce && queues.refuses(rule.dest, message.cost()).is_some() {
        // Nobody waits for this one (QoS 0), or it would have been refused before.
        queues.count_refused(rule.dest);
        return;
    }
    let delivery = Delivery { qos, retain, ..Delivery::default() };
    if rule.ttl.is_zero() {
        queues.push(now, admission, rule.dest, delivery, message);
        return;
    }
    let mut aging = (**message).clone();
    let ttl_at = now.wall + rule.ttl;
    aging.expires_at = Some(aging.expires_at.map_or(ttl_at, |at| at.min(ttl_at)));
    queues.push(now, admission, rule.dest, delivery, &Arc::new(aging));
}

/// Encodes for one receiver: its subscription identifiers, topic aliases or retain flag, or a payload too long to copy.
fn send_special(conn: &mut Connection, handout: &mut Handout<'_>, leg: &Leg, retain: bool) -> bool {
    let long = handout.inbound.payload.len() >= SHARE_FROM;
    let message = long.then(|| Arc::clone(handout.message()));
    let head = Head { retain, subscription_ids: &leg.ids, ..handout.head(&[]) };
    if !conn.put_head(&head) {
        return false;
    }
    match message {
        Some(message) => conn.outbox.put_payload(&message),
        None => conn.outbox.put(handout.inbound.payload),
    }
    true
}
