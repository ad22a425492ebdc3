//! UNSUBSCRIBE, MQTT 5.0 section 3.10, MQTT 3.1.1 section 3.10.

use std::fmt;

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, Version};

use super::subscribe;

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
