//! The client side of an upstream: whom we trust, and who we are.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{ClientTls, Pin};
#[cfg(feature = "pkcs11")]
use crate::io::tls::token;
use crate::io::tls::{TlsError, Validity, certificates, pair_error, private_key, roots};

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The client side of an upstream. Without settings the system's roots are trusted and no certificate is shown.
/// Certificates are judged by `time`.
///
/// # Errors
/// If a file cannot be read, holds no usable certificate or key, or certificate and key do not belong together; also
/// if the system has no root certificates.
pub fn client_config(tls: Option<&ClientTls>, time: &Validity) -> Result<Arc<ClientConfig>, TlsError> {
    let other = |error: String| TlsError { file: None, problem: error };
    let none = ClientTls::default();
    let tls = tls.unwrap_or(&none);
    let roots = match tls.ca.as_deref() {
        Some(ca) => roots(ca)?,
        None => native_roots()?,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| other(error.to_string()))?;
    let builder = ClientConfig::builder_with_details(provider, Arc::new(time.clone()))
        .with_protocol_versions(VERSIONS)
        .map_err(|error| other(error.to_string()))?;
    let builder = if tls.pin.is_empty() {
        builder.with_webpki_verifier(verifier)
    } else {
        let pinned = Arc::new(Pinned { chain: verifier, pins: tls.pin.clone() });
        builder.dangerous().with_custom_certificate_verifier(pinned)
    };
    let key_file = tls.key.as_deref();
    let mut config = match (tls.cert.as_deref(), key_file, &tls.pkcs11) {
        (None, None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key), None) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| pair_error(cert, key, &error))?,
        #[cfg(feature = "pkcs11")]
        (Some(cert), None, Some(key)) => {
            let identity = token::identity(cert, key)?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
        }
        (Some(cert), None, None) => {
            return Err(TlsError::in_file(cert, "this certificate has no key: set tls.key too"));
        }
        (None, Some(key), None) => {
            return Err(TlsError::in_file(key, "this key has no certificate: set tls.cert too"));
        }
        // The check of the configuration says more.
        (.., Some(_)) => return Err(other("this key in a token cannot be used: see tls.pkcs11".to_owned())),
    };
    config.alpn_protocols = tls.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
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

/// Checks a chain as always, and then that the certificate has one of these keys. Only that of the server itself
/// counts: what a server sends along need not belong to its chain.
#[derive(Debug)]
struct Pinned {
    chain: Arc<WebPkiServerVerifier>,
    pins: Vec<Pin>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let (_, parsed) = X509Certificate::from_der(end_entity)
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        let hash = ::ring::digest::digest(&::ring::digest::SHA256, parsed.public_key().raw);
        if self.pins.iter().any(|pin| pin.0 == hash.as_ref()) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tls::tests::files;

    #[test]
    fn a_client_certificate_needs_its_key() {
        let files = files();
        let time = Validity::of(&files.missing);
        let tls =
            ClientTls { ca: Some(files.cert.clone()), cert: Some(files.cert.clone()), ..ClientTls::default() };
        let error = client_config(Some(&tls), &time).unwrap_err().to_string();
        assert!(error.contains("has no key"), "{error}");
        assert!(client_config(Some(&ClientTls { key: Some(files.key), ..tls }), &time).is_ok());
    }
}
