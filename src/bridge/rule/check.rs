//! Proves the rules of a configuration before the first message.

use crate::bridge::rule::CompiledRule;
use crate::bridge::rule::mapping::Mapping;
use crate::bridge::rule::shape::Shape;
use crate::config::{Config, Direction, Finding, Upstream, UpstreamVersion};

/// What is wrong with the rules, or will surprise. `{gateway}` must have been filled in.
#[must_use]
pub fn check(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, upstream) in config.upstream.iter().enumerate() {
        let rules = compile(&format!("upstream[{i}]"), upstream, &mut found);
        for (at, rule) in rules.iter().enumerate() {
            alone(rule, upstream, &mut found);
            for earlier in &rules[..at] {
                together(earlier, rule, &mut found);
            }
        }
    }
    found
}

struct Proved<'c> {
    path: String,
    name: &'c str,
    exclude: &'c [String],
    direction: Direction,
    compiled: CompiledRule,
}

fn compile<'c>(path: &str, upstream: &'c Upstream, found: &mut Vec<Finding>) -> Vec<Proved<'c>> {
    let mut rules = Vec::new();
    for (j, rule) in upstream.rule.iter().enumerate() {
        let path = format!("{path}.rule[{j}]");
        match CompiledRule::new(rule) {
            Ok(compiled) => rules.push(Proved {
                path,
                name: &rule.name,
                exclude: &rule.exclude,
                direction: rule.direction,
                compiled,
            }),
            Err(error) => found.push(Finding::error(error.path(&path), error.message, error.help)),
        }
    }
    rules
}

fn alone(rule: &Proved<'_>, upstream: &Upstream, found: &mut Vec<Finding>) {
    let source = rule.compiled.outward.as_ref().or(rule.compiled.inward.as_ref()).map(Mapping::shape);
    for (i, exclude) in rule.exclude.iter().enumerate() {
        let apart = source.as_ref().is_some_and(|source| source.meet(&Shape::of_filter(exclude)).is_none());
        if apart {
            found.push(Finding::warning(
                format!("{}.exclude[{i}]", rule.path),
                format!("{exclude:?} excludes nothing: no topic of the rule matches it"),
                "an exclude is a filter on the same side as `filter`",
            ));
        }
    }
    for mapping in [&rule.compiled.outward, &rule.compiled.inward].into_iter().flatten() {
        if mapping.excludes(&mapping.shape()) {
            found.push(Finding::warning(
                format!("{}.exclude", rule.path),
                format!(
                    "rule `{}` never takes anything: its excludes cover all of {:?}",
                    rule.name,
                    mapping.filter()
                ),
                "narrow the excludes, or take the rule out",
            ));
        }
    }
    if rule.direction == Direction::Both && upstream.version == UpstreamVersion::V311 {
        found.push(Finding::warning(
            format!("{}.direction", rule.path),
            "over MQTT 3.1.1 the upstream sends back what it gets from us, since only 5.0 knows \"no local\"",
            "use `version = \"5\"`, or two rules with different topics",
        ));
    }
    if let Some(inward) = &rule.compiled.inward {
        let local = inward.image(&inward.shape()).example();
        if local.starts_with('$') {
            found.push(Finding::warning(
                format!("{}.remap", rule.path),
                format!("local topics such as {local:?} begin with `$`, and are not seen by subscribers to `#`"),
                "choose a local topic without `$`",
            ));
        }
    }
}

fn together(first: &Proved<'_>, second: &Proved<'_>, found: &mut Vec<Finding>) {
    let rounds = [(first, second), (second, first)];
    let echo = rounds.into_iter().find_map(|(out, inward)| {
        let echo = echo(out.compiled.outward.as_ref()?, inward.compiled.inward.as_ref()?)?;
        Some((out, inward, echo))
    });
    if let Some((out, inward, echo)) = echo {
        found.push(Finding::error(
            format!("{}.filter", second.path),
            format!(
                "rules `{}` and `{}` echo each other: what `{}` sends as {:?} comes back through `{}` as {:?}, and goes out again",
                first.name, second.name, out.name, echo.remote, inward.name, echo.local
            ),
            "narrow one of the filters, exclude the topic, or make it one rule with `direction = \"both\"`",
        ));
    }
    // What comes in goes by the first rule that takes it.
    if let (Some(a), Some(b)) = (&first.compiled.inward, &second.compiled.inward)
        && first.exclude.is_empty()
        && b.shape().is_within(&a.shape())
    {
        found.push(Finding::warning(
            format!("{}.filter", second.path),
            format!("rule `{}` never takes anything: `{}` before it takes all of it", second.name, first.name),
            format!("put `{}` first, or exclude its topics from `{}`", second.name, first.name),
        ));
    }
    if let (Some(a), Some(b)) = (&first.compiled.outward, &second.compiled.outward)
        && let Some((local, remote)) = twice(a, b)
    {
        found.push(Finding::warning(
            format!("{}.filter", second.path),
            format!(
                "rules `{}` and `{}` both send {local:?} as {remote:?}, so it arrives twice",
                first.name, second.name
            ),
            "narrow one of the filters, or exclude the topic",
        ));
    }
}

/// A topic that would go round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) remote: String,
    pub(super) local: String,
}

/// Whether something that `out` sends may come back through `inward` and be taken by `out` again. Errs on the side of
/// caution: when it says no, nothing can.
pub(super) fn echo(out: &Mapping, inward: &Mapping) -> Option<Echo> {
    let remote = out.image(&out.shape()).meet(&inward.shape())?;
    if inward.excludes(&remote) || out.excludes_after(&remote) {
        return None;
    }
    let local = inward.image(&remote).meet(&out.shape())?;
    if out.excludes(&local) || inward.excludes_after(&local) {
        return None;
    }
    Some(Echo { remote: remote.example(), local: local.example() })
}

/// A topic that both send under the same name, if there surely is one.
fn twice(a: &Mapping, b: &Mapping) -> Option<(String, String)> {
    let local = a.shape().meet(&b.shape())?;
    let remote = a.image(&local);
    let topic = local.example();
    let (mut from_a, mut from_b) = (String::new(), String::new());
    let both = a.remap(&topic, &mut from_a).is_ok() && b.remap(&topic, &mut from_b).is_ok();
    (both && from_a == from_b && remote == b.image(&local)).then_some((topic, from_a))
}
