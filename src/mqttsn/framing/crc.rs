//! The two checksums in use. Both divide by x^16 + x^12 + x^5 + 1 and start at 0xFFFF; they differ in the bit of an
//! octet that comes first.

/// CRC-16/CCITT-FALSE, also called CRC-16/IBM-3740: high bit first, not inverted. Over octets and their checksum, high
/// octet first, it is 0.
pub(super) fn ccitt_false(octets: &[u8]) -> u16 {
    octets.iter().fold(0xFFFF, |crc, octet| {
        (0..8).fold(crc ^ (u16::from(*octet) << 8), |crc, _| (crc << 1) ^ (0x1021 * (crc >> 15)))
    })
}

/// The register of FCS-16 (RFC 1662 C.2): low bit first. Its complement is the checksum, which goes out low octet
/// first. Over octets and their checksum it is [`FCS_GOOD`].
pub(super) fn fcs(octets: &[u8]) -> u16 {
    octets
        .iter()
        .fold(0xFFFF, |fcs, octet| (0..8).fold(fcs ^ u16::from(*octet), |fcs, _| (fcs >> 1) ^ (0x8408 * (fcs & 1))))
}

/// "Good final FCS value", RFC 1662 C.2.
pub(super) const FCS_GOOD: u16 = 0xF0B8;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &[u8] = b"123456789";

    #[test]
    fn the_checksums_have_their_published_check_values() {
        assert_eq!(ccitt_false(DIGITS), 0x29B1);
        assert_eq!(!fcs(DIGITS), 0x906E);
    }

    #[test]
    fn octets_with_their_checksum_have_the_good_value() {
        for octets in [DIGITS, &[0], &[0xFF; 300]] {
            assert_eq!(ccitt_false(&[octets, &ccitt_false(octets).to_be_bytes()].concat()), 0);
            assert_eq!(fcs(&[octets, &(!fcs(octets)).to_le_bytes()].concat()), FCS_GOOD);
        }
    }
}
