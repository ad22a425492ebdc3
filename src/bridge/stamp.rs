//! Says when a message was measured, and lets the receiver find gaps and copies.
//!
//! In 5.0 these are user properties after those of the publisher; where there are none, a topic can have them. They are
//! the same each time a message is sent, but for the time: that is put right when the clock is set.

use std::fmt::Write;

use crate::bridge::rule::Fields;
use crate::mqtt::PublishProperties;
use crate::queue::{Number, Peeked};
use crate::time::Wall;

/// 2024-01-01: a clock that shows less was never set.
const NEVER_SET: Wall = Wall::from_millis(1_704_067_200_000);

/// What a message says of itself. Nothing before it is [set](Self::set).
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// All three, one after the other.
    text: String,
    seq_at: usize,
    epoch_at: usize,
    /// The clock was set.
    has_time: bool,
    /// The message was counted.
    has_number: bool,
}

impl Stamp {
    /// Says it of this message of a rule.
    pub(super) fn set(&mut self, rule: &str, head: &Peeked) {
        self.write(rule, head.message.received_at.shifted(head.shift), head.number);
    }

    fn write(&mut self, rule: &str, time: Wall, number: Number) {
        let text = &mut self.text;
        text.clear();
        (self.has_time, self.has_number) = (time >= NEVER_SET, number.count() != 0);
        // Writing to a string cannot fail.
        write!(text, "{}", if self.has_time { time.as_millis() } else { 0 }).unwrap_or_default();
        self.seq_at = text.len();
        write!(text, "{}", number.count()).unwrap_or_default();
        self.epoch_at = text.len();
        write!(text, "{:08x}.{rule}", number.epoch()).unwrap_or_default();
    }

    /// For a topic that has room for them. What is not known is 0.
    pub(super) fn fields(&self) -> Fields<'_> {
        let (time, rest) = self.text.split_at(self.seq_at);
        let (seq, epoch) = rest.split_at(self.epoch_at - self.seq_at);
        Fields { time, seq, epoch: if self.has_number { epoch } else { "0" } }
    }

    /// Name and value of what is known.
    pub(super) fn said(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Fields { time, seq, epoch } = self.fields();
        let [time_name, seq_name, epoch_name] = Fields::NAMES;
        let time = self.has_time.then_some((time_name, time));
        let number = self.has_number.then_some([(seq_name, seq), (epoch_name, epoch)]);
        time.into_iter().chain(number.into_iter().flatten())
    }

    /// Appends it as user properties.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for said in self.said() {
            let said = [said];
            let properties = PublishProperties { user_properties: said.as_slice().into(), ..Default::default() };
            properties.forwarded(out);
        }
    }
}

/// One that was set, for tests.
#[cfg(test)]
pub(super) fn stamp(rule: &str, millis: u64, count: u32) -> Stamp {
    let mut stamp = Stamp::default();
    stamp.write(rule, Wall::from_millis(millis), Number::new(0x5f3a_9c01, count));
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_said_and_is_0_in_a_topic() {
        let all = stamp("r", NEVER_SET.as_millis(), 7);
        let said: Vec<_> = all.said().collect();
        assert_eq!(said, [("mw-time", "1704067200000"), ("mw-seq", "7"), ("mw-epoch", "5f3a9c01.r")]);
        let young = stamp("r", NEVER_SET.as_millis() - 1, 7);
        assert_eq!((young.said().count(), young.fields().time, young.fields().seq), (2, "0", "7"));
        let uncounted = stamp("r", NEVER_SET.as_millis(), 0);
        let fields = uncounted.fields();
        assert_eq!((uncounted.said().count(), fields.seq, fields.epoch), (1, "0", "0"));
    }
}
