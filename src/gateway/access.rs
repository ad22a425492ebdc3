//! Who may connect by which link, and what is known of clients beforehand: the `[[sn.client]]` tables.

use crate::config::{self, SnClient};
use crate::gateway::Gateway;
use crate::gateway::peers::PeerRef;
use crate::gateway::registry::Predefined;

/// Which `[[sn.client]]` a client is one of, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(usize);

/// What the configuration says of clients.
#[derive(Debug)]
pub(super) struct Known {
    clients: Vec<(SnClient, Predefined)>,
    /// Topic ids of all others.
    predefined: Predefined,
}

impl Known {
    pub(super) fn new(config: &config::Sn) -> Self {
        let table = |client: &SnClient| Predefined::new(&client.predefined, &config.predefined);
        Self {
            clients: config.client.iter().map(|client| (client.clone(), table(client))).collect(),
            predefined: Predefined::new(&config.predefined, &Default::default()),
        }
    }

    /// The table that fits this client id best.
    pub(super) fn find(&self, client_id: &str) -> Option<Entry> {
        let fitting = self.clients.iter().enumerate();
        let fitting = fitting.filter_map(|(at, (client, _))| Some((client.fits(client_id)?, at)));
        fitting.max().map(|(_, at)| Entry(at))
    }

    /// The topic ids that both sides know.
    pub(super) fn predefined(&self, entry: Option<Entry>) -> &Predefined {
        entry.and_then(|entry| self.clients.get(entry.0)).map_or(&self.predefined, |(_, predefined)| predefined)
    }

    fn client(&self, entry: Option<Entry>) -> Option<&SnClient> {
        self.clients.get(entry?.0).map(|(client, _)| client)
    }
}

impl Gateway {
    /// Why this client may not connect from there, if so.
    pub(super) fn forbids(&self, peer: PeerRef<'_>, client_id: &str) -> Option<&'static str> {
        let Some(client) = self.known.client(self.known.find(client_id)) else {
            return self.radio.is_for_known_only(peer.link).then_some("no [[sn.client]] names it");
        };
        let link = self.radio.name(peer.link).unwrap_or_default();
        if client.link.as_ref().is_some_and(|links| !links.iter().any(|name| name == link)) {
            return Some("its [[sn.client]] does not name this link");
        }
        let identity = self.identities.of(peer).map(|identity| &**identity);
        if client.identity.as_ref().is_some_and(|all| !all.iter().any(|name| Some(name.as_str()) == identity)) {
            return Some("it has not proved an identity that its [[sn.client]] names");
        }
        None
    }
}
