//! ECDSA on P-256 and P-384, with our key and with those of others.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use dimpl::crypto::{
    Buf, HashAlgorithm, KeyProvider, NamedGroup, SignatureAlgorithm, SignatureVerifier, SigningKey,
    check_verify_scheme,
};
use dimpl::{CertificateError, CryptoError, CryptoOperation};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384};
use x509_parser::prelude::{FromDer, X509Certificate};

#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    /// Takes what rustls takes: PKCS#8 and SEC 1.
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let wrong = || CryptoError::OperationFailed(CryptoOperation::DecodeKey);
        let der = PrivateKeyDer::try_from(key_der).map_err(|_| wrong())?;
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&der).map_err(|_| wrong())?;
        let hash = [
            (SignatureScheme::ECDSA_NISTP256_SHA256, HashAlgorithm::SHA256),
            (SignatureScheme::ECDSA_NISTP384_SHA384, HashAlgorithm::SHA384),
        ];
        let fits = |scheme| key.choose_scheme(&[scheme]).is_some();
        let (scheme, hash) = hash.into_iter().find(|(scheme, _)| fits(*scheme)).ok_or_else(wrong)?;
        Ok(Box::new(Key { key: AssertUnwindSafe(key), scheme, hash: [hash] }))
    }
}

/// A key is never changed by what it signs, so a panic leaves nothing half done.
struct Key {
    key: AssertUnwindSafe<Arc<dyn rustls::sign::SigningKey>>,
    scheme: SignatureScheme,
    hash: [HashAlgorithm; 1],
}

/// Without the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        let failed = || CryptoError::OperationFailed(CryptoOperation::Sign);
        if hash_alg != self.hash[0] {
            return Err(failed());
        }
        let signer = self.key.choose_scheme(&[self.scheme]).ok_or_else(failed)?;
        let signature = signer.sign(data).map_err(|_| failed())?;
        out.clear();
        out.extend_from_slice(&signature);
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash[0]
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &self.hash
    }
}

#[derive(Debug)]
pub(super) struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let failed = || CryptoError::OperationFailed(CryptoOperation::VerifySignature);
        let (_, certificate) = X509Certificate::from_der(cert_der).map_err(|_| failed())?;
        let key = &certificate.tbs_certificate.subject_pki;
        let group = group(key).map_err(|_| failed())?;
        check_verify_scheme(sig_alg, hash_alg, group)?;
        let algorithm: &dyn VerificationAlgorithm = match (group, hash_alg) {
            (NamedGroup::Secp256r1, HashAlgorithm::SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (NamedGroup::Secp256r1, HashAlgorithm::SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            (NamedGroup::Secp384r1, HashAlgorithm::SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (NamedGroup::Secp384r1, HashAlgorithm::SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            _ => return Err(failed()),
        };
        let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
        key.verify(data, signature).map_err(|_| failed())
    }
}

fn group(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<NamedGroup, CertificateError> {
    let parameters = key.algorithm.parameters.as_ref().ok_or(CertificateError::MissingEcCurveParameter)?;
    let curve = parameters.as_oid().map_err(|_| CertificateError::InvalidEcCurveParameter)?;
    if curve == OID_EC_P256 {
        Ok(NamedGroup::Secp256r1)
    } else if curve == OID_NIST_EC_P384 {
        Ok(NamedGroup::Secp384r1)
    } else {
        Err(CertificateError::UnsupportedEcCurve)
    }
}
