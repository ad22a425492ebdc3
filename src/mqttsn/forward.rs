//! Forwarder encapsulation, MQTT-SN 5.5: an envelope that says which wireless node a message is from or for.

use crate::mqttsn::message::{ENCAPSULATION, Message};
use crate::mqttsn::wire::{DecodeError, TooLong};

/// Octets of the envelope before the node id.
const HEADER: usize = 3;

/// The envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// Broadcast radius, 0 to 3; only from a gateway to a forwarder.
    pub radius: u8,
    /// The wireless node, in the forwarder's own terms; at most 252 octets.
    pub node: &'a [u8],
}

impl<'a> Forwarded<'a> {
    /// Splits off the envelope, if there is one. Its length does not cover the message inside.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if the envelope is cut short or longer than `octets`.
    pub(super) fn split(octets: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, DecodeError> {
        // A first octet of 1 announces a long message, whose length may well begin with 0xFE.
        let [len @ 2..=u8::MAX, ENCAPSULATION, ..] = octets else { return Ok(None) };
        let (envelope, inner) = octets.split_at_checked(usize::from(*len)).ok_or(DecodeError::Length)?;
        let [_, _, control, node @ ..] = envelope else { return Err(DecodeError::Length) };
        Ok(Some((Self { radius: control & 0b11, node }, inner)))
    }

    /// Appends the envelope to `out`; the message follows it.
    ///
    /// # Errors
    /// [`TooLong`] if the node id has more than 252 octets; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let len = u8::try_from(HEADER + self.node.len()).map_err(|_| TooLong)?;
        out.extend_from_slice(&[len, ENCAPSULATION, self.radius & 0b11]);
        out.extend_from_slice(self.node);
        Ok(())
    }
}

/// Decodes exactly one message, in an envelope or bare, that fills the datagram.
///
/// # Errors
/// As [`Message::decode`]; [`DecodeError::Nested`] for an envelope in an envelope.
#[inline]
pub fn decode_datagram(octets: &[u8]) -> Result<(Option<Forwarded<'_>>, Message<'_>), DecodeError> {
    let Some((envelope, inner)) = Forwarded::split(octets)? else { return Ok((None, Message::decode(octets)?)) };
    if Forwarded::split(inner)?.is_some() {
        return Err(DecodeError::Nested);
    }
    Ok((Some(envelope), Message::decode(inner)?))
}
