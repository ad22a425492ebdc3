//! What is said about the gateway: notices of the cores for the log, and what the shells count of a radio link.
//! Counters of the cores are plain fields of each core's own `Stats`.

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of interest when looking for a fault.
    Debug,
    /// Something an operator wants in the journal once.
    Info,
    /// Something was refused, dropped or lost.
    Warn,
    /// A promise is at risk until somebody acts.
    Error,
}

/// One event for the log: what happened, to whom, and the rest in words. Never a payload, never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Severity.
    pub level: Level,
    /// The event, a fixed phrase: bursts are collapsed by it.
    pub what: &'static str,
    /// The client, upstream, rule or link it is about.
    pub who: String,
    /// The rest.
    pub detail: String,
}

impl Notice {
    /// A notice with its parts.
    pub fn new(level: Level, what: &'static str, who: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { level, what, who: who.into(), detail: detail.into() }
    }
}

/// What the shell counts of a radio link, beside what the gateway counts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Messages to be sent that were dropped: the socket or port was full or away, or the system refused them.
    pub dropped: u64,
    /// Datagrams that came faster than they could be taken, as the system counts them.
    pub lost: u64,
    /// Of a link with DTLS.
    pub dtls: Option<DtlsStats>,
}

/// Associations of a link with DTLS: gauges, and counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtlsStats {
    /// Associations that stand.
    pub associations: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Handshakes that ended well.
    pub opened: u64,
    /// Handshakes that came to nothing.
    pub failed: DtlsFailures,
    /// ClientHellos not looked at: too many in a second, or too many handshakes under way.
    pub hellos_dropped: u64,
    /// Handshakes that gave way to others before they had sent back their cookie.
    pub displaced: u64,
    /// Associations that the node ended, or an error.
    pub closed: u64,
    /// Associations ended after a long silence.
    pub idle: u64,
    /// Associations ended, the quietest one, because another came and there were as many as there may be.
    pub evicted: u64,
    /// Datagrams of no association, received or to be sent.
    pub strays: u64,
}

impl DtlsStats {
    /// All but the failures, with the words that they are told by.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 9] {
        [
            ("associations", self.associations),
            ("handshakes", self.handshakes),
            ("opened", self.opened),
            ("hellos_dropped", self.hellos_dropped),
            ("displaced", self.displaced),
            ("closed", self.closed),
            ("idle", self.idle),
            ("evicted", self.evicted),
            ("strays", self.strays),
        ]
    }
}

/// Handshakes that came to nothing, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtlsFailures {
    /// There is no pre-shared key for the identity.
    pub unknown_identity: u64,
    /// The node has another key than we have for its identity.
    pub wrong_key: u64,
    /// The certificate is not accepted, or the node has shown none.
    pub certificate: u64,
    /// It took too long.
    pub timeout: u64,
    /// The node gave up.
    pub closed: u64,
    /// All else: no suite in common, a wrong signature, broken messages.
    pub protocol: u64,
}

impl DtlsFailures {
    /// All of them with the words that they are told by.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("unknown-identity", self.unknown_identity),
            ("wrong-key", self.wrong_key),
            ("certificate", self.certificate),
            ("timeout", self.timeout),
            ("closed", self.closed),
            ("protocol", self.protocol),
        ]
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}
