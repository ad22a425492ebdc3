//! MQTT 3.1, 3.1.1 and 5.0 as data: packets, topics, properties, and the message that travels inside.

mod message;
mod outbox;

pub use message::{Message, MessageParts};
pub use outbox::Outbox;

/// A byte stream (TCP, TLS, WebSocket, Unix socket), accepted or dialled. The shell gives out the numbers and uses
/// a number again only after its end was told to the engine or asked for by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

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
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}
