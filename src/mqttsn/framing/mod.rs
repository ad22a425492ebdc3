//! How messages lie in a byte stream. A framing is a value: octets in, frames out, silence is an input too.
//!
//! A noisy line costs frames, never the process: whatever comes in, the memory held is bounded by the largest
//! frame plus one read, and every octet is part of a frame, a delimiter, or counted as noise.

mod cobs;
mod crc;
mod delimited;
mod hdlc;
mod length;
mod slip;
#[cfg(test)]
mod tests;
mod xbee;

pub use cobs::Cobs;
pub use delimited::{Code, Delimited, Step};
pub use hdlc::Hdlc;
pub use length::Length;
pub use slip::Slip;
pub use xbee::Xbee;

use crate::time::Instant;

/// What a framing has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames yielded.
    pub frames: u64,
    /// Octets that were not part of a frame. Delimiters do not count.
    pub noise_bytes: u64,
    /// Frames with a wrong checksum.
    pub crc_errors: u64,
    /// Frames longer than the MTU. The `length` framing cannot tell them from noise.
    pub oversize: u64,
    /// Frames that the line fell silent in. Only the `length` and `xbee` framings mind.
    pub timeouts: u64,
    /// Messages that a radio module says it could not deliver. Only those of `xbee` say so.
    pub undelivered: u64,
}

/// A framing with its state.
#[derive(Debug)]
pub enum Framer {
    /// Bare MQTT-SN messages, told apart by their own length octets.
    Length(Length),
    /// RFC 1055, without a checksum.
    Slip(Delimited<Slip>),
    /// Consistent overhead byte stuffing, with CRC-16/CCITT-FALSE.
    Cobs(Delimited<Cobs>),
    /// RFC 1662, with FCS-16.
    Hdlc(Delimited<Hdlc>),
    /// The API of an XBee module.
    Xbee(Xbee),
}

impl Framer {
    /// Bare messages of at most `mtu` octets; a forwarder's envelope is not counted.
    #[must_use]
    pub fn length(mtu: usize) -> Self {
        Self::Length(Length::new(mtu))
    }

    /// As [`Framer::length`], for `slip`.
    #[must_use]
    pub fn slip(mtu: usize) -> Self {
        Self::Slip(Delimited::new(mtu))
    }

    /// As [`Framer::length`], for `cobs`.
    #[must_use]
    pub fn cobs(mtu: usize) -> Self {
        Self::Cobs(Delimited::new(mtu))
    }

    /// As [`Framer::length`], for `hdlc`.
    #[must_use]
    pub fn hdlc(mtu: usize) -> Self {
        Self::Hdlc(Delimited::new(mtu))
    }

    /// As [`Framer::length`], for `xbee` in API mode 1, or 2 with escapes.
    #[must_use]
    pub fn xbee(mtu: usize, escapes: bool) -> Self {
        Self::Xbee(Xbee::new(mtu, escapes))
    }

    /// Takes what the port read. Drain [`Framer::next_frame`] afterwards.
    pub fn feed(&mut self, now: Instant, octets: &[u8]) {
        match self {
            Self::Length(framer) => framer.feed(now, octets),
            Self::Slip(framer) => framer.feed(octets),
            Self::Cobs(framer) => framer.feed(octets),
            Self::Hdlc(framer) => framer.feed(octets),
            Self::Xbee(framer) => framer.feed(now, octets),
        }
    }

    /// The line may have been silent for long enough. Drain [`Framer::next_frame`] afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Length(framer) => framer.handle_timeout(now),
            Self::Xbee(framer) => framer.handle_timeout(now),
            Self::Slip(_) | Self::Cobs(_) | Self::Hdlc(_) => {}
        }
    }

    /// The next frame: one message, in its forwarder envelope or bare. Only the `length` framing has looked into it.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        match self {
            Self::Length(framer) => framer.next_frame(),
            Self::Slip(framer) => framer.next_frame(),
            Self::Cobs(framer) => framer.next_frame(),
            Self::Hdlc(framer) => framer.next_frame(),
            Self::Xbee(framer) => framer.next_frame(),
        }
    }

    /// When silence ends an unfinished frame.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Length(framer) => framer.deadline(),
            Self::Xbee(framer) => framer.deadline(),
            Self::Slip(_) | Self::Cobs(_) | Self::Hdlc(_) => None,
        }
    }

    /// The port was opened afresh: what is unfinished stays so.
    pub fn reset(&mut self) {
        match self {
            Self::Length(framer) => framer.reset(),
            Self::Slip(framer) => framer.reset(),
            Self::Cobs(framer) => framer.reset(),
            Self::Hdlc(framer) => framer.reset(),
            Self::Xbee(framer) => framer.reset(),
        }
    }

    /// Appends `frame` to `out` as it goes on the line.
    pub fn encode(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Length(_) => out.extend_from_slice(frame),
            Self::Slip(_) => Slip::encode(frame, out),
            Self::Cobs(_) => Cobs::encode(frame, out),
            Self::Hdlc(_) => Hdlc::encode(frame, out),
            Self::Xbee(framer) => framer.encode(frame, out),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self {
            Self::Length(framer) => framer.stats(),
            Self::Slip(framer) => framer.stats(),
            Self::Cobs(framer) => framer.stats(),
            Self::Hdlc(framer) => framer.stats(),
            Self::Xbee(framer) => framer.stats(),
        }
    }
}
