//! A certificate authority for development, tests and the demo, and what it issues.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::pem::parse_x509_pem;

use crate::cli::Failure;
use crate::sys::Clock;
use crate::time::Duration;

/// Under this name it signs.
const NAME: &str = "moteway development CA";
const DAY: Duration = Duration::from_secs(86_400);
/// A box without a clock may be a little behind.
const SKEW: Duration = Duration::from_secs(86_400);

/// Who a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Server,
    Client,
}

/// A certificate and its key, as PEM files.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// A CA with its key.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// `ca.pem`
    pub(super) cert: PathBuf,
    /// It was made just now.
    pub(super) is_new: bool,
}

impl Authority {
    /// The CA that lies in `dir` as `ca.pem` and `ca.key`, or a new one that lasts for so many days.
    pub(super) fn open(dir: &Path, days: u32) -> Result<Self, Failure> {
        let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let params = params(NAME, &[], days, IsCa::Ca(BasicConstraints::Constrained(0)))?;
        let is_new = !cert.exists();
        let pair = if is_new {
            let pair = KeyPair::generate().map_err(failed)?;
            let made = params.self_signed(&pair).map_err(failed)?;
            write(&key, pair.serialize_pem().as_bytes(), 0o600)?;
            write(&cert, made.pem().as_bytes(), 0o644)?;
            pair
        } else {
            let pem = fs::read_to_string(&key).map_err(|error| unusable(&key, error.to_string()))?;
            let pair = KeyPair::from_pem(&pem).map_err(|error| unusable(&key, error.to_string()))?;
            check(&cert, &pair)?;
            pair
        };
        Ok(Self { issuer: Issuer::new(params, pair), cert, is_new })
    }

    /// A certificate in `dir`. A key that is there already goes on.
    pub(super) fn issue(
        &self,
        dir: &Path,
        file: &str,
        name: &str,
        names: &[String],
        usage: Use,
        days: u32,
    ) -> Result<Pair, Failure> {
        let pair = Pair { cert: dir.join(format!("{file}.pem")), key: dir.join(format!("{file}.key")) };
        let mut params = params(name, names, days, IsCa::NoCa)?;
        params.extended_key_usages = vec![match usage {
            Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = match fs::read_to_string(&pair.key) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| unusable(&pair.key, error.to_string()))?,
            Err(_) => KeyPair::generate().map_err(failed)?,
        };
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        write(&pair.key, key.serialize_pem().as_bytes(), 0o600)?;
        write(&pair.cert, cert.pem().as_bytes(), 0o644)?;
        Ok(pair)
    }
}

fn params(name: &str, names: &[String], days: u32, is_ca: IsCa) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(names.to_vec()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = match is_ca {
        IsCa::Ca(_) => vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        _ => vec![KeyUsagePurpose::DigitalSignature],
    };
    params.is_ca = is_ca;
    let now = UNIX_EPOCH + Duration::from_millis(Clock::start().now().wall.as_millis());
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - SKEW).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

/// Somebody else's CA is not taken for ours.
fn check(cert: &Path, key: &KeyPair) -> Result<(), Failure> {
    let pem = fs::read(cert).map_err(|error| unusable(cert, error.to_string()))?;
    let (_, pem) = parse_x509_pem(&pem).map_err(|error| unusable(cert, error.to_string()))?;
    let parsed = pem.parse_x509().map_err(|error| unusable(cert, error.to_string()))?;
    let is_ours = parsed.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == NAME));
    let has_key = parsed.public_key().raw == rcgen::PublicKeyData::subject_public_key_info(key);
    if is_ours && has_key {
        return Ok(());
    }
    Err(unusable(cert, "it is not a CA that `moteway certs` made, or ca.key is not its key".to_owned()))
}

/// Replaces a file in one step. Its mode is right before anything is in it.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        // It may never have been made.
        fs::remove_file(&new).ok();
        Failure::Failed(format!("cannot write {}: {error}", path.display()))
    })
}

fn unusable(path: &Path, error: String) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::Failed(format!("cannot make certificates: {error}"))
}
