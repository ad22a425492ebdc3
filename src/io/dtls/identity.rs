//! What a link shows its nodes, and whom it takes: from files, which can be read again.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Config, Dtls, DtlsCertificate};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;

use crate::config::{self, ClientCert};
use crate::engine::certificate_name;
use crate::io::dtls::association::offers;
use crate::io::dtls::crypto;
use crate::io::dtls::keys::Keys;
use crate::io::tls::{Reload, TlsError, Validity, certificates, client_verifier, private_key};

/// Handshake packets are cut to this at the least and at the most: an IPv6 packet without extras.
const MTU: std::ops::RangeInclusive<usize> = 576..=1232;

/// The DTLS settings of a link. They can be read again from their files while associations go on.
pub struct DtlsIdentity {
    dtls: config::LinkDtls,
    /// Longest MQTT-SN message.
    mtu: usize,
    time: Validity,
    current: RefCell<Rc<Current>>,
}

impl DtlsIdentity {
    /// Reads the files. Certificates of nodes are judged by `time`.
    ///
    /// # Errors
    /// If a file cannot be read, or holds no usable certificate, key, CRL or pre-shared key.
    pub fn load(dtls: &config::LinkDtls, mtu: usize, time: &Validity) -> Result<Rc<Self>, TlsError> {
        let current = RefCell::new(Rc::new(Current::load(dtls, mtu, time)?));
        Ok(Rc::new(Self { dtls: dtls.clone(), mtu, time: time.clone(), current }))
    }

    /// Takes over what another one has read, for the next handshake.
    pub fn adopt(&self, newer: &Self) {
        let current = newer.current();
        self.current.replace(current);
    }

    /// For the next handshake.
    pub(super) fn current(&self) -> Rc<Current> {
        Rc::clone(&self.current.borrow())
    }

    pub(super) fn settings(&self) -> &config::LinkDtls {
        &self.dtls
    }
}

impl Reload for DtlsIdentity {
    fn files(&self) -> Vec<&Path> {
        let dtls = &self.dtls;
        let single = [&dtls.cert, &dtls.key, &dtls.client_ca, &dtls.psk_file];
        single.into_iter().flatten().chain(&dtls.crl).map(PathBuf::as_path).collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
        self.current.replace(Rc::new(Current::load(&self.dtls, self.mtu, &self.time)?));
        Ok(())
    }
}

/// What the files hold.
pub(super) struct Current {
    config: Arc<Config>,
    certificate: Option<DtlsCertificate>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) keys: Option<Arc<Keys>>,
    name: config::CertificateName,
    time: Validity,
}

impl Current {
    fn load(dtls: &config::LinkDtls, mtu: usize, time: &Validity) -> Result<Self, TlsError> {
        let certificate = dtls.cert.as_deref().zip(dtls.key.as_deref());
        let certificate = certificate.map(|(cert, key)| own_certificate(cert, key)).transpose()?;
        let clients = dtls.client_ca.as_deref();
        let clients = clients.map(|ca| client_verifier(ca, &dtls.crl, ClientCert::Required)).transpose()?;
        let keys = dtls.psk_file.as_deref().map(Keys::read).transpose()?.map(Arc::new);
        // Room for the header of a record, nonce and checksum.
        let builder = Config::builder()
            .with_crypto_provider(crypto::provider())
            .mtu((mtu + 64).clamp(*MTU.start(), *MTU.end()))
            .handshake_timeout(dtls.handshake_timeout)
            .require_client_certificate(clients.is_some());
        let builder = match &keys {
            Some(keys) => builder.with_psk_server(None, Arc::clone(keys) as Arc<dyn dimpl::PskResolver>),
            None => builder,
        };
        let config = builder.build().map_err(|error| TlsError { file: None, problem: error.to_string() })?;
        Ok(Self { config: Arc::new(config), certificate, clients, keys, name: dtls.identity, time: time.clone() })
    }

    /// Our side of the handshake that begins with this ClientHello. Who offers a suite with pre-shared keys has one,
    /// while suites with certificates are offered by many that have none to show: so a key is taken where both would
    /// do. The library goes by the order of the offer instead, and Mbed TLS has its certificates first.
    pub(super) fn server(&self, now: Instant, hello: &[u8]) -> Dtls {
        let config = Arc::clone(&self.config);
        let by_key = self.keys.is_some() && offers(hello, Dtls12CipherSuite::PSK_AES128_CCM_8.as_u16());
        match &self.certificate {
            Some(certificate) if !by_key => Dtls::new_auto(config, certificate.clone(), now),
            _ => Dtls::new_12_psk(config, now),
        }
    }

    /// Checks a node's certificate, and says what it is called.
    pub(super) fn check(&self, der: &[u8]) -> Result<Option<String>, String> {
        let Some(clients) = &self.clients else { return Ok(None) };
        let certificate = CertificateDer::from(der);
        let now = self.time.current_time().ok_or("nobody knows the time")?;
        clients
            .verify_client_cert(&certificate, &[], now)
            .map_err(|error| format!("its certificate is not accepted: {error}"))?;
        let name = certificate_name(der, self.name).map_err(str::to_owned)?;
        Ok(Some(name.into()))
    }

    /// Whether whoever gets here has proved a name, whichever way it came.
    pub(super) fn asks_for_a_name(&self) -> bool {
        self.clients.is_some() || self.certificate.is_none()
    }
}

/// The library sends one certificate, and signs with ECDSA.
fn own_certificate(cert: &Path, key: &Path) -> Result<DtlsCertificate, TlsError> {
    use rustls::sign::CertifiedKey;
    let mut chain = certificates(cert)?;
    if chain.len() > 1 {
        let problem = "holds more than one certificate, and DTLS sends one: leave only that of the gateway";
        return Err(TlsError::in_file(cert, problem));
    }
    let der = private_key(key)?;
    let private = der.secret_der().to_vec();
    let signer = rustls::crypto::ring::sign::any_ecdsa_type(&der)
        .map_err(|_| TlsError::in_file(key, "is not an ECDSA key on P-256 or P-384, and DTLS takes no other"))?;
    let pair = CertifiedKey::new(chain.clone(), signer);
    pair.keys_match().map_err(|error| crate::io::tls::pair_error(cert, key, &error))?;
    let certificate = chain.remove(0).to_vec();
    Ok(DtlsCertificate { certificate, private_key: private })
}
