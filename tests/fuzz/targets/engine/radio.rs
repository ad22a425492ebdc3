//! MQTT-SN messages drawn from the input.

use moteway::mqtt::QoS;
use moteway::mqttsn::{
    Connect, Disconnect, Forwarded, Message, MsgId, PROTOCOL_ID, PingReq, PubAck, Publish, PublishQos, RegAck,
    Register, ReturnCode, SearchGw, ShortName, Subscribe, SubscribeTopic, Topic, TopicId, Unsubscribe, WillTopic,
};

use crate::targets::engine::wire::{FILTERS, TOPICS};
use crate::targets::source::Source;

const CLIENTS: [&str; 4] = ["sn1", "sn2", "a", "sn3"];

/// A message from a node; some are answers to what it was sent last.
pub fn message(source: &mut Source<'_>, last: Option<&[u8]>, out: &mut Vec<u8>) {
    let kind = source.byte();
    if kind & 0x40 != 0 {
        // In a forwarder's envelope, from one of four nodes behind it.
        let node = [kind >> 4 & 3];
        Forwarded { radius: 0, node: &node }.encode(out).expect("a short name");
    }
    let bits = source.byte();
    let payload = vec![bits; usize::from(bits >> 1)];
    let message = match kind & 15 {
        0 => answer(last).unwrap_or(Message::PingResp),
        1 => connect(bits),
        2 => Message::Register(Register {
            topic_id: TopicId(0),
            msg_id: MsgId(u16::from(bits)),
            topic: topic(source),
        }),
        3 => Message::Publish(publish(source, bits, &payload)),
        4 => Message::Subscribe(Subscribe {
            dup: bits & 4 != 0,
            qos: QoS::from_u8(bits & 3).unwrap_or_default(),
            msg_id: MsgId(u16::from(bits >> 3)),
            topic: filter(source),
        }),
        5 => Message::Unsubscribe(Unsubscribe { msg_id: MsgId(u16::from(bits)), topic: filter(source) }),
        6 => Message::PingReq(PingReq { client_id: if bits & 1 != 0 { client(bits >> 1) } else { "" } }),
        7 => Message::Disconnect(Disconnect { duration: (bits & 1 != 0).then_some(u16::from(bits)) }),
        8 => Message::WillTopic(will(source, bits)),
        9 => Message::WillMsg(&payload),
        10 => Message::WillTopicUpd(will(source, bits)),
        11 => Message::WillMsgUpd(&payload),
        12 => Message::PubRel(MsgId(u16::from(bits & 15))),
        13 => Message::SearchGw(SearchGw { radius: bits }),
        14 => Message::PubAck(PubAck {
            topic_id: TopicId(u16::from(bits & 7)),
            msg_id: MsgId(u16::from(bits >> 3)),
            code: ReturnCode(bits & 3),
        }),
        _ => Message::RegAck(RegAck {
            topic_id: TopicId(u16::from(bits & 7)),
            msg_id: MsgId(u16::from(bits >> 3)),
            code: ReturnCode(bits & 3),
        }),
    };
    message.encode(out).expect("it is short");
}

/// What a well-behaved node answers.
fn answer(last: Option<&[u8]>) -> Option<Message<'static>> {
    let (_, message) = moteway::mqttsn::decode_datagram(last?).ok()?;
    Some(match message {
        Message::Publish(publish) => match publish.qos {
            PublishQos::Level(QoS::ExactlyOnce) => Message::PubRec(publish.msg_id),
            _ => Message::PubAck(PubAck {
                topic_id: publish.topic.wire_id(),
                msg_id: publish.msg_id,
                code: ReturnCode::ACCEPTED,
            }),
        },
        Message::Register(register) => Message::RegAck(RegAck {
            topic_id: register.topic_id,
            msg_id: register.msg_id,
            code: ReturnCode::ACCEPTED,
        }),
        Message::PubRec(id) => Message::PubRel(id),
        Message::PubRel(id) => Message::PubComp(id),
        Message::WillTopicReq => {
            Message::WillTopic(Some(WillTopic { qos: QoS::AtLeastOnce, retain: false, topic: "a" }))
        }
        Message::WillMsgReq => Message::WillMsg(b"gone"),
        _ => return None,
    })
}

fn connect(bits: u8) -> Message<'static> {
    Message::Connect(Connect {
        will: bits & 1 != 0,
        clean_session: bits & 2 != 0,
        protocol_id: PROTOCOL_ID,
        duration: u16::from(bits >> 4),
        client_id: client(bits >> 2),
    })
}

fn client(bits: u8) -> &'static str {
    CLIENTS[usize::from(bits & 3)]
}

fn topic(source: &mut Source<'_>) -> &'static str {
    TOPICS[usize::from(source.byte()) % TOPICS.len()]
}

fn filter(source: &mut Source<'_>) -> SubscribeTopic<'static> {
    let bits = source.byte();
    match bits & 3 {
        0 => SubscribeTopic::Predefined(TopicId(u16::from(bits >> 6))),
        1 => SubscribeTopic::Short(ShortName(*b"ab")),
        2 => SubscribeTopic::Name(FILTERS[usize::from(bits >> 4)]),
        _ => SubscribeTopic::Name(TOPICS[usize::from(bits >> 2) % TOPICS.len()]),
    }
}

fn will(source: &mut Source<'_>, bits: u8) -> Option<WillTopic<'static>> {
    let qos = QoS::from_u8(bits & 3).unwrap_or_default();
    (bits & 8 != 0).then(|| WillTopic { qos, retain: bits & 4 != 0, topic: topic(source) })
}

fn publish<'a>(source: &mut Source<'_>, bits: u8, payload: &'a [u8]) -> Publish<'a> {
    let place = source.byte();
    let id = TopicId(u16::from(place >> 3 & 7));
    let topic = match place & 7 {
        0 => Topic::Predefined(TopicId(1)),
        1 => Topic::Short(ShortName(*b"ab")),
        2 => Topic::Reserved(id),
        3 => Topic::Predefined(id),
        _ => Topic::Id(id),
    };
    let qos = QoS::from_u8(bits & 3).map_or(PublishQos::MinusOne, PublishQos::Level);
    Publish {
        dup: bits & 8 != 0,
        qos,
        retain: bits & 4 != 0,
        topic,
        msg_id: MsgId(u16::from(place >> 6) + 1),
        payload,
    }
}
