//! Bare messages on the line, as serial bridges in the field send them: no delimiter, no checksum.
//!
//! What cannot be the start of a message is skipped octet by octet. A frame never spans a silence longer than the
//! inter-byte timeout, so a wrong length delays the frames behind it by that timeout and swallows none of them.

use std::ops::Range;

use crate::mqttsn::decode_datagram;
use crate::mqttsn::framing::Stats;
use crate::mqttsn::message::{ENCAPSULATION, body_lengths};
use crate::time::{Duration, Instant};

/// Longer than any pause inside a frame, USB latency timers included.
const INTER_BYTE_TIMEOUT: Duration = Duration::from_millis(100);

/// What the octets at hand begin with.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// A message of this length.
    Complete(usize),
    /// Possibly a message.
    Incomplete,
    Noise,
}

/// The `length` framing.
#[derive(Debug)]
pub struct Length {
    mtu: usize,
    buffer: Vec<u8>,
    /// The octets before this one are done with.
    start: usize,
    /// A silence followed the octets before this one: no frame may cross it.
    silence_at: usize,
    last_byte_at: Instant,
    stats: Stats,
}

impl Length {
    pub(super) fn new(mtu: usize) -> Self {
        Self {
            mtu,
            buffer: Vec::new(),
            start: 0,
            silence_at: 0,
            last_byte_at: Instant::ZERO,
            stats: Stats::default(),
        }
    }

    pub(super) fn feed(&mut self, now: Instant, octets: &[u8]) {
        self.handle_timeout(now);
        self.buffer.extend_from_slice(octets);
        self.last_byte_at = now;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) && self.silence_at < self.buffer.len() {
            self.silence_at = self.buffer.len();
            self.stats.timeouts += 1;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.start < self.buffer.len()).then(|| self.last_byte_at + INTER_BYTE_TIMEOUT)
    }

    pub(super) fn next_frame(&mut self) -> Option<&[u8]> {
        let Some(range) = self.find_frame() else {
            self.buffer.drain(..self.start);
            self.silence_at = self.silence_at.saturating_sub(self.start);
            self.start = 0;
            return None;
        };
        Some(&self.buffer[range])
    }

    /// Skips noise up to the next frame, and takes it.
    fn find_frame(&mut self) -> Option<Range<usize>> {
        loop {
            let ended = self.start < self.silence_at;
            let end = if ended { self.silence_at } else { self.buffer.len() };
            let octets = &self.buffer[self.start..end];
            match inspect(octets, self.mtu) {
                Head::Complete(len) if decode_datagram(&octets[..len]).is_ok() => {
                    let from = self.start;
                    self.start += len;
                    self.stats.frames += 1;
                    return Some(from..self.start);
                }
                Head::Incomplete if !ended => return None,
                Head::Complete(_) | Head::Incomplete | Head::Noise => {
                    self.start += 1;
                    self.stats.noise_bytes += 1;
                }
            }
        }
    }

    pub(super) fn reset(&mut self) {
        self.stats.noise_bytes += (self.buffer.len() - self.start) as u64;
        self.buffer.clear();
        self.start = 0;
        self.silence_at = 0;
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }
}

/// Judges the start of `octets` by length and type alone, envelope included.
fn inspect(octets: &[u8], mtu: usize) -> Head {
    let (envelope, rest) = match octets {
        // Too long for a message, but the MTU does not cover an envelope.
        [3..=u8::MAX] => return Head::Incomplete,
        [len @ 3..=u8::MAX, ENCAPSULATION, rest @ ..] => (usize::from(*len), rest),
        _ => return inspect_message(octets, mtu),
    };
    // Bits 7 to 2 of the control octet are 0 (MQTT-SN 5.5).
    if rest.first().is_some_and(|control| control & !0b11 != 0) {
        return Head::Noise;
    }
    let Some(inner) = octets.get(envelope..) else { return Head::Incomplete };
    match inspect_message(inner, mtu) {
        Head::Complete(len) => Head::Complete(envelope + len),
        other => other,
    }
}

fn inspect_message(octets: &[u8], mtu: usize) -> Head {
    let (len, header) = match octets {
        [] | [1] => return Head::Incomplete,
        [1, hi] => (usize::from(*hi) << 8, 3),
        [1, hi, lo, ..] => (usize::from(u16::from_be_bytes([*hi, *lo])), 3),
        [len, ..] => (usize::from(*len), 1),
    };
    if len > mtu {
        return Head::Noise;
    }
    let Some(code) = octets.get(header) else {
        let possible = len > header || octets.len() < header;
        return if possible { Head::Incomplete } else { Head::Noise };
    };
    match body_lengths(*code) {
        Some(lengths) if len > header && lengths.contains(&(len - header - 1)) => {
            if octets.len() < len {
                Head::Incomplete
            } else {
                Head::Complete(len)
            }
        }
        _ => Head::Noise,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The longest forwarder envelope.
    const MAX_ENVELOPE: usize = 255;
    const CONNECT: &[u8] = &[0x08, 0x04, 0x04, 0x01, 0x00, 0x3C, 0x61, 0x62];
    const PINGREQ: &[u8] = &[0x02, 0x16];
    const FORWARDED: &[u8] = &[0x04, 0xFE, 0x00, 0x01, 0x04, 0x16, 0x61, 0x62];

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn drain(framer: &mut Length) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| framer.next_frame().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn frames_come_out_whatever_the_reads_were() {
        let stream = [CONNECT, PINGREQ, FORWARDED, CONNECT].concat();
        for step in 1..stream.len() {
            let mut framer = Length::new(255);
            let mut frames = Vec::new();
            for piece in stream.chunks(step) {
                framer.feed(at(1), piece);
                frames.extend(drain(&mut framer));
            }
            assert_eq!(frames, [CONNECT, PINGREQ, FORWARDED, CONNECT], "reads of {step}");
            assert_eq!(framer.stats(), Stats { frames: 4, ..Stats::default() });
            assert_eq!(framer.deadline(), None);
        }
    }

    #[test]
    fn long_form_frames_are_frames() {
        let mut long = vec![0x01, 0x01, 0x2C, 0x0C, 0x00, 0x00, 0x01, 0x00, 0x00];
        long.resize(300, 7);
        let mut framer = Length::new(1024);
        for octet in &long {
            framer.feed(at(1), &[*octet]);
        }
        assert_eq!(drain(&mut framer), [long]);
    }

    #[test]
    fn noise_between_frames_is_skipped_and_counted() {
        let mut framer = Length::new(255);
        framer.feed(at(0), &[&[0x00, 0xFF, 0x03, 0x55][..], CONNECT].concat());
        assert_eq!(drain(&mut framer), [CONNECT]);
        assert_eq!(framer.stats().noise_bytes, 4);
    }

    #[test]
    fn a_broken_length_is_ended_by_silence_and_swallows_nothing() {
        let mut framer = Length::new(255);
        // The start of a PUBLISH of 200 octets that never comes, then two good frames.
        framer.feed(at(0), &[&[200, 0x0C][..], CONNECT, PINGREQ].concat());
        assert_eq!(drain(&mut framer), [] as [&[u8]; 0]);
        assert_eq!(framer.deadline(), Some(at(100)));
        framer.handle_timeout(at(100));
        assert_eq!(drain(&mut framer), [CONNECT, PINGREQ]);
        assert_eq!(framer.stats(), Stats { frames: 2, noise_bytes: 2, timeouts: 1, ..Stats::default() });
        assert_eq!(framer.deadline(), None);
    }

    #[test]
    fn a_frame_does_not_span_a_silence() {
        let mut framer = Length::new(255);
        framer.feed(at(0), &CONNECT[..5]);
        assert_eq!(drain(&mut framer), [] as [&[u8]; 0]);
        framer.feed(at(100), CONNECT);
        assert_eq!(drain(&mut framer), [CONNECT]);
        assert_eq!(framer.stats().noise_bytes, 5);
    }

    #[test]
    fn what_was_read_before_the_port_was_reopened_is_void() {
        let mut framer = Length::new(255);
        framer.feed(at(0), &CONNECT[..5]);
        framer.reset();
        framer.feed(at(1), CONNECT);
        assert_eq!(drain(&mut framer), [CONNECT]);
    }

    #[test]
    fn an_envelope_above_the_mtu_survives_a_read_that_ends_behind_its_first_octet() {
        let mut forwarded = vec![70, ENCAPSULATION, 0];
        forwarded.resize(70, 7);
        forwarded.extend_from_slice(PINGREQ);
        let mut framer = Length::new(60);
        let mut frames = Vec::new();
        for octet in &forwarded {
            framer.feed(at(1), &[*octet]);
            frames.extend(drain(&mut framer));
        }
        assert_eq!(frames, [forwarded]);
    }

    #[test]
    fn frames_above_the_mtu_are_noise() {
        let mut framer = Length::new(60);
        framer.feed(at(0), &[61, 0x0C, 0, 0, 1, 0, 0]);
        framer.feed(at(0), PINGREQ);
        assert_eq!(framer.next_frame(), Some(PINGREQ));
    }

    proptest! {
        #[test]
        fn any_noise_is_accounted_for_and_a_frame_after_silence_gets_through(
            noise in prop::collection::vec(any::<u8>(), 0..600),
            step in 1..50_usize,
        ) {
            let mut framer = Length::new(255);
            let mut framed = 0;
            for piece in noise.chunks(step) {
                framer.feed(at(0), piece);
                while let Some(frame) = framer.next_frame() {
                    framed += frame.len();
                }
                prop_assert!(framer.buffer.len() <= 255 + MAX_ENVELOPE);
            }
            framer.handle_timeout(at(100));
            while let Some(frame) = framer.next_frame() {
                framed += frame.len();
            }
            prop_assert_eq!(framed as u64 + framer.stats().noise_bytes, noise.len() as u64);
            framer.feed(at(300), CONNECT);
            prop_assert_eq!(framer.next_frame(), Some(CONNECT));
        }
    }
}
