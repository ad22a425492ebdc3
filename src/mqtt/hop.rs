//! The hop marker: a user property that names the gateway that a message went through on its way to another broker. A
//! message that comes back to a gateway that it names has gone round.
//!
//! Gateways that talk to each other say by the same property of CONNECT and CONNACK who they are, so that what came from
//! one, or goes there by another way, is not sent to it.

use crate::mqtt::{PublishProperties, UserProperties};

/// The name of the property.
const HOP: &str = "mw-hop";

/// Longer names are nobody's.
const MAX_NAME: usize = 128;

/// The user property that says who this is.
#[must_use]
pub const fn property(gateway: &str) -> [(&str, &str); 1] {
    [(HOP, gateway)]
}

/// Who says so among these.
#[must_use]
pub fn named<'a>(properties: &UserProperties<'a>) -> Option<&'a str> {
    let name = properties.iter().find(|(key, _)| *key == HOP).map(|(_, name)| name);
    name.filter(|name| (1..=MAX_NAME).contains(&name.len()))
}

/// A gateway: what it calls itself, and what marks the messages that went through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub name: Box<str>,
    /// In the wire form of [`Message::properties`](crate::mqtt::Message::properties).
    marker: Box<[u8]>,
}

impl Gateway {
    /// The gateway of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut marker = Vec::new();
        let hop = property(name);
        PublishProperties { user_properties: hop.as_slice().into(), ..Default::default() }.forwarded(&mut marker);
        Self { name: name.into(), marker: marker.into() }
    }

    /// What is put on messages that go through it, behind their other properties.
    #[must_use]
    pub fn marker(&self) -> &[u8] {
        &self.marker
    }

    /// Whether a message with these properties went through it.
    #[must_use]
    pub fn has_passed(&self, properties: &[u8]) -> bool {
        !properties.is_empty() && properties.windows(self.marker.len()).any(|part| part == &*self.marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_knows_its_own_marker_among_others() {
        let (ours, others) = (Gateway::new("barn-7.1"), Gateway::new("barn-7.12"));
        assert!(ours.has_passed(&[others.marker(), ours.marker()].concat()));
        assert!(!ours.has_passed(others.marker()) && !ours.has_passed(&[]));
    }

    #[test]
    fn a_name_is_found_among_other_properties_and_must_be_one() {
        let long = "x".repeat(MAX_NAME + 1);
        for (said, found) in [("barn-7.1", Some("barn-7.1")), ("", None), (long.as_str(), None)] {
            let pairs = [("unit", "K"), (HOP, said)];
            assert_eq!(named(&pairs.as_slice().into()), found);
        }
        assert_eq!(named(&UserProperties::default()), None);
    }
}
