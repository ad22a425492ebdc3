//! A tar file (POSIX ustar), as far as a backup needs one: any `tar` can look into it.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// A header has eleven octal digits for it.
const MAX_BYTES: u64 = 0o77_777_777_777;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) bytes: u64,
}

/// Writes one file.
pub(super) fn put(out: &mut impl Write, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
    out.write_all(&header(entry)?)?;
    let copied = io::copy(&mut content.take(entry.bytes), out)?;
    if copied != entry.bytes {
        return Err(io::Error::other(format!("{} became shorter while it was read", entry.name)));
    }
    out.write_all(&[0; BLOCK][..padding(entry.bytes)])
}

/// Ends the archive.
pub(super) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// The next file; its content follows, and then as much as [`padding`] says. None at the end.
pub(super) fn next(input: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block)?;
    if block == [0; BLOCK] {
        return Ok(None);
    }
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "this is no backup, or it is damaged");
    let number = |at: usize, len: usize| {
        let digits = std::str::from_utf8(&block[at..at + len]).ok()?.trim_matches(['\0', ' ']);
        u64::from_str_radix(digits, 8).ok()
    };
    let text = |at: usize, len: usize| {
        let bytes = block[at..at + len].split(|byte| *byte == 0).next()?;
        std::str::from_utf8(bytes).ok()
    };
    if number(148, 8) != Some(u64::from(checksum(&block))) {
        return Err(bad());
    }
    let (prefix, name) = (text(345, 155).ok_or_else(bad)?, text(0, 100).ok_or_else(bad)?);
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    let small = |at| number(at, 8).and_then(|number| u32::try_from(number).ok()).ok_or_else(bad);
    let bytes = number(124, 12).ok_or_else(bad)?;
    Ok(Some(Entry { name, mode: small(100)?, owner: (small(108)?, small(116)?), bytes }))
}

/// How much follows a content of this length.
pub(super) fn padding(bytes: u64) -> usize {
    (BLOCK - usize::try_from(bytes % BLOCK as u64).unwrap_or(0)) % BLOCK
}

fn header(entry: &Entry) -> io::Result<[u8; BLOCK]> {
    let too_long = || io::Error::other(format!("the path {:?} is too long for a backup", entry.name));
    let (prefix, name) = split(&entry.name).ok_or_else(too_long)?;
    if entry.bytes > MAX_BYTES {
        return Err(io::Error::other(format!("{} is too large for a backup", entry.name)));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{:07o}", entry.mode & 0o7777));
    put(108, &format!("{:07o}", entry.owner.0 & 0o7_777_777));
    put(116, &format!("{:07o}", entry.owner.1 & 0o7_777_777));
    put(124, &format!("{:011o}", entry.bytes));
    put(136, "00000000000");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    put(345, prefix);
    let sum = checksum(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// A long name is cut at a slash.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    name.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= 100)
}

/// The sum of all octets, with blanks in its own place.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let octet =
        |(at, byte): (usize, &u8)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) };
    block.iter().enumerate().map(octet).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, bytes: u64) -> Entry {
        Entry { name: name.to_owned(), mode: 0o600, owner: (1000, 113), bytes }
    }

    #[test]
    fn what_is_put_in_comes_out_and_damage_is_seen() {
        let long = format!("files/{}/{}", "d".repeat(120), "f".repeat(90));
        let files = [(entry("a", 3), "one"), (entry(&long, 0), ""), (entry("b", 5), "three")];
        let mut archive = Vec::new();
        for (entry, content) in &files {
            put(&mut archive, entry, &mut content.as_bytes()).unwrap();
        }
        finish(&mut archive).unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let mut rest = &archive[..];
        for (entry, content) in &files {
            assert_eq!(next(&mut rest).unwrap().as_ref(), Some(entry));
            let (found, behind) = rest.split_at(content.len());
            assert_eq!(found, content.as_bytes());
            rest = &behind[padding(entry.bytes)..];
        }
        assert_eq!(next(&mut rest).unwrap(), None);
        archive[5] ^= 1;
        assert_eq!(next(&mut &archive[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(put(&mut Vec::new(), &entry("a", 9), &mut "short".as_bytes()).is_err());
    }
}
