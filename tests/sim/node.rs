//! A simulated MQTT-SN sensor that keeps its session: one request at a time, sent again until it is answered.

use std::net::SocketAddr;

use moteway::mqtt::QoS;
use moteway::mqttsn::{
    Connect, Message, MsgId, PROTOCOL_ID, PubAck, Publish, PublishQos, Register, ReturnCode, Topic, TopicId,
};
use moteway::time::{Duration, Instant};

use crate::client::{MessageId, payload};

/// T_RETRY of the sensor.
const RETRY: Duration = Duration::from_millis(700);
/// After so many unanswered tries the sensor connects anew.
const TRIES: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Lost,
    Connecting,
    Registering,
    Ready,
    /// QoS 1 or 2: the answer to PUBLISH is due.
    Publishing,
    /// QoS 2: PUBCOMP is due.
    Releasing,
}

#[derive(Debug)]
pub struct Node {
    pub number: u32,
    pub topic: &'static str,
    pub qos: QoS,
    pub address: SocketAddr,
    client_id: String,
    state: State,
    topic_id: TopicId,
    last_msg_id: u16,
    /// The message that is not finished, with its id.
    current: Option<(MessageId, MsgId, State)>,
    was_sent: bool,
    tries: u8,
    sent_at: Option<Instant>,
    count: u64,
    pub acked: Vec<MessageId>,
}

impl Node {
    pub fn new(number: u32, topic: &'static str, qos: QoS) -> Self {
        Self {
            number,
            topic,
            qos,
            address: SocketAddr::from(([10, 0, 0, 1], 1000 + u16::try_from(number).expect("a small number"))),
            client_id: format!("node-{number}"),
            state: State::Lost,
            topic_id: TopicId(0),
            last_msg_id: 0,
            current: None,
            was_sent: false,
            tries: 0,
            sent_at: None,
            count: 0,
            acked: Vec::new(),
        }
    }

    pub fn published(&self) -> u64 {
        self.count
    }

    /// Whether a message is not finished.
    pub fn waits(&self) -> bool {
        self.current.is_some()
    }

    /// Measures something, if the last message is through.
    pub fn publish(&mut self) {
        if self.state == State::Ready && self.current.is_none() {
            self.count += 1;
            self.current = Some(((self.number, self.count), self.next_msg_id(), State::Publishing));
            self.was_sent = false;
        }
    }

    fn next_msg_id(&mut self) -> MsgId {
        self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        MsgId(self.last_msg_id)
    }

    /// What to send now: the next request, or the last one again.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.sent_at.is_some_and(|at| at + RETRY > now) {
            return Vec::new();
        }
        if self.sent_at.is_some() {
            self.tries += 1;
            if self.tries > TRIES {
                self.enter(State::Lost);
            }
        }
        match (self.state, self.current) {
            (State::Lost, _) => self.state = State::Connecting,
            (State::Ready, Some((.., step))) => self.state = step,
            (State::Ready, None) => return Vec::new(),
            _ => {}
        }
        self.sent_at = Some(now);
        vec![self.request()]
    }

    fn request(&mut self) -> Vec<u8> {
        let message_payload = self.current.map(|(id, ..)| payload(id)).unwrap_or_default();
        let msg_id = self.current.map_or(MsgId(0), |(_, msg_id, _)| msg_id);
        let message = match self.state {
            State::Connecting => Message::Connect(Connect {
                will: false,
                clean_session: false,
                protocol_id: PROTOCOL_ID,
                duration: 30,
                client_id: &self.client_id,
            }),
            State::Registering => Message::Register(Register {
                topic_id: TopicId(0),
                msg_id: MsgId(60_000 + u16::from(self.tries)),
                topic: self.topic,
            }),
            State::Releasing => Message::PubRel(msg_id),
            State::Publishing | State::Ready | State::Lost => Message::Publish(Publish {
                dup: std::mem::replace(&mut self.was_sent, true),
                qos: PublishQos::Level(self.qos),
                retain: false,
                topic: Topic::Id(self.topic_id),
                msg_id,
                payload: message_payload.as_bytes(),
            }),
        };
        encode(&message)
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.tries = 0;
        self.sent_at = None;
    }

    /// Handles a datagram; gives what to send at once.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Vec<Vec<u8>> {
        let message = Message::decode(datagram).expect("the gateway keeps to the protocol");
        let expected = self.current.map(|(_, msg_id, _)| msg_id);
        match (self.state, message) {
            (State::Connecting, Message::ConnAck(ack)) if ack.code == ReturnCode::ACCEPTED => {
                self.enter(State::Registering);
            }
            (State::Registering, Message::RegAck(ack)) if ack.code == ReturnCode::ACCEPTED => {
                self.topic_id = ack.topic_id;
                self.enter(State::Ready);
            }
            (State::Publishing, Message::PubAck(ack)) if Some(ack.msg_id) == expected => self.on_puback(ack),
            (State::Publishing, Message::PubRec(id)) if Some(id) == expected => {
                if let Some((message, ..)) = self.current {
                    self.acked.push(message);
                }
                self.current = self.current.map(|(message, id, _)| (message, id, State::Releasing));
                self.enter(State::Releasing);
            }
            (State::Releasing, Message::PubComp(id)) if Some(id) == expected => {
                self.current = None;
                self.enter(State::Ready);
            }
            (_, Message::Disconnect(_)) => self.enter(State::Lost),
            // Late copies of answers that were waited for once.
            _ => return Vec::new(),
        }
        self.poll(now)
    }

    fn on_puback(&mut self, ack: PubAck) {
        if ack.code != ReturnCode::ACCEPTED {
            // Congestion, or an id that is not known any more: begin again, with the same message.
            self.enter(State::Lost);
        } else if self.qos == QoS::AtLeastOnce {
            self.acked.extend(self.current.take().map(|(message, ..)| message));
            self.enter(State::Ready);
        }
    }
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).expect("it fits");
    out
}
