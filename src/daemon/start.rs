//! Small parts of a start: what is read from files, and which addresses a socket takes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::daemon::DaemonError;
use crate::engine::Passwords;

/// What each upstream's `password_file` holds.
pub(super) fn passwords(config: &Config) -> Result<Passwords, DaemonError> {
    let read =
        |path: &PathBuf| read_password(path).map_err(|error| DaemonError::Password { path: path.clone(), error });
    config.upstream.iter().map(|upstream| upstream.password_file.as_ref().map(read).transpose()).collect()
}

/// A password without the end of its line, which editors put there. Blanks may belong to it.
fn read_password(path: &Path) -> io::Result<Vec<u8>> {
    let mut password = std::fs::read(path)?;
    while password.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
    Ok(password)
}

/// An IPv6 wildcard takes IPv4 too, unless the configuration has IPv4 on the same port.
pub(super) fn dual_stack(bind: SocketAddr, all: &[SocketAddr]) -> bool {
    bind.ip().is_unspecified() && !all.iter().any(|other| other.is_ipv4() && other.port() == bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_unless_that_is_configured_too() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let wildcard = address("[::]:1883");
        assert!(dual_stack(wildcard, &[wildcard, address("0.0.0.0:8883")]));
        assert!(!dual_stack(wildcard, &[address("0.0.0.0:1883"), wildcard]));
        assert!(!dual_stack(address("[::1]:1883"), &[]));
    }
    #[test]
    fn a_password_ends_with_its_line_and_keeps_its_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (text, password) in [("secret\n", "secret"), (" se cret \r\n", " se cret "), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_password(&path).unwrap(), password.as_bytes());
        }
        assert!(read_password(&dir.path().join("missing")).is_err());
    }
}
