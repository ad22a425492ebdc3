//! Certificates made for one test, and a TLS client.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moteway::config;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Serial number of the client certificate.
pub const CLIENT: u64 = 7;

/// A CA with a server certificate for `localhost` and a client certificate.
pub struct Certificates {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub ca: PathBuf,
}

impl Certificates {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Two CAs of one name would be told apart by their signatures only.
        let name = format!("CA {}", dir.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let made = Self { dir, issuer, ca };
        made.issue("localhost", 1, |_| {});
        made.issue("client", CLIENT, |_| {});
        made
    }

    /// Makes a certificate with its key, in place of the one before.
    pub fn issue(&self, name: &str, serial: u64, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A client certificate that was good once.
    pub fn issue_expired(&self, name: &str) {
        self.issue(name, 66, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        });
    }

    /// A list of the revoked, whose successor was due long ago.
    pub fn crl(&self, revoked: &[u64]) -> String {
        let then = date_time_ymd(2025, 1, 1);
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: then,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: then,
            next_update: date_time_ymd(2025, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// For a listener, which may ask its clients for a certificate of this CA.
    pub fn server(&self, ask_clients: bool) -> config::ServerTls {
        config::ServerTls {
            cert: self.path("localhost.pem"),
            key: self.path("localhost.key"),
            client_ca: ask_clients.then(|| self.ca.clone()),
            ..config::ServerTls::default()
        }
    }

    /// For an upstream that has a certificate of this CA.
    pub fn trusting(&self) -> config::ClientTls {
        config::ClientTls { ca: Some(self.ca.clone()), ..config::ClientTls::default() }
    }

    /// For an upstream that has a certificate of this CA and asks us for one.
    pub fn trusting_and_shown(&self) -> config::ClientTls {
        let (cert, key) = (Some(self.path("client.pem")), Some(self.path("client.key")));
        config::ClientTls { cert, key, ..self.trusting() }
    }

    /// Speaks TLS to a server of this CA, showing the client certificate of `identity`.
    pub fn stream(&self, stream: TcpStream, identity: Option<&Self>) -> TlsStream {
        let identity = identity.map(|identity| identity.path("client.pem"));
        self.stream_as(stream, identity.as_deref(), &[&TLS13, &TLS12])
    }

    /// Speaks TLS of one of these versions, showing the certificate in a file, whose key lies beside it.
    pub fn stream_as(
        &self,
        stream: TcpStream,
        cert: Option<&Path>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsStream {
        self.stream_with(&self.client_config(cert, versions), stream)
    }

    /// A client that may remember from one connection to the next.
    pub fn stream_with(&self, config: &Arc<ClientConfig>, stream: TcpStream) -> TlsStream {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
    }

    pub fn client_config(
        &self,
        cert: Option<&Path>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
                let key = PrivateKeyDer::from_pem_file(cert.with_extension("key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Arc::new(config)
    }
}
