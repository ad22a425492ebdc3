//! What is on its way to one upstream, by packet identifier, and which identifiers are free.
//!
//! Identifiers below [`FIRST_FIXED_PKID`] are ours to give; those of QoS 2 messages come with the message. The table
//! outlives the link: a resumed session expects unacknowledged messages again under their old identifiers
//! [MQTT-4.4.0-1], so these are kept and not given to anything else.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::bridge::port::FIRST_FIXED_PKID;
use crate::mqtt::QoS;
use crate::queue::Seq;

/// What an identifier stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flight {
    /// A message of a rule, sent: PUBACK or PUBREC comes next.
    Message { rule: usize, seq: Seq, qos: QoS },
    /// The same, but sent on an earlier link and not yet again on this one.
    Again { rule: usize, seq: Seq, qos: QoS },
    /// PUBREC came; the store settles it, then PUBREL leaves.
    Releasing { rule: usize, seq: Seq },
    /// PUBREL was sent: PUBCOMP comes next.
    Released { rule: usize },
    /// The link state.
    Status,
    /// SUBSCRIBE for `count` in-rules from `first`: SUBACK comes next.
    Subscribe { first: usize, count: usize },
}

impl Flight {
    /// Whether it takes a place in the window [MQTT-3.3.4-9], until PUBACK, PUBCOMP or a PUBREC that refuses.
    const fn fills_window(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Releasing { .. } | Self::Released { .. } | Self::Status)
    }

    /// Whether it is the upstream's turn.
    const fn awaits_upstream(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Released { .. } | Self::Status | Self::Subscribe { .. })
    }
}

/// In place of a rule that is no more.
const NO_RULE: usize = usize::MAX;

/// The table of one upstream.
#[derive(Debug)]
pub(super) struct Flights {
    by_pkid: HashMap<u16, Flight, FixedState>,
    /// Where to find [`Flight::Again`] when its message comes out of the queue.
    again: BTreeMap<(usize, Seq), u16>,
    last_pkid: u16,
    in_window: usize,
    awaited: usize,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            by_pkid: HashMap::with_hasher(FixedState::default()),
            again: BTreeMap::new(),
            last_pkid: 0,
            in_window: 0,
            awaited: 0,
        }
    }

    /// How many places of the window are taken.
    pub(super) fn in_window(&self) -> usize {
        self.in_window
    }

    /// Whether anything waits for the upstream.
    pub(super) fn awaits_upstream(&self) -> bool {
        self.awaited > 0
    }

    pub(super) fn get(&self, pkid: u16) -> Option<Flight> {
        self.by_pkid.get(&pkid).copied()
    }

    /// Puts `flight` under `pkid`, in the place of what was there.
    pub(super) fn set(&mut self, pkid: u16, flight: Flight) {
        self.in_window += usize::from(flight.fills_window());
        self.awaited += usize::from(flight.awaits_upstream());
        if let Some(before) = self.by_pkid.insert(pkid, flight) {
            self.forget(before);
        }
    }

    /// Frees `pkid`.
    pub(super) fn remove(&mut self, pkid: u16) {
        if let Some(before) = self.by_pkid.remove(&pkid) {
            self.forget(before);
        }
    }

    fn forget(&mut self, before: Flight) {
        self.in_window -= usize::from(before.fills_window());
        self.awaited -= usize::from(before.awaits_upstream());
        if let Flight::Again { rule, seq, .. } = before {
            self.again.remove(&(rule, seq));
        }
    }

    /// A free identifier of ours. `None` if all are taken.
    pub(super) fn free_pkid(&mut self) -> Option<u16> {
        for _ in 1..FIRST_FIXED_PKID {
            self.last_pkid = if self.last_pkid + 1 < FIRST_FIXED_PKID { self.last_pkid + 1 } else { 1 };
            if !self.by_pkid.contains_key(&self.last_pkid) {
                return Some(self.last_pkid);
            }
        }
        None
    }

    /// Keeps `pkid` for a message that must be sent again.
    pub(super) fn keep(&mut self, pkid: u16, rule: usize, seq: Seq, qos: QoS) {
        self.set(pkid, Flight::Again { rule, seq, qos });
        self.again.insert((rule, seq), pkid);
    }

    /// The identifier under which this message was sent on an earlier link of the session.
    pub(super) fn again(&self, rule: usize, seq: Seq) -> Option<u16> {
        self.again.get(&(rule, seq)).copied()
    }

    /// Takes out a message of `rule` that was sent on an earlier link and lay before `seq` in its queue. The queue
    /// hands out messages in order, so it is no longer there: it expired, was evicted or buried.
    pub(super) fn take_vanished(&mut self, rule: usize, seq: Seq) -> Option<(u16, QoS)> {
        let (_, pkid) = self.again.range((rule, Seq(0))..(rule, seq)).next()?;
        let pkid = *pkid;
        let Some(Flight::Again { qos, .. }) = self.get(pkid) else { return None };
        self.remove(pkid);
        Some((pkid, qos))
    }

    /// The oldest message of `rule` on its way.
    pub(super) fn oldest(&self, rule: usize) -> Option<Seq> {
        let of_rule = self.by_pkid.values().filter_map(|flight| match flight {
            Flight::Message { rule: whose, seq, .. } if *whose == rule => Some(*seq),
            _ => None,
        });
        of_rule.min()
    }

    /// Identifiers whose PUBREL was sent and not answered, in ascending order.
    pub(super) fn released(&self) -> Vec<u16> {
        let mut pkids: Vec<u16> = self
            .by_pkid
            .iter()
            .filter(|(_, flight)| matches!(flight, Flight::Released { .. }))
            .map(|(pkid, _)| *pkid)
            .collect();
        pkids.sort_unstable();
        pkids
    }

    /// The link is gone; the session may be resumed.
    pub(super) fn link_ended(&mut self) {
        let sent: Vec<(u16, Flight)> = self.by_pkid.iter().map(|(pkid, flight)| (*pkid, *flight)).collect();
        for (pkid, flight) in sent {
            match flight {
                Flight::Message { rule, seq, qos } => self.keep(pkid, rule, seq, qos),
                Flight::Status | Flight::Subscribe { .. } => self.remove(pkid),
                Flight::Again { .. } | Flight::Releasing { .. } | Flight::Released { .. } => {}
            }
        }
    }

    /// The rules have other numbers now, by their old ones, or are no more. Called between two links.
    ///
    /// The identifier of a QoS 2 message of a rule that is no more may be known to the upstream, and would hide a later
    /// message that is given it: PUBREL frees it there.
    pub(super) fn renumber(&mut self, places: &[Option<usize>]) {
        let place = |rule: usize| places.get(rule).copied().flatten();
        let before: Vec<(u16, Flight)> = self.by_pkid.iter().map(|(pkid, flight)| (*pkid, *flight)).collect();
        self.session_lost();
        for (pkid, flight) in before {
            match flight {
                Flight::Again { rule, seq, qos } => match place(rule) {
                    Some(rule) => self.keep(pkid, rule, seq, qos),
                    None if qos == QoS::ExactlyOnce => self.set(pkid, Flight::Released { rule: NO_RULE }),
                    None => {}
                },
                Flight::Releasing { rule, seq } => {
                    self.set(pkid, Flight::Releasing { rule: place(rule).unwrap_or(NO_RULE), seq });
                }
                Flight::Released { rule } => {
                    self.set(pkid, Flight::Released { rule: place(rule).unwrap_or(NO_RULE) });
                }
                Flight::Message { .. } | Flight::Status | Flight::Subscribe { .. } => {}
            }
        }
    }

    /// The upstream forgot the session: all identifiers are free.
    pub(super) fn session_lost(&mut self) {
        *self = Self { last_pkid: self.last_pkid, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Flight = Flight::Message { rule: 1, seq: Seq(9), qos: QoS::AtLeastOnce };

    #[test]
    fn identifiers_are_ours_in_turn_and_never_one_that_is_taken() {
        let mut flights = Flights::new();
        flights.set(2, MESSAGE);
        assert_eq!([flights.free_pkid(), flights.free_pkid()], [Some(1), Some(3)]);
        flights.last_pkid = FIRST_FIXED_PKID - 1;
        assert_eq!(flights.free_pkid(), Some(1));
        for pkid in 1..FIRST_FIXED_PKID {
            flights.set(pkid, Flight::Status);
        }
        assert_eq!(flights.free_pkid(), None);
    }

    #[test]
    fn the_window_counts_messages_until_they_are_complete() {
        let mut flights = Flights::new();
        flights.set(0x8000, MESSAGE);
        flights.set(7, Flight::Subscribe { first: 0, count: 1 });
        assert_eq!((flights.in_window(), flights.awaits_upstream()), (1, true));
        flights.remove(7);
        flights.set(0x8000, Flight::Releasing { rule: 1, seq: Seq(9) });
        assert_eq!((flights.in_window(), flights.awaits_upstream()), (1, false), "the store's turn");
        flights.set(0x8000, Flight::Released { rule: 1 });
        assert_eq!((flights.in_window(), flights.awaits_upstream()), (1, true));
        flights.remove(0x8000);
        assert_eq!((flights.in_window(), flights.awaits_upstream()), (0, false));
    }

    #[test]
    fn after_a_lost_link_a_message_finds_its_old_identifier_and_nothing_else_gets_it() {
        let mut flights = Flights::new();
        flights.set(1, MESSAGE);
        flights.set(2, Flight::Status);
        flights.link_ended();
        assert_eq!((flights.again(1, Seq(9)), flights.in_window()), (Some(1), 0));
        assert_eq!(flights.free_pkid(), Some(2), "1 is kept, the link state is forgotten");
        flights.session_lost();
        assert_eq!((flights.again(1, Seq(9)), flights.free_pkid()), (None, Some(3)));
    }

    #[test]
    fn when_rules_change_those_that_stay_keep_their_identifiers_and_others_are_freed_upstream() {
        let mut flights = Flights::new();
        let qos = QoS::ExactlyOnce;
        for (pkid, rule) in [(0x8000, 0), (0x8001, 1)] {
            flights.set(pkid, Flight::Message { rule, seq: Seq(9), qos });
        }
        flights.set(3, Flight::Message { rule: 0, seq: Seq(8), qos: QoS::AtLeastOnce });
        flights.set(0x8002, Flight::Releasing { rule: 1, seq: Seq(7) });
        flights.link_ended();
        // The first is no more, the second is the first now.
        flights.renumber(&[None, Some(0)]);
        assert_eq!((flights.again(0, Seq(9)), flights.get(3)), (Some(0x8001), None));
        assert_eq!(flights.get(0x8002), Some(Flight::Releasing { rule: 0, seq: Seq(7) }));
        assert_eq!((flights.released(), flights.in_window()), (vec![0x8000], 2));
    }

    #[test]
    fn a_message_that_left_the_queue_is_noticed_when_a_later_one_comes() {
        let mut flights = Flights::new();
        flights.set(1, MESSAGE);
        flights.set(4, Flight::Message { rule: 2, seq: Seq(3), qos: QoS::ExactlyOnce });
        flights.link_ended();
        assert_eq!(flights.take_vanished(1, Seq(9)), None, "itself");
        assert_eq!(flights.take_vanished(1, Seq(10)), Some((1, QoS::AtLeastOnce)));
        assert_eq!(flights.take_vanished(1, Seq(10)), None);
        assert_eq!(flights.again(2, Seq(3)), Some(4), "another rule's is not touched");
    }
}
