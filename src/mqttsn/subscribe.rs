//! SUBSCRIBE, SUBACK and UNSUBSCRIBE. UNSUBACK is a message id and nothing else.

use crate::mqtt::QoS;
use crate::mqttsn::types::{
    Flags, MsgId, ReturnCode, ShortName, TYPE_ID, TYPE_PREDEFINED, TYPE_RESERVED, TYPE_SHORT, TopicId,
};
use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// What is subscribed to: TopicIdType and the topic field together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeTopic<'a> {
    /// 0b00: a topic name or a filter.
    Name(&'a str),
    /// 0b01
    Predefined(TopicId),
    /// 0b10
    Short(ShortName),
    /// 0b11 is reserved; the answer to it is "not supported".
    Reserved(&'a [u8]),
}

impl<'a> SubscribeTopic<'a> {
    fn decode(flags: Flags, body: &mut Body<'a>) -> Result<Self, DecodeError> {
        Ok(match flags.topic_type() {
            TYPE_ID => Self::Name(body.take_text()?),
            TYPE_PREDEFINED => Self::Predefined(TopicId(body.take_u16()?)),
            TYPE_SHORT => Self::Short(ShortName(body.take_pair()?)),
            _ => Self::Reserved(body.take_rest()),
        })
    }

    fn type_bits(&self) -> u8 {
        match self {
            Self::Name(_) => TYPE_ID,
            Self::Predefined(_) => TYPE_PREDEFINED,
            Self::Short(_) => TYPE_SHORT,
            Self::Reserved(_) => TYPE_RESERVED,
        }
    }

    fn encode(&self, out: &mut Writer<'_>) {
        match self {
            Self::Name(name) => out.put(name.as_bytes()),
            Self::Predefined(id) => out.put_u16(id.0),
            Self::Short(name) => out.put(&name.0),
            Self::Reserved(octets) => out.put(octets),
        }
    }
}

/// SUBSCRIBE, MQTT-SN 5.4.15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub msg_id: MsgId,
    pub topic: SubscribeTopic<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        let flags = Flags(body.take_u8()?);
        Ok(Self {
            dup: flags.has(Flags::DUP),
            qos: flags.qos()?,
            msg_id: MsgId(body.take_u16()?),
            topic: SubscribeTopic::decode(flags, body)?,
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        let flags =
            Flags::default().with(Flags::DUP, self.dup).with_qos(self.qos).with_topic_type(self.topic.type_bits());
        out.put_u8(flags.0);
        out.put_u16(self.msg_id.0);
        self.topic.encode(out);
    }
}

/// SUBACK, MQTT-SN 5.4.16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck {
    /// Granted.
    pub qos: QoS,
    /// The id of later PUBLISHes; [`TopicId::NONE`] for a filter with wildcards.
    pub topic_id: TopicId,
    pub msg_id: MsgId,
    pub code: ReturnCode,
}

impl SubAck {
    pub(super) fn decode(body: &mut Body<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            qos: Flags(body.take_u8()?).qos()?,
            topic_id: TopicId(body.take_u16()?),
            msg_id: MsgId(body.take_u16()?),
            code: ReturnCode(body.take_u8()?),
        })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(Flags::default().with_qos(self.qos).0);
        out.put_u16(self.topic_id.0);
        out.put_u16(self.msg_id.0);
        out.put_u8(self.code.0);
    }
}

/// UNSUBSCRIBE, MQTT-SN 5.4.17.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub msg_id: MsgId,
    pub topic: SubscribeTopic<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Self, DecodeError> {
        let flags = Flags(body.take_u8()?);
        Ok(Self { msg_id: MsgId(body.take_u16()?), topic: SubscribeTopic::decode(flags, body)? })
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(Flags::default().with_topic_type(self.topic.type_bits()).0);
        out.put_u16(self.msg_id.0);
        self.topic.encode(out);
    }
}
