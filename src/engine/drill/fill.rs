//! The outage: what comes in until a limit is reached, and what gives way then.

use crate::config::WhenFull;
use crate::engine::drill::flash::row_bytes;
use crate::engine::drill::{Disk, RuleTraffic, Traffic};
use crate::mqtt::Message;
use crate::time::Duration;

/// All queues at the end of the outage.
#[derive(Debug)]
pub(super) struct Filled {
    /// As long as the store took messages, in seconds.
    pub taken_for: f64,
    /// When the queue stopped to grow.
    pub level_at: f64,
    pub waiting: f64,
    pub evicted: f64,
    pub refused: f64,
    pub qos0_lost: f64,
    pub full_at: Option<f64>,
    pub full_by: Option<&'static str>,
    /// Since when its oldest and its newest message wait, at the end of the outage, in seconds.
    pub oldest: f64,
    pub newest: f64,
}

#[derive(Debug)]
pub(super) struct Outcome {
    /// In the order of the rules.
    pub rules: Vec<Filled>,
    pub store_full_at: Option<f64>,
    /// What waits takes so much of the file.
    pub stored_bytes: f64,
}

/// What a rule has room for, and which limit says so.
struct Room {
    messages: f64,
    by: &'static str,
}

fn room(rule: &RuleTraffic) -> Room {
    let of = |limit: u64, taken: u64| limit.saturating_sub(taken) as f64;
    let by_count = of(rule.limits.max_messages, rule.waiting_messages);
    // A message goes in whole or not at all.
    let by_bytes = (of(rule.limits.max_bytes, rule.waiting_bytes) / rule.cost()).floor();
    if by_count <= by_bytes {
        Room { messages: by_count, by: "messages" }
    } else {
        Room { messages: by_bytes, by: "bytes" }
    }
}

/// So many messages a queue gains at most: room, or with `keep-last` the topics that do not wait yet.
fn gain(rule: &RuleTraffic) -> f64 {
    let room = room(rule).messages;
    match rule.limits.when_full {
        WhenFull::KeepLast => room.min((rule.topics.unwrap_or(room) - rule.waiting_messages as f64).max(0.0)),
        WhenFull::DropOldest | WhenFull::DropNewest | WhenFull::Reject => room,
    }
}

/// So many messages a queue holds at most.
pub(super) fn most(rule: &RuleTraffic) -> f64 {
    rule.waiting_messages as f64 + gain(rule)
}

/// Fills the queues of all rules for so many seconds.
pub(super) fn fill(rules: &[&RuleTraffic], traffic: &Traffic, disk: Disk, seconds: f64) -> Outcome {
    let before = stored_now(traffic, disk);
    let store_full_at = store_full_at(rules, disk, disk.max_bytes as f64 - before).filter(|at| *at < seconds);
    let taken_for = store_full_at.unwrap_or(seconds);
    let filled: Vec<Filled> = rules.iter().map(|rule| fill_one(rule, taken_for, seconds)).collect();
    let gained = rules.iter().zip(&filled).map(|(rule, filled)| {
        (filled.waiting - rule.waiting_messages as f64).max(0.0) * row_bytes(rule.raw(), rule.ttl, disk)
    });
    Outcome { stored_bytes: before + gained.sum::<f64>(), rules: filled, store_full_at }
}

/// What the file has of messages now.
fn stored_now(traffic: &Traffic, disk: Disk) -> f64 {
    let count = traffic.stored_messages as f64;
    if traffic.stored_messages == 0 {
        return 0.0;
    }
    let raw = traffic.stored_bytes as f64 / count - Message::FIXED_COST as f64;
    count * row_bytes(raw.max(0.0), Duration::ZERO, disk)
}

/// When the file is full: rules stop adding to it one after the other, as they reach limits of their own.
fn store_full_at(rules: &[&RuleTraffic], disk: Disk, room: f64) -> Option<f64> {
    let bytes_per_second = |rule: &RuleTraffic| rule.per_second * row_bytes(rule.raw(), rule.ttl, disk);
    let mut ends: Vec<(f64, f64)> = rules
        .iter()
        .filter(|rule| rule.per_second > 0.0)
        .map(|rule| (gain(rule) / rule.per_second, bytes_per_second(rule)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut growth: f64 = ends.iter().map(|(_, growth)| growth).sum();
    let (mut at, mut left) = (0.0, room.max(0.0));
    for (end, own) in ends {
        if growth * (end - at) > left {
            return Some(at + left / growth);
        }
        left -= growth * (end - at);
        (at, growth) = (end, growth - own);
    }
    None
}

fn fill_one(rule: &RuleTraffic, taken_for: f64, seconds: f64) -> Filled {
    let (rate, before) = (rule.per_second, rule.waiting_messages as f64);
    let came = rate * taken_for;
    let (Room { messages: room, by }, gain) = (room(rule), gain(rule));
    let over = (came - gain).max(0.0);
    let waiting = before + came.min(gain);
    // The store took nothing more: publishers were told.
    let mut refused = rate * (seconds - taken_for);
    let mut evicted = 0.0;
    match rule.limits.when_full {
        WhenFull::Reject => refused += over,
        WhenFull::DropOldest | WhenFull::DropNewest | WhenFull::KeepLast => evicted = over,
    }
    // A queue that keeps the last of each is not full while each of its topics has room.
    let limit_at = (came > gain && gain >= room).then(|| gain / rate);
    let store_at = (taken_for < seconds && rate > 0.0).then_some(taken_for);
    let full_at = limit_at.or(store_at);
    let full_by = limit_at.map(|_| by).or(store_at.map(|_| "store"));
    let keeps_newest = matches!(rule.limits.when_full, WhenFull::DropOldest | WhenFull::KeepLast);
    let (oldest, newest) = match limit_at {
        _ if keeps_newest && over > 0.0 => (seconds - taken_for + waiting / rate, seconds - taken_for),
        Some(at) => (seconds, seconds - at),
        None => (seconds, seconds - taken_for),
    };
    let qos0_lost = rule.qos0_per_second * seconds;
    let level_at = if over > 0.0 { gain / rate } else { taken_for };
    Filled { taken_for, level_at, waiting, evicted, refused, qos0_lost, full_at, full_by, oldest, newest }
}
