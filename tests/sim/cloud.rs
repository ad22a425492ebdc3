//! The simulated cloud broker: keeps its side of MQTT to the letter, also across lost connections, and writes down
//! what it was given.

use std::collections::BTreeMap;

use moteway::mqtt::{
    ConnAck, Packet, PacketType, PubAck, PubComp, PubRec, PubRel, Publish, PublishProperties, QoS, ReasonCode,
    SubAck, Version, frame,
};

use crate::client::{MessageId, parse, payload};

#[derive(Debug, Default)]
pub struct Cloud {
    version: Option<Version>,
    session: bool,
    /// Inbound QoS 2 that is not released, with the message where it is passed on at PUBREL only.
    receipts: BTreeMap<u16, Option<Arrival>>,
    /// MQTT 3.1.1, figure 4.3, method A: what came with QoS 2 is passed on at PUBREL, and until then is the session's.
    passes_on_late: bool,
    partial: Vec<u8>,
    /// What came, in order: topic, message, QoS.
    pub received: Vec<Arrival>,
    /// How often it lost its session.
    pub forgotten: u32,
    /// The gateway came back to find that, and may not have told its disk yet.
    pub begun_anew: bool,
    pub status: Vec<String>,
    subscribed: bool,
    commands: u64,
    next_pkid: u16,
    /// Commands sent and not yet acknowledged: packet id, message, PUBREC came.
    unacked: Vec<(u16, MessageId, bool)>,
    /// What the gateway acknowledged to the cloud.
    pub acked: Vec<MessageId>,
}

/// Topic, message, QoS.
type Arrival = (String, MessageId, QoS);

/// The publisher's number of the cloud's own messages.
pub const CLOUD: u32 = 900;

impl Cloud {
    pub fn new(passes_on_late: bool) -> Self {
        Self { passes_on_late, ..Self::default() }
    }

    /// It starts anew without what it knew of the gateway's session.
    pub fn forget(&mut self) {
        self.session = false;
        self.receipts.clear();
        self.unacked.clear();
        self.forgotten += 1;
    }

    /// Somebody had a session under the gateway's client id before, with these identifiers in it.
    pub fn had_a_session(&mut self, pkids: std::ops::Range<u16>) {
        self.session = true;
        self.receipts.extend(pkids.map(|pkid| (pkid, None)));
    }

    pub fn lost(&mut self) {
        self.partial.clear();
        self.version = None;
        self.subscribed = false;
    }

    pub fn unacked(&self) -> usize {
        self.unacked.len()
    }

    /// Sends a command down to the gateway, QoS 1 and 2 in turn.
    pub fn command(&mut self, out: &mut Vec<u8>) {
        let Some(version) = self.version.filter(|_| self.subscribed && self.unacked.len() < 5) else { return };
        self.commands += 1;
        self.next_pkid = self.next_pkid % 100 + 1;
        if self.unacked.iter().any(|(pkid, ..)| *pkid == self.next_pkid) {
            return;
        }
        let id = (CLOUD, self.commands);
        self.unacked.push((self.next_pkid, id, false));
        send_command(version, self.next_pkid, id, false, out);
    }

    pub fn handle(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.partial.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.partial);
        let mut used = 0;
        while let Some(frame) = frame(&buffer[used..], u32::MAX).expect("the bridge keeps to the protocol") {
            used += frame.raw.len();
            if frame.packet_type() == Some(PacketType::Connect) {
                self.connect(&Packet::decode(Version::V5, &frame).expect("a good CONNECT"), out);
                continue;
            }
            let version = self.version.expect("CONNECT comes first");
            let packet = Packet::decode(version, &frame).expect("the bridge keeps to the protocol");
            self.handle_packet(version, packet, out);
        }
        self.partial = buffer[used..].to_vec();
    }

    fn connect(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        let Packet::Connect(connect) = packet else { unreachable!() };
        if connect.clean_start {
            self.session = false;
            self.receipts.clear();
        }
        self.version = Some(connect.version);
        self.begun_anew |= !self.session && self.forgotten > 0;
        let ack = ConnAck { session_present: self.session, ..ConnAck::default() };
        Packet::ConnAck(ack).encode(connect.version, out);
        self.session = true;
        for (pkid, id, released) in self.unacked.clone() {
            if released {
                Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)).encode(connect.version, out);
            } else {
                send_command(connect.version, pkid, id, true, out);
            }
        }
    }

    fn handle_packet(&mut self, version: Version, packet: Packet<'_>, out: &mut Vec<u8>) {
        match packet {
            Packet::Publish(publish) => self.publish(version, &publish, out),
            Packet::PubRel(rel) => {
                self.received.extend(self.receipts.remove(&rel.pkid).flatten());
                Packet::PubComp(PubComp::new(rel.pkid, ReasonCode::Success)).encode(version, out);
            }
            // Refused with a reason: told, not promised.
            Packet::PubAck(ack) => self.settle(ack.pkid, !ack.reason.is_error()),
            Packet::PubRec(rec) if rec.reason.is_error() => self.settle(rec.pkid, false),
            Packet::PubRec(rec) => {
                if let Some(entry) = self.unacked.iter_mut().find(|(pkid, ..)| *pkid == rec.pkid) {
                    if !entry.2 {
                        self.acked.push(entry.1);
                    }
                    entry.2 = true;
                }
                Packet::PubRel(PubRel::new(rec.pkid, ReasonCode::Success)).encode(version, out);
            }
            Packet::PubComp(comp) => self.settle(comp.pkid, false),
            Packet::Subscribe(subscribe) => {
                self.subscribed = true;
                let codes: Vec<u8> = subscribe.filters.into_iter().map(|s| s.options.qos.as_u8()).collect();
                let ack = SubAck { pkid: subscribe.pkid, properties: Default::default(), codes: &codes };
                Packet::SubAck(ack).encode(version, out);
            }
            Packet::PingReq => Packet::PingResp.encode(version, out),
            Packet::Disconnect(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn settle(&mut self, pkid: u16, acked: bool) {
        if let Some(index) = self.unacked.iter().position(|(id, ..)| *id == pkid) {
            let (_, id, _) = self.unacked.remove(index);
            if acked {
                self.acked.push(id);
            }
        }
    }

    fn publish(&mut self, version: Version, publish: &Publish<'_>, out: &mut Vec<u8>) {
        if publish.topic.starts_with("status/") {
            self.status.push(String::from_utf8_lossy(publish.payload).into_owned());
        } else {
            let arrival = (publish.topic.to_owned(), parse(publish.payload), publish.qos);
            match publish.qos {
                QoS::ExactlyOnce if self.receipts.contains_key(&publish.pkid) => {}
                QoS::ExactlyOnce if self.passes_on_late => {
                    self.receipts.insert(publish.pkid, Some(arrival));
                }
                QoS::ExactlyOnce => {
                    self.receipts.insert(publish.pkid, None);
                    self.received.push(arrival);
                }
                _ => self.received.push(arrival),
            }
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                Packet::PubAck(PubAck::new(publish.pkid, ReasonCode::Success)).encode(version, out);
            }
            QoS::ExactlyOnce => {
                Packet::PubRec(PubRec::new(publish.pkid, ReasonCode::Success)).encode(version, out);
            }
        }
    }
}

fn send_command(version: Version, pkid: u16, id: MessageId, dup: bool, out: &mut Vec<u8>) {
    let qos = if id.1.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
    Publish {
        dup,
        qos,
        retain: false,
        topic: "fleet/box/command",
        pkid,
        properties: PublishProperties::default(),
        payload: payload(id).as_bytes(),
    }
    .encode(version, out);
}
