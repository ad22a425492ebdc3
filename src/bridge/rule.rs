//! Rules of a bridge: which topics go to the upstream or come from it, and under which names.
//!
//! A filter is an MQTT topic filter whose wildcards may have names; the new topic is made of them. A rule is proved
//! when it is compiled, at configuration time: its names bind, the new topic is legal whatever the message's topic is,
//! and (in [`check`]) no two rules of an upstream play ball with each other.

mod check;
mod field;
mod mapping;
mod pattern;
mod shape;
mod template;
#[cfg(test)]
mod tests;

pub use check::check;
pub use field::Fields;
pub use mapping::{Mapping, Unmapped};

use crate::bridge::rule::field::Field;
use crate::config::{Direction, Rule};

/// A rule, ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRule {
    /// From local topics to the upstream's, when the rule's direction is out or both.
    pub outward: Option<Mapping>,
    /// From the upstream's topics to local ones, when the rule's direction is in or both. Its filter is what to
    /// subscribe to at the upstream.
    pub inward: Option<Mapping>,
}

impl CompiledRule {
    /// Compiles a rule of a configuration in which `{gateway}` was filled in.
    ///
    /// # Errors
    /// When the rule cannot work, with the key that is wrong.
    pub fn new(rule: &Rule) -> Result<Self, RuleError> {
        let mapping = Mapping::compile(&rule.filter, &rule.remap, &rule.exclude)?;
        check_fields(rule, &mapping)?;
        Ok(match rule.direction {
            Direction::Out => Self { outward: Some(mapping), inward: None },
            Direction::In => Self { outward: None, inward: Some(mapping) },
            Direction::Both => Self { inward: Some(mapping.reverse()?), outward: Some(mapping) },
        })
    }
}

/// A message says something of itself on its way to the upstream only, and is counted only where that is asked for.
fn check_fields(rule: &Rule, mapping: &Mapping) -> Result<(), RuleError> {
    let wrong = |message: &str, help: &str| Err(RuleError::new(Part::Remap, message, help));
    if mapping.has_fields() && rule.direction != Direction::Out {
        let help = "write a rule with `direction = \"out\"` for it";
        return wrong("`{mw-time}`, `{mw-seq}` and `{mw-epoch}` are known of messages that go out only", help);
    }
    if !rule.trace && mapping.fields().any(Field::is_counted) {
        let help = "add `trace = true` to the rule";
        return wrong("`{mw-seq}` and `{mw-epoch}` need messages to be counted", help);
    }
    Ok(())
}

/// Whether a topic may match both filters.
#[must_use]
pub fn overlap(a: &str, b: &str) -> bool {
    shape::Shape::of_filter(a).meet(&shape::Shape::of_filter(b)).is_some()
}

/// The key of a rule that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `filter`
    Filter,
    /// `remap`
    Remap,
    /// The exclude at this position.
    Exclude(usize),
}

/// Why a rule cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Where.
    pub part: Part,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl RuleError {
    fn new(part: Part, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { part, message: message.into(), help: help.into() }
    }

    /// The path of the key, in the rule that has the path `rule`.
    #[must_use]
    pub fn path(&self, rule: &str) -> String {
        match self.part {
            Part::Filter => format!("{rule}.filter"),
            Part::Remap => format!("{rule}.remap"),
            Part::Exclude(i) => format!("{rule}.exclude[{i}]"),
        }
    }
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RuleError {}
