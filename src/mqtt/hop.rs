//! The hop marker: a user property that names the gateway that a message went through on its way to another broker. A
//! message that comes back to a gateway that it names has gone round.

use crate::mqtt::PublishProperties;

/// The name of the property.
const HOP: &str = "mw-hop";

/// The marker of a gateway, in the wire form of [`Message::properties`](crate::mqtt::Message::properties).
#[must_use]
pub fn marker(gateway: &str) -> Vec<u8> {
    let mut marker = Vec::new();
    let hop = [(HOP, gateway)];
    PublishProperties { user_properties: hop.as_slice().into(), ..Default::default() }.forwarded(&mut marker);
    marker
}

/// Whether properties in that form hold a marker.
#[must_use]
pub fn is_marked(properties: &[u8], marker: &[u8]) -> bool {
    !properties.is_empty() && properties.windows(marker.len().max(1)).any(|part| part == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_knows_its_own_marker_among_others() {
        let (ours, others) = (marker("barn-7"), marker("barn-77"));
        assert!(is_marked(&[others.clone(), ours.clone()].concat(), &ours));
        assert!(!is_marked(&others, &ours) && !is_marked(&[], &ours));
    }
}
