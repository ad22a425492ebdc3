//! One direction of a rule: which topics it takes, and what they become.

use std::fmt;

use crate::bridge::rule::field::{Field, Fields};
use crate::bridge::rule::pattern::{Level, Pattern};
use crate::bridge::rule::shape::Shape;
use crate::bridge::rule::template::{Piece, Segment, Template};
use crate::bridge::rule::{Part, RuleError};
use crate::mqtt::topic;

/// Why a topic is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// The filter does not match.
    NotMatched,
    /// An exclude matches.
    Excluded,
    /// The new topic would have no character, more than 65535 bytes, or would begin with a `$` that is not in the
    /// rule but in the message's topic: nobody gets at `$SYS` or `$aws` by publishing to `site/$aws`.
    Illegal,
}

impl fmt::Display for Unmapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMatched => "the filter does not match",
            Self::Excluded => "it is excluded",
            Self::Illegal => "its new name would be empty, too long, or begin with a captured `$`",
        })
    }
}

/// One direction of a rule. Proved when it was made: what [`Mapping::remap`] writes is a legal topic name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    filter: Box<str>,
    pattern: Pattern,
    /// `None`: the topic as it is.
    template: Option<Template>,
    /// Filters for topics as they come in,
    exclude: Box<[Box<str>]>,
    /// and as they go out.
    exclude_after: Box<[Box<str>]>,
}

impl Mapping {
    /// Understands a filter, a new topic with its names (empty: the topic as it is), and excludes.
    ///
    /// # Errors
    /// When one of them is not legal, or the new topic has a name that the filter has not.
    pub fn compile(filter: &str, remap: &str, exclude: &[String]) -> Result<Self, RuleError> {
        let pattern = Pattern::parse(filter)?;
        let template = match remap {
            "" => None,
            _ => Some(Template::parse(remap, &pattern.names)?),
        };
        for (i, text) in exclude.iter().enumerate() {
            check_exclude(i, text)?;
        }
        Ok(Self {
            filter: pattern.filter().into(),
            pattern,
            template,
            exclude: exclude.iter().map(|text| text.as_str().into()).collect(),
            exclude_after: Box::default(),
        })
    }

    /// What it takes, as an MQTT filter: to subscribe with.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Whether the new topic has something in it that a message says of itself.
    #[must_use]
    pub fn has_fields(&self) -> bool {
        self.fields().next().is_some()
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        self.template.iter().flat_map(Template::fields)
    }

    /// Writes to `out` what becomes of `topic`, a legal topic name, with fields as they are written. Allocates only when
    /// `out` must grow.
    ///
    /// # Errors
    /// When the topic is not taken; then `out` holds nothing of use.
    pub fn remap(&self, topic: &str, out: &mut String) -> Result<(), Unmapped> {
        self.remap_with(topic, Fields::WRITTEN, out)
    }

    /// As [`remap`](Self::remap), for a message that says this of itself.
    ///
    /// # Errors
    /// When the topic is not taken; then `out` holds nothing of use.
    pub fn remap_with(&self, topic: &str, fields: Fields<'_>, out: &mut String) -> Result<(), Unmapped> {
        out.clear();
        let captures = self.pattern.capture(topic).ok_or(Unmapped::NotMatched)?;
        if self.exclude.iter().any(|filter| topic::matches(filter, topic)) {
            return Err(Unmapped::Excluded);
        }
        let dollar = match &self.template {
            None => {
                out.push_str(topic);
                true
            }
            Some(template) => {
                template.write(&captures, fields, out);
                template.begins_with_dollar()
            }
        };
        if out.is_empty() || out.len() > topic::MAX_LEN || (out.starts_with('$') && !dollar) {
            return Err(Unmapped::Illegal);
        }
        if self.exclude_after.iter().any(|filter| topic::matches(filter, out)) {
            return Err(Unmapped::Excluded);
        }
        Ok(())
    }

    /// The way back: takes what [`Mapping::remap`] yields and gives what it was made of.
    ///
    /// # Errors
    /// When that is not unique, or cannot be subscribed to.
    pub fn reverse(&self) -> Result<Self, RuleError> {
        let (pattern, template) = match &self.template {
            None => (self.pattern.clone(), None),
            Some(template) => {
                let pattern = self.reverse_pattern(template)?;
                (pattern, Some(self.reverse_template()?))
            }
        };
        Ok(Self {
            filter: pattern.filter().into(),
            pattern,
            template,
            exclude: self.exclude_after.clone(),
            exclude_after: self.exclude.clone(),
        })
    }

    fn reverse_pattern(&self, template: &Template) -> Result<Pattern, RuleError> {
        let wrong = |message: String, help: &str| Err(RuleError::new(Part::Remap, message, help));
        let mut uses = vec![0u32; self.pattern.names.len()];
        let mut levels = Vec::new();
        for segment in &template.segments {
            if let Some(Level::Rest(_)) = levels.last() {
                return wrong(
                    "something follows a name for many levels, so the way back is not clear".to_owned(),
                    "with `direction = \"both\"`, put {name#} last in `filter` and {name} last in `remap`",
                );
            }
            match segment {
                Segment::Fixed(text) => levels.extend(topic::levels(text).map(|text| Level::Literal(text.into()))),
                Segment::Level(pieces) => match pieces[..] {
                    [Piece::Name(name)] => levels.push(named(name, &mut uses, Level::One)),
                    _ => {
                        return wrong(
                            "a level is made of a name and more, so the way back is not clear".to_owned(),
                            "with `direction = \"both\"`, let each name fill its level, or write two rules",
                        );
                    }
                },
                Segment::Rest(name) => levels.push(named(*name, &mut uses, Level::Rest)),
            }
        }
        if let Some(at) = uses.iter().position(|&uses| uses != 1) {
            let text = &self.pattern.names[at].text;
            let times = if uses[at] == 0 { "not" } else { "more than once" };
            return wrong(
                format!("`{{{text}}}` is {times} in `remap`, so the way back is not clear"),
                "with `direction = \"both\"`, use each name exactly once, or write two rules",
            );
        }
        Ok(Pattern { levels, names: self.pattern.names.clone() })
    }

    fn reverse_template(&self) -> Result<Template, RuleError> {
        let mut template = Template { segments: Vec::new() };
        for level in &self.pattern.levels {
            template.push(match level {
                Level::Literal(text) => Segment::Fixed(text.clone()),
                Level::One(Some(name)) => Segment::Level(vec![Piece::Name(*name)]),
                Level::Rest(Some(name)) => Segment::Rest(*name),
                Level::One(None) | Level::Rest(None) => {
                    return Err(RuleError::new(
                        Part::Filter,
                        "a wildcard without a name cannot be filled in on the way back",
                        "with `direction = \"both\"` and a `remap`, give each wildcard a name: {name} for +, {name#} for #",
                    ));
                }
            });
        }
        Ok(template)
    }

    /// The topics that the filter matches.
    pub(super) fn shape(&self) -> Shape {
        self.pattern.shape()
    }

    /// What becomes of the topics of `source`, all of which the filter matches: at least these.
    pub(super) fn image(&self, source: &Shape) -> Shape {
        self.template.as_ref().map_or_else(|| source.clone(), |template| template.image(&self.pattern, source))
    }

    /// Whether all topics of `source` are surely excluded, judged as they come in.
    pub(super) fn excludes(&self, source: &Shape) -> bool {
        self.exclude.iter().any(|filter| source.is_within(&Shape::of_filter(filter)))
    }

    /// Whether all topics of `image` are surely excluded, judged as they go out.
    pub(super) fn excludes_after(&self, image: &Shape) -> bool {
        self.exclude_after.iter().any(|filter| image.is_within(&Shape::of_filter(filter)))
    }
}

fn named(name: u8, uses: &mut [u32], level: impl Fn(Option<u8>) -> Level) -> Level {
    uses[usize::from(name)] += 1;
    level(Some(name))
}

fn check_exclude(i: usize, text: &str) -> Result<(), RuleError> {
    if text.contains(['{', '}']) {
        let message = format!("{text:?}: an exclude has no names");
        return Err(RuleError::new(Part::Exclude(i), message, "write + for {name} and # for {name#}"));
    }
    topic::check_filter(text).map_err(|error| {
        RuleError::new(Part::Exclude(i), error.to_string(), "write a filter, such as site/+/debug/#")
    })
}
