//! PINGREQ and DISCONNECT, both with a meaning for sleep. PINGRESP is empty.

use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// PINGREQ, MQTT-SN 5.4.19.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingReq<'a> {
    /// Given by a client that wakes up (MQTT-SN 6.14); otherwise empty.
    pub client_id: &'a str,
}

impl<'a> PingReq<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        Ok(Self { client_id: body.take_text()? })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put(self.client_id.as_bytes());
    }
}

/// DISCONNECT, MQTT-SN 5.4.21.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// Seconds of sleep, from a client that goes to sleep.
    pub duration: Option<u16>,
}

impl Disconnect {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        let duration = if body.is_empty() { None } else { Some(body.take_u16()?) };
        Ok(Self { duration })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        if let Some(seconds) = self.duration {
            out.put_u16(seconds);
        }
    }
}
