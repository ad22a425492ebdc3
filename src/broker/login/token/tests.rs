//! The examples of RFC 7515 and RFC 7519, keys of our own, and tokens that somebody tampered with.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use ring::rand::SystemRandom;
use ring::signature::EcdsaKeyPair;

use super::*;

const SECRET: &[u8] = b"a secret that is long enough for it";
const NOW: Wall = Wall::from_millis(1_800_000_000_000);

/// RFC 7515, A.1.1: the payload of its examples.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// Written by `openssl genrsa` and `openssl dgst -sign`; {"sub":"ann","exp":4102444800}
const RSA: &str = "-----BEGIN PUBLIC KEY-----\n\
     MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxDx2KDcKG0qBUDGYCGh/\n\
     xbmcxeJtreSM2AodBrciks7wpDeKqRdMA0ytcAYsLdYqhaiXxAb/BFPBd9Ew9jnD\n\
     smvkGaKmnm4q6kxLozGHk0vR0WmJz1DjoiKJ4Hx7iI2RO5LawnlhGQEIQ8xB7qDY\n\
     q3Pk3I75dnKBFthZHl9pIfZguhnLgEL5O9YCR4khNrV/P7UbNCwG7u3WI2fOCNWg\n\
     2rNCTz5QBr1VY3W8us1NOj9lGtKI3dEHXLtdYM0FS4ZL1fgOGAPEdxGPSjU/l31w\n\
     GN0+tCHUrD93M1ZJE4S0ULXqzq+3F5x1Ows/mMz1x8Vu23KpWKSVt/sTEeQLhbgk\n\
     8QIDAQAB\n\
     -----END PUBLIC KEY-----";
const RS384: &str = "eyJhbGciOiJSUzM4NCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.gZtEFm1sCtt_Ws0Ur_ztRKp34snflz6G0\
     pIIHTghG4dwpDGyYq2FKqCswWUhBAaTULyDNqqxzW8IzcRbut0oG8v2EbKete-sJFSmMWszZZ5i8eDtABaT-7YViShbheKB\
     agiTSO4h0vivXwkd0SSKmGSx0VXLw7O7YSciyhdmnHkWqb70iv40OBQHzz8tL1i9OGeZwe14IaTzDZzMnB_GhM-pMJrn-qq\
     nICkieqbGJ_286HE-Fx4Ogu-SgYIjFcigFlf-7_oemT9bpTzYROX-7Hw4IhUpfNCPUxZUEchKt9l5Stlwy-37nZ9-cSOEVc\
     PotMBMGTz4BQgWK1ocwixiCw";
const RS512: &str = "eyJhbGciOiJSUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9.cTYm52azg5UG_gsBv\
     XQbWSfVMCBaQ0m3F6q80NJVZEF9kp0gLRIZEOBkr6CMvMUIw55N9JqurKUs09jHObwXlC6Kc_a-akhsJ4anV86RyrLurRTC\
     JCNjirPjzFhjrrW8Q5w8U94gqKqWv5JyNXWMyFTZgNKaxgIgs4z6yQJfLsRBWXD2cgmglhfN2V0rmRDNpddvxiESsOnJAuD\
     s9A_2WtD6WbeUxcpFDpMa3BjvVK8LSddZPlj-vyC9WBuumeIpKrd_FCaUYhmJu6vbAGSF144JrAIdn31wvQsPViqOmTYsVW\
     N2iJUlaJKzWG_xraoTy9M_Ke6YWOSUsT5EEpMucA";

fn rules() -> config::Jwt {
    config::Jwt::default()
}

fn keys(list: Vec<Key>) -> Arc<Keys> {
    Arc::new(Keys { list })
}

fn shared() -> Arc<Keys> {
    keys(vec![Key::Hmac(Secret::copy_of(SECRET))])
}

fn base64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn bytes(base64: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(base64).unwrap()
}

/// A token with this header and payload, signed with the shared secret by HS256.
fn signed(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", base64(header.as_bytes()), base64(payload.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", base64(tag.as_ref()))
}

fn hs256(payload: &str) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

fn verify(token: &str, keys: &Arc<Keys>) -> Result<bool, &'static str> {
    take_apart(token.as_bytes(), keys).map(|(signed, _)| signed.verify())
}

fn claims(payload: &str, rules: &config::Jwt) -> Result<Claims, &'static str> {
    let token = hs256(payload);
    let (signed, claims) = read(token.as_bytes(), NOW, rules, &shared())?;
    assert!(signed.verify());
    Ok(claims)
}

/// `RSAPublicKey` with the exponent 65537.
fn rsa(modulus: &[u8]) -> Key {
    let mut der = vec![0x30, 0x82, 0x01, 0x0A, 0x02, 0x82, 0x01, 0x01, 0x00];
    der.extend_from_slice(modulus);
    der.extend_from_slice(&[0x02, 0x03, 0x01, 0x00, 0x01]);
    Key::Rsa(der.into())
}

#[test]
fn the_examples_of_rfc_7515_are_verified() {
    let secret = bytes("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let hs256 =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let modulus = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL\
                   -yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA\
                   9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8N\
                   Aco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{JOE}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5\
         YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Q\
         e7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs9\
         8rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let point = [vec![4], bytes(x), bytes(y)].concat();
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{JOE}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6\
         NU1Q"
    );
    let list = || vec![Key::Hmac(Secret::copy_of(&secret)), rsa(&bytes(modulus)), Key::P256(point.clone().into())];
    for (n, token) in [hs256, rs256, es256].iter().enumerate() {
        assert_eq!(verify(token, &keys(list())), Ok(true), "{token}");
        let mut others = list();
        others.remove(n);
        assert_eq!(verify(token, &keys(others)), Ok(false), "{token}");
        let error = read(token.as_bytes(), NOW, &rules(), &keys(list())).unwrap_err();
        assert_eq!(error, "the token is over", "it was good until 2011");
    }
}

#[test]
fn the_unsecured_example_of_rfc_7519_is_refused() {
    let none = format!("eyJhbGciOiJub25lIn0.{JOE}.");
    assert!(verify(&none, &shared()).unwrap_err().contains("algorithm"));
}

#[test]
fn keys_in_pem_verify_what_their_owners_signed() {
    let mut pem = Keys::default();
    pem.add_pem(format!("made by openssl\n{RSA}\n").as_bytes()).unwrap();
    let mut tokens = vec![RS384.to_owned(), RS512.to_owned()];
    let kinds = [
        ("ES256", &PKCS_ECDSA_P256_SHA256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", &PKCS_ECDSA_P384_SHA384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
    ];
    for (name, kind, signing) in kinds {
        let pair = KeyPair::generate_for(kind).unwrap();
        pem.add_pem(pair.public_key_pem().as_bytes()).unwrap();
        let random = SystemRandom::new();
        let signer = EcdsaKeyPair::from_pkcs8(signing, pair.serialized_der(), &random).unwrap();
        let message =
            format!("{}.{}", base64(format!(r#"{{"alg":"{name}"}}"#).as_bytes()), base64(br#"{"sub":"ann"}"#));
        let signature = signer.sign(&random, message.as_bytes()).unwrap();
        tokens.push(format!("{message}.{}", base64(signature.as_ref())));
    }
    let pem = Arc::new(pem);
    for token in &tokens {
        let (signed, claims) = read(token.as_bytes(), NOW, &rules(), &pem).unwrap();
        assert!(signed.verify() && &*claims.user == "ann", "{token}");
        assert_eq!(verify(token, &shared()), Ok(false));
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_shared_secret() {
    // The classic: HS256 with the text of the public key as the secret.
    let mut pem = Keys::default();
    pem.add_pem(RSA.as_bytes()).unwrap();
    let message = format!("{}.{}", base64(br#"{"alg":"HS256"}"#), base64(br#"{"sub":"ann"}"#));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, RSA.as_bytes()), message.as_bytes());
    assert_eq!(verify(&format!("{message}.{}", base64(tag.as_ref())), &Arc::new(pem)), Ok(false));
}

#[test]
fn a_token_with_one_changed_bit_is_refused() {
    let token = hs256(r#"{"sub":"ann"}"#);
    assert_eq!(verify(&token, &shared()), Ok(true));
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] ^= 1;
        let good = take_apart(&changed, &shared()).is_ok_and(|(signed, _)| signed.verify());
        assert!(!good, "byte {at}");
    }
    for end in 0..token.len() {
        assert!(!verify(&token[..end], &shared()).unwrap_or(false), "{end}");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    for token in ["", ".", "..", "...", "a.b.c", "eyJhbGciOiJIUzI1NiJ9..", "\u{1F512}.a.b", "=.=.="] {
        assert!(verify(token, &shared()).is_err(), "{token}");
    }
    let bad_headers = [
        (r#"{"alg":"HS256","crit":["exp"]}"#, "extension"),
        (r#"{"alg":"HS256","alg":"none"}"#, "algorithm"),
        (r#"{"alg":"hs256"}"#, "algorithm"),
        (r#"{"alg":"NONE"}"#, "algorithm"),
        (r#"{"alg":256}"#, "well formed"),
        (r#"{"typ":"JWT"}"#, "well formed"),
        (r#"["HS256"]"#, "well formed"),
    ];
    for (header, reason) in bad_headers {
        let error = verify(&signed(header, "{}"), &shared()).err();
        assert!(error.is_some_and(|error| error.contains(reason)), "{header}: {error:?}");
    }
    for payload in ["", "null", "[]", "{", r#"{"sub":1}"#, r#"{"sub":""}"#, r#"{"sub":"a\u0000b"}"#, "{}"] {
        assert!(claims(payload, &rules()).is_err(), "{payload}");
    }
}

#[test]
fn times_are_held_against_the_clock_with_leeway() {
    let now = NOW.as_millis() / 1000;
    let leeway = rules().leeway.as_secs();
    let ends = |exp: u64| claims(&format!(r#"{{"sub":"ann","exp":{exp}}}"#), &rules());
    assert_eq!(ends(now - leeway), Err("the token is over"));
    assert_eq!(ends(now - leeway + 1).unwrap().ends, Some(NOW + Duration::from_secs(1)));
    assert_eq!(ends(now + 60).unwrap().ends, Some(NOW + rules().leeway + Duration::from_secs(60)));
    let begins = |nbf: u64| claims(&format!(r#"{{"sub":"ann","nbf":{nbf}}}"#), &rules());
    assert!(begins(now + leeway).is_ok());
    assert_eq!(begins(now + leeway + 1), Err("the token is not good yet"));
    assert_eq!(claims(r#"{"sub":"ann"}"#, &rules()).unwrap().ends, None);
    for odd in ["1e300", "1.5e12"] {
        assert!(claims(&format!(r#"{{"sub":"ann","exp":{odd}}}"#), &rules()).is_ok(), "{odd}");
    }
    for odd in ["-1", "\"4102444800\"", "null", "0"] {
        assert!(claims(&format!(r#"{{"sub":"ann","exp":{odd}}}"#), &rules()).is_err(), "{odd}");
    }
}

#[test]
fn without_a_clock_what_ended_long_ago_is_over_and_what_begins_later_is_not_judged_good() {
    let unset = Wall::from_millis(1000);
    let read =
        |payload: &str| read(hs256(payload).as_bytes(), unset, &rules(), &shared()).map(|(_, claims)| claims);
    assert_eq!(read(r#"{"sub":"ann","exp":1300819380}"#), Err("the token is over"));
    assert!(read(r#"{"sub":"ann","nbf":1900000000}"#).unwrap_err().contains("no clock"));
    assert!(read(r#"{"sub":"ann","exp":4102444800}"#).is_ok());
}

#[test]
fn issuer_audience_and_the_claim_of_the_user_are_those_of_the_configuration() {
    let rules = config::Jwt {
        issuer: Some("home".to_owned()),
        audience: Some("moteway".to_owned()),
        user_claim: "client".to_owned(),
        ..rules()
    };
    let good = r#"{"iss":"home","aud":"moteway","client":"ann","sub":"bob"}"#;
    assert_eq!(&*claims(good, &rules).unwrap().user, "ann");
    assert!(claims(&good.replace(r#""moteway""#, r#"["x","moteway"]"#), &rules).is_ok());
    let bad = [
        (r#""home""#, r#""away""#, "issuer"),
        (r#""iss""#, r#""ist""#, "issuer"),
        (r#""moteway""#, r#"["x"]"#, "audience"),
        (r#""aud""#, r#""and""#, "audience"),
        (r#""client""#, r#""user""#, "name its user"),
    ];
    for (from, to, reason) in bad {
        let error = claims(&good.replace(from, to), &rules).unwrap_err();
        assert!(error.contains(reason), "{to}: {error}");
    }
}

#[test]
fn key_files_say_what_is_wrong_with_them_and_where() {
    let wrong = |text: &str| Keys::default().add_pem(text.as_bytes()).unwrap_err();
    let private = KeyPair::generate().unwrap().serialize_pem();
    let cases = [
        ("", 1, "no whole public key"),
        (&private, 1, "private key"),
        ("\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 2, "no public key"),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", 1, "base64"),
        ("x\n-----END PUBLIC KEY-----\n", 2, "without its beginning"),
        ("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n", 1, "neither"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", 3, "no whole"),
    ];
    for (text, line, reason) in cases {
        let error = wrong(text);
        assert!(error.line == line && error.message.contains(reason), "{text}: {error:?}");
    }
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().public_key_pem();
    assert!(wrong(&ed25519).message.contains("kinds of keys"));
    assert!(Keys::default().add_secret(b"short\n".to_vec()).unwrap_err().message.contains("guessed"));
    let mut keys = Keys::default();
    keys.add_secret([SECRET, b"\r\n"].concat()).unwrap();
    assert_eq!(keys, Keys { list: vec![Key::Hmac(Secret::copy_of(SECRET))] });
}

#[test]
fn passwords_are_not_taken_for_tokens() {
    assert!(looks_like_token(hs256("{}").as_bytes()));
    for password in ["", "secret", "a.b.c", "eyJ", "eyJ.a", "eyJ.a.b.c"] {
        assert!(!looks_like_token(password.as_bytes()), "{password}");
    }
}
