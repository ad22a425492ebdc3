//! Messages to a client (MQTT-SN 6.10): one at a time, REGISTER first where needed, retransmitted, never forgotten.

use crate::gateway::acks::Ack;
use crate::gateway::client::{Retry, State, Step};
use crate::gateway::clients::Slot;
use crate::gateway::registry::{Alias, Origin};
use crate::gateway::{Cx, Gateway, Next, SessionId};
use crate::metrics::Level;
use crate::mqtt::QoS;
use crate::mqttsn::{Message, MsgId, PubAck, Publish, PublishQos, RegAck, Register, ReturnCode, Topic, TopicId};
use crate::queue::{Outcome, Seq};

/// QoS 0 messages that one client gets in one turn; then others have theirs.
const TURN_BUDGET: usize = 32;

/// Why a message is given up for one client. Counted, because the publisher believes it delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    TooLong,
    Unwanted,
    Refused,
    TopicsFull,
    TooOld,
}

impl Gateway {
    /// Sends what waits for the client, as far as it may be sent now.
    pub(super) fn pump(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        for _ in 0..TURN_BUDGET {
            let client = &self.clients[slot];
            if client.peer.is_none() || client.holds_delivery() {
                return;
            }
            let retry = self.retry(cx);
            let Some((session, flow)) = self.clients[slot].flow_mut() else { return };
            if !matches!(flow.step, Step::Idle) {
                return;
            }
            if let Some(pkid) = flow.releases.pop() {
                flow.step = Step::Released { pkid, retry };
                return self.reply(slot, &Message::PubRel(MsgId(pkid)));
            }
            if matches!(self.clients[slot].state, State::Awake { left: 0, .. }) {
                return self.finish_wake(cx, slot);
            }
            let Some(next) = cx.sessions.next(cx.now, session) else {
                return self.on_nothing_left(cx, slot, session);
            };
            if let State::Awake { left, stalled_at, .. } = &mut self.clients[slot].state {
                *left -= 1;
                *stalled_at = retry.at;
            }
            if self.is_too_old(cx, &next) {
                self.give_up(cx, slot, session, next.seq, Loss::TooOld);
            } else {
                self.offer(cx, slot, session, next, false);
            }
        }
        self.pump_later(cx, slot);
    }

    pub(super) fn pump_later(&mut self, cx: &Cx<'_>, slot: Slot) {
        if let Some((_, flow)) = self.clients[slot].flow_mut() {
            flow.resume_at = Some(cx.now.at);
        }
    }

    /// What was sent once with QoS 2 has to be finished.
    fn is_too_old(&self, cx: &Cx<'_>, next: &Next) -> bool {
        let limit = self.config.max_sleep_age;
        !limit.is_zero() && next.qos < QoS::ExactlyOnce && cx.now.wall - next.message.received_at > limit
    }

    /// Nothing to send now. A wake ends, unless the queue is still being read from the disk.
    fn on_nothing_left(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId) {
        if matches!(self.clients[slot].state, State::Awake { .. }) && cx.sessions.waiting(session) == 0 {
            self.finish_wake(cx, slot);
        }
    }

    /// Sends a message by the name that the client knows for its topic, or agrees on one first.
    fn offer(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId, next: Next, refused: bool) {
        let topic = next.message.topic();
        let client = &self.clients[slot];
        match client.registry.alias(topic, self.known.predefined(client.known)) {
            Alias::Use(topic) => self.send_publish(cx, slot, session, next, topic, refused),
            Alias::Register(id) => self.send_register(cx, slot, next, id, refused),
            Alias::Muted => self.give_up(cx, slot, session, next.seq, Loss::Unwanted),
            Alias::None => self.register_new(cx, slot, session, next, refused),
        }
    }

    /// The topic gets an id, which is made safe before the client learns it: after a crash it must not mean another.
    fn register_new(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId, next: Next, refused: bool) {
        let max = self.config.max_topics_per_client;
        let client = &mut self.clients[slot];
        let predefined = self.known.predefined(client.known);
        let assigned = client.registry.assign(next.message.topic(), Origin::Gateway, predefined, max);
        let Ok(assigned) = assigned else {
            return self.give_up(cx, slot, session, next.seq, Loss::TopicsFull);
        };
        self.stats.topics_evicted += u64::from(assigned.evicted);
        let token = self.token(slot);
        let saved = self.save(cx, slot, token);
        if let Some((_, flow)) = self.clients[slot].flow_mut() {
            flow.step = Step::Saving { next, id: assigned.id, refused };
        }
        self.conclude(cx, slot, token, Ack::Saved { id: assigned.id }, &[saved]);
    }

    pub(super) fn send_register(
        &mut self,
        cx: &mut Cx<'_>,
        slot: Slot,
        next: Next,
        topic_id: TopicId,
        refused: bool,
    ) {
        let retry = self.retry(cx);
        let client = &mut self.clients[slot];
        let msg_id = client.next_msg_id();
        let register = Message::Register(Register { topic_id, msg_id, topic: next.message.topic() });
        let fits = client.peer.as_ref().is_none_or(|peer| self.radio.send(peer.as_ref(), &register));
        let Some((session, flow)) = client.flow_mut() else { return };
        if fits {
            flow.step = Step::Registering { next, id: topic_id, msg_id, retry, refused };
        } else {
            self.give_up(cx, slot, session, next.seq, Loss::TooLong);
        }
    }

    fn send_publish(
        &mut self,
        cx: &mut Cx<'_>,
        slot: Slot,
        session: SessionId,
        next: Next,
        topic: Topic,
        refused: bool,
    ) {
        let retry = self.retry(cx);
        let client = &mut self.clients[slot];
        // After a pause the same message goes by the same id, so that the client can tell it came twice.
        let again = client.last_sent.filter(|(seq, _)| *seq == next.seq && next.qos > QoS::AtMostOnce);
        let msg_id = match (next.qos, again) {
            (QoS::AtMostOnce, _) => MsgId::NONE,
            (QoS::ExactlyOnce, _) => MsgId(next.pkid),
            (QoS::AtLeastOnce, Some((_, msg_id))) => msg_id,
            (QoS::AtLeastOnce, None) => client.next_msg_id(),
        };
        let publish = publish_of(&next, topic, msg_id, again.is_some());
        let fits = client.peer.as_ref().is_none_or(|peer| self.radio.send(peer.as_ref(), &publish));
        if !fits {
            return self.give_up(cx, slot, session, next.seq, Loss::TooLong);
        }
        self.stats.publishes_sent += 1;
        if next.qos == QoS::AtMostOnce {
            return self.finish_message(cx, slot, session, next.seq);
        }
        client.last_sent = Some((next.seq, msg_id));
        if let Some((_, flow)) = client.flow_mut() {
            flow.step = Step::Publishing { next, topic, msg_id, retry, refused };
        }
    }

    /// The client has the message, or never will.
    fn finish_message(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId, seq: Seq) {
        cx.sessions.acked(cx.now, session, seq);
        if let Some((_, flow)) = self.clients[slot].flow_mut() {
            flow.step = Step::Idle;
        }
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId, seq: Seq, why: Loss) {
        let (count, detail) = match why {
            Loss::TooLong => (&mut self.stats.dropped_too_long, "longer than the mtu of its link"),
            Loss::Unwanted => (&mut self.stats.dropped_unwanted, "it refused the topic"),
            Loss::Refused => (&mut self.stats.dropped_refused, "it refused the message twice"),
            Loss::TooOld => (&mut self.stats.dropped_too_old, "it waited for longer than max_sleep_age"),
            Loss::TopicsFull => (&mut self.stats.dropped_topics_full, "limit max_topics_per_client reached"),
        };
        *count += 1;
        // What the client does not want is no loss.
        let level = if why == Loss::Unwanted { Level::Debug } else { Level::Warn };
        self.notice(level, "message dropped for MQTT-SN client", slot, detail);
        self.finish_message(cx, slot, session, seq);
        self.pump_later(cx, slot);
    }

    pub(super) fn on_regack(&mut self, cx: &mut Cx<'_>, slot: Slot, regack: RegAck) {
        let Some((session, flow)) = self.clients[slot].flow_mut() else {
            self.stats.unexpected += 1;
            return;
        };
        // "Congestion" is no answer: the retransmission asks again.
        let answers = matches!(&flow.step, Step::Registering { msg_id, .. } if *msg_id == regack.msg_id);
        if !answers || regack.code == ReturnCode::CONGESTION {
            self.stats.unexpected += u64::from(!answers);
            return;
        }
        let Step::Registering { next, id, refused, retry, .. } = std::mem::replace(&mut flow.step, Step::Idle)
        else {
            return;
        };
        self.measure(cx, slot, retry);
        if regack.code.is_accepted() {
            self.clients[slot].registry.confirm(id);
            self.send_publish(cx, slot, session, next, Topic::Id(id), refused);
        } else {
            self.unsubscribe_unwanted(cx, slot, next.message.topic(), id);
            self.give_up(cx, slot, session, next.seq, Loss::Unwanted);
        }
        self.pump(cx, slot);
    }

    pub(super) fn on_puback(&mut self, cx: &mut Cx<'_>, slot: Slot, puback: PubAck) {
        let Some((session, flow)) = self.clients[slot].flow_mut() else {
            return self.on_stray_puback(slot, puback);
        };
        let (qos, seq, retry) = match &flow.step {
            Step::Publishing { next, msg_id, retry, .. } if *msg_id == puback.msg_id => {
                (next.qos, next.seq, *retry)
            }
            _ => return self.on_stray_puback(slot, puback),
        };
        if puback.code.is_accepted() {
            if qos == QoS::AtLeastOnce {
                self.measure(cx, slot, retry);
                self.finish_message(cx, slot, session, seq);
                self.pump(cx, slot);
            } else {
                self.stats.unexpected += 1;
            }
            return;
        }
        // "Congestion" is no answer: the retransmission asks again.
        if puback.code != ReturnCode::CONGESTION {
            self.on_refused(cx, slot, session);
            self.pump(cx, slot);
        }
    }

    /// The client does not know the topic id, whatever it calls that: agree on it again and resend, once.
    fn on_refused(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId) {
        let Some((_, flow)) = self.clients[slot].flow_mut() else { return };
        let Step::Publishing { next, topic, refused, .. } = std::mem::replace(&mut flow.step, Step::Idle) else {
            return;
        };
        if refused {
            return self.give_up(cx, slot, session, next.seq, Loss::Refused);
        }
        self.clients[slot].registry.doubt(topic);
        self.offer(cx, slot, session, next, true);
    }

    /// A PUBACK that belongs to no message in flight: to a QoS 0 message, if it refuses one.
    fn on_stray_puback(&mut self, slot: Slot, puback: PubAck) {
        let registry = &mut self.clients[slot].registry;
        match (puback.msg_id, puback.code) {
            (MsgId::NONE, ReturnCode::INVALID_TOPIC_ID | ReturnCode::NOT_SUPPORTED) => match puback.topic_id {
                TopicId::NONE => registry.doubt_all(),
                id => registry.doubt(Topic::Id(id)),
            },
            _ => self.stats.unexpected += 1,
        }
    }

    pub(super) fn on_pubrec(&mut self, cx: &mut Cx<'_>, slot: Slot, msg_id: MsgId) {
        let token = self.token(slot);
        let Some((session, flow)) = self.clients[slot].flow_mut() else {
            self.stats.unexpected += 1;
            return;
        };
        let (seq, retry) = match &flow.step {
            Step::Publishing { next, msg_id: sent, retry, .. }
                if *sent == msg_id && next.qos == QoS::ExactlyOnce =>
            {
                (next.seq, *retry)
            }
            Step::Releasing { pkid } if *pkid == msg_id.0 => {
                self.stats.duplicates += 1;
                return;
            }
            // A second PUBREC, or one of long ago: the client waits for PUBREL. But if what it answers is still in the
            // queue (the gateway restarted, or had given up), PUBREL would make the client forget it, and take it again
            // as new: it is sent again, and answered again.
            step => {
                let due = matches!(step, Step::Released { pkid, .. } if *pkid == msg_id.0)
                    || flow.releases.contains(&msg_id.0)
                    || cx.sessions.waiting(session) == 0;
                self.stats.duplicates += 1;
                if due {
                    self.reply(slot, &Message::PubRel(msg_id));
                }
                return;
            }
        };
        let outcome = cx.sessions.release(cx.now, session, seq, msg_id.0, token);
        if let Outcome::Refused(_) = outcome {
            // The retransmission of PUBLISH brings another PUBREC.
            return;
        }
        flow.step = Step::Releasing { pkid: msg_id.0 };
        self.measure(cx, slot, retry);
        self.conclude(cx, slot, token, Ack::Released { pkid: msg_id.0 }, &[outcome]);
    }

    pub(super) fn on_pubcomp(&mut self, cx: &mut Cx<'_>, slot: Slot, msg_id: MsgId) {
        match self.clients[slot].flow_mut() {
            Some((session, flow)) if matches!(flow.step, Step::Released { pkid, .. } if pkid == msg_id.0) => {
                flow.step = Step::Idle;
                cx.sessions.complete(cx.now, session, msg_id.0);
                self.pump(cx, slot);
            }
            _ => self.stats.unexpected += 1,
        }
    }

    /// A turn's budget is renewed, or the client did not answer in T_RETRY.
    pub(super) fn on_flow_deadline(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let (now, interval) = (cx.now.at, self.config.retry_interval);
        let Some((session, flow)) = self.clients[slot].flow_mut() else { return };
        if flow.resume_at.take_if(|at| *at <= now).is_some() {
            return self.pump(cx, slot);
        }
        match flow.retry_mut() {
            Some(Retry { at, .. }) if *at > now => {}
            Some(Retry { left: 0, .. }) => {
                self.stats.retries_exhausted += 1;
                flow.step = Step::Stalled;
                cx.sessions.rewind(cx.now, session);
                if self.clients[slot].is_sleeping() {
                    self.finish_wake(cx, slot);
                }
            }
            Some(retry) => {
                *retry = Retry { at: now + interval, left: retry.left - 1 };
                self.retransmit(slot);
            }
            None => {}
        }
    }

    /// Sends again what the client has not answered.
    pub(super) fn retransmit(&mut self, slot: Slot) {
        let client = &self.clients[slot];
        let (State::Active { flow, .. } | State::Awake { flow, .. }) = &client.state else { return };
        let message = match &flow.step {
            Step::Registering { next, id, msg_id, .. } => {
                Message::Register(Register { topic_id: *id, msg_id: *msg_id, topic: next.message.topic() })
            }
            Step::Publishing { next, topic, msg_id, .. } => publish_of(next, *topic, *msg_id, true),
            Step::Released { pkid, .. } => Message::PubRel(MsgId(*pkid)),
            Step::Idle | Step::Stalled | Step::Saving { .. } | Step::Releasing { .. } => return,
        };
        if let Some(peer) = &client.peer {
            self.radio.send(peer.as_ref(), &message);
        }
        self.count_again(slot);
    }

    /// The client stops listening: what is in flight goes back to its place in the queue.
    pub(super) fn pause_flow(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let Some((session, flow)) = self.clients[slot].flow_mut() else { return };
        if !matches!(std::mem::replace(&mut flow.step, Step::Idle), Step::Idle | Step::Stalled) {
            cx.sessions.rewind(cx.now, session);
        }
    }
}

fn publish_of(next: &Next, topic: Topic, msg_id: MsgId, dup: bool) -> Message<'_> {
    let qos = PublishQos::Level(next.qos);
    Message::Publish(Publish { dup, qos, retain: next.retain, topic, msg_id, payload: next.message.payload() })
}
