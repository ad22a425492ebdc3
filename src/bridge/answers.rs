//! Answers to what the upstream sent: given when it is safe here, in the order in which it came.
//!
//! PUBACK, PUBREC and PUBCOMP leave in the order of what they answer [MQTT-4.6.0-2], [MQTT-4.6.0-3], so one that waits
//! for the store holds back those behind it. Waiting ones are numbered without a gap, so a number finds its place at
//! once and costs no memory; numbers of an earlier link find nothing.

use std::collections::VecDeque;

use crate::mqtt::{Outbox, PubAck, PubComp, PubRec, QoS, ReasonCode, Version};

/// Which packet is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// PUBACK, to PUBLISH at QoS 1.
    Ack,
    /// PUBREC, to PUBLISH at QoS 2.
    Rec,
    /// PUBCOMP, to PUBREL.
    Comp,
}

impl Kind {
    /// The answer to a PUBLISH, if it gets one.
    pub(super) const fn of(qos: QoS) -> Option<Self> {
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Self::Ack),
            QoS::ExactlyOnce => Some(Self::Rec),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The store has not settled it.
    Waiting,
    /// Go, with this reason.
    Ready(ReasonCode),
    /// Never: 3.1.1 has no way to refuse, so the upstream keeps the message and sends it again on the next link.
    Withheld,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    kind: Kind,
    pkid: u16,
    state: State,
}

/// The answers of one upstream that have not left.
#[derive(Debug)]
pub(super) struct Answers {
    queue: VecDeque<Answer>,
    /// The number of the first answer in the queue.
    first: u64,
}

impl Answers {
    /// A number that no answer ever has, for what needs no answer.
    pub(super) const NOBODY: u64 = 0;

    pub(super) const fn new() -> Self {
        Self { queue: VecDeque::new(), first: Self::NOBODY + 1 }
    }

    /// The number that the next answer will have if it must wait.
    pub(super) fn next(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds an answer that must wait for the store.
    pub(super) fn wait(&mut self, kind: Kind, pkid: u16) {
        self.queue.push_back(Answer { kind, pkid, state: State::Waiting });
    }

    /// Adds an answer that need not wait, except for its turn.
    pub(super) fn give(
        &mut self,
        kind: Kind,
        pkid: u16,
        reason: ReasonCode,
        version: Version,
        outbox: &mut Outbox,
    ) {
        if self.queue.is_empty() {
            put(kind, pkid, reason, version, outbox);
        } else {
            self.queue.push_back(Answer { kind, pkid, state: State::Ready(reason) });
        }
    }

    /// Settles the answer with this number; `None` withholds it. Then all whose turn it is leave.
    pub(super) fn settle(
        &mut self,
        number: u64,
        reason: Option<ReasonCode>,
        version: Version,
        outbox: &mut Outbox,
    ) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(answer) = place.and_then(|place| self.queue.get_mut(place)) else { return };
        if answer.state == State::Waiting {
            answer.state = reason.map_or(State::Withheld, State::Ready);
        }
        while let Some(Answer { kind, pkid, state }) = self.queue.front().copied() {
            match state {
                State::Waiting => return,
                State::Ready(reason) => put(kind, pkid, reason, version, outbox),
                State::Withheld => {}
            }
            self.queue.pop_front();
            self.first += 1;
        }
    }

    /// What kind of answer has this number, while it waits.
    pub(super) fn kind(&self, number: u64) -> Option<Kind> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.queue.get(place).filter(|answer| answer.state == State::Waiting).map(|answer| answer.kind)
    }

    /// The link is gone, and with it everybody who waited for an answer.
    pub(super) fn clear(&mut self) {
        self.first = self.next();
        self.queue = VecDeque::new();
    }
}

fn put(kind: Kind, pkid: u16, reason: ReasonCode, version: Version, outbox: &mut Outbox) {
    outbox.put_with(|out| match kind {
        Kind::Ack => PubAck::new(pkid, reason).encode(version, out),
        Kind::Rec => PubRec::new(pkid, reason).encode(version, out),
        Kind::Comp => PubComp::new(pkid, reason).encode(version, out),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;

    fn written(outbox: &mut Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 4];
        let n = outbox.slices(&mut slices);
        let bytes = slices[..n].iter().flat_map(|slice| slice.to_vec()).collect();
        outbox.consume(outbox.len());
        bytes
    }

    #[test]
    fn answers_leave_in_the_order_of_what_they_answer() {
        let (mut answers, mut outbox) = (Answers::new(), Outbox::default());
        let first = answers.next();
        answers.wait(Kind::Ack, 1);
        answers.give(Kind::Comp, 2, ReasonCode::Success, Version::V311, &mut outbox);
        let third = answers.next();
        answers.wait(Kind::Rec, 3);
        answers.settle(third, Some(ReasonCode::Success), Version::V311, &mut outbox);
        assert!(outbox.is_empty(), "the first holds all back");
        answers.settle(first, Some(ReasonCode::Success), Version::V311, &mut outbox);
        assert_eq!(written(&mut outbox), [0x40, 2, 0, 1, 0x70, 2, 0, 2, 0x50, 2, 0, 3]);
        assert_eq!(answers.len(), 0);
    }

    #[test]
    fn a_withheld_answer_does_not_hold_back_the_next() {
        let (mut answers, mut outbox) = (Answers::new(), Outbox::default());
        let first = answers.next();
        answers.wait(Kind::Ack, 1);
        answers.give(Kind::Ack, 2, ReasonCode::Success, Version::V311, &mut outbox);
        answers.settle(first, None, Version::V311, &mut outbox);
        assert_eq!(written(&mut outbox), [0x40, 2, 0, 2]);
    }

    #[test]
    fn numbers_of_an_earlier_link_settle_nothing() {
        let (mut answers, mut outbox) = (Answers::new(), Outbox::default());
        let old = answers.next();
        answers.wait(Kind::Ack, 1);
        answers.clear();
        answers.wait(Kind::Ack, 2);
        for number in [old, Answers::NOBODY, u64::MAX] {
            answers.settle(number, Some(ReasonCode::Success), Version::V311, &mut outbox);
        }
        assert!(outbox.is_empty());
        assert_eq!(answers.len(), 1);
    }
}
