//! A private key that stays in a PKCS#11 token: the token signs, and nothing else is asked of it.
//!
//! A token may come and go, and its library is not ours: for each signature it is opened anew, the key is looked up by
//! its label, and it is closed again. One question at a time, of all tokens: a library that never answers costs one thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::{AuthPin, Ulong};
use ring::digest::{Digest, SHA256, SHA384, digest};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use crate::config::TokenKey;
use crate::io::tls::{TlsError, certificates, read};

const RSA: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
];
const P256: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const P384: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP384_SHA384];

/// Libraries stay loaded: not all of them can be loaded twice.
static MODULES: Mutex<BTreeMap<PathBuf, Module>> = Mutex::new(BTreeMap::new());

struct Module {
    library: Pkcs11,
    /// Digests of PINs that a token did not take. They are not tried again: a few more tries lock it.
    refused: BTreeMap<String, Digest>,
}

/// What a client shows: the certificate in `cert`, with the key in the token. The token need not be there yet.
pub(super) fn identity(cert: &Path, key: &TokenKey) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let unusable = |what: &str| TlsError::in_file(cert, format!("not usable with a key in a token: {what}"));
    let own = chain.first().ok_or_else(|| unusable("it is empty"))?;
    let (_, parsed) = X509Certificate::from_der(own).map_err(|error| unusable(&error.to_string()))?;
    let public = parsed.public_key();
    let (algorithm, schemes) = match public.parsed() {
        Ok(PublicKey::RSA(_)) => (SignatureAlgorithm::RSA, RSA),
        Ok(PublicKey::EC(point)) if point.key_size() == 256 => (SignatureAlgorithm::ECDSA, P256),
        Ok(PublicKey::EC(point)) if point.key_size() == 384 => (SignatureAlgorithm::ECDSA, P384),
        _ => return Err(unusable("its key is neither RSA nor one of the curves P-256 and P-384")),
    };
    let inner = Arc::new(Key {
        place: key.clone(),
        cert: cert.to_owned(),
        public: public.subject_public_key.data.to_vec(),
    });
    Ok(CertifiedKey::new(chain, Arc::new(InToken { inner, algorithm, schemes })))
}

#[derive(Debug)]
struct Key {
    place: TokenKey,
    cert: PathBuf,
    /// As the certificate has it.
    public: Vec<u8>,
}

/// The key, as rustls asks for it.
#[derive(Debug)]
struct InToken {
    inner: Arc<Key>,
    algorithm: SignatureAlgorithm,
    schemes: &'static [SignatureScheme],
}

impl SigningKey for InToken {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(InTokenSigner { key: Arc::clone(&self.inner), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

#[derive(Debug)]
struct InTokenSigner {
    key: Arc<Key>,
    scheme: SignatureScheme,
}

impl Signer for InTokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.key.sign(self.scheme, message).map_err(rustls::Error::General)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl Key {
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, String> {
        let TokenKey { token, key, .. } = &self.place;
        let signed = with_session(&self.place, |session| {
            let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(key.clone().into_bytes())];
            let found =
                session.find_objects(&template).map_err(|error| format!("keys cannot be listed: {error}"))?;
            let [handle] = found.as_slice() else {
                return Err(match found.len() {
                    0 => format!("it has no private key with the label {key:?}: see tls.pkcs11.key"),
                    count => format!("it has {count} private keys with the label {key:?}: one must be enough"),
                });
            };
            let refused = |error| format!("the key {key:?} does not sign with {scheme:?}: {error}");
            match scheme {
                SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384 => {
                    let hash = if scheme == SignatureScheme::ECDSA_NISTP256_SHA256 { &SHA256 } else { &SHA384 };
                    let hashed = digest(hash, message);
                    session.sign(&Mechanism::Ecdsa, *handle, hashed.as_ref()).map(|raw| der(&raw)).map_err(refused)
                }
                _ => session.sign(&mechanism(scheme), *handle, message).map_err(refused),
            }
        });
        let signature = signed.map_err(|error| format!("token {token:?}: {error}"))?;
        UnparsedPublicKey::new(verification(scheme), &self.public).verify(message, &signature).map_err(|_| {
            format!("token {token:?}: {key:?} is not the key of the certificate in {}", self.cert.display())
        })?;
        Ok(signature)
    }
}

/// Opens the token, logs in, and closes it again.
fn with_session<T>(place: &TokenKey, work: impl FnOnce(&Session) -> Result<T, String>) -> Result<T, String> {
    let mut modules = match MODULES.try_lock() {
        Ok(modules) => modules,
        Err(TryLockError::Poisoned(modules)) => PoisonError::into_inner(modules),
        Err(TryLockError::WouldBlock) => return Err("another question was not answered yet".to_owned()),
    };
    let path = &place.module;
    if !modules.contains_key(path) {
        let library = Pkcs11::new(path)
            .map_err(|error| format!("{}: cannot be loaded: {error}: see tls.pkcs11.module", path.display()))?;
        modules.insert(path.clone(), Module { library, refused: BTreeMap::new() });
    }
    let Some(module) = modules.get_mut(path) else { return Err("no library".to_owned()) };
    let library = module.library.clone();
    let failed = |what: &str, error: &Error| format!("{}: {what}: {error}", path.display());
    library
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(|error| failed("cannot be initialised", &error))?;
    let result = open(&library, place, &mut module.refused).and_then(|session| work(&session));
    library.finalize().map_err(|error| failed("cannot be left", &error))?;
    result
}

/// A session in which the user is logged in.
fn open(library: &Pkcs11, place: &TokenKey, refused: &mut BTreeMap<String, Digest>) -> Result<Session, String> {
    let TokenKey { token, pin_file, .. } = place;
    let slots = library.get_slots_with_token().map_err(|error| format!("slots cannot be listed: {error}"))?;
    let mut labels = Vec::new();
    let slot = slots.into_iter().find(|slot| {
        let label = library.get_token_info(*slot).map(|info| info.label().to_owned()).unwrap_or_default();
        let found = label == *token;
        labels.push(label);
        found
    });
    let slot = slot.ok_or_else(|| format!("it is not there, only {labels:?}: see tls.pkcs11.token"))?;
    let mut pin = Zeroizing::new(read(pin_file).map_err(|error| error.to_string())?);
    while pin.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
    let hash = digest(&SHA256, &pin);
    if refused.get(token).is_some_and(|before| before.as_ref() == hash.as_ref()) {
        return Err(format!(
            "it did not take the PIN in {}, which is not tried again before it is changed",
            pin_file.display()
        ));
    }
    let text = std::str::from_utf8(&pin).map_err(|_| format!("{}: a PIN is text", pin_file.display()))?;
    let session = library.open_ro_session(slot).map_err(|error| format!("it cannot be opened: {error}"))?;
    match session.login(UserType::User, Some(&AuthPin::new(text.into()))) {
        Ok(()) => {
            refused.remove(token);
            Ok(session)
        }
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
            refused.insert(token.clone(), hash);
            Err(format!("it does not take the PIN in {}", pin_file.display()))
        }
        Err(Error::Pkcs11(RvError::PinLocked, _)) => {
            Err("it is locked after too many wrong PINs: its vendor's tool unlocks it".to_owned())
        }
        Err(error) => Err(format!("nobody can log in: {error}")),
    }
}

fn mechanism(scheme: SignatureScheme) -> Mechanism<'static> {
    let pss = |hash_alg, mgf, s_len| PkcsPssParams { hash_alg, mgf, s_len };
    match scheme {
        SignatureScheme::RSA_PSS_SHA384 => {
            Mechanism::Sha384RsaPkcsPss(pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, Ulong::from(48)))
        }
        SignatureScheme::RSA_PKCS1_SHA256 => Mechanism::Sha256RsaPkcs,
        SignatureScheme::RSA_PKCS1_SHA384 => Mechanism::Sha384RsaPkcs,
        _ => Mechanism::Sha256RsaPkcsPss(pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, Ulong::from(32))),
    }
}

fn verification(scheme: SignatureScheme) -> &'static dyn VerificationAlgorithm {
    match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
        SignatureScheme::ECDSA_NISTP384_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
        SignatureScheme::RSA_PSS_SHA384 => &signature::RSA_PSS_2048_8192_SHA384,
        SignatureScheme::RSA_PKCS1_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        _ => &signature::RSA_PSS_2048_8192_SHA256,
    }
}

/// A token gives both numbers of an ECDSA signature one after the other; TLS has them in DER (RFC 3279, 2.2.3).
fn der(raw: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    for half in raw.chunks(raw.len().div_ceil(2).max(1)) {
        let start = half.iter().position(|octet| *octet != 0).unwrap_or(half.len().saturating_sub(1));
        let number = &half[start..];
        let padded = number.first().is_some_and(|first| first & 0x80 != 0);
        numbers.extend([2, small(number.len()) + u8::from(padded)]);
        numbers.extend(padded.then_some(0));
        numbers.extend_from_slice(number);
    }
    let mut sequence = vec![0x30, small(numbers.len())];
    sequence.append(&mut numbers);
    sequence
}

/// Lengths of these curves need one octet.
fn small(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_signature_are_positive_and_short_in_der() {
        assert_eq!(der(&[0, 1, 0x80, 2]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]);
        assert_eq!(der(&[0, 0, 0x7f, 0]), [0x30, 7, 2, 1, 0, 2, 2, 0x7f, 0]);
    }
}
