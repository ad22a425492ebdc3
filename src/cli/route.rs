//! `moteway route TOPIC`: which rules take a topic, what it becomes, and how it is sent.

use serde::Serialize;

use crate::bridge::rule::{CompiledRule, Unmapped};
use crate::cli::access::{self, Access, Who};
use crate::cli::load::examine;
use crate::cli::{ConfigFile, Failure, load, print};
use crate::config::{Config, Rule, RuleQos, RuleRetain, Upstream};
use crate::mqtt::topic;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The topic of the message
    #[arg(value_parser = topic_name)]
    topic: String,
    /// The message comes from this upstream, not from a local client
    #[arg(long, value_name = "UPSTREAM")]
    from: Option<String>,
    #[command(flatten)]
    who: Who,
    /// Print JSON
    #[arg(
        long,
        long_help = "Print JSON:\n\
        {\"topic\": string, \"from\": string or null, \"refused\": string or null (why the local broker does not take it),\n \
        \"access\": null or {\"publish\" and \"read\": {\"allowed\": boolean, \"by\": string or null, \"file\": string or null, \"line\": number or null}},\n \
        \"taken\": [{\"upstream\": string, \"rule\": string, \"topic\": string (the new one), \"qos\": \"keep\", 0, 1 or 2,\n  \
        \"retain\": \"keep\", \"strip\" or \"set\", \"priority\": 0 to 9, \"ttl_seconds\": number (0: none),\n  \
        \"limit\": {\"messages\": number, \"bytes\": number}, \"when_full\": string}],\n \
        \"not_taken\": [{\"upstream\": string, \"rule\": string, \"reason\": string}]}\n\
        `access` is null without --user, --client-id and --anonymous, and without [[acl]]. With --from, `priority`, `limit` and `when_full` are null."
    )]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

fn topic_name(text: &str) -> Result<String, String> {
    topic::check_name(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Route<'c> {
    topic: &'c str,
    from: Option<&'c str>,
    refused: Option<String>,
    access: Option<Access>,
    taken: Vec<Taken<'c>>,
    not_taken: Vec<NotTaken<'c>>,
}

#[derive(Debug, Serialize)]
struct Taken<'c> {
    upstream: &'c str,
    rule: &'c str,
    topic: String,
    qos: Qos,
    retain: &'static str,
    ttl_seconds: u64,
    priority: Option<u8>,
    limit: Option<Limit>,
    when_full: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Limit {
    messages: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct NotTaken<'c> {
    upstream: &'c str,
    rule: &'c str,
    reason: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Qos {
    Word(&'static str),
    Level(u8),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let document = examine(&args.config.config)?;
    let loaded = load(&args.config.config)?;
    let access = access::ask(&document, &args.who, &args.topic);
    let route = route(&loaded.config, &args.topic, args.from.as_deref(), access)?;
    if args.json {
        let json = serde_json::to_string_pretty(&route).map_err(|error| Failure::Failed(error.to_string()))?;
        return print(&(json + "\n"));
    }
    print(&in_words(&route, loaded.config.acl.is_empty()))
}

fn route<'c>(
    config: &'c Config,
    topic: &'c str,
    from: Option<&'c str>,
    access: Option<Access>,
) -> Result<Route<'c>, Failure> {
    let mut route = Route { topic, from, refused: None, access, taken: Vec::new(), not_taken: Vec::new() };
    if let Some(name) = from {
        let Some(upstream) = config.upstream.iter().find(|upstream| upstream.name == name) else {
            let names: Vec<&str> = config.upstream.iter().map(|upstream| upstream.name.as_str()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Failure::Failed(format!("there is no upstream `{name}`; there is: {known}")));
        };
        judge(upstream, &mut route)?;
        return Ok(route);
    }
    let denied = route.access.as_ref().and_then(Access::refusal);
    route.refused = refusal(config, topic).or(denied);
    if route.refused.is_none() {
        for upstream in &config.upstream {
            judge(upstream, &mut route)?;
        }
    }
    Ok(route)
}

/// Why the local broker would not take the topic.
fn refusal(config: &Config, topic: &str) -> Option<String> {
    let levels = topic::levels(topic).count();
    let (most, longest) = (config.broker.max_topic_levels, config.broker.max_topic_bytes);
    if levels > most {
        return Some(format!("it has {levels} levels, and broker.max_topic_levels is {most}"));
    }
    (topic.len() > longest)
        .then(|| format!("it has {} bytes, and broker.max_topic_bytes is {longest}", topic.len()))
}

/// Asks each rule of an upstream.
fn judge<'c>(upstream: &'c Upstream, route: &mut Route<'c>) -> Result<(), Failure> {
    for rule in &upstream.rule {
        let compiled = CompiledRule::new(rule).map_err(|error| Failure::Failed(error.to_string()))?;
        let inward = route.from.is_some();
        let mapping = if inward { compiled.inward } else { compiled.outward };
        let mut topic = String::new();
        let reason = match mapping.map(|mapping| mapping.remap(route.topic, &mut topic)) {
            Some(Ok(())) => {
                route.taken.push(Taken::new(upstream, rule, topic, inward));
                continue;
            }
            Some(Err(Unmapped::NotMatched)) => format!("its filter is {}", rule.filter),
            Some(Err(reason)) => reason.to_string(),
            None if inward => "it goes to the upstream only".to_owned(),
            None => "it comes from the upstream only".to_owned(),
        };
        route.not_taken.push(NotTaken { upstream: &upstream.name, rule: &rule.name, reason });
    }
    Ok(())
}

impl<'c> Taken<'c> {
    fn new(upstream: &'c Upstream, rule: &'c Rule, topic: String, inward: bool) -> Self {
        let limit = Limit { messages: rule.max_messages, bytes: rule.max_bytes };
        Self {
            upstream: &upstream.name,
            rule: &rule.name,
            topic,
            qos: match rule.qos {
                RuleQos::Keep => Qos::Word("keep"),
                RuleQos::Fixed(qos) => Qos::Level(qos.as_u8()),
            },
            retain: match rule.retain {
                RuleRetain::Keep => "keep",
                RuleRetain::Strip => "strip",
                RuleRetain::Set => "set",
            },
            ttl_seconds: rule.ttl.as_secs(),
            priority: (!inward).then_some(rule.priority),
            limit: (!inward).then_some(limit),
            when_full: (!inward).then_some(rule.when_full.as_str()),
        }
    }
}

fn in_words(route: &Route<'_>, is_open: bool) -> String {
    let mut lines = Vec::new();
    match &route.access {
        Some(access) => lines.extend(access.in_words()),
        None if is_open || route.from.is_some() => {}
        None => {
            lines.push("[[acl]] says who may publish it: ask with --user, --client-id or --anonymous".to_owned());
        }
    }
    if let Some(refused) = &route.refused {
        lines.push(format!("the local broker refuses {}: {refused}", route.topic));
    } else if route.taken.is_empty() {
        let stays = if route.from.is_some() { "goes nowhere" } else { "stays here" };
        lines.push(format!("no rule takes {}: it {stays}", route.topic));
    }
    for taken in &route.taken {
        let arrow = match route.from {
            Some(upstream) => format!("{upstream} -> here"),
            None => format!("here -> {}", taken.upstream),
        };
        lines.push(format!("{arrow}, rule {}", taken.rule));
        lines.push(format!("  topic     {}", taken.topic));
        let qos = match taken.qos {
            Qos::Word(_) => "as published".to_owned(),
            Qos::Level(level) => level.to_string(),
        };
        lines.push(format!("  qos       {qos}"));
        let retain = match taken.retain {
            "strip" => "taken away",
            "set" => "set",
            _ => "as published",
        };
        lines.push(format!("  retain    {retain}"));
        if taken.ttl_seconds > 0 {
            let ttl = humantime::format_duration(std::time::Duration::from_secs(taken.ttl_seconds));
            lines.push(format!("  ttl       {ttl}"));
        }
        if let (Some(priority), Some(limit), Some(when_full)) = (taken.priority, &taken.limit, taken.when_full) {
            lines.push(format!("  priority  {priority}"));
            lines.push(format!("  queue     {} messages, {} bytes, then {when_full}", limit.messages, limit.bytes));
        }
    }
    for not in &route.not_taken {
        lines.push(format!("not by rule {} of {}: {}", not.rule, not.upstream, not.reason));
    }
    lines.join("\n") + "\n"
}
