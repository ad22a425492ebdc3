//! Who a message is from: the link, the address on it, and behind a forwarder the wireless node.

use std::net::SocketAddr;

use foldhash::fast::FixedState;
use hashbrown::{Equivalent, HashMap};

use crate::config::LinkId;
use crate::time::{Duration, Instant};

/// One end of a radio conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) link: LinkId,
    /// `None` on a serial line, which has only one far end.
    pub(super) addr: Option<SocketAddr>,
    /// The wireless node behind a forwarder (MQTT-SN 5.5).
    pub(super) node: Option<Box<[u8]>>,
}

impl Peer {
    pub(super) fn as_ref(&self) -> PeerRef<'_> {
        PeerRef { link: self.link, addr: self.addr, node: self.node.as_deref() }
    }
}

/// A [`Peer`] as it lies in a datagram, so that looking it up allocates nothing. Hashes like a `Peer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PeerRef<'a> {
    pub(super) link: LinkId,
    pub(super) addr: Option<SocketAddr>,
    pub(super) node: Option<&'a [u8]>,
}

impl PeerRef<'_> {
    pub(super) fn to_owned(self) -> Peer {
        Peer { link: self.link, addr: self.addr, node: self.node.map(Box::from) }
    }

    /// For a notice.
    pub(super) fn describe(self) -> String {
        let addr = self.addr.map_or_else(|| format!("link {}", self.link.0), |addr| addr.to_string());
        match self.node {
            None => addr,
            Some(node) => node.iter().fold(addr + " node ", |text, octet| format!("{text}{octet:02x}")),
        }
    }
}

impl Equivalent<Peer> for PeerRef<'_> {
    fn equivalent(&self, key: &Peer) -> bool {
        key.as_ref() == *self
    }
}

/// One DISCONNECT per stranger in this time.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);

/// So many strangers in that time; the rest hears nothing.
const MAX_STRANGERS: usize = 256;

/// Who was told lately to connect first. A bound on our answers to traffic that may be forged.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    told_at: HashMap<Peer, Instant, FixedState>,
}

impl Strangers {
    /// Whether this one may be answered now.
    pub(super) fn may_tell(&mut self, now: Instant, peer: PeerRef<'_>) -> bool {
        if let Some(told_at) = self.told_at.get_mut(&peer) {
            let due = now.since(*told_at) >= STRANGER_INTERVAL;
            if due {
                *told_at = now;
            }
            return due;
        }
        if self.told_at.len() >= MAX_STRANGERS {
            self.told_at.retain(|_, told_at| now.since(*told_at) < STRANGER_INTERVAL);
        }
        let room = self.told_at.len() < MAX_STRANGERS;
        if room {
            self.told_at.insert(peer.to_owned(), now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    fn peer(port: u16) -> Peer {
        Peer { link: LinkId(1), addr: Some(([127, 0, 0, 1], port).into()), node: None }
    }

    #[test]
    fn a_borrowed_peer_hashes_like_an_owned_one() {
        let owned = Peer { node: Some([1, 2].into()), ..peer(1) };
        let state = FixedState::default();
        for peer in [owned, peer(1)] {
            assert_eq!(state.hash_one(&peer), state.hash_one(peer.as_ref()));
        }
    }

    #[test]
    fn a_stranger_is_told_once_a_second_and_the_table_is_bounded() {
        let mut strangers = Strangers::default();
        let at = |millis: u64| Instant::from_micros(millis * 1000);
        assert!(strangers.may_tell(at(0), peer(1).as_ref()));
        assert!(!strangers.may_tell(at(999), peer(1).as_ref()));
        assert!(strangers.may_tell(at(1000), peer(1).as_ref()));
        let told = (2..1000).filter(|port| strangers.may_tell(at(1000), peer(*port).as_ref())).count();
        assert_eq!(told, MAX_STRANGERS - 1);
        assert!(strangers.may_tell(at(2000), peer(5000).as_ref()));
    }
}
