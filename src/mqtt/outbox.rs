//! Bytes on their way to one connection, gathered during a turn and written at its end.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::mqtt::Message;

/// A payload this long is shared with the message instead of copied.
const SHARE_FROM: usize = 2048;

/// Less than this is not worth moving what follows it.
const TRIM_FROM: usize = 4096;

#[derive(Debug)]
enum Piece {
    Owned(Vec<u8>),
    Payload(Arc<Message>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Payload(message) => message.payload(),
        }
    }
}

/// Bytes on their way to one connection. The core appends; the shell writes [`Outbox::slices`] and calls
/// [`Outbox::consume`] with what the socket took. An empty outbox owns no memory; one that is never quite empty
/// owns at most twice what is not yet written, and a little.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What goes first. Most turns need no more than this one buffer.
    head: Vec<u8>,
    /// What follows, from the first shared payload on.
    rest: VecDeque<Piece>,
    /// Bytes of the first piece (`head`, or if that is empty the front of `rest`) that are already written.
    written: usize,
    len: usize,
    added: usize,
}

impl Outbox {
    /// Bytes not yet written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether all is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes appended since this was last asked.
    pub fn take_added(&mut self) -> usize {
        std::mem::take(&mut self.added)
    }

    /// The buffer to encode at the end of.
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.rest.is_empty() {
            return &mut self.head;
        }
        if !matches!(self.rest.back(), Some(Piece::Owned(_))) {
            self.rest.push_back(Piece::Owned(Vec::new()));
        }
        match self.rest.back_mut() {
            Some(Piece::Owned(tail)) => tail,
            _ => unreachable!("an owned piece was just pushed"),
        }
    }

    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
        self.grow(bytes.len());
    }

    fn grow(&mut self, by: usize) {
        self.len += by;
        self.added += by;
    }

    /// Lets `encode` append to the tail in place, without a second copy.
    pub fn put_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let tail = self.tail();
        let before = tail.len();
        encode(tail);
        let added = tail.len() - before;
        self.grow(added);
    }

    /// Appends a message's payload: copied when short, shared when long.
    pub fn put_payload(&mut self, message: &Arc<Message>) {
        if message.payload().len() < SHARE_FROM {
            self.put(message.payload());
        } else {
            self.rest.push_back(Piece::Payload(Arc::clone(message)));
            self.grow(message.payload().len());
        }
    }

    /// Fills `slices` with the next bytes to write and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let head = (!self.head.is_empty()).then_some(self.head.as_slice());
        let pieces = head.into_iter().chain(self.rest.iter().map(Piece::bytes));
        let mut filled = 0;
        for (slot, bytes) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(if filled == 0 { &bytes[self.written..] } else { bytes });
            filled += 1;
        }
        filled
    }

    /// Drops `count` bytes from the front: the socket has them.
    ///
    /// # Panics
    /// If `count` is more than [`Outbox::len`].
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len, "consumed more than was queued");
        self.len -= count;
        if self.len == 0 {
            *self = Self { added: self.added, ..Self::default() };
            return;
        }
        self.written += count;
        if self.written < self.head.len() {
            trim(&mut self.head, &mut self.written);
            return;
        }
        self.written -= self.head.len();
        self.head = Vec::new();
        while let Some(piece) = self.rest.front_mut() {
            if self.written < piece.bytes().len() {
                if let Piece::Owned(bytes) = piece {
                    trim(bytes, &mut self.written);
                }
                return;
            }
            self.written -= piece.bytes().len();
            self.rest.pop_front();
        }
    }
}

/// Gives back the room of what is written, when that is more than half: so no more is moved than was written.
fn trim(bytes: &mut Vec<u8>, written: &mut usize) {
    if *written >= TRIM_FROM && *written > bytes.len() / 2 {
        bytes.drain(..*written);
        bytes.shrink_to(bytes.len() * 2);
        *written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{MessageParts, QoS};
    use crate::time::Wall;

    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let n = outbox.slices(&mut slices);
            let bytes: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).collect();
            let took = step.min(bytes.len());
            out.extend_from_slice(&bytes[..took]);
            outbox.consume(took);
        }
        out
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_whatever_the_socket_takes() {
        let long = Arc::new(Message::new(MessageParts {
            topic: "t",
            properties: &[],
            payload: &[7; SHARE_FROM],
            qos: QoS::AtMostOnce,
            retain: false,
            received_at: Wall::default(),
            expires_at: None,
        }));
        for step in [1, 3, 1000, 100_000] {
            let mut outbox = Outbox::default();
            outbox.put(b"abc");
            outbox.put_payload(&long);
            outbox.put_with(|tail| tail.extend_from_slice(b"def"));
            assert_eq!(outbox.len(), 6 + SHARE_FROM);
            let out = drain(&mut outbox, step);
            assert_eq!(out, [b"abc".as_slice(), &[7; SHARE_FROM], b"def"].concat());
        }
    }
    #[test]
    fn an_outbox_that_is_never_empty_does_not_grow() {
        let mut outbox = Outbox::default();
        outbox.put(&[1; 10_000]);
        for _ in 0..1000 {
            outbox.put(&[2; 1000]);
            outbox.consume(1000);
        }
        assert_eq!(outbox.len(), 10_000);
        assert!(outbox.head.capacity() < 100_000, "{}", outbox.head.capacity());
        outbox.consume(10_000);
        assert_eq!(outbox.head.capacity(), 0);
    }
}
