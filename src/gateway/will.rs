//! The will: handshake at CONNECT (MQTT-SN 6.3) and updates later (6.4).

use crate::gateway::acks::Ack;
use crate::gateway::client::{State, WillStep};
use crate::gateway::clients::Slot;
use crate::gateway::connect::WillChange;
use crate::gateway::registry::is_topic_name;
use crate::gateway::{Cx, Gateway, Will};
use crate::mqtt::QoS;
use crate::mqttsn::{ConnAck, Message, ReturnCode, WillTopic};
use crate::queue::Outcome;

impl Gateway {
    /// Sends the request that the handshake waits for.
    pub(super) fn ask_for_will(&mut self, slot: Slot) {
        let State::AwaitingWill { step, .. } = &self.clients[slot].state else { return };
        let request = match step {
            WillStep::Topic => Message::WillTopicReq,
            WillStep::Message { .. } => Message::WillMsgReq,
        };
        self.reply(slot, &request);
    }

    pub(super) fn on_will_topic(&mut self, cx: &mut Cx<'_>, slot: Slot, topic: Option<WillTopic<'_>>) {
        let fresh = self.retry(cx);
        let State::AwaitingWill { asked, step, retry, .. } = &mut self.clients[slot].state else {
            return self.on_late_will(slot);
        };
        let asked = *asked;
        let Some(WillTopic { qos, retain, topic }) = topic else {
            // No will after all, and nothing more to ask for.
            return self.open_session(cx, slot, asked, WillChange::Delete);
        };
        if !is_topic_name(topic) {
            self.stats.connects_refused += 1;
            self.count_refusal(ReturnCode::NOT_SUPPORTED);
            self.reply(slot, &Message::ConnAck(ConnAck { code: ReturnCode::NOT_SUPPORTED }));
            return self.end_session(cx, slot, true);
        }
        *step = WillStep::Message { topic: topic.to_owned(), qos, retain };
        *retry = fresh;
        self.ask_for_will(slot);
    }

    pub(super) fn on_will_msg(&mut self, cx: &mut Cx<'_>, slot: Slot, payload: &[u8]) {
        let State::AwaitingWill { asked, step, .. } = &mut self.clients[slot].state else {
            return self.on_late_will(slot);
        };
        let asked = *asked;
        let WillStep::Message { topic, qos, retain } = std::mem::replace(step, WillStep::Topic) else {
            self.stats.unexpected += 1;
            return self.ask_for_will(slot);
        };
        let will = Will { topic, payload: payload.to_vec(), qos, retain };
        self.open_session(cx, slot, asked, WillChange::Set(will));
    }

    /// The last message of the handshake again: CONNACK was lost, or is still to come.
    fn on_late_will(&mut self, slot: Slot) {
        self.stats.duplicates += 1;
        let active = matches!(self.clients[slot].state, State::Active { .. });
        if active && !self.is_pending(slot, |ack| ack == Ack::Connect) {
            self.reply(slot, &Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED }));
        }
    }

    /// The client did not answer: the handshake goes on, or is given up with the connection before it.
    pub(super) fn on_handshake_deadline(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let interval = self.config.retry_interval;
        let State::AwaitingWill { retry, .. } = &mut self.clients[slot].state else { return };
        if retry.left == 0 {
            self.stats.handshakes_abandoned += 1;
            return self.end_session(cx, slot, true);
        }
        retry.left -= 1;
        retry.at = cx.now.at + interval;
        self.count_again(slot);
        self.ask_for_will(slot);
    }

    pub(super) fn on_will_topic_upd(&mut self, cx: &mut Cx<'_>, slot: Slot, update: Option<WillTopic<'_>>) {
        let will = match update {
            None => None,
            Some(WillTopic { topic, .. }) if !is_topic_name(topic) => {
                self.count_refusal(ReturnCode::NOT_SUPPORTED);
                return self.reply(slot, &Message::WillTopicResp(ReturnCode::NOT_SUPPORTED));
            }
            Some(WillTopic { qos, retain, topic }) => {
                let payload = self.clients[slot].will.as_ref().map(|will| will.payload.clone()).unwrap_or_default();
                Some(Will { topic: topic.to_owned(), payload, qos, retain })
            }
        };
        self.change_will(cx, slot, will, Ack::WillTopic);
    }

    pub(super) fn on_will_msg_upd(&mut self, cx: &mut Cx<'_>, slot: Slot, payload: &[u8]) {
        let Some(will) = &self.clients[slot].will else {
            self.count_refusal(ReturnCode::NOT_SUPPORTED);
            return self.reply(slot, &Message::WillMsgResp(ReturnCode::NOT_SUPPORTED));
        };
        let will = Will { payload: payload.to_vec(), ..Will::clone(will) };
        self.change_will(cx, slot, Some(will), Ack::WillMsg);
    }

    fn change_will(&mut self, cx: &mut Cx<'_>, slot: Slot, will: Option<Will>, ack: Ack) {
        if self.is_pending(slot, |pending| pending == ack) {
            self.stats.duplicates += 1;
            return;
        }
        let Some(session) = self.clients[slot].session() else { return };
        let token = self.token(slot);
        let set = cx.sessions.set_will(cx.now, session, will.clone(), token);
        if matches!(set, Outcome::Refused(_)) {
            return self.conclude(cx, slot, token, ack, &[set]);
        }
        self.clients[slot].will = will.map(Box::new);
        let saved = self.save(cx, slot, token);
        self.conclude(cx, slot, token, ack, &[set, saved]);
    }
}

/// A will in a record.
pub(super) fn restore_will(topic: String, payload: Vec<u8>, qos: u8, retain: bool) -> Option<Will> {
    is_topic_name(&topic).then_some(Will { topic, payload, qos: QoS::from_u8(qos)?, retain })
}
