//! TLS from files: rustls with *ring*, TLS 1.2 and 1.3. Errors name the file and what is wrong with it.

mod client;
mod server;
#[cfg(feature = "pkcs11")]
mod token;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;

use crate::sys::best_time::BestTime;
use crate::time::Duration;

pub use client::client_config;
pub use server::ServerIdentity;
pub(super) use server::client_verifier;
pub(super) use words::{explain, explain_client};

/// What is wrong with a TLS setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The file, where one is to blame.
    pub file: Option<PathBuf>,
    /// What is wrong and what to do.
    pub problem: String,
}

impl TlsError {
    pub(super) fn in_file(file: &Path, problem: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), problem: problem.into() }
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl std::error::Error for TlsError {}

/// Settings from files that can be read again while connections go on.
pub trait Reload {
    /// The files that they come from.
    fn files(&self) -> Vec<&Path>;

    /// Reads them again, for handshakes to come.
    ///
    /// # Errors
    /// As at the first time; then nothing has changed.
    fn reload(&self) -> Result<(), Box<dyn std::error::Error>>;
}

/// What time it is, as far as certificates are concerned.
#[derive(Debug, Clone)]
pub struct Validity(Arc<BestTime>);

impl Validity {
    /// By the best time that is known with this state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self(Arc::new(BestTime::open(state_dir)))
    }

    /// Where the time comes from.
    #[must_use]
    pub fn time(&self) -> &Arc<BestTime> {
        &self.0
    }
}

impl TimeProvider for Validity {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store
            .add(certificate)
            .map_err(|error| TlsError::in_file(file, format!("not usable as a CA certificate: {error}")))?;
    }
    Ok(store)
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::in_file(file, format!("not a PEM file: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::in_file(file, "holds no certificate (a PEM block BEGIN CERTIFICATE)"));
    }
    Ok(found)
}

pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound if pem_holds(&pem, "ENCRYPTED PRIVATE KEY") => {
            TlsError::in_file(file, "the key is protected by a pass phrase: store it without, readable by us only")
        }
        rustls::pki_types::pem::Error::NoItemsFound => {
            TlsError::in_file(file, "holds no private key (a PEM block BEGIN PRIVATE KEY)")
        }
        error => TlsError::in_file(file, format!("not a PEM file: {error}")),
    })
}

fn pem_holds(pem: &[u8], label: &str) -> bool {
    pem.windows(label.len()).any(|window| window == label.as_bytes())
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::in_file(file, format!("cannot be read: {error}")))
}

pub(super) fn pair_error(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::in_file(key, format!("is not the key of the certificate in {}", cert.display()))
        }
        rustls::Error::InvalidCertificate(_) => TlsError::in_file(cert, format!("not usable: {error}")),
        _ => TlsError::in_file(key, format!("not usable as a private key: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    pub(super) struct Files {
        _dir: tempfile::TempDir,
        pub(super) cert: PathBuf,
        pub(super) key: PathBuf,
        pub(super) other_key: PathBuf,
        pub(super) empty: PathBuf,
        pub(super) bad_crl: PathBuf,
        pub(super) missing: PathBuf,
    }

    pub(super) fn files() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Files {
            cert: put("cert.pem", cert.pem()),
            key: put("key.pem", key.serialize_pem()),
            other_key: put("other.pem", KeyPair::generate().unwrap().serialize_pem()),
            empty: put("empty.pem", String::new()),
            bad_crl: put("bad.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned()),
            missing: dir.path().join("missing.pem"),
            _dir: dir,
        }
    }
}
