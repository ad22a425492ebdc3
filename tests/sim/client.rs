//! A simulated MQTT 3.1.1 client that keeps its session: publishes numbered messages, sends again what was not
//! acknowledged, and writes down what it was promised and what it got.

use std::collections::{BTreeSet, VecDeque};

use moteway::mqtt::{
    Connect, Packet, PubAck, PubComp, PubRec, PubRel, Publish, PublishProperties, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Subscription, Version, Will, WillProperties, frame,
};

/// What a message is known by: who published it, and its number there.
pub type MessageId = (u32, u64);

pub fn payload(id: MessageId) -> String {
    format!("{}:{}", id.0, id.1)
}

pub fn parse(payload: &[u8]) -> MessageId {
    let text = std::str::from_utf8(payload).expect("payloads of the simulation are text");
    let (publisher, number) = text.split_once(':').expect("publisher:number");
    (publisher.parse().unwrap(), number.parse().unwrap())
}

/// How many messages a dawdler takes before it acknowledges the first of them.
const DAWDLE: usize = 100;

#[derive(Debug, Clone)]
struct Outgoing {
    pkid: u16,
    id: MessageId,
    qos: QoS,
    /// PUBREC came: PUBREL is repeated instead.
    released: bool,
}

/// One client and what it remembers while it is not connected.
#[derive(Debug)]
pub struct Client {
    pub number: u32,
    pub topic: String,
    pub subscribes: Option<&'static str>,
    pub qos: QoS,
    pub connected: bool,
    pub ready: bool,
    next_message: u64,
    next_pkid: u16,
    unacked: VecDeque<Outgoing>,
    /// Inbound QoS 2 identifiers not yet released.
    receipts: BTreeSet<u16>,
    partial: Vec<u8>,
    /// What the gateway acknowledged.
    pub acked: Vec<MessageId>,
    /// What came, in order, with its QoS.
    pub received: Vec<(MessageId, QoS)>,
    pub subscribed: bool,
    /// Publishes nothing for now.
    pub hold: bool,
    window: usize,
    /// Ends its session now and then, and comes back with a new one.
    pub leaves: bool,
    /// Connects for no other reason than to end its session.
    pub leaving: bool,
    /// Leaves one message without an answer until so many others came.
    pub dawdles: bool,
    withheld: Option<(u16, usize)>,
    /// It was told that its last session is no more, and has not begun another.
    pub ended: bool,
    /// The next CONNACK must not tell of a session.
    must_be_new: bool,
    /// It did: the session that was ended came back.
    pub got_back: bool,
    /// Comes with a will each time, on this topic, and its session ends with its connection.
    will: Option<&'static str>,
}

impl Client {
    pub fn new(number: u32, topic: String, qos: QoS, window: usize) -> Self {
        Self {
            number,
            topic,
            subscribes: None,
            qos,
            connected: false,
            ready: false,
            next_message: 0,
            next_pkid: 0,
            unacked: VecDeque::new(),
            receipts: BTreeSet::new(),
            partial: Vec::new(),
            acked: Vec::new(),
            received: Vec::new(),
            subscribed: false,
            hold: false,
            window,
            leaves: false,
            leaving: false,
            dawdles: false,
            withheld: None,
            ended: false,
            must_be_new: false,
            got_back: false,
            will: None,
        }
    }

    /// A client that does nothing but leave a will when it is cut off: that is what it was promised.
    pub fn mortal(number: u32, topic: &'static str) -> Self {
        let mut client = Self::new(number, topic.into(), QoS::AtLeastOnce, 0);
        client.will = Some(topic);
        client
    }

    pub fn subscriber(number: u32, filter: &'static str, qos: QoS) -> Self {
        let mut client = Self::new(number, String::new(), qos, 0);
        client.subscribes = Some(filter);
        client
    }

    /// A subscriber that acknowledges out of turn.
    pub fn dawdler(number: u32, filter: &'static str) -> Self {
        let mut client = Self::subscriber(number, filter, QoS::AtLeastOnce);
        client.dawdles = true;
        client
    }

    /// A subscriber that leaves for good now and then.
    pub fn leaver(number: u32, filter: &'static str, qos: QoS) -> Self {
        let mut client = Self::subscriber(number, filter, qos);
        client.leaves = true;
        client
    }

    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    pub fn published(&self) -> u64 {
        self.next_message
    }

    pub fn connect(&mut self, out: &mut Vec<u8>) {
        self.connected = true;
        self.ready = false;
        self.partial.clear();
        self.must_be_new = !self.leaving && std::mem::take(&mut self.ended);
        self.next_message += u64::from(self.will.is_some());
        let last_words = payload((self.number, self.next_message));
        let will = self.will.map(|topic| Will {
            topic,
            payload: last_words.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: WillProperties::default(),
        });
        Connect {
            version: Version::V311,
            clean_start: self.leaving || self.will.is_some(),
            keep_alive: 0,
            client_id: &format!("client-{}", self.number),
            will,
            username: None,
            password: None,
            properties: Default::default(),
        }
        .encode(out);
    }

    pub fn lost(&mut self) {
        if self.ready && self.will.is_some() {
            self.acked.push((self.number, self.next_message));
        }
        self.connected = false;
        self.ready = false;
        self.subscribed = false;
        self.withheld = None;
    }

    /// Publishes one more message if the window has room.
    pub fn publish(&mut self, out: &mut Vec<u8>) {
        if self.hold || !self.ready || self.unacked.len() >= self.window {
            return;
        }
        self.next_message += 1;
        loop {
            self.next_pkid = self.next_pkid % 500 + 1;
            if self.unacked.iter().all(|o| o.pkid != self.next_pkid) {
                break;
            }
        }
        let outgoing =
            Outgoing { pkid: self.next_pkid, id: (self.number, self.next_message), qos: self.qos, released: false };
        self.send(&outgoing, false, out);
        self.unacked.push_back(outgoing);
    }

    fn send(&self, outgoing: &Outgoing, dup: bool, out: &mut Vec<u8>) {
        Publish {
            dup,
            qos: outgoing.qos,
            retain: false,
            topic: &self.topic,
            pkid: outgoing.pkid,
            properties: PublishProperties::default(),
            payload: payload(outgoing.id).as_bytes(),
        }
        .encode(Version::V311, out);
    }

    /// Handles bytes from the gateway; answers go to `out`.
    pub fn handle(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.partial);
        let mut used = 0;
        while let Some(frame) = frame(&buffer[used..], u32::MAX).expect("the gateway keeps to the protocol") {
            used += frame.raw.len();
            let packet = Packet::decode(Version::V311, &frame).expect("the gateway keeps to the protocol");
            self.handle_packet(packet, out);
        }
        self.partial = buffer[used..].to_vec();
    }

    fn handle_packet(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) {
        match packet {
            Packet::ConnAck(ack) => {
                assert_eq!(ack.reason, ReasonCode::Success);
                self.ready = true;
                self.got_back |= self.must_be_new && ack.session_present;
                self.ended = self.leaving;
                if !ack.session_present {
                    self.receipts.clear();
                }
                if !self.leaving {
                    self.resume(out);
                }
            }
            Packet::SubAck(_) => self.subscribed = true,
            Packet::PubAck(ack) => self.settle(ack.pkid, false),
            Packet::PubRec(rec) => {
                if let Some(outgoing) = self.unacked.iter_mut().find(|o| o.pkid == rec.pkid) {
                    if !outgoing.released {
                        self.acked.push(outgoing.id);
                    }
                    outgoing.released = true;
                }
                Packet::PubRel(PubRel::new(rec.pkid, ReasonCode::Success)).encode(Version::V311, out);
            }
            Packet::PubComp(comp) => self.settle(comp.pkid, true),
            Packet::Publish(publish) => self.receive(&publish, out),
            Packet::PubRel(rel) => {
                self.receipts.remove(&rel.pkid);
                Packet::PubComp(PubComp::new(rel.pkid, ReasonCode::Success)).encode(Version::V311, out);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn resume(&mut self, out: &mut Vec<u8>) {
        for outgoing in self.unacked.clone() {
            if outgoing.released {
                Packet::PubRel(PubRel::new(outgoing.pkid, ReasonCode::Success)).encode(Version::V311, out);
            } else {
                self.send(&outgoing, true, out);
            }
        }
        if let Some(filter) = self.subscribes {
            let options = SubscribeOptions { qos: self.qos, ..SubscribeOptions::default() };
            let filters = [Subscription { filter, options }];
            let subscribe =
                Subscribe { pkid: 65_000, properties: Default::default(), filters: filters.as_slice().into() };
            subscribe.encode(Version::V311, out);
        }
    }

    fn settle(&mut self, pkid: u16, exactly_once: bool) {
        if let Some(index) = self.unacked.iter().position(|o| o.pkid == pkid) {
            let outgoing = self.unacked.remove(index).expect("just found");
            if !exactly_once {
                self.acked.push(outgoing.id);
            }
        }
    }

    fn receive(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) {
        let id = parse(publish.payload);
        match publish.qos {
            QoS::AtMostOnce => self.received.push((id, publish.qos)),
            QoS::AtLeastOnce => {
                self.received.push((id, publish.qos));
                if self.dawdles && self.withheld.is_none() {
                    self.withheld = Some((publish.pkid, self.received.len() + DAWDLE));
                    return;
                }
                Packet::PubAck(PubAck::new(publish.pkid, ReasonCode::Success)).encode(Version::V311, out);
                if let Some((pkid, until)) = self.withheld
                    && self.received.len() >= until
                {
                    self.withheld = None;
                    Packet::PubAck(PubAck::new(pkid, ReasonCode::Success)).encode(Version::V311, out);
                }
            }
            QoS::ExactlyOnce => {
                if self.receipts.insert(publish.pkid) {
                    self.received.push((id, publish.qos));
                }
                Packet::PubRec(PubRec::new(publish.pkid, ReasonCode::Success)).encode(Version::V311, out);
            }
        }
    }
}
