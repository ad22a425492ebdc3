//! TLS from files: rustls with *ring*, TLS 1.2 and 1.3. Errors name the file and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};

use crate::config;

/// Sessions that clients may resume by number (TLS 1.2 without tickets).
const MAX_CACHED_SESSIONS: usize = 256;

/// What is wrong with a TLS setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The file, where one is to blame.
    pub file: Option<PathBuf>,
    /// What is wrong and what to do.
    pub problem: String,
}

impl TlsError {
    fn in_file(file: &Path, problem: impl Into<String>) -> Self {
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

/// The server side of a listener.
///
/// # Errors
/// If a file cannot be read, holds no usable certificate or key, or certificate and key do not belong together.
pub fn server_config(tls: &config::ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&tls.cert)?;
    let key = private_key(&tls.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError { file: None, problem: error.to_string() })?;
    let builder = match &tls.client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca)?),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| pair_error(&tls.cert, &tls.key, &error))?;
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS);
    // Tickets let a client that comes back skip the costly part, and cost us no memory. One is enough.
    config.send_tls13_tickets = 1;
    config.ticketer = ring::Ticketer::new()
        .map_err(|error| TlsError { file: None, problem: format!("no random numbers for tickets: {error}") })?;
    Ok(Arc::new(config))
}

fn client_verifier(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), Arc::new(ring::default_provider()))
        .build()
        .map_err(|error| TlsError::in_file(ca, format!("cannot check client certificates with it: {error}")))
}

/// The client side of an upstream. Without settings the system's roots are trusted and no certificate is shown.
///
/// # Errors
/// As [`server_config`]; also if the system has no root certificates.
pub fn client_config(tls: Option<&config::ClientTls>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match tls.and_then(|tls| tls.ca.as_deref()) {
        Some(ca) => roots(ca)?,
        None => native_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError { file: None, problem: error.to_string() })?
        .with_root_certificates(roots);
    let identity = tls.map(|tls| (tls.cert.as_deref(), tls.key.as_deref()));
    let config = match identity {
        None | Some((None, None)) => builder.with_no_client_auth(),
        Some((Some(cert), Some(key))) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| pair_error(cert, key, &error))?,
        Some((Some(cert), None)) => {
            return Err(TlsError::in_file(cert, "this certificate has no key: set tls.key too"));
        }
        Some((None, Some(key))) => {
            return Err(TlsError::in_file(key, "this key has no certificate: set tls.cert too"));
        }
    };
    Ok(Arc::new(config))
}

fn native_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let problem = format!(
            "this system has no trusted root certificates{why}: install the package ca-certificates or set tls.ca"
        );
        return Err(TlsError { file: None, problem });
    }
    Ok(store)
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

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::in_file(file, format!("not a PEM file: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::in_file(file, "holds no certificate (a PEM block BEGIN CERTIFICATE)"));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
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

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError::in_file(file, format!("cannot be read: {error}")))
}

fn pair_error(cert: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::in_file(key, format!("is not the key of the certificate in {}", cert.display()))
        }
        rustls::Error::InvalidCertificate(_) => TlsError::in_file(cert, format!("not usable: {error}")),
        _ => TlsError::in_file(key, format!("not usable as a private key: {error}")),
    }
}

/// What ended a connection, in words, with a remedy where there is one.
pub(super) fn explain(error: &io::Error) -> String {
    let words = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(fault)) => explain_fault(fault),
        Some(rustls::Error::AlertReceived(alert)) => explain_alert(*alert),
        _ => None,
    };
    words.map_or_else(|| error.to_string(), |words| format!("{words} ({error})"))
}

/// Why we do not trust a certificate.
fn explain_fault(fault: &CertificateError) -> Option<&'static str> {
    Some(match fault {
        CertificateError::UnknownIssuer => "no CA that we trust signed its certificate: set tls.ca",
        CertificateError::BadSignature => {
            "its certificate names a CA that we trust, but another key signed it: is tls.ca out of date?"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: set tls.server_name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: is our clock right?"
        }
        _ => return None,
    })
}

/// Why we are not trusted.
fn explain_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired => "the peer wants a certificate of us: set tls.cert and tls.key",
        AlertDescription::UnknownCA => "the peer does not know the CA that signed our certificate",
        AlertDescription::CertificateExpired => "the peer says that our certificate has expired",
        AlertDescription::CertificateRevoked => "the peer says that our certificate is revoked",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::DecryptError => "the peer does not accept our certificate",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Files {
        _dir: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
        other_key: PathBuf,
        empty: PathBuf,
        missing: PathBuf,
    }

    fn files() -> Files {
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
            missing: dir.path().join("missing.pem"),
            _dir: dir,
        }
    }

    fn server_error(cert: &Path, key: &Path, client_ca: Option<&Path>) -> String {
        let tls = config::ServerTls {
            cert: cert.to_owned(),
            key: key.to_owned(),
            client_ca: client_ca.map(Path::to_owned),
            identity: config::CertificateName::CommonName,
        };
        server_config(&tls).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong_with_it() {
        let files = files();
        for (error, file, words) in [
            (server_error(&files.missing, &files.key, None), &files.missing, "cannot be read"),
            (server_error(&files.empty, &files.key, None), &files.empty, "holds no certificate"),
            (server_error(&files.cert, &files.empty, None), &files.empty, "holds no private key"),
            (server_error(&files.cert, &files.cert, None), &files.cert, "holds no private key"),
            (server_error(&files.cert, &files.other_key, None), &files.other_key, "is not the key of"),
            (server_error(&files.cert, &files.key, Some(&files.empty)), &files.empty, "holds no certificate"),
        ] {
            assert!(error.starts_with(&file.display().to_string()) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_ends_a_connection_is_said_in_words() {
        for (error, words) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::BadSignature),
                "its certificate names a CA that we trust, but another key signed it: is tls.ca out of date? \
                 (invalid peer certificate: BadSignature)",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "the peer wants a certificate of us: set tls.cert and tls.key \
                 (received fatal alert: CertificateRequired)",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "the peer does not know the CA that signed our certificate (received fatal alert: UnknownCA)",
            ),
            (rustls::Error::DecryptError, "cannot decrypt peer's message"),
        ] {
            assert_eq!(explain(&io::Error::new(io::ErrorKind::InvalidData, error)), words);
        }
        assert_eq!(explain(&io::Error::other("cable")), "cable");
    }

    #[test]
    fn a_client_certificate_needs_its_key() {
        let files = files();
        let tls = config::ClientTls {
            ca: Some(files.cert.clone()),
            cert: Some(files.cert.clone()),
            key: None,
            server_name: None,
        };
        let error = client_config(Some(&tls)).unwrap_err().to_string();
        assert!(error.contains("has no key"), "{error}");
        assert!(client_config(Some(&config::ClientTls { key: Some(files.key), ..tls })).is_ok());
    }
}
