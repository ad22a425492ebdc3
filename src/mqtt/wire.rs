//! The data types of MQTT 5.0 section 1.5, read in place and appended.

use crate::mqtt::{DecodeError, PacketType};

/// The largest Variable Byte Integer.
pub(super) const MAX_VARINT: u32 = 268_435_455;

const SHORT: DecodeError = DecodeError::malformed("packet ends inside a field [MQTT-4.13.1-1]");

/// Reads fields off the front of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that nothing is left.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes follow the last field [MQTT-4.13.1-1]"))
        }
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*chunk)
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.chunk().map(u8::from_be_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.chunk().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// A packet identifier, never 0 [MQTT-2.2.1-3].
    #[inline]
    pub(super) fn pkid(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::protocol("packet identifier is 0 [MQTT-2.2.1-3]")),
            pkid => Ok(pkid),
        }
    }

    /// A Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let first = self.u8()?;
        if first < 0x80 { Ok(u32::from(first)) } else { self.long_varint(u32::from(first & 0x7F)) }
    }

    fn long_varint(&mut self, mut value: u32) -> Result<u32, DecodeError> {
        for shift in [7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            match byte {
                0 => {
                    return Err(DecodeError::malformed(
                        "variable byte integer is longer than needed [MQTT-1.5.5-1]",
                    ));
                }
                1..0x80 => return Ok(value),
                _ => {}
            }
        }
        Err(DecodeError::malformed("variable byte integer has more than four bytes (section 1.5.5)"))
    }

    /// Binary Data: two bytes of length, then the data.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 Encoded String that may yet contain U+0000.
    #[inline]
    pub(super) fn utf8(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::malformed("string is not UTF-8 [MQTT-1.5.4-1]"))
    }

    /// A UTF-8 Encoded String: well formed, and without U+0000.
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let string = self.utf8()?;
        if string.as_bytes().contains(&0) {
            return Err(DecodeError::malformed("string contains U+0000 [MQTT-1.5.4-2]"));
        }
        Ok(string)
    }
}

/// `value` as a Variable Byte Integer, and its length.
#[inline]
pub(super) fn varint(value: u32) -> ([u8; 4], usize) {
    let mut bytes = [0; 4];
    let (mut left, mut len) = (value, 0);
    for byte in &mut bytes {
        *byte = (left & 0x7F) as u8;
        left >>= 7;
        len += 1;
        if left == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, len)
}

/// How many bytes `value` takes as a Variable Byte Integer.
#[inline]
pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, value: u32) {
    let (bytes, len) = varint(value);
    out.extend_from_slice(&bytes[..len]);
}

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// The length of a string or binary field as it fits its two bytes.
#[inline]
pub(super) fn field_len(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Appends Binary Data. At most 65 535 bytes fit; the rest is cut off.
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = field_len(bytes.len());
    put_u16(out, len);
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

/// How long Binary Data is on the wire.
pub(super) fn binary_len(bytes: &[u8]) -> usize {
    2 + usize::from(field_len(bytes.len()))
}

/// As much of a string as its two bytes of length can tell.
fn cut(string: &str) -> &str {
    &string[..string.floor_char_boundary(usize::from(u16::MAX))]
}

/// Appends a UTF-8 Encoded String. At most 65 535 bytes fit; the rest is cut off between characters.
pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    put_binary(out, cut(string).as_bytes());
}

/// How long a UTF-8 Encoded String is on the wire.
pub(super) fn string_len(string: &str) -> usize {
    2 + cut(string).len()
}

/// Appends a packet whose body `put` appends. Control packets are short: the remaining length gets one byte first,
/// and the body moves up only if that is too few. A body that no remaining length can tell is not appended.
pub(super) fn put_packet(out: &mut Vec<u8>, kind: PacketType, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind.header());
    put_with_len(out, put);
    if out.len() - start > MAX_VARINT as usize {
        debug_assert!(false, "a packet of {} bytes", out.len() - start);
        out.truncate(start);
    }
}

/// Appends what `put` appends, after its length as a Variable Byte Integer.
pub(super) fn put_with_len(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    put(out);
    let len = u32::try_from(out.len() - at - 1).unwrap_or(u32::MAX);
    let (bytes, n) = varint(len);
    out[at] = bytes[0];
    if n > 1 {
        out.splice(at + 1..at + 1, bytes[1..n].iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_at_the_borders() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (MAX_VARINT, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value as usize), bytes.len());
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
            for short in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..short]).varint(), Err(SHORT));
            }
        }
        assert!(Reader::new(&[0x80, 0x00]).varint().is_err());
        assert!(Reader::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01]).varint().is_err());
    }

    #[test]
    fn strings_are_utf8_without_nul() {
        assert_eq!(Reader::new(b"\0\x05A\xF0\xAA\x9B\x94").string(), Ok("A\u{2A6D4}"));
        assert_eq!(Reader::new(b"\0\x03\xEF\xBB\xBF").string(), Ok("\u{FEFF}"));
        assert!(Reader::new(b"\0\x01\0").string().is_err());
        assert!(Reader::new(b"\0\x03\xED\xA0\x80").string().is_err(), "a surrogate");
        assert!(Reader::new(b"\0\x02\xC0\x80").string().is_err(), "an overlong NUL");
        assert_eq!(Reader::new(b"\0\x02a").string(), Err(SHORT));
    }

    #[test]
    fn strings_that_are_too_long_are_cut_between_characters() {
        let long = "é".repeat(40_000);
        let mut out = Vec::new();
        put_string(&mut out, &long);
        assert_eq!(out.len(), string_len(&long));
        assert_eq!(Reader::new(&out).string().map(str::len), Ok(65_534));
    }

    #[test]
    fn lengths_are_inserted_when_they_outgrow_a_byte() {
        for len in [0, 127, 128, 16_383, 16_384] {
            let mut out = vec![9];
            put_with_len(&mut out, |out| out.resize(out.len() + len, 7));
            let mut reader = Reader::new(&out[1..]);
            assert_eq!(reader.varint(), Ok(u32::try_from(len).unwrap()));
            assert_eq!(reader.rest(), vec![7; len]);
        }
    }
}
