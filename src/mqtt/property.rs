//! Properties, MQTT 5.0 section 2.2.2: the table of identifiers, and what turns a block of properties into a struct
//! with a field for each that the packet may carry.

use crate::mqtt::wire::{self, Reader};
use crate::mqtt::{DecodeError, QoS, ReasonCode, topic};

/// How a property's value lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Byte,
    TwoBytes,
    FourBytes,
    VarInt,
    Utf8,
    Binary,
    Pair,
}

macro_rules! property_ids {
    ($($id:literal $name:ident $wire:ident)*) => {
        /// Identifiers, MQTT 5.0 table 2-4. They are Variable Byte Integers, but all take one byte.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum PropertyId { $($name = $id,)* }

        impl PropertyId {
            const fn from_u8(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn wire(self) -> Wire {
                match self {
                    $(Self::$name => Wire::$wire,)*
                }
            }
        }
    };
}

property_ids! {
    0x01 PayloadFormat Byte
    0x02 MessageExpiry FourBytes
    0x03 ContentType Utf8
    0x08 ResponseTopic Utf8
    0x09 CorrelationData Binary
    0x0B SubscriptionId VarInt
    0x11 SessionExpiry FourBytes
    0x12 AssignedClientId Utf8
    0x13 ServerKeepAlive TwoBytes
    0x15 AuthenticationMethod Utf8
    0x16 AuthenticationData Binary
    0x17 RequestProblemInformation Byte
    0x18 WillDelay FourBytes
    0x19 RequestResponseInformation Byte
    0x1A ResponseInformation Utf8
    0x1C ServerReference Utf8
    0x1F ReasonString Utf8
    0x21 ReceiveMaximum TwoBytes
    0x22 TopicAliasMaximum TwoBytes
    0x23 TopicAlias TwoBytes
    0x24 MaximumQoS Byte
    0x25 RetainAvailable Byte
    0x26 UserProperty Pair
    0x27 MaximumPacketSize FourBytes
    0x28 WildcardSubscriptionAvailable Byte
    0x29 SubscriptionIdsAvailable Byte
    0x2A SharedSubscriptionAvailable Byte
}

/// A property that a packet carries though its type must not (section 2.2.2.2).
pub(super) const MISPLACED: DecodeError =
    DecodeError::malformed("property does not belong to this packet (section 2.2.2.2)");

impl PropertyId {
    /// Reads an identifier off the front of a block.
    pub(super) fn read(block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_u8(block.u8()?).ok_or(DecodeError::malformed("property identifier is unknown (section 2.2.2.2)"))
    }

    /// Steps over the value of this property.
    pub(super) fn skip(self, block: &mut Reader<'_>) -> Result<(), DecodeError> {
        match self.wire() {
            Wire::Byte => block.take(1).map(drop),
            Wire::TwoBytes => block.take(2).map(drop),
            Wire::FourBytes => block.take(4).map(drop),
            Wire::VarInt => block.varint().map(drop),
            Wire::Utf8 | Wire::Binary => block.binary().map(drop),
            Wire::Pair => block.binary().and_then(|_| block.binary()).map(drop),
        }
    }
}

/// Splits the block of properties, without its length, off the front of a packet's rest.
#[inline]
pub(super) fn block<'a>(body: &mut Reader<'a>) -> Result<Reader<'a>, DecodeError> {
    let len = body.varint()?;
    body.take(len as usize).map(Reader::new)
}

/// A value that a property may have.
pub(super) trait Value<'a>: Sized {
    fn read(id: PropertyId, block: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn put(&self, id: PropertyId, out: &mut Vec<u8>);
}

/// Reads the value of `id` into its field, once.
pub(super) fn set<'a, T: Value<'a>>(
    field: &mut Option<T>,
    id: PropertyId,
    block: &mut Reader<'a>,
) -> Result<(), DecodeError> {
    if field.is_some() {
        return Err(DecodeError::protocol("property is included more than once [MQTT-4.13.1-1]"));
    }
    *field = Some(T::read(id, block)?);
    Ok(())
}

/// Appends a property if the field is set.
pub(super) fn put<'a, T: Value<'a>>(field: &Option<T>, id: PropertyId, out: &mut Vec<u8>) {
    if let Some(value) = field {
        out.push(id as u8);
        value.put(id, out);
    }
}

impl Value<'_> for bool {
    fn read(_: PropertyId, block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match block.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::protocol("property is neither 0 nor 1 (section 2.2.2.2)")),
        }
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// Maximum QoS, 0 or 1.
impl Value<'_> for QoS {
    fn read(_: PropertyId, block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match block.u8()? {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(DecodeError::protocol("maximum QoS is neither 0 nor 1 (section 3.2.2.3.4)")),
        }
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        out.push(self.as_u8().min(1));
    }
}

/// What the payload is, MQTT 5.0 section 3.3.2.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PayloadFormat {
    /// Unspecified bytes.
    Bytes = 0,
    /// UTF-8 encoded character data.
    Utf8 = 1,
}

impl Value<'_> for PayloadFormat {
    fn read(id: PropertyId, block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        bool::read(id, block).map(|utf8| if utf8 { Self::Utf8 } else { Self::Bytes })
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Value<'_> for u16 {
    fn read(id: PropertyId, block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match (block.u16()?, id) {
            (0, PropertyId::ReceiveMaximum) => {
                Err(DecodeError::protocol("receive maximum is 0 (section 3.1.2.11.3) (section 3.2.2.3.3)"))
            }
            (0, PropertyId::TopicAlias) => {
                Err(DecodeError::new(ReasonCode::TopicAliasInvalid, "topic alias is 0 [MQTT-3.3.2-8]"))
            }
            (value, _) => Ok(value),
        }
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        wire::put_u16(out, *self);
    }
}

impl Value<'_> for u32 {
    fn read(id: PropertyId, block: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = if id.wire() == Wire::VarInt { block.varint()? } else { block.u32()? };
        match (value, id) {
            (0, PropertyId::MaximumPacketSize) => {
                Err(DecodeError::protocol("maximum packet size is 0 (section 3.1.2.11.4) (section 3.2.2.3.6)"))
            }
            (0, PropertyId::SubscriptionId) => {
                Err(DecodeError::protocol("subscription identifier is 0 (section 3.8.2.1.2) (section 3.3.2.3.8)"))
            }
            _ => Ok(value),
        }
    }

    fn put(&self, id: PropertyId, out: &mut Vec<u8>) {
        if id.wire() == Wire::VarInt {
            wire::put_varint(out, *self);
        } else {
            wire::put_u32(out, *self);
        }
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(id: PropertyId, block: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let string = block.string()?;
        if id == PropertyId::ResponseTopic && topic::check_name(string).is_err() {
            return Err(DecodeError::protocol("response topic is no topic name [MQTT-3.3.2-14] [MQTT-4.7.3-1]"));
        }
        Ok(string)
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        wire::put_string(out, self);
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(_: PropertyId, block: &mut Reader<'a>) -> Result<Self, DecodeError> {
        block.binary()
    }

    fn put(&self, _: PropertyId, out: &mut Vec<u8>) {
        wire::put_binary(out, self);
    }
}

/// Declares the properties of one packet: a struct with an optional field for each, and user properties, which every
/// packet may carry. Each line is a row of the standard's table: field, type, identifier.
macro_rules! properties {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $id:ident,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name<'a> {
            $($(#[$field_doc])* pub $field: Option<$type>,)*
            /// User properties, in their order.
            pub user_properties: $crate::mqtt::UserProperties<'a>,
        }

        impl<'a> $name<'a> {
            /// Reads the block off the front of `body`.
            pub(super) fn decode(
                body: &mut $crate::mqtt::wire::Reader<'a>,
            ) -> Result<Self, $crate::mqtt::DecodeError> {
                use $crate::mqtt::property::{self, PropertyId};
                let mut found = Self::default();
                let mut block = property::block(body)?;
                while !block.is_empty() {
                    let start = block.rest();
                    match PropertyId::read(&mut block)? {
                        $(PropertyId::$id => property::set(&mut found.$field, PropertyId::$id, &mut block)?,)*
                        PropertyId::UserProperty => found.user_properties.read(start, &mut block)?,
                        _ => return Err(property::MISPLACED),
                    }
                }
                Ok(found)
            }

            /// Appends the block with its length.
            pub(super) fn put(&self, out: &mut Vec<u8>) {
                $crate::mqtt::wire::put_with_len(out, |out| {
                    $($crate::mqtt::property::put(
                        &self.$field, $crate::mqtt::property::PropertyId::$id, out,
                    );)*
                    self.user_properties.put(out);
                });
            }
        }
    };
}

pub(super) use properties;
