//! AUTH, MQTT 5.0 section 3.15.

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, ReasonCode, Version};

use crate::mqtt::packet::ack;

properties! {
    /// AUTH properties, MQTT 5.0 section 3.15.2.2.
    AuthProperties {
        /// Name of the method; only the short form of AUTH lacks it.
        authentication_method: &'a str = AuthenticationMethod,
        /// Data that the method defines.
        authentication_data: &'a [u8] = AuthenticationData,
        /// For diagnostics, human readable.
        reason_string: &'a str = ReasonString,
    }
}

/// AUTH: a step of an authentication exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// What the step says.
    pub properties: AuthProperties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows; always for 3.1 and 3.1.1, which do not have AUTH.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        if version != Version::V5 {
            return Err(DecodeError::malformed("packet type 15 is forbidden before 5.0 (section 2.2.1)"));
        }
        frame.check_flags(version, PacketType::Auth)?;
        if frame.body.is_empty() {
            return Ok(Self::default());
        }
        let mut body = Reader::new(frame.body);
        let reason = ack::reason(PacketType::Auth, body.u8()?)?;
        let properties = AuthProperties::decode(&mut body)?;
        body.finish()?;
        if properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("AUTH lacks the authentication method (section 3.15.2.2.2)"));
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet; nothing if `version` is not 5.0.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version != Version::V5 {
            return;
        }
        if *self == Self::default() {
            out.extend_from_slice(&[PacketType::Auth.header(), 0]);
            return;
        }
        wire::put_packet(out, PacketType::Auth, |out| {
            out.push(self.reason.as_u8());
            self.properties.put(out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    #[test]
    fn auth_as_bytes() {
        assert_packet(V5, b"\xF0\0", Packet::Auth(Auth::default()));
        let properties = AuthProperties {
            authentication_method: Some("M"),
            authentication_data: Some(b"\xFF"),
            ..AuthProperties::default()
        };
        let auth = Auth { reason: ContinueAuthentication, properties };
        assert_packet(V5, b"\xF0\x0A\x18\x08\x15\0\x01M\x16\0\x01\xFF", Packet::Auth(auth));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V5, &packet(0xF0, b"\x18\0")), ProtocolError, "no method");
        assert_eq!(refusal(V5, &packet(0xF0, b"\x18")), MalformedPacket, "no properties");
        assert_eq!(refusal(V5, &packet(0xF0, b"\x87\x04\x15\0\x01M")), ProtocolError, "not a code of AUTH");
    }

    #[test]
    fn before_5_0_there_is_no_auth_to_send() {
        let mut out = Vec::new();
        Auth::default().encode(V311, &mut out);
        assert!(out.is_empty());
    }
}
