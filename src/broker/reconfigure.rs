//! The broker under another configuration: limits, listeners, log-ins, rules of access, rules of bridges.

use crate::broker::acl::Acl;
use crate::broker::packets::Fault;
use crate::broker::session::Peer;
use crate::broker::target::{BridgeRule, Options, Target};
use crate::broker::{Broker, Listener, Timer};
use crate::config::{Config, ListenerId};
use crate::mqtt::{ConnId, ReasonCode};
use crate::queue::{Limits, Queues};
use crate::time::Now;

impl Broker {
    /// Puts another configuration in force. `ids` are the numbers of its listeners. Only clients of listeners that are
    /// no more have to go; what others may do is asked anew from now on.
    pub fn reconfigure(&mut self, now: Now, queues: &mut Queues, config: &Config, ids: &[ListenerId]) {
        self.limits = config.broker.clone();
        // A topic that has a route is not held against the limits again.
        self.routes.forget_all();
        self.retained.configure(config.broker.max_retained_messages, config.broker.max_retained_bytes);
        self.set_queue_limits(queues, config);
        if self.sys.configure(config.broker.sys_interval) {
            self.timers.set(now.at + config.broker.sys_interval, Timer::Sys);
        }
        self.logins.configure(&config.auth);
        let seed = self.rng.u64(..);
        self.set_acl(queues, Acl::new(config, seed));
        self.set_listeners(now, queues, config, ids);
    }

    fn set_queue_limits(&mut self, queues: &mut Queues, config: &Config) {
        (self.queue_limits, self.sleeper_limits) = queue_limits(config);
        let lines: Vec<_> = self.sessions.iter().filter_map(|(_, kept)| Some((kept.line?, kept.peer))).collect();
        for (dest, peer) in lines {
            let limits = if peer == Peer::Local { self.sleeper_limits } else { self.queue_limits };
            queues.set_limits(dest, limits);
        }
    }

    fn set_listeners(&mut self, now: Now, queues: &mut Queues, config: &Config, ids: &[ListenerId]) {
        for (id, configured) in ids.iter().zip(&config.listener) {
            let index = usize::from(id.0);
            if self.listeners.len() <= index {
                self.listeners.resize_with(index + 1, Listener::gone);
            }
            let connections = self.listeners[index].connections;
            self.listeners[index] = Listener { connections, ..Listener::new(configured, &self.limits) };
        }
        let is_gone = |listener: &ListenerId| !ids.contains(listener);
        let why = Fault::new(ReasonCode::AdministrativeAction, "the listener was taken out of the configuration");
        for index in 0..self.conns.len() {
            let Ok(id) = u32::try_from(index).map(ConnId) else { break };
            if self.conn(id).is_some_and(|conn| is_gone(&conn.listener)) {
                self.end(now, queues, id, Some(why), true);
            }
        }
        for (listener, index) in self.listeners.iter_mut().zip(0..) {
            if is_gone(&ListenerId(index)) {
                // What comes in late finds it full. Its name stays until the last of its connections is gone.
                listener.max_connections = 0;
            }
        }
    }

    /// Adds a bridge's out-rule as a target.
    pub fn add_rule(&mut self, rule: BridgeRule) {
        let Ok(slot) = u32::try_from(self.rules.len()) else { return };
        self.tree.insert(&rule.filter, None, Target::Rule(slot), Options::default());
        self.rules.push(rule);
        self.routes.forget_all();
    }

    /// Takes all out-rules away: others follow at once.
    pub fn clear_rules(&mut self) {
        for (rule, slot) in std::mem::take(&mut self.rules).iter().zip(0..) {
            self.tree.remove(&rule.filter, None, Target::Rule(slot));
        }
        self.routes.forget_all();
    }
}

/// Of the queue of an MQTT client, and of a client of the gateway, which sleeps.
pub(super) fn queue_limits(config: &Config) -> (Limits, Limits) {
    let when_full = crate::config::WhenFull::DropOldest;
    let (broker, sn) = (&config.broker, &config.sn);
    (
        Limits { max_messages: broker.max_queued_messages, max_bytes: broker.max_queued_bytes, when_full },
        Limits { max_messages: sn.max_sleep_messages, max_bytes: sn.max_sleep_bytes, when_full },
    )
}
