//! Says when a message was measured, and lets the receiver find gaps and copies.
//!
//! In 5.0 these are user properties after those of the publisher. They are the same each time a message is sent, but for
//! the time: that is put right when the clock is set.

use std::fmt::Write;

use crate::mqtt::PublishProperties;
use crate::queue::Peeked;
use crate::time::Wall;

/// Milliseconds since 1970, when the message reached the gateway.
const TIME: &str = "mw-time";
/// Its number in the books of its rule.
const SEQ: &str = "mw-seq";
/// Which books.
const EPOCH: &str = "mw-epoch";

/// 2024-01-01: a clock that shows less was never set.
const NEVER_SET: Wall = Wall::from_millis(1_704_067_200_000);

/// Appends the user properties to those of the publisher. `text` is room to write in.
pub(super) fn put(rule: &str, head: &Peeked, text: &mut String, out: &mut Vec<u8>) {
    let (time, number) = (head.message.received_at.shifted(head.shift), head.number);
    text.clear();
    // Writing to a string cannot fail.
    write!(text, "{}", time.as_millis()).unwrap_or_default();
    let seq_at = text.len();
    write!(text, "{}", number.count()).unwrap_or_default();
    let epoch_at = text.len();
    write!(text, "{:08x}.{rule}", number.epoch()).unwrap_or_default();
    let said = [(TIME, &text[..seq_at]), (SEQ, &text[seq_at..epoch_at]), (EPOCH, &text[epoch_at..])];
    let from = usize::from(time < NEVER_SET);
    let to = if number.count() == 0 { 1 } else { 3 };
    let properties =
        PublishProperties { user_properties: said.get(from..to).unwrap_or_default().into(), ..Default::default() };
    properties.forwarded(out);
}
