//! What the tests of all packets share, and the packets of 3.1.1.

use crate::mqtt::*;

/// A packet with this first byte and this body, which is short.
pub(super) fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    [&[header, u8::try_from(body.len()).unwrap()], body].concat()
}

fn decode(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let frame = frame(bytes, MAX_PACKET)?.expect("a complete packet");
    assert_eq!(frame.raw.len(), bytes.len(), "one packet");
    Packet::decode(version, &frame)
}

/// These bytes mean this packet, and this packet is encoded as these bytes.
pub(super) fn assert_packet(version: Version, bytes: &[u8], packet: Packet<'_>) {
    assert_eq!(decode(version, bytes), Ok(packet));
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(out, bytes, "{packet:?}");
}

/// Why these bytes are refused.
#[track_caller]
pub(super) fn refusal(version: Version, bytes: &[u8]) -> ReasonCode {
    match decode(version, bytes) {
        Err(error) => error.reason(),
        Ok(packet) => panic!("not refused: {packet:?}"),
    }
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
        assert_packet(Version::V311, bytes, packet);
    }
}

#[test]
fn reserved_flags_of_the_fixed_header_are_refused() {
    for kind in [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
        let right = if matches!(kind, 6 | 8 | 10) { 0b0010 } else { 0 };
        for flags in (0..16).filter(|flags| *flags != right) {
            let connect = b"\0\x04MQTT\x05\x02\0\0\0\0\0";
            let bytes = packet(kind << 4 | flags, if kind == 1 { connect } else { b"\0\x01" });
            assert_eq!(refusal(Version::V5, &bytes), ReasonCode::MalformedPacket, "{bytes:x?}");
        }
    }
}

#[test]
fn dup_on_a_repeated_request_is_taken_from_3_1_only() {
    assert!(decode(Version::V31, b"\x6A\x02\0\x01").is_ok());
    assert!(decode(Version::V31, b"\x8A\x06\0\x01\0\x01a\0").is_ok());
    assert!(decode(Version::V31, b"\x48\x02\0\x01").is_err());
    assert!(decode(Version::V311, b"\x6A\x02\0\x01").is_err());
}

#[test]
fn packet_type_0_and_auth_before_5_0_are_refused() {
    assert_eq!(refusal(Version::V5, b"\0\0"), ReasonCode::MalformedPacket);
    assert_eq!(refusal(Version::V311, b"\xF0\0"), ReasonCode::MalformedPacket);
}

#[test]
fn pings_have_no_body() {
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(refusal(version, b"\xC0\x01\0"), ReasonCode::MalformedPacket);
        assert_eq!(refusal(version, b"\xD0\x01\0"), ReasonCode::MalformedPacket);
    }
}
