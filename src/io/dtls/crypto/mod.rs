//! What DTLS computes with: *ring*, as everywhere else, and for AES-CCM the crate `ccm`.

mod aead;
mod digest;
mod exchange;
mod sign;

use dimpl::CryptoError;
use dimpl::crypto::{CryptoProvider, SecureRandom};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The suites: ECDHE-ECDSA with AES-GCM or ChaCha20-Poly1305, and PSK with AES-128-CCM-8.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: exchange::GROUPS,
        signature_verification: &sign::Verifier,
        key_provider: &sign::Keys,
        secure_random: &Random,
        hash_provider: &digest::Hashes,
        hmac_provider: &digest::Hmacs,
        cipher_suites: aead::SUITES,
        dtls13_cipher_suites: aead::SUITES_13,
    }
}

#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buf: &mut [u8]) -> Result<(), CryptoError> {
        SystemRandom::new().fill(buf).map_err(|_| CryptoError::OperationFailed(dimpl::CryptoOperation::FillRandom))
    }
}

#[cfg(test)]
mod tests {
    use super::provider;

    /// The library has vectors for each part of a provider.
    #[test]
    fn hashes_ciphers_signatures_and_exchanges_give_what_the_vectors_say() {
        provider().validate().unwrap();
    }
}
