//! SUBSCRIBE, MQTT 5.0 section 3.8, MQTT 3.1.1 section 3.8.

use std::fmt;

use crate::mqtt::property::properties;
use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, Frame, PacketType, QoS, ReasonCode, Version, topic};

properties! {
    /// SUBSCRIBE properties, MQTT 5.0 section 3.8.2.1.
    SubscribeProperties {
        /// 1 to 268 435 455; comes back with each message.
        subscription_id: u32 = SubscriptionId,
    }
}

/// When retained messages are sent for a subscription, MQTT 5.0 section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At the time of the subscribe. So in 3.1 and 3.1.1.
    #[default]
    SendAtSubscribe = 0,
    /// Only if the subscription does not exist yet.
    SendIfNew = 1,
    /// Not at all.
    DoNotSend = 2,
}

/// Subscription options, MQTT 5.0 section 3.8.3.1. In 3.1 and 3.1.1 there is only the QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscribeOptions {
    /// Highest level to send at.
    pub qos: QoS,
    /// Do not send back to the connection that published.
    pub no_local: bool,
    /// Keep the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// The options as their byte in 5.0.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.qos.as_u8()
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Reads the byte of a connection that speaks `version`.
    ///
    /// # Errors
    /// If reserved bits or values are used.
    pub fn from_byte(version: Version, byte: u8) -> Result<Self, DecodeError> {
        let reserved = if version == Version::V5 { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed("reserved bits of a subscription are set [MQTT-3.8.3-5]"));
        }
        Ok(Self {
            qos: QoS::from_u8(byte & 0b11)
                .ok_or(DecodeError::protocol("maximum QoS of a subscription is 3 (section 3.8.3.1)"))?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::SendAtSubscribe,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(DecodeError::protocol("retain handling is 3 (section 3.8.3.1)")),
            },
        })
    }
}

/// One filter and how to serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Well formed; may begin with `$share/`.
    pub filter: &'a str,
    /// How to serve it.
    pub options: SubscribeOptions,
}

/// SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier, not 0.
    pub pkid: u16,
    /// Empty in 3.1 and 3.1.1.
    pub properties: SubscribeProperties<'a>,
    /// At least one [MQTT-3.8.3-2].
    pub filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    /// Decodes.
    ///
    /// # Errors
    /// If the frame is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        frame.check_flags(version, PacketType::Subscribe)?;
        let mut body = Reader::new(frame.body);
        let pkid = body.pkid()?;
        let properties = match version {
            Version::V5 => SubscribeProperties::decode(&mut body)?,
            Version::V31 | Version::V311 => SubscribeProperties::default(),
        };
        let filters = Filters(Repr::Payload(body.rest()));
        if body.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE has no filter [MQTT-3.8.3-2]"));
        }
        while !body.is_empty() {
            let filter = filter(&mut body)?;
            let options = SubscribeOptions::from_byte(version, body.u8()?)?;
            if options.no_local && topic::share(filter).is_some() {
                return Err(DecodeError::protocol("no local on a shared subscription [MQTT-3.8.3-4]"));
            }
        }
        Ok(Self { pkid, properties, filters })
    }

    /// Appends the packet. 3.1 and 3.1.1 keep of the options only the QoS.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        wire::put_packet(out, PacketType::Subscribe, |out| {
            wire::put_u16(out, self.pkid);
            let mask = if version == Version::V5 {
                self.properties.put(out);
                u8::MAX
            } else {
                0b11
            };
            for Subscription { filter, options } in self.filters {
                wire::put_string(out, filter);
                out.push(options.to_byte() & mask);
            }
        });
    }
}

/// Reads a topic filter and checks it.
pub(super) fn filter<'a>(body: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = body.string()?;
    topic::check_filter(filter).map_err(|error| DecodeError::new(ReasonCode::TopicFilterInvalid, error.text()))?;
    Ok(filter)
}

/// The filters of a SUBSCRIBE. Made from a list, or read in place out of a packet.
#[derive(Clone, Copy)]
pub struct Filters<'a>(Repr<'a>);

#[derive(Clone, Copy)]
enum Repr<'a> {
    List(&'a [Subscription<'a>]),
    Payload(&'a [u8]),
}

impl<'a> From<&'a [Subscription<'a>]> for Filters<'a> {
    fn from(list: &'a [Subscription<'a>]) -> Self {
        Self(Repr::List(list))
    }
}

/// Iterates over itself: it is a cursor.
impl<'a> Iterator for Filters<'a> {
    type Item = Subscription<'a>;

    fn next(&mut self) -> Option<Subscription<'a>> {
        match &mut self.0 {
            Repr::List(list) => list.split_off_first().copied(),
            Repr::Payload(payload) => {
                let mut reader = Reader::new(payload);
                let filter = reader.utf8().ok()?;
                // Checked for its version when it was decoded; the bits of 3.1.1 mean the same in 5.0.
                let options = SubscribeOptions::from_byte(Version::V5, reader.u8().ok()?).ok()?;
                *payload = reader.rest();
                Some(Subscription { filter, options })
            }
        }
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Filters<'_> {}

impl fmt::Debug for Filters<'_> {
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
    fn subscribe_as_bytes() {
        let options = SubscribeOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let list = [Subscription { filter: "a/+/#", options }];
        let properties = SubscribeProperties { subscription_id: Some(128), ..SubscribeProperties::default() };
        let subscribe = Subscribe { pkid: 1, properties, filters: Filters::from(&list[..]) };
        assert_packet(V5, b"\x82\x0E\0\x01\x03\x0B\x80\x01\0\x05a/+/#\x2E", Packet::Subscribe(subscribe));
    }

    #[test]
    fn filters_are_iterated_in_place() {
        let bytes = packet(0x82, b"\0\x01\0\x01a\x01\0\x0A$share/g/b\x02");
        let frame = crate::mqtt::frame(&bytes, 100).unwrap().unwrap();
        let subscribe = Subscribe::decode(V311, &frame).unwrap();
        let found: Vec<_> = subscribe.filters.map(|one| (one.filter, one.options.qos)).collect();
        assert_eq!(found, [("a", QoS::AtLeastOnce), ("$share/g/b", QoS::ExactlyOnce)]);
        assert_eq!(subscribe.filters.count(), 2, "a cursor is copied, not used up");
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01")), ProtocolError, "no filter");
        assert_eq!(refusal(V311, &packet(0x82, b"\0\0\0\x01a\0")), ProtocolError, "packet identifier 0");
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01\0\x01a")), MalformedPacket, "no options");
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01\0\x01a\x03")), ProtocolError, "QoS 3");
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01\0\x01a\x04")), MalformedPacket, "an option of 5.0");
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01\0\x04a/#b\0")), TopicFilterInvalid);
        assert_eq!(refusal(V311, &packet(0x82, b"\0\x01\0\x01\0\0")), MalformedPacket, "U+0000");
        assert_eq!(refusal(V5, &packet(0x82, b"\0\x01\0\0\x01a\x40")), MalformedPacket, "reserved bit");
        assert_eq!(refusal(V5, &packet(0x82, b"\0\x01\0\0\x01a\x30")), ProtocolError, "retain handling 3");
        assert_eq!(refusal(V5, &packet(0x82, b"\0\x01\0\0\x0A$share/g/b\x04")), ProtocolError, "no local, shared");
        assert_eq!(
            refusal(V5, &packet(0x82, b"\0\x01\0\0\x08$share/g\0")),
            TopicFilterInvalid,
            "a share of nothing"
        );
        assert_eq!(refusal(V5, &packet(0x82, b"\0\x01\x02\x0B\0\0\x01a\0")), ProtocolError, "identifier 0");
        assert_eq!(
            refusal(V5, &packet(0x82, b"\0\x01\x04\x0B\x01\x0B\x02\0\x01a\0")),
            ProtocolError,
            "two identifiers"
        );
    }
}
