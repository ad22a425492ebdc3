//! How messages lie in a byte stream. A framing is a value: octets in, frames out, silence is an input too.
//!
//! A noisy line costs frames, never the process: whatever comes in, the memory held is bounded by the largest
//! frame plus one read, and every octet is either part of a frame or counted as noise.

mod length;

pub use length::Length;

use crate::time::Instant;

/// What a framing has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames yielded.
    pub frames: u64,
    /// Octets that were not part of a frame.
    pub noise_bytes: u64,
    /// Frames that the line fell silent in.
    pub timeouts: u64,
}

/// A framing with its state.
#[derive(Debug)]
pub enum Framer {
    /// Bare MQTT-SN messages, told apart by their own length octets.
    Length(Length),
}

impl Framer {
    /// Bare messages of at most `mtu` octets.
    #[must_use]
    pub fn length(mtu: usize) -> Self {
        Self::Length(Length::new(mtu))
    }

    /// Takes what the port read. Drain [`Framer::next_frame`] afterwards.
    pub fn feed(&mut self, now: Instant, octets: &[u8]) {
        match self {
            Self::Length(framer) => framer.feed(now, octets),
        }
    }

    /// The line may have been silent for long enough. Drain [`Framer::next_frame`] afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Length(framer) => framer.handle_timeout(now),
        }
    }

    /// The next frame: one message, in its forwarder envelope or bare.
    pub fn next_frame(&mut self) -> Option<&[u8]> {
        match self {
            Self::Length(framer) => framer.next_frame(),
        }
    }

    /// When silence ends an unfinished frame.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Length(framer) => framer.deadline(),
        }
    }

    /// The port was opened afresh: what is unfinished stays so.
    pub fn reset(&mut self) {
        match self {
            Self::Length(framer) => framer.reset(),
        }
    }

    /// Appends `frame` to `out` as it goes on the line.
    pub fn encode(&self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Length(_) => out.extend_from_slice(frame),
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self {
            Self::Length(framer) => framer.stats(),
        }
    }
}
