//! The fixed header, MQTT 5.0 section 2.1: one packet is split off a stream of bytes.

use crate::mqtt::{DecodeError, ReasonCode, Version, wire};

/// The largest packet there can be: a fixed header of five bytes and 268 435 455 bytes.
pub const MAX_PACKET: u32 = 5 + wire::MAX_VARINT;

/// The types of packets, MQTT 5.0 section 2.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Connection request.
    Connect = 1,
    /// Connect acknowledgement.
    ConnAck = 2,
    /// Publish message.
    Publish = 3,
    /// Publish acknowledgement (QoS 1).
    PubAck = 4,
    /// Publish received (QoS 2, first answer).
    PubRec = 5,
    /// Publish release (QoS 2, second request).
    PubRel = 6,
    /// Publish complete (QoS 2, second answer).
    PubComp = 7,
    /// Subscribe request.
    Subscribe = 8,
    /// Subscribe acknowledgement.
    SubAck = 9,
    /// Unsubscribe request.
    Unsubscribe = 10,
    /// Unsubscribe acknowledgement.
    UnsubAck = 11,
    /// PING request.
    PingReq = 12,
    /// PING response.
    PingResp = 13,
    /// Disconnect notification.
    Disconnect = 14,
    /// Authentication exchange (5.0 only).
    Auth = 15,
}

impl PacketType {
    /// The type that the first byte of a packet names. 0 is forbidden.
    #[inline]
    #[must_use]
    pub const fn from_header(header: u8) -> Option<Self> {
        Some(match header >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type; for PUBLISH with all flags 0.
    #[inline]
    pub(super) const fn header(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }

    /// The reserved flags, table 2-2.
    const fn flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }
}

/// One packet as it lies in the buffer: complete, but only its length was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The first byte: type and flags.
    pub header: u8,
    /// What follows the remaining length.
    pub body: &'a [u8],
    /// The whole packet. As many bytes are consumed.
    pub raw: &'a [u8],
}

impl Frame<'_> {
    /// The packet's type; `None` is a malformed packet.
    #[inline]
    #[must_use]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_header(self.header)
    }

    /// Checks that the reserved flags are as they must be [MQTT-2.1.3-1]. 3.1 lets a repeated packet carry DUP.
    pub(super) fn check_flags(&self, version: Version, kind: PacketType) -> Result<(), DecodeError> {
        let dup = if version == Version::V31 && kind.flags() != 0 { 0b1000 } else { 0 };
        if self.header & !dup != kind.header() {
            return Err(DecodeError::malformed("reserved flags of the fixed header are wrong [MQTT-2.1.3-1]"));
        }
        self.check_length(version)
    }

    /// Checks that the remaining length took no more bytes than needed. Only 5.0 demands it [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn check_length(&self, version: Version) -> Result<(), DecodeError> {
        let head = self.raw.len() - self.body.len();
        if head > 2 && version == Version::V5 && self.raw[head - 1] == 0 {
            return Err(DecodeError::malformed("remaining length is longer than needed [MQTT-1.5.5-1]"));
        }
        Ok(())
    }
}

/// Splits one packet off the front of `bytes`. `None` if it is not complete yet. `max_packet` bounds the whole packet,
/// fixed header included, as the Maximum Packet Size of 5.0 does.
///
/// # Errors
/// As soon as it can be told that the packet is longer than `max_packet`, or that its length is malformed.
#[inline]
pub fn frame(bytes: &[u8], max_packet: u32) -> Result<Option<Frame<'_>>, DecodeError> {
    let [header, first, ..] = *bytes else { return Ok(None) };
    let (head, len) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        match long_length(bytes)? {
            Some(found) => found,
            None => return Ok(None),
        }
    };
    let total = head + len;
    if total > max_packet as usize {
        return Err(DecodeError::new(ReasonCode::PacketTooLarge, "packet is larger than allowed [MQTT-3.1.2-24]"));
    }
    match bytes.get(..total) {
        Some(raw) => Ok(Some(Frame { header, body: &raw[head..], raw })),
        None => Ok(None),
    }
}

/// The length of the fixed header and the remaining length, when that has more than one byte.
fn long_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut len = 0;
    for (i, byte) in bytes.iter().skip(1).take(4).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            return Ok(Some((i + 2, len)));
        }
    }
    if bytes.len() >= 5 {
        return Err(DecodeError::malformed("remaining length has more than four bytes (section 2.1.4)"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_at_the_borders() {
        for (len, head) in [
            (0usize, &[0x30u8, 0][..]),
            (127, &[0x30, 0x7F]),
            (128, &[0x30, 0x80, 0x01]),
            (16_383, &[0x30, 0xFF, 0x7F]),
            (16_384, &[0x30, 0x80, 0x80, 0x01]),
            (2_097_151, &[0x30, 0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x30, 0x80, 0x80, 0x80, 0x01]),
        ] {
            let mut bytes = head.to_vec();
            bytes.resize(head.len() + len, 0xAA);
            let whole = frame(&bytes, MAX_PACKET).unwrap().unwrap();
            assert_eq!((whole.header, whole.body.len(), whole.raw.len()), (0x30, len, bytes.len()));
            assert_eq!(frame(&bytes[..bytes.len() - 1], MAX_PACKET), Ok(None));
            bytes.push(0xBB);
            assert_eq!(frame(&bytes, MAX_PACKET).unwrap().unwrap().raw.len(), bytes.len() - 1);
        }
    }

    #[test]
    fn too_large_is_told_before_the_body_came() {
        assert!(frame(&[0x30, 10], 12).unwrap().is_none());
        assert_eq!(frame(&[0x30, 11], 12).unwrap_err().reason(), ReasonCode::PacketTooLarge);
        assert_eq!(frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], MAX_PACKET), Ok(None));
    }

    #[test]
    fn five_length_bytes_are_malformed() {
        assert_eq!(frame(&[0x30, 0x80, 0x80, 0x80], MAX_PACKET), Ok(None));
        let error = frame(&[0x30, 0x80, 0x80, 0x80, 0x80], MAX_PACKET).unwrap_err();
        assert_eq!(error.reason(), ReasonCode::MalformedPacket);
    }

    #[test]
    fn only_v5_refuses_a_length_longer_than_needed() {
        let whole = frame(&[0xC0, 0x80, 0x00], MAX_PACKET).unwrap().unwrap();
        assert_eq!(whole.body, b"");
        assert!(whole.check_flags(Version::V311, PacketType::PingReq).is_ok());
        assert!(whole.check_flags(Version::V5, PacketType::PingReq).is_err());
    }
}
