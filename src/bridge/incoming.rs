//! From the upstream to the local broker: which rule takes a message, and when it is acknowledged.

use crate::bridge::answers::{Answers, Kind};
use crate::bridge::connect::{Intake, put_subscribe};
use crate::bridge::context::{Context, Lane, retained};
use crate::bridge::end::End;
use crate::bridge::flights::{Flight, Flights};
use crate::bridge::link::Link;
use crate::bridge::oversize::Skimmed;
use crate::bridge::rule::Mapping;
use crate::config::{self, RuleQos, RuleRetain};
use crate::metrics::Level;
use crate::mqtt::hop::Gateway;
use crate::mqtt::{MessageParts, PubRel, Publish, QoS, ReasonCode, SubAck, Version};
use crate::queue::{Outcome, Refusal, Token};
use crate::time::Duration;

/// An in-rule.
#[derive(Debug)]
pub(super) struct Sink {
    mapping: Mapping,
    qos: RuleQos,
    retain: RuleRetain,
    ttl: Duration,
    /// The upstream granted the subscription in the present session.
    granted: bool,
}

impl Sink {
    pub(super) fn new(rule: &config::Rule, mapping: Mapping) -> Self {
        Self { mapping, qos: rule.qos, retain: rule.retain, ttl: rule.ttl, granted: false }
    }
}

/// In 5.0 the upstream knows our Receive Maximum. In 3.1.1 only the packet identifiers bound it.
fn max_answers(version: Version, intake: Intake, window: u16) -> usize {
    match version {
        Version::V5 => usize::from(intake.receive_maximum.max(1)) + usize::from(window),
        Version::V31 | Version::V311 => usize::from(u16::MAX),
    }
}

/// The incoming half of one upstream's session.
#[derive(Debug)]
pub(super) struct Incoming {
    /// In the order of the configuration: the first that matches takes a message.
    sinks: Vec<Sink>,
    answers: Answers,
    /// More unanswered messages than this break the protocol.
    max_answers: usize,
    /// Which gateway the upstream is, if it is one.
    pub(super) peer: Option<Gateway>,
    topic: String,
    properties: Vec<u8>,
}

impl Incoming {
    pub(super) fn new(sinks: Vec<Sink>, version: Version, intake: Intake, window: u16) -> Self {
        let max_answers = max_answers(version, intake, window);
        let (topic, properties) = (String::new(), Vec::new());
        Self { sinks, answers: Answers::new(), max_answers, peer: None, topic, properties }
    }

    /// Other rules from now on, between two links: all are asked for on the next. Answers that are still on their way
    /// to the disk keep their numbers.
    pub(super) fn reconfigure(&mut self, sinks: Vec<Sink>, version: Version, intake: Intake, window: u16) {
        (self.sinks, self.max_answers) = (sinks, max_answers(version, intake, window));
    }

    /// Asks for the subscriptions that the upstream does not have in this session. After a restart of ours it is not
    /// known what it has, so all are asked for: that does no harm.
    pub(super) fn subscribe(&mut self, ctx: &Context<'_>, link: &mut Link, flights: &mut Flights, resumed: bool) {
        if !resumed {
            self.sinks.iter_mut().for_each(|sink| sink.granted = false);
        }
        if self.sinks.iter().all(|sink| sink.granted) {
            return;
        }
        let max = link.allowance.max_qos;
        let at_once = link.allowance.cloud.filters_per_subscribe;
        for (chunk, sinks) in self.sinks.chunks(at_once).enumerate() {
            // Sent before anything else is on its way, so identifiers are free.
            let Some(pkid) = flights.free_pkid() else { return };
            let wanted = sinks.iter().map(|sink| match sink.qos {
                RuleQos::Keep => (sink.mapping.filter(), max),
                RuleQos::Fixed(qos) => (sink.mapping.filter(), qos.min(max)),
            });
            put_subscribe(link.version, pkid, wanted, &mut link.wire.outbox);
            link.progress_at = ctx.now.at;
            flights.set(pkid, Flight::Subscribe { first: chunk * at_once, count: sinks.len() });
        }
    }

    /// SUBACK came.
    pub(super) fn on_suback(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        flights: &mut Flights,
        ack: &SubAck<'_>,
    ) -> Result<(), End> {
        let Some(Flight::Subscribe { first, count }) = flights.get(ack.pkid) else {
            ctx.stats.unsolicited += 1;
            return Ok(());
        };
        if ack.codes.len() != count {
            return Err(End::Broke(
                ReasonCode::ProtocolError,
                "SUBACK has not a code for each filter [MQTT-3.8.4-6]",
            ));
        }
        flights.remove(ack.pkid);
        link.progress_at = ctx.now.at;
        for (sink, reason) in self.sinks[first..first + count].iter_mut().zip(ack.reasons()) {
            sink.granted = !reason.is_error();
            if reason.is_error() {
                let detail = format!("{:?}: {reason} (0x{:02X})", sink.mapping.filter(), reason.as_u8());
                ctx.notice(Level::Warn, "upstream refused a subscription", detail);
            }
        }
        Ok(())
    }

    /// PUBLISH came.
    pub(super) fn on_publish(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        publish: &Publish<'_>,
    ) -> Result<(), End> {
        if publish.properties.topic_alias.is_some() {
            return Err(End::Broke(ReasonCode::TopicAliasInvalid, "no topic alias was allowed [MQTT-3.3.2-9]"));
        }
        self.check_room()?;
        ctx.stats.received += 1;
        let kind = Kind::of(publish.qos);
        let number = if kind.is_some() { self.answers.next() } else { Answers::NOBODY };
        let outcome = self.deliver(ctx, publish, ctx.token(Lane::Answer, number));
        if let Outcome::Refused(_) = outcome {
            ctx.stats.refused += 1;
        }
        if let Some(kind) = kind {
            self.answer(ctx, link, kind, publish.pkid, outcome);
        }
        Ok(())
    }

    /// A PUBLISH came that is larger than what we take. It is acknowledged, or it would come for ever.
    pub(super) fn on_oversize(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        skimmed: Skimmed,
    ) -> Result<(), End> {
        self.check_room()?;
        ctx.stats.received += 1;
        ctx.stats.refused += 1;
        ctx.notice(Level::Warn, "message from the upstream is too large", format!("{} bytes", skimmed.len));
        if let Some(kind) = Kind::of(skimmed.qos) {
            self.answer(ctx, link, kind, skimmed.pkid, Outcome::Done);
        }
        Ok(())
    }

    /// Publishes locally under the name that the first matching rule gives. What no rule wants is let go: a
    /// subscription of an earlier configuration may still be there.
    fn deliver(&mut self, ctx: &mut Context<'_>, publish: &Publish<'_>, token: Token) -> Outcome {
        let topic = &mut self.topic;
        let Some(sink) = self.sinks.iter().find(|sink| sink.mapping.remap(publish.topic, topic).is_ok()) else {
            ctx.stats.unmatched += 1;
            return Outcome::Done;
        };
        self.properties.clear();
        publish.properties.forwarded(&mut self.properties);
        // What a gateway gives to its subscribers bears no marker of it.
        if let Some(peer) = self.peer.as_ref().filter(|peer| !peer.has_passed(&self.properties)) {
            self.properties.extend_from_slice(peer.marker());
        }
        let expiry = publish.properties.message_expiry.map(|secs| Duration::from_secs(u64::from(secs)));
        let ttl = (!sink.ttl.is_zero()).then_some(sink.ttl);
        let lifetime = expiry.into_iter().chain(ttl).min();
        let parts = MessageParts {
            topic,
            properties: &self.properties,
            payload: publish.payload,
            qos: match sink.qos {
                RuleQos::Keep => publish.qos,
                RuleQos::Fixed(qos) => qos,
            },
            retain: retained(sink.retain, publish.retain),
            received_at: ctx.now.wall,
            expires_at: lifetime.map(|lifetime| ctx.now.wall + lifetime),
        };
        let receipt = (publish.qos == QoS::ExactlyOnce).then_some(publish.pkid);
        ctx.local.publish(ctx.now, ctx.upstream, parts, receipt, token)
    }

    /// PUBREL came: the upstream will not send the message again, so its identifier may be forgotten, and that must
    /// be durable before PUBCOMP lets the upstream use it for another message.
    pub(super) fn on_pubrel(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        release: &PubRel<'_>,
    ) -> Result<(), End> {
        self.check_room()?;
        let token = ctx.token(Lane::Answer, self.answers.next());
        let outcome = ctx.local.forget_receipt(ctx.now, ctx.upstream, release.pkid, token);
        self.answer(ctx, link, Kind::Comp, release.pkid, outcome);
        Ok(())
    }

    fn check_room(&self) -> Result<(), End> {
        if self.answers.len() < self.max_answers {
            return Ok(());
        }
        Err(End::Broke(ReasonCode::ReceiveMaximumExceeded, "more messages than our Receive Maximum [MQTT-3.3.4-7]"))
    }

    fn answer(&mut self, ctx: &Context<'_>, link: &mut Link, kind: Kind, pkid: u16, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Pending => return self.answers.wait(kind, pkid),
            Outcome::Done => Some(ReasonCode::Success),
            Outcome::Refused(refusal) => refusal_reason(kind, link.version, refusal),
        };
        match reason {
            Some(reason) => self.answers.give(kind, pkid, reason, link.version, &mut link.wire.outbox),
            None => withhold(ctx, link),
        }
    }

    /// The local broker settled what an answer waited for.
    pub(super) fn on_settled(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        number: u64,
        result: Result<(), Refusal>,
    ) {
        let Some(kind) = self.answers.kind(number) else { return };
        let reason = match result {
            Ok(()) => Some(ReasonCode::Success),
            Err(refusal) => {
                ctx.stats.refused += 1;
                refusal_reason(kind, link.version, refusal)
            }
        };
        if reason.is_none() {
            withhold(ctx, link);
        }
        self.answers.settle(number, reason, link.version, &mut link.wire.outbox);
    }

    /// The link ended, and nobody waits for an answer.
    pub(super) fn link_ended(&mut self) {
        self.answers.clear();
    }
}

/// What the upstream is told of a refusal; `None` if it must not be told anything, so that it keeps the message.
///
/// 5.0 can say it. 3.1.1 cannot: there a message that will be welcome later is not acknowledged, and one that never
/// will be is, or the upstream would send it for ever. PUBCOMP cannot say it in any version.
fn refusal_reason(kind: Kind, version: Version, refusal: Refusal) -> Option<ReasonCode> {
    match (refusal, kind, version) {
        (Refusal::Full | Refusal::Store, Kind::Comp, _) => None,
        (Refusal::Full | Refusal::Store, _, Version::V5) => Some(ReasonCode::QuotaExceeded),
        (Refusal::Full | Refusal::Store, ..) => None,
        (_, Kind::Comp, _) => Some(ReasonCode::Success),
        (Refusal::NotAuthorised, ..) => Some(ReasonCode::NotAuthorized),
        (Refusal::Topic, ..) => Some(ReasonCode::TopicNameInvalid),
    }
}

/// The upstream sends what was not acknowledged on the next link only, so there will be one.
fn withhold(ctx: &Context<'_>, link: &mut Link) {
    link.withheld_at.get_or_insert(ctx.now.at);
}
