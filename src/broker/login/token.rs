//! JSON Web Tokens (RFC 7519), signed (RFC 7515) with one of the keys that the configuration names.
//!
//! What a token says is judged here, where it costs nothing; the signature is checked where nobody waits for it.
//! Nothing that a token says counts before that.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::{hmac, signature};
use serde_json::{Map, Value};

use crate::broker::login::keys::{Key, Keys};
use crate::broker::login::secret::Secret;
use crate::config;
use crate::time::{Duration, Wall};

/// No clock that is right shows less: it was set to nothing since the box was switched on. 2026-01-01.
pub(super) const CLOCK_BEGINS: Wall = Wall::from_millis(1_767_225_600_000);

/// Signature algorithms, RFC 7518, 3.1. `none` is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
}

impl Algorithm {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            _ => return None,
        })
    }

    /// Whether the signature is of this key. A key of another kind than the algorithm's never fits: a public key is
    /// not a shared secret.
    fn verify(self, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let shared = |algorithm, secret: &Secret| {
            hmac::verify(&hmac::Key::new(algorithm, secret.expose()), message, signature).is_ok()
        };
        let public = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match (self, key) {
            (Self::Hs256, Key::Hmac(secret)) => shared(hmac::HMAC_SHA256, secret),
            (Self::Hs384, Key::Hmac(secret)) => shared(hmac::HMAC_SHA384, secret),
            (Self::Hs512, Key::Hmac(secret)) => shared(hmac::HMAC_SHA512, secret),
            (Self::Rs256, Key::Rsa(key)) => public(&signature::RSA_PKCS1_2048_8192_SHA256, key),
            (Self::Rs384, Key::Rsa(key)) => public(&signature::RSA_PKCS1_2048_8192_SHA384, key),
            (Self::Rs512, Key::Rsa(key)) => public(&signature::RSA_PKCS1_2048_8192_SHA512, key),
            (Self::Es256, Key::P256(key)) => public(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::Es384, Key::P384(key)) => public(&signature::ECDSA_P384_SHA384_FIXED, key),
            _ => false,
        }
    }
}

/// A token whose signature was not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    algorithm: Algorithm,
    /// The token, and how much of it is signed.
    token: Secret,
    signed_bytes: usize,
    signature: Vec<u8>,
    keys: Arc<Keys>,
}

impl Signed {
    /// Whether one of the keys signed it.
    pub(super) fn verify(&self) -> bool {
        let message = &self.token.expose()[..self.signed_bytes];
        self.keys.list.iter().any(|key| self.algorithm.verify(key, message, &self.signature))
    }
}

/// What a token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub user: Box<str>,
    /// When it is over, leeway included.
    pub ends: Option<Wall>,
}

/// Whether this has the shape of a token, so that it is not taken for a password: three parts, the first of them JSON.
pub(super) fn looks_like_token(password: &[u8]) -> bool {
    password.starts_with(b"eyJ") && password.iter().filter(|byte| **byte == b'.').count() == 2
}

/// Takes a token apart and judges what it says at `wall`. It is good if its signature is.
///
/// # Errors
/// Why it is not good, for the log.
pub(super) fn read(
    token: &[u8],
    wall: Wall,
    rules: &config::Jwt,
    keys: &Arc<Keys>,
) -> Result<(Signed, Claims), &'static str> {
    let (signed, claims) = take_apart(token, keys)?;
    Ok((signed, judge(&claims, wall, rules)?))
}

fn take_apart(token: &[u8], keys: &Arc<Keys>) -> Result<(Signed, Map<String, Value>), &'static str> {
    const SHAPE: &str = "the token is not well formed";
    let text = std::str::from_utf8(token).map_err(|_| SHAPE)?;
    let (signed, signature) = text.rsplit_once('.').ok_or(SHAPE)?;
    let (header, payload) = signed.split_once('.').ok_or(SHAPE)?;
    let decode = |part| Base64UrlUnpadded::decode_vec(part).map_err(|_| SHAPE);
    // RFC 7515, 4.1. What else is in it changes nothing.
    let header: Map<String, Value> = serde_json::from_slice(&decode(header)?).map_err(|_| SHAPE)?;
    if header.contains_key("crit") {
        return Err("the token asks for an extension that is not known");
    }
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(SHAPE)?;
    let algorithm = Algorithm::from_name(algorithm).ok_or("the token's algorithm is not one that is taken")?;
    let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| SHAPE)?;
    let (signature, keys) = (decode(signature)?, Arc::clone(keys));
    let signed = Signed { algorithm, token: Secret::copy_of(token), signed_bytes: signed.len(), signature, keys };
    Ok((signed, claims))
}

fn judge(claims: &Map<String, Value>, wall: Wall, rules: &config::Jwt) -> Result<Claims, &'static str> {
    // Without a clock it is at least as late as this.
    let now = wall.max(CLOCK_BEGINS);
    let ends = time(claims, "exp")?.map(|ends| ends + rules.leeway);
    if ends.is_some_and(|ends| ends <= now) {
        return Err("the token is over");
    }
    if time(claims, "nbf")?.is_some_and(|begins| begins > now + rules.leeway) {
        return Err(if wall < CLOCK_BEGINS {
            "this box has no clock and cannot tell whether the token is good already"
        } else {
            "the token is not good yet"
        });
    }
    let is = |value: &Value, wanted: &str| value.as_str() == Some(wanted);
    if let Some(issuer) = &rules.issuer
        && !claims.get("iss").is_some_and(|value| is(value, issuer))
    {
        return Err("the token is of another issuer");
    }
    if let Some(audience) = &rules.audience {
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(|value| is(value, audience)),
            Some(value) => is(value, audience),
            None => false,
        };
        if !is_for_us {
            return Err("the token is for another audience");
        }
    }
    let user = claims.get(&rules.user_claim).and_then(Value::as_str);
    let user = user.ok_or("the token does not name its user")?;
    if user.is_empty() || user.contains(char::is_control) {
        return Err("the user's name in the token is empty or has control characters");
    }
    Ok(Claims { user: user.into(), ends })
}

/// A NumericDate, RFC 7519, 2: seconds, perhaps with a fraction.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Wall>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or("a time in the token is not a number")?;
    // Before 1970 is long over; what no clock will ever show is never.
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(Some(Wall::from_millis(0) + since))
}

#[cfg(test)]
mod tests;
