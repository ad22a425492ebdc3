//! Consistent overhead byte stuffing (Cheshire and Baker, 1999) of the message and its CRC-16. The octet 0 occurs
//! nowhere but at the end of a frame, and the overhead is known: 4 octets, and 1 more for each 254.

use crate::mqttsn::framing::crc;
use crate::mqttsn::framing::delimited::{Code, Step};

const END: u8 = 0;
/// A block of 254 octets that no zero follows.
const FULL: u8 = 0xFF;

/// The `cobs` framing: the message and its CRC-16/CCITT-FALSE, high octet first, stuffed; then 0.
#[derive(Debug, Default)]
pub struct Cobs {
    /// Octets of the block that are still to come.
    left: u8,
    /// A zero follows the block, if anything does.
    zero: bool,
}

impl Code for Cobs {
    const CHECKSUM: usize = 2;

    fn step(&mut self, octet: u8) -> Step {
        if octet == END {
            let whole = self.left == 0;
            *self = Self::default();
            return if whole { Step::End } else { Step::Abort };
        }
        if self.left > 0 {
            self.left -= 1;
            return Step::Content(octet);
        }
        self.left = octet - 1;
        if std::mem::replace(&mut self.zero, octet != FULL) { Step::Content(0) } else { Step::Stuffing }
    }

    fn is_good(content: &[u8]) -> bool {
        crc::ccitt_false(content) == 0
    }

    fn encode(message: &[u8], out: &mut Vec<u8>) {
        let mut code_at = out.len();
        out.push(1);
        for octet in message.iter().chain(&crc::ccitt_false(message).to_be_bytes()) {
            if out[code_at] == FULL {
                code_at = out.len();
                out.push(1);
            }
            if *octet == 0 {
                code_at = out.len();
                out.push(1);
            } else {
                out.push(*octet);
                out[code_at] += 1;
            }
        }
        out.push(END);
    }
}

#[cfg(test)]
mod tests {
    use crate::mqttsn::framing::Framer;
    use crate::mqttsn::framing::tests::{decode, encode, stats};

    #[test]
    fn zeros_become_the_distance_to_the_next() {
        let mut framer = Framer::cobs(255);
        // The CRC of the digits is 0x29B1.
        assert_eq!(encode(&mut framer, &[b"123456789"]), b"\x0C123456789\x29\xB1\0");
        assert_eq!(encode(&mut framer, &[&[0]]), [1, 3, 0xE1, 0xF0, 0]);
        assert_eq!(encode(&mut framer, &[&[3, 5, 0]]), [3, 3, 5, 3, 0x6A, 0x39, 0]);
    }

    #[test]
    fn blocks_of_254_are_followed_by_no_zero() {
        let mut framer = Framer::cobs(1000);
        for (len, codes) in [(251, 1), (252, 1), (253, 2), (506, 2), (507, 3)] {
            let message = vec![7; len];
            let line = encode(&mut framer, &[&message]);
            assert_eq!(line.len(), codes + len + 3, "{len}");
            assert_eq!(decode(&mut Framer::cobs(1000), &line), [message]);
        }
    }

    #[test]
    fn the_empty_block_that_some_senders_put_after_a_full_one_means_nothing() {
        let message = vec![7; 252];
        let mut line = encode(&mut Framer::cobs(255), &[&message]);
        assert_eq!((line[0], line.pop()), (0xFF, Some(0)));
        line.extend([1, 0]);
        assert_eq!(decode(&mut Framer::cobs(255), &line), [message]);
    }

    #[test]
    fn a_frame_that_ends_inside_a_block_is_noise() {
        let mut framer = Framer::cobs(255);
        assert_eq!(decode(&mut framer, &[5, 3, 5, 0, 3, 3, 5, 3, 0x6A, 0x39, 0]), [[3, 5, 0]]);
        assert_eq!(framer.stats(), stats(1, 3, 0, 0));
    }
}
