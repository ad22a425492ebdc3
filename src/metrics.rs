//! What the cores say about themselves: notices for the log. Counters are plain fields of each core's own `Stats`.

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
