//! MQTT 3.1, 3.1.1 and 5.0 as data: packets, topics, properties, and the message that travels inside.
//!
//! [`frame`] splits one packet off a stream of bytes; [`Packet::decode`] (or [`Publish::decode`], where it is hot)
//! reads it in place, strictly, without a copy. What is decoded may be iterated without looking for errors again.
//! Every packet has `encode(version, out)`, which appends it; encoding never fails and never panics: a string that
//! its two bytes of length cannot tell is cut, so callers bound what they compose.

pub mod alias;
mod error;
mod frame;
pub mod hop;
mod message;
mod outbox;
mod packet;
mod property;
mod reason;
mod repeated;
pub mod topic;
mod wire;

pub use error::DecodeError;
pub use frame::{Frame, MAX_PACKET, PacketType, frame};
pub use message::{Message, MessageParts};
pub use outbox::Outbox;
pub use packet::Packet;
pub use packet::ack::{PubAck, PubComp, PubRec, PubRel, ReasonProperties};
pub use packet::auth::{Auth, AuthProperties};
pub use packet::connack::{ConnAck, ConnAckProperties};
pub use packet::connect::{Connect, ConnectProperties, Will, WillProperties};
pub use packet::disconnect::{Disconnect, DisconnectProperties};
pub use packet::publish::{self, Publish, PublishProperties};
pub use packet::suback::{SubAck, UnsubAck};
pub use packet::subscribe::{
    Filters, RetainHandling, Subscribe, SubscribeOptions, SubscribeProperties, Subscription,
};
pub use packet::unsubscribe::{Unsubscribe, UnsubscribeFilters, UnsubscribeProperties};
pub use property::PayloadFormat;
pub use reason::ReasonCode;
pub use repeated::{SubscriptionIds, SubscriptionIdsIter, UserProperties, UserPropertiesIter};
pub use topic::TopicError;

/// A byte stream (TCP, TLS, WebSocket, Unix socket), accepted or dialled. The shell gives out the numbers and uses
/// a number again only after its end was told to the engine or asked for by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1 (MQIsdp).
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// The protocol level (protocol version) in CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// The protocol name in CONNECT.
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level with this number, if there is one.
    #[inline]
    #[must_use]
    pub const fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The level as a number.
    #[inline]
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}
