//! MQTT-SN 1.2 as data: messages decoded in place and encoded at the end of a buffer, forwarder encapsulation, and
//! the framings that carry messages over a byte stream. No session knowledge, no clock, no panic on any input.

mod connect;
mod discovery;
mod forward;
pub mod framing;
mod message;
mod ping;
mod publish;
mod register;
mod subscribe;
#[cfg(test)]
mod tests;
mod types;
mod will;
mod wire;

pub use connect::{ConnAck, Connect, PROTOCOL_ID};
pub use discovery::{Advertise, GwInfo, SearchGw};
pub use forward::{Forwarded, decode_datagram};
pub use message::Message;
pub use ping::{Disconnect, PingReq};
pub use publish::{PubAck, Publish};
pub use register::{RegAck, Register};
pub use subscribe::{SubAck, Subscribe, SubscribeTopic, Unsubscribe};
pub use types::{MsgId, PublishQos, ReturnCode, ShortName, Topic, TopicId};
pub use will::WillTopic;
pub use wire::{DecodeError, TooLong};
