//! The application message as it travels inside, from the publisher's packet to the last receiver.

use crate::mqtt::QoS;
use crate::time::{Duration, Wall};

/// The parts a [`Message`] is made of.
#[derive(Debug, Clone, Copy)]
pub struct MessageParts<'a> {
    /// Topic name, already validated.
    pub topic: &'a str,
    /// Encoded MQTT 5.0 properties that are forwarded unchanged: payload format, content type, response topic,
    /// correlation data and user properties, in wire form without the leading length. Empty for 3.1.1.
    pub properties: &'a [u8],
    /// Application payload.
    pub payload: &'a [u8],
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When it reached this gateway.
    pub received_at: Wall,
    /// When it stops being of use (message expiry interval, rule ttl).
    pub expires_at: Option<Wall>,
}

/// An application message. Topic, properties and payload lie in one allocation; receivers share it in an `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Box<[u8]>,
    topic_len: u32,
    properties_len: u32,
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When it reached this gateway.
    pub received_at: Wall,
    /// When it stops being of use.
    pub expires_at: Option<Wall>,
}

impl Message {
    /// Copies the parts into one allocation.
    #[must_use]
    pub fn new(parts: MessageParts<'_>) -> Self {
        let len = parts.topic.len() + parts.properties.len() + parts.payload.len();
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(parts.topic.as_bytes());
        bytes.extend_from_slice(parts.properties);
        bytes.extend_from_slice(parts.payload);
        Self {
            bytes: bytes.into_boxed_slice(),
            topic_len: u32::try_from(parts.topic.len()).unwrap_or(u32::MAX),
            properties_len: u32::try_from(parts.properties.len()).unwrap_or(u32::MAX),
            qos: parts.qos,
            retain: parts.retain,
            received_at: parts.received_at,
            expires_at: parts.expires_at,
        }
    }

    /// Topic name.
    #[must_use]
    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.topic_len as usize]).unwrap_or_default()
    }

    /// Forwarded MQTT 5.0 properties in wire form, without the leading length.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        let start = self.topic_len as usize;
        &self.bytes[start..start + self.properties_len as usize]
    }

    /// Application payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.topic_len as usize + self.properties_len as usize..]
    }

    /// What [`Message::cost`] has beside topic, properties and payload.
    pub const FIXED_COST: usize = size_of::<Self>();

    /// What it counts for in every limit by bytes: topic, properties, payload and a fixed overhead.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.bytes.len() + Self::FIXED_COST
    }

    /// Whether it is past its expiry at `wall`.
    #[must_use]
    pub fn is_expired(&self, wall: Wall) -> bool {
        self.expires_at.is_some_and(|at| at <= wall)
    }

    /// What is left of the message expiry interval, in whole seconds, as sent to a 5.0 receiver [MQTT-3.3.2-6].
    #[must_use]
    pub fn remaining_secs(&self, wall: Wall) -> Option<u32> {
        let left: Duration = self.expires_at? - wall;
        Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_expiry_counts_down() {
        let message = Message::new(MessageParts {
            topic: "a/b",
            properties: &[1, 1],
            payload: b"hi",
            qos: QoS::AtLeastOnce,
            retain: true,
            received_at: Wall::from_millis(1_000),
            expires_at: Some(Wall::from_millis(3_500)),
        });
        assert_eq!((message.topic(), message.properties(), message.payload()), ("a/b", &[1u8, 1][..], &b"hi"[..]));
        assert_eq!(message.remaining_secs(Wall::from_millis(2_000)), Some(2));
        assert!(!message.is_expired(Wall::from_millis(3_499)));
        assert!(message.is_expired(Wall::from_millis(3_500)));
    }
}
