//! SUBACK and UNSUBACK, MQTT 5.0 sections 3.9 and 3.11, MQTT 3.1.1 likewise.

use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, ReasonCode, ReasonProperties, Version};

use crate::mqtt::packet::ack;

/// What 3.1.1 has for every failure, table 3.9.3.
const FAILURE: u8 = 0x80;

/// SUBACK: one code for each filter, in the order of SUBSCRIBE [MQTT-3.9.3-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Packet identifier of the SUBSCRIBE.
    pub pkid: u16,
    /// Empty in 3.1 and 3.1.1.
    pub properties: ReasonProperties<'a>,
    /// [`ReasonCode`]s as numbers.
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::SubAck)?;
        let mut body = Reader::new(frame.body);
        let pkid = body.pkid()?;
        let properties = match version {
            Version::V5 => ReasonProperties::decode(&mut body)?,
            Version::V31 | Version::V311 => ReasonProperties::default(),
        };
        let codes = codes(PacketType::SubAck, body.rest())?;
        if version != Version::V5 && codes.iter().any(|code| !matches!(code, 0..=2 | &FAILURE)) {
            return Err(DecodeError::malformed("return code of SUBACK is reserved [MQTT-3.9.3-2]"));
        }
        Ok(Self { pkid, properties, codes })
    }

    /// The codes.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        reasons(self.codes)
    }

    /// Appends the packet. Before 5.0 every error is 0x80.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::SubAck, |out| {
            wire::put_u16(out, self.pkid);
            if version == Version::V5 {
                self.properties.put(out);
                out.extend_from_slice(self.codes);
            } else {
                out.extend(self.codes.iter().map(|code| FAILURE.min(*code)));
            }
        });
    }
}

/// UNSUBACK: in 5.0 one code for each filter, in the order of UNSUBSCRIBE [MQTT-3.11.3-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Packet identifier of the UNSUBSCRIBE.
    pub pkid: u16,
    /// Empty in 3.1 and 3.1.1.
    pub properties: ReasonProperties<'a>,
    /// [`ReasonCode`]s as numbers; empty in 3.1 and 3.1.1.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::UnsubAck)?;
        let mut body = Reader::new(frame.body);
        let pkid = body.pkid()?;
        if version != Version::V5 {
            body.finish()?;
            return Ok(Self { pkid, properties: ReasonProperties::default(), codes: &[] });
        }
        let properties = ReasonProperties::decode(&mut body)?;
        Ok(Self { pkid, properties, codes: codes(PacketType::UnsubAck, body.rest())? })
    }

    /// The codes.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        reasons(self.codes)
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::UnsubAck, |out| {
            wire::put_u16(out, self.pkid);
            if version == Version::V5 {
                self.properties.put(out);
                out.extend_from_slice(self.codes);
            }
        });
    }
}

/// Checks the payload: at least one code, and none that does not belong here.
fn codes(kind: PacketType, codes: &[u8]) -> Result<&[u8], DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::protocol("acknowledgement has no code [MQTT-3.8.4-6] [MQTT-3.11.3-1]"));
    }
    for code in codes {
        ack::reason(kind, *code)?;
    }
    Ok(codes)
}

fn reasons(codes: &[u8]) -> impl Iterator<Item = ReasonCode> {
    codes.iter().filter_map(|code| ReasonCode::from_u8(*code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    #[test]
    fn suback_and_unsuback_as_bytes() {
        let properties = ReasonProperties { reason_string: Some("x"), ..ReasonProperties::default() };
        let suback = SubAck { pkid: 1, properties, codes: &[2, 0x8F] };
        assert_packet(V5, b"\x90\x09\0\x01\x04\x1F\0\x01x\x02\x8F", Packet::SubAck(suback));
        assert_eq!(suback.reasons().collect::<Vec<_>>(), [GrantedQoS2, TopicFilterInvalid]);
        let unsuback = UnsubAck { pkid: 1, properties: ReasonProperties::default(), codes: &[0x11] };
        assert_packet(V5, b"\xB0\x04\0\x01\0\x11", Packet::UnsubAck(unsuback));
        assert_eq!(unsuback.reasons().collect::<Vec<_>>(), [NoSubscriptionExisted]);
    }

    #[test]
    fn every_failure_is_0x80_before_5_0() {
        let mut out = Vec::new();
        SubAck { pkid: 1, properties: ReasonProperties::default(), codes: &[1, 0x97] }.encode(V311, &mut out);
        assert_eq!(out, b"\x90\x04\0\x01\x01\x80");
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0x90, b"\0\x01")), ProtocolError, "no code");
        assert_eq!(refusal(V311, &packet(0x90, b"\0\x01\x03")), MalformedPacket, "no such code");
        assert_eq!(refusal(V311, &packet(0x90, b"\0\x01\x87")), MalformedPacket, "a code of 5.0");
        assert_eq!(refusal(V311, &packet(0xB0, b"\0\x01\0")), MalformedPacket, "a code of 5.0");
        assert_eq!(refusal(V5, &packet(0xB0, b"\0\x01\0")), ProtocolError, "no code");
        assert_eq!(refusal(V5, &packet(0xB0, b"\0\x01\0\x01")), ProtocolError, "a code of SUBACK");
        assert_eq!(refusal(V5, &packet(0xB0, b"\0\0\0\0")), ProtocolError, "packet identifier 0");
    }
}
