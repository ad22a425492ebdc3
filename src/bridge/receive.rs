//! From the bytes that an upstream sends to packets, and from packets to who handles them.

use crate::bridge::context::Context;
use crate::bridge::end::End;
use crate::bridge::oversize;
use crate::bridge::upstream::{State, Upstream, words};
use crate::mqtt::{
    DecodeError, Disconnect, Frame, Packet, PacketType, PubAck, PubRec, Publish, ReasonCode, Version, frame,
};

impl Upstream {
    /// Bytes came.
    pub(super) fn on_received(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) {
        if self.wire().is_none() {
            return;
        }
        ctx.stats.bytes_in += bytes.len() as u64;
        if let State::Up(link) = &mut self.state {
            link.received(ctx.now.at);
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let bytes = &bytes[skipped..];
        let mut partial = std::mem::take(&mut self.partial);
        let result = if partial.is_empty() {
            self.on_bytes(ctx, bytes).map(|used| self.partial.extend_from_slice(&bytes[used..]))
        } else {
            partial.extend_from_slice(bytes);
            self.on_bytes(ctx, &partial).map(|used| {
                if used < partial.len() {
                    partial.drain(..used);
                    self.partial = partial;
                }
            })
        };
        match result {
            Ok(()) => self.pump(ctx),
            Err(end) => self.end(ctx, end),
        }
    }

    /// Handles all packets that are complete and says how many bytes they were.
    fn on_bytes(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            used += match frame(rest, self.intake.max_packet_bytes) {
                Ok(Some(packet)) => {
                    self.on_packet(ctx, &packet).map_err(|end| match packet.packet_type() {
                        Some(PacketType::Publish | PacketType::PubRel | PacketType::SubAck) => end.inbound(),
                        _ => end,
                    })?;
                    packet.raw.len()
                }
                Ok(None) => return Ok(used),
                Err(error) => match self.on_oversize(ctx, rest, error)? {
                    Some(len) => {
                        self.skip = len.saturating_sub(rest.len());
                        len.min(rest.len())
                    }
                    None => return Ok(used),
                },
            };
        }
    }

    /// A packet is too large. One that the upstream could not know better about is let pass: says its length, or `None`
    /// if more of it must come first.
    fn on_oversize(
        &mut self,
        ctx: &mut Context<'_>,
        bytes: &[u8],
        error: DecodeError,
    ) -> Result<Option<usize>, End> {
        let too_large = error.reason() == ReasonCode::PacketTooLarge && self.version != Version::V5;
        match &mut self.state {
            State::Up(link) if too_large => match oversize::skim(bytes) {
                Some(skimmed) => self.incoming.on_oversize(ctx, link, skimmed).map(|()| Some(skimmed.len)),
                None if bytes.len() < oversize::MAX_BEGINNING => Ok(None),
                None => Err(error.into()),
            },
            _ => Err(error.into()),
        }
    }

    fn on_packet(&mut self, ctx: &mut Context<'_>, frame: &Frame<'_>) -> Result<(), End> {
        let State::Up(link) = &mut self.state else {
            return match Packet::decode(self.version, frame)? {
                Packet::ConnAck(connack) => self.on_connack(ctx, &connack),
                _ => Err(End::Broke(ReasonCode::ProtocolError, "the first packet is not CONNACK [MQTT-3.2.0-1]")),
            };
        };
        let version = self.version;
        match frame.packet_type() {
            Some(PacketType::Publish) => {
                return self.incoming.on_publish(ctx, link, &Publish::decode(version, frame)?);
            }
            // To insist on the right reason would not help: the message would be refused on each new link.
            Some(PacketType::PubAck) => {
                self.outgoing.on_puback(ctx, link, &PubAck::decode_from_server(version, frame)?);
                return Ok(());
            }
            Some(PacketType::PubRec) => {
                return self.outgoing.on_pubrec(ctx, link, &PubRec::decode_from_server(version, frame)?);
            }
            _ => {}
        }
        match Packet::decode(version, frame)? {
            Packet::PubComp(ack) => self.outgoing.on_pubcomp(ctx, link, &ack),
            Packet::PubRel(release) => self.incoming.on_pubrel(ctx, link, &release)?,
            Packet::SubAck(ack) => self.incoming.on_suback(ctx, link, &mut self.outgoing.flights, &ack)?,
            Packet::PingResp => {}
            Packet::Disconnect(Disconnect { reason, properties }) if self.version == Version::V5 => {
                return Err(End::Disconnected(reason, words(properties.reason_string)));
            }
            _ => return Err(End::Broke(ReasonCode::ProtocolError, "a server does not send this packet")),
        }
        Ok(())
    }
}
