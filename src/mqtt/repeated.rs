//! The two properties that a packet may carry more than once: user properties and subscription identifiers.

use std::fmt;

use crate::mqtt::DecodeError;
use crate::mqtt::property::{PropertyId, Value};
use crate::mqtt::wire::{self, Reader};

/// Properties of which one packet may carry many: either a list, or read in place out of a block that may hold other
/// properties too.
#[derive(Clone, Copy)]
enum Many<'a, T> {
    List(&'a [T]),
    Block(&'a [u8]),
}

impl<'a, T> Many<'a, T> {
    const fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Block(block) => block.is_empty(),
        }
    }

    /// Takes the block from `start`, where the first such property lies, unless it has it already.
    fn begin(&mut self, start: &'a [u8]) {
        if self.is_empty() {
            *self = Self::Block(start);
        }
    }
}

/// The next property `wanted` of a block that was checked when it was decoded.
fn next_in_block<'a, T>(
    block: &mut &'a [u8],
    wanted: PropertyId,
    read: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Option<T> {
    let mut reader = Reader::new(block);
    loop {
        let id = PropertyId::read(&mut reader).ok()?;
        if id == wanted {
            let value = read(&mut reader).ok();
            *block = reader.rest();
            return value;
        }
        id.skip(&mut reader).ok()?;
    }
}

/// User properties, in their order [MQTT-3.3.2-18]. Made from a list, or read in place out of a packet.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(Many<'a, (&'a str, &'a str)>);

impl<'a> UserProperties<'a> {
    /// None.
    pub const NONE: Self = Self(Many::List(&[]));

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values.
    #[must_use]
    pub const fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter(self.0)
    }

    /// Takes one in: `start` begins with its identifier, `block` is behind it.
    pub(super) fn read(&mut self, start: &'a [u8], block: &mut Reader<'a>) -> Result<(), DecodeError> {
        block.string()?;
        block.string()?;
        self.0.begin(start);
        Ok(())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.push(PropertyId::UserProperty as u8);
            wire::put_string(out, name);
            wire::put_string(out, value);
        }
    }

    pub(super) fn wire_len(&self) -> usize {
        self.iter().map(|(name, value)| 1 + wire::string_len(name) + wire::string_len(value)).sum()
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> From<&'a [(&'a str, &'a str)]> for UserProperties<'a> {
    fn from(list: &'a [(&'a str, &'a str)]) -> Self {
        Self(Many::List(list))
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// See [`UserProperties::iter`].
#[derive(Clone)]
pub struct UserPropertiesIter<'a>(Many<'a, (&'a str, &'a str)>);

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Many::List(list) => list.split_off_first().copied(),
            Many::Block(block) => {
                next_in_block(block, PropertyId::UserProperty, |reader| Ok((reader.utf8()?, reader.utf8()?)))
            }
        }
    }
}

/// Subscription identifiers of a PUBLISH. Made from a list, or read in place out of a packet.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(Many<'a, u32>);

impl<'a> SubscriptionIds<'a> {
    /// None.
    pub const NONE: Self = Self(Many::List(&[]));

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The identifiers.
    #[must_use]
    pub const fn iter(&self) -> SubscriptionIdsIter<'a> {
        SubscriptionIdsIter(self.0)
    }

    /// Takes one in: `start` begins with its identifier, `block` is behind it.
    pub(super) fn read(&mut self, start: &'a [u8], block: &mut Reader<'a>) -> Result<(), DecodeError> {
        u32::read(PropertyId::SubscriptionId, block)?;
        self.0.begin(start);
        Ok(())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for id in self.iter() {
            out.push(PropertyId::SubscriptionId as u8);
            wire::put_varint(out, id);
        }
    }

    pub(super) fn wire_len(&self) -> usize {
        self.iter().map(|id| 1 + wire::varint_len(id as usize)).sum()
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<'a> From<&'a [u32]> for SubscriptionIds<'a> {
    fn from(list: &'a [u32]) -> Self {
        Self(Many::List(list))
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for SubscriptionIds<'a> {
    type Item = u32;
    type IntoIter = SubscriptionIdsIter<'a>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// See [`SubscriptionIds::iter`].
#[derive(Clone)]
pub struct SubscriptionIdsIter<'a>(Many<'a, u32>);

impl Iterator for SubscriptionIdsIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match &mut self.0 {
            Many::List(list) => list.split_off_first().copied(),
            Many::Block(block) => next_in_block(block, PropertyId::SubscriptionId, Reader::varint),
        }
    }
}
