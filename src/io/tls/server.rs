//! The server side of a listener: its own certificate, and whose it accepts.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::{self, ClientCert, TlsVersion};
use crate::io::tls::{Reload, TlsError, Validity, certificates, pair_error, private_key, read, roots};

/// Sessions that clients may resume by number (TLS 1.2 without tickets).
const MAX_CACHED_SESSIONS: usize = 256;

/// What a listener shows its clients and asks of them. It can be read again from its files while connections go on.
pub struct ServerIdentity {
    tls: config::ServerTls,
    time: Validity,
    current: RefCell<Arc<ServerConfig>>,
}

impl ServerIdentity {
    /// Reads the files. Certificates of clients are judged by `time`.
    ///
    /// # Errors
    /// If a file cannot be read, holds no usable certificate, key or CRL, or certificate and key do not belong
    /// together.
    pub fn load(tls: &config::ServerTls, time: &Validity) -> Result<Rc<Self>, TlsError> {
        let current = RefCell::new(server_config(tls, time)?);
        Ok(Rc::new(Self { tls: tls.clone(), time: time.clone(), current }))
    }

    /// For the next handshake.
    pub(in crate::io) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow())
    }
}

impl Reload for ServerIdentity {
    fn files(&self) -> Vec<&Path> {
        let tls = &self.tls;
        let asked = tls.client_ca.iter().chain(&tls.crl);
        [&tls.cert, &tls.key].into_iter().chain(asked).map(PathBuf::as_path).collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.current.replace(server_config(&self.tls, &self.time)?);
        Ok(())
    }
}

fn server_config(tls: &config::ServerTls, time: &Validity) -> Result<Arc<ServerConfig>, TlsError> {
    const SINCE_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = match tls.min_version {
        TlsVersion::V12 => SINCE_1_2,
        TlsVersion::V13 => &SINCE_1_2[..1],
    };
    let chain = certificates(&tls.cert)?;
    let key = private_key(&tls.key)?;
    let builder = ServerConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(time.clone()))
        .with_protocol_versions(versions)
        .map_err(|error| TlsError { file: None, problem: error.to_string() })?;
    let builder = match &tls.client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca, &tls.crl, tls.client_cert)?),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| pair_error(&tls.cert, &tls.key, &error))?;
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(MAX_CACHED_SESSIONS);
    // Tickets let a client that comes back skip the costly part, and cost us no memory. One is enough. Whoever
    // resumes is not checked again; but what is read anew knows neither the tickets nor the sessions of before.
    config.send_tls13_tickets = 1;
    config.ticketer = ring::Ticketer::new()
        .map_err(|error| TlsError { file: None, problem: format!("no random numbers for tickets: {error}") })?;
    Ok(Arc::new(config))
}

/// Checks client certificates. With CRLs, each certificate below the CA must be in the reach of one; a list past its
/// date still counts, since a gateway may be far from where the next one is.
pub(in crate::io) fn client_verifier(
    ca: &Path,
    crl: &[PathBuf],
    client_cert: ClientCert,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(ca)?);
    let build = |lists: &[CertificateRevocationListDer<'static>]| {
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
        let builder = if lists.is_empty() { builder } else { builder.with_crls(lists.iter().cloned()) };
        let builder = match client_cert {
            ClientCert::Required => builder,
            ClientCert::Optional => builder.allow_unauthenticated(),
        };
        builder.build()
    };
    let mut lists = Vec::new();
    for file in crl {
        let found = revocation_lists(file)?;
        build(&found).map_err(|error| TlsError::in_file(file, format!("not usable as a CRL: {error}")))?;
        lists.extend(found);
    }
    build(&lists)
        .map_err(|error| TlsError::in_file(ca, format!("cannot check client certificates with it: {error}")))
}

fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = read(file)?;
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::in_file(file, format!("not a PEM file: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::in_file(file, "holds no revocation list (a PEM block BEGIN X509 CRL)"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tls::tests::files;

    fn server_error(cert: &Path, key: &Path, client_ca: Option<&Path>, crl: &[PathBuf]) -> String {
        let tls = config::ServerTls {
            cert: cert.to_owned(),
            key: key.to_owned(),
            client_ca: client_ca.map(Path::to_owned),
            crl: crl.to_vec(),
            ..config::ServerTls::default()
        };
        ServerIdentity::load(&tls, &Validity::of(cert)).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong_with_it() {
        let files = files();
        let (cert, key, empty) = (&files.cert, &files.key, &files.empty);
        let crl = |file: &PathBuf| server_error(cert, key, Some(cert), std::slice::from_ref(file));
        for (error, file, words) in [
            (server_error(&files.missing, key, None, &[]), &files.missing, "cannot be read"),
            (server_error(empty, key, None, &[]), empty, "holds no certificate"),
            (server_error(cert, empty, None, &[]), empty, "holds no private key"),
            (server_error(cert, cert, None, &[]), cert, "holds no private key"),
            (server_error(cert, &files.other_key, None, &[]), &files.other_key, "is not the key of"),
            (server_error(cert, key, Some(empty), &[]), empty, "holds no certificate"),
            (crl(&files.missing), &files.missing, "cannot be read"),
            (crl(cert), cert, "holds no revocation list"),
            (crl(&files.bad_crl), &files.bad_crl, "not usable as a CRL"),
        ] {
            assert!(error.starts_with(&file.display().to_string()) && error.contains(words), "{error}");
        }
    }
}
