//! REGISTER, SUBSCRIBE and UNSUBSCRIBE from a client (MQTT-SN 6.5, 6.9).

use std::borrow::Cow;

use crate::gateway::acks::{Ack, NOBODY, wire_id};
use crate::gateway::clients::Slot;
use crate::gateway::registry::{Origin, Predefined, has_wildcard, is_topic_name};
use crate::gateway::{Cx, Gateway};
use crate::mqttsn::{
    Message, RegAck, Register, ReturnCode, SubAck, Subscribe, SubscribeTopic, Topic, TopicId, Unsubscribe,
};
use crate::queue::Outcome;

/// What is subscribed to: the filter, the name for its messages, and whether that name is new.
struct Wanted {
    filter: String,
    named: Topic,
    new: bool,
}

impl Gateway {
    pub(super) fn on_register(&mut self, cx: &mut Cx<'_>, slot: Slot, register: Register<'_>) {
        let Register { msg_id, topic, .. } = register;
        let refuse = |code| Message::RegAck(RegAck { topic_id: TopicId::NONE, msg_id, code });
        if self.is_pending(slot, |ack| matches!(ack, Ack::Register { msg_id: other, .. } if other == msg_id)) {
            self.stats.duplicates += 1;
            return;
        }
        if !is_topic_name(topic) {
            self.count_refusal(ReturnCode::NOT_SUPPORTED);
            return self.reply(slot, &refuse(ReturnCode::NOT_SUPPORTED));
        }
        let max = self.config.max_topics_per_client;
        let client = &mut self.clients[slot];
        let predefined = self.known.predefined(client.known);
        let Ok(assigned) = client.registry.assign(topic, Origin::Client, predefined, max) else {
            self.count_refusal(ReturnCode::CONGESTION);
            return self.reply(slot, &refuse(ReturnCode::CONGESTION));
        };
        self.stats.topics_evicted += u64::from(assigned.evicted);
        let token = self.token(slot);
        let saved = self.save(cx, slot, token);
        let ack = Ack::Register { id: assigned.id, msg_id, new: assigned.new };
        self.conclude(cx, slot, token, ack, &[saved]);
    }

    pub(super) fn on_subscribe(&mut self, cx: &mut Cx<'_>, slot: Slot, subscribe: Subscribe<'_>) {
        let Subscribe { qos, msg_id, topic, .. } = subscribe;
        if self.is_pending(slot, |ack| matches!(ack, Ack::Subscribe { msg_id: other, .. } if other == msg_id)) {
            self.stats.duplicates += 1;
            return;
        }
        let wanted = if self.may_wait(slot) { self.wanted(slot, topic) } else { Err(ReturnCode::CONGESTION) };
        let (session, wanted) = match (self.clients[slot].session(), wanted) {
            (Some(session), Ok(wanted)) => (session, wanted),
            (_, refused) => {
                let code = refused.err().unwrap_or(ReturnCode::NOT_SUPPORTED);
                self.count_refusal(code);
                let suback = SubAck { qos, topic_id: wire_id(topic), msg_id, code };
                return self.reply(slot, &Message::SubAck(suback));
            }
        };
        let token = self.token(slot);
        let (granted, subscribed) = cx.sessions.subscribe(cx.now, session, &wanted.filter, qos, token);
        let saved = match subscribed {
            Outcome::Refused(_) => Outcome::Done,
            Outcome::Done | Outcome::Pending => self.save(cx, slot, token),
        };
        let ack = Ack::Subscribe { named: wanted.named, new: wanted.new, qos: granted, msg_id };
        self.conclude(cx, slot, token, ack, &[subscribed, saved]);
    }

    /// Finds the filter, and the name that its messages will have for the client.
    fn wanted(&mut self, slot: Slot, topic: SubscribeTopic<'_>) -> Result<Wanted, ReturnCode> {
        let max = self.config.max_topics_per_client;
        let client = &mut self.clients[slot];
        let predefined = self.known.predefined(client.known);
        let registry = &mut client.registry;
        let filter = filter_of(predefined, topic)?.into_owned();
        let (named, new) = match topic {
            SubscribeTopic::Name(_) if has_wildcard(&filter) => (Topic::Id(TopicId::NONE), false),
            SubscribeTopic::Name(name) => {
                let assigned =
                    registry.assign(name, Origin::Client, predefined, max).map_err(|_| ReturnCode::CONGESTION)?;
                self.stats.topics_evicted += u64::from(assigned.evicted);
                (Topic::Id(assigned.id), assigned.new)
            }
            SubscribeTopic::Predefined(id) => (Topic::Predefined(id), false),
            SubscribeTopic::Short(name) => (Topic::Short(name), false),
            SubscribeTopic::Reserved(_) => return Err(ReturnCode::NOT_SUPPORTED),
        };
        let added = registry.add_named(named, max).map_err(|_| ReturnCode::CONGESTION)?;
        Ok(Wanted { filter, named, new: new || added })
    }

    pub(super) fn on_unsubscribe(&mut self, cx: &mut Cx<'_>, slot: Slot, unsubscribe: Unsubscribe<'_>) {
        let Unsubscribe { msg_id, topic } = unsubscribe;
        if self.is_pending(slot, |ack| ack == Ack::Unsubscribe { msg_id }) {
            self.stats.duplicates += 1;
            return;
        }
        let Some(session) = self.clients[slot].session() else { return };
        let token = self.token(slot);
        let outcome = match filter_of(self.known.predefined(self.clients[slot].known), topic) {
            Ok(filter) => cx.sessions.unsubscribe(cx.now, session, &filter, token),
            // UNSUBACK cannot say that there was no such topic, and the client is content with that.
            Err(_) => Outcome::Done,
        };
        match topic {
            SubscribeTopic::Predefined(id) => self.clients[slot].registry.doubt(Topic::Predefined(id)),
            SubscribeTopic::Short(name) => self.clients[slot].registry.doubt(Topic::Short(name)),
            SubscribeTopic::Name(_) | SubscribeTopic::Reserved(_) => {}
        }
        self.save_unwaited(cx, slot);
        self.conclude(cx, slot, token, Ack::Unsubscribe { msg_id }, &[outcome]);
    }

    /// The client refused a topic id: it unsubscribes from that one topic (MQTT-SN 6.10).
    pub(super) fn unsubscribe_unwanted(&mut self, cx: &mut Cx<'_>, slot: Slot, topic: &str, id: TopicId) {
        self.clients[slot].registry.mute(id);
        if let Some(session) = self.clients[slot].session() {
            // The subscription may as well be a filter with wildcards: muting is what counts.
            cx.sessions.unsubscribe(cx.now, session, topic, NOBODY);
        }
    }
}

fn filter_of<'a>(predefined: &'a Predefined, topic: SubscribeTopic<'a>) -> Result<Cow<'a, str>, ReturnCode> {
    match topic {
        SubscribeTopic::Name(filter) if !filter.is_empty() => Ok(filter.into()),
        SubscribeTopic::Predefined(id) => predefined.name(id).map(Cow::from).ok_or(ReturnCode::INVALID_TOPIC_ID),
        // A short name is a name: "/#" does not fit in.
        SubscribeTopic::Short(short) => match short.as_str() {
            Some(name) if is_topic_name(name) => Ok(name.to_owned().into()),
            _ => Err(ReturnCode::NOT_SUPPORTED),
        },
        SubscribeTopic::Name(_) | SubscribeTopic::Reserved(_) => Err(ReturnCode::NOT_SUPPORTED),
    }
}
