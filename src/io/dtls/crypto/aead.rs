//! Ciphers and the suites that they belong to.

use std::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use ccm::aead::AeadInOut;
use ccm::consts::{U8, U12};
use dimpl::crypto::{
    Aad, Buf, Cipher, Dtls12CipherSuite, Dtls13CipherSuite, HashAlgorithm, Nonce, SupportedDtls12CipherSuite,
    SupportedDtls13CipherSuite, TmpBuf,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::aead::{self, LessSafeKey, UnboundKey, quic};

/// For DTLS 1.2. Those with certificates are in the order of preference; PSK is only offered where keys are.
pub(super) static SUITES: &[&dyn SupportedDtls12CipherSuite] = &[
    &Suite { name: Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256, cipher: Kind::Aes128Gcm },
    &Suite { name: Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384, cipher: Kind::Aes256Gcm },
    &Suite { name: Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256, cipher: Kind::ChaCha20Poly1305 },
    &Suite { name: Dtls12CipherSuite::PSK_AES128_CCM_8, cipher: Kind::Aes128Ccm8 },
];

/// For DTLS 1.3.
pub(super) static SUITES_13: &[&dyn SupportedDtls13CipherSuite] = &[
    &Suite { name: Dtls13CipherSuite::AES_128_GCM_SHA256, cipher: Kind::Aes128Gcm },
    &Suite { name: Dtls13CipherSuite::AES_256_GCM_SHA384, cipher: Kind::Aes256Gcm },
    &Suite { name: Dtls13CipherSuite::CHACHA20_POLY1305_SHA256, cipher: Kind::ChaCha20Poly1305 },
];

#[derive(Debug)]
struct Suite<N> {
    name: N,
    cipher: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Ccm8,
}

impl Kind {
    fn hash(self) -> HashAlgorithm {
        match self {
            Self::Aes256Gcm => HashAlgorithm::SHA384,
            Self::Aes128Gcm | Self::ChaCha20Poly1305 | Self::Aes128Ccm8 => HashAlgorithm::SHA256,
        }
    }

    fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ccm8 => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn tag_bytes(self) -> usize {
        match self {
            Self::Aes128Ccm8 => 8,
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305 => 16,
        }
    }

    fn create(self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let algorithm = match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
            Self::Aes128Ccm8 => {
                let cipher = Aes128Ccm8::new_from_slice(key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
                return Ok(Box::new(Ccm(cipher)));
            }
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| failed(CryptoOperation::CreateCipher))?;
        Ok(Box::new(Ring(LessSafeKey::new(key))))
    }
}

fn failed(operation: CryptoOperation) -> CryptoError {
    CryptoError::OperationFailed(operation)
}

impl SupportedDtls12CipherSuite for Suite<Dtls12CipherSuite> {
    fn suite(&self) -> Dtls12CipherSuite {
        self.name
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.cipher.hash()
    }

    /// Of the key for a MAC, the key and the fixed part of the nonce.
    fn key_lengths(&self) -> (usize, usize, usize) {
        let fixed = if self.explicit_nonce_len() == 0 { 12 } else { 4 };
        (0, self.cipher.key_bytes(), fixed)
    }

    fn explicit_nonce_len(&self) -> usize {
        match self.cipher {
            Kind::ChaCha20Poly1305 => 0,
            Kind::Aes128Gcm | Kind::Aes256Gcm | Kind::Aes128Ccm8 => 8,
        }
    }

    fn tag_len(&self) -> usize {
        self.cipher.tag_bytes()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        self.cipher.create(key)
    }
}

impl SupportedDtls13CipherSuite for Suite<Dtls13CipherSuite> {
    fn suite(&self) -> Dtls13CipherSuite {
        self.name
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.cipher.hash()
    }

    fn key_len(&self) -> usize {
        self.cipher.key_bytes()
    }

    fn iv_len(&self) -> usize {
        12
    }

    fn tag_len(&self) -> usize {
        self.cipher.tag_bytes()
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        self.cipher.create(key)
    }

    /// RFC 9147, 4.2.3: at most the first two octets of this cover a record's number. Of ChaCha20, *ring* has the
    /// five that QUIC needs. A key of the wrong length cannot come from the key schedule; nobody could read the mask
    /// that it yields here.
    fn encrypt_sn(&self, sn_key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        match self.cipher {
            Kind::Aes128Gcm | Kind::Aes128Ccm8 => aes_block::<aes::Aes128>(sn_key, sample),
            Kind::Aes256Gcm => aes_block::<aes::Aes256>(sn_key, sample),
            Kind::ChaCha20Poly1305 => {
                let mask = quic::HeaderProtectionKey::new(&quic::CHACHA20, sn_key)
                    .and_then(|key| key.new_mask(sample))
                    .unwrap_or_default();
                let mut block = [0; 16];
                block[..mask.len()].copy_from_slice(&mask);
                block
            }
        }
    }
}

fn aes_block<C: KeyInit + BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>>(
    key: &[u8],
    sample: &[u8; 16],
) -> [u8; 16] {
    let mut block = (*sample).into();
    if let Ok(cipher) = C::new_from_slice(key) {
        cipher.encrypt_block(&mut block);
    }
    block.into()
}

#[derive(Debug)]
struct Ring(LessSafeKey);

impl Cipher for Ring {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, aead::Aad::from(&aad[..]), plaintext.as_mut())
            .map_err(|_| failed(CryptoOperation::Encrypt))?;
        plaintext.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let length = self
            .0
            .open_in_place(nonce, aead::Aad::from(&aad[..]), ciphertext.as_mut())
            .map_err(|_| failed(CryptoOperation::Decrypt))?
            .len();
        ciphertext.truncate(length);
        Ok(())
    }
}

type Aes128Ccm8 = ccm::Ccm<aes::Aes128, U8, U12>;

struct Ccm(Aes128Ccm8);

/// Without the key.
impl fmt::Debug for Ccm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ccm").finish_non_exhaustive()
    }
}

impl Cipher for Ccm {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let tag = self
            .0
            .encrypt_inout_detached(&nonce.0.into(), &aad[..], plaintext.as_mut().into())
            .map_err(|_| failed(CryptoOperation::Encrypt))?;
        plaintext.extend_from_slice(&tag);
        Ok(())
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf<'_>, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let wrong = || failed(CryptoOperation::Decrypt);
        let length = ciphertext.len().checked_sub(Kind::Aes128Ccm8.tag_bytes()).ok_or_else(wrong)?;
        let tag: [u8; 8] = ciphertext.as_ref()[length..].try_into().map_err(|_| wrong())?;
        ciphertext.truncate(length);
        self.0
            .decrypt_inout_detached(&nonce.0.into(), &aad[..], ciphertext.as_mut().into(), &tag.into())
            .map_err(|_| wrong())
    }
}
