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
                let (pkid, reason, properties) = decode(version, PacketType::$name, frame.body)?;
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
    body: &[u8],
) -> Result<(u16, ReasonCode, ReasonProperties<'_>), DecodeError> {
    let mut body = Reader::new(body);
    let pkid = body.pkid()?;
    let mut found = (pkid, ReasonCode::Success, ReasonProperties::default());
    if version == Version::V5 && !body.is_empty() {
        found.1 = reason(kind, body.u8()?)?;
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
