//! UNSUBSCRIBE, MQTT 5.0 section 3.10, MQTT 3.1.1 section 3.10.

use std::fmt;

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, Version};

use crate::mqtt::packet::subscribe;

properties! {
    /// UNSUBSCRIBE properties, MQTT 5.0 section 3.10.2.1.
    UnsubscribeProperties {}
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier, not 0.
    pub pkid: u16,
    /// Empty in 3.1 and 3.1.1.
    pub properties: UnsubscribeProperties<'a>,
    /// At least one [MQTT-3.10.3-2].
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::Unsubscribe)?;
        let mut body = Reader::new(frame.body);
        let pkid = body.pkid()?;
        let properties = match version {
            Version::V5 => UnsubscribeProperties::decode(&mut body)?,
            Version::V31 | Version::V311 => UnsubscribeProperties::default(),
        };
        let filters = UnsubscribeFilters(Repr::Payload(body.rest()));
        if body.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE has no filter [MQTT-3.10.3-2]"));
        }
        while !body.is_empty() {
            subscribe::filter(&mut body)?;
        }
        Ok(Self { pkid, properties, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Unsubscribe, |out| {
            wire::put_u16(out, self.pkid);
            if version == Version::V5 {
                self.properties.put(out);
            }
            for filter in self.filters {
                wire::put_string(out, filter);
            }
        });
    }
}

/// The filters of an UNSUBSCRIBE. Made from a list, or read in place out of a packet.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    List(&'a [&'a str]),
    Payload(&'a [u8]),
}

impl<'a> From<&'a [&'a str]> for UnsubscribeFilters<'a> {
    fn from(list: &'a [&'a str]) -> Self {
        Self(Repr::List(list))
    }
}

/// Iterates over itself: it is a cursor.
impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Repr::List(list) => list.split_off_first().copied(),
            Repr::Payload(payload) => {
                let mut reader = Reader::new(payload);
                let filter = reader.utf8().ok()?;
                *payload = reader.rest();
                Some(filter)
            }
        }
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::tests::{assert_packet, packet, refusal};
    use crate::mqtt::{Packet, ReasonCode::*, Version::*};

    #[test]
    fn unsubscribe_as_bytes() {
        let properties = UnsubscribeProperties { user_properties: [("a", "b")].as_slice().into() };
        let filters = UnsubscribeFilters::from(&["#", "$share/g/+"][..]);
        let bytes = b"\xA2\x19\0\x01\x07\x26\0\x01a\0\x01b\0\x01#\0\x0A$share/g/+";
        assert_packet(V5, bytes, Packet::Unsubscribe(Unsubscribe { pkid: 1, properties, filters }));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0xA2, b"\0\x01")), ProtocolError, "no filter");
        assert_eq!(refusal(V311, &packet(0xA2, b"\0\0\0\x01a")), ProtocolError, "packet identifier 0");
        assert_eq!(refusal(V311, &packet(0xA2, b"\0\x01\0\0")), TopicFilterInvalid, "an empty filter");
        assert_eq!(refusal(V311, &packet(0xA2, b"\0\x01\0\x02a#")), TopicFilterInvalid);
        assert_eq!(refusal(V311, &packet(0xA2, b"\0\x01\0\x01a\0")), MalformedPacket, "half a length");
        assert_eq!(
            refusal(V5, &packet(0xA2, b"\0\x01\x02\x0B\x01\0\x01a")),
            MalformedPacket,
            "a property of SUBSCRIBE"
        );
    }
}
