//! A topic filter whose wildcards may have names: `site/{room}/+/{rest#}`.

use crate::bridge::rule::shape::{Shape, Step};
use crate::bridge::rule::{Part, RuleError};
use crate::mqtt::topic;

/// Names in one filter.
pub(super) const MAX_NAMES: usize = 16;

/// A level of a filter. A number says which capture keeps what the wildcard stood for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    Literal(Box<str>),
    /// `+` or `{name}`
    One(Option<u8>),
    /// `#` or `{name#}`, the last level
    Rest(Option<u8>),
}

/// What a name in the filter stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: Box<str>,
    /// Any number of levels, also none.
    pub(super) many: bool,
}

/// A topic filter with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) levels: Vec<Level>,
    pub(super) names: Vec<Name>,
}

/// What the names stood for in one topic. `None`: the rest has no level at all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Captures<'t> {
    slots: [Option<&'t str>; MAX_NAMES],
}

impl<'t> Captures<'t> {
    pub(super) fn get(&self, name: u8) -> Option<&'t str> {
        self.slots[usize::from(name)]
    }

    fn set(&mut self, name: Option<u8>, text: Option<&'t str>) {
        if let Some(name) = name {
            self.slots[usize::from(name)] = text;
        }
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let wrong = |message: String, help: &str| RuleError::new(Part::Filter, message, help);
        let mut pattern = Self { levels: Vec::new(), names: Vec::new() };
        for level in topic::levels(text) {
            let parsed = match level {
                "+" => Level::One(None),
                "#" => Level::Rest(None),
                _ if level.starts_with('{') && level.ends_with('}') && level.len() > 2 => {
                    pattern.named(&level[1..level.len() - 1])?
                }
                _ if level.contains(['{', '}', '+', '#']) => {
                    return Err(wrong(
                        format!("a wildcard or name must fill its level, and `{level}` does not"),
                        "write whole levels, such as a/{name}/b",
                    ));
                }
                _ => Level::Literal(level.into()),
            };
            if matches!(pattern.levels.last(), Some(Level::Rest(_))) {
                return Err(wrong(
                    "`#` stands for all that follows, so nothing can follow it".to_owned(),
                    "use + or {name} for one level",
                ));
            }
            pattern.levels.push(parsed);
        }
        let filter = pattern.filter();
        if topic::share(&filter).is_some() || filter == "$share" || filter.starts_with("$share/") {
            return Err(wrong(
                "a rule cannot use a shared subscription".to_owned(),
                "write the filter without $share/group/",
            ));
        }
        topic::check_filter(&filter)
            .map_err(|error| wrong(error.to_string(), "write a topic filter, such as site/+/#"))?;
        Ok(pattern)
    }

    fn named(&mut self, inner: &str) -> Result<Level, RuleError> {
        let (text, many) = match inner.strip_suffix('#') {
            Some(text) => (text, true),
            None => (inner, false),
        };
        let wrong = |message: String, help: &str| RuleError::new(Part::Filter, message, help);
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            return Err(wrong(
                format!("`{{{inner}}}` has no proper name"),
                "a name has letters, digits, `_` and `-`; `#` may follow it",
            ));
        }
        if self.names.iter().any(|name| &*name.text == text) {
            return Err(wrong(format!("the name `{text}` is there twice"), "give each wildcard its own name"));
        }
        let name = match u8::try_from(self.names.len()) {
            Ok(name) if self.names.len() < MAX_NAMES => name,
            _ => return Err(wrong(format!("more than {MAX_NAMES} names"), "use + where no name is needed")),
        };
        self.names.push(Name { text: text.into(), many });
        Ok(if many { Level::Rest(Some(name)) } else { Level::One(Some(name)) })
    }

    /// As MQTT writes it, without names.
    pub(super) fn filter(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Literal(text) => text,
                Level::One(_) => "+",
                Level::Rest(_) => "#",
            })
            .collect();
        levels.join("/")
    }

    /// What the names stand for in `topic`, if it matches.
    pub(super) fn capture<'t>(&self, topic: &'t str) -> Option<Captures<'t>> {
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && !self.begins_literally() {
            return None;
        }
        let mut captures = Captures::default();
        let mut left = Some(topic);
        for level in &self.levels {
            if let Level::Rest(name) = level {
                captures.set(*name, left);
                return Some(captures);
            }
            let text = left?;
            let head = match text.bytes().position(|byte| byte == b'/') {
                Some(at) => {
                    left = Some(&text[at + 1..]);
                    &text[..at]
                }
                None => {
                    left = None;
                    text
                }
            };
            match level {
                Level::Literal(literal) if **literal != *head => return None,
                Level::One(name) => captures.set(*name, Some(head)),
                _ => {}
            }
        }
        left.is_none().then_some(captures)
    }

    /// Whether the first level is no wildcard.
    pub(super) fn begins_literally(&self) -> bool {
        matches!(self.levels.first(), Some(Level::Literal(_)))
    }

    /// The level that has this name.
    pub(super) fn position(&self, name: u8) -> Option<usize> {
        self.levels.iter().position(|level| *level == Level::One(Some(name)) || *level == Level::Rest(Some(name)))
    }

    /// The topics that match.
    pub(super) fn shape(&self) -> Shape {
        let step = |level: &Level| match level {
            Level::Literal(text) => Step::Literal(text.clone()),
            Level::One(_) => Step::Any,
            Level::Rest(_) => Step::Rest,
        };
        Shape(self.levels.iter().map(step).collect())
    }
}
