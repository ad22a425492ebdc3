//! The small values that messages are made of (MQTT-SN 5.3).

use crate::mqtt::QoS;
use crate::mqttsn::wire::DecodeError;

/// Topic id. 0x0000 and 0xFFFF are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u16);

impl TopicId {
    /// "No topic id": REGISTER from a client, SUBACK to a filter with wildcards.
    pub const NONE: Self = Self(0);
}

/// Message id: names a request and its answer. 0 where none is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MsgId(pub u16);

impl MsgId {
    /// Of QoS 0 and QoS -1 messages.
    pub const NONE: Self = Self(0);
}

/// Return code, MQTT-SN 5.3.10. Codes above 3 are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReturnCode(pub u8);

impl ReturnCode {
    pub const ACCEPTED: Self = Self(0);
    /// Rejected: come back later.
    pub const CONGESTION: Self = Self(1);
    /// Rejected: invalid topic id.
    pub const INVALID_TOPIC_ID: Self = Self(2);
    /// Rejected: not supported.
    pub const NOT_SUPPORTED: Self = Self(3);

    /// Whether the request was accepted.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        self == Self::ACCEPTED
    }
}

/// A topic name of exactly two octets that stands in the place of a topic id (MQTT-SN 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortName(pub [u8; 2]);

impl ShortName {
    /// The short name for a topic, if it has the right length.
    #[must_use]
    pub fn of(topic: &str) -> Option<Self> {
        topic.as_bytes().try_into().ok().map(Self)
    }

    /// The topic name, if the two octets are one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().filter(|name| !name.contains('\0'))
    }
}

/// What the two octets of a PUBLISH's topic field mean: TopicIdType and TopicId together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// 0b00: an id from REGACK, SUBACK or REGISTER.
    Id(TopicId),
    /// 0b01: an id both sides know beforehand.
    Predefined(TopicId),
    /// 0b10: the name itself.
    Short(ShortName),
    /// 0b11 is reserved; the answer to it is "not supported".
    Reserved(TopicId),
}

impl Topic {
    pub(super) fn from_wire(flags: Flags, octets: [u8; 2]) -> Self {
        let id = TopicId(u16::from_be_bytes(octets));
        match flags.topic_type() {
            TYPE_ID => Self::Id(id),
            TYPE_PREDEFINED => Self::Predefined(id),
            TYPE_SHORT => Self::Short(ShortName(octets)),
            _ => Self::Reserved(id),
        }
    }

    pub(super) fn type_bits(self) -> u8 {
        match self {
            Self::Id(_) => TYPE_ID,
            Self::Predefined(_) => TYPE_PREDEFINED,
            Self::Short(_) => TYPE_SHORT,
            Self::Reserved(_) => TYPE_RESERVED,
        }
    }

    /// The two octets as an id, as PUBACK and SUBACK repeat them.
    #[must_use]
    pub fn wire_id(self) -> TopicId {
        match self {
            Self::Id(id) | Self::Predefined(id) | Self::Reserved(id) => id,
            Self::Short(name) => TopicId(u16::from_be_bytes(name.0)),
        }
    }
}

/// Quality of service of a PUBLISH: a level, or -1, which needs no connection and gets no answer (MQTT-SN 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishQos {
    MinusOne,
    Level(QoS),
}

pub(super) const TYPE_ID: u8 = 0b00;
pub(super) const TYPE_PREDEFINED: u8 = 0b01;
pub(super) const TYPE_SHORT: u8 = 0b10;
pub(super) const TYPE_RESERVED: u8 = 0b11;

/// Flags, MQTT-SN 5.3.4. Bits that a message does not use are sent as 0 and ignored when they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) const DUP: u8 = 0x80;
    pub(super) const RETAIN: u8 = 0x10;
    pub(super) const WILL: u8 = 0x08;
    pub(super) const CLEAN_SESSION: u8 = 0x04;

    pub(super) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    pub(super) fn with(self, bit: u8, on: bool) -> Self {
        if on { Self(self.0 | bit) } else { self }
    }

    pub(super) fn topic_type(self) -> u8 {
        self.0 & 0b11
    }

    pub(super) fn with_topic_type(self, bits: u8) -> Self {
        Self(self.0 | bits)
    }

    pub(super) fn publish_qos(self) -> PublishQos {
        QoS::from_u8(self.0 >> 5 & 0b11).map_or(PublishQos::MinusOne, PublishQos::Level)
    }

    pub(super) fn qos(self) -> Result<QoS, DecodeError> {
        QoS::from_u8(self.0 >> 5 & 0b11).ok_or(DecodeError::QoS)
    }

    pub(super) fn with_publish_qos(self, qos: PublishQos) -> Self {
        match qos {
            PublishQos::MinusOne => Self(self.0 | 0b11 << 5),
            PublishQos::Level(level) => self.with_qos(level),
        }
    }

    pub(super) fn with_qos(self, qos: QoS) -> Self {
        Self(self.0 | qos.as_u8() << 5)
    }
}
