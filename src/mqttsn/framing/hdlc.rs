//! HDLC-like framing with octet stuffing, RFC 1662: flags, escapes and the 16-bit frame check sequence. There are no
//! address, control and protocol fields, and octets below 0x20 are not escaped: nothing on the line eats them.

use crate::mqttsn::framing::crc;
use crate::mqttsn::framing::delimited::{Code, Step};

const FLAG: u8 = 0x7E;
const ESCAPE: u8 = 0x7D;
/// Complemented in an escaped octet.
const BIT_5: u8 = 0x20;

/// The `hdlc` framing: flag, the message and its FCS-16, low octet first, stuffed; flag.
#[derive(Debug, Default)]
pub struct Hdlc {
    escaped: bool,
}

impl Code for Hdlc {
    const CHECKSUM: usize = 2;

    fn step(&mut self, octet: u8) -> Step {
        let escaped = std::mem::take(&mut self.escaped);
        match octet {
            // RFC 1662 4.3: an escape and a flag end a frame that is invalid.
            FLAG if escaped => Step::Abort,
            FLAG => Step::End,
            _ if escaped => Step::Content(octet ^ BIT_5),
            ESCAPE => {
                self.escaped = true;
                Step::Stuffing
            }
            _ => Step::Content(octet),
        }
    }

    fn is_good(content: &[u8]) -> bool {
        crc::fcs(content) == crc::FCS_GOOD
    }

    fn encode(message: &[u8], out: &mut Vec<u8>) {
        out.push(FLAG);
        for octet in message.iter().chain(&(!crc::fcs(message)).to_le_bytes()) {
            if matches!(*octet, FLAG | ESCAPE) {
                out.extend_from_slice(&[ESCAPE, octet ^ BIT_5]);
            } else {
                out.push(*octet);
            }
        }
        out.push(FLAG);
    }
}

#[cfg(test)]
mod tests {
    use crate::mqttsn::framing::Framer;
    use crate::mqttsn::framing::tests::{decode, encode, stats};

    #[test]
    fn flags_and_escapes_are_escaped_and_the_checksum_goes_low_octet_first() {
        let mut framer = Framer::hdlc(255);
        assert_eq!(encode(&mut framer, &[b"123456789"]), b"\x7E123456789\x6E\x90\x7E");
        assert_eq!(encode(&mut framer, &[b"\x7E\x7D\x11"])[..6], [0x7E, 0x7D, 0x5E, 0x7D, 0x5D, 0x11]);
        // The checksum of 2A is 7E20, and is escaped as well.
        assert_eq!(encode(&mut framer, &[&[0x2A]]), [0x7E, 0x2A, 0x20, 0x7D, 0x5E, 0x7E]);
    }

    #[test]
    fn one_flag_may_end_a_frame_and_begin_the_next_and_any_octet_may_be_escaped() {
        let mut framer = Framer::hdlc(255);
        let line = b"\x7E\x7D\x23\x7D\x25\x7D\x20\x10\x57\x7E123456789\x6E\x90\x7E";
        assert_eq!(decode(&mut framer, line), [&[3, 5, 0][..], b"123456789"]);
        assert_eq!(framer.stats(), stats(2, 0, 0, 0));
    }

    #[test]
    fn an_escaped_flag_aborts_a_frame() {
        let mut framer = Framer::hdlc(255);
        assert_eq!(decode(&mut framer, b"\x7E123456789\x6E\x90\x7D\x7E\x03\x05\x00\x10\x57\x7E"), [[3, 5, 0]]);
        assert_eq!(framer.stats(), stats(1, 12, 0, 0));
    }

    #[test]
    fn a_frame_shorter_than_its_checksum_is_noise() {
        let mut framer = Framer::hdlc(255);
        // The checksum of nothing is 0.
        assert_eq!(decode(&mut framer, &[0x7E, 0, 0, 0x7E, 9, 0x7E]), [] as [&[u8]; 0]);
        assert_eq!(framer.stats(), stats(0, 3, 0, 0));
    }
}
