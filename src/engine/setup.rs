//! The engine as it starts: what the configuration asks for meets what the store found.

use std::collections::{BTreeMap, VecDeque};

use crate::bridge::rule::{CompiledRule, RuleError};
use crate::bridge::{Bridge, Common, Intake, Setup};
use crate::broker::{BridgeRule, Broker};
use crate::config::{Config, Drain, Ids, LinkId, Rule, Upstream, UpstreamId, UpstreamVersion, WhenFull};
use crate::engine::bonds::Bonds;
use crate::engine::history::History;
use crate::engine::ports::{Clients, OutRule, UpstreamSetup};
use crate::engine::rates::Rates;
use crate::engine::shutdown::Stop;
use crate::engine::{Engine, Output};
use crate::gateway::Gateway;
use crate::metrics::{Level, Notice};
use crate::mqtt::hop::Gateway as Hop;
use crate::queue::{DestId, Limits, Owner, Queues, RecordKind, Recovered};
use crate::time::Now;

/// What the engine is made of.
#[derive(Debug)]
pub struct Start<'a> {
    /// Checked, with `{gateway}` filled in.
    pub config: &'a Config,
    /// What the store found.
    pub recovered: Recovered,
    /// Seeds everything that is random: jitter, assigned client ids, hash tables.
    pub seed: u64,
}

impl Engine {
    /// An engine that continues where the store left off.
    ///
    /// # Errors
    /// If a rule cannot work; a checked configuration has none.
    pub fn new(now: Now, start: Start<'_>) -> Result<Self, RuleError> {
        let Start { config, recovered, seed } = start;
        let mut queues = Queues::new(&config.store, &recovered);
        queues.watch_clock(now);
        queues.begin_epoch(fastrand::Rng::with_seed(seed).u32(..));
        let mut broker = Broker::new(now, config, seed);
        let newest = recovered.last_seq;
        let damage = recovered.damage.clone();
        let sn_records = gateway_records(&recovered);
        let bonds = Bonds::recover(&recovered);
        let stored = stored_suffix(&recovered);
        let suffix = stored.clone().unwrap_or_else(|| format!("{:08x}", fastrand::Rng::with_seed(seed).u32(..)));
        broker.set_gateway(Hop::new(&format!("{}.{suffix}", config.gateway.name)));
        broker.recover(now, &mut queues, recovered);

        let mut gateway = Gateway::new(config.sn.clone(), &config.link);
        let mut clients = Clients { broker: &mut broker, queues: &mut queues };
        let records = sn_records.iter().map(|(client_id, record)| (client_id.as_str(), record.as_str()));
        gateway.recover(now, records, &mut clients);
        broker.expect_more_sys_topics();

        let ids = Ids::new(config);
        let mut engine = Self {
            broker,
            gateway,
            bridge: Bridge::new(seed),
            queues,
            status_topic: config.gateway.status_topic.clone(),
            upstreams: BTreeMap::new(),
            links: link_names(config, &ids),
            ports: Vec::new(),
            conns: Vec::new(),
            outputs: VecDeque::new(),
            stop: Stop::No,
            history: History::default(),
            rates: Rates::default(),
            replaying: Vec::new(),
            keeps_suffix: stored.is_some(),
            bonds,
        };
        let common = Common { intake: Intake::new(&config.broker), recovered: newest };
        for (id, upstream) in ids.upstream.iter().zip(&config.upstream) {
            let setup = engine.open_upstream(now, *id, upstream)?;
            engine.bridge.add(*id, setup, common)?;
        }
        if let Some(damage) = damage {
            engine.outputs.push_back(Output::Notice(Notice::new(
                Level::Error,
                "store was damaged",
                "store",
                damage,
            )));
        }
        engine.warn_of_orphans();
        // Sessions that ended with the last process end, and their wills go out, before anybody comes in.
        engine.broker.handle_timeout(now, &mut engine.queues);
        engine.settle(now);
        Ok(engine)
    }

    /// Opens an upstream's queues and makes its rules targets of the broker.
    pub(super) fn open_upstream(
        &mut self,
        now: Now,
        id: UpstreamId,
        upstream: &Upstream,
    ) -> Result<Setup, RuleError> {
        let resumes = self.resumes(now, upstream);
        let opened = open_rules(now, &mut self.queues, &mut self.broker, id, upstream)?;
        let dests = opened.iter().map(|(position, rule)| (*position, rule.dest)).collect();
        let live = opened.iter().filter_map(|(position, rule)| Some((*position, rule.live?))).collect();
        let receipts = open_receipts(now, &mut self.queues, id, upstream)?;
        let rules = opened.into_iter().map(|(_, rule)| rule).collect();
        let setup = UpstreamSetup { name: upstream.name.clone(), receipts, rules, pace: upstream.pace };
        self.upstreams.insert(id, setup);
        let marks = upstream.hop_marker && upstream.version == UpstreamVersion::V5;
        let hop = marks.then(|| self.broker.gateway().clone());
        if marks {
            self.keep_suffix(now);
        }
        let peer = self.bonds.gateway(&upstream.name).filter(|_| marks).map(Hop::new);
        self.broker.meet(id, peer.as_ref());
        Ok(Setup { config: upstream.clone(), dests, live, hop, resumes })
    }

    /// Messages that bear what was made by chance are known after a restart too.
    fn keep_suffix(&mut self, now: Now) {
        let suffix = self.broker.gateway().name.rsplit('.').next().unwrap_or_default();
        if !std::mem::replace(&mut self.keeps_suffix, true) {
            self.queues.put(now, RecordKind::Meta, SUFFIX_KEY, suffix.as_bytes(), None);
        }
    }

    /// Whether the session that the upstream may have under our name is ours.
    fn resumes(&mut self, now: Now, upstream: &Upstream) -> bool {
        if let Some(is_ours) = self.bonds.is_ours(&upstream.name, &upstream.client_id) {
            return is_ours;
        }
        // Earlier versions wrote no more than the queues.
        let was_known = has_lines(&self.queues, upstream);
        let client_id = was_known.then_some(upstream.client_id.as_str());
        if let Some(record) = self.bonds.note(&upstream.name, client_id) {
            self.queues.put(now, RecordKind::Upstream, upstream.name.as_bytes(), &record, None);
        }
        was_known
    }

    /// Queues of rules that are no longer configured keep what they hold, and say so.
    pub(super) fn warn_of_orphans(&mut self) {
        for (name, dest) in self.queues.names() {
            let waiting = self.queues.depth(dest).messages;
            if self.queues.owner(dest) == Some(Owner::Nobody) && waiting > 0 {
                let detail = format!("{waiting} stored messages wait for a rule that is no longer configured");
                self.outputs.push_back(Output::Notice(Notice::new(
                    Level::Warn,
                    "queue without a rule",
                    name,
                    detail,
                )));
            }
        }
    }
}

/// The gateway's records: client id and JSON.
fn gateway_records(recovered: &Recovered) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = recovered.records.iter().filter(|(kind, ..)| *kind == RecordKind::SnClient);
    records.map(|(_, key, value)| (text(key), text(value))).collect()
}

/// The key of what the store has beside the gateway's name, so that no other box is taken for this one.
const SUFFIX_KEY: &[u8] = b"hop";

/// What the store has of that, if it has.
fn stored_suffix(recovered: &Recovered) -> Option<String> {
    let is_ours = |kind: RecordKind, key: &[u8]| kind == RecordKind::Meta && key == SUFFIX_KEY;
    let found = recovered.records.iter().find(|(kind, key, _)| is_ours(*kind, key));
    found.map(|(.., suffix)| String::from_utf8_lossy(suffix).into_owned())
}

/// The names of radio links by number.
pub(super) fn link_names(config: &Config, ids: &Ids) -> BTreeMap<LinkId, String> {
    ids.link.iter().copied().zip(config.link.iter().map(|link| link.name.clone())).collect()
}

pub(super) fn rule_line(upstream: &str, rule: &str) -> String {
    format!("rule:{upstream}/{rule}")
}

/// The other lane of a rule, for what comes in while a backlog waits.
pub(super) fn live_line(upstream: &str, rule: &str) -> String {
    format!("live:{upstream}/{rule}")
}

pub(super) fn receipts_line(upstream: &str) -> String {
    format!("upstream:{upstream}")
}

/// Whether the store knows this upstream from before.
fn has_lines(queues: &Queues, upstream: &Upstream) -> bool {
    let rules = rule_line(&upstream.name, "");
    queues.names().any(|(name, _)| name.starts_with(&rules) || name == receipts_line(&upstream.name))
}

/// Gives each rule that sends its queue, and makes it a target of the broker.
fn open_rules(
    now: Now,
    queues: &mut Queues,
    broker: &mut Broker,
    id: UpstreamId,
    upstream: &Upstream,
) -> Result<Vec<(usize, OutRule)>, RuleError> {
    let mut opened = Vec::new();
    for (position, rule) in upstream.rule.iter().enumerate() {
        let Some(outward) = CompiledRule::new(rule)?.outward else { continue };
        let limits =
            Limits { max_messages: rule.max_messages, max_bytes: rule.max_bytes, when_full: rule.when_full };
        let name = rule_line(&upstream.name, &rule.name);
        let Some(dest) = queues.open(now, &name, Owner::Upstream(id), limits) else { continue };
        let live = open_live(now, queues, id, upstream, rule, limits);
        queues.pair(dest, live.filter(|_| rule.drain == Drain::LiveFirst));
        queues.trace(dest, rule.trace);
        broker.add_rule(BridgeRule {
            filter: outward.filter().into(),
            exclude: rule.exclude.iter().map(|filter| filter.as_str().into()).collect(),
            dest,
            upstream: id,
            qos: rule.qos,
            retain: rule.retain,
            ttl: rule.ttl,
            keeps_topic: rule.remap.is_empty(),
        });
        let out = OutRule {
            name: rule.name.clone(),
            mapping: outward,
            dest,
            qos: rule.qos,
            live,
            ttl: rule.ttl,
            priority: rule.priority,
            pace: rule.pace,
            live_first: rule.drain == Drain::LiveFirst,
        };
        opened.push((position, out));
    }
    let lines: Vec<DestId> = opened.iter().flat_map(|(_, rule)| rule.lanes()).collect();
    for (index, dest) in lines.iter().enumerate() {
        queues.share_pkids(*dest, index, lines.len());
    }
    Ok(opened)
}

/// The second lane of a rule, if it is to have one, or still has something in it from an earlier configuration.
fn open_live(
    now: Now,
    queues: &mut Queues,
    id: UpstreamId,
    upstream: &Upstream,
    rule: &Rule,
    limits: Limits,
) -> Option<DestId> {
    let name = live_line(&upstream.name, &rule.name);
    let wanted = rule.drain == Drain::LiveFirst || queues.is_known(&name);
    wanted.then(|| queues.open(now, &name, Owner::Upstream(id), limits)).flatten()
}

fn open_receipts(
    now: Now,
    queues: &mut Queues,
    id: UpstreamId,
    upstream: &Upstream,
) -> Result<Option<DestId>, RuleError> {
    for rule in &upstream.rule {
        if CompiledRule::new(rule)?.inward.is_some() {
            let limits = Limits { max_messages: 0, max_bytes: 0, when_full: WhenFull::Reject };
            return Ok(queues.open(now, &receipts_line(&upstream.name), Owner::Upstream(id), limits));
        }
    }
    Ok(None)
}
