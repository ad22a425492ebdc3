//! Pre-shared keys, and which of them a handshake asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use dimpl::PskResolver;
use zeroize::Zeroizing;

use crate::io::tls::{TlsError, read};

/// Shorter ones can be found by trying (RFC 4279, 7.2).
const MIN_KEY_BYTES: usize = 8;
const MAX_KEY_BYTES: usize = 64;
const MAX_IDENTITY_BYTES: usize = 128;

/// What came of a look for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Known(String),
    Unknown,
}

/// What a `psk_file` holds: identities and their keys.
#[derive(Default)]
pub(super) struct Keys {
    keys: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Who was looked up last. One handshake is served at a time, so whoever serves it knows whose it is.
    asked: Mutex<Option<Asked>>,
}

impl Keys {
    /// Reads a file of lines `identity:key`, the key in hexadecimal digits.
    pub(super) fn read(file: &Path) -> Result<Self, TlsError> {
        let text = Zeroizing::new(read(file)?);
        let text = std::str::from_utf8(&text).map_err(|_| TlsError::in_file(file, "is not text in UTF-8"))?;
        let mut keys = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let problem = |why: String| TlsError::in_file(file, format!("line {number}: {why}"));
            let (identity, key) = entry(line).map_err(problem)?;
            if keys.insert(identity.to_owned(), key).is_some() {
                return Err(problem(format!("a second key for {identity}: take one out")));
            }
        }
        if keys.is_empty() {
            return Err(TlsError::in_file(
                file,
                "holds no key: write lines like `node-7:00112233445566778899aabbccddeeff`",
            ));
        }
        Ok(Self { keys, asked: Mutex::default() })
    }

    /// The identity that was looked up since the last call.
    pub(super) fn take_asked(&self) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An identity may have colons, a key cannot.
fn entry(line: &str) -> Result<(&str, Zeroizing<Vec<u8>>), String> {
    let (identity, digits) = line.rsplit_once(':').ok_or("is not `identity:key`")?;
    if identity.is_empty() || identity.len() > MAX_IDENTITY_BYTES || identity.contains(char::is_control) {
        return Err(format!("an identity has 1 to {MAX_IDENTITY_BYTES} bytes and no control characters"));
    }
    let key = hexadecimal(digits).ok_or("the key is not pairs of hexadecimal digits")?;
    if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len()) {
        return Err(format!("a key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, two digits each; 16 are usual"));
    }
    Ok((identity, key))
}

fn hexadecimal(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    for [high, low] in pairs {
        let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        key.push(digit(high)? << 4 | digit(low)?);
    }
    Some(key)
}

impl PskResolver for Keys {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let found = std::str::from_utf8(identity).ok().and_then(|identity| self.keys.get_key_value(identity));
        let asked = found.map_or(Asked::Unknown, |(identity, _)| Asked::Known(identity.clone()));
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        found.map(|(_, key)| key.to_vec())
    }
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("identities", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Keys, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Keys::read(file.path()).map_err(|error| error.problem)
    }

    #[test]
    fn a_file_has_lines_of_identity_and_key() {
        let keys =
            read_text("# nodes\n\nnode-7:00112233445566778899AAbbccddeeff\nurn:dev:1:0102030405060708\n").unwrap();
        assert_eq!(keys.resolve(b"urn:dev:1").unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(keys.take_asked(), Some(Asked::Known("urn:dev:1".to_owned())));
        assert_eq!(keys.take_asked(), None);
        assert_eq!(keys.resolve(b"node-8"), None);
        assert_eq!(keys.resolve(b"\xFF"), None);
        assert_eq!(keys.take_asked(), Some(Asked::Unknown));
        assert_eq!(keys.resolve(b"node-7").unwrap()[9..11], [0x99, 0xAA]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, words) in [
            ("", "holds no key"),
            ("node", "line 1: is not `identity:key`"),
            ("# first\nnode:123", "line 2: the key is not pairs"),
            ("node:xy00112233445566", "line 1: the key is not pairs"),
            ("node:00112233", "line 1: a key has 8 to 64 bytes"),
            (":0011223344556677", "line 1: an identity has 1 to 128 bytes"),
            ("n:0011223344556677\nn:0011223344556677", "line 2: a second key for n"),
        ] {
            let problem = read_text(text).unwrap_err();
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
    }
}
