//! A blocking MQTT client that does what it is told and nothing else: no answer goes out by itself.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moteway::mqtt::{
    Connect, ConnectProperties, Disconnect, MAX_PACKET, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
    PublishProperties, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscribeProperties, Subscription,
    Unsubscribe, Version, frame,
};

use crate::harness::BOUND;

/// A client of 5.0 that leaves no session.
pub(crate) fn v5(client_id: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

/// A client of 3.1.1 that leaves no session.
pub(crate) fn v311(client_id: &str) -> Connect<'_> {
    Connect { version: Version::V311, ..v5(client_id) }
}

/// A client of 5.0 that resumes its session and leaves it for an hour.
pub(crate) fn v5_persistent(client_id: &str) -> Connect<'_> {
    let properties = ConnectProperties { session_expiry: Some(3600), ..Default::default() };
    Connect { clean_start: false, properties, ..v5(client_id) }
}

/// A client of 3.1.1 that resumes its session and leaves it.
pub(crate) fn v311_persistent(client_id: &str) -> Connect<'_> {
    Connect { clean_start: false, ..v311(client_id) }
}

/// A PUBLISH that says no more than it must. The client gives it its packet identifier.
pub(crate) fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> Publish<'a> {
    Publish { dup: false, qos, retain: false, topic, pkid: 0, properties: PublishProperties::default(), payload }
}

/// A packet with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    version: Version,
    bytes: Vec<u8>,
}

impl Received {
    pub(crate) fn packet(&self) -> Packet<'_> {
        let frame = frame(&self.bytes, MAX_PACKET).unwrap().unwrap();
        Packet::decode(self.version, &frame)
            .unwrap_or_else(|error| panic!("the broker sent {:02x?}: {error}", self.bytes))
    }
}

/// A PUBLISH that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) pkid: u16,
    pub(crate) message_expiry: Option<u32>,
    pub(crate) topic_alias: Option<u16>,
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation_data: Option<Vec<u8>>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) user_properties: Vec<(String, String)>,
}

impl From<Publish<'_>> for Delivery {
    fn from(publish: Publish<'_>) -> Self {
        let properties = publish.properties;
        let pairs = properties.user_properties.iter();
        Self {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            pkid: publish.pkid,
            message_expiry: properties.message_expiry,
            topic_alias: properties.topic_alias,
            content_type: properties.content_type.map(str::to_owned),
            response_topic: properties.response_topic.map(str::to_owned),
            correlation_data: properties.correlation_data.map(<[u8]>::to_vec),
            subscription_ids: properties.subscription_ids.iter().collect(),
            user_properties: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }
}

impl Delivery {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    /// Bytes read and not yet taken as packets.
    bytes: Vec<u8>,
    taken: usize,
    /// Messages that came while something else was waited for.
    inbox: VecDeque<Delivery>,
    last_pkid: u16,
    pub(crate) session_present: bool,
    pub(crate) connack: Option<Received>,
}

impl Client {
    /// Connects and says nothing.
    #[track_caller]
    pub(crate) fn dial(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::on(stream, version)
    }

    fn on(stream: TcpStream, version: Version) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        Self {
            stream,
            version,
            bytes: Vec::new(),
            taken: 0,
            inbox: VecDeque::new(),
            last_pkid: 0,
            session_present: false,
            connack: None,
        }
    }

    /// Connects and is let in.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr, connect: &Connect<'_>) -> Self {
        let mut client = Self::dial(address, connect.version);
        let reason = client.introduce(connect);
        assert_eq!(reason, ReasonCode::Success, "CONNECT of {:?}", connect.client_id);
        client
    }

    /// Sends CONNECT and takes CONNACK.
    #[track_caller]
    pub(crate) fn introduce(&mut self, connect: &Connect<'_>) -> ReasonCode {
        self.send(&Packet::Connect(*connect));
        let received = self.receive().expect("closed instead of CONNACK");
        let Packet::ConnAck(connack) = received.packet() else { panic!("{received:?} instead of CONNACK") };
        let reason = connack.reason;
        self.session_present = connack.session_present;
        self.connack = Some(received);
        reason
    }

    /// As [`Client::connect`], for a broker that may be away: `None` if it is.
    pub(crate) fn try_connect(address: SocketAddr, connect: &Connect<'_>) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        let mut client = Self::on(stream, connect.version);
        client.try_send(&Packet::Connect(*connect)).ok()?;
        let received = client.try_receive().ok()??;
        let Packet::ConnAck(connack) = received.packet() else { panic!("{received:?} instead of CONNACK") };
        if connack.reason != ReasonCode::Success {
            return None;
        }
        client.session_present = connack.session_present;
        client.connack = Some(received);
        Some(client)
    }

    pub(crate) fn set_read_timeout(&self, bound: Duration) {
        self.stream.set_read_timeout(Some(bound)).unwrap();
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        self.try_send(packet).unwrap();
    }

    pub(crate) fn try_send(&mut self, packet: &Packet<'_>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.stream.write_all(&bytes)
    }

    /// Sends bytes that may be anything.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next packet; `None` when the connection is closed.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Option<Received> {
        match self.try_receive() {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => None,
            Err(error) => panic!("nothing came within {BOUND:?}: {error}"),
        }
    }

    /// The next packet; `None` when the connection is closed in order.
    pub(crate) fn try_receive(&mut self) -> std::io::Result<Option<Received>> {
        loop {
            if let Some(found) = frame(&self.bytes[self.taken..], MAX_PACKET).unwrap() {
                let bytes = found.raw.to_vec();
                self.taken += bytes.len();
                return Ok(Some(Received { version: self.version, bytes }));
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            let mut piece = [0; 64 * 1024];
            match self.stream.read(&mut piece)? {
                0 => return Ok(None),
                len => self.bytes.extend_from_slice(&piece[..len]),
            }
        }
    }

    /// Reads until a packet that `wanted` takes. Messages in between are kept, anything else is a failure.
    #[track_caller]
    fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&Packet<'_>) -> Option<T>) -> T {
        loop {
            let received = self.receive().unwrap_or_else(|| panic!("closed instead of {what}"));
            let packet = received.packet();
            if let Some(found) = wanted(&packet) {
                return found;
            }
            match packet {
                Packet::Publish(publish) => self.inbox.push_back(publish.into()),
                packet => panic!("{packet:?} instead of {what}"),
            }
        }
    }

    pub(crate) fn next_pkid(&mut self) -> u16 {
        self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
        self.last_pkid
    }

    /// Publishes and goes through the whole handshake. What a QoS 0 message gets is Success.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) -> ReasonCode {
        self.publish_packet(&message(topic, payload.as_ref(), qos))
    }

    /// Publishes and goes through the whole handshake.
    #[track_caller]
    pub(crate) fn publish_packet(&mut self, publish: &Publish<'_>) -> ReasonCode {
        let pkid = self.post(publish);
        match publish.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => self.puback(pkid),
            QoS::ExactlyOnce => {
                let reason = self.pubrec(pkid);
                if !reason.is_error() {
                    self.send(&Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)));
                    self.pubcomp(pkid);
                }
                reason
            }
        }
    }

    /// Publishes one message for each number, with the number as its text.
    #[track_caller]
    pub(crate) fn publish_numbers(&mut self, topic: &str, numbers: impl Iterator<Item = u32>, qos: QoS) {
        for number in numbers {
            let reason = self.publish(topic, number.to_string(), qos);
            assert!(!reason.is_error(), "{reason} for number {number}");
        }
    }

    /// Takes these numbers, in their order.
    #[track_caller]
    pub(crate) fn expect_numbers(&mut self, topic: &str, numbers: impl Iterator<Item = u32>) {
        for number in numbers {
            self.expect(topic, &number.to_string());
        }
    }

    /// Sends a PUBLISH and does not wait. Returns its packet identifier.
    pub(crate) fn post(&mut self, publish: &Publish<'_>) -> u16 {
        let pkid = match (publish.qos, publish.pkid) {
            (QoS::AtMostOnce, _) => 0,
            (_, 0) => self.next_pkid(),
            (_, chosen) => chosen,
        };
        self.send(&Packet::Publish(Publish { pkid, ..*publish }));
        pkid
    }

    /// Waits for the PUBACK of this message.
    #[track_caller]
    pub(crate) fn puback(&mut self, pkid: u16) -> ReasonCode {
        self.wait_for("PUBACK", |packet| match packet {
            Packet::PubAck(ack) if ack.pkid == pkid => Some(ack.reason),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn pubrec(&mut self, pkid: u16) -> ReasonCode {
        self.wait_for("PUBREC", |packet| match packet {
            Packet::PubRec(ack) if ack.pkid == pkid => Some(ack.reason),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn pubrel(&mut self, pkid: u16) -> ReasonCode {
        self.wait_for("PUBREL", |packet| match packet {
            Packet::PubRel(ack) if ack.pkid == pkid => Some(ack.reason),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn pubcomp(&mut self, pkid: u16) -> ReasonCode {
        self.wait_for("PUBCOMP", |packet| match packet {
            Packet::PubComp(ack) if ack.pkid == pkid => Some(ack.reason),
            _ => None,
        })
    }

    /// Subscribes to one filter.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        let options = SubscribeOptions { qos, ..Default::default() };
        self.subscribe_with(SubscribeProperties::default(), &[Subscription { filter, options }])[0]
    }

    /// Subscribes to one filter under an identifier.
    #[track_caller]
    pub(crate) fn subscribe_id(&mut self, filter: &str, options: SubscribeOptions, id: u32) -> ReasonCode {
        let properties = SubscribeProperties { subscription_id: Some(id), ..Default::default() };
        self.subscribe_with(properties, &[Subscription { filter, options }])[0]
    }

    /// Subscribes to one filter with these options.
    #[track_caller]
    pub(crate) fn subscribe_options(&mut self, filter: &str, options: SubscribeOptions) -> ReasonCode {
        self.subscribe_with(SubscribeProperties::default(), &[Subscription { filter, options }])[0]
    }

    #[track_caller]
    pub(crate) fn subscribe_with(
        &mut self,
        properties: SubscribeProperties<'_>,
        filters: &[Subscription<'_>],
    ) -> Vec<ReasonCode> {
        let pkid = self.next_pkid();
        self.send(&Packet::Subscribe(Subscribe { pkid, properties, filters: filters.into() }));
        self.wait_for("SUBACK", |packet| match packet {
            Packet::SubAck(ack) if ack.pkid == pkid => Some(ack.reasons().collect()),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let pkid = self.next_pkid();
        let filters = [filter];
        let filters = filters.as_slice().into();
        self.send(&Packet::Unsubscribe(Unsubscribe { pkid, properties: Default::default(), filters }));
        self.wait_for("UNSUBACK", |packet| match packet {
            Packet::UnsubAck(ack) if ack.pkid == pkid => Some(()),
            _ => None,
        });
    }

    /// A round trip to the broker: what it was sent before has been dealt with.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&Packet::PingReq);
        self.wait_for("PINGRESP", |packet| matches!(packet, Packet::PingResp).then_some(()));
    }

    /// The next message, not acknowledged.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> Delivery {
        if let Some(delivery) = self.inbox.pop_front() {
            return delivery;
        }
        let received = self.receive().expect("closed instead of PUBLISH");
        match received.packet() {
            Packet::Publish(publish) => publish.into(),
            packet => panic!("{packet:?} instead of PUBLISH"),
        }
    }

    /// The next message, acknowledged in full.
    #[track_caller]
    pub(crate) fn take(&mut self) -> Delivery {
        let delivery = self.delivery();
        self.acknowledge(&delivery);
        delivery
    }

    /// The next message, which must be on this topic with this text.
    #[track_caller]
    pub(crate) fn expect(&mut self, topic: &str, text: &str) -> Delivery {
        let delivery = self.take();
        assert_eq!((&*delivery.topic, &*String::from_utf8_lossy(&delivery.payload)), (topic, text));
        delivery
    }

    #[track_caller]
    pub(crate) fn acknowledge(&mut self, delivery: &Delivery) {
        let pkid = delivery.pkid;
        match delivery.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(&Packet::PubAck(PubAck::new(pkid, ReasonCode::Success))),
            QoS::ExactlyOnce => {
                self.send(&Packet::PubRec(PubRec::new(pkid, ReasonCode::Success)));
                self.pubrel(pkid);
                self.send(&Packet::PubComp(PubComp::new(pkid, ReasonCode::Success)));
            }
        }
    }

    /// Says goodbye, so that there is no will, and waits until the broker has closed.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Disconnect::default()));
        self.expect_closed();
    }

    /// Goes without goodbye.
    pub(crate) fn vanish(self) {
        drop(self.stream);
    }

    /// The broker closes, with at most messages before.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        while let Some(received) = self.receive() {
            match received.packet() {
                Packet::Publish(_) => {}
                packet => panic!("{packet:?} instead of the end"),
            }
        }
    }

    /// The broker says why it closes, and closes.
    #[track_caller]
    pub(crate) fn expect_disconnect(&mut self, reason: ReasonCode) {
        let said = self.wait_for("DISCONNECT", |packet| match packet {
            Packet::Disconnect(disconnect) => Some(disconnect.reason),
            _ => None,
        });
        assert_eq!(said, reason);
        assert!(self.receive().is_none(), "more after DISCONNECT");
    }
}
