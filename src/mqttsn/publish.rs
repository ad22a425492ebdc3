//! PUBLISH and PUBACK. PUBREC, PUBREL and PUBCOMP are a message id and nothing else.

use crate::mqttsn::types::{Flags, MsgId, PublishQos, ReturnCode, Topic, TopicId};
use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// PUBLISH, MQTT-SN 5.4.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: PublishQos,
    pub retain: bool,
    pub topic: Topic,
    /// [`MsgId::NONE`] for QoS 0 and -1; what else comes there has no meaning.
    pub msg_id: MsgId,
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        let flags = Flags(body.take_u8()?);
        Ok(Self {
            dup: flags.has(Flags::DUP),
            qos: flags.publish_qos(),
            retain: flags.has(Flags::RETAIN),
            topic: Topic::from_wire(flags, body.take_pair()?),
            msg_id: MsgId(body.take_u16()?),
            payload: body.take_rest(),
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        let flags = Flags::default()
            .with(Flags::DUP, self.dup)
            .with_publish_qos(self.qos)
            .with(Flags::RETAIN, self.retain)
            .with_topic_type(self.topic.type_bits());
        out.put_u8(flags.0);
        out.put_u16(self.topic.wire_id().0);
        out.put_u16(self.msg_id.0);
        out.put(self.payload);
    }
}

/// PUBACK, MQTT-SN 5.4.13: acknowledges QoS 1, and refuses a PUBLISH of any QoS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PubAck {
    /// That of the PUBLISH.
    pub topic_id: TopicId,
    pub msg_id: MsgId,
    pub code: ReturnCode,
}

impl PubAck {
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
