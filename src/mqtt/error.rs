//! Why bytes are not a packet.

use std::fmt;

use crate::mqtt::ReasonCode;

/// Why bytes are not a packet of this protocol version. The connection they came on cannot go on
/// [MQTT-4.8.0-1], [MQTT-4.13.1-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    reason: ReasonCode,
    text: &'static str,
}

impl DecodeError {
    pub(super) const fn new(reason: ReasonCode, text: &'static str) -> Self {
        Self { reason, text }
    }

    /// The bytes cannot be parsed (0x81).
    pub(super) const fn malformed(text: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, text)
    }

    /// The bytes can be parsed, but say something that is not allowed (0x82).
    pub(super) const fn protocol(text: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, text)
    }

    /// What a 5.0 peer is told in CONNACK or DISCONNECT.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    /// What is wrong, with the clause it offends.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        self.text
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl std::error::Error for DecodeError {}
