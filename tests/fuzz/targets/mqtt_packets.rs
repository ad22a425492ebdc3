//! The MQTT decoder: any bytes, in every version.

use moteway::mqtt::{MAX_PACKET, Packet, Publish, PublishProperties, Version, frame, publish};

/// Decodes the bytes as a stream of packets. What decodes must mean the same after another round, and take no more
/// bytes than its fields.
pub fn run(data: &[u8]) {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut rest = data;
        while let Ok(Some(frame)) = frame(rest, MAX_PACKET) {
            assert!(rest.starts_with(frame.raw) && frame.raw.ends_with(frame.body));
            rest = &rest[frame.raw.len()..];
            if let Ok(packet) = Packet::decode(version, &frame) {
                round(version, &packet, frame.raw.len());
            }
        }
    }
}

fn round(version: Version, packet: &Packet<'_>, len: usize) {
    // CONNECT says its version itself.
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let bytes = encode(version, packet);
    // What may be left out in 5.0 (a reason, empty properties) may appear now, never more.
    assert!(bytes.len() <= len + 8, "{len} bytes became {}", bytes.len());
    let whole = frame(&bytes, MAX_PACKET).expect("what we encode is well formed").expect("it is complete");
    assert_eq!(whole.raw.len(), bytes.len(), "it is one packet");
    assert_eq!(Packet::decode(version, &whole).as_ref(), Ok(packet));
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(frame(&bytes[..cut], MAX_PACKET), Ok(None), "a part of it is not complete");
    }
    if let Packet::Publish(publish) = packet {
        forwarded(version, publish);
    }
}

/// What is made of a PUBLISH for its receivers: the properties that go on, and a head with the payload behind it.
fn forwarded(version: Version, publish: &Publish<'_>) {
    let mut properties = Vec::new();
    publish.properties.forwarded(&mut properties);
    let read = PublishProperties::from_forwarded(&properties).expect("our own properties");
    let mut again = Vec::new();
    read.forwarded(&mut again);
    assert_eq!(again, properties);
    if publish.topic.is_empty() {
        return;
    }
    let head = publish::Head {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        message_expiry: publish.properties.message_expiry,
        forwarded: &properties,
        payload_len: publish.payload.len(),
        ..publish::Head::default()
    };
    let mut bytes = Vec::new();
    publish::encode_head(version, &head, &mut bytes);
    if let Some(at) = publish::pkid_offset(&bytes) {
        publish::set_pkid(&mut bytes, at, publish.pkid);
    }
    bytes.extend_from_slice(publish.payload);
    assert_eq!(bytes.len(), head.packet_len(version));
    let whole = frame(&bytes, MAX_PACKET).expect("well formed").expect("complete");
    let sent = Publish::decode(version, &whole).expect("what we send decodes");
    assert_eq!(
        (sent.topic, sent.qos, sent.pkid, sent.payload),
        (publish.topic, publish.qos, publish.pkid, publish.payload)
    );
    assert_eq!(sent.properties.user_properties, publish.properties.user_properties);
}

fn encode(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}
