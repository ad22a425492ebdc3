//! What the broker tells about itself below `$SYS/broker`, in mosquitto's names, so that existing dashboards work.
//!
//! The values are computed when somebody subscribes, and every `sys_interval` as long as there is a subscription;
//! then those that changed are sent. They are retained for new subscribers, but neither stored nor counted as
//! retained messages of clients. They go out at QoS 0: an absent subscriber has no use for old ones.
//!
//! mosquitto's `heap/current` and `heap/maximum` are not here: a core does not know the memory of its process.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use crate::broker::load::{Loads, MINUTES};
use crate::broker::publish::{Inbound, Origin};
use crate::broker::session::Peer;
use crate::broker::target::Options;
use crate::broker::{Broker, Output, Timer};
use crate::mqtt::{Message, MessageParts, QoS, topic};
use crate::queue::Queues;
use crate::time::{Duration, Instant, Now};

/// The first level of all these topics.
const ROOT: &str = "$SYS";

/// Counters that have load averages, by the name below `$SYS/broker/load`.
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

/// The topics and their values as they were last computed.
#[derive(Debug)]
pub(crate) struct SysTopics {
    /// Zero: there are none.
    interval: Duration,
    started_at: Instant,
    is_timed: bool,
    /// Others in this process have values too: they are asked when it is time.
    has_more: bool,
    loads: Loads<9>,
    values: Vec<(String, String)>,
}

impl SysTopics {
    /// The owner sets [`Timer::Sys`] for the first time.
    pub(crate) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            started_at: now,
            is_timed: !interval.is_zero(),
            has_more: false,
            loads: Loads::new(now),
            values: Vec::new(),
        }
    }

    /// From now on this interval holds. True when the owner has to set [`Timer::Sys`] for the first time.
    pub(crate) fn configure(&mut self, interval: Duration) -> bool {
        self.interval = interval;
        let begins = !interval.is_zero() && !self.is_timed;
        self.is_timed |= begins;
        begins
    }
}

/// Whether the filter leads to these topics. Wildcards at the first level do not [MQTT-4.7.2-1].
fn is_ours(filter: &str) -> bool {
    topic::levels(filter).next() == Some(ROOT)
}

impl Broker {
    /// Sends the present values to a new subscriber, as retained messages.
    pub(crate) fn send_sys_topics(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        filter: &str,
        options: Options,
    ) {
        if self.sys.interval.is_zero() || !is_ours(filter) {
            return;
        }
        if !self.sys.is_timed || self.sys.values.is_empty() {
            self.update_sys_topics(now, queues);
            if self.sys.has_more {
                self.outputs.push_back(Output::SysDue);
            }
        }
        if !self.sys.is_timed {
            self.sys.is_timed = true;
            self.timers.set(now.at + self.sys.interval, Timer::Sys);
        }
        let matching = self.sys.values.iter().filter(|(name, _)| topic::matches(filter, name));
        let messages: Vec<Arc<Message>> = matching
            .map(|(topic, value)| {
                Arc::new(Message::new(MessageParts {
                    topic,
                    properties: &[],
                    payload: value.as_bytes(),
                    qos: QoS::AtMostOnce,
                    retain: true,
                    received_at: now.wall,
                    expires_at: None,
                }))
            })
            .collect();
        for message in messages {
            self.send_one_retained(now, queues, session, &message, options);
        }
    }

    /// Whoever has values of its own is asked for them by [`Output::SysDue`] from now on.
    pub fn expect_more_sys_topics(&mut self) {
        self.sys.has_more = true;
    }

    /// The interval is over. Without a subscription there is no next one.
    pub(crate) fn on_sys_due(&mut self, now: Now, queues: &mut Queues) {
        self.sys.is_timed = self.tree.has_branch(ROOT) && !self.sys.interval.is_zero();
        if !self.sys.is_timed {
            self.sys.values = Vec::new();
            return;
        }
        self.timers.set(now.at + self.sys.interval, Timer::Sys);
        if self.sys.has_more {
            self.outputs.push_back(Output::SysDue);
        } else {
            self.publish_sys_topics(now, queues, Vec::new());
        }
    }

    /// What changed is sent, `more` too.
    pub fn publish_sys_topics(&mut self, now: Now, queues: &mut Queues, more: Vec<(String, String)>) {
        let before: BTreeSet<_> = std::mem::take(&mut self.sys.values).into_iter().collect();
        self.update_sys_topics(now, queues);
        let mut values = std::mem::take(&mut self.sys.values);
        values.extend(more);
        let origin = Origin { own: true, ..Origin::default() };
        for value in values.iter().filter(|value| !before.contains(value)) {
            let inbound = Inbound {
                topic: &value.0,
                payload: value.1.as_bytes(),
                qos: QoS::AtMostOnce,
                retain: true,
                properties: &[],
                expiry: None,
            };
            self.publish(now, queues, origin, &inbound, None, None);
        }
        self.sys.values = values;
    }

    /// Computes all values anew.
    fn update_sys_topics(&mut self, now: Now, queues: &Queues) {
        let stats = self.stats;
        let stored = queues.totals();
        let messages_sent = stats.publish_sent + stats.control_sent;
        let dropped = stats.shed_qos0 + stats.too_large_for_receiver + stored.dropped;
        let connected = self.sessions.iter().filter(|(_, session)| session.peer != Peer::Away).count();
        let away = self.sessions.len() - connected;
        let kept = self.retained.len() as u64 + stored.messages;
        let shared = self.tree.shared();

        let mut values = Values::default();
        values.put("version", format_args!("moteway version {}", env!("CARGO_PKG_VERSION")));
        values.put("uptime", format_args!("{} seconds", now.at.since(self.sys.started_at).as_secs()));
        values.put("clients/total", self.sessions.len());
        values.put("clients/maximum", stats.sessions_peak);
        values.put("clients/connected", connected);
        values.put("clients/active", connected);
        values.put("clients/disconnected", away);
        values.put("clients/inactive", away);
        values.put("clients/expired", stats.sessions_expired);
        values.put("messages/received", stats.messages_received);
        values.put("messages/sent", messages_sent);
        values.put("messages/stored", kept);
        values.put("store/messages/count", kept);
        values.put("store/messages/bytes", self.retained.bytes() as u64 + stored.bytes);
        values.put("publish/messages/received", stats.publish_received);
        values.put("publish/messages/sent", stats.publish_sent);
        values.put("publish/messages/dropped", dropped);
        values.put("publish/bytes/received", stats.publish_bytes_received);
        values.put("publish/bytes/sent", stats.publish_bytes_sent);
        values.put("bytes/received", stats.bytes_received);
        values.put("bytes/sent", stats.bytes_sent);
        values.put("subscriptions/count", self.tree.len() - shared - self.rules.len());
        values.put("shared_subscriptions/count", shared);
        values.put("retained messages/count", self.retained.len());
        for (limit, count) in stats.limits.iter() {
            values.put(&format!("moteway/limits/{}", limit.key().replace('.', "/")), count);
        }
        let counts = [
            stats.messages_received,
            messages_sent,
            dropped,
            stats.publish_received,
            stats.publish_sent,
            stats.bytes_received,
            stats.bytes_sent,
            stats.connections_opened,
            stats.connects,
        ];
        for (name, load) in LOADS.iter().zip(self.sys.loads.update(now.at, counts)) {
            for (average, minutes) in load.averages.iter().zip(MINUTES) {
                values.put(&format!("load/{name}/{minutes}min"), format_args!("{average:.2}"));
            }
        }
        self.sys.values = values.0;
    }
}

/// Topics and values, being gathered.
#[derive(Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn put(&mut self, name: &str, value: impl Display) {
        self.0.push((format!("{ROOT}/broker/{name}"), value.to_string()));
    }
}

#[cfg(test)]
impl SysTopics {
    pub(crate) fn values_are_dropped(&self) -> bool {
        self.values.is_empty()
    }
}
