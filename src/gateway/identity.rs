//! Who a peer proved to be on a link that asks for it (DTLS). Clients that came with a name belong to that name:
//! nobody else takes their session, wakes them, or talks in their place.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::config::LinkId;
use crate::gateway::Gateway;
use crate::gateway::clients::Slot;
use crate::gateway::peers::PeerRef;

/// Names that are remembered for each client there may be; the shell bounds its own sessions too.
const PER_CLIENT: usize = 2;

/// The names, by address.
#[derive(Debug)]
pub(super) struct Identities {
    names: HashMap<(LinkId, SocketAddr), Arc<str>, FixedState>,
    max: usize,
}

impl Identities {
    pub(super) fn new(max_clients: usize) -> Self {
        Self { names: HashMap::default(), max: max_clients.saturating_mul(PER_CLIENT) }
    }

    pub(super) fn set_max(&mut self, max_clients: usize) {
        self.max = max_clients.saturating_mul(PER_CLIENT);
    }

    /// Returns whether there was room for it.
    pub(super) fn set(&mut self, link: LinkId, from: SocketAddr, identity: Option<&str>) -> bool {
        let Some(identity) = identity else {
            self.names.remove(&(link, from));
            return true;
        };
        if self.names.len() >= self.max && !self.names.contains_key(&(link, from)) {
            return false;
        }
        self.names.insert((link, from), identity.into());
        true
    }

    pub(super) fn of(&self, peer: PeerRef<'_>) -> Option<&Arc<str>> {
        if self.names.is_empty() {
            return None;
        }
        self.names.get(&(peer.link, peer.addr?))
    }
}

impl Gateway {
    /// Whether the peer may talk as this client: it has no name, or the peer has the same.
    pub(super) fn is_owner(&self, slot: Slot, peer: PeerRef<'_>) -> bool {
        let Some(user) = &self.clients[slot].user else { return true };
        self.identities.of(peer) == Some(user)
    }
}
