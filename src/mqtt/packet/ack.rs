//! PUBACK, PUBREC, PUBREL and PUBCOMP, MQTT 5.0 sections 3.4 to 3.7: the same but for their type and reason codes.

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, ReasonCode, Version};

properties! {
    /// Properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    ReasonProperties {
        /// For diagnostics, human readable.
        reason_string: &'a str = ReasonString,
    }
}

/// Whose packets these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Only what the standard allows.
    Strict,
    /// A refusal may have the reason of another packet.
    Lenient,
}

/// Reads a reason code that a packet of this type may carry.
pub(super) fn reason(kind: PacketType, code: u8) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode::from_u8(code).ok_or(DecodeError::malformed("reason code is unknown (section 2.4)"))?;
    if reason.belongs_to(kind) {
        Ok(reason)
    } else {
        Err(DecodeError::protocol("reason code does not belong to this packet (section 2.4)"))
    }
}

macro_rules! acknowledgement {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name<'a> {
            /// Packet identifier of the PUBLISH.
            pub pkid: u16,
            /// Success in 3.1 and 3.1.1.
            pub reason: ReasonCode,
            /// Empty in 3.1 and 3.1.1.
            pub properties: ReasonProperties<'a>,
        }

        impl<'a> $name<'a> {
            /// Says this reason and nothing else.
            #[must_use]
            pub fn new(pkid: u16, reason: ReasonCode) -> Self {
                Self { pkid, reason, properties: ReasonProperties::default() }
            }

            /// Decodes.
            ///
            /// # Errors
            /// If the frame is not exactly what the standard allows.
            pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
                frame.check_flags(version, PacketType::$name)?;
                let (pkid, reason, properties) =
                    decode(version, PacketType::$name, Reading::Strict, frame.body)?;
                Ok(Self { pkid, reason, properties })
            }

            /// Decodes what a server answers, who may refuse with a reason that the standard gives to other packets
            /// only: mosquitto 2.0 says "Packet too large" here when a message is over its `message_size_limit`.
            ///
            /// # Errors
            /// If anything else is not what the standard allows.
            pub fn decode_from_server(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
                frame.check_flags(version, PacketType::$name)?;
                let (pkid, reason, properties) =
                    decode(version, PacketType::$name, Reading::Lenient, frame.body)?;
                Ok(Self { pkid, reason, properties })
            }

            /// Appends the packet: in its short forms where the reason is Success and there are no properties.
            #[inline]
            pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
                encode(version, PacketType::$name, self.pkid, self.reason, &self.properties, out);
            }
        }
    };
}

acknowledgement! {
    /// PUBACK, MQTT 5.0 section 3.4.
    PubAck
}
acknowledgement! {
    /// PUBREC, MQTT 5.0 section 3.5.
    PubRec
}
acknowledgement! {
    /// PUBREL, MQTT 5.0 section 3.6.
    PubRel
}
acknowledgement! {
    /// PUBCOMP, MQTT 5.0 section 3.7.
    PubComp
}

fn decode(
    version: Version,
    kind: PacketType,
    reading: Reading,
    body: &[u8],
) -> Result<(u16, ReasonCode, ReasonProperties<'_>), DecodeError> {
    let mut body = Reader::new(body);
    let pkid = body.pkid()?;
    let mut found = (pkid, ReasonCode::Success, ReasonProperties::default());
    if version == Version::V5 && !body.is_empty() {
        let code = body.u8()?;
        found.1 = match ReasonCode::from_u8(code) {
            Some(refusal) if reading == Reading::Lenient && refusal.is_error() => refusal,
            _ => reason(kind, code)?,
        };
        if !body.is_empty() {
            found.2 = ReasonProperties::decode(&mut body)?;
        }
    }
    body.finish()?;
    Ok(found)
}

#[inline]
fn encode(
    version: Version,
    kind: PacketType,
    pkid: u16,
    reason: ReasonCode,
    properties: &ReasonProperties<'_>,
    out: &mut Vec<u8>,
) {
    let [high, low] = pkid.to_be_bytes();
    let bare = *properties == ReasonProperties::default();
    if version != Version::V5 || (bare && reason == ReasonCode::Success) {
        out.extend_from_slice(&[kind.header(), 2, high, low]);
    } else if bare {
        out.extend_from_slice(&[kind.header(), 3, high, low, reason.as_u8()]);
    } else {
        wire::put_packet(out, kind, |out| {
            out.extend_from_slice(&[high, low, reason.as_u8()]);
            properties.put(out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    #[test]
    fn puback_has_three_forms_in_5_0() {
        let ack = PubAck::new(0x1234, Success);
        assert_packet(V5, b"\x40\x02\x12\x34", Packet::PubAck(ack));
        let ack = PubAck::new(0x1234, NoMatchingSubscribers);
        assert_packet(V5, b"\x40\x03\x12\x34\x10", Packet::PubAck(ack));
        let properties =
            ReasonProperties { reason_string: Some("no"), user_properties: [("a", "b")].as_slice().into() };
        let ack = PubAck { pkid: 0x1234, reason: QuotaExceeded, properties };
        let bytes = b"\x40\x10\x12\x34\x97\x0C\x1F\0\x02no\x26\0\x01a\0\x01b";
        assert_packet(V5, bytes, Packet::PubAck(ack));
    }

    #[test]
    fn a_server_may_refuse_with_the_reason_of_another_packet() {
        let bytes = b"\x40\x03\0\x01\x95";
        let frame = crate::mqtt::frame(bytes, 100).unwrap().unwrap();
        assert!(PubAck::decode(V5, &frame).is_err());
        assert_eq!(PubAck::decode_from_server(V5, &frame), Ok(PubAck::new(1, PacketTooLarge)));
        for code in [0x01, 0x18, 0xFF] {
            let bytes = [0x40, 3, 0, 1, code];
            let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
            assert!(PubAck::decode_from_server(V5, &frame).is_err(), "no refusal, or no reason at all");
        }
    }

    #[test]
    fn long_forms_that_say_nothing_are_understood() {
        for body in [&b"\0\x01"[..], b"\0\x01\0", b"\0\x01\0\0"] {
            let bytes = packet(0x70, body);
            let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
            assert_eq!(PubComp::decode(V5, &frame), Ok(PubComp::new(1, Success)));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0x40, b"\0\0")), ProtocolError, "packet identifier 0");
        assert_eq!(refusal(V311, &packet(0x40, b"\0")), MalformedPacket);
        assert_eq!(refusal(V311, &packet(0x40, b"\0\x01\0")), MalformedPacket, "a reason code in 3.1.1");
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\x7F")), MalformedPacket, "no such code");
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\x92")), ProtocolError, "a code of PUBREL");
        assert_eq!(refusal(V5, &packet(0x62, b"\0\x01\x10")), ProtocolError, "a code of PUBREC");
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\0\x02\x01\x01")), MalformedPacket, "a property of PUBLISH");
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\0\x01\x7E")), MalformedPacket, "no such property");
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\0\x06\x1F\0\0\x1F\0\0")), ProtocolError, "a property twice");
        assert_eq!(
            refusal(V5, &packet(0x40, b"\0\x01\0\x02\x1F\0\0")),
            MalformedPacket,
            "a property across the end"
        );
        assert_eq!(refusal(V5, &packet(0x40, b"\0\x01\0\0\0")), MalformedPacket, "a byte too many");
    }
}
