//! What the engine knows about itself, copied out.

use crate::bridge;
use crate::broker;
use crate::engine::Engine;
use crate::gateway;
use crate::metrics::PortStats;
use crate::mqttsn::framing;
use crate::queue::{Depth, Limits, LineStats, Tally};
use crate::time::{Instant, earliest};

/// A queue that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineStatus {
    /// `rule:{upstream}/{rule}`, `session:{client id}`, `upstream:{name}`, or `leaver:{number}:{window}`
    /// for a session that ended and whose share of messages is being handed on.
    pub name: String,
    /// How full it is.
    pub depth: Depth,
    /// How full it may be.
    pub limits: Limits,
    /// What happened in it since start.
    pub stats: LineStats,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// As configured.
    pub name: String,
    /// The address in use, or tried next.
    pub url: String,
    /// Its link and its counters.
    pub stats: bridge::Stats,
}

/// A radio link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// As configured.
    pub name: String,
    /// Whether its serial port is there. A UDP link always is.
    pub open: bool,
    /// Its counters, the round trip, and when something last came.
    pub stats: gateway::LinkStats,
    /// Frames and noise, on a serial line.
    pub framing: Option<framing::Stats>,
    /// What the shell counted of it.
    pub port: PortStats,
}

/// An MQTT-SN client, and how many messages wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnClientStatus<'a> {
    /// What the gateway knows of it.
    pub info: gateway::ClientInfo<'a>,
    /// Messages and bytes that wait for it, those on their way too.
    pub buffered: Depth,
}

/// Everything at once.
#[derive(Debug, Clone)]
pub struct Status {
    /// The local broker.
    pub broker: broker::Stats,
    /// Sessions, connected and not.
    pub sessions: usize,
    /// Open connections.
    pub connections: usize,
    /// Subscriptions, rules too.
    pub subscriptions: usize,
    /// Retained messages, and bytes in them.
    pub retained: (usize, usize),
    /// The MQTT-SN gateway.
    pub gateway: gateway::Stats,
    /// Its links, as configured.
    pub links: Vec<LinkStatus>,
    /// Upstreams as configured.
    pub upstreams: Vec<UpstreamStatus>,
    /// Stored queues in order of name.
    pub lines: Vec<LineStatus>,
    /// Bytes that wait for the disk.
    pub pending_bytes: usize,
    /// The last commit failed.
    pub store_failing: bool,
}

/// What is shown to operators: its size follows from the configuration, not from how many clients there are.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Of the stored queues only those that are not of clients.
    pub status: Status,
    /// The queues of clients, together.
    pub clients: Tally,
    /// Sessions whose client is connected.
    pub connected: usize,
    /// Bytes of messages in memory, of all queues.
    pub queue_memory: usize,
    /// MQTT-SN clients that sleep.
    pub sleepers: Sleepers,
}

/// Sleeping MQTT-SN clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sleepers {
    /// Messages that wait for them.
    pub messages: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// When the next of them is given up.
    pub next_end: Option<Instant>,
}

impl Engine {
    /// All MQTT-SN clients that the gateway knows, in order of client id.
    pub fn sn_clients(&self) -> impl Iterator<Item = SnClientStatus<'_>> {
        self.gateway.clients().map(|info| {
            let line = self.broker.line_of_client(info.client_id);
            let buffered = line.map(|dest| self.queues.depth(dest)).unwrap_or_default();
            SnClientStatus { info, buffered }
        })
    }

    /// A copy of every counter and gauge. Looks at each queue, and there may be thousands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_with(|_| true)
    }

    /// What is shown to operators. Copies no more than the configuration asks for.
    #[must_use]
    pub fn overview(&self) -> Overview {
        Overview {
            status: self.status_with(|name| !name.starts_with("session:") && !name.starts_with("leaver:")),
            clients: self.queues.tally(),
            connected: self.broker.connected(),
            queue_memory: self.queues.memory(),
            sleepers: self.sleepers(),
        }
    }

    /// The last write failed: what must be safe is refused.
    #[must_use]
    pub fn is_store_failing(&self) -> bool {
        self.queues.is_failing()
    }

    fn sleepers(&self) -> Sleepers {
        let mut all = Sleepers::default();
        for SnClientStatus { info, buffered } in self.sn_clients() {
            if info.sleep_until.is_some() {
                all.messages += buffered.messages;
                all.bytes += buffered.bytes;
                all.next_end = earliest(all.next_end, info.sleep_until);
            }
        }
        all
    }

    fn link_status(&self, link: &gateway::LinkInfo<'_>) -> LinkStatus {
        LinkStatus {
            name: link.name.to_owned(),
            open: link.open,
            stats: link.stats,
            framing: link.framing,
            port: self.port(link.id),
        }
    }

    fn status_with(&self, shown: impl Fn(&str) -> bool) -> Status {
        let upstreams = self.upstreams.iter().map(|(id, upstream)| UpstreamStatus {
            name: upstream.name.clone(),
            url: self.bridge.endpoint(*id).map(ToString::to_string).unwrap_or_default(),
            stats: self.bridge.stats(*id).cloned().unwrap_or_default(),
        });
        let lines = self.queues.names().filter(|(name, _)| shown(name)).filter_map(|(name, dest)| {
            Some(LineStatus {
                name: name.to_owned(),
                depth: self.queues.depth(dest),
                limits: self.queues.limits(dest)?,
                stats: self.queues.stats(dest),
            })
        });
        Status {
            broker: self.broker.stats(),
            sessions: self.broker.sessions(),
            connections: self.broker.connections(),
            subscriptions: self.broker.subscriptions(),
            retained: self.broker.retained(),
            gateway: self.gateway.stats(),
            links: self.gateway.links().map(|link| self.link_status(&link)).collect(),
            upstreams: upstreams.collect(),
            lines: lines.collect(),
            pending_bytes: self.queues.pending_bytes(),
            store_failing: self.queues.is_failing(),
        }
    }
}
