//! The codec against the table: vectors byte for byte, then properties.

use proptest::prelude::*;

use crate::mqtt::QoS;
use crate::mqttsn::{
    Advertise, ConnAck, Connect, DecodeError, Disconnect, Forwarded, GwInfo, Message, MsgId, PingReq, PubAck,
    Publish, PublishQos, RegAck, Register, ReturnCode, SearchGw, ShortName, SubAck, Subscribe, SubscribeTopic,
    TooLong, Topic, TopicId, Unsubscribe, WillTopic, decode_datagram,
};

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

/// Both directions at once.
#[track_caller]
fn is(message: &Message<'_>, hex: &str) {
    let octets: Vec<u8> = hex.split(' ').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    assert_eq!(encoded(message), octets, "{message:?}");
    assert_eq!(Message::decode(&octets), Ok(*message));
}

fn publish(qos: PublishQos, topic: Topic, msg_id: u16, payload: &[u8]) -> Publish<'_> {
    Publish { dup: false, qos, retain: false, topic, msg_id: MsgId(msg_id), payload }
}

#[test]
fn vectors_of_the_documents() {
    let connect = Connect { will: false, clean_session: true, protocol_id: 1, duration: 60, client_id: "ab" };
    is(&Message::Connect(connect), "08 04 04 01 00 3C 61 62");
    is(&Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED }), "03 05 00");
    let register = Register { topic_id: TopicId::NONE, msg_id: MsgId(1), topic: "a/b" };
    is(&Message::Register(register), "09 0A 00 00 00 01 61 2F 62");
    let regack = RegAck { topic_id: TopicId(1), msg_id: MsgId(1), code: ReturnCode::ACCEPTED };
    is(&Message::RegAck(regack), "07 0B 00 01 00 01 00");
    let one = publish(PublishQos::Level(QoS::AtLeastOnce), Topic::Id(TopicId(1)), 2, b"hi");
    is(&Message::Publish(one), "09 0C 20 00 01 00 02 68 69");
    let puback = PubAck { topic_id: TopicId(1), msg_id: MsgId(2), code: ReturnCode::ACCEPTED };
    is(&Message::PubAck(puback), "07 0D 00 01 00 02 00");
    let subscribe =
        Subscribe { dup: false, qos: QoS::AtLeastOnce, msg_id: MsgId(3), topic: SubscribeTopic::Name("a/#") };
    is(&Message::Subscribe(subscribe), "08 12 20 00 03 61 2F 23");
    let suback =
        SubAck { qos: QoS::AtLeastOnce, topic_id: TopicId::NONE, msg_id: MsgId(3), code: ReturnCode::ACCEPTED };
    is(&Message::SubAck(suback), "08 13 20 00 00 00 03 00");
    is(&Message::Disconnect(Disconnect { duration: Some(30) }), "04 18 00 1E");
    is(&Message::PingReq(PingReq { client_id: "ab" }), "04 16 61 62");
    let minus_one = publish(PublishQos::MinusOne, Topic::Short(ShortName(*b"tt")), 0, b"x");
    is(&Message::Publish(minus_one), "08 0C 62 74 74 00 00 78");
}

#[test]
fn every_other_message() {
    is(&Message::Advertise(Advertise { gateway_id: 1, duration: 900 }), "05 00 01 03 84");
    is(&Message::SearchGw(SearchGw { radius: 2 }), "03 01 02");
    is(&Message::GwInfo(GwInfo { gateway_id: 7, address: &[] }), "03 02 07");
    is(&Message::GwInfo(GwInfo { gateway_id: 7, address: &[1, 9] }), "05 02 07 01 09");
    let connect = Connect { will: true, clean_session: false, protocol_id: 1, duration: 0, client_id: "" };
    is(&Message::Connect(connect), "06 04 08 01 00 00");
    is(&Message::WillTopicReq, "02 06");
    let will = WillTopic { qos: QoS::ExactlyOnce, retain: true, topic: "w" };
    is(&Message::WillTopic(Some(will)), "04 07 50 77");
    is(&Message::WillTopic(None), "02 07");
    is(&Message::WillMsgReq, "02 08");
    is(&Message::WillMsg(b"gone"), "06 09 67 6F 6E 65");
    is(&Message::WillMsg(b""), "02 09");
    is(&Message::PubComp(MsgId(258)), "04 0E 01 02");
    is(&Message::PubRec(MsgId(258)), "04 0F 01 02");
    is(&Message::PubRel(MsgId(258)), "04 10 01 02");
    let predefined = SubscribeTopic::Predefined(TopicId(9));
    is(
        &Message::Subscribe(Subscribe { dup: true, qos: QoS::ExactlyOnce, msg_id: MsgId(4), topic: predefined }),
        "07 12 C1 00 04 00 09",
    );
    let short = SubscribeTopic::Short(ShortName(*b"ab"));
    is(&Message::Unsubscribe(Unsubscribe { msg_id: MsgId(5), topic: short }), "07 14 02 00 05 61 62");
    is(&Message::UnsubAck(MsgId(5)), "04 15 00 05");
    is(&Message::PingReq(PingReq { client_id: "" }), "02 16");
    is(&Message::PingResp, "02 17");
    is(&Message::Disconnect(Disconnect { duration: None }), "02 18");
    is(&Message::WillTopicUpd(None), "02 1A");
    is(&Message::WillTopicUpd(Some(will)), "04 1A 50 77");
    is(&Message::WillTopicResp(ReturnCode::NOT_SUPPORTED), "03 1B 03");
    is(&Message::WillMsgUpd(b"x"), "03 1C 78");
    is(&Message::WillMsgResp(ReturnCode::CONGESTION), "03 1D 01");
    let reserved = publish(PublishQos::Level(QoS::AtMostOnce), Topic::Reserved(TopicId(1)), 0, b"");
    is(&Message::Publish(reserved), "07 0C 03 00 01 00 00");
}

#[test]
fn encapsulated_connack() {
    let mut out = Vec::new();
    let envelope = Forwarded { radius: 0, node: &[1] };
    envelope.encode(&mut out).unwrap();
    let connack = Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED });
    connack.encode(&mut out).unwrap();
    assert_eq!(out, [0x04, 0xFE, 0x00, 0x01, 0x03, 0x05, 0x00]);
    assert_eq!(decode_datagram(&out), Ok((Some(envelope), connack)));
}

#[test]
fn bad_encapsulations_are_refused() {
    assert_eq!(decode_datagram(&[2, 0xFE, 2, 0x16]), Err(DecodeError::Length));
    assert_eq!(decode_datagram(&[9, 0xFE, 0, 1, 2, 0x16]), Err(DecodeError::Length));
    assert_eq!(decode_datagram(&[4, 0xFE, 0, 1, 4, 0xFE, 0, 1, 2, 0x16]), Err(DecodeError::Nested));
    assert_eq!(decode_datagram(&[4, 0xFE, 0, 1]), Err(DecodeError::Length));
    assert_eq!(decode_datagram(&[1, 0, 5, 0xFE, 0]), Err(DecodeError::Nested));
    let node = [0; 253];
    assert_eq!(Forwarded { radius: 0, node: &node }.encode(&mut Vec::new()), Err(TooLong));
}

#[test]
fn a_long_message_whose_length_begins_with_0xfe_is_no_envelope() {
    let message = Message::WillMsg(&[7; 0xFE10 - 4]);
    let octets = encoded(&message);
    assert_eq!(octets[..3], [1, 0xFE, 0x10]);
    assert_eq!(decode_datagram(&octets), Ok((None, message)));
}

#[test]
fn short_form_up_to_255_octets_and_long_form_beyond() {
    let payload = [7; 65_531];
    let octets = encoded(&Message::WillMsg(&payload[..253]));
    assert_eq!((octets.len(), octets[0]), (255, 255));
    let octets = encoded(&Message::WillMsg(&payload[..254]));
    assert_eq!((octets.len(), &octets[..4]), (258, &[1, 1, 2, 9][..]));
    assert_eq!(Message::decode(&octets), Ok(Message::WillMsg(&payload[..254])));
    let octets = encoded(&Message::WillMsg(&payload));
    assert_eq!((octets.len(), &octets[..3]), (65_535, &[1, 255, 255][..]));
    let mut out = vec![1, 2, 3];
    assert_eq!(Message::WillMsg(&[7; 65_532]).encode(&mut out), Err(TooLong));
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn the_long_form_of_a_short_message_is_accepted() {
    assert_eq!(Message::decode(&[1, 0, 4, 0x17]), Ok(Message::PingResp));
}

#[test]
fn what_ends_other_gateways_is_an_error_here() {
    assert_eq!(Message::decode(&[0x04, 0x0A, 0x00, 0x00]), Err(DecodeError::Truncated));
    for octets in [&[][..], &[0], &[0, 0x16], &[1], &[1, 0], &[1, 0, 3], &[2], &[3, 0x16], &[2, 0x16, 0]] {
        assert_eq!(Message::decode(octets), Err(DecodeError::Length), "{octets:?}");
    }
    for code in [0x03, 0x11, 0x19, 0x1E, 0xFD, 0xFF] {
        assert_eq!(Message::decode(&[2, code]), Err(DecodeError::Type(code)));
    }
    assert_eq!(Message::decode(&[4, 0x05, 0, 0]), Err(DecodeError::Trailing));
    assert_eq!(Message::decode(&[3, 0x18, 0]), Err(DecodeError::Truncated));
    assert_eq!(Message::decode(&[3, 0x16, 0xFF]), Err(DecodeError::Text));
    assert_eq!(Message::decode(&[3, 0x16, 0x00]), Err(DecodeError::Text));
    assert_eq!(Message::decode(&[6, 0x12, 0x60, 0, 1, 0x61]), Err(DecodeError::QoS));
    assert_eq!(Message::decode(&[4, 0x07, 0x60, 0x61]), Err(DecodeError::QoS));
    assert_eq!(Message::decode(&[6, 0x12, 0x01, 0, 1, 0x61]), Err(DecodeError::Truncated));
    assert_eq!(Message::decode(&[8, 0x12, 0x02, 0, 1, 0x61, 0x61, 0x61]), Err(DecodeError::Trailing));
}

#[test]
fn unused_flag_bits_are_ignored() {
    let connect = Connect { will: false, clean_session: true, protocol_id: 1, duration: 60, client_id: "ab" };
    assert_eq!(Message::decode(&[0x08, 0x04, 0xF7, 0x01, 0x00, 0x3C, 0x61, 0x62]), Ok(Message::Connect(connect)));
    let Ok(Message::SubAck(suback)) = Message::decode(&[8, 0x13, 0xBF, 0, 0, 0, 3, 0]) else { panic!() };
    assert_eq!(suback.qos, QoS::AtLeastOnce);
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..100)
        .prop_map(|chars| chars.into_iter().collect())
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3_u8).prop_map(|level| QoS::from_u8(level).unwrap())
}

/// Any message, built from parts that live as long as the closure runs.
fn build<'a>(
    kind: usize,
    name: &'a str,
    data: &'a [u8],
    (a, b, c): (u16, u16, u8),
    qos: QoS,
    flag: bool,
) -> Message<'a> {
    let (msg_id, topic_id, code) = (MsgId(a), TopicId(b), ReturnCode(c));
    let pair = ShortName(b.to_be_bytes());
    let topic = [Topic::Id(topic_id), Topic::Predefined(topic_id), Topic::Short(pair), Topic::Reserved(topic_id)];
    let filter = [
        SubscribeTopic::Name(name),
        SubscribeTopic::Predefined(topic_id),
        SubscribeTopic::Short(pair),
        SubscribeTopic::Reserved(data),
    ][usize::from(c % 4)];
    let will = (!name.is_empty()).then_some(WillTopic { qos, retain: flag, topic: name });
    let publish_qos = if c > 200 { PublishQos::MinusOne } else { PublishQos::Level(qos) };
    match kind {
        0 => Message::Advertise(Advertise { gateway_id: c, duration: a }),
        1 => Message::SearchGw(SearchGw { radius: c }),
        2 => Message::GwInfo(GwInfo { gateway_id: c, address: data }),
        3 => Message::Connect(Connect {
            will: flag,
            clean_session: c > 9,
            protocol_id: c,
            duration: a,
            client_id: name,
        }),
        4 => Message::ConnAck(ConnAck { code }),
        5 => Message::WillTopicReq,
        6 => Message::WillTopic(will),
        7 => Message::WillMsgReq,
        8 => Message::WillMsg(data),
        9 => Message::Register(Register { topic_id, msg_id, topic: name }),
        10 => Message::RegAck(RegAck { topic_id, msg_id, code }),
        11 => Message::Publish(Publish {
            dup: flag,
            qos: publish_qos,
            retain: c > 9,
            topic: topic[usize::from(c % 4)],
            msg_id,
            payload: data,
        }),
        12 => Message::PubAck(PubAck { topic_id, msg_id, code }),
        13 => Message::PubComp(msg_id),
        14 => Message::PubRec(msg_id),
        15 => Message::PubRel(msg_id),
        16 => Message::Subscribe(Subscribe { dup: flag, qos, msg_id, topic: filter }),
        17 => Message::SubAck(SubAck { qos, topic_id, msg_id, code }),
        18 => Message::Unsubscribe(Unsubscribe { msg_id, topic: filter }),
        19 => Message::UnsubAck(msg_id),
        20 => Message::PingReq(PingReq { client_id: name }),
        21 => Message::PingResp,
        22 => Message::Disconnect(Disconnect { duration: flag.then_some(a) }),
        23 => Message::WillTopicUpd(will),
        24 => Message::WillTopicResp(code),
        25 => Message::WillMsgUpd(data),
        _ => Message::WillMsgResp(code),
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        kind in 0..27_usize, name in text(), data in octets(), numbers: (u16, u16, u8), qos in qos(), flag: bool,
    ) {
        let message = build(kind, &name, &data, numbers, qos, flag);
        let octets = encoded(&message);
        prop_assert_eq!(Message::decode(&octets), Ok(message));
        for len in 0..octets.len() {
            prop_assert_eq!(Message::decode(&octets[..len]), Err(DecodeError::Length));
        }
    }

    #[test]
    fn a_flipped_bit_never_panics_and_what_still_decodes_is_a_message(
        kind in 0..27_usize, name in text(), data in octets(), numbers: (u16, u16, u8), at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let mut octets = encoded(&build(kind, &name, &data, numbers, QoS::AtMostOnce, true));
        let at = at.index(octets.len());
        octets[at] ^= 1 << bit;
        if let Ok(message) = Message::decode(&octets) {
            let again = encoded(&message);
            prop_assert_eq!(Message::decode(&again), Ok(message));
        }
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in octets()) {
        if let Ok((envelope, message)) = decode_datagram(&octets) {
            let mut again = Vec::new();
            if let Some(envelope) = envelope {
                envelope.encode(&mut again).unwrap();
            }
            message.encode(&mut again).unwrap();
            prop_assert_eq!(decode_datagram(&again), Ok((envelope, message)));
        }
    }

    #[test]
    fn arbitrary_bodies_of_every_type_never_panic(code: u8, body in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut octets = vec![u8::try_from(body.len() + 2).unwrap(), code];
        octets.extend_from_slice(&body);
        if let Ok(message) = Message::decode(&octets) {
            let again = encoded(&message);
            prop_assert_eq!(Message::decode(&again), Ok(message));
        }
    }
}
