//! Shared access signatures of Azure IoT Hub: a password made from a key, good for a while.

use base64ct::{Base64, Encoding};
use ring::hmac;

/// A token for this resource (`hub/devices/id`) until this second since 1970. `None` if the key is not base64.
pub(super) fn token(resource: &str, key: &[u8], until: u64) -> Option<String> {
    let key = Base64::decode_vec(str::from_utf8(key).ok()?.trim()).ok()?;
    let resource = percent_encoded(resource);
    let text = format!("{resource}\n{until}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
    let signature = percent_encoded(&Base64::encode_string(signature.as_ref()));
    Some(format!("SharedAccessSignature sr={resource}&sig={signature}&se={until}"))
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_an_independent_implementation() {
        let made = token(
            "my-hub.azure-devices.net/devices/box 7",
            b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
            1_800_000_000,
        );
        let expected = "SharedAccessSignature sr=my-hub.azure-devices.net%2Fdevices%2Fbox%207\
                        &sig=9hFfSrrX5ZVSulSQM%2FkB2cauzW4RzoiUGgj0ro0gXPg%3D&se=1800000000";
        assert_eq!(made.as_deref(), Some(expected));
        assert_eq!(token("x", b"not base64!", 1), None);
    }
}
