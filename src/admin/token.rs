//! The secret that lets TCP clients change something.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const MIN_BYTES: usize = 16;
const MAX_BYTES: u64 = 4096;

/// A secret in memory. It is never shown.
pub struct Token(Zeroizing<Vec<u8>>);

/// Why a file is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The file.
    Unreadable(io::Error),
    /// What is in it.
    Unfit(&'static str),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// The first line of a file.
    ///
    /// # Errors
    /// If it cannot be read, or would be easy to guess.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let mut text = Zeroizing::new(Vec::new());
        let file = fs::File::open(path).map_err(TokenError::Unreadable)?;
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(TokenError::Unreadable)?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Self::new(line.trim_ascii())
    }

    fn new(secret: &[u8]) -> Result<Self, TokenError> {
        if secret.len() < MIN_BYTES {
            return Err(TokenError::Unfit("its first line is shorter than 16 letters"));
        }
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Unfit("a token is made of ASCII letters, digits and signs, without blanks"));
        }
        Ok(Self(Zeroizing::new(secret.to_vec())))
    }

    /// Whether this is it. How long that takes tells nothing but its length.
    pub(super) fn is(&self, offered: &str) -> bool {
        bool::from(self.0.as_slice().ct_eq(offered.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_line_and_not_easy_to_guess() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Token::read(&path)
        };
        let token = read("  0123456789abcdef \nrest\n").unwrap();
        assert!(token.is("0123456789abcdef"));
        assert!(!token.is("0123456789abcdeg") && !token.is("") && !token.is("0123456789abcdef "));
        assert!(!format!("{token:?}").contains("0123"));
        assert!(matches!(read("0123456789abcde\n"), Err(TokenError::Unfit(_))));
        assert!(matches!(read("0123456789 abcdef\n"), Err(TokenError::Unfit(_))));
        assert!(matches!(Token::read(&dir.path().join("none")), Err(TokenError::Unreadable(_))));
    }
}
