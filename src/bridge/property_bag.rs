//! Properties of a message in its topic, as Azure IoT Hub has it: behind `devices/DEVICE/messages/events/`, as in the
//! query of a URL.

use std::fmt::Write;

use crate::bridge::stamp::Stamp;

/// What is before them.
const BEFORE: &str = "/messages/events/";

/// Encodes what was captured into the properties; `=` and `&` are the rule's. A stamp is added to them.
pub(super) fn fill(topic: &mut String, stamp: Option<&Stamp>) {
    if stamp.is_some() && topic.ends_with(BEFORE.trim_end_matches('/')) {
        topic.push('/');
    }
    let Some(at) = topic.find(BEFORE).map(|at| at + BEFORE.len()) else { return };
    encode(topic, at);
    for (name, value) in stamp.into_iter().flat_map(Stamp::said) {
        let separator = if topic.len() > at { "&" } else { "" };
        // Writing to a string cannot fail. Names and values have nothing in them that had to be encoded.
        write!(topic, "{separator}{name}={value}").unwrap_or_default();
    }
}

fn encode(topic: &mut String, at: usize) {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'=' | b'&' | b'$' | b'%')
    };
    if topic.bytes().skip(at).all(plain) {
        return;
    }
    let bag = topic.split_off(at);
    for byte in bag.bytes() {
        if plain(byte) {
            topic.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(topic, "%{byte:02X}").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::stamp::stamp;

    #[test]
    fn properties_are_encoded_and_what_the_rule_wrote_is_not() {
        for (topic, encoded) in [
            ("devices/d/messages/events/room=hall&s=1", "devices/d/messages/events/room=hall&s=1"),
            (
                "devices/d/messages/events/room=living room/ü",
                "devices/d/messages/events/room=living%20room%2F%C3%BC",
            ),
            ("other/a b", "other/a b"),
        ] {
            let mut topic = topic.to_owned();
            fill(&mut topic, None);
            assert_eq!(topic, encoded);
        }
    }

    #[test]
    fn a_stamp_follows_the_properties_of_the_rule_or_is_all_there_is() {
        let stamp = stamp("telemetry", 1_753_776_000_123, 4711);
        let said = "mw-time=1753776000123&mw-seq=4711&mw-epoch=5f3a9c01.telemetry";
        for (topic, filled) in [
            ("devices/d/messages/events", format!("devices/d/messages/events/{said}")),
            ("devices/d/messages/events/", format!("devices/d/messages/events/{said}")),
            ("devices/d/messages/events/room=a b", format!("devices/d/messages/events/room=a%20b&{said}")),
            ("$iothub/twin/PATCH/properties/reported/", "$iothub/twin/PATCH/properties/reported/".to_owned()),
        ] {
            let mut topic = topic.to_owned();
            fill(&mut topic, Some(&stamp));
            assert_eq!(topic, filled);
        }
    }
}
