//! The table of message types (MQTT-SN 5.2.2), both directions.

use std::ops::RangeInclusive;

use crate::mqttsn::connect::{ConnAck, Connect};
use crate::mqttsn::discovery::{Advertise, GwInfo, SearchGw};
use crate::mqttsn::ping::{Disconnect, PingReq};
use crate::mqttsn::publish::{PubAck, Publish};
use crate::mqttsn::register::{RegAck, Register};
use crate::mqttsn::subscribe::{SubAck, Subscribe, Unsubscribe};
use crate::mqttsn::types::{MsgId, ReturnCode};
use crate::mqttsn::will::WillTopic;
use crate::mqttsn::wire::{Body, DecodeError, TooLong, put_message, split_header};

/// One message; names and payloads lie in the buffer it was decoded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    Advertise(Advertise),
    SearchGw(SearchGw),
    GwInfo(GwInfo<'a>),
    Connect(Connect<'a>),
    ConnAck(ConnAck),
    WillTopicReq,
    /// `None` deletes the will.
    WillTopic(Option<WillTopic<'a>>),
    WillMsgReq,
    WillMsg(&'a [u8]),
    Register(Register<'a>),
    RegAck(RegAck),
    Publish(Publish<'a>),
    PubAck(PubAck),
    PubComp(MsgId),
    PubRec(MsgId),
    PubRel(MsgId),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(MsgId),
    PingReq(PingReq<'a>),
    PingResp,
    Disconnect(Disconnect),
    /// `None` deletes will topic and will message.
    WillTopicUpd(Option<WillTopic<'a>>),
    WillTopicResp(ReturnCode),
    WillMsgUpd(&'a [u8]),
    WillMsgResp(ReturnCode),
}

const ADVERTISE: u8 = 0x00;
const SEARCHGW: u8 = 0x01;
const GWINFO: u8 = 0x02;
const CONNECT: u8 = 0x04;
const CONNACK: u8 = 0x05;
const WILLTOPICREQ: u8 = 0x06;
const WILLTOPIC: u8 = 0x07;
const WILLMSGREQ: u8 = 0x08;
const WILLMSG: u8 = 0x09;
const REGISTER: u8 = 0x0A;
const REGACK: u8 = 0x0B;
const PUBLISH: u8 = 0x0C;
const PUBACK: u8 = 0x0D;
const PUBCOMP: u8 = 0x0E;
const PUBREC: u8 = 0x0F;
const PUBREL: u8 = 0x10;
const SUBSCRIBE: u8 = 0x12;
const SUBACK: u8 = 0x13;
const UNSUBSCRIBE: u8 = 0x14;
const UNSUBACK: u8 = 0x15;
const PINGREQ: u8 = 0x16;
const PINGRESP: u8 = 0x17;
const DISCONNECT: u8 = 0x18;
const WILLTOPICUPD: u8 = 0x1A;
const WILLTOPICRESP: u8 = 0x1B;
const WILLMSGUPD: u8 = 0x1C;
const WILLMSGRESP: u8 = 0x1D;
/// Forwarder encapsulation: not a message but an envelope around one.
pub(super) const ENCAPSULATION: u8 = 0xFE;

/// How many octets the body of a message of this type may have; `None` for a reserved type.
pub(super) fn body_lengths(code: u8) -> Option<RangeInclusive<usize>> {
    const MAX: usize = u16::MAX as usize;
    Some(match code {
        WILLTOPICREQ | WILLMSGREQ | PINGRESP => 0..=0,
        SEARCHGW | CONNACK | WILLTOPICRESP | WILLMSGRESP => 1..=1,
        PUBCOMP | PUBREC | PUBREL | UNSUBACK => 2..=2,
        ADVERTISE => 3..=3,
        REGACK | PUBACK => 5..=5,
        SUBACK => 6..=6,
        DISCONNECT => 0..=2,
        GWINFO => 1..=MAX,
        WILLTOPIC | WILLMSG | PINGREQ | WILLTOPICUPD | WILLMSGUPD => 0..=MAX,
        SUBSCRIBE | UNSUBSCRIBE => 3..=MAX,
        CONNECT | REGISTER => 4..=MAX,
        PUBLISH => 5..=MAX,
        _ => return None,
    })
}

impl<'a> Message<'a> {
    /// Decodes exactly one message that fills `octets`.
    ///
    /// # Errors
    /// Says what is wrong with it. Values that a gateway must answer (an unknown protocol id, a reserved
    /// topic id type, an empty name) are not errors.
    #[inline]
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (code, mut body) = split_header(octets)?;
        let message = Self::decode_body(code, &mut body)?;
        body.finish()?;
        Ok(message)
    }

    fn decode_body(code: u8, body: &mut Body<'a>) -> Result<Self, DecodeError> {
        Ok(match code {
            ADVERTISE => Self::Advertise(Advertise::decode(body)?),
            SEARCHGW => Self::SearchGw(SearchGw::decode(body)?),
            GWINFO => Self::GwInfo(GwInfo::decode(body)?),
            CONNECT => Self::Connect(Connect::decode(body)?),
            CONNACK => Self::ConnAck(ConnAck::decode(body)?),
            WILLTOPICREQ => Self::WillTopicReq,
            WILLTOPIC => Self::WillTopic(WillTopic::decode(body)?),
            WILLMSGREQ => Self::WillMsgReq,
            WILLMSG => Self::WillMsg(body.take_rest()),
            REGISTER => Self::Register(Register::decode(body)?),
            REGACK => Self::RegAck(RegAck::decode(body)?),
            PUBLISH => Self::Publish(Publish::decode(body)?),
            PUBACK => Self::PubAck(PubAck::decode(body)?),
            PUBCOMP => Self::PubComp(MsgId(body.take_u16()?)),
            PUBREC => Self::PubRec(MsgId(body.take_u16()?)),
            PUBREL => Self::PubRel(MsgId(body.take_u16()?)),
            SUBSCRIBE => Self::Subscribe(Subscribe::decode(body)?),
            SUBACK => Self::SubAck(SubAck::decode(body)?),
            UNSUBSCRIBE => Self::Unsubscribe(Unsubscribe::decode(body)?),
            UNSUBACK => Self::UnsubAck(MsgId(body.take_u16()?)),
            PINGREQ => Self::PingReq(PingReq::decode(body)?),
            PINGRESP => Self::PingResp,
            DISCONNECT => Self::Disconnect(Disconnect::decode(body)?),
            WILLTOPICUPD => Self::WillTopicUpd(WillTopic::decode(body)?),
            WILLTOPICRESP => Self::WillTopicResp(ReturnCode(body.take_u8()?)),
            WILLMSGUPD => Self::WillMsgUpd(body.take_rest()),
            WILLMSGRESP => Self::WillMsgResp(ReturnCode(body.take_u8()?)),
            ENCAPSULATION => return Err(DecodeError::Nested),
            reserved => return Err(DecodeError::Type(reserved)),
        })
    }

    /// Appends the message to `out`, in the short form if it has at most 255 octets.
    ///
    /// # Errors
    /// [`TooLong`] beyond 65535 octets; `out` is then as it was.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        put_message(out, self.code(), |out| match self {
            Self::Advertise(m) => m.encode(out),
            Self::SearchGw(m) => m.encode(out),
            Self::GwInfo(m) => m.encode(out),
            Self::Connect(m) => m.encode(out),
            Self::ConnAck(m) => m.encode(out),
            Self::WillTopic(Some(m)) | Self::WillTopicUpd(Some(m)) => m.encode(out),
            Self::WillMsg(octets) | Self::WillMsgUpd(octets) => out.put(octets),
            Self::Register(m) => m.encode(out),
            Self::RegAck(m) => m.encode(out),
            Self::Publish(m) => m.encode(out),
            Self::PubAck(m) => m.encode(out),
            Self::PubComp(id) | Self::PubRec(id) | Self::PubRel(id) | Self::UnsubAck(id) => out.put_u16(id.0),
            Self::Subscribe(m) => m.encode(out),
            Self::SubAck(m) => m.encode(out),
            Self::Unsubscribe(m) => m.encode(out),
            Self::PingReq(m) => m.encode(out),
            Self::Disconnect(m) => m.encode(out),
            Self::WillTopicResp(code) | Self::WillMsgResp(code) => out.put_u8(code.0),
            Self::WillTopicReq
            | Self::WillTopic(None)
            | Self::WillMsgReq
            | Self::PingResp
            | Self::WillTopicUpd(None) => {}
        })
    }

    fn code(&self) -> u8 {
        match self {
            Self::Advertise(_) => ADVERTISE,
            Self::SearchGw(_) => SEARCHGW,
            Self::GwInfo(_) => GWINFO,
            Self::Connect(_) => CONNECT,
            Self::ConnAck(_) => CONNACK,
            Self::WillTopicReq => WILLTOPICREQ,
            Self::WillTopic(_) => WILLTOPIC,
            Self::WillMsgReq => WILLMSGREQ,
            Self::WillMsg(_) => WILLMSG,
            Self::Register(_) => REGISTER,
            Self::RegAck(_) => REGACK,
            Self::Publish(_) => PUBLISH,
            Self::PubAck(_) => PUBACK,
            Self::PubComp(_) => PUBCOMP,
            Self::PubRec(_) => PUBREC,
            Self::PubRel(_) => PUBREL,
            Self::Subscribe(_) => SUBSCRIBE,
            Self::SubAck(_) => SUBACK,
            Self::Unsubscribe(_) => UNSUBSCRIBE,
            Self::UnsubAck(_) => UNSUBACK,
            Self::PingReq(_) => PINGREQ,
            Self::PingResp => PINGRESP,
            Self::Disconnect(_) => DISCONNECT,
            Self::WillTopicUpd(_) => WILLTOPICUPD,
            Self::WillTopicResp(_) => WILLTOPICRESP,
            Self::WillMsgUpd(_) => WILLMSGUPD,
            Self::WillMsgResp(_) => WILLMSGRESP,
        }
    }
}
