//! Sessions and publishers in this process: the MQTT-SN gateway's clients and the bridges' inbound rules. The same
//! sessions, queues and routes as those of MQTT connections, without packets.

use crate::broker::connect::Opening;
use crate::broker::publish::{Inbound, Origin};
use crate::broker::session::Peer;
use crate::broker::target::Options;
use crate::broker::{Broker, Limit};
use crate::config::UpstreamId;
use crate::mqtt::{MessageParts, QoS, ReasonCode, topic};
use crate::queue::{DestId, Outcome, Peeked, Queues, Refusal, Seq, Token};
use crate::time::Now;

pub use crate::broker::session::Will;

/// A message from a client in this process.
#[derive(Debug, Clone, Copy)]
pub struct LocalPublish<'a> {
    /// Topic name; checked here.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// QoS 2: the identifier to remember with it.
    pub receipt: Option<u16>,
}

impl Broker {
    /// Opens or resumes the session of `client_id`, taking it over from any connection. True with it when it was kept.
    ///
    /// # Errors
    /// When there are too many sessions.
    pub fn local_open(
        &mut self,
        now: Now,
        queues: &mut Queues,
        client_id: &str,
        user: Option<&str>,
        clean: bool,
    ) -> Result<(u32, bool), Refusal> {
        if !self.by_client.contains_key(client_id) && self.sessions.len() >= self.limits.max_sessions {
            self.hit_by(now, Limit::Sessions, client_id);
            return Err(Refusal::Full);
        }
        let expiry = if clean { 0 } else { self.max_session_expiry() };
        let opening = Opening { client_id, user, clean, expiry };
        let held = self.by_client.get(client_id).copied().filter(|session| self.is_local(*session));
        let is_own =
            |session: u32| self.sessions.get(session as usize).is_some_and(|held| held.user.as_deref() == user);
        let (session, present) = match held {
            // The gateway has it already: a client that comes again takes it over from itself.
            Some(session) if !clean && is_own(session) => {
                self.keep(now, queues, session, expiry);
                (session, true)
            }
            Some(session) => {
                if let Some(held) = self.session_mut(session) {
                    held.will = None;
                }
                self.end_session(now, queues, session);
                self.open_session(now, queues, opening, Peer::Local)
            }
            None => self.open_session(now, queues, opening, Peer::Local),
        };
        if let Some(opened) = self.session_mut(session) {
            // The radio takes one message after the other.
            opened.set_window(queues, 1);
        }
        self.save(now, queues, session, None);
        if let Some(dest) = self.line_of(session) {
            queues.set_limits(dest, self.sleeper_limits);
            queues.activate(dest);
        }
        Ok((session, present))
    }

    /// A held session goes on with nothing in flight, and lasts from now on.
    fn keep(&mut self, now: Now, queues: &mut Queues, session: u32, expiry: u32) {
        let Some(held) = self.session_mut(session) else { return };
        held.expiry = expiry;
        let name = held.line_name();
        if let Some(dest) = held.line {
            queues.make_durable(now, dest, &name);
            queues.rewind(dest);
        }
    }

    /// The client is gone; its will goes out if `will`.
    pub fn local_close(&mut self, now: Now, queues: &mut Queues, session: u32, will: bool) {
        if self.is_local(session) {
            self.session_lost(now, queues, session, will);
            // Said or not, it is over: the next connection brings its own.
            if let Some(closed) = self.session_mut(session) {
                closed.will = None;
            }
        }
    }

    /// Whether the session is one of the gateway's.
    #[must_use]
    pub fn is_local(&self, session: u32) -> bool {
        self.sessions.get(session as usize).is_some_and(|session| session.peer == Peer::Local)
    }

    /// Sets, changes or deletes the will.
    pub fn local_set_will(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        will: Option<Will>,
        token: Token,
    ) -> Outcome {
        if let Some(refusal) = will.as_ref().and_then(|will| self.refuses_will(now, session, will)) {
            return Outcome::Refused(refusal);
        }
        if will.as_ref().is_some_and(|will| !self.may_publish(now, session, None, &will.topic)) {
            return Outcome::Refused(Refusal::NotAuthorised);
        }
        let Some(kept) = self.session_mut(session) else { return Outcome::Refused(Refusal::NotAuthorised) };
        kept.will = will.map(Box::new);
        self.save(now, queues, session, Some(token))
    }

    fn refuses_will(&mut self, now: Now, session: u32, will: &Will) -> Option<Refusal> {
        if topic::check_name(&will.topic).is_err() || will.topic.starts_with("$SYS/") {
            return Some(Refusal::Topic);
        }
        if let Some(limit) = self.topic_limit(&will.topic) {
            self.hit_from(now, limit, session);
            return Some(Refusal::Topic);
        }
        if will.topic.len() + will.payload.len() > self.limits.max_will_bytes {
            self.hit_from(now, Limit::WillBytes, session);
            return Some(Refusal::Full);
        }
        None
    }

    /// Publishes for a session, or for nobody in particular (QoS -1).
    pub fn local_publish(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: Option<u32>,
        publish: LocalPublish<'_>,
        token: Token,
    ) -> Outcome {
        if topic::check_name(publish.topic).is_err() {
            return Outcome::Refused(Refusal::Topic);
        }
        let line = match (session, publish.receipt) {
            (Some(session), Some(_)) => self.line(queues, now, session),
            _ => None,
        };
        let receipt = line.zip(publish.receipt);
        if let Some(outcome) = receipt.and_then(|(dest, id)| queues.known_receipt(now, dest, id, token)) {
            return outcome;
        }
        self.stats.publish_received += 1;
        self.stats.publish_bytes_received += publish.payload.len() as u64;
        if session.is_none() && !self.may_nobody_publish(now, publish.topic) {
            return Outcome::Refused(Refusal::NotAuthorised);
        }
        let inbound = Inbound {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: &[],
            expiry: None,
        };
        let token = (publish.qos > QoS::AtMostOnce).then_some(token);
        self.publish(now, queues, Origin { session, ..Origin::default() }, &inbound, token, receipt).0
    }

    /// Publishes what came from an upstream. `line` remembers inbound QoS 2 identifiers of that upstream.
    pub fn publish_from_upstream(
        &mut self,
        now: Now,
        queues: &mut Queues,
        upstream: UpstreamId,
        parts: &MessageParts<'_>,
        receipt: Option<(DestId, u16)>,
        token: Token,
    ) -> Outcome {
        if let Some(outcome) = receipt.and_then(|(dest, id)| queues.known_receipt(now, dest, id, token)) {
            return outcome;
        }
        let inbound = Inbound {
            topic: parts.topic,
            payload: parts.payload,
            qos: parts.qos,
            retain: parts.retain,
            properties: parts.properties,
            expiry: parts.expires_at.map(|at| u32::try_from((at - now.wall).as_secs()).unwrap_or(u32::MAX)),
        };
        let token = (parts.qos > QoS::AtMostOnce).then_some(token);
        let origin = Origin { upstream: Some(upstream), ..Origin::default() };
        self.publish(now, queues, origin, &inbound, token, receipt).0
    }

    /// Publishes what the gateway says about itself.
    pub fn publish_own(&mut self, now: Now, queues: &mut Queues, topic: &str, payload: &[u8], retain: bool) {
        let inbound = Inbound { topic, payload, qos: QoS::AtLeastOnce, retain, properties: &[], expiry: None };
        self.publish(now, queues, Origin::default(), &inbound, None, None);
    }

    /// QoS 2 from the client, PUBREL came.
    pub fn local_forget_receipt(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        receipt: u16,
        token: Token,
    ) -> Outcome {
        let forgotten = self.line_of(session).and_then(|dest| queues.forget(now, dest, receipt, token));
        forgotten.unwrap_or(Outcome::Done)
    }

    /// Subscribes; retained messages follow as ordinary deliveries.
    pub fn local_subscribe(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        filter: &str,
        qos: QoS,
        token: Token,
    ) -> Outcome {
        if topic::check_filter(filter).is_err() {
            return Outcome::Refused(Refusal::Topic);
        }
        let options = Options { qos, ..Options::default() };
        if let Err(reason) = self.subscribe(now, session, filter, options) {
            return Outcome::Refused(match reason {
                ReasonCode::QuotaExceeded => Refusal::Full,
                ReasonCode::NotAuthorized => Refusal::NotAuthorised,
                _ => Refusal::Topic,
            });
        }
        let outcome = self.save_filters(now, queues, session, token);
        self.send_retained(now, queues, session, filter, options);
        outcome
    }

    /// Unsubscribes.
    pub fn local_unsubscribe(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        filter: &str,
        token: Token,
    ) -> Outcome {
        if self.unsubscribe(session, filter) {
            self.save_filters(now, queues, session, token)
        } else {
            Outcome::Done
        }
    }

    /// The next message for the session, put in flight.
    pub fn local_next(&mut self, now: Now, queues: &mut Queues, session: u32) -> Option<Peeked> {
        let dest = self.line_of(session)?;
        let next = self.next_readable(now, queues, session, dest)?;
        queues.take(dest, next.seq);
        self.stats.publish_sent += 1;
        self.stats.publish_bytes_sent += next.message.payload().len() as u64;
        Some(next)
    }

    /// The queue of the session with this client id, if it has one.
    #[must_use]
    pub fn line_of_client(&self, client_id: &str) -> Option<DestId> {
        self.line_of(*self.by_client.get(client_id)?)
    }

    /// The queue of a session of the gateway.
    #[must_use]
    pub fn local_line(&self, session: u32) -> Option<DestId> {
        self.line_of(session)
    }

    /// The client has it.
    pub fn local_acked(&mut self, now: Now, queues: &mut Queues, session: u32, seq: Seq) {
        if let Some(dest) = self.line_of(session) {
            queues.acked(now, dest, seq);
        }
    }
}
