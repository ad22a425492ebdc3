//! A small MQTT-SN client, as it runs in a battery-powered node: one message in the air at a time, at QoS 1.

use std::rc::Rc;

use tokio::time::{MissedTickBehavior, interval};

use crate::cli::demo::ledger::{FlowId, payload};
use crate::cli::demo::radio::Radio;
use crate::cli::demo::world::World;
use crate::mqtt::QoS;
use crate::mqttsn::{
    Connect, Disconnect, Message, MsgId, PROTOCOL_ID, Publish, PublishQos, Register, ReturnCode, Topic, TopicId,
};
use crate::time::Duration;

/// Keep-alive in seconds. A sensor that publishes never has to ping.
const KEEPALIVE: u16 = 60;

/// One sensor and what it keeps in its memory.
#[derive(Debug)]
pub(super) struct Sensor {
    pub(super) client_id: String,
    pub(super) topic: String,
    pub(super) flow: FlowId,
    /// Between two readings.
    pub(super) every: Duration,
    pub(super) radio: Radio,
    pub(super) world: Rc<World>,
    /// The message that is not acknowledged yet. It outlives the connection.
    pub(super) in_hand: Option<InHand>,
    pub(super) last_id: u16,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct InHand {
    seq: u32,
    msg_id: MsgId,
    /// Sent before: the next time with DUP.
    repeated: bool,
}

/// What the gateway says to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answer(ReturnCode),
    /// DISCONNECT: it does not know us.
    Unknown,
}

impl Sensor {
    /// Publishes until the demo stops and everything is acknowledged.
    pub(super) async fn run(mut self) {
        loop {
            if !self.connect().await {
                continue;
            }
            let Some(topic_id) = self.register().await else { continue };
            if self.publish_all(topic_id).await {
                self.radio.send(&Message::Disconnect(Disconnect { duration: None })).await;
                return;
            }
        }
    }

    /// CONNECT, with CleanSession=0 (MQTT-SN 6.2).
    async fn connect(&mut self) -> bool {
        let connect = Connect {
            will: false,
            clean_session: false,
            protocol_id: PROTOCOL_ID,
            duration: KEEPALIVE,
            client_id: &self.client_id,
        };
        let answer = |message: &Message<'_>| match message {
            Message::ConnAck(ack) => Some(ack.code),
            _ => None,
        };
        let code = self.radio.request(self.world.pace.retry, |_| Message::Connect(connect), answer).await;
        code.is_some_and(ReturnCode::is_accepted)
    }

    /// REGISTER: a number for the topic (MQTT-SN 6.5).
    async fn register(&mut self) -> Option<TopicId> {
        let msg_id = self.next_id();
        let register = Register { topic_id: TopicId::NONE, msg_id, topic: &self.topic };
        let answer = |message: &Message<'_>| match message {
            Message::RegAck(ack) if ack.msg_id == msg_id => Some(ack.code.is_accepted().then_some(ack.topic_id)),
            Message::Disconnect(_) => Some(None),
            _ => None,
        };
        self.radio.request(self.world.pace.retry, |_| Message::Register(register), answer).await?
    }

    /// Publishes one reading after the other. False: the gateway is lost, or does not know us any more.
    async fn publish_all(&mut self, topic_id: TopicId) -> bool {
        let mut clock = interval(self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let message = match self.in_hand {
                Some(message) => message,
                None if self.world.stopping.get() => return true,
                None => {
                    let seq = self.world.ledger.borrow_mut().send(self.flow);
                    InHand { seq, msg_id: self.next_id(), repeated: false }
                }
            };
            self.in_hand = Some(InHand { repeated: true, ..message });
            match self.publish(topic_id, message).await {
                Some(Verdict::Answer(ReturnCode::ACCEPTED)) => {
                    self.world.ledger.borrow_mut().acknowledge(self.flow, message.seq);
                    self.in_hand = None;
                }
                // "Come back later" (MQTT-SN 6.6): with the next tick.
                Some(Verdict::Answer(ReturnCode::CONGESTION)) => {}
                Some(Verdict::Answer(_) | Verdict::Unknown) | None => return false,
            }
        }
    }

    /// PUBLISH at QoS 1 until it is answered (MQTT-SN 6.13).
    async fn publish(&mut self, topic_id: TopicId, message: InHand) -> Option<Verdict> {
        let payload = payload(message.seq);
        let publish = Publish {
            dup: message.repeated,
            qos: PublishQos::Level(QoS::AtLeastOnce),
            retain: false,
            topic: Topic::Id(topic_id),
            msg_id: message.msg_id,
            payload: payload.as_bytes(),
        };
        let send = |again| Message::Publish(Publish { dup: publish.dup || again, ..publish });
        let answer = |answer: &Message<'_>| match answer {
            Message::PubAck(ack) if ack.msg_id == message.msg_id => Some(Verdict::Answer(ack.code)),
            Message::Disconnect(_) => Some(Verdict::Unknown),
            _ => None,
        };
        self.radio.request(self.world.pace.retry, send, answer).await
    }

    /// Message ids go round, and are never 0.
    fn next_id(&mut self) -> MsgId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        MsgId(self.last_id)
    }
}
