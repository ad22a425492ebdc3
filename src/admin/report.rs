//! The shape of `/api/status` and `/api/clients`, and of `--json`. The document api.md describes it; names once given
//! stay, new ones may come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    pub version: String,
    /// Milliseconds since 1970, as all times here.
    pub now: u64,
    pub started: u64,
    /// There are no problems.
    pub well: bool,
    pub problems: Vec<String>,
    pub upstreams: Vec<Upstream>,
    pub queues: Vec<Queue>,
    pub client_queues: ClientQueues,
    pub lost: Vec<Loss>,
    pub clients: Clients,
    pub links: Vec<Link>,
    pub store: Store,
    pub traffic: Traffic,
    pub process: Process,
    /// Over HTTP: whether a token lets the page change something.
    pub can_change: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub name: String,
    /// `up`, `waiting`, `dialing`, `connecting` or `stopped`.
    pub state: String,
    /// Since when it is up, or is not.
    pub since: u64,
    pub url: String,
    pub last_error: Option<String>,
    pub connects: u64,
    pub failures: u64,
    pub losses: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub received: u64,
    pub refused: u64,
    pub unmatched: u64,
    pub dead_letters: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

/// The queue of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub upstream: String,
    pub rule: String,
    pub messages: u64,
    pub bytes: u64,
    /// When the oldest message arrived.
    pub oldest: Option<u64>,
    /// None: no rule is configured for it any more.
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub accepted: u64,
    pub delivered: u64,
    /// Moved to the dead letters.
    pub dead_letters: u64,
}

/// The queues of all clients together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientQueues {
    /// Queues that hold something.
    pub queues: u64,
    pub messages: u64,
    pub bytes: u64,
    pub oldest: Option<u64>,
    pub accepted: u64,
    pub delivered: u64,
}

/// What did not arrive, since start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// `UPSTREAM/RULE`, `clients`, `mqtt` or `mqtt-sn`.
    pub at: String,
    pub reason: String,
    pub messages: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    pub connections: u64,
    pub sessions: u64,
    /// Sessions whose client is connected.
    pub connected: u64,
    pub away: u64,
    pub subscriptions: u64,
    pub sn_known: u64,
    pub sn_active: u64,
    pub sn_asleep: u64,
    /// What waits for those that sleep.
    pub sn_buffered: u64,
    pub sn_buffered_bytes: u64,
    /// When the next of them is given up.
    pub sn_sleep_ends: Option<u64>,
}

/// A radio link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub name: String,
    pub open: bool,
    pub messages_received: u64,
    pub messages_sent: u64,
    /// Frames or datagrams that are no message.
    pub malformed: u64,
    /// Messages beyond the rate of their node.
    pub rate_limited: u64,
    /// Requests sent again for want of an answer.
    pub retransmissions: u64,
    /// From a request to its answer, smoothed.
    pub round_trip_ms: Option<f64>,
    /// Since a message last came.
    pub silent_seconds: Option<u64>,
    /// To be sent, and dropped: the socket or port was full or away.
    pub dropped: u64,
    /// Datagrams that came faster than they could be taken.
    pub lost: u64,
    /// Of a serial line.
    pub serial: Option<Serial>,
    /// Of a link with DTLS.
    pub dtls: Option<Dtls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    pub frames: u64,
    pub noise_bytes: u64,
    pub checksum_errors: u64,
    pub oversize: u64,
    pub timeouts: u64,
    /// Messages that a radio module says it could not deliver.
    pub undelivered: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dtls {
    /// As they stand.
    pub associations: u64,
    pub handshakes: u64,
    /// Since start.
    pub opened: u64,
    /// By reason: `unknown-identity`, `wrong-key`, `certificate`, `timeout`, `closed`, `protocol`.
    pub failed: BTreeMap<String, u64>,
    pub hellos_dropped: u64,
    pub displaced: u64,
    pub closed: u64,
    pub idle: u64,
    pub evicted: u64,
    pub strays: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The last write failed: what must be safe is refused.
    pub failing: bool,
    pub pending_bytes: u64,
    pub queue_memory_bytes: u64,
    pub retained_messages: u64,
    pub retained_bytes: u64,
}

/// Since start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// PUBLISH of MQTT clients, both ways.
    pub mqtt_received: u64,
    pub mqtt_sent: u64,
    pub mqtt_bytes_received: u64,
    pub mqtt_bytes_sent: u64,
    pub sn_received: u64,
    pub sn_sent: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pub resident_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
}

/// A page of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPage {
    pub now: u64,
    pub clients: Vec<Client>,
    /// What to give as `after` for the next page.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub client_id: String,
    /// `mqtt`, `mqtt-sn`, or `away`.
    pub kind: String,
    /// `connected`, `away`; of MQTT-SN `active`, `asleep`, `awake`, `connecting`, `disconnected`.
    pub state: String,
    pub user: Option<String>,
    pub peer: Option<String>,
    /// Listener or link.
    pub via: Option<String>,
    pub version: Option<String>,
    pub subscriptions: u64,
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// Since its last sign of life.
    pub silent_seconds: Option<u64>,
    /// Until a sleeper is given up.
    pub sleep_seconds: Option<u64>,
    pub away_since: Option<u64>,
}
