//! The API of an XBee radio module: its frames carry a message and the address of the node it is from or for.
//!
//! The module is a forwarder that speaks another language, so a message comes out of here, and goes in, in a
//! forwarder's envelope (MQTT-SN 5.5). The wireless node id is the 64-bit address; without one, all nodes are meant.

use crate::mqttsn::framing::Stats;
use crate::mqttsn::message::ENCAPSULATION;
use crate::time::{Duration, Instant};

const DELIMITER: u8 = 0x7E;
const ESCAPE: u8 = 0x7D;
/// What has to be escaped in API mode 2: beside the two above, what software flow control uses.
const XON: u8 = 0x11;
const XOFF: u8 = 0x13;

const TRANSMIT_REQUEST: u8 = 0x10;
const TRANSMIT_STATUS: u8 = 0x8B;
const RECEIVE: u8 = 0x90;
/// What a module sends in its place when its parameter AO is 1.
const EXPLICIT_RECEIVE: u8 = 0x91;

const BROADCAST: [u8; 8] = [0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
/// "Look up the 16-bit address yourself."
const UNKNOWN_ADDRESS: [u8; 2] = [0xFF, 0xFE];

/// Delimiter, length and checksum.
const OVERHEAD: usize = 4;
/// The longest header in front of a message, that of an explicit reception.
const MAX_HEADER: usize = 18;
/// Frames of other kinds may be this long whatever the MTU is.
const MAX_OTHER: usize = 256;
/// Length, type, control octet and 64-bit address.
const ENVELOPE: u8 = 11;
/// As with the `length` framing, so much silence ends an unfinished frame.
const SILENCE: Duration = Duration::from_millis(100);

/// The `xbee` framing.
#[derive(Debug)]
pub struct Xbee {
    mtu: usize,
    /// API mode 2.
    escapes: bool,
    /// The last read, and how much of it is done with.
    input: Vec<u8>,
    at: usize,
    /// What may be a frame, from its delimiter on; and in mode 2, the octets that it took on the line.
    candidate: Vec<u8>,
    line_bytes: u64,
    escaped: bool,
    heard_at: Instant,
    silent: bool,
    /// The frame that was yielded last.
    frame: Vec<u8>,
    last_id: u8,
    stats: Stats,
}

/// What a candidate is.
enum Verdict {
    Unfinished,
    Broken,
    /// A frame of so many octets.
    Whole(usize),
}

impl Xbee {
    pub(super) fn new(mtu: usize, escapes: bool) -> Self {
        Self {
            mtu,
            escapes,
            input: Vec::new(),
            at: 0,
            candidate: Vec::new(),
            line_bytes: 0,
            escaped: false,
            heard_at: Instant::ZERO,
            silent: false,
            frame: Vec::new(),
            last_id: 0,
            stats: Stats::default(),
        }
    }

    pub(super) fn feed(&mut self, now: Instant, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.heard_at = now;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.candidate.is_empty()).then(|| self.heard_at + SILENCE)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.silent = true;
            self.stats.timeouts += 1;
        }
    }

    pub(super) fn next_frame(&mut self) -> Option<&[u8]> {
        loop {
            match self.judge() {
                Verdict::Whole(octets) if self.take(octets) => return Some(&self.frame),
                Verdict::Whole(_) => continue,
                Verdict::Broken => {
                    self.give_up();
                    continue;
                }
                Verdict::Unfinished => {}
            }
            if let Some(octet) = self.input.get(self.at).copied() {
                self.at += 1;
                self.gather(octet);
            } else if self.silent && !self.candidate.is_empty() {
                self.give_up();
            } else {
                self.silent = false;
                self.input.clear();
                self.at = 0;
                return None;
            }
        }
    }

    /// Takes the next octet of the line.
    fn gather(&mut self, octet: u8) {
        if octet == DELIMITER && self.escapes {
            self.give_up();
            self.candidate.push(octet);
            self.line_bytes = 1;
            self.escaped = false;
        } else if self.candidate.is_empty() && octet != DELIMITER {
            self.stats.noise_bytes += 1;
        } else if self.escapes && octet == ESCAPE && !self.escaped {
            self.escaped = true;
            self.line_bytes += 1;
        } else {
            let escaped = std::mem::take(&mut self.escaped);
            self.candidate.push(if escaped { octet ^ 0x20 } else { octet });
            self.line_bytes += 1;
        }
    }

    fn judge(&self) -> Verdict {
        let [_, high, low, ..] = self.candidate[..] else { return Verdict::Unfinished };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > self.mtu.max(MAX_OTHER) + MAX_HEADER {
            return Verdict::Broken;
        }
        let octets = length + OVERHEAD;
        let Some(data) = self.candidate.get(3..octets) else { return Verdict::Unfinished };
        if checksum(data) == 0 { Verdict::Whole(octets) } else { Verdict::Broken }
    }

    /// The candidate is none. In mode 1 its delimiter may have been noise, and the frame may begin within it; in mode 2
    /// nothing good can come before the next delimiter.
    fn give_up(&mut self) {
        let whole = self.candidate.len() >= 3
            && self.candidate.len()
                == usize::from(u16::from_be_bytes([self.candidate[1], self.candidate[2]])) + OVERHEAD;
        self.stats.crc_errors += u64::from(whole);
        if self.escapes {
            self.stats.noise_bytes += std::mem::take(&mut self.line_bytes);
            self.candidate.clear();
            self.escaped = false;
        } else if !self.candidate.is_empty() {
            self.skip(1);
        }
    }

    /// Drops octets that were noise, and all behind them that begin nothing.
    fn skip(&mut self, octets: usize) {
        let next = self.candidate[octets..].iter().position(|octet| *octet == DELIMITER);
        let dropped = next.map_or(self.candidate.len(), |at| at + octets);
        self.candidate.drain(..dropped);
        self.stats.noise_bytes += dropped as u64;
    }

    /// Takes a good frame out of the candidate. Whether it carries a message.
    fn take(&mut self, octets: usize) -> bool {
        let has_message = self.understand(octets - 1);
        self.candidate.drain(..octets);
        self.line_bytes = 0;
        if self.candidate.first().is_some_and(|octet| *octet != DELIMITER) {
            self.skip(0);
        }
        has_message
    }

    fn understand(&mut self, end: usize) -> bool {
        let data = &self.candidate[3..end];
        let (address, message) = match data {
            [RECEIVE, a, b, c, d, e, f, g, h, _, _, _, message @ ..] => ([*a, *b, *c, *d, *e, *f, *g, *h], message),
            [EXPLICIT_RECEIVE, a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _, _, message @ ..] => {
                ([*a, *b, *c, *d, *e, *f, *g, *h], message)
            }
            [TRANSMIT_STATUS, _, _, _, _, status, ..] => {
                self.stats.undelivered += u64::from(*status != 0);
                return false;
            }
            // What the module says of itself.
            _ => return false,
        };
        if message.is_empty() {
            return false;
        }
        if message.len() > self.mtu {
            self.stats.oversize += 1;
            return false;
        }
        self.frame.clear();
        self.frame.extend_from_slice(&[ENVELOPE, ENCAPSULATION, 0]);
        self.frame.extend_from_slice(&address);
        self.frame.extend_from_slice(message);
        self.stats.frames += 1;
        true
    }

    pub(super) fn reset(&mut self) {
        self.stats.noise_bytes += (self.input.len() - self.at) as u64;
        self.stats.noise_bytes += if self.escapes { self.line_bytes } else { self.candidate.len() as u64 };
        self.input.clear();
        self.at = 0;
        self.candidate.clear();
        self.line_bytes = 0;
        self.escaped = false;
        self.silent = false;
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    /// Appends a transmit request. The module tells what became of it when it knows; nobody waits for that.
    pub(super) fn encode(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let (address, radius, message) = match frame {
            [ENVELOPE, ENCAPSULATION, radius, a, b, c, d, e, f, g, h, message @ ..] => {
                ([*a, *b, *c, *d, *e, *f, *g, *h], *radius, message)
            }
            [3, ENCAPSULATION, radius, message @ ..] => (BROADCAST, *radius, message),
            message => (BROADCAST, 0, message),
        };
        // 0 would ask for no status.
        self.last_id = self.last_id % u8::MAX + 1;
        // The radius counts for broadcasts only; 0 is as far as the module goes.
        let radius = if address == BROADCAST { radius } else { 0 };
        let mut data = Vec::with_capacity(message.len() + 14);
        data.extend_from_slice(&[TRANSMIT_REQUEST, self.last_id]);
        data.extend_from_slice(&address);
        data.extend_from_slice(&UNKNOWN_ADDRESS);
        data.extend_from_slice(&[radius, 0]);
        data.extend_from_slice(message);
        write(&data, self.escapes, out);
    }
}

/// Writes a frame with this content.
pub(super) fn write(data: &[u8], escapes: bool, out: &mut Vec<u8>) {
    #[expect(clippy::cast_possible_truncation, reason = "a link's MTU is far below 65 536 less a header")]
    let length = (data.len() as u16).to_be_bytes();
    out.push(DELIMITER);
    for octet in length.iter().chain(data).chain(&[checksum(data)]) {
        match *octet {
            DELIMITER | ESCAPE | XON | XOFF if escapes => out.extend_from_slice(&[ESCAPE, octet ^ 0x20]),
            octet => out.push(octet),
        }
    }
}

/// What makes the sum FF; with the checksum at the end, 0.
fn checksum(data: &[u8]) -> u8 {
    0xFF - data.iter().fold(0, |sum: u8, octet| sum.wrapping_add(*octet))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqttsn::framing::Framer;
    use crate::mqttsn::framing::tests::{any_line, decode, encode};

    const MTU: usize = 84;
    const NODE: [u8; 8] = [0x00, 0x13, 0xA2, 0x00, 0x40, 0x52, 0x2B, 0xAA];
    const PINGREQ: &[u8] = &[2, 0x16];

    fn enveloped(node: &[u8], message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(node.len() + 3).unwrap();
        [&[length, ENCAPSULATION, 0], node, message].concat()
    }

    /// As a module delivers it.
    fn received(node: [u8; 8], message: &[u8], escapes: bool) -> Vec<u8> {
        let mut line = Vec::new();
        write(&[&[RECEIVE], &node[..], &[0x7D, 0x84, 1], message].concat(), escapes, &mut line);
        line
    }

    #[test]
    fn a_reception_is_as_the_manual_of_the_module_has_it() {
        // From the description of frame type 0x90: "TxData" comes from 0013A200 40522BAA, 16-bit address 7D84.
        let manual = [
            0x7E,
            0x00,
            0x12,
            0x90,
            0x00,
            0x13,
            0xA2,
            0x00,
            0x40,
            0x52,
            0x2B,
            0xAA,
            0x7D,
            0x84,
            0x01,
            0x54,
            0x78,
            0x44,
            0x61,
            0x74,
            0x61,
            0xD2 - 0x01,
        ];
        let mut sum = manual;
        sum[21] = checksum(&manual[3..21]);
        assert_eq!(received(NODE, b"TxData", false), sum);
        let mut framer = Framer::xbee(MTU, false);
        assert_eq!(decode(&mut framer, &sum), [enveloped(&NODE, b"TxData")]);
    }

    #[test]
    fn a_message_goes_to_the_node_or_to_all_with_an_id_of_its_own() {
        let mut framer = Framer::xbee(MTU, false);
        let to_node = encode(&mut framer, &[&enveloped(&NODE, PINGREQ)]);
        let head = [0x7E, 0, 16, 0x10, 1, 0x00, 0x13, 0xA2, 0x00, 0x40, 0x52, 0x2B, 0xAA, 0xFF, 0xFE, 0, 0];
        assert_eq!(to_node[..19], [&head[..], PINGREQ].concat());
        assert_eq!(checksum(&to_node[3..]), 0);
        for (frame, radius) in [(PINGREQ.to_vec(), 0), (vec![3, ENCAPSULATION, 2, 2, 0x16], 2)] {
            let to_all = encode(&mut framer, &[&frame]);
            assert_eq!(to_all[5..17], [0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE, radius, 0]);
            assert_eq!(to_all[17..19], *PINGREQ);
        }
        let ids: Vec<u8> = (0..300).map(|_| encode(&mut framer, &[PINGREQ])[4]).collect();
        assert_eq!((ids[0], ids[251], ids[252]), (4, 255, 1), "0 asks for no status");
    }

    #[test]
    fn mode_2_escapes_what_the_manual_says_and_nothing_else() {
        let mut line = Vec::new();
        write(&[0x23, 0x7E, 0x7D, 0x11, 0x13], true, &mut line);
        let expected = [0x7E, 0, 5, 0x23, 0x7D, 0x5E, 0x7D, 0x5D, 0x7D, 0x31, 0x7D, 0x33, 0xBD];
        assert_eq!(line[..12], expected[..12]);
        assert_eq!(line[12], checksum(&[0x23, 0x7E, 0x7D, 0x11, 0x13]));
    }

    #[test]
    fn a_failed_transmission_is_counted_and_other_frames_mean_nothing() {
        let mut framer = Framer::xbee(MTU, true);
        let mut line = Vec::new();
        for status in [0x00, 0x21, 0x24] {
            write(&[TRANSMIT_STATUS, 1, 0x7D, 0x84, 0, status, 1], true, &mut line);
        }
        write(&[0x8A, 0x06], true, &mut line);
        write(&[0x88, 1, b'N', b'I', 0, b'g'], true, &mut line);
        line.extend(received(NODE, &[], true));
        line.extend(received(NODE, &[9; MTU + 1], true));
        assert_eq!(decode(&mut framer, &line), [] as [&[u8]; 0]);
        let stats = framer.stats();
        assert_eq!((stats.undelivered, stats.noise_bytes, stats.crc_errors, stats.oversize), (2, 0, 0, 1));
    }

    #[test]
    fn an_explicit_reception_is_one_too() {
        let mut line = Vec::new();
        let cluster = [0xE8, 0xE8, 0, 0x11, 0xC1, 0x05, 1];
        write(&[&[EXPLICIT_RECEIVE], &NODE[..], &[0x7D, 0x84], &cluster[..], PINGREQ].concat(), false, &mut line);
        assert_eq!(decode(&mut Framer::xbee(MTU, false), &line), [enveloped(&NODE, PINGREQ)]);
    }

    #[test]
    fn a_cut_frame_costs_itself_and_in_mode_1_silence_or_the_next_frame_ends_it() {
        for escapes in [false, true] {
            let good = received(NODE, PINGREQ, escapes);
            let cut = &good[..9];
            let mut framer = Framer::xbee(MTU, escapes);
            framer.feed(Instant::ZERO, cut);
            assert_eq!(framer.next_frame(), None);
            let at = framer.deadline().unwrap();
            framer.handle_timeout(at);
            assert_eq!(framer.next_frame(), None);
            assert_eq!(framer.deadline(), None);
            assert_eq!(framer.stats().noise_bytes, 9);
            let line = [cut, &good, &good].concat();
            assert_eq!(decode(&mut framer, &line).last().unwrap(), &enveloped(&NODE, PINGREQ));
        }
    }

    proptest! {
        #[test]
        fn any_messages_of_any_nodes_come_out_of_any_reads(
            messages in prop::collection::vec((any::<[u8; 8]>(), prop::collection::vec(any::<u8>(), 1..=MTU)), 1..6),
            step in 1..200_usize,
        ) {
            for escapes in [false, true] {
                let line: Vec<u8> = messages.iter().flat_map(|(node, text)| received(*node, text, escapes)).collect();
                let mut framer = Framer::xbee(MTU, escapes);
                let got: Vec<Vec<u8>> = line.chunks(step).flat_map(|piece| decode(&mut framer, piece)).collect();
                let sent: Vec<Vec<u8>> = messages.iter().map(|(node, text)| enveloped(node, text)).collect();
                prop_assert_eq!(got, sent);
                prop_assert_eq!((framer.stats().noise_bytes, framer.deadline()), (0, None));
            }
        }

        #[test]
        fn whatever_was_before_silence_and_a_frame_more_bring_it_back(noise in any_line(400)) {
            for escapes in [false, true] {
                let mut framer = Framer::xbee(MTU, escapes);
                decode(&mut framer, &noise);
                framer.handle_timeout(Instant::ZERO + SILENCE);
                while framer.next_frame().is_some() {}
                prop_assert_eq!(framer.deadline(), None);
                prop_assert_eq!(decode(&mut framer, &received(NODE, PINGREQ, escapes)), [enveloped(&NODE, PINGREQ)]);
            }
        }
    }
}
