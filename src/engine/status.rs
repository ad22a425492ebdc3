//! What the engine knows about itself, copied out.

use crate::bridge;
use crate::broker;
use crate::engine::Engine;
use crate::gateway;
use crate::queue::{Depth, LineStats};

/// A queue that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineStatus {
    /// `rule:{upstream}/{rule}`, `session:{client id}`, `upstream:{name}`, or `leaver:{number}`
    /// for a session that ended and whose share of messages is being handed on.
    pub name: String,
    /// How full it is.
    pub depth: Depth,
    /// What happened in it since start.
    pub stats: LineStats,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// As configured.
    pub name: String,
    /// Its link and its counters.
    pub stats: bridge::Stats,
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
    /// Upstreams as configured.
    pub upstreams: Vec<UpstreamStatus>,
    /// Stored queues in order of name.
    pub lines: Vec<LineStatus>,
    /// Bytes that wait for the disk.
    pub pending_bytes: usize,
    /// The last commit failed.
    pub store_failing: bool,
}

impl Engine {
    /// A copy of every counter and gauge.
    #[must_use]
    pub fn status(&self) -> Status {
        let upstreams = self.upstreams.iter().map(|(id, upstream)| UpstreamStatus {
            name: upstream.name.clone(),
            stats: self.bridge.stats(*id).cloned().unwrap_or_default(),
        });
        let lines = self.queues.names().map(|(name, dest)| LineStatus {
            name: name.to_owned(),
            depth: self.queues.depth(dest),
            stats: self.queues.stats(dest),
        });
        Status {
            broker: self.broker.stats(),
            sessions: self.broker.sessions(),
            connections: self.broker.connections(),
            subscriptions: self.broker.subscriptions(),
            retained: self.broker.retained(),
            gateway: self.gateway.stats(),
            upstreams: upstreams.collect(),
            lines: lines.collect(),
            pending_bytes: self.queues.pending_bytes(),
            store_failing: self.queues.is_failing(),
        }
    }
}
