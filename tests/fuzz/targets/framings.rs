//! The serial framings: any line, cut into any reads, with silences anywhere.

use moteway::mqttsn::decode_datagram;
use moteway::mqttsn::framing::{Framer, Stats};
use moteway::time::{Duration, Instant};

use crate::targets::source::Source;

/// Long enough to end an unfinished frame.
const SILENCE: Duration = Duration::from_millis(200);
/// PINGREQ and CONNECT, which are messages in every framing.
const MESSAGES: [&[u8]; 2] = [&[0x02, 0x16], &[0x08, 0x04, 0x04, 0x01, 0x00, 0x3C, 0x61, 0x62]];

/// How a line is read: so many octets at a time, and so many reads before the frames are taken out.
#[derive(Debug, Clone, Copy)]
struct Reads {
    octets: usize,
    until_taken: usize,
}

/// The same frames come out however the line is read, and what comes after noise gets through.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let kind = source.byte();
    let mtu = [8, 60, 255, 1024][usize::from(source.byte() & 3)];
    let odd =
        Reads { octets: usize::from(source.byte()).max(1), until_taken: usize::from(source.byte() & 7).max(1) };
    // Silence falls between the pieces of the line.
    let mut pieces = Vec::new();
    while !source.is_empty() {
        pieces.push(source.chunk());
    }
    let at_once = listen(&mut framer(kind, mtu), &pieces, Reads { octets: usize::MAX, until_taken: 1 });
    for reads in [Reads { octets: 1, until_taken: 1 }, odd] {
        assert_eq!(listen(&mut framer(kind, mtu), &pieces, reads), at_once, "{reads:?}");
    }
    account(kind, mtu, &pieces, &at_once);
    gets_through(kind, mtu, &pieces);
    returns(kind, mtu, &pieces);
}

fn framer(kind: u8, mtu: usize) -> Framer {
    match kind & 7 {
        0 | 6 => Framer::length(mtu),
        1 | 7 => Framer::slip(mtu),
        2 => Framer::cobs(mtu),
        3 => Framer::hdlc(mtu),
        kind => Framer::xbee(mtu, kind == 5),
    }
}

/// Both begin a message by its length alone.
fn is_length(kind: u8) -> bool {
    matches!(kind & 7, 0 | 6)
}

/// What comes from a radio module is not what goes to it.
fn is_module(kind: u8) -> bool {
    matches!(kind & 7, 4 | 5)
}

/// A message as it comes from the line, and the frame that it is then.
fn arrival(framer: &mut Framer, kind: u8, message: &[u8], line: &mut Vec<u8>) -> Vec<u8> {
    if !is_module(kind) {
        framer.encode(message, line);
        return message.to_vec();
    }
    // The manual's example of a 64-bit address, and no octet that had to be escaped.
    let node = [0x00, 0x14, 0xA2, 0x00, 0x40, 0x52, 0x2B, 0xAA];
    let data = [&[0x90], &node[..], &[0xFF, 0xFE, 1], message].concat();
    let sum = data.iter().fold(0xFF_u8, |sum, octet| sum.wrapping_sub(*octet));
    line.extend_from_slice(&[0x7E, 0, u8::try_from(data.len()).expect("these are short")]);
    line.extend_from_slice(&data);
    line.push(sum);
    [&[11, 0xFE, 0], &node[..], message].concat()
}

fn take(framer: &mut Framer, frames: &mut Vec<Vec<u8>>) {
    while let Some(frame) = framer.next_frame() {
        frames.push(frame.to_vec());
    }
}

fn listen(framer: &mut Framer, pieces: &[&[u8]], reads: Reads) -> (Vec<Vec<u8>>, Stats) {
    let mut now = Instant::ZERO;
    let mut frames = Vec::new();
    for piece in pieces {
        for (read, octets) in piece.chunks(reads.octets.min(piece.len()).max(1)).enumerate() {
            framer.feed(now, octets);
            if (read + 1) % reads.until_taken == 0 {
                take(framer, &mut frames);
            }
        }
        take(framer, &mut frames);
        now = now + SILENCE;
        framer.handle_timeout(now);
        take(framer, &mut frames);
        assert_eq!(framer.deadline(), None, "silence is over and something still waits for it");
    }
    framer.reset();
    (frames, framer.stats())
}

/// No octet counts twice, and no frame is longer than it may be.
fn account(kind: u8, mtu: usize, pieces: &[&[u8]], (frames, stats): &(Vec<Vec<u8>>, Stats)) {
    const MAX_ENVELOPE: usize = 255;
    let octets: usize = pieces.iter().map(|piece| piece.len()).sum();
    let framed: usize = frames.iter().map(Vec::len).sum();
    let noise = usize::try_from(stats.noise_bytes).expect("as many as were fed");
    assert!(framed + noise <= octets, "{framed} framed and {noise} noise of {octets}");
    assert_eq!(stats.frames, frames.len() as u64);
    assert!(frames.iter().all(|frame| !frame.is_empty() && frame.len() <= mtu + MAX_ENVELOPE));
    if is_length(kind) {
        assert_eq!(framed + noise, octets, "every octet is part of a frame or noise");
        assert!(frames.iter().all(|frame| decode_datagram(frame).is_ok()));
    }
}

/// Whatever was on the line before: after a silence and one frame more, frames come as they were sent.
fn gets_through(kind: u8, mtu: usize, pieces: &[&[u8]]) {
    let mut framer = framer(kind, mtu);
    let mut now = Instant::ZERO;
    let mut noise = Vec::new();
    for piece in pieces {
        framer.feed(now, piece);
    }
    take(&mut framer, &mut noise);
    now = now + SILENCE;
    framer.handle_timeout(now);
    take(&mut framer, &mut noise);
    let mut line = Vec::new();
    let sent =
        [MESSAGES[0], MESSAGES[1], MESSAGES[0]].map(|message| arrival(&mut framer, kind, message, &mut line));
    framer.feed(now, &line);
    let mut frames = Vec::new();
    take(&mut framer, &mut frames);
    assert!(frames.ends_with(&sent[1..]), "{frames:?}");
}

/// What is encoded comes back, whatever octets it has.
fn returns(kind: u8, mtu: usize, pieces: &[&[u8]]) {
    if is_module(kind) {
        return;
    }
    let mut framer = framer(kind, mtu);
    let mut line = Vec::new();
    let is_sendable = |piece: &[u8]| {
        let fits = !piece.is_empty() && piece.len() <= mtu;
        // Bits 7 to 2 of an envelope's control octet are 0 (MQTT-SN 5.5): without a checksum that tells it from noise.
        let bare = || decode_datagram(piece).is_ok_and(|(envelope, _)| envelope.is_none() || piece[2] <= 0b11);
        fits && (!is_length(kind) || bare())
    };
    let sent: Vec<Vec<u8>> = pieces.iter().filter(|piece| is_sendable(piece)).map(|piece| piece.to_vec()).collect();
    for piece in &sent {
        framer.encode(piece, &mut line);
    }
    framer.feed(Instant::ZERO, &line);
    let mut frames = Vec::new();
    take(&mut framer, &mut frames);
    assert_eq!(frames, sent);
    assert_eq!(framer.stats().noise_bytes, 0);
}
