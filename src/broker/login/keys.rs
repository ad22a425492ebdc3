//! The keys that tokens are signed with: a shared secret, or public keys in PEM.

use base64ct::{Base64, Encoding};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::broker::login::secret::Secret;
use crate::broker::login::users::LineError;

/// A shorter secret can be guessed from one token (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Each is tried in turn.
const MAX_KEYS: usize = 16;

/// What a key can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// A shared secret.
    Hmac(Secret),
    /// `RSAPublicKey` in DER (RFC 8017, A.1.1).
    Rsa(Box<[u8]>),
    /// An uncompressed point on P-256.
    P256(Box<[u8]>),
    /// An uncompressed point on P-384.
    P384(Box<[u8]>),
}

/// All keys that tokens are tried with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub(super) list: Vec<Key>,
}

impl Keys {
    /// Adds a shared secret, as its file holds it: the end of the line does not belong to it.
    ///
    /// # Errors
    /// When it is too short to be one.
    pub fn add_secret(&mut self, mut text: Vec<u8>) -> Result<(), LineError> {
        while text.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
        let secret = Secret::from(text);
        if secret.expose().len() < MIN_SECRET_BYTES {
            let message = format!("a secret of less than {MIN_SECRET_BYTES} bytes can be guessed");
            return Err(LineError { line: 1, message });
        }
        self.list.push(Key::Hmac(secret));
        Ok(())
    }

    /// Adds the public keys, and the keys of the certificates, in a PEM file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn add_pem(&mut self, text: &[u8]) -> Result<(), LineError> {
        let before = self.list.len();
        let mut block: Option<(usize, &[u8], Vec<u8>)> = None;
        let mut lines = 0;
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            lines = number;
            let line = line.trim_ascii();
            if let Some(label) = edge(line, b"-----BEGIN ") {
                block = Some((number, label, Vec::new()));
            } else if let Some(label) = edge(line, b"-----END ") {
                let whole = block.take().filter(|(_, begun, _)| *begun == label);
                let wrong = |line: usize, message: &str| LineError { line, message: message.to_owned() };
                let (begun_at, label, base64) = whole.ok_or(wrong(number, "an end without its beginning"))?;
                let key = key(label, &base64).map_err(|message| wrong(begun_at, message))?;
                if self.list.len() >= MAX_KEYS {
                    return Err(wrong(begun_at, "too many keys: at most 16"));
                }
                self.list.push(key);
            } else if let Some((_, _, base64)) = &mut block {
                base64.extend_from_slice(line);
            }
        }
        if self.list.len() == before || block.is_some() {
            let message = "there is no whole public key in PEM here (-----BEGIN PUBLIC KEY-----)";
            return Err(LineError { line: lines, message: message.to_owned() });
        }
        Ok(())
    }
}

/// The label of a line such as `-----BEGIN PUBLIC KEY-----`.
fn edge<'a>(line: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(begin)?.strip_suffix(b"-----")
}

fn key(label: &[u8], base64: &[u8]) -> Result<Key, &'static str> {
    if label.ends_with(b"PRIVATE KEY") {
        return Err("this is a private key: whoever verifies tokens needs only the public one");
    }
    let text = std::str::from_utf8(base64).map_err(|_| "this is not base64")?;
    let der = Base64::decode_vec(text).map_err(|_| "this is not base64")?;
    match label {
        b"PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| "this is no public key")?;
            public_key(&info)
        }
        b"CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| "this is no certificate")?;
            public_key(certificate.public_key())
        }
        _ => Err("neither a PUBLIC KEY nor a CERTIFICATE"),
    }
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<Key, &'static str> {
    let bits: Box<[u8]> = info.subject_public_key.data.as_ref().into();
    if info.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        return Ok(Key::Rsa(bits));
    }
    let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    if info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && let Some(curve) = curve
    {
        if curve == OID_EC_P256 {
            return Ok(Key::P256(bits));
        }
        if curve == OID_NIST_EC_P384 {
            return Ok(Key::P384(bits));
        }
    }
    Err("of the kinds of keys RSA, P-256 and P-384 are taken")
}
