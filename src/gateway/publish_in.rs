//! PUBLISH from a client (MQTT-SN 6.6, 6.8) and the second half of QoS 2.

use crate::gateway::acks::{Ack, NOBODY, code_of};
use crate::gateway::clients::Slot;
use crate::gateway::peers::PeerRef;
use crate::gateway::registry::{Predefined, Registry, is_topic_name};
use crate::gateway::{Cx, Gateway, Publish};
use crate::mqtt::QoS;
use crate::mqttsn::{self, Message, MsgId, PubAck, PublishQos, ReturnCode, Topic};
use crate::queue::Outcome;

impl Gateway {
    pub(super) fn on_publish(&mut self, cx: &mut Cx<'_>, slot: Slot, publish: &mqttsn::Publish<'_>) {
        let PublishQos::Level(qos) = publish.qos else { return };
        self.stats.publishes_received += 1;
        if self.is_repeated_publish(slot, publish, qos) {
            self.stats.duplicates += 1;
            return;
        }
        if qos > QoS::AtMostOnce && !self.may_wait(slot) {
            return self.refuse_publish(slot, publish, ReturnCode::CONGESTION);
        }
        let token = if qos == QoS::AtMostOnce { NOBODY } else { self.token(slot) };
        let client = &self.clients[slot];
        let predefined = self.known.predefined(client.known);
        let topic = match resolve(&publish.topic, Some(&client.registry), predefined) {
            Ok(topic) => topic,
            Err(code) => return self.refuse_publish(slot, publish, code),
        };
        let inner = Publish {
            topic,
            payload: publish.payload,
            qos,
            retain: publish.retain,
            receipt: (qos == QoS::ExactlyOnce).then_some(publish.msg_id.0),
        };
        let outcome = cx.sessions.publish(cx.now, client.session(), inner, token);
        let (topic, msg_id) = (publish.topic.wire_id(), publish.msg_id);
        match (qos, outcome) {
            (QoS::AtLeastOnce, outcome) => {
                self.conclude(cx, slot, token, Ack::Publish { topic, msg_id }, &[outcome]);
            }
            (QoS::ExactlyOnce, outcome) => {
                self.conclude(cx, slot, token, Ack::Receive { topic, msg_id }, &[outcome]);
            }
            (QoS::AtMostOnce, Outcome::Refused(refusal)) => self.refuse_publish(slot, publish, code_of(refusal)),
            (QoS::AtMostOnce, Outcome::Done | Outcome::Pending) => {}
        }
    }

    /// The client did not wait for its acknowledgement: it will come.
    fn is_repeated_publish(&self, slot: Slot, publish: &mqttsn::Publish<'_>, qos: QoS) -> bool {
        let (topic, msg_id) = (publish.topic.wire_id(), publish.msg_id);
        match qos {
            QoS::AtMostOnce => false,
            // Without DUP it may be another message from a client that does not count.
            QoS::AtLeastOnce => publish.dup && self.is_pending(slot, |ack| ack == Ack::Publish { topic, msg_id }),
            QoS::ExactlyOnce => self.is_pending(slot, |ack| ack == Ack::Receive { topic, msg_id }),
        }
    }

    /// PUBACK refuses a PUBLISH of any QoS (MQTT-SN 5.4.13).
    fn refuse_publish(&mut self, slot: Slot, publish: &mqttsn::Publish<'_>, code: ReturnCode) {
        self.count_refusal(code);
        let puback = PubAck { topic_id: publish.topic.wire_id(), msg_id: publish.msg_id, code };
        self.reply(slot, &Message::PubAck(puback));
    }

    /// QoS -1: from anybody, never answered (MQTT-SN 6.8).
    pub(super) fn on_publish_minus_one(
        &mut self,
        cx: &mut Cx<'_>,
        peer: PeerRef<'_>,
        publish: &mqttsn::Publish<'_>,
    ) {
        self.stats.publishes_received += 1;
        let slot = self.clients.by_peer(peer).filter(|slot| self.is_owner(*slot, peer));
        if let Some(slot) = slot {
            self.on_heard(cx, slot);
            self.arm(slot);
        }
        let allowed =
            self.config.allow_qos_minus_one && (slot.is_some() || !self.radio.is_for_known_only(peer.link));
        let predefined = self.known.predefined(slot.and_then(|slot| self.clients[slot].known));
        let topic = match publish.topic {
            Topic::Predefined(_) | Topic::Short(_) if allowed => resolve(&publish.topic, None, predefined),
            _ => Err(ReturnCode::NOT_SUPPORTED),
        };
        let session = slot.and_then(|slot| self.clients[slot].session());
        let taken = topic.is_ok_and(|topic| {
            let qos = QoS::AtMostOnce;
            let inner = Publish { topic, payload: publish.payload, qos, retain: publish.retain, receipt: None };
            !matches!(cx.sessions.publish(cx.now, session, inner, NOBODY), Outcome::Refused(_))
        });
        self.stats.minus_one_refused += u64::from(!taken);
    }

    /// PUBREL: the message id may be used again. A repeated one is answered again, known or not.
    pub(super) fn on_pubrel(&mut self, cx: &mut Cx<'_>, slot: Slot, msg_id: MsgId) {
        if self.is_pending(slot, |ack| ack == Ack::Release { msg_id }) {
            self.stats.duplicates += 1;
            return;
        }
        let Some(session) = self.clients[slot].session() else { return };
        let token = self.token(slot);
        let outcome = cx.sessions.forget_receipt(cx.now, session, msg_id.0, token);
        self.conclude(cx, slot, token, Ack::Release { msg_id }, &[outcome]);
    }
}

/// The name that a PUBLISH means.
fn resolve<'a>(
    topic: &'a Topic,
    registry: Option<&'a Registry>,
    predefined: &'a Predefined,
) -> Result<&'a str, ReturnCode> {
    match topic {
        Topic::Id(id) => registry.and_then(|registry| registry.name(*id)).ok_or(ReturnCode::INVALID_TOPIC_ID),
        Topic::Predefined(id) => predefined.name(*id).ok_or(ReturnCode::INVALID_TOPIC_ID),
        Topic::Short(short) => short.as_str().filter(|name| is_topic_name(name)).ok_or(ReturnCode::NOT_SUPPORTED),
        Topic::Reserved(_) => Err(ReturnCode::NOT_SUPPORTED),
    }
}
