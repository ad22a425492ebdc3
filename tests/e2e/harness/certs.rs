//! A certificate authority with one server and one client.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// PEM files in a directory that goes with them.
pub(crate) struct Certs {
    dir: TempDir,
}

impl Certs {
    /// The server is `localhost` and `127.0.0.1`; the client's common name is `box`.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        // No two have the same name: a certificate shall be seen to be another's.
        params.distinguished_name.push(DnType::CommonName, format!("Test CA {}", fastrand::u32(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        for (name, common_name, names) in
            [("server", "server", &["localhost", "127.0.0.1"][..]), ("client", "box", &[])]
        {
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name.push(DnType::CommonName, common_name);
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &ca).unwrap();
            fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn server_cert(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    pub(crate) fn server_key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    /// The certificate and the key of the client.
    pub(crate) fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("client.pem"), self.dir.path().join("client.key"))
    }

    /// The `tls` key of a listener with the server certificate.
    pub(crate) fn listener_tls(&self) -> String {
        format!("tls = {{ cert = {:?}, key = {:?} }}\n", self.server_cert(), self.server_key())
    }

    /// The `tls` key of an upstream that shows the client certificate.
    pub(crate) fn upstream_tls(&self) -> String {
        let path = |name| self.dir.path().join(name);
        format!("tls = {{ ca = {:?}, cert = {:?}, key = {:?} }}", self.ca(), path("client.pem"), path("client.key"))
    }
}
