//! How messages go upstream, whatever their rule.

use crate::bridge::pace::Pace;
use crate::bridge::stamp::Stamp;
use crate::config::{self, Preset};
use crate::mqtt::hop::Gateway;

/// What is the same for all messages to one upstream.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) pace: Pace,
    /// Its marker is put on each in 5.0, so that it is known when it comes back.
    pub(super) hop: Option<Gateway>,
    /// Topics have properties of the message in them, as Azure IoT Hub has it.
    pub(super) property_bag: bool,
}

impl Manner {
    pub(super) fn new(config: &config::Upstream, hop: Option<Gateway>) -> Self {
        Self { pace: Pace::new(config.pace), hop, property_bag: config.preset == Preset::AzureIotHub }
    }

    /// The properties that a message goes with, beside those of its publisher. `room` is used when there are any.
    pub(super) fn properties<'a>(
        &self,
        publishers: &'a [u8],
        trace: Option<&Stamp>,
        room: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if self.hop.is_none() && trace.is_none() {
            return publishers;
        }
        room.clear();
        room.extend_from_slice(publishers);
        room.extend_from_slice(self.hop.as_ref().map_or(&[], Gateway::marker));
        if let Some(stamp) = trace {
            stamp.put(room);
        }
        room
    }
}
