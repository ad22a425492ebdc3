//! Requests that are answered once what they ask for is safe (promise 1).

use crate::gateway::client::Step;
use crate::gateway::clients::Slot;
use crate::gateway::{Cx, Gateway};
use crate::mqtt::QoS;
use crate::mqttsn::{
    ConnAck, Disconnect, Message, MsgId, PubAck, RegAck, ReturnCode, SubAck, SubscribeTopic, Topic, TopicId,
};
use crate::queue::{Outcome, Refusal, Token};

/// Requests of one client that may wait at a time.
const MAX_PENDING: usize = 64;

/// Nobody waits for this one.
pub(super) const NOBODY: Token = Token(u64::MAX);

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    Connect,
    /// `new`: taken back if it cannot be made safe.
    Register {
        id: TopicId,
        msg_id: MsgId,
        new: bool,
    },
    /// A PUBLISH of QoS 1.
    Publish {
        topic: TopicId,
        msg_id: MsgId,
    },
    /// A PUBLISH of QoS 2.
    Receive {
        topic: TopicId,
        msg_id: MsgId,
    },
    /// A PUBREL.
    Release {
        msg_id: MsgId,
    },
    /// `named`: the topic as the client will know it, `new` if only from now on.
    Subscribe {
        named: Topic,
        new: bool,
        qos: QoS,
        msg_id: MsgId,
    },
    Unsubscribe {
        msg_id: MsgId,
    },
    WillTopic,
    WillMsg,
    /// DISCONNECT with a duration.
    Sleep,
    /// Outbound: the topic id to REGISTER is safe.
    Saved {
        id: TopicId,
    },
    /// Outbound: a PUBREC is safe.
    Released {
        pkid: u16,
    },
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Pending {
    token: Token,
    /// How many parts of it are not safe yet.
    waits: usize,
    pub(super) ack: Ack,
}

/// How a refusal reads in MQTT-SN.
pub(super) fn code_of(refusal: Refusal) -> ReturnCode {
    match refusal {
        Refusal::Full | Refusal::Store => ReturnCode::CONGESTION,
        Refusal::NotAuthorised | Refusal::Topic => ReturnCode::NOT_SUPPORTED,
    }
}

fn code(result: Result<(), Refusal>) -> ReturnCode {
    result.map_or_else(code_of, |()| ReturnCode::ACCEPTED)
}

impl Gateway {
    /// A token for a request of this client.
    pub(super) fn token(&mut self, slot: Slot) -> Token {
        self.last_token = self.last_token.wrapping_add(1);
        // The upper half is never that of NOBODY: the limit of clients is below.
        Token(u64::from(slot.0) << 32 | u64::from(self.last_token))
    }

    /// Whether another request of this client may wait.
    pub(super) fn may_wait(&self, slot: Slot) -> bool {
        self.clients[slot].pending.len() < MAX_PENDING
    }

    pub(super) fn is_pending(&self, slot: Slot, mut is: impl FnMut(Ack) -> bool) -> bool {
        self.clients[slot].pending.iter().any(|pending| is(pending.ack))
    }

    /// Answers at once if all parts are done or one is refused, otherwise when the last one is settled.
    pub(super) fn conclude(&mut self, cx: &mut Cx<'_>, slot: Slot, token: Token, ack: Ack, parts: &[Outcome]) {
        let mut waits = 0;
        for part in parts {
            match part {
                Outcome::Done => {}
                Outcome::Pending => waits += 1,
                Outcome::Refused(refusal) => return self.answer(cx, slot, ack, Err(*refusal)),
            }
        }
        if waits == 0 {
            return self.answer(cx, slot, ack, Ok(()));
        }
        if !self.may_wait(slot) {
            return self.answer(cx, slot, ack, Err(Refusal::Full));
        }
        self.clients[slot].pending.push(Pending { token, waits, ack });
    }

    /// The port says what became of a request.
    pub(super) fn on_settled(&mut self, cx: &mut Cx<'_>, token: Token, outcome: Result<(), Refusal>) {
        let Ok(slot) = u32::try_from(token.0 >> 32).map(Slot) else { return };
        if token == NOBODY || !self.clients.contains(slot) {
            return;
        }
        let client = &mut self.clients[slot];
        if outcome.is_err() {
            // Perhaps it was the record: write it again at the next occasion, even if it is still the same.
            client.saved = client.saved.map(|hash| !hash);
        }
        let Some(at) = client.pending.iter().position(|pending| pending.token == token) else { return };
        client.pending[at].waits -= 1;
        if outcome.is_err() || client.pending[at].waits == 0 {
            let pending = client.pending.remove(at);
            self.answer(cx, slot, pending.ack, outcome);
        }
        self.arm(slot);
    }

    /// Sends the answer to a request, and does what had to wait for it.
    fn answer(&mut self, cx: &mut Cx<'_>, slot: Slot, ack: Ack, result: Result<(), Refusal>) {
        let code = code(result);
        match ack {
            Ack::Connect => return self.finish_connect(cx, slot, result),
            Ack::Register { id, msg_id, new } => self.answer_register(slot, id, msg_id, new, code),
            Ack::Publish { topic, msg_id } => {
                self.reply(slot, &Message::PubAck(PubAck { topic_id: topic, msg_id, code }));
            }
            Ack::Receive { msg_id, .. } if result.is_ok() => self.reply(slot, &Message::PubRec(msg_id)),
            Ack::Receive { topic, msg_id } => {
                self.reply(slot, &Message::PubAck(PubAck { topic_id: topic, msg_id, code }));
            }
            Ack::Release { msg_id } if result.is_ok() => self.reply(slot, &Message::PubComp(msg_id)),
            // Without an answer the client asks again.
            Ack::Release { .. } => {}
            Ack::Subscribe { named, new, qos, msg_id } => {
                self.answer_subscribe(slot, named, new, SubAck { qos, topic_id: named.wire_id(), msg_id, code });
                self.pump(cx, slot);
            }
            // UNSUBACK cannot say no. Without it the client asks again, which helps unless the filter is not one.
            Ack::Unsubscribe { msg_id } => {
                if code != ReturnCode::CONGESTION {
                    self.reply(slot, &Message::UnsubAck(msg_id));
                }
            }
            Ack::WillTopic => self.reply(slot, &Message::WillTopicResp(code)),
            Ack::WillMsg => self.reply(slot, &Message::WillMsgResp(code)),
            // It sleeps whether the record is safe or not.
            Ack::Sleep => self.reply(slot, &Message::Disconnect(Disconnect { duration: None })),
            // If the id is lost in a crash, the client is told again: local delivery does not wait for the disk.
            Ack::Saved { id } => return self.on_saved(cx, slot, id),
            Ack::Released { pkid } => return self.on_released(cx, slot, pkid, result),
        }
        self.count_refusal(code);
    }

    pub(super) fn count_refusal(&mut self, code: ReturnCode) {
        match code {
            ReturnCode::CONGESTION => self.stats.congestion += 1,
            ReturnCode::INVALID_TOPIC_ID => self.stats.invalid_topic_id += 1,
            ReturnCode::NOT_SUPPORTED => self.stats.not_supported += 1,
            _ => {}
        }
    }

    fn answer_register(&mut self, slot: Slot, id: TopicId, msg_id: MsgId, new: bool, code: ReturnCode) {
        let registry = &mut self.clients[slot].registry;
        if code.is_accepted() {
            registry.confirm(id);
        } else if new {
            registry.remove(id);
        }
        let topic_id = if code.is_accepted() { id } else { TopicId::NONE };
        self.reply(slot, &Message::RegAck(RegAck { topic_id, msg_id, code }));
    }

    fn answer_subscribe(&mut self, slot: Slot, named: Topic, new: bool, mut suback: SubAck) {
        let registry = &mut self.clients[slot].registry;
        match named {
            Topic::Id(id) if suback.code.is_accepted() => registry.confirm(id),
            Topic::Id(id) => {
                suback.topic_id = TopicId::NONE;
                if new {
                    registry.remove(id);
                }
            }
            Topic::Predefined(_) | Topic::Short(_) if new && !suback.code.is_accepted() => registry.doubt(named),
            _ => {}
        }
        self.reply(slot, &Message::SubAck(suback));
    }

    fn finish_connect(&mut self, cx: &mut Cx<'_>, slot: Slot, result: Result<(), Refusal>) {
        let code = code(result);
        self.reply(slot, &Message::ConnAck(ConnAck { code }));
        if code.is_accepted() {
            self.stats.connects += 1;
            return self.pump(cx, slot);
        }
        self.stats.connects_refused += 1;
        self.count_refusal(code);
        self.end_session(cx, slot, false);
    }

    fn on_released(&mut self, cx: &mut Cx<'_>, slot: Slot, pkid: u16, result: Result<(), Refusal>) {
        let retry = self.retry(cx);
        let Some((session, flow)) = self.clients[slot].flow_mut() else { return };
        if !matches!(flow.step, Step::Releasing { pkid: waiting } if waiting == pkid) {
            return;
        }
        if result.is_ok() {
            flow.step = Step::Released { pkid, retry };
            return self.reply(slot, &Message::PubRel(MsgId(pkid)));
        }
        // As if PUBREC had not come: the same PUBLISH again, which the client recognises.
        flow.step = Step::Stalled;
        cx.sessions.rewind(cx.now, session);
    }

    fn on_saved(&mut self, cx: &mut Cx<'_>, slot: Slot, saved: TopicId) {
        let Some((_, flow)) = self.clients[slot].flow_mut() else { return };
        match std::mem::replace(&mut flow.step, Step::Idle) {
            Step::Saving { next, id, refused } if id == saved => self.send_register(cx, slot, next, id, refused),
            other => flow.step = other,
        }
    }
}

/// How a refusing SUBACK repeats what was asked for.
pub(super) fn wire_id(topic: SubscribeTopic<'_>) -> TopicId {
    match topic {
        SubscribeTopic::Predefined(id) => id,
        SubscribeTopic::Short(name) => Topic::Short(name).wire_id(),
        SubscribeTopic::Name(_) | SubscribeTopic::Reserved(_) => TopicId::NONE,
    }
}
