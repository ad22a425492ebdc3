//! Control packets, MQTT 5.0 chapter 3: a file for each, both directions.

pub(super) mod ack;
pub(super) mod auth;
pub(super) mod connack;
pub(super) mod connect;
pub(super) mod disconnect;
pub mod publish;
pub(super) mod suback;
pub(super) mod subscribe;
pub(super) mod unsubscribe;

use crate::mqtt::{
    Auth, ConnAck, Connect, DecodeError, Disconnect, Frame, PacketType, PubAck, PubComp, PubRec, PubRel, Publish,
    SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
};

/// Any packet, borrowing from the buffer it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(PubAck<'a>),
    PubRec(PubRec<'a>),
    PubRel(PubRel<'a>),
    PubComp(PubComp<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes a packet of a connection that speaks `version`. CONNECT says its version itself.
    ///
    /// # Errors
    /// If it is not exactly what the standard allows.
    pub fn decode(version: Version, frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let Some(kind) = frame.packet_type() else {
            return Err(DecodeError::malformed("packet type 0 is forbidden (section 2.1.2)"));
        };
        Ok(match kind {
            PacketType::Connect => Self::Connect(Connect::decode(frame)?),
            PacketType::ConnAck => Self::ConnAck(ConnAck::decode(version, frame)?),
            PacketType::Publish => Self::Publish(Publish::decode(version, frame)?),
            PacketType::PubAck => Self::PubAck(PubAck::decode(version, frame)?),
            PacketType::PubRec => Self::PubRec(PubRec::decode(version, frame)?),
            PacketType::PubRel => Self::PubRel(PubRel::decode(version, frame)?),
            PacketType::PubComp => Self::PubComp(PubComp::decode(version, frame)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(version, frame)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(version, frame)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(version, frame)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::decode(version, frame)?),
            PacketType::PingReq => Self::PingReq.bare(version, frame)?,
            PacketType::PingResp => Self::PingResp.bare(version, frame)?,
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(version, frame)?),
            PacketType::Auth => Self::Auth(Auth::decode(version, frame)?),
        })
    }

    /// Checks a packet that is nothing but its fixed header.
    fn bare(self, version: Version, frame: &Frame<'_>) -> Result<Self, DecodeError> {
        frame.check_flags(version, self.packet_type())?;
        if !frame.body.is_empty() {
            return Err(DecodeError::malformed(
                "PINGREQ or PINGRESP is not empty (section 3.12.1) (section 3.13.1)",
            ));
        }
        Ok(self)
    }

    /// The packet's type.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet for a connection that speaks `version`. What that version cannot say is left out; AUTH,
    /// which 3.1.1 does not have, is left out altogether. CONNECT is encoded in its own version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(version, out),
            Self::PubRec(packet) => packet.encode(version, out),
            Self::PubRel(packet) => packet.encode(version, out),
            Self::PubComp(packet) => packet.encode(version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq | Self::PingResp => out.extend_from_slice(&[self.packet_type().header(), 0]),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}

#[cfg(test)]
mod tests;
