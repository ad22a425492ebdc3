//! Frames, RFC 6455 section 5: those of the peer are taken apart where they lie, a server's are put before what they
//! carry, a client's hold a masked copy of it.

/// Longest frame that is begun: longer than any MQTT packet.
const MAX_FRAME_BYTES: u64 = 256 << 20;
/// RFC 6455 section 5.5.
const MAX_CONTROL_BYTES: usize = 125;
/// Two octets, eight of length, four of mask.
const MAX_HEADER_BYTES: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Why a connection is closed, RFC 6455 section 7.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    Normal = 1000,
    ProtocolError = 1002,
    Unsupported = 1003,
    TooBig = 1009,
}

/// The peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: CloseCode,
    /// What it did.
    pub(super) text: &'static str,
}

const fn violation(text: &'static str) -> Violation {
    Violation { code: CloseCode::ProtocolError, text }
}

/// The payload of a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control {
    bytes: [u8; MAX_CONTROL_BYTES],
    len: u8,
}

impl Control {
    const EMPTY: Self = Self { bytes: [0; MAX_CONTROL_BYTES], len: 0 };

    /// What a frame with this code says.
    pub(super) fn closing(code: CloseCode) -> Self {
        let mut control = Self::EMPTY;
        (code as u16).to_be_bytes().into_iter().for_each(|byte| control.push(byte));
        control
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// A whole frame of ours that answers a ping with this.
    pub(super) fn pong(&self) -> Vec<u8> {
        [&[FIN | PONG, self.len], self.bytes()].concat()
    }

    /// A whole frame of ours that says good-bye with this.
    pub(super) fn close(&self) -> Vec<u8> {
        // A close frame holds nothing, or a code and more [RFC 6455 5.5.1].
        [&[FIN | CLOSE, self.len], self.bytes()].concat()
    }
}

/// What came besides bytes for the engine. Boxed: it is rare, and an idle connection has none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Ping(Box<Control>),
    /// The client says good-bye. Nothing after it counts.
    Close(Box<Control>),
}

/// Takes the frames of the peer apart: a client, unless it says otherwise.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The peer is a server: it does not mask what it sends [RFC 6455 5.1].
    from_server: bool,
    header: [u8; MAX_HEADER_BYTES],
    /// Octets of the header that are there.
    have: u8,
    opcode: u8,
    mask: [u8; 4],
    /// Where in the mask the next octet is.
    mask_at: usize,
    /// Octets of the payload that are still to come.
    left: u64,
    /// A message goes on in the next data frame.
    fragmented: bool,
    /// A control frame that is not complete.
    control: Option<Box<Control>>,
}

impl Decoder {
    /// For what a server sends.
    pub(super) fn of_a_server() -> Self {
        Self { from_server: true, ..Self::default() }
    }

    /// Takes octets as they came, and moves those of messages to the front, unmasked. Returns how many these are. What
    /// else came is told to `on_event`; of several pings in one piece the last one is enough [RFC 6455 5.5.3].
    pub(super) fn decode(&mut self, bytes: &mut [u8], mut on_event: impl FnMut(Event)) -> Result<usize, Violation> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            if self.left == 0 {
                at += self.take_header(&bytes[at..])?;
                if self.left > 0 || !self.is_complete() {
                    continue;
                }
            } else {
                let whole = usize::try_from(self.left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                self.unmask(&mut bytes[at..at + whole]);
                self.left -= whole as u64;
                if let Some(control) = &mut self.control {
                    bytes[at..at + whole].iter().for_each(|byte| control.push(*byte));
                } else {
                    bytes.copy_within(at..at + whole, kept);
                    kept += whole;
                }
                at += whole;
                if self.left > 0 {
                    continue;
                }
            }
            self.have = 0;
            if let Some(control) = self.control.take() {
                match self.opcode {
                    PING => on_event(Event::Ping(control)),
                    CLOSE => {
                        on_event(Event::Close(checked(control)?));
                        return Ok(kept);
                    }
                    // Nobody asked for a pong, and a client may send one all the same.
                    _ => {}
                }
            }
        }
        Ok(kept)
    }

    /// Whether the header is there.
    fn is_complete(&self) -> bool {
        self.have >= 2 && self.have == self.header_len()
    }

    /// How long the header is, as far as its first two octets tell.
    fn header_len(&self) -> u8 {
        let mask = if self.from_server { 0 } else { 4 };
        match (self.have, self.header[1] & !MASKED) {
            (0 | 1, _) => 2,
            (_, 127) => 10 + mask,
            (_, 126) => 4 + mask,
            (_, _) => 2 + mask,
        }
    }

    /// Takes octets of a header and returns how many. Once it is complete, the payload is expected.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        for byte in bytes {
            self.header[usize::from(self.have)] = *byte;
            self.have += 1;
            taken += 1;
            if self.have == 2 {
                self.begin()?;
            }
            if self.is_complete() {
                self.expect_payload()?;
                break;
            }
        }
        Ok(taken)
    }

    /// The first two octets say what it will be.
    fn begin(&mut self) -> Result<(), Violation> {
        let [first, second] = [self.header[0], self.header[1]];
        if first & 0x70 != 0 {
            return Err(violation("a reserved bit is set"));
        }
        match (second & MASKED == 0, self.from_server) {
            (true, false) => return Err(violation("a frame is not masked")),
            (false, true) => return Err(violation("a frame of a server is masked")),
            _ => {}
        }
        let (opcode, is_last) = (first & 0x0F, first & FIN != 0);
        match opcode {
            CLOSE | PING | PONG if !is_last => return Err(violation("a control frame in pieces")),
            CLOSE | PING | PONG if usize::from(second & !MASKED) > MAX_CONTROL_BYTES => {
                return Err(violation("a control frame longer than 125 octets"));
            }
            CLOSE | PING | PONG => self.control = Some(Box::new(Control::EMPTY)),
            // [MQTT-6.0.0-1]
            TEXT => return Err(Violation { code: CloseCode::Unsupported, text: "a text frame" }),
            BINARY if self.fragmented => return Err(violation("a new message inside another")),
            CONTINUATION if !self.fragmented => return Err(violation("a continuation of nothing")),
            BINARY | CONTINUATION => self.fragmented = !is_last,
            _ => return Err(violation("an unknown kind of frame")),
        }
        self.opcode = opcode;
        Ok(())
    }

    fn expect_payload(&mut self) -> Result<(), Violation> {
        let header = &self.header[..usize::from(self.have)];
        let mask_len = if self.from_server { 0 } else { 4 };
        let (length, mask) = header[1..].split_at(header.len() - 1 - mask_len);
        // More octets of length than needed are let pass.
        self.left = match length {
            [short] => u64::from(short & !MASKED),
            [_, long @ ..] => long.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)),
            [] => 0,
        };
        if self.left >> 63 != 0 {
            return Err(violation("a length of more than 63 bits"));
        }
        if self.left > MAX_FRAME_BYTES {
            return Err(Violation { code: CloseCode::TooBig, text: "a frame longer than any MQTT packet" });
        }
        self.mask = mask.try_into().unwrap_or_default();
        self.mask_at = 0;
        Ok(())
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(self.mask_at);
        let (words, rest) = bytes.as_chunks_mut::<4>();
        for word in words {
            *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
        }
        rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        self.mask_at = (self.mask_at + rest.len()) % 4;
    }
}

/// Appends a whole frame of a client: `first` with the FIN bit, and the payload masked.
pub(super) fn put_masked<'p>(
    first: u8,
    payload: impl Iterator<Item = &'p [u8]> + Clone,
    mask: [u8; 4],
    out: &mut Vec<u8>,
) {
    let (mut header, len) = header(payload.clone().map(<[u8]>::len).sum());
    header[0] = FIN | first;
    header[1] |= MASKED;
    out.extend_from_slice(&header[..usize::from(len)]);
    out.extend_from_slice(&mask);
    let bytes = payload.flatten();
    out.extend(bytes.zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A close frame without a code, or with a code that may travel [RFC 6455 7.4].
fn checked(control: Box<Control>) -> Result<Box<Control>, Violation> {
    match control.bytes() {
        [] => Ok(control),
        [_] => Err(violation("a close frame with half a code")),
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(control),
            _ => Err(violation("a close code that may not be sent")),
        },
    }
}

/// The header of a binary message of ours, in one frame. Returns its octets and how many they are.
pub(super) fn header(payload: usize) -> ([u8; 10], u8) {
    let mut header = [0; 10];
    header[0] = FIN | BINARY;
    let len = match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    };
    (header, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    /// A frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..=125 => bytes.push(MASKED | len as u8),
            len @ 126..=0xFFFF => {
                bytes.push(MASKED | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(MASKED | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What comes out of pieces of this size.
    fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Event>), Violation> {
        let (mut decoder, mut out, mut events) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let count = decoder.decode(&mut piece, |event| events.push(event))?;
            out.extend_from_slice(&piece[..count]);
        }
        Ok((out, events))
    }

    #[test]
    fn the_example_of_rfc_6455_is_decoded() {
        // Section 5.7, a masked text frame with "Hello"; here it is a binary one.
        let bytes = [0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(decode(&bytes, 99).unwrap().0, b"Hello");
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let long: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
        let medium = &long[..300];
        let mut ping = Control::EMPTY;
        b"are you there".iter().for_each(|byte| ping.push(*byte));
        let close = Control::closing(CloseCode::Normal);
        let bytes = [
            frame(FIN | BINARY, b""),
            frame(BINARY, b"one"),
            frame(FIN | PING, b"are you there"),
            frame(CONTINUATION, b""),
            frame(CONTINUATION, medium),
            frame(FIN | PONG, b"unasked"),
            frame(FIN | CONTINUATION, b"end"),
            frame(FIN | BINARY, &long),
            frame(FIN | CLOSE, &1000u16.to_be_bytes()),
        ]
        .concat();
        let payload = [&b"one"[..], medium, b"end", &long].concat();
        let events = [Event::Ping(Box::new(ping)), Event::Close(Box::new(close))];
        for piece in [1, 2, 3, 5, 7, 13, 1000, usize::MAX] {
            let (out, found) = decode(&bytes, piece).unwrap();
            assert!(out == payload, "pieces of {piece}");
            assert_eq!(found, events, "pieces of {piece}");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_with_its_code() {
        let huge = |first_octet: u8| [&[FIN | BINARY, 0xFF, first_octet][..], &[0; 11]].concat();
        for (bytes, code, text) in [
            (vec![0xC2, 0x80], 1002, "reserved"),
            (vec![FIN | BINARY, 5], 1002, "not masked"),
            (frame(FIN | TEXT, b"x"), 1003, "text"),
            (frame(FIN | 3, b"x"), 1002, "unknown"),
            (frame(FIN | 0xB, b"x"), 1002, "unknown"),
            (frame(FIN | CONTINUATION, b"x"), 1002, "continuation"),
            ([frame(BINARY, b"x"), frame(FIN | BINARY, b"x")].concat(), 1002, "inside another"),
            (frame(PING, b""), 1002, "in pieces"),
            (frame(FIN | PING, &[0; 126]), 1002, "125"),
            (frame(FIN | CLOSE, b"x"), 1002, "half a code"),
            (frame(FIN | CLOSE, &1005u16.to_be_bytes()), 1002, "may not be sent"),
            (huge(0x80), 1002, "63 bits"),
            (huge(0x01), 1009, "longer than any"),
        ] {
            for piece in [1, usize::MAX] {
                let fault = decode(&bytes, piece).unwrap_err();
                assert_eq!(fault.code as u16, code, "{fault:?}");
                assert!(fault.text.contains(text), "{fault:?}");
            }
        }
    }

    #[test]
    fn what_a_client_sends_is_what_a_server_reads_and_the_other_way_round() {
        for len in [0, 1, 125, 126, 300, 0xFFFF, 0x1_0000] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
            let mut masked = Vec::new();
            let (a, b) = payload.split_at(len / 3);
            put_masked(BINARY, [a, b].into_iter(), MASK, &mut masked);
            assert!(masked == frame(FIN | BINARY, &payload), "{len}");
            let (bytes, header_len) = header(len);
            let plain = [&bytes[..usize::from(header_len)], &payload].concat();
            for piece in [1, 7, usize::MAX] {
                let (mut decoder, mut out) = (Decoder::of_a_server(), Vec::new());
                for piece in plain.chunks(piece) {
                    let mut piece = piece.to_vec();
                    let count = decoder.decode(&mut piece, |event| panic!("{event:?}")).unwrap();
                    out.extend_from_slice(&piece[..count]);
                }
                assert!(out == payload, "{len} in pieces of {piece}");
            }
        }
        let fault = Decoder::of_a_server().decode(&mut frame(FIN | BINARY, b"x"), |_| ()).unwrap_err();
        assert!(fault.text.contains("masked"), "{fault:?}");
    }

    #[test]
    fn our_headers_have_the_shortest_length() {
        let shown = |payload| {
            let (bytes, len) = header(payload);
            bytes[..usize::from(len)].to_vec()
        };
        assert_eq!(shown(125), [0x82, 125]);
        assert_eq!(shown(126), [0x82, 126, 0, 126]);
        assert_eq!(shown(0xFFFF), [0x82, 126, 0xFF, 0xFF]);
        assert_eq!(shown(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
