//! Arbitrary schedules: whatever comes, the gateway stays up, within its limits, and keeps its promises.

use proptest::prelude::*;

use super::*;
use crate::mqttsn::{PingReq, ShortName, Unsubscribe, WillTopic};
use crate::queue::Token;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Raw(u16, Vec<u8>),
    Serial(Vec<u8>),
    Message(u16, u8, u8, u8),
    /// The client answers the last message to it, with this code.
    Answer(u16, u8),
    Pass(u64),
    Settle(bool),
    Hold(bool),
    Refuse(bool),
    Read(bool),
    Publish(u8, u8),
    TakeOver(u8),
    SerialOpen(bool),
    StrayToken(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..4_u16, prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(port, octets)| Event::Raw(port, octets)),
        2 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Event::Serial),
        20 => (1..4_u16, 0..24_u8, any::<u8>(), 0..6_u8).prop_map(|(port, kind, a, b)| Event::Message(port, kind, a, b)),
        40 => (1..4_u16, prop_oneof![5 => Just(ACCEPTED), 1 => 1..4_u8]).prop_map(|(port, code)| Event::Answer(port, code)),
        6 => prop_oneof![20 => Just(0), 20 => 1..20_u64, 1 => Just(1000)].prop_map(Event::Pass),
        8 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Event::Settle),
        2 => any::<bool>().prop_map(Event::Hold),
        1 => any::<bool>().prop_map(Event::Refuse),
        1 => any::<bool>().prop_map(Event::Read),
        20 => (0..5_u8, 0..3_u8).prop_map(|(topic, qos)| Event::Publish(topic, qos)),
        1 => any::<u8>().prop_map(Event::TakeOver),
        1 => any::<bool>().prop_map(Event::SerialOpen),
        1 => any::<u64>().prop_map(Event::StrayToken),
    ]
}

const TOPICS: [&str; 5] = ["t", "t/1", "t/2", "ab", "pre/nine"];

fn message(kind: u8, a: u8, b: u8) -> Message<'static> {
    let qos = QoS::from_u8(a % 3).unwrap();
    let (id, msg_id) = (TopicId(u16::from(b)), MsgId(u16::from(a % 4)));
    let client_id = ["a", "b", "c"][usize::from(a % 3)];
    let topic = TOPICS[usize::from(b) % TOPICS.len()];
    let named = match a % 4 {
        0 => Topic::Predefined(TopicId(9)),
        1 => Topic::Short(ShortName(*b"ab")),
        _ => Topic::Id(id),
    };
    let filter = match a % 5 {
        0 => SubscribeTopic::Name("t/#"),
        1 => SubscribeTopic::Predefined(TopicId(9)),
        2 => SubscribeTopic::Short(ShortName(*b"ab")),
        _ => SubscribeTopic::Name(topic),
    };
    let will = (b > 1).then_some(WillTopic { qos, retain: false, topic });
    match kind {
        0..=2 => connect_with(client_id, b > 2, b > 3, 20 + u16::from(b) * 20),
        3 => Message::WillTopic(will),
        4 => Message::WillMsg(b"gone"),
        5 => told(0, msg_id.0, topic),
        6 | 7 => regack(id.0, msg_id.0, b % 4),
        8 | 9 => publish_as(PublishQos::Level(qos), named, msg_id.0, "x", b > 3),
        10 => publish_as(PublishQos::MinusOne, named, 0, "x", false),
        11 | 12 => puback(id.0, msg_id.0, b % 4),
        13 => Message::PubRec(msg_id),
        14 => Message::PubRel(msg_id),
        15 => Message::PubComp(msg_id),
        16 | 17 => subscribe_to(filter, qos, msg_id.0),
        18 => Message::Unsubscribe(Unsubscribe { msg_id, topic: filter }),
        19 => Message::PingReq(PingReq { client_id: if b > 2 { client_id } else { "" } }),
        20 => Message::Disconnect(Disconnect { duration: None }),
        21 => sleep(u16::from(a)),
        22 => Message::WillTopicUpd(will),
        _ => Message::WillMsgUpd(b"new"),
    }
}

/// What a client answers.
fn answer_to(bytes: &[u8], code: u8) -> Option<Message<'static>> {
    Some(match decode_datagram(bytes).ok()?.1 {
        Message::Register(told) => regack(told.topic_id.0, told.msg_id.0, code),
        Message::Publish(sent) if code != ACCEPTED => puback(sent.topic.wire_id().0, sent.msg_id.0, code),
        Message::Publish(sent) if sent.qos == PublishQos::Level(Q1) => {
            puback(sent.topic.wire_id().0, sent.msg_id.0, ACCEPTED)
        }
        Message::Publish(sent) if sent.qos == PublishQos::Level(Q2) => Message::PubRec(sent.msg_id),
        Message::PubRec(msg_id) => Message::PubRel(msg_id),
        Message::PubRel(msg_id) => Message::PubComp(msg_id),
        Message::WillTopicReq => message(3, 1, 2),
        Message::WillMsgReq => message(4, 0, 0),
        Message::PingResp => sleep(300),
        _ => return None,
    })
}

impl World {
    /// Three clients, each at its own port, with subscriptions of all kinds.
    fn populated() -> Self {
        let mut world = Self::connected(&[(1, "a"), (2, "b")], false);
        world.ask(3, connect("c", true), &[connack(ACCEPTED)]);
        for (port, filter) in [(1, "t/#"), (1, "t"), (2, "+/nine"), (2, "t"), (3, "#")] {
            world.send(port, subscribe(filter, Q2, 1));
        }
        world.send(2, sleep(300));
        world
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Raw(port, octets) => self.raw(port, &octets),
            Event::Serial(octets) => self.input(Input::SerialBytes { link: SERIAL, bytes: &octets }),
            Event::Message(port, kind, a, b) => self.send(port, message(kind, a, b)),
            Event::Answer(port, code) => {
                let last = self.sent.iter().rev().find(|(to, _)| *to == port).map(|(_, bytes)| bytes.clone());
                if let Some(answer) = last.and_then(|last| answer_to(&last, code)) {
                    self.send(port, answer);
                }
            }
            Event::Pass(seconds) => self.pass(secs(seconds)),
            Event::Settle(good) => self.finish(if good { Ok(()) } else { Err(Refusal::Store) }),
            Event::Hold(hold) => self.broker.hold = hold,
            Event::Refuse(refuse) => self.broker.refuse = refuse.then_some(Refusal::Full),
            Event::Read(reading) => self.broker.reading = reading,
            Event::Publish(topic, qos) => {
                self.publish(TOPICS[usize::from(topic)], "x", QoS::from_u8(qos).unwrap());
            }
            Event::TakeOver(client) => {
                let client = ["a", "b", "c"][usize::from(client % 3)];
                if let Some(session) = self.broker.session_of(client).filter(|_| self.broker.is_open(client)) {
                    self.input(Input::TakenOver { session });
                    self.broker.shut(session);
                }
            }
            Event::SerialOpen(true) => self.input(Input::SerialOpened { link: SERIAL }),
            Event::SerialOpen(false) => self.input(Input::SerialClosed { link: SERIAL }),
            Event::StrayToken(token) => {
                self.input(Input::Settled { token: Token(token), outcome: Ok(()) });
            }
        }
    }
}

proptest! {
    #[test]
    fn the_gateway_survives_any_schedule(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::populated();
        for event in events {
            world.happen(event);
            let stats = world.gateway.stats();
            prop_assert!(stats.clients <= 8);
            prop_assert!(stats.topics <= 8 * stats.clients);
            prop_assert!(stats.pending <= 64 * stats.clients);
            for info in world.gateway.clients() {
                // The gateway and the broker agree on who is connected.
                let connected = !matches!(info.state, "disconnected" | "connecting");
                prop_assert!(!connected || world.broker.is_open(info.client_id), "{info:?}");
            }
        }
        // All timers run out in the end, and nobody is left.
        world.broker.refuse = None;
        world.pass(secs(100_000));
        prop_assert_eq!(world.gateway.stats().active + world.gateway.stats().sleeping, 0);
        prop_assert_eq!(world.gateway.deadline(), None);
    }

    #[test]
    fn any_restart_goes_on_with_what_is_recorded(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World::populated();
        for event in events {
            world.happen(event);
        }
        world.broker.refuse = None;
        let before = world.broker.records.clone();
        world.restart();
        prop_assert_eq!(world.gateway.stats().records_unusable, 0);
        prop_assert_eq!(world.gateway.stats().clients, before.len() as u64);
    }

    #[test]
    fn arbitrary_datagrams_never_panic(datagrams in prop::collection::vec(
        (1..4_u16, prop::collection::vec(any::<u8>(), 0..40)), 0..100,
    )) {
        let mut world = World::connected(&[(1, "a")], true);
        for (port, octets) in datagrams {
            // A right length lets more of them through to the gateway.
            let mut octets = octets;
            if port > 1 && let Ok(len) = u8::try_from(octets.len()) && let Some(first) = octets.first_mut() {
                *first = len;
            }
            world.raw(port, &octets);
        }
        prop_assert!(world.gateway.stats().clients <= 8);
    }
}
