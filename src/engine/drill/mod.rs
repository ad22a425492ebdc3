//! An outage, predicted from the traffic of the last hours: when queues are full, what they lose, how long the backlog
//! takes afterwards, and what flash and link carry for it. Figures in, figures out: it looks at no queue.
//!
//! Messages are taken as a stream of their mean size at their mean rate. `fill` is the outage, `drain` is what
//! follows it, `flash` is what the store writes meanwhile.

mod drain;
mod fill;
mod flash;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::config::Pace;
use crate::mqtt::Message;
use crate::queue::Limits;
use crate::time::Duration;

/// What a PUBLISH has beside topic and payload, about, while none was sent yet that tells.
const PACKET_BYTES: f64 = 10.0;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// For how long.
    pub over: Duration,
    pub upstreams: Vec<UpstreamTraffic>,
    pub commits: Commits,
    /// What waits in all queues now, with bytes counted as [`Message::cost`].
    pub stored_messages: u64,
    pub stored_bytes: u64,
}

/// How changes are gathered before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commits {
    pub gather: Duration,
    pub max_changes: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTraffic {
    pub name: String,
    pub pace: Pace,
    /// Messages a second, while more waited than went and no pace held them.
    pub measured: Option<f64>,
    pub rules: Vec<RuleTraffic>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RuleTraffic {
    pub name: String,
    /// Where its rows lie in the store: in the order of this number.
    pub place: u16,
    /// Messages that are stored while the link is down, QoS 1 and 2.
    pub per_second: f64,
    pub qos0_per_second: f64,
    /// Mean bytes of one that is stored, counted as [`Message::cost`].
    pub cost: Option<f64>,
    /// Mean bytes of one that is sent.
    pub packet: Option<f64>,
    /// Of a rule that keeps the last of each.
    pub topics: Option<f64>,
    pub limits: Limits,
    /// Zero: messages do not age.
    pub ttl: Duration,
    pub priority: u8,
    pub pace: Pace,
    /// What comes in goes before the backlog.
    pub live_first: bool,
    pub waiting_messages: u64,
    pub waiting_bytes: u64,
}

impl RuleTraffic {
    /// Mean bytes of a message, counted as [`Message::cost`].
    fn cost(&self) -> f64 {
        let waiting = self.waiting_bytes as f64 / self.waiting_messages.max(1) as f64;
        self.cost.unwrap_or(waiting).max(Message::FIXED_COST as f64)
    }

    /// Topic, payload and properties of it.
    fn raw(&self) -> f64 {
        self.cost() - Message::FIXED_COST as f64
    }

    fn packet(&self) -> f64 {
        self.packet.unwrap_or_else(|| self.raw() + PACKET_BYTES)
    }
}

/// Where the messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub page_bytes: u64,
    /// Of the file, for messages.
    pub max_bytes: u64,
    /// The log is folded into the file when it has grown to this.
    pub log_bytes: u64,
}

/// What an outage would do. The document api.md describes it; names once given stay, new ones may come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub outage_seconds: f64,
    /// The traffic that this is made from.
    pub over_seconds: f64,
    pub upstreams: Vec<UpstreamForecast>,
    pub store: StoreForecast,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamForecast {
    pub name: String,
    pub rules: Vec<RuleForecast>,
    /// How fast the backlog goes; `None`: nothing limits it, and none was seen going.
    pub drain_per_second: Option<f64>,
    /// `pace`, `measured` or `unknown`.
    pub drain_from: String,
    /// From the return of the link until nothing waits. `None`: not known, or never.
    pub drain_seconds: Option<f64>,
    /// What the backlog takes on the link, without TLS and TCP.
    pub sent_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleForecast {
    pub name: String,
    pub when_full: String,
    pub messages_per_second: f64,
    pub message_bytes: u64,
    /// When a limit is reached, and which: `messages`, `bytes`, or `store`, where the whole store is full. `None`: not in
    /// this outage.
    pub full_after_seconds: Option<f64>,
    pub full_by: Option<String>,
    /// At the end of the outage, with what waits now.
    pub waiting_messages: u64,
    pub waiting_bytes: u64,
    /// What the policy drops until there is room again, and with `keep-last` what newer messages of the same topic replace.
    pub evicted: u64,
    /// What publishers are told is not taken.
    pub refused: u64,
    /// Too old when their turn comes.
    pub expired: u64,
    /// QoS 0 is not kept.
    pub qos0_lost: u64,
    /// What arrives of it when the link is back.
    pub delivered: u64,
    pub sent_bytes: u64,
    pub drain_seconds: Option<f64>,
    /// It comes in as fast as it goes, or faster.
    pub never_drained: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreForecast {
    pub full_after_seconds: Option<f64>,
    /// What waits takes so much of the file at the end, and may take so much.
    pub waiting_bytes: u64,
    pub max_bytes: u64,
    /// Written to the disk, in the outage and until the backlog is gone.
    pub written_bytes: u64,
}

/// What an outage of this length would do if it began now.
#[must_use]
pub fn predict(traffic: &Traffic, disk: Disk, outage: Duration) -> Forecast {
    let seconds = outage.as_secs_f64();
    let rules: Vec<&RuleTraffic> = traffic.upstreams.iter().flat_map(|upstream| &upstream.rules).collect();
    let filled = fill::fill(&rules, traffic, disk, seconds);
    let mut left = filled.rules.as_slice();
    let mut drained = Vec::new();
    for upstream in &traffic.upstreams {
        let (own, others) = left.split_at(upstream.rules.len());
        left = others;
        drained.push((own, drain::drain(upstream, own)));
    }
    let gone: Vec<drain::DrainedRule> = drained.iter().flat_map(|(_, drained)| drained.rules.clone()).collect();
    let written = flash::outage(&rules, &filled, traffic.commits, disk)
        + flash::drain(&rules, &filled, &gone, traffic.commits, disk);
    let upstreams = traffic.upstreams.iter().zip(&drained);
    Forecast {
        outage_seconds: seconds,
        over_seconds: traffic.over.as_secs_f64(),
        upstreams: upstreams.map(|(upstream, (filled, drained))| tell(upstream, filled, drained)).collect(),
        store: StoreForecast {
            full_after_seconds: filled.store_full_at,
            waiting_bytes: whole(filled.stored_bytes),
            max_bytes: disk.max_bytes,
            written_bytes: whole(written),
        },
    }
}

fn tell(upstream: &UpstreamTraffic, filled: &[fill::Filled], drained: &drain::Drained) -> UpstreamForecast {
    let rules = upstream.rules.iter().zip(filled).zip(&drained.rules);
    let rules: Vec<RuleForecast> =
        rules.map(|((rule, filled), drained)| tell_rule(rule, filled, drained)).collect();
    UpstreamForecast {
        name: upstream.name.clone(),
        drain_per_second: drained.per_second,
        drain_from: drained.from.to_owned(),
        drain_seconds: drained.seconds,
        sent_bytes: rules.iter().map(|rule| rule.sent_bytes).sum(),
        rules,
    }
}

fn tell_rule(rule: &RuleTraffic, filled: &fill::Filled, drained: &drain::DrainedRule) -> RuleForecast {
    let delivered = whole((filled.waiting - drained.expired - drained.evicted).max(0.0));
    RuleForecast {
        name: rule.name.clone(),
        when_full: rule.limits.when_full.as_str().to_owned(),
        messages_per_second: rule.per_second,
        message_bytes: whole(rule.raw()),
        full_after_seconds: filled.full_at,
        full_by: filled.full_by.map(str::to_owned),
        waiting_messages: whole(filled.waiting),
        waiting_bytes: whole(filled.waiting * rule.cost()),
        evicted: whole(filled.evicted + drained.evicted),
        refused: whole(filled.refused + drained.refused),
        expired: whole(drained.expired),
        qos0_lost: whole(filled.qos0_lost),
        delivered,
        sent_bytes: whole(delivered as f64 * rule.packet()),
        drain_seconds: drained.seconds,
        never_drained: drained.never,
    }
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no figure here is negative")]
fn whole(figure: f64) -> u64 {
    figure.round() as u64
}
