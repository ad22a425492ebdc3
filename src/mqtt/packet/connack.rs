//! CONNACK, MQTT 5.0 section 3.2, MQTT 3.1.1 section 3.2.

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, QoS, ReasonCode, Version};

use crate::mqtt::packet::ack;

properties! {
    /// CONNACK properties, MQTT 5.0 section 3.2.2.3. What is absent has the standard's default.
    ConnAckProperties {
        /// Seconds; overrides what the client asked for.
        session_expiry: u32 = SessionExpiry,
        /// How many QoS 1 and 2 publications the server handles at once; not 0.
        receive_maximum: u16 = ReceiveMaximum,
        /// 0 or 1; absent means 2.
        maximum_qos: QoS = MaximumQoS,
        /// Whether the server keeps retained messages.
        retain_available: bool = RetainAvailable,
        /// Largest packet the server takes, in bytes; not 0.
        maximum_packet_size: u32 = MaximumPacketSize,
        /// For a client that came without a client identifier.
        assigned_client_id: &'a str = AssignedClientId,
        /// Largest topic alias the server takes.
        topic_alias_maximum: u16 = TopicAliasMaximum,
        /// For diagnostics, human readable.
        reason_string: &'a str = ReasonString,
        /// Whether filters may have wildcards.
        wildcard_subscription_available: bool = WildcardSubscriptionAvailable,
        /// Whether subscriptions may have identifiers.
        subscription_ids_available: bool = SubscriptionIdsAvailable,
        /// Whether filters may be shared.
        shared_subscription_available: bool = SharedSubscriptionAvailable,
        /// Seconds; overrides the client's keep alive.
        server_keep_alive: u16 = ServerKeepAlive,
        /// Basis for a response topic.
        response_information: &'a str = ResponseInformation,
        /// Another server to use.
        server_reference: &'a str = ServerReference,
        /// Name of the method.
        authentication_method: &'a str = AuthenticationMethod,
        /// Data that the method defines.
        authentication_data: &'a [u8] = AuthenticationData,
    }
}

/// CONNACK: the answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAck<'a> {
    /// The server kept the session. Always false in 3.1.
    pub session_present: bool,
    /// In 3.1 and 3.1.1 mapped to and from return codes, see [`ReasonCode::to_return_code`].
    pub reason: ReasonCode,
    /// What else is said; empty in 3.1 and 3.1.1.
    pub properties: ConnAckProperties<'a>,
}

impl<'a> ConnAck<'a> {
    /// Refuses a connection.
    #[must_use]
    pub fn refusal(reason: ReasonCode) -> Self {
        Self { session_present: false, reason, properties: ConnAckProperties::default() }
    }

    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::ConnAck)?;
        let mut body = Reader::new(frame.body);
        let flags = body.u8()?;
        // In 3.1 the byte is not used.
        if flags > 1 && version != Version::V31 {
            return Err(DecodeError::malformed("reserved flags of CONNACK are set [MQTT-3.2.2-1]"));
        }
        let session_present = flags == 1 && version != Version::V31;
        let code = body.u8()?;
        let reason = if version == Version::V5 {
            ack::reason(PacketType::ConnAck, code)?
        } else {
            ReasonCode::from_return_code(code)
                .ok_or(DecodeError::malformed("return code of CONNACK is reserved (section 3.2.2.3)"))?
        };
        if session_present && reason != ReasonCode::Success {
            return Err(DecodeError::protocol("a refused connection has no session [MQTT-3.2.2-6]"));
        }
        let properties = match version {
            Version::V5 => ConnAckProperties::decode(&mut body)?,
            Version::V31 | Version::V311 => ConnAckProperties::default(),
        };
        body.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let present = u8::from(self.session_present && version != Version::V31);
        if version != Version::V5 {
            out.extend_from_slice(&[PacketType::ConnAck.header(), 2, present, self.reason.to_return_code()]);
            return;
        }
        wire::put_packet(out, PacketType::ConnAck, |out| {
            out.extend_from_slice(&[present, self.reason.as_u8()]);
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
    fn connack_as_bytes() {
        assert_packet(V31, b"\x20\x02\0\x02", Packet::ConnAck(ConnAck::refusal(ClientIdentifierNotValid)));
        let properties = ConnAckProperties {
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            server_keep_alive: Some(60),
            assigned_client_id: Some("x"),
            ..ConnAckProperties::default()
        };
        let connack = ConnAck { session_present: true, reason: Success, properties };
        let bytes = b"\x20\x0E\x01\0\x0B\x24\x01\x25\0\x12\0\x01x\x13\0\x3C";
        assert_packet(V5, bytes, Packet::ConnAck(connack));
    }

    #[test]
    fn refusals_are_put_in_the_words_of_the_version() {
        let mut out = Vec::new();
        ConnAck::refusal(UnsupportedProtocolVersion).encode(V311, &mut out);
        ConnAck::refusal(UnsupportedProtocolVersion).encode(V5, &mut out);
        assert_eq!(out, b"\x20\x02\0\x01\x20\x03\0\x84\0");
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0x20, b"\x02\0")), MalformedPacket, "reserved flags");
        assert_eq!(refusal(V311, &packet(0x20, b"\0\x06")), MalformedPacket, "reserved return code");
        assert_eq!(refusal(V311, &packet(0x20, b"\x01\x05")), ProtocolError, "a session for the refused");
        assert_eq!(refusal(V311, &packet(0x20, b"\0\0\0")), MalformedPacket, "a byte too many");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0")), MalformedPacket, "no properties");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\x10\0")), ProtocolError, "a code of PUBACK");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0\x03\x21\0\0")), ProtocolError, "receive maximum 0");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0\x05\x27\0\0\0\0")), ProtocolError, "maximum packet size 0");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0\x02\x24\x02")), ProtocolError, "maximum QoS 2");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0\x02\x25\x02")), ProtocolError, "retain available 2");
        assert_eq!(refusal(V5, &packet(0x20, b"\0\0\x04\x1F\0\x01\0")), MalformedPacket, "U+0000");
    }
}
