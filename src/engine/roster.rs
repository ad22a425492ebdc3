//! Clients of every kind, page by page, and how one is sent away.

use crate::broker::Way;
use crate::engine::Engine;
use crate::gateway;
use crate::mqtt::Version;
use crate::queue::Depth;
use crate::time::{Duration, Now, Wall};

/// A client, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientStatus {
    pub client_id: String,
    /// `mqtt` or `mqtt-sn`; of a client that is away, how it was is not known: `away`.
    pub kind: &'static str,
    /// `connected` or `away`; of MQTT-SN `active`, `asleep`, `awake`, `connecting` or `disconnected`.
    pub state: &'static str,
    /// Its proved name.
    pub user: Option<String>,
    /// Address, and node behind a forwarder.
    pub peer: Option<String>,
    /// Listener or link.
    pub via: Option<String>,
    /// `3.1`, `3.1.1`, `5.0` or `1.2`.
    pub version: Option<&'static str>,
    pub subscriptions: usize,
    pub queue: Depth,
    /// Since its last sign of life.
    pub silent_for: Option<Duration>,
    /// Until a sleeper is given up.
    pub sleeps_for: Option<Duration>,
    pub away_since: Option<Wall>,
}

impl Engine {
    /// Up to `max` clients in order of their ids, those after `after`. Whether there are more.
    #[must_use]
    pub fn clients(&self, now: Now, after: &str, max: usize) -> (Vec<ClientStatus>, bool) {
        let mut ids: Vec<&str> = self.broker.client_ids().chain(self.gateway.client_ids()).collect();
        ids.retain(|id| *id > after);
        // One more than asked for tells whether there are more; each may be there twice.
        let enough = 2 * (max + 1);
        if ids.len() > enough {
            ids.select_nth_unstable(enough);
            ids.truncate(enough);
        }
        ids.sort_unstable();
        ids.dedup();
        let more = ids.len() > max;
        (ids.into_iter().take(max).map(|id| self.client(now, id)).collect(), more)
    }

    fn client(&self, now: Now, client_id: &str) -> ClientStatus {
        let found = self.broker.client(&self.queues, client_id);
        let mut status = ClientStatus {
            client_id: client_id.to_owned(),
            kind: "away",
            state: "away",
            user: found.and_then(|found| found.user).map(str::to_owned),
            peer: None,
            via: None,
            version: None,
            subscriptions: found.map_or(0, |found| found.subscriptions),
            queue: found.map_or_else(Depth::default, |found| found.queue),
            silent_for: None,
            sleeps_for: None,
            away_since: None,
        };
        match found.map(|found| found.way) {
            Some(Way::Mqtt { version, peer, listener, last_heard_at }) => {
                status.kind = "mqtt";
                status.state = "connected";
                status.peer = peer.map(|peer| peer.to_string());
                status.via = Some(listener.to_owned());
                status.version = Some(match version {
                    Version::V31 => "3.1",
                    Version::V311 => "3.1.1",
                    Version::V5 => "5.0",
                });
                status.silent_for = Some(now.at.since(last_heard_at));
                // It may have left topic ids with the gateway, which are of no interest now.
                return status;
            }
            Some(Way::Away { since }) => status.away_since = since,
            Some(Way::Local) | None => {}
        }
        if let Some(node) = self.gateway.client(client_id) {
            status.kind = "mqtt-sn";
            status.version = Some("1.2");
            status.state = node.state;
            status.user = status.user.or_else(|| node.user.map(str::to_owned));
            status.peer = Some(node.peer).filter(|peer| !peer.is_empty());
            status.via = node.link.and_then(|link| self.links.get(&link).cloned());
            status.silent_for = Some(now.at.since(node.last_heard_at));
            status.sleeps_for = node.sleep_until.map(|until| until.since(now.at));
        }
        status
    }

    /// Ends a client's connection; it may come again. False: it is not connected.
    pub fn kick(&mut self, now: Now, client_id: &str) -> bool {
        if self.broker.kick(now, &mut self.queues, client_id) {
            self.settle(now);
            return true;
        }
        let is_connected = |node: gateway::ClientInfo<'_>| node.state != "disconnected";
        let found = self.gateway.client(client_id).is_some_and(is_connected);
        if found {
            self.tell_gateway(now, gateway::Input::Kick { client_id });
            self.settle(now);
        }
        found
    }
}
