//! CONNECT and CONNACK.

use crate::mqttsn::types::{Flags, ReturnCode};
use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// The ProtocolId of MQTT-SN 1.2.
pub const PROTOCOL_ID: u8 = 0x01;

/// CONNECT, MQTT-SN 5.4.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The client wants to be asked for its will.
    pub will: bool,
    pub clean_session: bool,
    /// [`PROTOCOL_ID`]; anything else is to be refused with an answer.
    pub protocol_id: u8,
    /// Keep-alive in seconds.
    pub duration: u16,
    /// 1 to 23 characters by the standard; not checked here.
    pub client_id: &'a str,
}

impl<'a> Connect<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        let flags = Flags(body.take_u8()?);
        Ok(Self {
            will: flags.has(Flags::WILL),
            clean_session: flags.has(Flags::CLEAN_SESSION),
            protocol_id: body.take_u8()?,
            duration: body.take_u16()?,
            client_id: body.take_text()?,
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        let flags = Flags::default().with(Flags::WILL, self.will).with(Flags::CLEAN_SESSION, self.clean_session);
        out.put_u8(flags.0);
        out.put_u8(self.protocol_id);
        out.put_u16(self.duration);
        out.put(self.client_id.as_bytes());
    }
}

/// CONNACK, MQTT-SN 5.4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    pub code: ReturnCode,
}

impl ConnAck {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        Ok(Self { code: ReturnCode(body.take_u8()?) })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(self.code.0);
    }
}
