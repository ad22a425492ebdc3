//! An MQTT 3.1.1 connection of the demo's own clients, on the same codec as the broker.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mqtt::{
    Connect, ConnectProperties, Disconnect, Filters, MAX_PACKET, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
    PublishProperties, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscribeProperties, Subscription, Version,
    frame,
};
use crate::time::Duration;

const VERSION: Version = Version::V311;
/// To connect and be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts.
pub(super) const RECONNECT_AFTER: Duration = Duration::from_millis(100);

/// What the broker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    ConnAck { session_present: bool, accepted: bool },
    SubAck { granted: bool },
    Publish { qos: QoS, pkid: u16, topic: String, payload: Vec<u8> },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Other,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, with its packet identifier.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Ack(u16),
    Rec(u16),
    Rel(u16),
    Comp(u16),
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects with a session that is kept; returns whether the broker had one.
    pub(super) async fn open(broker: SocketAddr, client_id: &str) -> io::Result<(Self, bool)> {
        let opened = timeout(CONNECT_TIMEOUT, Self::connect(broker, client_id)).await;
        opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect(broker: SocketAddr, client_id: &str) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, buffer: Vec::new() };
        let connect = Connect {
            version: VERSION,
            clean_start: false,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        connection.send(&Packet::Connect(connect)).await?;
        match connection.recv().await? {
            Event::ConnAck { session_present, accepted: true } => Ok((connection, session_present)),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Subscribes at QoS 2 and waits for the answer.
    pub(super) async fn subscribe(&mut self, filters: &[String]) -> io::Result<()> {
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        let filters: Vec<_> = filters.iter().map(|filter| Subscription { filter, options }).collect();
        let properties = SubscribeProperties::default();
        let subscribe = Subscribe { pkid: 1, properties, filters: Filters::from(&filters[..]) };
        self.send(&Packet::Subscribe(subscribe)).await?;
        match self.recv().await? {
            Event::SubAck { granted: true } => Ok(()),
            _ => Err(io::Error::other("the subscription was not granted")),
        }
    }

    /// Publishes; `pkid` is 0 at QoS 0.
    pub(super) async fn publish(
        &mut self,
        dup: bool,
        qos: QoS,
        pkid: u16,
        topic: &str,
        payload: &str,
    ) -> io::Result<()> {
        let properties = PublishProperties::default();
        let payload = payload.as_bytes();
        self.send(&Packet::Publish(Publish { dup, qos, retain: false, topic, pkid, properties, payload })).await
    }

    /// Answers.
    pub(super) async fn answer(&mut self, answer: Answer) -> io::Result<()> {
        let success = ReasonCode::Success;
        let packet = match answer {
            Answer::Ack(pkid) => Packet::PubAck(PubAck::new(pkid, success)),
            Answer::Rec(pkid) => Packet::PubRec(PubRec::new(pkid, success)),
            Answer::Rel(pkid) => Packet::PubRel(PubRel::new(pkid, success)),
            Answer::Comp(pkid) => Packet::PubComp(PubComp::new(pkid, success)),
        };
        self.send(&packet).await
    }

    /// Says goodbye. The session is kept.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))).await?;
        self.stream.shutdown().await
    }

    async fn send(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(VERSION, &mut bytes);
        self.stream.write_all(&bytes).await
    }

    /// The next packet. Nothing is lost when it is not waited for to the end.
    pub(super) async fn recv(&mut self) -> io::Result<Event> {
        loop {
            if let Some((event, used)) = parse(&self.buffer)? {
                self.buffer.drain(..used);
                return Ok(event);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first packet in `bytes` and its length.
fn parse(bytes: &[u8]) -> io::Result<Option<(Event, usize)>> {
    let Some(frame) = frame(bytes, MAX_PACKET).map_err(io::Error::other)? else { return Ok(None) };
    let event = match Packet::decode(VERSION, &frame).map_err(io::Error::other)? {
        Packet::ConnAck(ack) => {
            Event::ConnAck { session_present: ack.session_present, accepted: !ack.reason.is_error() }
        }
        Packet::SubAck(ack) => Event::SubAck { granted: !ack.reasons().any(ReasonCode::is_error) },
        Packet::Publish(publish) => Event::Publish {
            qos: publish.qos,
            pkid: publish.pkid,
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
        },
        Packet::PubAck(ack) => Event::PubAck(ack.pkid),
        Packet::PubRec(ack) => Event::PubRec(ack.pkid),
        Packet::PubRel(ack) => Event::PubRel(ack.pkid),
        Packet::PubComp(ack) => Event::PubComp(ack.pkid),
        _ => Event::Other,
    };
    Ok(Some((event, frame.raw.len())))
}
