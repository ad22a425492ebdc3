//! Certificates for one run: a CA of its own, the cloud's certificate, and the gateway's.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::cli::Failure;

/// The name in the cloud's certificate.
pub(super) const CLOUD_NAME: &str = "localhost";

/// A certificate and its key, as PEM files.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// All PEM files of a run.
#[derive(Debug)]
pub(super) struct Certs {
    pub(super) ca: PathBuf,
    pub(super) cloud: Pair,
    pub(super) gateway: Pair,
}

impl Certs {
    /// Makes them, in `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self, Failure> {
        let issuer = authority().map_err(failed)?;
        let ca = dir.join("ca.pem");
        fs::write(&ca, issuer.pem()).map_err(failed)?;
        let cloud = issue(dir, "cloud", CLOUD_NAME, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        let gateway = issue(dir, "gateway", "demo", ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;
        Ok(Self { ca, cloud, gateway })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "moteway demo CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn issue(
    dir: &Path,
    file: &str,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> Result<Pair, Failure> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().map_err(failed)?;
    let cert = params.signed_by(&key, issuer).map_err(failed)?;
    let pair = Pair { cert: dir.join(format!("{file}.pem")), key: dir.join(format!("{file}.key")) };
    fs::write(&pair.cert, cert.pem()).map_err(failed)?;
    fs::write(&pair.key, key.serialize_pem()).map_err(failed)?;
    Ok(pair)
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::Failed(format!("cannot make certificates: {error}"))
}
