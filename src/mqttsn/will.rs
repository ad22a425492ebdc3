//! The topic half of a will: WILLTOPIC and WILLTOPICUPD. The message half is bare octets.

use crate::mqtt::QoS;
use crate::mqttsn::types::Flags;
use crate::mqttsn::wire::{Body, DecodeError, Writer};

/// WILLTOPIC, MQTT-SN 5.4.7, and WILLTOPICUPD, 5.4.22.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WillTopic<'a> {
    pub qos: QoS,
    pub retain: bool,
    /// Not empty.
    pub topic: &'a str,
}

impl<'a> WillTopic<'a> {
    /// `None` is the message without a body, which deletes the will. Flags without a topic mean the same.
    pub(super) fn decode(body: &mut Body<'a>) -> Result<Option<Self>, DecodeError> {
        if body.is_empty() {
            return Ok(None);
        }
        let flags = Flags(body.take_u8()?);
        let topic = body.take_text()?;
        if topic.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { qos: flags.qos()?, retain: flags.has(Flags::RETAIN), topic }))
    }

    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.put_u8(Flags::default().with_qos(self.qos).with(Flags::RETAIN, self.retain).0);
        out.put(self.topic.as_bytes());
    }
}
