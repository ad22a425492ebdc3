//! CONNECT, MQTT 5.0 section 3.1, MQTT 3.1.1 section 3.1, MQTT 3.1 section 3.1.

use crate::mqtt::property::{self, properties};
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, PayloadFormat, QoS, ReasonCode, Version, topic};

properties! {
    /// CONNECT properties, MQTT 5.0 section 3.1.2.11. What is absent has the standard's default.
    ConnectProperties {
        /// Seconds that the session outlives its connection; `u32::MAX` is for ever.
        session_expiry: u32 = SessionExpiry,
        /// How many QoS 1 and 2 publications the client handles at once; not 0.
        receive_maximum: u16 = ReceiveMaximum,
        /// Largest packet the client takes, in bytes; not 0.
        maximum_packet_size: u32 = MaximumPacketSize,
        /// Largest topic alias the client takes.
        topic_alias_maximum: u16 = TopicAliasMaximum,
        /// Asks for response information.
        request_response_information: bool = RequestResponseInformation,
        /// Whether reason strings and user properties are welcome.
        request_problem_information: bool = RequestProblemInformation,
        /// Name of the method.
        authentication_method: &'a str = AuthenticationMethod,
        /// Data that the method defines.
        authentication_data: &'a [u8] = AuthenticationData,
    }
}

properties! {
    /// Will properties, MQTT 5.0 section 3.1.3.2.
    WillProperties {
        /// Seconds between the end of the connection and the will.
        will_delay: u32 = WillDelay,
        /// What the payload is.
        payload_format: PayloadFormat = PayloadFormat,
        /// Seconds, counted from the will's publication.
        message_expiry: u32 = MessageExpiry,
        /// MIME type or the like.
        content_type: &'a str = ContentType,
        /// Topic name for a response.
        response_topic: &'a str = ResponseTopic,
        /// Tells which request a response is for.
        correlation_data: &'a [u8] = CorrelationData,
    }
}

impl WillProperties<'_> {
    /// Appends those that are forwarded unchanged, in the wire form of [`Message::properties`].
    ///
    /// [`Message::properties`]: crate::mqtt::Message::properties
    pub fn forwarded(&self, out: &mut Vec<u8>) {
        use property::PropertyId;
        property::put(&self.payload_format, PropertyId::PayloadFormat, out);
        property::put(&self.content_type, PropertyId::ContentType, out);
        property::put(&self.response_topic, PropertyId::ResponseTopic, out);
        property::put(&self.correlation_data, PropertyId::CorrelationData, out);
        self.user_properties.put(out);
    }
}

/// A message that the server publishes when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Topic name, checked.
    pub topic: &'a str,
    /// Application payload.
    pub payload: &'a [u8],
    /// Level to publish at.
    pub qos: QoS,
    /// Publish as retained.
    pub retain: bool,
    /// Empty in 3.1 and 3.1.1.
    pub properties: WillProperties<'a>,
}

/// CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What the connection speaks.
    pub version: Version,
    /// Clean Start; before 5.0 Clean Session.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty: whether that is allowed is for the server to say.
    pub client_id: &'a str,
    /// Published when the connection is lost.
    pub will: Option<Will<'a>>,
    /// For authentication.
    pub username: Option<&'a str>,
    /// For authentication; before 5.0 only with a user name [MQTT-3.1.2-22].
    pub password: Option<&'a [u8]>,
    /// Empty in 3.1 and 3.1.1.
    pub properties: ConnectProperties<'a>,
}

mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const CLEAN_START: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const WILL_QOS: u8 = 0x18;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USERNAME: u8 = 0x80;
}

impl<'a> Connect<'a> {
    /// The version that the frame asks for, also where the rest of it is not well formed: it says in which form a
    /// refusal is understood. `None` if this is no CONNECT, or of a version that is not supported.
    #[must_use]
    pub fn peek_version(frame: &Frame<'_>) -> Option<Version> {
        if frame.packet_type() != Some(PacketType::Connect) {
            return None;
        }
        read_version(&mut Reader::new(frame.body)).ok()
    }

    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows. [`ReasonCode::UnsupportedProtocolVersion`] is told
    /// before anything behind the version is looked at [MQTT-3.1.2-2].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut body = Reader::new(frame.body);
        let version = read_version(&mut body)?;
        frame.check_flags(version, PacketType::Connect)?;
        let flags = body.u8()?;
        check_flags(version, flags)?;
        let keep_alive = body.u16()?;
        let properties = match version {
            Version::V5 => ConnectProperties::decode(&mut body)?,
            Version::V31 | Version::V311 => ConnectProperties::default(),
        };
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication data without a method (section 3.1.2.11.10)"));
        }
        let client_id = body.string()?;
        let will = if flags & flag::WILL != 0 { Some(read_will(version, flags, &mut body)?) } else { None };
        // In 3.1 the flags may promise a user name and a password that do not come.
        let comes = |which, body: &Reader<'_>| flags & which != 0 && !(version == Version::V31 && body.is_empty());
        let username = if comes(flag::USERNAME, &body) { Some(body.string()?) } else { None };
        let password = if comes(flag::PASSWORD, &body) { Some(body.binary()?) } else { None };
        body.finish()?;
        let clean_start = flags & flag::CLEAN_START != 0;
        Ok(Self { version, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    /// Appends the packet, in its own version.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Connect, |out| {
            wire::put_string(out, self.version.protocol_name());
            out.push(self.version.level());
            out.push(self.flags());
            wire::put_u16(out, self.keep_alive);
            if self.version == Version::V5 {
                self.properties.put(out);
            }
            wire::put_string(out, self.client_id);
            if let Some(will) = &self.will {
                if self.version == Version::V5 {
                    will.properties.put(out);
                }
                wire::put_string(out, will.topic);
                wire::put_binary(out, will.payload);
            }
            if let Some(username) = self.username {
                wire::put_string(out, username);
            }
            if let Some(password) = self.password {
                wire::put_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= flag::CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= flag::WILL | will.qos.as_u8() << 3;
            if will.retain {
                flags |= flag::WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= flag::USERNAME;
        }
        if self.password.is_some() {
            flags |= flag::PASSWORD;
        }
        flags
    }
}

fn read_version(body: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let name = body.binary()?;
    match (name, body.u8()?) {
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        _ => Err(DecodeError::new(
            ReasonCode::UnsupportedProtocolVersion,
            "protocol name and version are not supported [MQTT-3.1.2-1] [MQTT-3.1.2-2]",
        )),
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    if flags & flag::RESERVED != 0 {
        return Err(DecodeError::malformed("reserved flag of CONNECT is set [MQTT-3.1.2-3]"));
    }
    if flags & flag::WILL == 0 && flags & (flag::WILL_QOS | flag::WILL_RETAIN) != 0 {
        return Err(DecodeError::malformed(
            "will QoS or will retain without a will [MQTT-3.1.2-11] [MQTT-3.1.2-13]",
        ));
    }
    if flags & flag::WILL_QOS == flag::WILL_QOS {
        return Err(DecodeError::malformed("will QoS is 3 [MQTT-3.1.2-12]"));
    }
    if version != Version::V5 && flags & (flag::USERNAME | flag::PASSWORD) == flag::PASSWORD {
        return Err(DecodeError::malformed("password without a user name [MQTT-3.1.2-22]"));
    }
    Ok(())
}

fn read_will<'a>(version: Version, flags: u8, body: &mut Reader<'a>) -> Result<Will<'a>, DecodeError> {
    let properties = match version {
        Version::V5 => WillProperties::decode(body)?,
        Version::V31 | Version::V311 => WillProperties::default(),
    };
    let topic = body.string()?;
    topic::check_name(topic).map_err(|error| DecodeError::new(ReasonCode::TopicNameInvalid, error.text()))?;
    let qos = QoS::from_u8((flags & flag::WILL_QOS) >> 3).unwrap_or_default();
    Ok(Will { topic, payload: body.binary()?, qos, retain: flags & flag::WILL_RETAIN != 0, properties })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    fn least(version: Version) -> Connect<'static> {
        Connect {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id: "c",
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    #[test]
    fn connect_as_bytes_in_each_version() {
        assert_packet(V31, b"\x10\x0F\0\x06MQIsdp\x03\x02\0\x3C\0\x01c", Packet::Connect(least(V31)));
        assert_packet(V311, b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c", Packet::Connect(least(V311)));
        assert_packet(V5, b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01c", Packet::Connect(least(V5)));
        let full = Connect {
            clean_start: false,
            will: Some(Will {
                topic: "w",
                payload: b"gone",
                qos: QoS::ExactlyOnce,
                retain: true,
                properties: WillProperties { will_delay: Some(5), ..WillProperties::default() },
            }),
            username: None,
            password: Some(b"\xFF"),
            properties: ConnectProperties { receive_maximum: Some(9), ..ConnectProperties::default() },
            ..least(V5)
        };
        let bytes =
            b"\x10\x23\0\x04MQTT\x05\x74\0\x3C\x03\x21\0\x09\0\x01c\x05\x18\0\0\0\x05\0\x01w\0\x04gone\0\x01\xFF";
        assert_packet(V5, bytes, Packet::Connect(full));
    }

    /// A CONNECT of 3.1.1 with these flags and this payload.
    fn v311(flags: u8, payload: &[u8]) -> Vec<u8> {
        packet(0x10, &[b"\0\x04MQTT\x04", &[flags][..], b"\0\0", payload].concat())
    }

    /// A CONNECT of 5.0 with these flags and this rest.
    fn v5(flags: u8, rest: &[u8]) -> Vec<u8> {
        packet(0x10, &[b"\0\x04MQTT\x05", &[flags][..], b"\0\0", rest].concat())
    }

    #[test]
    fn versions_that_are_not_supported_are_told_apart() {
        for body in
            [&b"\0\x04MQTT\x06"[..], b"\0\x04MQTT\x03", b"\0\x06MQIsdp\x04", b"\0\x04mqtt\x04", b"\0\x04MQTT\x84"]
        {
            let bytes = packet(0x10, body);
            assert_eq!(refusal(V5, &bytes), UnsupportedProtocolVersion);
            let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
            assert_eq!(Connect::peek_version(&frame), None);
        }
        let broken = v5(0x01, b"");
        let frame = crate::mqtt::frame(&broken, 100).unwrap().unwrap();
        assert_eq!(Connect::peek_version(&frame), Some(V5));
        assert_eq!(refusal(V311, &broken), MalformedPacket);
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &v311(0x03, b"\0\0")), MalformedPacket, "reserved flag");
        assert_eq!(refusal(V311, &v311(0x0A, b"\0\0")), MalformedPacket, "will QoS without a will");
        assert_eq!(refusal(V311, &v311(0x22, b"\0\0")), MalformedPacket, "will retain without a will");
        assert_eq!(refusal(V311, &v311(0x1E, b"\0\0\0\x01w\0\0")), MalformedPacket, "will QoS 3");
        assert_eq!(refusal(V311, &v311(0x42, b"\0\0\0\0")), MalformedPacket, "password without a user name");
        assert_eq!(refusal(V311, &v311(0x82, b"\0\0")), MalformedPacket, "the user name does not come");
        assert_eq!(refusal(V311, &v311(0x02, b"\0\0\0")), MalformedPacket, "a byte too many");
        assert_eq!(refusal(V311, &v311(0x02, b"\0\x01\xFF")), MalformedPacket, "client identifier is not UTF-8");
        assert_eq!(refusal(V311, &v311(0x06, b"\0\0\0\0\0\0")), TopicNameInvalid, "empty will topic");
        assert_eq!(refusal(V311, &v311(0x06, b"\0\0\0\x01#\0\0")), TopicNameInvalid, "will topic with a wildcard");
        assert_eq!(refusal(V5, &v5(0x02, b"\x03\x21\0\0\0\0")), ProtocolError, "receive maximum 0");
        assert_eq!(refusal(V5, &v5(0x02, b"\x05\x27\0\0\0\0\0\0")), ProtocolError, "maximum packet size 0");
        assert_eq!(refusal(V5, &v5(0x02, b"\x02\x17\x02\0\0")), ProtocolError, "problem information 2");
        assert_eq!(refusal(V5, &v5(0x02, b"\x02\x19\x02\0\0")), ProtocolError, "response information 2");
        assert_eq!(refusal(V5, &v5(0x02, b"\x04\x17\x01\x17\x01\0\0")), ProtocolError, "a property twice");
        assert_eq!(refusal(V5, &v5(0x02, b"\x03\x16\0\0\0\0")), ProtocolError, "authentication data alone");
        assert_eq!(refusal(V5, &v5(0x02, b"\x05\x18\0\0\0\0\0\0")), MalformedPacket, "a property of the will");
        assert_eq!(
            refusal(V5, &v5(0x06, b"\0\0\0\x05\x11\0\0\0\0\0\x01w\0\0")),
            MalformedPacket,
            "not of the will"
        );
        assert_eq!(refusal(V5, &v5(0x06, b"\0\0\0\x04\x08\0\x01#\0\x01w\0\0")), ProtocolError, "response topic");
        assert_eq!(refusal(V5, &v5(0x02, b"\x80\0\0\0")), MalformedPacket, "a length that is too long");
    }

    #[test]
    fn an_empty_client_identifier_is_for_the_server_to_judge() {
        let bytes = v311(0x00, b"\0\0");
        let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
        assert_eq!(Connect::decode(&frame).map(|connect| connect.client_id), Ok(""));
    }

    #[test]
    fn in_3_1_a_promised_user_name_may_be_missing() {
        let bytes = packet(0x10, b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c");
        let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
        let connect = Connect::decode(&frame).unwrap();
        assert_eq!((connect.username, connect.password), (None, None));
    }

    #[test]
    fn forwarded_properties_of_a_will_are_those_of_its_publish() {
        let properties = WillProperties {
            will_delay: Some(1),
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry: Some(2),
            content_type: Some("t"),
            response_topic: Some("r"),
            correlation_data: Some(b"c"),
            user_properties: [("a", "b")].as_slice().into(),
        };
        let mut wire = Vec::new();
        properties.forwarded(&mut wire);
        assert_eq!(wire, b"\x01\x01\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01a\0\x01b");
    }
}
