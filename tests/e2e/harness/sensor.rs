//! A small MQTT-SN client, over UDP or a serial line (a pseudo-terminal), that answers nothing by itself.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use moteway::mqtt::QoS;
use moteway::mqttsn::framing::Framer;
use moteway::mqttsn::{
    Connect, Message, MsgId, PROTOCOL_ID, PubAck, Publish, PublishQos, RegAck, Register, ReturnCode, Subscribe,
    SubscribeTopic, Topic, TopicId,
};
use moteway::time::Instant;
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

use crate::harness::{BOUND, free_port};

const MTU: usize = 255;

/// Where a sensor and a gateway meet.
pub(crate) struct Radio {
    /// The `[[link]]` of the gateway's side.
    pub(crate) link: String,
    air: Air,
}

enum Air {
    Udp {
        port: u16,
    },
    Serial {
        master: OwnedFd,
        /// Keeps the line up while the gateway is down.
        slave: OwnedFd,
        framing: fn(usize) -> Framer,
    },
}

impl Radio {
    pub(crate) fn udp() -> Self {
        let port = free_port();
        let link = format!("[[link]]\nname = \"radio\"\nkind = \"udp\"\nbind = \"127.0.0.1:{port}\"\n");
        Self { link, air: Air::Udp { port } }
    }

    /// A serial line with the framing of this name.
    pub(crate) fn serial(name: &str) -> Self {
        let framing = match name {
            "length" => Framer::length,
            "slip" => Framer::slip,
            "cobs" => Framer::cobs,
            "hdlc" => Framer::hdlc,
            _ => panic!("no framing {name}"),
        };
        let pty = openpty(None, None).unwrap();
        let mut settings = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
        let device: PathBuf = ttyname(&pty.slave).unwrap();
        let link = format!(
            "[[link]]\nname = \"radio\"\nkind = \"serial\"\ndevice = {device:?}\nframing = {name:?}\nmtu = {MTU}\n"
        );
        Self { link, air: Air::Serial { master: pty.master, slave: pty.slave, framing } }
    }

    /// All kinds, with their names.
    pub(crate) fn all() -> impl Iterator<Item = (&'static str, Self)> {
        let serial = ["length", "slip", "cobs", "hdlc"].into_iter().map(|name| (name, Self::serial(name)));
        std::iter::once(("udp", Self::udp())).chain(serial)
    }

    /// The bare line, for what is no message.
    pub(crate) fn line(&self) -> File {
        let Air::Serial { master, .. } = &self.air else { panic!("this radio has no line") };
        File::from(master.try_clone().unwrap())
    }

    /// A sensor within reach. A serial line has one.
    pub(crate) fn sensor(&self) -> Sensor {
        let port = match &self.air {
            Air::Udp { port } => {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(("127.0.0.1", *port)).unwrap();
                socket.set_read_timeout(Some(BOUND)).unwrap();
                Port::Udp(socket)
            }
            Air::Serial { master, slave, framing } => Port::serial(master, slave, framing(MTU)),
        };
        Sensor { port, inbox: VecDeque::new(), last_id: 0 }
    }
}

enum Port {
    Udp(UdpSocket),
    Serial { line: File, octets: Receiver<Vec<u8>>, framer: Framer, _slave: OwnedFd },
}

impl Port {
    fn serial(master: &impl AsFd, slave: &OwnedFd, framer: Framer) -> Self {
        let line = File::from(master.as_fd().try_clone_to_owned().unwrap());
        let mut reader = line.try_clone().unwrap();
        let (tell, octets) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(len @ 1..) = reader.read(&mut piece)
                && tell.send(piece[..len].to_vec()).is_ok()
            {}
        });
        Self::Serial { line, octets, framer, _slave: slave.try_clone().unwrap() }
    }

    fn send(&mut self, message: &[u8]) {
        eprintln!(
            "{:?} > {:?}",
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap(),
            Message::decode(message)
        );
        match self {
            // While the gateway is down, the system says that nobody is there.
            Self::Udp(socket) => drop(socket.send(message)),
            Self::Serial { line, framer, .. } => {
                let mut octets = Vec::new();
                framer.encode(message, &mut octets);
                line.write_all(&octets).unwrap();
            }
        }
    }

    #[track_caller]
    fn receive(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket) => {
                let mut datagram = [0; 2048];
                let len = loop {
                    match socket.recv(&mut datagram) {
                        Ok(len) => break len,
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                        Err(error) => panic!("nothing came within {BOUND:?}: {error}"),
                    }
                };
                datagram[..len].to_vec()
            }
            Self::Serial { octets, framer, .. } => loop {
                if let Some(frame) = framer.next_frame() {
                    return frame.to_vec();
                }
                let piece = octets.recv_timeout(BOUND).expect("nothing came on the line");
                framer.feed(Instant::ZERO, &piece);
            },
        }
    }
}

/// A PUBLISH that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) topic: Topic,
    pub(crate) qos: QoS,
    pub(crate) id: MsgId,
    pub(crate) text: String,
}

impl From<Publish<'_>> for Heard {
    fn from(publish: Publish<'_>) -> Self {
        let PublishQos::Level(qos) = publish.qos else { panic!("QoS -1 from a gateway") };
        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
        Self { topic: publish.topic, qos, id: publish.msg_id, text }
    }
}

#[track_caller]
fn decode(octets: &[u8]) -> Message<'_> {
    eprintln!(
        "{:?} < {:?}",
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap(),
        Message::decode(octets)
    );
    Message::decode(octets).unwrap_or_else(|error| panic!("the gateway sent {octets:02x?}: {error}"))
}

pub(crate) struct Sensor {
    port: Port,
    /// Messages that came while an answer was waited for.
    inbox: VecDeque<Heard>,
    last_id: u16,
}

impl Sensor {
    pub(crate) fn send(&mut self, message: &Message<'_>) {
        let mut octets = Vec::new();
        message.encode(&mut octets).unwrap();
        self.port.send(&octets);
    }

    /// Sends octets that may be anything.
    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        self.port.send(octets);
    }

    /// The next answer, given to `look`. Messages before it are kept for [`Sensor::hear`].
    #[track_caller]
    pub(crate) fn receive<T>(&mut self, look: impl FnOnce(Message<'_>) -> T) -> T {
        loop {
            let octets = self.port.receive();
            match decode(&octets) {
                Message::Publish(publish) => self.inbox.push_back(publish.into()),
                answer => return look(answer),
            }
        }
    }

    /// The next answer must be this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &Message<'_>) {
        self.receive(|message| assert_eq!(message, *wanted));
    }

    fn next_id(&mut self) -> MsgId {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        MsgId(self.last_id)
    }

    /// Sends CONNECT and waits for a good CONNACK.
    #[track_caller]
    pub(crate) fn connect(&mut self, client_id: &str, clean_session: bool, duration: u16) {
        let connect = Connect { will: false, clean_session, protocol_id: PROTOCOL_ID, duration, client_id };
        self.send(&Message::Connect(connect));
        self.expect(&Message::ConnAck(moteway::mqttsn::ConnAck { code: ReturnCode::ACCEPTED }));
    }

    /// Registers a topic name.
    #[track_caller]
    pub(crate) fn register(&mut self, topic: &str) -> Topic {
        let msg_id = self.next_id();
        self.send(&Message::Register(Register { topic_id: TopicId::NONE, msg_id, topic }));
        self.receive(|message| match message {
            Message::RegAck(RegAck { topic_id, msg_id: id, code: ReturnCode::ACCEPTED }) if id == msg_id => {
                Topic::Id(topic_id)
            }
            message => panic!("{message:?} instead of REGACK"),
        })
    }

    /// Subscribes; returns the topic id, which is 0 for a filter with wildcards.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> TopicId {
        let msg_id = self.next_id();
        let topic = SubscribeTopic::Name(filter);
        self.send(&Message::Subscribe(Subscribe { dup: false, qos, msg_id, topic }));
        self.receive(|message| match message {
            Message::SubAck(ack) if ack.msg_id == msg_id && ack.code.is_accepted() => {
                assert_eq!(ack.qos, qos);
                ack.topic_id
            }
            message => panic!("{message:?} instead of SUBACK"),
        })
    }

    /// Sends a PUBLISH and does not wait. Returns its id, 0 below QoS 1.
    pub(crate) fn post(&mut self, topic: Topic, text: &str, qos: PublishQos) -> MsgId {
        let below_1 = matches!(qos, PublishQos::MinusOne | PublishQos::Level(QoS::AtMostOnce));
        let msg_id = if below_1 { MsgId::NONE } else { self.next_id() };
        self.repeat(topic, text, qos, msg_id, false);
        msg_id
    }

    /// Sends a PUBLISH under an id that it may have had before.
    pub(crate) fn repeat(&mut self, topic: Topic, text: &str, qos: PublishQos, msg_id: MsgId, dup: bool) {
        let payload = text.as_bytes();
        self.send(&Message::Publish(Publish { dup, qos, retain: false, topic, msg_id, payload }));
    }

    /// Publishes and goes through the whole handshake.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: Topic, text: &str, qos: QoS) {
        let id = self.post(topic, text, PublishQos::Level(qos));
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.puback(topic, id),
            QoS::ExactlyOnce => {
                self.expect(&Message::PubRec(id));
                self.send(&Message::PubRel(id));
                self.expect(&Message::PubComp(id));
            }
        }
    }

    /// Waits for a good PUBACK.
    #[track_caller]
    pub(crate) fn puback(&mut self, topic: Topic, msg_id: MsgId) {
        self.expect(&Message::PubAck(PubAck { topic_id: topic.wire_id(), msg_id, code: ReturnCode::ACCEPTED }));
    }

    /// The next message, which must be a PUBLISH, not acknowledged.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Heard {
        if let Some(heard) = self.inbox.pop_front() {
            return heard;
        }
        let octets = self.port.receive();
        match decode(&octets) {
            Message::Publish(publish) => publish.into(),
            message => panic!("{message:?} instead of PUBLISH"),
        }
    }

    /// Nothing was sent to us but what was taken.
    #[track_caller]
    pub(crate) fn has_taken_all(&self) {
        assert!(self.inbox.is_empty(), "not taken: {:?}", self.inbox);
    }

    /// Acknowledges in full.
    #[track_caller]
    pub(crate) fn acknowledge(&mut self, heard: &Heard) {
        let (topic_id, msg_id) = (heard.topic.wire_id(), heard.id);
        match heard.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.send(&Message::PubAck(PubAck { topic_id, msg_id, code: ReturnCode::ACCEPTED }));
            }
            QoS::ExactlyOnce => {
                self.send(&Message::PubRec(msg_id));
                self.expect(&Message::PubRel(msg_id));
                self.send(&Message::PubComp(msg_id));
            }
        }
    }

    /// The next message must be a PUBLISH with this text; it is acknowledged in full.
    #[track_caller]
    pub(crate) fn take(&mut self, topic: Topic, text: &str) {
        let heard = self.hear();
        assert_eq!((heard.topic, &*heard.text), (topic, text));
        self.acknowledge(&heard);
    }

    /// Lets the gateway register a topic name with us.
    #[track_caller]
    pub(crate) fn accept_register(&mut self, topic: &str) -> Topic {
        let (topic_id, msg_id) = self.receive(|message| match message {
            Message::Register(register) if register.topic == topic => (register.topic_id, register.msg_id),
            message => panic!("{message:?} instead of REGISTER {topic:?}"),
        });
        self.send(&Message::RegAck(RegAck { topic_id, msg_id, code: ReturnCode::ACCEPTED }));
        Topic::Id(topic_id)
    }

    /// A round trip to the gateway.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&Message::PingReq(moteway::mqttsn::PingReq { client_id: "" }));
        self.expect(&Message::PingResp);
    }

    /// Goes to sleep for so many seconds.
    #[track_caller]
    pub(crate) fn sleep(&mut self, seconds: u16) {
        self.send(&Message::Disconnect(moteway::mqttsn::Disconnect { duration: Some(seconds) }));
        self.expect(&Message::Disconnect(moteway::mqttsn::Disconnect { duration: None }));
    }

    /// Wakes for a moment. Drain with [`Sensor::take`] until PINGRESP.
    pub(crate) fn wake(&mut self, client_id: &str) {
        self.send(&Message::PingReq(moteway::mqttsn::PingReq { client_id }));
    }
}
