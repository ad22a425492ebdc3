//! Book-keeping of what arrived: its order, and what is still on its way.

use std::ops::Range;

/// The next sequence number that each stream (one publisher at one receiver) should bring.
pub(crate) struct Order {
    next: Vec<u32>,
    /// Came after a later one of the same stream, or a second time.
    pub(crate) late: u64,
}

impl Order {
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: vec![0; streams], late: 0 }
    }

    /// Notes one message; returns the sequence numbers that the stream has now passed, empty when it came late.
    pub(crate) fn receive(&mut self, stream: usize, seq: u32) -> Range<u32> {
        let next = &mut self.next[stream];
        if seq < *next {
            self.late += 1;
            return 0..0;
        }
        let passed = *next..seq + 1;
        *next = passed.end;
        passed
    }
}

/// One publisher's messages on their way to its receivers. A sequence number is settled when every receiver has passed
/// it and all before it; so the slowest receiver holds the publisher back and nothing needs to be dropped.
pub(crate) struct Window {
    receivers: u32,
    arrivals: Vec<u32>,
    settled: u32,
}

impl Window {
    /// At most `size` messages will be unsettled at a time.
    pub(crate) fn new(receivers: u32, size: u32) -> Self {
        let slots = usize::try_from(size).unwrap_or(usize::MAX).next_power_of_two();
        Self { receivers, arrivals: vec![0; slots], settled: 0 }
    }

    /// One receiver has passed these numbers; true when that settled any.
    pub(crate) fn pass(&mut self, seqs: Range<u32>) -> bool {
        for seq in seqs {
            *self.slot(seq) += 1;
        }
        let before = self.settled;
        while *self.slot(self.settled) == self.receivers {
            *self.slot(self.settled) = 0;
            self.settled += 1;
        }
        self.settled != before
    }

    /// How many messages, from the first, every receiver has.
    pub(crate) fn settled(&self) -> u32 {
        self.settled
    }

    fn slot(&mut self, seq: u32) -> &mut u32 {
        let mask = self.arrivals.len() - 1;
        &mut self.arrivals[usize::try_from(seq).unwrap_or_default() & mask]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_is_counted_and_passes_nothing() {
        let mut order = Order::new(2);
        assert_eq!(order.receive(0, 0), 0..1);
        assert_eq!(order.receive(0, 2), 1..3, "1 was skipped");
        assert_eq!(order.receive(0, 1), 0..0);
        assert_eq!(order.late, 1);
        assert_eq!(order.receive(1, 0), 0..1, "streams are apart");
    }

    #[test]
    fn the_slowest_receiver_settles_a_window() {
        let mut window = Window::new(2, 3);
        assert!(!window.pass(0..3));
        assert!(window.pass(0..1));
        assert_eq!(window.settled(), 1);
        assert!(window.pass(1..3));
        assert!(!window.pass(3..5));
        assert!(window.pass(3..4));
        assert_eq!(window.settled(), 4);
    }
}
