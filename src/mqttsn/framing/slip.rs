//! SLIP, RFC 1055: no checksum, so that a broken message can pass for another one.

use crate::mqttsn::framing::delimited::{Code, Step};

const END: u8 = 0o300;
const ESC: u8 = 0o333;
const ESC_END: u8 = 0o334;
const ESC_ESC: u8 = 0o335;

/// The `slip` framing: END, the message, END.
#[derive(Debug, Default)]
pub struct Slip {
    escaped: bool,
}

impl Code for Slip {
    const CHECKSUM: usize = 0;

    fn step(&mut self, octet: u8) -> Step {
        let escaped = std::mem::take(&mut self.escaped);
        match octet {
            END if escaped => Step::Abort,
            END => Step::End,
            ESC_END if escaped => Step::Content(END),
            ESC_ESC if escaped => Step::Content(ESC),
            // RFC 1055 has no rule for it and would keep the octet. It is certain that the message is broken.
            _ if escaped => Step::Violation,
            ESC => {
                self.escaped = true;
                Step::Stuffing
            }
            _ => Step::Content(octet),
        }
    }

    fn is_good(_: &[u8]) -> bool {
        true
    }

    /// The END in front ends whatever noise the receiver has gathered.
    fn encode(message: &[u8], out: &mut Vec<u8>) {
        out.push(END);
        for octet in message {
            match *octet {
                END => out.extend_from_slice(&[ESC, ESC_END]),
                ESC => out.extend_from_slice(&[ESC, ESC_ESC]),
                octet => out.push(octet),
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
    fn end_and_esc_are_escaped_as_the_rfc_says() {
        let mut framer = Framer::slip(255);
        assert_eq!(encode(&mut framer, &[&[1, 0xC0, 2]]), [0xC0, 1, 0xDB, 0xDC, 2, 0xC0]);
        assert_eq!(encode(&mut framer, &[&[0xDB, 0xDC, 0xDD]]), [0xC0, 0xDB, 0xDD, 0xDC, 0xDD, 0xC0]);
    }

    #[test]
    fn a_sender_may_leave_out_the_end_in_front_or_repeat_it() {
        let mut framer = Framer::slip(255);
        assert_eq!(decode(&mut framer, &[2, 0x16, 0xC0, 2, 0x17, 0xC0, 0xC0, 0xC0]), [[2, 0x16], [2, 0x17]]);
        assert_eq!(framer.stats(), stats(2, 0, 0, 0));
    }

    #[test]
    fn an_escape_of_nothing_known_voids_the_message_and_only_that() {
        let mut framer = Framer::slip(255);
        assert_eq!(decode(&mut framer, &[0xC0, 1, 0xDB, 2, 3, 0xC0, 2, 0x16, 0xC0]), [[2, 0x16]]);
        assert_eq!(decode(&mut framer, &[0xC0, 1, 0xDB, 0xC0, 2, 0x17, 0xC0]), [[2, 0x17]]);
        assert_eq!(framer.stats(), stats(2, 6, 0, 0));
    }
}
