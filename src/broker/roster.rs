//! Who is there, as an operator sees it, and how one of them is sent away.

use std::net::SocketAddr;

use crate::broker::Broker;
use crate::broker::packets::Fault;
use crate::broker::session::Peer;
use crate::mqtt::{ReasonCode, Version};
use crate::queue::{Depth, Queues};
use crate::time::{Instant, Now, Wall};

/// A client that has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// Its proved name.
    pub user: Option<&'a str>,
    pub way: Way<'a>,
    pub subscriptions: usize,
    /// What waits for it.
    pub queue: Depth,
}

/// How it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    Mqtt {
        version: Version,
        /// None on a Unix socket.
        peer: Option<SocketAddr>,
        listener: &'a str,
        last_heard_at: Instant,
    },
    /// Through the MQTT-SN gateway.
    Local,
    /// It is not.
    Away { since: Option<Wall> },
}

impl Broker {
    /// The ids of all clients that have a session, in no order.
    pub fn client_ids(&self) -> impl Iterator<Item = &str> {
        self.by_client.keys().map(AsRef::as_ref)
    }

    /// A client.
    #[must_use]
    pub fn client(&self, queues: &Queues, client_id: &str) -> Option<ClientInfo<'_>> {
        let session = self.sessions.get(*self.by_client.get(client_id)? as usize)?;
        let way = match session.peer {
            Peer::Away => Way::Away { since: session.disconnected_at },
            Peer::Local => Way::Local,
            Peer::Conn(id) => {
                let conn = self.conn(id)?;
                let listener = self.listeners.get(usize::from(conn.listener.0)).map_or("", |at| &at.name);
                Way::Mqtt { version: conn.version, peer: conn.peer, listener, last_heard_at: conn.last_received }
            }
        };
        Some(ClientInfo {
            user: session.user.as_deref(),
            way,
            subscriptions: session.subscriptions.len(),
            queue: session.line.map_or_else(Depth::default, |dest| queues.depth(dest)),
        })
    }

    /// Sessions whose client is connected, in whatever way.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.sessions.iter().filter(|(_, session)| session.peer != Peer::Away).count()
    }

    /// Ends a client's MQTT connection, if it has one. It may come again; its session stays as it is.
    pub fn kick(&mut self, now: Now, queues: &mut Queues, client_id: &str) -> bool {
        let session = self.by_client.get(client_id).and_then(|session| self.sessions.get(*session as usize));
        let Some(Peer::Conn(conn)) = session.map(|session| session.peer) else { return false };
        let why = Fault::new(ReasonCode::AdministrativeAction, "an operator ended the connection");
        self.end(now, queues, conn, Some(why), true);
        true
    }
}
