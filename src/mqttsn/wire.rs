//! Reading a body from the front, writing one at the end of a buffer. All integers are big-endian.

use std::fmt;

/// Why octets are not an MQTT-SN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The length field is not the length of what was given, or not a legal length.
    Length,
    /// The message type is reserved (MQTT-SN 5.2.2).
    Type(u8),
    /// The body ends before its fixed fields.
    Truncated,
    /// Octets follow the last field of a message of fixed length.
    Trailing,
    /// A name is not UTF-8, or holds U+0000.
    Text,
    /// The QoS bits hold a value that this message does not know.
    QoS,
    /// An encapsulated message inside an encapsulated message (MQTT-SN 5.5).
    Nested,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("length field and message do not agree"),
            Self::Type(code) => write!(f, "reserved message type 0x{code:02x}"),
            Self::Truncated => f.write_str("message too short for its type"),
            Self::Trailing => f.write_str("message too long for its type"),
            Self::Text => f.write_str("name is not UTF-8 without NUL"),
            Self::QoS => f.write_str("QoS not possible in this message"),
            Self::Nested => f.write_str("encapsulation inside an encapsulation"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The message is longer than 65535 octets, or a node id longer than 252.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message too long for MQTT-SN")
    }
}

impl std::error::Error for TooLong {}

/// What is left of a message body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take_u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take_pair(&mut self) -> Result<[u8; 2], DecodeError> {
        let (pair, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*pair)
    }

    pub(super) fn take_u16(&mut self) -> Result<u16, DecodeError> {
        self.take_pair().map(u16::from_be_bytes)
    }

    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A string runs to the end of the message (MQTT-SN 5.3), without a length of its own.
    pub(super) fn take_text(&mut self) -> Result<&'a str, DecodeError> {
        let octets = self.take_rest();
        if octets.contains(&0) {
            return Err(DecodeError::Text);
        }
        std::str::from_utf8(octets).map_err(|_| DecodeError::Text)
    }

    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// The end of a buffer that a body is written to.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn put_u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn put(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }
}

/// Splits a message into type and body (MQTT-SN 5.2.1). The long form of a short message is legal.
pub(super) fn split_header(octets: &[u8]) -> Result<(u8, Body<'_>), DecodeError> {
    let (len, rest) = match octets {
        [1, hi, lo, rest @ ..] => (usize::from(u16::from_be_bytes([*hi, *lo])), rest),
        [len @ 2..=u8::MAX, rest @ ..] => (usize::from(*len), rest),
        _ => return Err(DecodeError::Length),
    };
    match rest {
        [code, body @ ..] if len == octets.len() => Ok((*code, Body(body))),
        _ => Err(DecodeError::Length),
    }
}

/// Writes a message: the header in its short form if the whole has at most 255 octets. Nothing is written on error.
pub(super) fn put_message(
    out: &mut Vec<u8>,
    code: u8,
    put_body: impl FnOnce(&mut Writer<'_>),
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0, code]);
    put_body(&mut Writer(out));
    let short = out.len() - start;
    if let Ok(len) = u8::try_from(short) {
        out[start] = len;
        return Ok(());
    }
    let Ok(len) = u16::try_from(short + 2) else {
        out.truncate(start);
        return Err(TooLong);
    };
    let [hi, lo] = len.to_be_bytes();
    out.splice(start..=start, [1, hi, lo]);
    Ok(())
}
