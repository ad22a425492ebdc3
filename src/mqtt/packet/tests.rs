//! Every packet, every version.

use crate::mqtt::*;

fn decode(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let frame = frame(bytes, MAX_PACKET)?.expect("a complete packet");
    assert_eq!(frame.raw.len(), bytes.len());
    Packet::decode(version, &frame)
}

#[test]
fn packets_of_3_1_1_are_as_the_standard_shows() {
    for (bytes, packet) in [
        (&b"\xC0\0"[..], Packet::PingReq),
        (b"\xD0\0", Packet::PingResp),
        (b"\xE0\0", Packet::Disconnect(Disconnect::default())),
        (b"\x20\x02\x01\0", Packet::ConnAck(ConnAck { session_present: true, ..ConnAck::default() })),
        (b"\x20\x02\0\x05", Packet::ConnAck(ConnAck::refusal(ReasonCode::NotAuthorized))),
        (b"\x40\x02\x12\x34", Packet::PubAck(PubAck::new(0x1234, ReasonCode::Success))),
        (b"\x50\x02\x12\x34", Packet::PubRec(PubRec::new(0x1234, ReasonCode::Success))),
        (b"\x62\x02\x12\x34", Packet::PubRel(PubRel::new(0x1234, ReasonCode::Success))),
        (b"\x70\x02\x12\x34", Packet::PubComp(PubComp::new(0x1234, ReasonCode::Success))),
        (
            b"\x33\x09\0\x03a/b\0\x0Ahi",
            Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: "a/b",
                pkid: 10,
                properties: PublishProperties::default(),
                payload: b"hi",
            }),
        ),
        (
            b"\x82\x0E\0\x0A\0\x03a/b\x01\0\x03c/d\x02",
            Packet::Subscribe(Subscribe {
                pkid: 10,
                properties: SubscribeProperties::default(),
                filters: Filters::from(
                    &[
                        Subscription {
                            filter: "a/b",
                            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..Default::default() },
                        },
                        Subscription {
                            filter: "c/d",
                            options: SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() },
                        },
                    ][..],
                ),
            }),
        ),
        (
            b"\x90\x05\0\x0A\x00\x02\x80",
            Packet::SubAck(SubAck { pkid: 10, properties: ReasonProperties::default(), codes: &[0, 2, 0x80] }),
        ),
        (
            b"\xA2\x0C\0\x0A\0\x03a/b\0\x03c/d",
            Packet::Unsubscribe(Unsubscribe {
                pkid: 10,
                properties: UnsubscribeProperties::default(),
                filters: UnsubscribeFilters::from(&["a/b", "c/d"][..]),
            }),
        ),
        (
            b"\xB0\x02\0\x0A",
            Packet::UnsubAck(UnsubAck { pkid: 10, properties: ReasonProperties::default(), codes: &[] }),
        ),
        (
            b"\x10\x26\0\x04MQTT\x04\xCE\0\x0A\0\x03cid\0\x04will\0\x03bye\0\x04user\0\x04pass",
            Packet::Connect(Connect {
                version: Version::V311,
                clean_start: true,
                keep_alive: 10,
                client_id: "cid",
                will: Some(Will {
                    topic: "will",
                    payload: b"bye",
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    properties: WillProperties::default(),
                }),
                username: Some("user"),
                password: Some(b"pass"),
                properties: ConnectProperties::default(),
            }),
        ),
    ] {
        assert_eq!(decode(Version::V311, bytes), Ok(packet));
        let mut out = Vec::new();
        packet.encode(Version::V311, &mut out);
        assert_eq!(out, bytes, "{packet:?}");
    }
}
