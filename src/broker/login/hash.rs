//! Hashes of passwords as they are written in a password file: Argon2id, which `moteway passwd` writes, and the two
//! kinds that mosquitto writes.
//!
//! Computing one takes as long as its author wished, up to a second on a small processor. Never do it where others
//! wait.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64, Base64Unpadded, Encoding};
use ring::{digest, pbkdf2};
use zeroize::{Zeroize, Zeroizing};

use crate::broker::login::secret::is_equal;

/// Cost of a new Argon2id hash, one of those that OWASP calls equal; this is the one that small memories can bear.
const MEMORY_KIB: u32 = 9 * 1024;
const PASSES: u32 = 4;
const LANES: u32 = 1;
const HASH_BYTES: usize = 32;
/// Octets of salt in a new hash.
pub const SALT_BYTES: usize = 16;

/// What a hash may cost: a password file shall not be able to stop the box.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 64;
const MAX_LANES: u32 = 16;
const MAX_ITERATIONS: u32 = 10_000_000;
/// Longest salt and hash that are read.
const MAX_BYTES: usize = 64;

/// A password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash {
    kind: Kind,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `$argon2id$v=19$m=9216,t=4,p=1$salt$hash`, base64 without padding (the PHC string format).
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    /// `$7$iterations$salt$hash`, base64: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 { iterations: NonZeroU32 },
    /// `$6$salt$hash`, base64: SHA-512 of password and salt.
    Sha512,
}

impl PasswordHash {
    /// Understands a hash as it is written.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('$') {
            return Err("this is no hash; `moteway passwd` writes one");
        }
        let parts: Vec<&str> = text[1..].split('$').collect();
        match parts[..] {
            ["argon2id", "v=19", costs, salt, hash] => {
                let kind = parse_costs(costs)?;
                Self::new(kind, decode::<Base64Unpadded>(salt)?, decode::<Base64Unpadded>(hash)?, 8, 16)
            }
            ["argon2id", ..] => Err("an Argon2id hash looks like $argon2id$v=19$m=..,t=..,p=..$salt$hash"),
            ["argon2i" | "argon2d", ..] => Err("of the kinds of Argon2 only argon2id is taken"),
            ["7", iterations, salt, hash] => {
                let iterations = number(iterations, MAX_ITERATIONS)?;
                Self::new(Kind::Pbkdf2 { iterations }, decode::<Base64>(salt)?, decode::<Base64>(hash)?, 1, 64)
            }
            ["6", salt, hash] => Self::new(Kind::Sha512, decode::<Base64>(salt)?, decode::<Base64>(hash)?, 1, 64),
            ["7" | "6", ..] => Err("a hash of mosquitto looks like $7$iterations$salt$hash or $6$salt$hash"),
            _ => Err("an unknown kind of hash: argon2id, $7$ and $6$ are taken"),
        }
    }

    fn new(
        kind: Kind,
        salt: Vec<u8>,
        hash: Vec<u8>,
        min_salt: usize,
        min_hash: usize,
    ) -> Result<Self, &'static str> {
        if !(min_salt..=MAX_BYTES).contains(&salt.len()) || !(min_hash..=MAX_BYTES).contains(&hash.len()) {
            return Err("its salt or its hash has a wrong length: was it cut off?");
        }
        Ok(Self { kind, salt: salt.into(), hash: hash.into() })
    }

    /// An Argon2id hash of a new password.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn create(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<Self, OutOfMemory> {
        let kind = Kind::Argon2id { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES };
        let mut hash = vec![0; HASH_BYTES];
        argon2id((MEMORY_KIB, PASSES, LANES), password, &salt, &mut hash)?;
        Ok(Self { kind, salt: salt.into(), hash: hash.into() })
    }

    /// Whether this is the hash of `password`. A box without memory for the answer says no.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self.kind {
            Kind::Argon2id { memory_kib, passes, lanes } => {
                let mut found = Zeroizing::new(vec![0; self.hash.len()]);
                argon2id((memory_kib, passes, lanes), password, &self.salt, &mut found).is_ok()
                    && is_equal(&found, &self.hash)
            }
            Kind::Pbkdf2 { iterations } => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::verify(algorithm, iterations, &self.salt, password, &self.hash).is_ok()
            }
            Kind::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                is_equal(context.finish().as_ref(), &self.hash)
            }
        }
    }
}

/// The system has no memory for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory for a hash, which needs {} MiB", MEMORY_KIB / 1024)
    }
}

impl std::error::Error for OutOfMemory {}

fn argon2id(costs: (u32, u32, u32), password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<(), OutOfMemory> {
    let (memory_kib, passes, lanes) = costs;
    let params = Params::new(memory_kib, passes, lanes, Some(out.len())).map_err(|_| OutOfMemory)?;
    let mut blocks: Vec<Block> = Vec::new();
    blocks.try_reserve_exact(params.block_count()).map_err(|_| OutOfMemory)?;
    blocks.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let done = argon2.hash_password_into_with_memory(password, salt, out, &mut blocks);
    blocks.iter_mut().for_each(Zeroize::zeroize);
    done.map_err(|_| OutOfMemory)
}

/// `m=9216,t=4,p=1`
fn parse_costs(text: &str) -> Result<Kind, &'static str> {
    const SHAPE: &str = "the costs of an Argon2id hash look like m=9216,t=4,p=1";
    let mut values = [0; 3];
    let mut parts = text.split(',');
    for ((key, max), value) in
        [("m=", MAX_MEMORY_KIB), ("t=", MAX_PASSES), ("p=", MAX_LANES)].iter().zip(&mut values)
    {
        let digits = parts.next().and_then(|part| part.strip_prefix(key)).ok_or(SHAPE)?;
        *value = number(digits, *max)?.get();
    }
    let [memory_kib, passes, lanes] = values;
    if parts.next().is_some() || memory_kib < 8 * lanes {
        return Err(SHAPE);
    }
    Ok(Kind::Argon2id { memory_kib, passes, lanes })
}

fn number(text: &str, max: u32) -> Result<NonZeroU32, &'static str> {
    let number = text.parse::<NonZeroU32>().map_err(|_| "one of its costs is not a number")?;
    if number.get() > max { Err("it would cost too much time or memory to check") } else { Ok(number) }
}

fn decode<E: Encoding>(text: &str) -> Result<Vec<u8>, &'static str> {
    E::decode_vec(text).map_err(|_| "its salt or its hash is not base64")
}

/// As it is written in a password file.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Argon2id { memory_kib, passes, lanes } => {
                write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}$")?;
                let encode = Base64Unpadded::encode_string;
                write!(f, "{}${}", encode(&self.salt), encode(&self.hash))
            }
            Kind::Pbkdf2 { iterations } => {
                write!(
                    f,
                    "$7${iterations}${}${}",
                    Base64::encode_string(&self.salt),
                    Base64::encode_string(&self.hash)
                )
            }
            Kind::Sha512 => {
                write!(f, "$6${}${}", Base64::encode_string(&self.salt), Base64::encode_string(&self.hash))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's own tests (`test.c`).
    const REFERENCE: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    /// Written by mosquitto_passwd 2.0.11.
    const PBKDF2: &str = "$7$101$SadWx19g/jzsm0hI$5hROLgOU8wHPhlKLoTqIdn57RzyZ1ZHu1KRUUY8lwv0PgpkqdAokObaU5THKguAhBM0d6xaoR4Ru9TO5E4wBJQ==";
    const SHA512: &str = "$6$rp8FKUirJQNsdogG$FKwXq3JgO9U49E5lToHpGc6V2l4UT/zEZryqEjNSFXzSJBXs661bkX4cNBcYC1M4LlvkOLTbsIBsQ85Ekqc+yA==";

    #[test]
    fn hashes_of_others_are_verified_and_written_back() {
        for (text, password) in [(REFERENCE, "password"), (PBKDF2, "pass word"), (SHA512, "hünter2")] {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(b"Password") && !hash.verify(b""), "{text}");
            assert_eq!(hash.to_string(), text);
        }
    }

    #[test]
    fn a_new_hash_is_good_for_its_password_only_and_survives_being_written() {
        let hash = PasswordHash::create(b"secret", [7; SALT_BYTES]).unwrap();
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=9216,t=4,p=1$"), "{text}");
        let read = PasswordHash::parse(&text).unwrap();
        assert_eq!(read, hash);
        assert!(read.verify(b"secret") && !read.verify(b"secret "));
        assert_ne!(PasswordHash::create(b"secret", [8; SALT_BYTES]).unwrap(), hash, "salted");
    }

    #[test]
    fn a_changed_letter_makes_another_hash() {
        for text in [REFERENCE, PBKDF2, SHA512] {
            let at = text.rfind('$').unwrap() + 3;
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            let password = if text == REFERENCE { "password" } else { "pass word" };
            assert!(!PasswordHash::parse(&changed).unwrap().verify(password.as_bytes()), "{changed}");
        }
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused_with_its_reason() {
        let bad = [
            ("secret", "no hash"),
            ("", "no hash"),
            ("$", "unknown kind"),
            ("$2b$12$abcdefghijklmnopqrstuv", "unknown kind"),
            ("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "only argon2id"),
            ("$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "looks like"),
            ("$argon2id$v=19$t=2,m=256,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "look like"),
            ("$argon2id$v=19$m=256,t=2,p=1,x=2$c29tZXNhbHQ$nf65EOgLrQMR", "look like"),
            ("$argon2id$v=19$m=15,t=2,p=2$c29tZXNhbHQ$nf65EOgLrQMR", "look like"),
            ("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "too much"),
            ("$argon2id$v=19$m=256,t=9999,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "too much"),
            ("$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR", "not a number"),
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65", "wrong length"),
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ=$nf65EOgLrQMR", "base64"),
            ("$7$4000000000$AAAA$AAAA", "too much"),
            ("$7$101$AAAA$AAAA", "wrong length"),
            ("$7$101$AAAA", "of mosquitto"),
            ("$6$AA*A$AAAA", "base64"),
        ];
        for (text, reason) in bad {
            let error = PasswordHash::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
