//! A topic with names in it: `fleet/box-7/{room}/{rest}`.

use crate::bridge::rule::field::{Field, Fields};
use crate::bridge::rule::pattern::{Captures, Name, Pattern};
use crate::bridge::rule::shape::{Shape, Step};
use crate::bridge::rule::{Part, RuleError};
use crate::mqtt::topic;

/// A piece of one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<str>),
    Name(u8),
    Field(Field),
}

/// A part of the new topic, between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// One or more levels that are always the same, joined.
    Fixed(Box<str>),
    /// One level with at least one name in it.
    Level(Vec<Piece>),
    /// The levels that `{name#}` stood for. When there are none, there is no slash either.
    Rest(u8),
}

/// A topic with names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
}

impl Template {
    /// Reads `text`; its names are those of the filter.
    pub(super) fn parse(text: &str, names: &[Name]) -> Result<Self, RuleError> {
        if text == "$share" || text.starts_with("$share/") {
            let help = "a shared subscription is asked for in a filter, and rules have none: choose another topic";
            return Err(RuleError::new(Part::Remap, "$share is no topic", help));
        }
        let mut template = Self { segments: Vec::new() };
        for level in topic::levels(text) {
            let segment = segment(level, names)?;
            template.push(segment);
        }
        if let [Segment::Level(pieces), ..] = &template.segments[..]
            && matches!(&pieces[0], Piece::Text(text) if text.starts_with('$'))
        {
            return Err(RuleError::new(
                Part::Remap,
                "a first level that begins with `$` cannot have names in it",
                "write it in full, such as $aws/things/{name}",
            ));
        }
        Ok(template)
    }

    /// Adds a segment; fixed ones that follow each other become one.
    pub(super) fn push(&mut self, segment: Segment) {
        match (self.segments.last_mut(), segment) {
            (Some(Segment::Fixed(before)), Segment::Fixed(text)) => *before = format!("{before}/{text}").into(),
            (_, segment) => self.segments.push(segment),
        }
    }

    /// Appends the topic to `out`.
    pub(super) fn write(&self, captures: &Captures<'_>, fields: Fields<'_>, out: &mut String) {
        let mut first = true;
        let mut slash = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.push('/');
            }
        };
        for segment in &self.segments {
            match segment {
                Segment::Fixed(text) => {
                    slash(out);
                    out.push_str(text);
                }
                Segment::Level(pieces) => {
                    slash(out);
                    for piece in pieces {
                        out.push_str(match piece {
                            Piece::Text(text) => text,
                            Piece::Name(name) => captures.get(*name).unwrap_or_default(),
                            Piece::Field(field) => fields.get(*field),
                        });
                    }
                }
                Segment::Rest(name) => {
                    if let Some(rest) = captures.get(*name) {
                        slash(out);
                        out.push_str(rest);
                    }
                }
            }
        }
    }

    /// What a message has to say of itself.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        let pieces = self.segments.iter().flat_map(|segment| match segment {
            Segment::Level(pieces) => pieces.as_slice(),
            Segment::Fixed(_) | Segment::Rest(_) => &[],
        });
        pieces.filter_map(|piece| match piece {
            Piece::Field(field) => Some(*field),
            Piece::Text(_) | Piece::Name(_) => None,
        })
    }

    /// Whether every topic begins with a `$` that the operator wrote.
    pub(super) fn begins_with_dollar(&self) -> bool {
        matches!(self.segments.first(), Some(Segment::Fixed(text)) if text.starts_with('$'))
    }

    /// What becomes of the topics of `source`, all of which match `pattern`. At least these; when a name is part of a
    /// level or has something behind it, also others.
    pub(super) fn image(&self, pattern: &Pattern, source: &Shape) -> Shape {
        let bound = |name: u8| {
            let at = pattern.position(name).unwrap_or(0).min(source.0.len());
            &source.0[at..]
        };
        let mut image = Vec::new();
        for segment in &self.segments {
            match segment {
                Segment::Fixed(text) => image.extend(topic::levels(text).map(|level| Step::Literal(level.into()))),
                Segment::Level(pieces) => match (&pieces[..], pieces.first()) {
                    ([_], Some(Piece::Name(name))) => {
                        image.push(bound(*name).first().cloned().unwrap_or(Step::Any));
                    }
                    _ => image.push(Step::Any),
                },
                Segment::Rest(name) => image.extend_from_slice(bound(*name)),
            }
            if image.last() == Some(&Step::Rest) {
                break;
            }
        }
        Shape(image)
    }
}

fn segment(level: &str, names: &[Name]) -> Result<Segment, RuleError> {
    let wrong = |message: String, help: &str| RuleError { part: Part::Remap, message, help: help.to_owned() };
    let literal = |text: &str| match text {
        _ if text.contains(['+', '#']) => Err(wrong(
            format!("`{level}`: a wildcard does not say what to write here"),
            "give the wildcard of the filter a name, {name} or {name#}, and write {name} here",
        )),
        _ if text.contains('\0') => Err(wrong("a topic has no null character".to_owned(), "take it out")),
        _ => Ok(Box::<str>::from(text)),
    };
    let mut pieces = Vec::new();
    let mut left = level;
    while let Some(open) = left.find(['{', '}']) {
        let Some((inner, after)) = left[open..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Err(wrong(format!("a brace in `{level}` has no partner"), "write {name}"));
        };
        if open > 0 {
            pieces.push(Piece::Text(literal(&left[..open])?));
        }
        left = after;
        if let Some(field) = Field::named(inner).filter(|_| !names.iter().any(|name| &*name.text == inner)) {
            pieces.push(Piece::Field(field));
            continue;
        }
        let name = lookup(inner, names)?;
        if names[usize::from(name)].many {
            if level.len() != inner.len() + 2 {
                return Err(wrong(
                    format!("`{{{inner}}}` stands for any number of levels, so it must fill its level"),
                    "write it between slashes",
                ));
            }
            return Ok(Segment::Rest(name));
        }
        pieces.push(Piece::Name(name));
    }
    if pieces.is_empty() {
        return Ok(Segment::Fixed(literal(left)?));
    }
    if !left.is_empty() {
        pieces.push(Piece::Text(literal(left)?));
    }
    Ok(Segment::Level(pieces))
}

fn lookup(inner: &str, names: &[Name]) -> Result<u8, RuleError> {
    let plain = inner.strip_suffix('#').unwrap_or(inner);
    let found = names.iter().position(|name| &*name.text == plain);
    match found.and_then(|at| u8::try_from(at).ok()) {
        Some(name) if plain == inner => Ok(name),
        Some(_) => Err(RuleError::new(
            Part::Remap,
            format!("`{{{inner}}}`: the `#` belongs into the filter only"),
            format!("write {{{plain}}}"),
        )),
        None => {
            let known: Vec<String> = names.iter().map(|name| format!("{{{}}}", name.text)).collect();
            let help = if known.is_empty() {
                "give the wildcards of the filter names: {name} for +, {name#} for #".to_owned()
            } else {
                format!("names in the filter: {}", known.join(", "))
            };
            Err(RuleError::new(Part::Remap, format!("the filter has no `{{{inner}}}`"), help))
        }
    }
}
