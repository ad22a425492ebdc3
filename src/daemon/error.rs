//! Why a daemon does not start, in words for the operator.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::Bind;
use crate::daemon::credentials::CredentialsError;
use crate::io::SecretError;
use crate::io::tls::TlsError;
use crate::store::StoreError;

/// Why a daemon does not start.
#[derive(Debug)]
pub enum DaemonError {
    /// The gateway's name cannot be used.
    Identity(String),
    /// A certificate or key of a listener or upstream is wrong.
    Tls { whose: String, error: TlsError },
    /// An upstream's password cannot be read.
    Password(SecretError),
    /// The password file or a key of tokens is wrong.
    Credentials(CredentialsError),
    /// A bridge rule cannot work; `check` says where and why.
    Rule(String),
    /// The state directory cannot be used.
    StateDir { path: PathBuf, error: io::Error },
    /// The store cannot be opened; in the store's words, which name the file and a remedy.
    Store(String),
    /// A listener or link cannot be bound.
    Bind { what: &'static str, name: String, bind: Bind, error: io::Error },
    /// The system has no thread or file for us.
    Runtime(io::Error),
    /// A bug.
    Panicked,
}

impl DaemonError {
    pub(super) fn tls(whose: &str, error: TlsError) -> Self {
        Self::Tls { whose: whose.to_owned(), error }
    }

    /// With its causes, all in one line.
    pub(super) fn store(error: &StoreError) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Store(text)
    }

    pub(super) fn bind(what: &'static str, name: &str, bind: Bind, error: io::Error) -> Self {
        Self::Bind { what, name: name.to_owned(), bind, error }
    }

    /// Whether only a changed configuration helps, so that starting again is no use.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Identity(_) | Self::Tls { .. } | Self::Password(_) | Self::Credentials(_) | Self::Rule(_)
        )
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(error) => write!(f, "{error}: set gateway.name"),
            Self::Tls { whose, error } => write!(f, "TLS of {whose:?}: {error}"),
            Self::Password(error) => write!(f, "{error}"),
            Self::Credentials(error) => write!(f, "nobody could log in: {error}"),
            Self::Rule(error) => write!(f, "a rule cannot work: {error}; `moteway check` says which"),
            Self::StateDir { path, error } => {
                write!(f, "the state directory {} cannot be used: {error}; ", path.display())?;
                f.write_str("gateway.state_dir must be a directory that this user may write, or may make")
            }
            Self::Store(error) => write!(f, "the message store cannot be opened: {error}"),
            Self::Bind { what, name, bind, error } => {
                write!(f, "{what} {name:?} cannot use {bind}: {error}")?;
                remedy(bind, error.kind()).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            Self::Runtime(error) => write!(f, "cannot start: {error}"),
            Self::Panicked => f.write_str("the daemon failed by a fault of its own"),
        }
    }
}

/// What may help against an address that cannot be used.
fn remedy(bind: &Bind, error: io::ErrorKind) -> Option<String> {
    Some(match (bind, error) {
        (Bind::Tcp(at), io::ErrorKind::AddrInUse) => {
            format!("another program has it, `ss -lnp sport = :{}` tells which", at.port())
        }
        (Bind::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "no interface has this address, 0.0.0.0 and [::] stand for all".to_owned()
        }
        (Bind::Tcp(_), io::ErrorKind::PermissionDenied) => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        (Bind::Unix(path), io::ErrorKind::AddrInUse) => {
            format!("another program answers there, `ss -lxp src {}` tells which", path.display())
        }
        (Bind::Unix(_), io::ErrorKind::NotFound) => "its directory must be there".to_owned(),
        (Bind::Unix(_), io::ErrorKind::PermissionDenied) => {
            "this user must be allowed to write to its directory".to_owned()
        }
        _ => return None,
    })
}

impl Error for DaemonError {}
