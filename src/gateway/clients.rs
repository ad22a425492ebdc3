//! All clients, and the ways to find one: by client id, by peer, by session.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;

use crate::gateway::SessionId;
use crate::gateway::access::{Entry, Known};
use crate::gateway::client::{Client, State};
use crate::gateway::peers::{Peer, PeerRef};
use crate::time::Instant;

/// Where a client is kept. Used again after its client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

/// What a peer's binding to a client undid.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unbound {
    /// The client that had this peer before.
    pub(super) client: Option<Slot>,
    /// The peer that this client had before.
    pub(super) peer: Option<Peer>,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    slab: Slab<Client>,
    by_id: BTreeMap<Arc<str>, Slot>,
    by_peer: HashMap<Peer, Slot, FixedState>,
    by_session: HashMap<SessionId, Slot, FixedState>,
    max: usize,
}

impl Index<Slot> for Clients {
    type Output = Client;
    fn index(&self, slot: Slot) -> &Client {
        &self.slab[slot.0 as usize]
    }
}

impl IndexMut<Slot> for Clients {
    fn index_mut(&mut self, slot: Slot) -> &mut Client {
        &mut self.slab[slot.0 as usize]
    }
}

impl Clients {
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(u32::MAX as usize);
        Self {
            slab: Slab::new(),
            by_id: BTreeMap::new(),
            by_peer: HashMap::default(),
            by_session: HashMap::default(),
            max,
        }
    }

    /// What the configuration says of each client has changed.
    pub(super) fn set_known(&mut self, known: &Known) {
        for (_, client) in &mut self.slab {
            client.known = known.find(&client.id);
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.min(u32::MAX as usize);
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.slab.contains(slot.0 as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    #[inline]
    pub(super) fn by_peer(&self, peer: PeerRef<'_>) -> Option<Slot> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn by_session(&self, session: SessionId) -> Option<Slot> {
        self.by_session.get(&session).copied()
    }

    /// In order of client id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values().map(|slot| &self[*slot])
    }

    /// Whether another client has to wait until one goes.
    pub(super) fn is_full(&self) -> bool {
        self.slab.len() >= self.max
    }

    /// The client that is disconnected for the longest.
    pub(super) fn oldest_disconnected(&self) -> Option<Slot> {
        let since = |slot: &Slot| match self[*slot].state {
            State::Disconnected { since } => Some((since, *slot)),
            _ => None,
        };
        self.by_id.values().filter_map(since).min().map(|(_, slot)| slot)
    }

    /// Adds a client with an id that is not here yet.
    pub(super) fn insert(&mut self, id: &str, known: Option<Entry>, now: Instant) -> Slot {
        let id: Arc<str> = id.into();
        let key = self.slab.insert(Client::new(Arc::clone(&id), known, now));
        #[expect(clippy::expect_used, reason = "the limit on clients is configured, and is a u32")]
        let slot = Slot(u32::try_from(key).expect("no more clients than the limit, which fits"));
        self.by_id.insert(id, slot);
        slot
    }

    /// Forgets a client and all ways to it.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.unbind(slot);
        if let Some(session) = self[slot].session() {
            self.by_session.remove(&session);
        }
        let client = self.slab.remove(slot.0 as usize);
        self.by_id.remove(&client.id);
    }

    /// Gives the peer to the client; nobody else has it then.
    pub(super) fn bind(&mut self, slot: Slot, peer: PeerRef<'_>) -> Unbound {
        if self[slot].peer.as_ref().is_some_and(|bound| bound.as_ref() == peer) {
            return Unbound::default();
        }
        let other = self.by_peer(peer);
        if let Some(other) = other {
            self.unbind(other);
        }
        let left = self.unbind(slot);
        self.by_peer.insert(peer.to_owned(), slot);
        self[slot].peer = Some(peer.to_owned());
        Unbound { client: other, peer: left }
    }

    /// Takes the peer from the client.
    pub(super) fn unbind(&mut self, slot: Slot) -> Option<Peer> {
        let peer = self[slot].peer.take()?;
        self.by_peer.remove(&peer);
        Some(peer)
    }

    /// Sets the state, and the way from its session.
    pub(super) fn set_state(&mut self, slot: Slot, state: State) -> State {
        let before = self[slot].session();
        let old = std::mem::replace(&mut self[slot].state, state);
        let after = self[slot].session();
        if before != after {
            if let Some(session) = before {
                self.by_session.remove(&session);
            }
            if let Some(session) = after {
                self.by_session.insert(session, slot);
            }
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LinkId;

    #[test]
    fn a_peer_belongs_to_one_client_and_a_client_to_one_peer() {
        let peer = |port| Peer { link: LinkId(0), addr: Some(([127, 0, 0, 1], port).into()), node: None };
        let mut clients = Clients::new(9);
        let a = clients.insert("a", None, Instant::ZERO);
        let b = clients.insert("b", None, Instant::ZERO);
        assert_eq!(clients.bind(a, peer(1).as_ref()), Unbound::default());
        assert_eq!(clients.bind(a, peer(1).as_ref()), Unbound::default());
        assert_eq!(clients.bind(b, peer(1).as_ref()), Unbound { client: Some(a), peer: None });
        assert_eq!((clients.by_peer(peer(1).as_ref()), &clients[a].peer), (Some(b), &None));
        assert_eq!(clients.bind(b, peer(2).as_ref()), Unbound { client: None, peer: Some(peer(1)) });
        assert_eq!(clients.by_peer(peer(1).as_ref()), None);
        clients.remove(b);
        assert_eq!((clients.by_peer(peer(2).as_ref()), clients.by_id("b"), clients.len()), (None, None, 1));
    }
}
