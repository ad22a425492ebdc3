//! One client behind a bad radio, with sleeps, restarts of the gateway and a slow store: what both sides keep is
//! exactly once for QoS 2, at least once for QoS 1, and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

const PORT: u16 = 1;
const UP: u16 = 40;

/// What the client waits for, and sends again until it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Connect,
    Subscribe,
    Register,
    Publish,
    Release,
    FallAsleep,
    Sleep,
    Wake,
    Rest,
}

#[derive(Debug)]
struct Node {
    doing: Doing,
    sent_at: Instant,
    /// The same request was sent before.
    again: bool,
    subscribed: bool,
    up_id: Option<u16>,
    /// Number of the message to publish.
    next_up: u16,
    names: BTreeMap<u16, String>,
    /// QoS 2 ids between PUBLISH and PUBREL.
    received: BTreeSet<u16>,
    heard: Vec<(QoS, String)>,
}

/// Message ids are the numbers, the QoS alternates.
fn up_qos(number: u16) -> QoS {
    if number.is_multiple_of(2) { Q1 } else { Q2 }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            doing: Doing::Connect,
            sent_at: now,
            again: false,
            subscribed: false,
            up_id: None,
            next_up: 1,
            names: BTreeMap::new(),
            received: BTreeSet::new(),
            heard: Vec::new(),
        }
    }

    fn begin(&mut self, now: Instant, doing: Doing) {
        (self.doing, self.sent_at, self.again) = (doing, now, false);
    }

    fn go_on(&mut self, now: Instant) {
        let doing = match self {
            Self { subscribed: false, .. } => Doing::Subscribe,
            Self { up_id: None, .. } => Doing::Register,
            Self { next_up, .. } if *next_up <= UP => Doing::Publish,
            _ => Doing::Rest,
        };
        self.begin(now, doing);
    }

    fn request(&self, out: &mut Vec<u8>) {
        let payload = self.next_up.to_string();
        let message = match self.doing {
            Doing::Connect => connect("node", false),
            Doing::Subscribe => subscribe("down/+", Q2, 1000),
            Doing::Register => register("up", 1001),
            Doing::Publish => {
                let (qos, id) = (up_qos(self.next_up), self.up_id.unwrap_or_default());
                publish_as(PublishQos::Level(qos), Topic::Id(TopicId(id)), self.next_up, &payload, self.again)
            }
            Doing::Release => Message::PubRel(MsgId(self.next_up)),
            Doing::FallAsleep => sleep(300),
            Doing::Sleep => return,
            Doing::Wake => ping("node"),
            Doing::Rest => ping(""),
        };
        message.encode(out).unwrap();
    }

    fn hear(&mut self, now: Instant, bytes: &[u8]) -> Option<Message<'static>> {
        if self.doing == Doing::Sleep {
            return None;
        }
        match decode_datagram(bytes).unwrap().1 {
            Message::ConnAck(_) if self.doing == Doing::Connect => self.go_on(now),
            Message::SubAck(_) if self.doing == Doing::Subscribe => {
                self.subscribed = true;
                self.go_on(now);
            }
            Message::RegAck(ack) if self.doing == Doing::Register && ack.code.is_accepted() => {
                self.up_id = Some(ack.topic_id.0);
                self.go_on(now);
            }
            Message::PubAck(ack) if self.doing == Doing::Publish && ack.msg_id.0 == self.next_up => {
                match ack.code {
                    ReturnCode::ACCEPTED => self.next_up += 1,
                    ReturnCode::INVALID_TOPIC_ID => self.up_id = None,
                    _ => return None,
                }
                self.go_on(now);
            }
            Message::PubRec(msg_id) if self.doing == Doing::Publish && msg_id.0 == self.next_up => {
                self.begin(now, Doing::Release);
            }
            Message::PubComp(msg_id) if self.doing == Doing::Release && msg_id.0 == self.next_up => {
                self.next_up += 1;
                self.go_on(now);
            }
            Message::Disconnect(_) if self.doing == Doing::FallAsleep => self.begin(now, Doing::Sleep),
            Message::Disconnect(_) => self.begin(now, Doing::Connect),
            Message::PingResp if self.doing == Doing::Wake => self.begin(now, Doing::Connect),
            Message::Register(told) => {
                self.names.insert(told.topic_id.0, told.topic.to_owned());
                return Some(regack(told.topic_id.0, told.msg_id.0, ACCEPTED));
            }
            Message::Publish(sent) => return self.hear_publish(&sent),
            Message::PubRel(msg_id) => {
                self.received.remove(&msg_id.0);
                return Some(Message::PubComp(msg_id));
            }
            _ => {}
        }
        None
    }

    fn hear_publish(&mut self, sent: &Publish<'_>) -> Option<Message<'static>> {
        let id = sent.topic.wire_id().0;
        let PublishQos::Level(qos) = sent.qos else { panic!("QoS -1 to a client") };
        if !self.names.contains_key(&id) {
            return Some(puback(id, sent.msg_id.0, INVALID));
        }
        let payload = String::from_utf8(sent.payload.to_vec()).unwrap();
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => {
                self.heard.push((qos, payload));
                Some(puback(id, sent.msg_id.0, ACCEPTED))
            }
            QoS::ExactlyOnce => {
                if self.received.insert(sent.msg_id.0) {
                    self.heard.push((qos, payload));
                }
                Some(Message::PubRec(sent.msg_id))
            }
        }
    }
}

/// A gateway, a node, and the air between them.
struct Air {
    world: World,
    node: Node,
    rng: Rng,
    bad: bool,
    to_node: VecDeque<Vec<u8>>,
}

impl Air {
    fn new(seed: u64) -> Self {
        let world = World::new();
        let node = Node::new(world.now.at);
        Self { world, node, rng: Rng::with_seed(seed), bad: true, to_node: VecDeque::new() }
    }

    /// How often the air carries this message.
    fn copies(&mut self) -> usize {
        if !self.bad {
            return 1;
        }
        match self.rng.u8(0..10) {
            0..=2 => 0,
            3 => 2,
            _ => 1,
        }
    }

    fn send_up(&mut self, bytes: &[u8]) {
        for _ in 0..self.copies() {
            self.world.raw(PORT, bytes);
        }
        self.carry();
    }

    /// Brings what the gateway sent to the node, and the node's answers back.
    fn carry(&mut self) {
        for (_, bytes) in std::mem::take(&mut self.world.sent) {
            for _ in 0..self.copies() {
                self.to_node.push_back(bytes.clone());
            }
        }
        while let Some(bytes) = self.to_node.pop_front() {
            let before = self.node.doing.clone();
            let answer = self.node.hear(self.world.now.at, &bytes);
            let mut out = Vec::new();
            if let Some(answer) = answer {
                answer.encode(&mut out).unwrap();
                self.send_up(&out);
            }
            if self.node.doing != before {
                let mut out = Vec::new();
                self.node.request(&mut out);
                self.send_up(&out);
            }
        }
    }

    /// One second.
    fn tick(&mut self) {
        self.world.pass(secs(1));
        if self.rng.u8(0..3) > 0 {
            self.world.settle();
        }
        self.carry();
        let (now, waited) = (self.world.now.at, self.world.now.at.since(self.node.sent_at));
        match self.node.doing {
            Doing::Sleep if waited >= secs(20) => self.node.begin(now, Doing::Wake),
            Doing::Publish | Doing::Rest if self.bad && self.rng.u8(0..40) == 0 => {
                self.node.begin(now, Doing::FallAsleep);
            }
            Doing::Sleep => return,
            _ if waited >= secs(5) => {
                self.node.sent_at = now;
                self.node.again = true;
            }
            _ => return,
        }
        if self.node.doing != Doing::Sleep {
            let mut out = Vec::new();
            self.node.request(&mut out);
            self.send_up(&out);
        }
    }
}

/// Each number once if it is to be exactly once, at least once otherwise, and first copies in order.
fn in_order(heard: impl Iterator<Item = (QoS, String)>, count: u16) -> Result<(), TestCaseError> {
    let mut highest = 0;
    for (qos, payload) in heard {
        let number: u16 = payload.parse().unwrap();
        if number <= highest {
            prop_assert_ne!(qos, Q2, "{} came twice", number);
            prop_assert_eq!(number, highest, "an old message came again");
        } else {
            prop_assert_eq!(number, highest + 1, "a message is missing or out of order");
            highest = number;
        }
    }
    prop_assert_eq!(highest, count, "not everything arrived");
    Ok(())
}

proptest! {
    #[test]
    fn what_is_acknowledged_arrives_in_order_and_as_often_as_its_qos_says(seed: u64, restarts: bool) {
        let mut air = Air::new(seed);
        let mut down = 0;
        for second in 0..600 {
            air.bad = second < 400;
            air.world.broker.hold = air.bad && air.rng.bool();
            if restarts && air.bad && air.rng.u8(0..60) == 0 {
                air.world.restart();
            }
            if air.node.subscribed && down < UP && air.rng.u8(0..4) == 0 {
                down += 1;
                air.world.publish("down/x", &down.to_string(), up_qos(down));
            }
            air.tick();
        }
        prop_assert_eq!(&air.node.doing, &Doing::Rest);
        let published = air.world.broker.published.iter();
        let arrived = published.map(|(_, _, payload)| String::from_utf8(payload.clone()).unwrap());
        in_order(arrived.map(|payload| (up_qos(payload.parse().unwrap()), payload)), UP)?;
        in_order(air.node.heard.iter().cloned(), down)?;
        prop_assert_eq!(air.world.broker.queued("node"), 0);
    }
}
