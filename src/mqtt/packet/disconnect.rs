//! DISCONNECT, MQTT 5.0 section 3.14, MQTT 3.1.1 section 3.14.

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, ReasonCode, Version};

use crate::mqtt::packet::ack;

properties! {
    /// DISCONNECT properties, MQTT 5.0 section 3.14.2.2.
    DisconnectProperties {
        /// Seconds; from a client only [MQTT-3.14.2-2].
        session_expiry: u32 = SessionExpiry,
        /// For diagnostics, human readable.
        reason_string: &'a str = ReasonString,
        /// Another server to use.
        server_reference: &'a str = ServerReference,
    }
}

/// DISCONNECT. In 3.1 and 3.1.1 only a client sends it, and it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disconnect<'a> {
    /// Success means a normal disconnection.
    pub reason: ReasonCode,
    /// What else is said.
    pub properties: DisconnectProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Says this reason and nothing else.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, properties: DisconnectProperties::default() }
    }

    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::Disconnect)?;
        let mut found = Self::default();
        let mut body = Reader::new(frame.body);
        if version == Version::V5 && !body.is_empty() {
            found.reason = ack::reason(PacketType::Disconnect, body.u8()?)?;
            if !body.is_empty() {
                found.properties = DisconnectProperties::decode(&mut body)?;
            }
        }
        body.finish()?;
        Ok(found)
    }

    /// Appends the packet: in its short form if it says nothing. (There is another, without the length of no
    /// properties, that some clients do not understand.)
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version != Version::V5 || *self == Self::default() {
            out.extend_from_slice(&[PacketType::Disconnect.header(), 0]);
        } else {
            wire::put_packet(out, PacketType::Disconnect, |out| {
                out.push(self.reason.as_u8());
                self.properties.put(out);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    #[test]
    fn disconnect_as_bytes() {
        assert_packet(V31, b"\xE0\0", Packet::Disconnect(Disconnect::default()));
        assert_packet(V5, b"\xE0\0", Packet::Disconnect(Disconnect::default()));
        assert_packet(V5, b"\xE0\x02\x8E\0", Packet::Disconnect(Disconnect::new(SessionTakenOver)));
        let properties = DisconnectProperties { session_expiry: Some(1), ..DisconnectProperties::default() };
        let disconnect = Disconnect { reason: DisconnectWithWill, properties };
        assert_packet(V5, b"\xE0\x07\x04\x05\x11\0\0\0\x01", Packet::Disconnect(disconnect));
    }

    #[test]
    fn a_reason_without_properties_is_understood() {
        let frame = crate::mqtt::frame(b"\xE0\x01\x04", 100).unwrap().unwrap();
        assert_eq!(Disconnect::decode(V5, &frame), Ok(Disconnect::new(DisconnectWithWill)));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0xE0, b"\0")), MalformedPacket, "a body in 3.1.1");
        assert_eq!(refusal(V5, &packet(0xE0, b"\x01")), ProtocolError, "not a code of DISCONNECT");
        assert_eq!(refusal(V5, &packet(0xE0, b"\0\x03\x21\0\x01")), MalformedPacket, "a property of CONNECT");
    }
}
