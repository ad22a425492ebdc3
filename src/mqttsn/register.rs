//! REGISTER and REGACK: agreeing on a topic id, in both directions.

use crate::mqttsn::types::{MsgId, ReturnCode, TopicId};
use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// REGISTER, MQTT-SN 5.4.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register<'a> {
    /// The id the gateway assigned; [`TopicId::NONE`] from a client.
    pub topic_id: TopicId,
    pub msg_id: MsgId,
    pub topic: &'a str,
}

impl<'a> Register<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        Ok(Self { topic_id: TopicId(body.take_u16()?), msg_id: MsgId(body.take_u16()?), topic: body.take_text()? })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u16(self.topic_id.0);
        out.put_u16(self.msg_id.0);
        out.put(self.topic.as_bytes());
    }
}

/// REGACK, MQTT-SN 5.4.11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegAck {
    pub topic_id: TopicId,
    pub msg_id: MsgId,
    pub code: ReturnCode,
}

impl RegAck {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            topic_id: TopicId(body.take_u16()?),
            msg_id: MsgId(body.take_u16()?),
            code: ReturnCode(body.take_u8()?),
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u16(self.topic_id.0);
        out.put_u16(self.msg_id.0);
        out.put_u8(self.code.0);
    }
}
