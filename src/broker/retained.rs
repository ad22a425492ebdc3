//! Retained messages: the last one of each topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Limit;
use crate::mqtt::{Message, topic};
use crate::time::Wall;

/// The retained messages, bounded by number and bytes.
#[derive(Debug)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl Retained {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { by_topic: BTreeMap::new(), bytes: 0, max_messages, max_bytes }
    }

    /// From now on these limits hold.
    pub(crate) fn configure(&mut self, max_messages: usize, max_bytes: usize) {
        (self.max_messages, self.max_bytes) = (max_messages, max_bytes);
    }

    /// Whether the message could be kept: it deletes, replaces, or finds room. What was kept before a limit was
    /// lowered stays, and may be replaced by what is not larger.
    pub(crate) fn check_room(&self, topic: &str, payload_is_empty: bool, cost: usize) -> Result<(), Limit> {
        if payload_is_empty {
            return Ok(());
        }
        let old = self.by_topic.get(topic).map(|old| old.cost());
        if old.is_none() && self.by_topic.len() >= self.max_messages {
            return Err(Limit::RetainedMessages);
        }
        let old = old.unwrap_or(0);
        if cost > old && self.bytes - old + cost > self.max_bytes {
            return Err(Limit::RetainedBytes);
        }
        Ok(())
    }

    /// Keeps the message for its topic; an empty payload deletes what is there [MQTT-3.3.1-6]. True when that
    /// changed anything.
    pub(crate) fn set(&mut self, message: &Arc<Message>) -> bool {
        if message.payload().is_empty() {
            return self.remove(message.topic());
        }
        self.bytes += message.cost();
        if let Some(old) = self.by_topic.insert(message.topic().into(), Arc::clone(message)) {
            self.bytes -= old.cost();
        }
        true
    }

    pub(crate) fn remove(&mut self, topic: &str) -> bool {
        let Some(old) = self.by_topic.remove(topic) else { return false };
        self.bytes -= old.cost();
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The messages that the filter matches and that are not expired, in order of topic.
    pub(crate) fn matching(&self, filter: &str, wall: Wall) -> Vec<Arc<Message>> {
        // Only topics that begin like the filter does, up to its first wildcard, can match.
        let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
        // `a/#` matches `a` as well, which sorts before `a/`.
        let prefix = filter[..wildcard].strip_suffix('/').unwrap_or(&filter[..wildcard]);
        let candidates =
            self.by_topic.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        candidates
            .take_while(|(topic, _)| topic.starts_with(prefix))
            .filter(|(name, message)| topic::matches(filter, name) && !message.is_expired(wall))
            .map(|(_, message)| Arc::clone(message))
            .collect()
    }

    /// Topics whose message is past its expiry.
    pub(crate) fn expired(&self, wall: Wall) -> Vec<Box<str>> {
        let expired = self.by_topic.iter().filter(|(_, message)| message.is_expired(wall));
        expired.map(|(topic, _)| topic.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{MessageParts, QoS};

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message::new(MessageParts {
            topic,
            properties: &[],
            payload: payload.as_bytes(),
            qos: QoS::AtMostOnce,
            retain: true,
            received_at: Wall::default(),
            expires_at: None,
        }))
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        retained.matching(filter, Wall::default()).iter().map(|message| message.topic().to_owned()).collect()
    }

    #[test]
    fn a_filter_finds_its_topics_and_no_others() {
        let mut retained = Retained::new(10, 1 << 20);
        for topic in ["a", "a/b", "a/b/c", "ab", "$SYS/x", "/a"] {
            assert!(retained.set(&message(topic, "1")));
        }
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&retained, "a/+"), ["a/b"]);
        assert_eq!(topics(&retained, "+"), ["a", "ab"]);
        assert_eq!(topics(&retained, "#"), ["/a", "a", "a/b", "a/b/c", "ab"]);
        assert_eq!(topics(&retained, "$SYS/#"), ["$SYS/x"]);
        assert_eq!(topics(&retained, "a"), ["a"]);
    }

    #[test]
    fn what_was_kept_before_the_limits_were_lowered_may_be_replaced_but_not_grow() {
        let mut retained = Retained::new(0, 0);
        retained.set(&message("a", "12"));
        let cost = message("a", "12").cost();
        assert_eq!(retained.check_room("a", false, cost), Ok(()));
        assert_eq!(retained.check_room("a", false, cost + 1), Err(Limit::RetainedBytes));
        assert_eq!(retained.check_room("b", false, cost), Err(Limit::RetainedMessages));
    }

    #[test]
    fn limits_hold_to_the_message_and_an_empty_payload_makes_room() {
        let cost = message("a", "1").cost();
        let mut retained = Retained::new(1, cost);
        assert_eq!(retained.check_room("a", false, cost), Ok(()));
        assert_eq!(retained.check_room("a", false, cost + 1), Err(Limit::RetainedBytes));
        retained.set(&message("a", "1"));
        assert_eq!(retained.check_room("a", false, cost), Ok(()), "it replaces itself");
        assert_eq!(retained.check_room("b", false, cost), Err(Limit::RetainedMessages));
        assert!(retained.set(&message("a", "")));
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
        assert!(!retained.set(&message("a", "")));
    }
}
