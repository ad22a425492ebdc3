//! An MQTT 5.0 client over any stream, which sends and takes exactly what it is told to.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use moteway::mqtt::{
    Connect, ConnectProperties, Disconnect, MAX_PACKET, Packet, PubAck, Publish, PublishProperties, QoS,
    ReasonCode, Subscribe, SubscribeOptions, SubscribeProperties, Subscription, Version, frame,
};

const V5: Version = Version::V5;

/// A CONNECT without keep-alive, for a session that ends with the connection.
pub fn hello(client_id: &str) -> Connect<'_> {
    Connect {
        version: V5,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

pub fn encode(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes);
    bytes
}

/// A PUBLISH; `pkid` is for QoS 1 and 2.
pub fn publish(topic: &str, payload: &[u8], qos: QoS, pkid: u16) -> Vec<u8> {
    let properties = PublishProperties::default();
    encode(&Packet::Publish(Publish { dup: false, qos, retain: false, topic, pkid, properties, payload }))
}

pub fn subscribe(filter: &str, qos: QoS) -> Vec<u8> {
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let filters = [Subscription { filter, options }];
    let properties = SubscribeProperties::default();
    encode(&Packet::Subscribe(Subscribe { pkid: 1, properties, filters: (&filters[..]).into() }))
}

/// A message as a subscriber gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
    /// So many bytes of `received` are done with.
    used: usize,
}

impl<S: Read + Write> Client<S> {
    /// Says nothing yet.
    pub fn new(stream: S) -> Self {
        Self { stream, received: Vec::new(), used: 0 }
    }

    pub fn connect(stream: S, client_id: &str) -> Self {
        Self::try_connect(stream, &hello(client_id)).unwrap()
    }

    /// Connects, if it is let in.
    pub fn try_connect(stream: S, hello: &Connect<'_>) -> io::Result<Self> {
        let mut client = Self::new(stream);
        client.stream.write_all(&encode(&Packet::Connect(*hello)))?;
        match client.receive()? {
            Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => Ok(client),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet. An error of kind `UnexpectedEof` where the stream ends in order.
    pub fn receive(&mut self) -> io::Result<Packet<'_>> {
        let invalid = |error: moteway::mqtt::DecodeError| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut buffer = [0; 16 * 1024];
        while frame(&self.received[self.used..], MAX_PACKET).map_err(invalid)?.is_none() {
            self.received.drain(..self.used);
            self.used = 0;
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&buffer[..count]),
            }
        }
        let start = self.used;
        let frame = frame(&self.received[start..], MAX_PACKET).map_err(invalid)?.unwrap();
        self.used += frame.raw.len();
        Packet::decode(V5, &frame).map_err(invalid)
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(&subscribe(filter, qos));
        let answer = self.receive().unwrap();
        assert!(matches!(answer, Packet::SubAck(ack) if ack.codes == [qos.as_u8()]), "{answer:?}");
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&publish(topic, payload, QoS::AtLeastOnce, 1));
        let answer = self.receive().unwrap();
        assert!(matches!(answer, Packet::PubAck(ack) if ack.pkid == 1 && !ack.reason.is_error()), "{answer:?}");
    }

    /// The next message, which must be the next packet. Acknowledged where it asks for it.
    pub fn message(&mut self) -> Message {
        let (message, pkid) = match self.receive().unwrap() {
            Packet::Publish(publish) => {
                let (topic, payload) = (publish.topic.to_owned(), publish.payload.to_owned());
                (Message { topic, payload }, publish.pkid)
            }
            other => panic!("not a message: {other:?}"),
        };
        if pkid != 0 {
            self.send(&encode(&Packet::PubAck(PubAck::new(pkid, ReasonCode::Success))));
        }
        message
    }

    /// Shows that the connection is served.
    pub fn ping(&mut self) {
        self.send(&encode(&Packet::PingReq));
        assert_eq!(self.receive().unwrap(), Packet::PingResp);
    }

    /// Waits for the end, which must be in order. Returns what the DISCONNECT before it said, if there was one.
    pub fn end(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        loop {
            match self.receive() {
                Ok(Packet::Disconnect(disconnect)) => reason = Some(disconnect.reason),
                Ok(other) => panic!("not the end: {other:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                    return reason;
                }
            }
        }
    }

    /// Leaves with a DISCONNECT.
    pub fn leave(mut self) {
        self.send(&encode(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))));
        assert_eq!(self.end(), None);
    }
}
