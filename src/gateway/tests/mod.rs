//! The gateway against the tables of MQTT-SN 1.2 and against what other gateways get wrong, with a fake broker.

mod access;
mod connect;
mod deliver;
mod discovery;
mod fake;
mod identity;
mod links;
mod lossy;
mod publish;
mod random;
mod restart;
mod sleep;
mod topics;
mod will;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::config::{Link, LinkId, LinkKind, SerialLink, Sn, SnClient, UdpLink};
use crate::gateway::tests::fake::Broker;
use crate::gateway::{Gateway, Input, Output};
use crate::mqtt::QoS;
use crate::mqttsn::{
    ConnAck, Connect, Disconnect, Message, MsgId, PingReq, PubAck, Publish, PublishQos, RegAck, Register,
    ReturnCode, SubAck, Subscribe, SubscribeTopic, Topic, TopicId, decode_datagram,
};
use crate::queue::Refusal;
use crate::time::{Duration, Instant, Now, Wall};

const UDP: LinkId = LinkId(0);
const SERIAL: LinkId = LinkId(1);
const OTHER_UDP: LinkId = LinkId(2);
/// Where the tests see what went to the groups of a link.
const GROUP: u16 = 9999;

const ACCEPTED: u8 = 0;
const CONGESTION: u8 = 1;
const INVALID: u8 = 2;
const UNSUPPORTED: u8 = 3;

const RETRY: Duration = Duration::from_secs(10);

fn config() -> Sn {
    Sn {
        gateway_id: 7,
        advertise_interval: Duration::ZERO,
        max_clients: 8,
        max_topics_per_client: 8,
        retry_interval: RETRY,
        retries: 3,
        idle_timeout: Duration::from_secs(3600),
        max_sleep_messages: 100,
        max_sleep_bytes: 100_000,
        predefined: BTreeMap::from([("pre/one".to_owned(), 1), ("pre/nine".to_owned(), 9)]),
        allow_qos_minus_one: true,
        ..Sn::default()
    }
}

fn links() -> Vec<Link> {
    let udp = |name: &str| Link {
        name: name.to_owned(),
        kind: LinkKind::Udp(UdpLink {
            bind: ([127, 0, 0, 1], 1883).into(),
            multicast: vec![([225, 1, 1, 1], 1883).into()],
            ..UdpLink::default()
        }),
        mtu: 1400,
        known_only: false,
    };
    let kind = LinkKind::Serial(SerialLink { device: "/dev/ttyS0".into(), ..SerialLink::default() });
    vec![udp("udp"), Link { name: "serial".to_owned(), kind, mtu: 60, known_only: false }, udp("other")]
}

fn addr(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

/// A gateway, its broker, and what it sent. Clients are told apart by port; port 0 is the serial line.
struct World {
    gateway: Gateway,
    broker: Broker,
    now: Now,
    sent: Vec<(u16, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Sn) -> Self {
        Self {
            gateway: Gateway::new(config, &links()),
            broker: Broker::default(),
            now: Now { at: Instant::from_micros(1_000_000), wall: Wall::default() },
            sent: Vec::new(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.gateway.handle_input(self.now, input, &mut self.broker);
        self.drain();
        while let Some(session) = self.broker.ready.pop_first() {
            self.gateway.handle_input(self.now, Input::Ready { session }, &mut self.broker);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Send { to, bytes, .. } => self.sent.push((to.map_or(0, |to| to.port()), bytes.to_vec())),
                Output::Multicast { bytes, .. } => self.sent.push((GROUP, bytes.to_vec())),
                Output::Notice(notice) => assert!(!notice.what.is_empty()),
            }
        }
    }

    fn raw(&mut self, port: u16, bytes: &[u8]) {
        self.input(Input::Datagram { link: UDP, from: addr(port), bytes });
    }

    fn send(&mut self, port: u16, message: Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        self.raw(port, &bytes);
    }

    /// Everything that was sent to this client since the last time, and nothing else.
    #[track_caller]
    fn expect(&mut self, port: u16, messages: &[Message<'_>]) {
        let (mine, others) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == port);
        self.sent = others;
        let mine: Vec<(u16, Vec<u8>)> = mine;
        let got: Vec<Message<'_>> = mine.iter().map(|(_, bytes)| decode_datagram(bytes).unwrap().1).collect();
        assert_eq!(got, messages);
    }

    /// Sends one message and expects the answers to it.
    #[track_caller]
    fn ask(&mut self, port: u16, message: Message<'_>, answers: &[Message<'_>]) {
        self.send(port, message);
        self.expect(port, answers);
    }

    /// Lets time pass, with a timeout whenever the gateway asked for one.
    fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        let mut turns = 0;
        while let Some(at) = self.gateway.deadline().filter(|at| *at <= end) {
            self.now.at = at.max(self.now.at);
            self.input(Input::Timeout);
            turns += 1;
            assert!(turns < 10_000, "the gateway spins");
        }
        self.now.at = end;
    }

    fn settle(&mut self) {
        self.finish(Ok(()));
    }

    fn finish(&mut self, outcome: Result<(), Refusal>) {
        for token in std::mem::take(&mut self.broker.held) {
            self.input(Input::Settled { token, outcome });
        }
    }

    /// Kills the process and starts another one.
    fn restart(&mut self) {
        self.broker.restart();
        self.gateway = Gateway::new(config(), &links());
        let records = self.broker.records.clone();
        let records = records.iter().map(|(id, json)| (id.as_str(), json.as_str()));
        self.gateway.recover(self.now, records, &mut self.broker);
        self.drain();
    }

    fn state(&self, client: &str) -> &'static str {
        self.gateway.clients().find(|info| info.client_id == client).map_or("unknown", |info| info.state)
    }

    #[track_caller]
    fn connected(clients: &[(u16, &str)], clean: bool) -> Self {
        let mut world = Self::new();
        for (port, id) in clients {
            world.ask(*port, connect(id, clean), &[connack(ACCEPTED)]);
        }
        world
    }

    /// A client "a" at port 1 that subscribed to `filter`.
    #[track_caller]
    fn subscribed(filter: &str, qos: QoS, clean: bool) -> (Self, u16) {
        let mut world = Self::connected(&[(1, "a")], clean);
        world.send(1, subscribe(filter, qos, 1));
        let (_, bytes) = world.sent.pop().unwrap();
        let Ok(Message::SubAck(SubAck { topic_id, code, .. })) = Message::decode(&bytes) else { panic!() };
        assert!(code.is_accepted());
        (world, topic_id.0)
    }

    /// A message from elsewhere.
    fn publish(&mut self, topic: &str, payload: &str, qos: QoS) {
        self.broker.route(topic, payload.as_bytes(), qos);
        while let Some(session) = self.broker.ready.pop_first() {
            self.input(Input::Ready { session });
        }
    }
}

fn connect(id: &str, clean: bool) -> Message<'_> {
    connect_with(id, clean, false, 60)
}

fn connect_with(id: &str, clean: bool, will: bool, keepalive: u16) -> Message<'_> {
    Message::Connect(Connect { will, clean_session: clean, protocol_id: 1, duration: keepalive, client_id: id })
}

fn connack(code: u8) -> Message<'static> {
    Message::ConnAck(ConnAck { code: ReturnCode(code) })
}

fn register(topic: &str, msg_id: u16) -> Message<'_> {
    told(0, msg_id, topic)
}

/// REGISTER from the gateway.
fn told(id: u16, msg_id: u16, topic: &str) -> Message<'_> {
    Message::Register(Register { topic_id: TopicId(id), msg_id: MsgId(msg_id), topic })
}

fn regack(id: u16, msg_id: u16, code: u8) -> Message<'static> {
    Message::RegAck(RegAck { topic_id: TopicId(id), msg_id: MsgId(msg_id), code: ReturnCode(code) })
}

fn subscribe(filter: &str, qos: QoS, msg_id: u16) -> Message<'_> {
    subscribe_to(SubscribeTopic::Name(filter), qos, msg_id)
}

fn subscribe_to(topic: SubscribeTopic<'_>, qos: QoS, msg_id: u16) -> Message<'_> {
    Message::Subscribe(Subscribe { dup: false, qos, msg_id: MsgId(msg_id), topic })
}

fn suback(id: u16, qos: QoS, msg_id: u16, code: u8) -> Message<'static> {
    Message::SubAck(SubAck { qos, topic_id: TopicId(id), msg_id: MsgId(msg_id), code: ReturnCode(code) })
}

fn publish(qos: QoS, id: u16, msg_id: u16, payload: &str) -> Message<'_> {
    publish_as(PublishQos::Level(qos), Topic::Id(TopicId(id)), msg_id, payload, false)
}

fn again(qos: QoS, id: u16, msg_id: u16, payload: &str) -> Message<'_> {
    publish_as(PublishQos::Level(qos), Topic::Id(TopicId(id)), msg_id, payload, true)
}

fn publish_as(qos: PublishQos, topic: Topic, msg_id: u16, payload: &str, dup: bool) -> Message<'_> {
    Message::Publish(Publish { dup, qos, retain: false, topic, msg_id: MsgId(msg_id), payload: payload.as_bytes() })
}

fn puback(id: u16, msg_id: u16, code: u8) -> Message<'static> {
    Message::PubAck(PubAck { topic_id: TopicId(id), msg_id: MsgId(msg_id), code: ReturnCode(code) })
}

fn sleep(seconds: u16) -> Message<'static> {
    Message::Disconnect(Disconnect { duration: Some(seconds) })
}

fn ping(id: &str) -> Message<'_> {
    Message::PingReq(PingReq { client_id: id })
}

const DISCONNECT: Message<'static> = Message::Disconnect(Disconnect { duration: None });
const PINGRESP: Message<'static> = Message::PingResp;
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn published(client: Option<&str>, topic: &str, payload: &str) -> fake::Published {
    (client.map(str::to_owned), topic.to_owned(), payload.as_bytes().to_vec())
}
