//! One connection as its peer sees it: what it sent, what it got, and what may be in there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use moteway::mqtt::{Connect, MAX_PACKET, Packet, PacketType, Publish, QoS, Version, frame, topic};

use crate::targets::engine::wire::Owed;

/// Who is at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    Client,
    Upstream(Version),
}

#[derive(Debug)]
pub struct Pipe {
    pub far: Far,
    /// Takes bytes only when the input says so.
    pub is_slow: bool,
    /// What the engine speaks here; known once the first packet is there.
    version: Option<Version>,
    /// Unfinished packets, to the engine and from it.
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Questions that were asked, by the type of their answer.
    asked: BTreeMap<(PacketType, u16), u32>,
    pub owed: VecDeque<Owed>,
    inflight: BTreeSet<u16>,
    receive_maximum: usize,
    max_packet: u32,
    /// Topic aliases that the peer takes, and what they stand for.
    max_alias: u16,
    aliases: BTreeMap<u16, String>,
    is_first: bool,
    /// Nothing may follow.
    is_over: bool,
    pub refused: bool,
}

impl Pipe {
    pub fn new(far: Far, is_slow: bool) -> Self {
        Self {
            far,
            is_slow,
            version: if let Far::Upstream(version) = far { Some(version) } else { None },
            sent: Vec::new(),
            received: Vec::new(),
            asked: BTreeMap::new(),
            owed: VecDeque::new(),
            inflight: BTreeSet::new(),
            receive_maximum: usize::from(u16::MAX),
            max_packet: MAX_PACKET,
            max_alias: 0,
            aliases: BTreeMap::new(),
            is_first: true,
            is_over: false,
            refused: false,
        }
    }

    pub fn version(&self) -> Version {
        self.version.unwrap_or(Version::V311)
    }

    /// Looks at what is sent to the engine, packet by packet as far as it is any, before it is sent.
    pub fn watch_sent(&mut self, bytes: &[u8], max_packet: u32) {
        self.sent.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.sent);
        let mut rest = buffer.as_slice();
        while let Ok(Some(frame)) = frame(rest, max_packet) {
            rest = &rest[frame.raw.len()..];
            if self.far == Far::Client && self.version.is_none() {
                self.version = Some(Connect::peek_version(&frame).unwrap_or(Version::V311));
            }
            if let Ok(packet) = Packet::decode(self.version(), &frame) {
                self.ask(&packet);
            }
        }
        self.sent = rest.to_vec();
    }

    fn ask(&mut self, packet: &Packet<'_>) {
        let answer = match packet {
            Packet::Connect(connect) => {
                self.receive_maximum = usize::from(connect.properties.receive_maximum.unwrap_or(u16::MAX));
                self.max_packet = connect.properties.maximum_packet_size.unwrap_or(MAX_PACKET);
                self.max_alias = connect.properties.topic_alias_maximum.unwrap_or(0);
                return;
            }
            Packet::Publish(publish) => match publish.qos {
                QoS::AtMostOnce => return,
                QoS::AtLeastOnce => (PacketType::PubAck, publish.pkid),
                QoS::ExactlyOnce => (PacketType::PubRec, publish.pkid),
            },
            Packet::Subscribe(subscribe) => (PacketType::SubAck, subscribe.pkid),
            Packet::Unsubscribe(unsubscribe) => (PacketType::UnsubAck, unsubscribe.pkid),
            Packet::PingReq => (PacketType::PingResp, 0),
            Packet::PubRel(rel) => (PacketType::PubComp, rel.pkid),
            Packet::PubRec(rec) => (PacketType::PubRel, rec.pkid),
            Packet::PubAck(ack) => {
                self.inflight.remove(&ack.pkid);
                return;
            }
            Packet::PubComp(comp) => {
                self.inflight.remove(&comp.pkid);
                return;
            }
            _ => return,
        };
        if let (Packet::PubRec(rec), true) = (packet, self.version() == Version::V5)
            && rec.reason.is_error()
        {
            self.inflight.remove(&rec.pkid);
        }
        *self.asked.entry(answer).or_default() += 1;
    }

    /// Reads what the engine sent: whole packets of the version that was agreed on, answers only to questions.
    pub fn receive(&mut self, bytes: &[u8]) {
        assert!(bytes.is_empty() || !self.is_over, "something follows the last packet: {bytes:?}");
        self.received.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.received);
        let mut rest = buffer.as_slice();
        while let Some(frame) = frame(rest, MAX_PACKET).expect("the engine sends packets") {
            rest = &rest[frame.raw.len()..];
            let packet = Packet::decode(self.version(), &frame).unwrap_or_else(|error| {
                panic!("the engine sent {:?} on {:?}: {error:?}", frame.raw, self.version())
            });
            assert!(!self.is_over, "{packet:?} follows the last packet");
            assert!(
                frame.raw.len() <= self.max_packet as usize || self.is_first,
                "larger than the peer takes: {packet:?}"
            );
            self.take(&packet);
            self.is_first = false;
        }
        self.received = rest.to_vec();
    }

    /// Nothing more comes: what was sent is whole. Only an upstream that fell silent is left in the middle of a packet.
    pub fn end(&self) {
        let is_whole = self.received.is_empty() || self.far != Far::Client;
        assert!(is_whole, "half a packet was sent before the connection was closed");
    }

    fn take(&mut self, packet: &Packet<'_>) {
        let is_client = self.far == Far::Client;
        let opening = if is_client { PacketType::ConnAck } else { PacketType::Connect };
        assert_eq!(self.is_first, packet.packet_type() == opening, "{packet:?} in the wrong place");
        match packet {
            Packet::ConnAck(ack) => (self.refused, self.is_over) = (ack.reason.is_error(), ack.reason.is_error()),
            Packet::Publish(publish) => {
                self.take_topic(publish);
                if publish.qos > QoS::AtMostOnce {
                    assert!(self.inflight.insert(publish.pkid), "{} is in flight already", publish.pkid);
                    assert!(self.inflight.len() <= self.receive_maximum, "more than Receive Maximum");
                    let exactly = publish.qos == QoS::ExactlyOnce;
                    self.owe(if exactly { Owed::PubRec(publish.pkid) } else { Owed::PubAck(publish.pkid) });
                }
            }
            Packet::PubAck(ack) => self.answered(PacketType::PubAck, ack.pkid),
            Packet::PubRec(rec) => {
                self.answered(PacketType::PubRec, rec.pkid);
                if !rec.reason.is_error() {
                    self.owe(Owed::PubRel(rec.pkid));
                }
            }
            // One of a resumed session has no question before it.
            Packet::PubRel(rel) => self.owe(Owed::PubComp(rel.pkid)),
            Packet::PubComp(comp) => self.answered(PacketType::PubComp, comp.pkid),
            Packet::SubAck(ack) => self.answered(PacketType::SubAck, ack.pkid),
            Packet::UnsubAck(ack) => self.answered(PacketType::UnsubAck, ack.pkid),
            Packet::PingResp => self.answered(PacketType::PingResp, 0),
            Packet::Disconnect(_) => self.is_over = true,
            // The bridge asks.
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq if !is_client => {}
            other => panic!("{other:?} came to {:?}", self.far),
        }
    }

    /// A topic name, or an alias of one that was said before [MQTT-3.3.2-8].
    fn take_topic(&mut self, publish: &Publish<'_>) {
        let Some(alias) = publish.properties.topic_alias else {
            assert!(topic::check_name(publish.topic).is_ok(), "{publish:?}");
            return;
        };
        // An upstream says how many it takes in CONNACK, and none does here.
        assert!((1..=self.max_alias).contains(&alias), "alias {alias} of {}", self.max_alias);
        if publish.topic.is_empty() {
            assert!(self.aliases.contains_key(&alias), "alias {alias} stands for nothing");
        } else {
            assert!(topic::check_name(publish.topic).is_ok(), "{publish:?}");
            self.aliases.insert(alias, publish.topic.to_owned());
        }
    }

    fn owe(&mut self, owed: Owed) {
        const MOST: usize = 64;
        self.owed.push_back(owed);
        if self.owed.len() > MOST {
            self.owed.pop_front();
        }
    }

    fn answered(&mut self, kind: PacketType, pkid: u16) {
        if self.far != Far::Client {
            // The bridge answers what is too large for it as soon as it can read the identifier.
            return;
        }
        let waiting = self.asked.get_mut(&(kind, pkid)).filter(|count| **count > 0);
        let waiting = waiting.unwrap_or_else(|| panic!("{kind:?} {pkid} answers nothing"));
        *waiting -= 1;
    }
}
