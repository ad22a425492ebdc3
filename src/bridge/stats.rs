//! What an upstream did so far, and what it is doing. Plain values, copied out.

use crate::time::Wall;

/// What the link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Waits before the next try.
    #[default]
    Waiting,
    /// The shell resolves, connects and shakes hands.
    Dialing,
    /// CONNECT was sent.
    Connecting,
    /// CONNACK said yes.
    Up,
    /// Said goodbye; stays down.
    Stopped,
}

impl LinkState {
    /// For status pages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialing => "dialing",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Stopped => "stopped",
        }
    }
}

/// Counters of one upstream since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// What the link is doing.
    pub state: LinkState,
    /// Since when it is up, or is not.
    pub since: Wall,
    /// Position in the `url` list that is in use or tried next.
    pub endpoint: usize,
    /// Why the last link or try ended.
    pub last_error: Option<String>,
    /// Links that came up.
    pub connects: u64,
    /// Tries that did not come up.
    pub failures: u64,
    /// Links that were up and ended.
    pub losses: u64,
    /// PUBLISH packets sent, repeated ones too.
    pub sent: u64,
    /// Messages that the upstream acknowledged (QoS 0: written).
    pub acked: u64,
    /// Messages that came from the upstream.
    pub received: u64,
    /// Of these, refused by the local broker or its queues.
    pub refused: u64,
    /// Of these, matched by no rule.
    pub unmatched: u64,
    /// Messages moved to the dead letters.
    pub buried: u64,
    /// Times that the upstream asked for a pause (quota exceeded).
    pub pauses: u64,
    /// Acknowledgements of something that is not in flight.
    pub unsolicited: u64,
    /// Bytes that topic aliases kept off the line.
    pub alias_bytes_saved: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes given to the transport.
    pub bytes_out: u64,
}

/// PUBLISH packets that went upstream, repeated ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    pub messages: u64,
    /// All of each packet, without what TLS and TCP add.
    pub bytes: u64,
}
