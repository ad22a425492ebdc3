//! The MQTT codec as a whole: what it encodes it decodes, whatever else comes it refuses without a panic, and
//! another codec agrees with it.

mod rumqttc;
mod strategy;

use moteway::mqtt::*;
use proptest::prelude::*;

/// Splits and decodes what must be exactly one packet.
fn decode(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let whole = frame(bytes, MAX_PACKET)?.expect("a complete packet");
    assert_eq!(whole.raw.len(), bytes.len(), "one packet");
    Packet::decode(version, &whole)
}

fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

/// Decodes what may be anything. If it is a packet, it must mean the same after another round.
fn survive(version: Version, bytes: &[u8]) {
    let Ok(Some(whole)) = frame(bytes, MAX_PACKET) else { return };
    if let Ok(packet) = Packet::decode(version, &whole) {
        assert_eq!(decode(version, &encode(version, &packet)), Ok(packet), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded((version, packet) in strategy::any_packet()) {
        let bytes = encode(version, &packet);
        prop_assert_eq!(decode(version, &bytes), Ok(packet));
    }

    #[test]
    fn encoding_appends((version, packet) in strategy::any_packet(), before in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut out = before.clone();
        packet.encode(version, &mut out);
        prop_assert_eq!(out, [before, encode(version, &packet)].concat());
    }

    #[test]
    fn a_prefix_is_incomplete((version, packet) in strategy::any_packet()) {
        let bytes = encode(version, &packet);
        for len in (0..bytes.len()).take(300) {
            prop_assert_eq!(frame(&bytes[..len], MAX_PACKET), Ok(None));
        }
    }

    /// The frame is complete, but its body ends early: never a panic, and for most packets an error.
    #[test]
    fn a_shortened_body_is_refused_or_another_packet((version, packet) in strategy::any_packet()) {
        let bytes = encode(version, &packet);
        let body = frame(&bytes, MAX_PACKET).unwrap().unwrap().body;
        for len in (0..body.len()).take(127) {
            let short = [&[bytes[0], u8::try_from(len).unwrap()], &body[..len]].concat();
            survive(version, &short);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_packet((version, packet) in strategy::any_packet(), mask in 1..=255u8) {
        let mut bytes = encode(version, &packet);
        for at in 0..bytes.len().min(300) {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, mask] {
                bytes[at] ^= change;
                survive(version, &bytes);
                bytes[at] ^= change;
            }
        }
    }

    /// Read as another version it is an error or another packet.
    #[test]
    fn versions_do_not_mix_up((version, packet) in strategy::any_packet(), other in strategy::version()) {
        survive(other, &encode(version, &packet));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in strategy::version(),
        header in any::<u8>(),
        body in prop::collection::vec(prop_oneof![0..=4u8, any::<u8>()], 0..100),
    ) {
        survive(version, &body);
        survive(version, &[&[header, u8::try_from(body.len()).unwrap()], &body[..]].concat());
    }

    #[test]
    fn forwarded_properties_survive_the_way_through_a_message(properties in strategy::publish_properties()) {
        let mut wire = Vec::new();
        properties.forwarded(&mut wire);
        let there = PublishProperties::from_forwarded(&wire).unwrap();
        let kept = PublishProperties {
            message_expiry: None,
            topic_alias: None,
            subscription_ids: SubscriptionIds::NONE,
            ..properties
        };
        prop_assert_eq!(there, kept);
        let mut again = Vec::new();
        there.forwarded(&mut again);
        prop_assert_eq!(again, wire);
    }

    /// A head made of a message, with the payload behind it, is the PUBLISH with the same fields.
    #[test]
    fn a_head_and_its_payload_are_a_publish(version in strategy::version(), publish in strategy::publish(Version::V5)) {
        let mut forwarded = Vec::new();
        publish.properties.forwarded(&mut forwarded);
        let subscription_ids: Vec<u32> = publish.properties.subscription_ids.iter().collect();
        let topic = if version != Version::V5 && publish.topic.is_empty() { "t" } else { publish.topic };
        let head = publish::Head {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic,
            pkid: 0,
            message_expiry: publish.properties.message_expiry,
            topic_alias: publish.properties.topic_alias,
            subscription_ids: &subscription_ids,
            forwarded: &forwarded,
            payload_len: publish.payload.len(),
        };
        let mut bytes = Vec::new();
        publish::encode_head(version, &head, &mut bytes);
        if let Some(at) = publish::pkid_offset(&bytes) {
            publish::set_pkid(&mut bytes, at, publish.pkid);
        }
        bytes.extend_from_slice(publish.payload);
        prop_assert_eq!(bytes.len(), head.packet_len(version));
        let properties = if version == Version::V5 { publish.properties } else { PublishProperties::default() };
        prop_assert_eq!(decode(version, &bytes), Ok(Packet::Publish(Publish { topic, properties, ..publish })));
    }
}
