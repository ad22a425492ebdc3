//! Replies that wait for the store, kept in the order of the requests [MQTT-4.6.0-2], [MQTT-4.6.0-3].

use std::collections::VecDeque;

/// One reply: its bytes once they may be sent.
#[derive(Debug)]
struct Reply {
    bytes: ReplyBytes,
    settled: bool,
    /// The last answer to a PUBLISH of QoS 1 or 2.
    is_last: bool,
}

/// Most replies are four octets: no allocation for those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyBytes {
    Short([u8; 8], u8),
    Long(Vec<u8>),
}

impl ReplyBytes {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut short = [0; 8];
        match short.get_mut(..bytes.len()) {
            Some(head) => {
                head.copy_from_slice(bytes);
                Self::Short(short, bytes.len().try_into().unwrap_or(0))
            }
            None => Self::Long(bytes.to_vec()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(bytes, len) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

/// Numbers travel in 28 bits of a token.
const NUMBER_MASK: u32 = 0xFFF_FFFF;

/// The replies of one connection.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: VecDeque<Reply>,
    /// Number of the first one that waits.
    first: u32,
}

impl Acks {
    /// Adds a reply that waits, and gives its number.
    pub(crate) fn push(&mut self, bytes: ReplyBytes, is_last: bool) -> u32 {
        self.add(bytes, false, is_last)
    }

    /// Adds a reply that waits only for those before it.
    pub(crate) fn push_settled(&mut self, bytes: ReplyBytes, is_last: bool) {
        self.add(bytes, true, is_last);
    }

    fn add(&mut self, bytes: ReplyBytes, settled: bool, is_last: bool) -> u32 {
        let number = self.next_number();
        self.waiting.push_back(Reply { bytes, settled, is_last });
        number
    }

    /// The number that the next reply gets.
    pub(crate) fn next_number(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX))
    }

    /// What this reply waited for is safe.
    pub(crate) fn settle(&mut self, number: u32) {
        let index = (number.wrapping_sub(self.first) & NUMBER_MASK) as usize;
        if let Some(reply) = self.waiting.get_mut(index) {
            reply.settled = true;
        }
    }

    /// The next reply that may be sent, and whether it is the last answer to a PUBLISH.
    pub(crate) fn pop(&mut self) -> Option<(ReplyBytes, bool)> {
        let reply = self.waiting.pop_front_if(|reply| reply.settled)?;
        self.first = self.first.wrapping_add(1);
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
        Some((reply.bytes, reply.is_last))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_the_order_of_the_requests() {
        let mut acks = Acks::default();
        let first = acks.push(ReplyBytes::new(b"1"), true);
        let second = acks.push(ReplyBytes::new(b"2222222222"), false);
        acks.push_settled(ReplyBytes::new(b"3"), true);
        acks.settle(second);
        assert!(acks.pop().is_none());
        acks.settle(first);
        let sent: Vec<u8> =
            std::iter::from_fn(|| acks.pop()).flat_map(|(bytes, _)| bytes.as_slice().to_vec()).collect();
        assert_eq!(sent, b"122222222223");
        acks.settle(first);
        assert!(acks.is_empty());
    }
}
