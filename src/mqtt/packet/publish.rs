//! PUBLISH, MQTT 5.0 section 3.3, MQTT 3.1.1 section 3.3. The hot path: nothing here allocates but `out` growing.
//!
//! A message for many receivers is encoded once, with [`encode_head`], and copied; [`pkid_offset`] says where the
//! copy's packet identifier goes.

use crate::mqtt::property::{self, PropertyId};
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{
    DecodeError, Frame, PacketType, PayloadFormat, QoS, ReasonCode, SubscriptionIds, TopicError, UserProperties,
    Version, topic,
};

/// The DUP flag in the first byte of a PUBLISH: set it in a copy that is sent again [MQTT-3.3.1-1].
pub const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// PUBLISH properties, MQTT 5.0 section 3.3.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishProperties<'a> {
    /// What the payload is.
    pub payload_format: Option<PayloadFormat>,
    /// Seconds that the message is of use.
    pub message_expiry: Option<u32>,
    /// Stands for the topic name on this connection; not 0.
    pub topic_alias: Option<u16>,
    /// Topic name for a response.
    pub response_topic: Option<&'a str>,
    /// Tells which request a response is for.
    pub correlation_data: Option<&'a [u8]>,
    /// MIME type or the like.
    pub content_type: Option<&'a str>,
    /// Which subscriptions matched. Only a server sends them: a server that gets one answers with a Protocol Error
    /// [MQTT-3.3.4-6].
    pub subscription_ids: SubscriptionIds<'a>,
    /// User properties, in their order.
    pub user_properties: UserProperties<'a>,
}

impl<'a> PublishProperties<'a> {
    /// Reads the properties that [`PublishProperties::forwarded`] wrote.
    ///
    /// # Errors
    /// If these are no properties of a PUBLISH.
    pub fn from_forwarded(block: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(Reader::new(block))
    }

    /// Appends those that are forwarded unchanged, in wire form without a length: payload format [MQTT-3.3.2-4],
    /// response topic [MQTT-3.3.2-15], correlation data [MQTT-3.3.2-16], content type [MQTT-3.3.2-20] and user
    /// properties, in their order [MQTT-3.3.2-17], [MQTT-3.3.2-18].
    pub fn forwarded(&self, out: &mut Vec<u8>) {
        property::put(&self.payload_format, PropertyId::PayloadFormat, out);
        property::put(&self.content_type, PropertyId::ContentType, out);
        property::put(&self.response_topic, PropertyId::ResponseTopic, out);
        property::put(&self.correlation_data, PropertyId::CorrelationData, out);
        self.user_properties.put(out);
    }

    fn read(mut block: Reader<'a>) -> Result<Self, DecodeError> {
        let mut found = Self::default();
        while !block.is_empty() {
            let start = block.rest();
            let id = PropertyId::read(&mut block)?;
            match id {
                PropertyId::PayloadFormat => property::set(&mut found.payload_format, id, &mut block)?,
                PropertyId::MessageExpiry => property::set(&mut found.message_expiry, id, &mut block)?,
                PropertyId::TopicAlias => property::set(&mut found.topic_alias, id, &mut block)?,
                PropertyId::ResponseTopic => property::set(&mut found.response_topic, id, &mut block)?,
                PropertyId::CorrelationData => property::set(&mut found.correlation_data, id, &mut block)?,
                PropertyId::ContentType => property::set(&mut found.content_type, id, &mut block)?,
                PropertyId::SubscriptionId => found.subscription_ids.read(start, &mut block)?,
                PropertyId::UserProperty => found.user_properties.read(start, &mut block)?,
                _ => return Err(property::MISPLACED),
            }
        }
        Ok(found)
    }

    fn wire_len(&self) -> usize {
        let string = |field: Option<&str>| field.map_or(0, |field| 1 + wire::string_len(field));
        self.payload_format.map_or(0, |_| 2)
            + self.message_expiry.map_or(0, |_| 5)
            + self.topic_alias.map_or(0, |_| 3)
            + string(self.content_type)
            + string(self.response_topic)
            + self.correlation_data.map_or(0, |data| 1 + wire::binary_len(data))
            + self.subscription_ids.wire_len()
            + self.user_properties.wire_len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        property::put(&self.message_expiry, PropertyId::MessageExpiry, out);
        property::put(&self.topic_alias, PropertyId::TopicAlias, out);
        self.subscription_ids.put(out);
        self.forwarded(out);
    }
}

/// PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent again; false at QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain, or was retained.
    pub retain: bool,
    /// Topic name, checked; empty only where a topic alias stands for it.
    pub topic: &'a str,
    /// Packet identifier; 0 at QoS 0 and nowhere else.
    pub pkid: u16,
    /// Empty in 3.1 and 3.1.1.
    pub properties: PublishProperties<'a>,
    /// Application payload.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Decodes; the frame must be a PUBLISH.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    #[inline]
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let header = frame.header;
        debug_assert_eq!(frame.packet_type(), Some(PacketType::Publish));
        frame.check_length(version)?;
        let Some(qos) = QoS::from_u8(header >> 1 & 0b11) else {
            return Err(DecodeError::malformed("QoS is 3 [MQTT-3.3.1-4]"));
        };
        let dup = header & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP at QoS 0 [MQTT-3.3.1-2]"));
        }
        let mut body = Reader::new(frame.body);
        let topic = body.utf8()?;
        let pkid = if qos == QoS::AtMostOnce { 0 } else { body.pkid()? };
        let properties = if version == Version::V5 {
            PublishProperties::read(property::block(&mut body)?)?
        } else {
            PublishProperties::default()
        };
        if let Err(error) = topic::check_name(topic) {
            bad_topic(version, error, properties.topic_alias)?;
        }
        Ok(Self { dup, qos, retain: header & RETAIN != 0, topic, pkid, properties, payload: body.rest() })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let properties_len = if version == Version::V5 { self.properties.wire_len() } else { 0 };
        let start = Start {
            version,
            header: first_byte(self.dup, self.qos, self.retain),
            topic: self.topic,
            pkid: self.pkid,
            properties_len,
            payload_len: self.payload.len(),
        };
        if start.put(out, self.payload.len()) {
            if properties_len > 0 {
                self.properties.put(out);
            }
            out.extend_from_slice(self.payload);
        }
    }
}

/// Tells a topic alias without a name from a topic that is wrong.
#[cold]
fn bad_topic(version: Version, error: TopicError, alias: Option<u16>) -> Result<(), DecodeError> {
    match error {
        TopicError::Empty if version == Version::V5 && alias.is_some() => Ok(()),
        TopicError::Empty if version == Version::V5 => {
            Err(DecodeError::protocol("topic is empty and there is no topic alias (section 3.3.2.1)"))
        }
        TopicError::Nul => Err(DecodeError::malformed(error.text())),
        _ => Err(DecodeError::new(ReasonCode::TopicNameInvalid, error.text())),
    }
}

/// A PUBLISH of a [`Message`] without its payload.
///
/// [`Message`]: crate::mqtt::Message
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// Sent again.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// The RETAIN flag as the receiver sees it.
    pub retain: bool,
    /// Topic name; empty where the receiver knows the alias.
    pub topic: &'a str,
    /// Packet identifier; 0 at QoS 0, or where it is set afterwards.
    pub pkid: u16,
    /// What is left of the message expiry interval, in seconds. 5.0 only, like all that follows but the last.
    pub message_expiry: Option<u32>,
    /// For this receiver.
    pub topic_alias: Option<u16>,
    /// The receiver's subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// Properties in the wire form of [`Message::properties`], copied as they are.
    ///
    /// [`Message::properties`]: crate::mqtt::Message::properties
    pub forwarded: &'a [u8],
    /// Bytes of payload that will follow.
    pub payload_len: usize,
}

impl Head<'_> {
    fn properties_len(&self, version: Version) -> usize {
        if version != Version::V5 {
            return 0;
        }
        self.message_expiry.map_or(0, |_| 5)
            + self.topic_alias.map_or(0, |_| 3)
            + self.subscription_ids.iter().map(|id| 1 + wire::varint_len(*id as usize)).sum::<usize>()
            + self.forwarded.len()
    }

    fn start(&self, version: Version) -> Start<'_> {
        Start {
            version,
            header: first_byte(self.dup, self.qos, self.retain),
            topic: self.topic,
            pkid: self.pkid,
            properties_len: self.properties_len(version),
            payload_len: self.payload_len,
        }
    }

    /// How long the whole packet is, payload included: what a receiver's Maximum Packet Size and
    /// [`MAX_PACKET`](crate::mqtt::MAX_PACKET) bound [MQTT-3.1.2-24].
    #[must_use]
    pub fn packet_len(&self, version: Version) -> usize {
        let remaining = self.start(version).remaining();
        1 + wire::varint_len(remaining) + remaining
    }
}

/// Appends everything of a PUBLISH but the payload, which must follow.
///
/// Nothing is appended if no remaining length can tell the packet's length: check [`Head::packet_len`] before.
#[inline]
pub fn encode_head(version: Version, head: &Head<'_>, out: &mut Vec<u8>) {
    let start = head.start(version);
    if start.put(out, 0) && start.properties_len > 0 {
        property::put(&head.message_expiry, PropertyId::MessageExpiry, out);
        property::put(&head.topic_alias, PropertyId::TopicAlias, out);
        SubscriptionIds::from(head.subscription_ids).put(out);
        out.extend_from_slice(head.forwarded);
    }
}

/// Where the packet identifier lies in an encoded PUBLISH (or its head). `None` at QoS 0.
#[must_use]
pub fn pkid_offset(packet: &[u8]) -> Option<usize> {
    let (header, rest) = packet.split_first()?;
    if header & 0b0110 == 0 {
        return None;
    }
    let head = 2 + rest.iter().take(3).take_while(|byte| **byte >= 0x80).count();
    let topic = packet.get(head..)?.first_chunk::<2>()?;
    Some(head + 2 + usize::from(u16::from_be_bytes(*topic)))
}

/// Sets the packet identifier in an encoded PUBLISH (or its head), at its [`pkid_offset`].
///
/// # Panics
/// If the packet is not longer than that.
#[inline]
pub fn set_pkid(packet: &mut [u8], offset: usize, pkid: u16) {
    packet[offset..offset + 2].copy_from_slice(&pkid.to_be_bytes());
}

#[inline]
const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketType::Publish.header() | (dup as u8) << 3 | qos.as_u8() << 1 | retain as u8
}

/// What a PUBLISH begins with: fixed header, topic name, packet identifier, length of the properties.
struct Start<'a> {
    version: Version,
    header: u8,
    topic: &'a str,
    pkid: u16,
    properties_len: usize,
    payload_len: usize,
}

impl Start<'_> {
    const fn has_pkid(&self) -> bool {
        self.header & 0b0110 != 0
    }

    /// The length of all that follows the remaining length, payload included.
    #[inline]
    fn remaining(&self) -> usize {
        let properties = match self.version {
            Version::V5 => wire::varint_len(self.properties_len) + self.properties_len,
            Version::V31 | Version::V311 => 0,
        };
        2 + self.topic.len() + 2 * usize::from(self.has_pkid()) + properties + self.payload_len
    }

    /// Appends, and makes room for the properties and `room` more. False, and nothing is appended, if the packet
    /// would be too long for its remaining length.
    #[inline]
    fn put(&self, out: &mut Vec<u8>, room: usize) -> bool {
        let remaining = match u32::try_from(self.remaining()) {
            Ok(remaining) if remaining <= wire::MAX_VARINT && self.topic.len() <= topic::MAX_LEN => remaining,
            _ => return false,
        };
        out.reserve(5 + remaining as usize - self.payload_len + room);
        let (length, n) = wire::varint(remaining);
        out.push(self.header);
        out.extend_from_slice(&length[..n]);
        wire::put_u16(out, wire::field_len(self.topic.len()));
        out.extend_from_slice(self.topic.as_bytes());
        if self.has_pkid() {
            wire::put_u16(out, self.pkid);
        }
        if self.version == Version::V5 {
            let (length, n) = wire::varint(u32::try_from(self.properties_len).unwrap_or(u32::MAX));
            out.extend_from_slice(&length[..n]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    fn qos0() -> Publish<'static> {
        Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "a",
            pkid: 0,
            properties: PublishProperties::default(),
            payload: b"hi",
        }
    }

    #[test]
    fn publish_as_bytes() {
        assert_packet(V311, b"\x30\x05\0\x01ahi", Packet::Publish(qos0()));
        assert_packet(V5, b"\x30\x06\0\x01a\0hi", Packet::Publish(qos0()));
        let publish = Publish { dup: true, qos: QoS::ExactlyOnce, retain: true, pkid: 7, payload: b"", ..qos0() };
        assert_packet(V311, b"\x3D\x05\0\x01a\0\x07", Packet::Publish(publish));
        let ids = [1, 300];
        let properties = PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry: Some(2),
            topic_alias: Some(3),
            content_type: Some("t"),
            response_topic: Some("r"),
            correlation_data: Some(b"c"),
            subscription_ids: ids.as_slice().into(),
            user_properties: [("a", "b")].as_slice().into(),
        };
        let bytes = b"\x30\x27\0\0\x22\x02\0\0\0\x02\x23\0\x03\x0B\x01\x0B\xAC\x02\
            \x01\x01\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01a\0\x01bhi";
        assert_packet(V5, bytes, Packet::Publish(Publish { topic: "", properties, ..qos0() }));
    }

    #[test]
    fn properties_that_may_repeat_may_lie_apart() {
        let body = b"\0\x01a\x13\x0B\x05\x26\0\x01a\0\x01b\x01\x01\x0B\x06\x26\0\x01c\0\0hi";
        let bytes = packet(0x30, body);
        let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
        let publish = Publish::decode(V5, &frame).unwrap();
        assert_eq!(publish.properties.subscription_ids.iter().collect::<Vec<_>>(), [5, 6]);
        assert_eq!(publish.properties.user_properties.iter().collect::<Vec<_>>(), [("a", "b"), ("c", "")]);
        assert_eq!((publish.properties.payload_format, publish.payload), (Some(PayloadFormat::Utf8), &b"hi"[..]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0x36, b"\0\x01a\0\x01")), MalformedPacket, "QoS 3");
        assert_eq!(refusal(V311, &packet(0x38, b"\0\x01a")), MalformedPacket, "DUP at QoS 0");
        assert_eq!(refusal(V311, &packet(0x32, b"\0\x01a\0\0")), ProtocolError, "packet identifier 0");
        assert_eq!(refusal(V311, &packet(0x32, b"\0\x01a\0")), MalformedPacket, "half a packet identifier");
        assert_eq!(refusal(V311, &packet(0x30, b"\0\x02a")), MalformedPacket, "half a topic");
        assert_eq!(refusal(V311, &packet(0x30, b"\0\0")), TopicNameInvalid, "empty topic");
        assert_eq!(refusal(V311, &packet(0x30, b"\0\x01+")), TopicNameInvalid, "wildcard");
        assert_eq!(refusal(V311, &packet(0x30, b"\0\x01\0")), MalformedPacket, "U+0000");
        assert_eq!(refusal(V311, &packet(0x30, b"\0\x01\xFF")), MalformedPacket, "not UTF-8");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\0\0")), ProtocolError, "empty topic without an alias");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\0\x03\x23\0\0")), TopicAliasInvalid, "topic alias 0");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\x01a\x02\x0B\0")), ProtocolError, "subscription identifier 0");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\x01a\x02\x01\x02")), ProtocolError, "payload format 2");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\x01a\x04\x08\0\x01+")), ProtocolError, "response topic");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\x01a\x03\x1F\0\0")), MalformedPacket, "a property of PUBACK");
        assert_eq!(refusal(V5, &packet(0x30, b"\0\x01a\x04\x01\0\x01\0")), ProtocolError, "a property twice");
        assert_eq!(refusal(V5, b"\x30\x84\0\0\x01a\0"), MalformedPacket, "remaining length in two bytes");
    }

    #[test]
    fn one_encoding_serves_many_receivers() {
        let head = Head { qos: QoS::AtLeastOnce, topic: "a/b", payload_len: 200, ..Head::default() };
        for version in [V311, V5] {
            let mut once = Vec::new();
            encode_head(version, &head, &mut once);
            once.extend_from_slice(&[7; 200]);
            let at = pkid_offset(&once).unwrap();
            for pkid in [1, 0xFFFF] {
                let mut copy = once.clone();
                set_pkid(&mut copy, at, pkid);
                copy[0] |= DUP;
                let frame = crate::mqtt::frame(&copy, 1000).unwrap().unwrap();
                let publish = Publish::decode(version, &frame).unwrap();
                assert_eq!((publish.pkid, publish.dup, publish.payload), (pkid, true, &[7; 200][..]));
            }
        }
        let mut qos0 = Vec::new();
        encode_head(V5, &Head { topic: "a/b", ..Head::default() }, &mut qos0);
        assert_eq!(pkid_offset(&qos0), None);
    }

    #[test]
    fn a_packet_that_is_too_long_is_not_begun() {
        let mut out = Vec::new();
        let most = wire::MAX_VARINT as usize - 3;
        encode_head(V311, &Head { topic: "a", payload_len: most, ..Head::default() }, &mut out);
        assert_eq!(out, b"\x30\xFF\xFF\xFF\x7F\0\x01a");
        assert!(out.capacity() < 100, "no room is made for a payload that is shared");
        out.clear();
        encode_head(V311, &Head { topic: "a", payload_len: most + 1, ..Head::default() }, &mut out);
        encode_head(V311, &Head { topic: &"a".repeat(65_536), ..Head::default() }, &mut out);
        assert_eq!(out, b"");
    }
}
