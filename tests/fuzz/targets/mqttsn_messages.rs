//! The MQTT-SN decoder: any datagram.

use moteway::mqttsn::{Message, decode_datagram};

/// What decodes must mean the same after another round, in its envelope and without.
pub fn run(data: &[u8]) {
    let Ok((envelope, message)) = decode_datagram(data) else { return };
    let mut bytes = Vec::new();
    if let Some(envelope) = envelope {
        envelope.encode(&mut bytes).expect("it came in an envelope");
    }
    let start = bytes.len();
    message.encode(&mut bytes).expect("it came in a message");
    // A header is as short as it can be; bits without a meaning are gone.
    assert!(bytes.len() <= data.len(), "{} octets became {}", data.len(), bytes.len());
    assert_eq!(decode_datagram(&bytes), Ok((envelope, message)));
    assert_eq!(Message::decode(&bytes[start..]), Ok(message));
    let mut again = Vec::new();
    message.encode(&mut again).expect("it fitted before");
    assert_eq!(again, bytes[start..]);
    for cut in 0..bytes.len() - start {
        assert!(Message::decode(&bytes[start..start + cut]).is_err(), "a part of a message is a message");
    }
}
