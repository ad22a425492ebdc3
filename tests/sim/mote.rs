//! A simulated MQTT-SN node that publishes, listens and sleeps: one request at a time, sent again until it is answered.

use std::collections::{BTreeMap, BTreeSet};

use moteway::mqtt::QoS;
use moteway::mqttsn::{
    Connect, Disconnect, Message, MsgId, PROTOCOL_ID, PingReq, PubAck, Publish, PublishQos, RegAck, Register,
    ReturnCode, Subscribe, SubscribeTopic, Topic, TopicId,
};
use moteway::time::{Duration, Instant};

use crate::client::{MessageId, parse, payload};

/// T_RETRY of the node.
const RETRY: Duration = Duration::from_millis(700);
/// After so many unanswered tries the node connects anew.
const TRIES: u8 = 5;
/// An idle node that is awake says so this often.
const PING: Duration = Duration::from_secs(4);
/// No message is longer on the air.
const LONGEST_WAY: Duration = Duration::from_millis(5);
/// Seconds of sleep asked for.
const SLEEP: u16 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Connect,
    Subscribe,
    Register,
    Publish,
    /// QoS 2: PUBCOMP is due.
    Release,
    FallAsleep,
    /// The radio is off.
    Sleep {
        until: Instant,
    },
    Wake,
    Ping,
    Rest,
}

#[derive(Debug)]
pub struct Mote {
    pub number: u32,
    pub qos: QoS,
    client_id: String,
    /// Where it publishes, and what it listens to.
    pub topic: String,
    pub listens: String,
    doing: Doing,
    sent_at: Option<Instant>,
    tries: u8,
    heard_at: Instant,
    subscribed: bool,
    registered: Option<TopicId>,
    last_msg_id: u16,
    /// The message that is not finished: its id, whether it was sent, and whether PUBREC came.
    current: Option<(MessageId, MsgId, bool, bool)>,
    count: u64,
    names: BTreeMap<TopicId, String>,
    /// QoS 2 ids between PUBLISH and PUBREL.
    receipts: BTreeSet<MsgId>,
    /// The QoS 2 id that was released last, and when.
    released: Option<(MsgId, Instant)>,
    pub acked: Vec<MessageId>,
    pub received: Vec<(MessageId, QoS)>,
    pub sleeps: u64,
}

impl Mote {
    /// Publishes to `up/{number}` and listens to `up/{of}`.
    pub fn new(number: u32, of: u32, qos: QoS) -> Self {
        Self {
            number,
            qos,
            client_id: format!("mote-{number}"),
            topic: format!("up/{number}"),
            // Half of them by a filter, so that topics have to be registered.
            listens: if number.is_multiple_of(2) { format!("up/{of}") } else { format!("+/{of}") },
            doing: Doing::Connect,
            sent_at: None,
            tries: 0,
            heard_at: Instant::ZERO,
            subscribed: false,
            registered: None,
            last_msg_id: 0,
            current: None,
            count: 0,
            names: BTreeMap::new(),
            receipts: BTreeSet::new(),
            released: None,
            acked: Vec::new(),
            received: Vec::new(),
            sleeps: 0,
        }
    }

    pub fn published(&self) -> u64 {
        self.count
    }

    pub fn waits(&self) -> bool {
        self.current.is_some()
    }

    pub fn is_ready(&self) -> bool {
        self.subscribed && self.registered.is_some()
    }

    pub fn is_asleep(&self) -> bool {
        matches!(self.doing, Doing::Sleep { .. })
    }

    /// Measures something, if the last message is through.
    pub fn publish(&mut self) {
        if self.is_ready() && self.current.is_none() {
            self.count += 1;
            let msg_id = self.next_msg_id();
            self.current = Some(((self.number, self.count), msg_id, false, false));
        }
    }

    /// Goes to sleep, if it has nothing else to do.
    pub fn tire(&mut self) {
        if self.doing == Doing::Rest && self.is_ready() && self.current.is_none() {
            self.begin(Doing::FallAsleep);
        }
    }

    fn next_msg_id(&mut self) -> MsgId {
        self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        MsgId(self.last_msg_id)
    }

    fn begin(&mut self, doing: Doing) {
        (self.doing, self.sent_at, self.tries) = (doing, None, 0);
    }

    /// What to do next when nothing is under way.
    fn choose(&mut self, now: Instant) {
        let next = match self.current {
            _ if !self.subscribed => Doing::Subscribe,
            _ if self.registered.is_none() => Doing::Register,
            Some((.., true)) => Doing::Release,
            Some(_) => Doing::Publish,
            None if self.heard_at + PING <= now => Doing::Ping,
            None => return,
        };
        self.begin(next);
    }

    /// What to send now: the next request, or the last one again.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        match self.doing {
            Doing::Sleep { until } if until > now => return None,
            // What it has to say it says awake.
            Doing::Sleep { .. } => self.begin(if self.current.is_some() { Doing::Connect } else { Doing::Wake }),
            Doing::Rest => self.choose(now),
            _ => {}
        }
        if self.doing == Doing::Rest || self.sent_at.is_some_and(|at| at + RETRY > now) {
            return None;
        }
        self.tries += 1;
        if self.tries > TRIES {
            self.begin(Doing::Connect);
        }
        self.sent_at = Some(now);
        Some(self.request())
    }

    fn request(&mut self) -> Vec<u8> {
        let number = self.current.map(|(id, ..)| payload(id)).unwrap_or_default();
        let msg_id = self.current.map_or(MsgId(0), |(_, msg_id, ..)| msg_id);
        encode(&match self.doing {
            Doing::Connect => Message::Connect(Connect {
                will: false,
                clean_session: false,
                protocol_id: PROTOCOL_ID,
                duration: 20,
                client_id: &self.client_id,
            }),
            Doing::Subscribe => Message::Subscribe(Subscribe {
                dup: false,
                qos: QoS::ExactlyOnce,
                msg_id: MsgId(60_001),
                topic: SubscribeTopic::Name(&self.listens),
            }),
            Doing::Register => {
                Message::Register(Register { topic_id: TopicId(0), msg_id: MsgId(60_002), topic: &self.topic })
            }
            Doing::Publish => {
                let dup = self.current.as_mut().is_some_and(|(_, _, sent, _)| std::mem::replace(sent, true));
                Message::Publish(Publish {
                    dup,
                    qos: PublishQos::Level(self.qos),
                    retain: false,
                    topic: Topic::Id(self.registered.expect("registered before")),
                    msg_id,
                    payload: number.as_bytes(),
                })
            }
            Doing::Release => Message::PubRel(msg_id),
            Doing::FallAsleep => Message::Disconnect(Disconnect { duration: Some(SLEEP) }),
            Doing::Wake => Message::PingReq(PingReq { client_id: &self.client_id }),
            Doing::Ping => Message::PingReq(PingReq { client_id: "" }),
            Doing::Sleep { .. } | Doing::Rest => unreachable!("nothing is asked for then"),
        })
    }

    /// Handles a message; gives what to answer. A radio that is off hears nothing.
    pub fn handle(&mut self, now: Instant, octets: &[u8]) -> Option<Vec<u8>> {
        if self.is_asleep() {
            return None;
        }
        self.heard_at = now;
        let message = Message::decode(octets).expect("the gateway keeps to the protocol");
        let expected = self.current.map(|(_, msg_id, ..)| msg_id);
        match (self.doing, message) {
            (_, Message::Register(register)) => {
                self.names.insert(register.topic_id, register.topic.to_owned());
                let (topic_id, msg_id) = (register.topic_id, register.msg_id);
                return Some(encode(&Message::RegAck(RegAck { topic_id, msg_id, code: ReturnCode::ACCEPTED })));
            }
            (_, Message::Publish(publish)) => return Some(self.on_publish(now, &publish)),
            (_, Message::PubRel(msg_id)) => {
                if self.receipts.remove(&msg_id) {
                    self.released = Some((msg_id, now));
                }
                return Some(encode(&Message::PubComp(msg_id)));
            }
            (Doing::Connect, Message::ConnAck(ack)) if ack.code.is_accepted() => self.begin(Doing::Rest),
            (Doing::Subscribe, Message::SubAck(ack)) if ack.code.is_accepted() => {
                self.subscribed = true;
                if ack.topic_id != TopicId::NONE {
                    self.names.insert(ack.topic_id, self.listens.clone());
                }
                self.begin(Doing::Rest);
            }
            (Doing::Register, Message::RegAck(ack)) if ack.code.is_accepted() => {
                self.registered = Some(ack.topic_id);
                self.begin(Doing::Rest);
            }
            (Doing::Publish, Message::PubAck(ack)) if Some(ack.msg_id) == expected => self.on_puback(ack),
            (Doing::Publish, Message::PubRec(msg_id)) if Some(msg_id) == expected => {
                self.acked.extend(self.current.map(|(id, ..)| id));
                self.current = self.current.map(|(id, msg_id, sent, _)| (id, msg_id, sent, true));
                self.begin(Doing::Release);
            }
            (Doing::Release, Message::PubComp(msg_id)) if Some(msg_id) == expected => {
                self.current = None;
                self.begin(Doing::Rest);
            }
            (Doing::FallAsleep, Message::Disconnect(_)) | (Doing::Wake, Message::PingResp) => {
                self.sleeps += 1;
                self.begin(Doing::Sleep { until: now + Duration::from_secs(u64::from(SLEEP)) });
            }
            (Doing::Ping, Message::PingResp) => self.begin(Doing::Rest),
            // "Connect again."
            (_, Message::Disconnect(_)) => self.begin(Doing::Connect),
            // Late copies of answers that were waited for once.
            _ => {}
        }
        self.poll(now)
    }

    fn on_puback(&mut self, ack: PubAck) {
        if ack.code.is_accepted() {
            if self.qos == QoS::AtLeastOnce {
                self.acked.extend(self.current.take().map(|(id, ..)| id));
                self.begin(Doing::Rest);
            }
            return;
        }
        if ack.code == ReturnCode::INVALID_TOPIC_ID {
            self.registered = None;
        }
        // Congestion, or an id that is not known any more: the same message a little later.
        self.begin(Doing::Rest);
    }

    fn on_publish(&mut self, now: Instant, publish: &Publish<'_>) -> Vec<u8> {
        let PublishQos::Level(qos) = publish.qos else { panic!("QoS -1 from a gateway") };
        let Topic::Id(topic_id) = publish.topic else { panic!("{:?} was not subscribed to", publish.topic) };
        let (msg_id, id) = (publish.msg_id, parse(publish.payload));
        let puback = |code| encode(&Message::PubAck(PubAck { topic_id, msg_id, code }));
        let Some(name) = self.names.get(&topic_id) else { return puback(ReturnCode::INVALID_TOPIC_ID) };
        assert_eq!(*name, format!("up/{}", id.0), "mote {}: a topic id means another topic", self.number);
        if qos == QoS::AtLeastOnce {
            self.received.push((id, qos));
            return puback(ReturnCode::ACCEPTED);
        }
        // The air made a copy, and it was longer on its way than PUBREC and PUBREL: nothing in it tells it from a new message
        // under the same id, of which the gateway has thousands before this one comes round.
        let is_late_copy = self.released.is_some_and(|(last, at)| last == msg_id && now.since(at) < LONGEST_WAY);
        if !is_late_copy && self.receipts.insert(msg_id) {
            self.received.push((id, qos));
        }
        encode(&Message::PubRec(msg_id))
    }
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).expect("it fits");
    out
}
