//! The engine under another configuration: each core takes the difference, nobody else notices.

use crate::bridge::rule::{CompiledRule, RuleError};
use crate::bridge::{Common, Intake};
use crate::broker::login::Credentials;
use crate::config::{Config, Ids};
use crate::engine::Engine;
use crate::engine::setup::link_names;
use crate::engine::shutdown::Stop;
use crate::metrics::{Level, Notice};
use crate::queue::Owner;
use crate::time::Now;

/// A proved configuration, and what its files hold.
#[derive(Debug)]
pub struct Plan {
    config: Config,
    ids: Ids,
    credentials: Credentials,
}

impl Plan {
    /// Proves a configuration in which `{gateway}` was filled in.
    ///
    /// # Errors
    /// If a rule cannot work.
    pub fn new(config: Config, ids: Ids, credentials: Credentials) -> Result<Self, RuleError> {
        for rule in config.upstream.iter().flat_map(|upstream| &upstream.rule) {
            CompiledRule::new(rule)?;
        }
        Ok(Self { config, ids, credentials })
    }
}

impl Engine {
    /// All of it at once: no message comes between its parts. A daemon that is stopping stays as it is.
    pub(crate) fn reconfigure(&mut self, now: Now, plan: Plan) {
        if self.stop != Stop::No {
            return;
        }
        let Plan { config, ids, credentials } = plan;
        self.queues.configure(&config.store);
        self.broker.reconfigure(now, &mut self.queues, &config, &ids.listener);
        self.broker.handle_credentials(credentials);
        self.gateway.configure(config.sn.clone(), &config.link, &ids.link);
        self.links = link_names(&config, &ids);
        let gone: Vec<_> = self.upstreams.keys().filter(|id| !ids.upstream.contains(id)).copied().collect();
        for id in gone {
            let (bridge, mut ports) = self.bridge_and_ports();
            ports.with(|out, local| bridge.retire(now, id, out, local));
            self.broker.meet(id, None);
            if let Some(setup) = self.upstreams.remove(&id) {
                self.forget_status(now, &setup.name);
            }
        }
        self.broker.clear_rules();
        let intake = Intake::new(&config.broker);
        let common = Common { intake, recovered: self.queues.last_seq() };
        for (id, upstream) in ids.upstream.iter().zip(&config.upstream) {
            // All rules were proved.
            let Ok(setup) = self.open_upstream(now, *id, upstream) else { continue };
            let is_new = !self.bridge.knows(*id);
            let (bridge, mut ports) = self.bridge_and_ports();
            let taken = if is_new {
                bridge.add(*id, setup, common)
            } else {
                ports.with(|out, local| bridge.reconfigure(now, *id, setup, common, out, local))
            };
            if let Err(error) = taken {
                let notice = Notice::new(Level::Error, "rule cannot work", &upstream.name, error.to_string());
                self.notice(notice);
            }
        }
        self.disown(&config, &ids);
        self.warn_of_orphans();
    }

    /// Queues of rules that are no more keep what they hold.
    fn disown(&mut self, config: &Config, ids: &Ids) {
        let owned = self.queues.names().filter(|(name, dest)| match self.queues.owner(*dest) {
            Some(Owner::Upstream(id)) => {
                let at = ids.upstream.iter().position(|known| *known == id);
                at.and_then(|at| config.upstream.get(at)).is_none_or(|upstream| !has_line(upstream, name))
            }
            _ => false,
        });
        for dest in owned.map(|(_, dest)| dest).collect::<Vec<_>>() {
            self.queues.disown(dest);
        }
    }

    /// What was said of an upstream that is no more is not true of anything.
    fn forget_status(&mut self, now: Now, name: &str) {
        if !self.status_topic.is_empty() {
            let topic = format!("{}/upstream/{name}", self.status_topic);
            self.broker.publish_own(now, &mut self.queues, &topic, &[], true);
        }
    }
}

/// Whether the upstream has a queue of this name.
fn has_line(upstream: &crate::config::Upstream, name: &str) -> bool {
    use crate::config::Direction;
    use crate::engine::setup::{live_line, receipts_line, rule_line};
    upstream.rule.iter().any(|rule| {
        let sends = name == rule_line(&upstream.name, &rule.name) || name == live_line(&upstream.name, &rule.name);
        let takes = name == receipts_line(&upstream.name);
        match rule.direction {
            Direction::Out => sends,
            Direction::In => takes,
            Direction::Both => sends || takes,
        }
    })
}
