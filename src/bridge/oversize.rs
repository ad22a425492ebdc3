//! A PUBLISH that is larger than what we take, from an upstream that cannot be told.
//!
//! 3.1.1 has no Maximum Packet Size. To close the link would not help: the upstream would send the message again on
//! the next one, and so for ever. So its beginning is read, for the acknowledgement, and the rest is let pass.

use crate::mqtt::{QoS, publish, topic};

/// So many bytes tell it all: fixed header, topic, packet identifier.
pub(super) const MAX_BEGINNING: usize = 5 + 2 + topic::MAX_LEN + 2;

/// What must be known of a PUBLISH to answer it unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skimmed {
    /// Its level.
    pub(super) qos: QoS,
    /// Its packet identifier, or 0.
    pub(super) pkid: u16,
    /// Bytes of the whole packet.
    pub(super) len: usize,
}

/// Reads the beginning of a PUBLISH. `None` if it is no legal PUBLISH, or more of it must come first.
pub(super) fn skim(bytes: &[u8]) -> Option<Skimmed> {
    let header = *bytes.first().filter(|header| **header >> 4 == 3)?;
    let qos = QoS::from_u8(header >> 1 & 0b11)?;
    let (mut remaining, mut head) = (0, 1);
    for shift in [0, 7, 14, 21] {
        let byte = *bytes.get(head)?;
        remaining |= usize::from(byte & 0x7F) << shift;
        head += 1;
        if byte < 0x80 {
            break;
        }
    }
    let mut pkid = 0;
    if qos != QoS::AtMostOnce {
        let at = publish::pkid_offset(bytes)?;
        pkid = u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        if pkid == 0 {
            return None;
        }
    }
    Some(Skimmed { qos, pkid, len: head + remaining })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_tells_what_the_answer_needs() {
        // QoS 1, 300 bytes remaining, topic "ab", packet identifier 0x0102.
        let bytes = [0x32, 0xAC, 0x02, 0, 2, b'a', b'b', 1, 2];
        assert_eq!(skim(&bytes), Some(Skimmed { qos: QoS::AtLeastOnce, pkid: 0x0102, len: 303 }));
        for short in 0..bytes.len() {
            assert_eq!(skim(&bytes[..short]), None, "the first {short} bytes");
        }
        assert_eq!(skim(&[0x30, 0xAC, 0x02]), Some(Skimmed { qos: QoS::AtMostOnce, pkid: 0, len: 303 }));
    }

    #[test]
    fn what_is_no_publish_is_not_read() {
        assert_eq!(skim(&[0x36, 0, 0, 0, 0, 0, 0, 0, 0]), None, "QoS 3");
        assert_eq!(skim(&[0x32, 7, 0, 1, b'a', 0, 0, 0, 0]), None, "packet identifier 0 [MQTT-2.2.1-3]");
        assert_eq!(skim(&[0x90, 0, 0, 0, 0, 0, 0, 0, 0]), None, "SUBACK");
    }
}
