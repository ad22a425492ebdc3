//! What the framings with a delimiter have in common: frames are gathered octet by octet, and whatever goes wrong is
//! over at the next delimiter. Silence means nothing here.

use std::fmt::Debug;
use std::mem;

use crate::mqttsn::framing::Stats;
use crate::mqttsn::message::ENCAPSULATION;

/// What an octet on the line does to the frame at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This octet is the next of the content.
    Content(u8),
    /// It only says what another means.
    Stuffing,
    /// It cannot be: the frame is broken.
    Violation,
    /// The delimiter.
    End,
    /// The delimiter where the frame cannot end.
    Abort,
}

/// How a framing writes content, which is a message and its checksum.
pub trait Code: Debug + Default {
    /// Octets of the checksum.
    const CHECKSUM: usize;

    /// Takes the next octet of the line.
    fn step(&mut self, octet: u8) -> Step;

    /// Whether the checksum at the end of `content` is right.
    fn is_good(content: &[u8]) -> bool;

    /// Appends a frame to `out`.
    fn encode(message: &[u8], out: &mut Vec<u8>);
}

/// A framing with a delimiter.
#[derive(Debug)]
pub struct Delimited<C> {
    mtu: usize,
    code: C,
    /// The last read, and how much of it is done with.
    input: Vec<u8>,
    at: usize,
    /// The content so far, and how many octets of the line it took.
    content: Vec<u8>,
    line_bytes: u64,
    /// Nothing good can come before the next delimiter.
    broken: bool,
    /// The frame that was yielded last.
    frame: Vec<u8>,
    stats: Stats,
}

impl<C: Code> Delimited<C> {
    pub(super) fn new(mtu: usize) -> Self {
        Self {
            mtu,
            code: C::default(),
            input: Vec::new(),
            at: 0,
            content: Vec::new(),
            line_bytes: 0,
            broken: false,
            frame: Vec::new(),
            stats: Stats::default(),
        }
    }

    pub(super) fn feed(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
    }

    pub(super) fn next_frame(&mut self) -> Option<&[u8]> {
        while let Some(octet) = self.input.get(self.at) {
            let step = self.code.step(*octet);
            self.at += 1;
            if self.take(step) {
                return Some(&self.frame);
            }
        }
        self.input.clear();
        self.at = 0;
        None
    }

    /// Whether this completes a frame.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::End => return self.end(),
            Step::Abort => {
                self.discard();
                self.broken = false;
                return false;
            }
            Step::Content(octet) if !self.broken => self.gather(octet),
            Step::Violation => self.broken = true,
            Step::Content(_) | Step::Stuffing => {}
        }
        self.line_bytes += 1;
        if self.broken {
            self.discard();
        }
        false
    }

    fn gather(&mut self, octet: u8) {
        if self.content.len() < max_message(&self.content, self.mtu) + C::CHECKSUM {
            self.content.push(octet);
        } else {
            self.broken = true;
            self.stats.oversize += 1;
        }
    }

    fn end(&mut self) -> bool {
        let broken = mem::take(&mut self.broken);
        let has_message = self.content.len() > C::CHECKSUM;
        if broken || !has_message || !C::is_good(&self.content) {
            self.stats.crc_errors += u64::from(has_message && !broken);
            self.discard();
            return false;
        }
        mem::swap(&mut self.frame, &mut self.content);
        self.frame.truncate(self.frame.len() - C::CHECKSUM);
        self.content.clear();
        self.line_bytes = 0;
        self.stats.frames += 1;
        true
    }

    fn discard(&mut self) {
        self.content.clear();
        self.stats.noise_bytes += mem::take(&mut self.line_bytes);
    }

    pub(super) fn reset(&mut self) {
        self.line_bytes += (self.input.len() - self.at) as u64;
        self.discard();
        self.input.clear();
        self.at = 0;
        self.code = C::default();
        self.broken = false;
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }
}

/// The longest that a message with this beginning may be. The MTU does not cover a forwarder's envelope.
fn max_message(beginning: &[u8], mtu: usize) -> usize {
    match beginning {
        [envelope @ 3..=u8::MAX, ENCAPSULATION, ..] => usize::from(*envelope) + mtu,
        _ => mtu,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqttsn::framing::tests::{any_line, stats};
    use crate::mqttsn::framing::{Cobs, Hdlc, Slip};

    const MTU: usize = 60;
    /// The longest forwarder envelope.
    const MAX_ENVELOPE: usize = 255;

    /// Feeds anything; returns the octets of all frames.
    fn survive<C: Code>(line: &[u8], step: usize) -> Result<(u64, Stats), TestCaseError> {
        let mut framer = Delimited::<C>::new(MTU);
        let mut framed = 0;
        for piece in line.chunks(step) {
            framer.feed(piece);
            while let Some(frame) = framer.next_frame() {
                prop_assert!(!frame.is_empty() && frame.len() <= max_message(frame, MTU));
                framed += frame.len() as u64;
            }
            prop_assert!(framer.input.is_empty());
            prop_assert!(framer.content.len() <= max_message(&framer.content, MTU) + C::CHECKSUM);
            prop_assert!(max_message(&framer.content, MTU) <= MTU + MAX_ENVELOPE);
        }
        framer.reset();
        prop_assert_eq!(framer.line_bytes, 0);
        Ok((framed, framer.stats()))
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic_hold_no_more_than_the_mtu_and_are_accounted_for(
            line in any_line(2000),
            step in 1..300_usize,
        ) {
            let octets_but = |delimiter| line.iter().filter(|octet| **octet != delimiter).count() as u64;
            let (framed, stats) = survive::<Slip>(&line, step)?;
            // An escape is part of a frame, but not of its message.
            prop_assert!(framed + stats.noise_bytes <= octets_but(0xC0));
            let (framed, stats) = survive::<Cobs>(&line, step)?;
            prop_assert!(framed > 0 || stats.noise_bytes == octets_but(0));
            let (framed, stats) = survive::<Hdlc>(&line, step)?;
            prop_assert!(framed > 0 || stats.noise_bytes == octets_but(0x7E));
        }
    }

    #[test]
    fn a_frame_above_the_mtu_is_dropped_and_counted_once() {
        let mut framer = Delimited::<Slip>::new(MTU);
        framer.feed(&[vec![7; 1000], vec![0xC0], vec![7; MTU], vec![0xC0], vec![7; MTU + 1]].concat());
        assert_eq!(framer.next_frame(), Some(&[7; MTU][..]));
        assert_eq!(framer.next_frame(), None);
        assert_eq!(framer.stats(), stats(1, 1000 + 61, 0, 2));
        assert_eq!(framer.content.len(), 0);
    }

    #[test]
    fn the_mtu_does_not_cover_the_envelope_nor_the_checksum() {
        let message = [&[4, ENCAPSULATION, 0, 9][..], &[7; MTU]].concat();
        let mut line = Vec::new();
        Hdlc::encode(&message, &mut line);
        Hdlc::encode(&[&message[..], &[7]].concat(), &mut line);
        let mut framer = Delimited::<Hdlc>::new(MTU);
        framer.feed(&line);
        assert_eq!(framer.next_frame(), Some(&message[..]));
        assert_eq!(framer.next_frame(), None);
        assert_eq!((framer.stats().frames, framer.stats().oversize), (1, 1));
    }
}
