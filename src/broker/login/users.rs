//! The password file: a line for each user, `name:hash`, as mosquitto's. Lines that begin with `#` are comments.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::login::hash::PasswordHash;

/// Something is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, in words that do not repeat secrets.
    pub message: String,
}

/// Who may log in with a password.
#[derive(Debug, Default)]
pub struct Users {
    by_name: BTreeMap<Box<str>, Arc<PasswordHash>>,
}

impl Users {
    /// Understands a password file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, LineError> {
        let mut users = Self::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            users.add(line).map_err(|message| LineError { line: index + 1, message })?;
        }
        Ok(users)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let line = std::str::from_utf8(line).map_err(|_| "this is not UTF-8 text")?;
        let (name, hash) = line.split_once(':').ok_or("a line is a user's name, a colon and a hash")?;
        check_name(name)?;
        let hash = PasswordHash::parse(hash.trim_end())?;
        if self.by_name.insert(name.into(), Arc::new(hash)).is_some() {
            return Err(format!("user {name:?} is there twice"));
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The hash of one of them, in an order of its own.
    pub(super) fn nth(&self, n: usize) -> Option<&Arc<PasswordHash>> {
        self.by_name.values().nth(n)
    }

    /// The user's hash.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<PasswordHash>> {
        self.by_name.get(name)
    }
}

/// Whether a password file can have a user of this name.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a user has a name");
    }
    if name.starts_with('#') {
        return Err("the name of a user does not begin with `#`, which begins a comment");
    }
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err("the name of a user has no colon and no control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn lines_are_users_and_comments_and_empty_lines_are_passed_over() {
        let text = format!("# who may come\r\nann:{HASH}\r\n\n  \nJosé with a blank:{HASH} \n#bob:{HASH}");
        let users = Users::parse(text.as_bytes()).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.get("ann").unwrap().verify(b"password"));
        assert!(users.get("José with a blank").is_some());
        assert!(users.get("bob").is_none() && users.get("Ann").is_none());
        assert!(Users::parse(b"").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_the_secret() {
        let bad = [
            (format!("ann:{HASH}\nbob\n"), 2, "a colon"),
            ("ann:hunter2".to_owned(), 1, "no hash"),
            (format!("ann:{HASH}\n\nann:{HASH}"), 3, "twice"),
            (format!(":{HASH}"), 1, "has a name"),
            (format!("a\tb:{HASH}"), 1, "control"),
        ];
        for (text, line, reason) in bad {
            let error = Users::parse(text.as_bytes()).unwrap_err();
            assert!(error.line == line && error.message.contains(reason), "{error:?}");
            assert!(!error.message.contains("hunter2"), "{error:?}");
        }
        assert_eq!(Users::parse(b"a:b\xFF").unwrap_err().message, "this is not UTF-8 text");
    }
}
