//! Certificates made for one test, and a TLS client.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use moteway::config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A CA with a server certificate for `localhost` and a client certificate.
pub struct Certificates {
    dir: tempfile::TempDir,
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
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir, ca }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// For a listener, which may ask its clients for a certificate of this CA.
    pub fn server(&self, ask_clients: bool) -> config::ServerTls {
        config::ServerTls {
            cert: self.path("localhost.pem"),
            key: self.path("localhost.key"),
            client_ca: ask_clients.then(|| self.ca.clone()),
            identity: config::CertificateName::CommonName,
        }
    }

    /// For an upstream that has a certificate of this CA.
    pub fn trusting(&self) -> config::ClientTls {
        config::ClientTls { ca: Some(self.ca.clone()), cert: None, key: None, server_name: None }
    }

    /// For an upstream that has a certificate of this CA and asks us for one.
    pub fn trusting_and_shown(&self) -> config::ClientTls {
        let (cert, key) = (Some(self.path("client.pem")), Some(self.path("client.key")));
        config::ClientTls { cert, key, ..self.trusting() }
    }

    /// Speaks TLS to a server of this CA, showing the client certificate of `identity`.
    pub fn stream(&self, stream: TcpStream, identity: Option<&Self>) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_file(identity.path("client.pem")).unwrap()];
                let key = PrivateKeyDer::from_pem_file(identity.path("client.key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}
