//! An MQTT-SN client over a radio: UDP, or the far end of a serial line.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use moteway::mqtt::QoS;
use moteway::mqttsn::{
    Connect, Message, MsgId, PROTOCOL_ID, Publish, PublishQos, Register, ReturnCode, Subscribe, SubscribeTopic,
    Topic, TopicId,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::setup::{PATIENCE, any_port};

/// Carries one message at a time.
pub trait Radio {
    fn send(&mut self, octets: &[u8]);
    fn receive(&mut self) -> Vec<u8>;
}

/// A UDP socket that hears one gateway only.
pub struct Udp(UdpSocket);

impl Udp {
    pub fn new(gateway: SocketAddr) -> Self {
        let socket = UdpSocket::bind(any_port()).unwrap();
        socket.connect(gateway).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }
}

impl Radio for Udp {
    fn send(&mut self, octets: &[u8]) {
        self.0.send(octets).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut octets = [0; 2048];
        let count = self.0.recv(&mut octets).unwrap();
        octets[..count].to_vec()
    }
}

/// The far end of a pseudo-terminal whose near end has a stable name.
pub struct Serial {
    far: File,
    arrival: Epoll,
    /// Keeps the near end's device while the daemon has not opened it yet.
    _near: OwnedFd,
}

impl Serial {
    pub fn plug(name: &Path) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut raw = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
        let device = nix::unistd::ttyname(pty.slave.as_fd()).unwrap();
        std::os::unix::fs::symlink(device, name).unwrap();
        let arrival = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        arrival.add(&pty.master, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
        Self { far: pty.master.into(), arrival, _near: pty.slave }
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut octets = vec![0; count];
        let mut at = 0;
        while at < count {
            let limit = EpollTimeout::try_from(PATIENCE).unwrap();
            let ready = self.arrival.wait(&mut [EpollEvent::empty()], limit).unwrap();
            assert_eq!(ready, 1, "nothing comes from the serial line");
            at += self.far.read(&mut octets[at..]).unwrap();
        }
        octets
    }
}

impl Radio for Serial {
    fn send(&mut self, octets: &[u8]) {
        self.far.write_all(octets).unwrap();
    }

    /// A message of at most 255 octets says its length in the first.
    fn receive(&mut self) -> Vec<u8> {
        let mut octets = self.read(1);
        octets.append(&mut self.read(usize::from(octets[0]) - 1));
        octets
    }
}

pub struct Sensor<R> {
    radio: R,
    next_id: u16,
}

impl<R: Radio> Sensor<R> {
    pub fn connect(radio: R, client_id: &str) -> Self {
        let mut sensor = Self { radio, next_id: 0 };
        sensor.send(&hello(client_id));
        let answer = sensor.radio.receive();
        let accepted = matches!(Message::decode(&answer), Ok(Message::ConnAck(ack)) if ack.code.is_accepted());
        assert!(accepted, "{answer:?}");
        sensor
    }

    pub fn send(&mut self, message: &Message<'_>) {
        self.radio.send(&encode(message));
    }

    fn msg_id(&mut self) -> MsgId {
        self.next_id += 1;
        MsgId(self.next_id)
    }

    pub fn register(&mut self, topic: &str) -> TopicId {
        let msg_id = self.msg_id();
        self.send(&Message::Register(Register { topic_id: TopicId::NONE, msg_id, topic }));
        match Message::decode(&self.radio.receive()).unwrap() {
            Message::RegAck(ack) if ack.msg_id == msg_id && ack.code.is_accepted() => ack.topic_id,
            other => panic!("not registered: {other:?}"),
        }
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub fn publish(&mut self, topic: TopicId, payload: &[u8]) {
        let (qos, topic, msg_id) = (PublishQos::Level(QoS::AtLeastOnce), Topic::Id(topic), self.msg_id());
        self.send(&Message::Publish(Publish { dup: false, qos, retain: false, topic, msg_id, payload }));
        let answer = self.radio.receive();
        let answer = Message::decode(&answer).unwrap();
        assert!(
            matches!(answer, Message::PubAck(ack) if (ack.msg_id, ack.code) == (msg_id, ReturnCode::ACCEPTED)),
            "{answer:?}"
        );
    }

    pub fn subscribe(&mut self, topic: &str) {
        let (msg_id, topic) = (self.msg_id(), SubscribeTopic::Name(topic));
        self.send(&Message::Subscribe(Subscribe { dup: false, qos: QoS::AtMostOnce, msg_id, topic }));
        let answer = self.radio.receive();
        let answer = Message::decode(&answer).unwrap();
        assert!(
            matches!(answer, Message::SubAck(ack) if ack.msg_id == msg_id && ack.code.is_accepted()),
            "{answer:?}"
        );
    }

    /// The payload of the next message, which must be the next thing that comes.
    pub fn payload(&mut self) -> Vec<u8> {
        match Message::decode(&self.radio.receive()).unwrap() {
            Message::Publish(publish) => publish.payload.to_vec(),
            other => panic!("not a message: {other:?}"),
        }
    }
}

pub fn hello(client_id: &str) -> Message<'_> {
    let (will, clean_session) = (false, true);
    Message::Connect(Connect { will, clean_session, protocol_id: PROTOCOL_ID, duration: 600, client_id })
}

pub fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    message.encode(&mut octets).unwrap();
    octets
}
