//! Finding a gateway: ADVERTISE, SEARCHGW, GWINFO.

use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// ADVERTISE, MQTT-SN 5.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    pub gateway_id: u8,
    /// Seconds until the next ADVERTISE.
    pub duration: u16,
}

impl Advertise {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        Ok(Self { gateway_id: body.take_u8()?, duration: body.take_u16()? })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(self.gateway_id);
        out.put_u16(self.duration);
    }
}

/// SEARCHGW, MQTT-SN 5.4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchGw {
    /// Broadcast radius; 0 is the whole network.
    pub radius: u8,
}

impl SearchGw {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        Ok(Self { radius: body.take_u8()? })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(self.radius);
    }
}

/// GWINFO, MQTT-SN 5.4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GwInfo<'a> {
    pub gateway_id: u8,
    /// The gateway's address, when a client answers for it; otherwise empty.
    pub address: &'a [u8],
}

impl<'a> GwInfo<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        Ok(Self { gateway_id: body.take_u8()?, address: body.take_rest() })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(self.gateway_id);
        out.put(self.address);
    }
}
