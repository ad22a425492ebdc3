//! Reads one table of the file after another: each key once, by name, with its default. What is wrong is noted with
//! its place and reading goes on, so that one run shows all errors. A key nobody asked for is an error.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::value::{Parsed, Wrong, nearest, show};

/// More tables of one kind (listeners, links, upstreams, rules) than this are refused.
const MAX_TABLES: usize = 1000;
/// No more unknown keys of one table are told.
const MAX_UNKNOWN: usize = 100;

/// A table of the file, or one that is not there and so holds only defaults.
pub(super) struct Section<'r> {
    /// As in the file: `broker`, `upstream.rule`; empty for the whole file.
    dotted: String,
    /// As shown in messages.
    title: String,
    table: Option<&'r DeTable<'r>>,
    span: Range<usize>,
    known: Vec<&'static str>,
    found: Vec<Diagnostic>,
}

impl<'r> Section<'r> {
    /// Reads the whole file.
    pub(super) fn read_root<T>(table: &'r DeTable<'r>, read: impl FnOnce(&mut Self) -> T) -> (T, Vec<Diagnostic>) {
        let mut root = Section {
            dotted: String::new(),
            title: "the top level".to_owned(),
            table: Some(table),
            span: 0..0,
            known: Vec::new(),
            found: Vec::new(),
        };
        let value = read(&mut root);
        (value, root.finish())
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The value of a key, or its default.
    pub(super) fn get<T>(&mut self, key: &'static str, default: T, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The value of a key that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        self.accept(key, value.span(), parse(value.get_ref()))
    }

    /// The value of a key that must be there. `example` shows how it is written.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            self.missing(key, example);
            return None;
        }
        self.optional(key, parse)
    }

    /// A list of values; one value alone counts as a list of one.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let one = self.accept(key, value.span(), parse(value.get_ref()));
            return one.map(|value| vec![value]);
        };
        let mut list = Vec::new();
        for item in items {
            list.extend(self.accept(key, item.span(), parse(item.get_ref())));
        }
        Some(list)
    }

    /// A table whose keys are the operator's own.
    pub(super) fn entries<T>(
        &mut self,
        key: &'static str,
        check_key: impl Fn(&str) -> Parsed<()>,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> BTreeMap<String, T> {
        let mut entries = BTreeMap::new();
        let Some((table, _)) = self.take_table(key) else { return entries };
        for (name, value) in table {
            self.accept(key, name.span(), check_key(name.get_ref()));
            if let Some(value) = self.accept(key, value.span(), parse(value.get_ref())) {
                entries.insert(name.get_ref().to_string(), value);
            }
        }
        entries
    }

    /// A table; when it is not there, `read` sees only defaults.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'r>) -> T) -> T {
        let (table, span) = self.take_table(key).unzip();
        let dotted = self.dotted_key(key);
        let title = format!("`[{dotted}]`");
        self.descend(dotted, title, table, span.unwrap_or_else(|| self.span.clone()), read)
    }

    /// A table that may be left out.
    pub(super) fn optional_section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> Option<T> {
        if self.has(key) {
            return Some(self.section(key, read));
        }
        self.known.push(key);
        None
    }

    /// An array of tables, in order.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'r>) -> T,
    ) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let dotted = self.dotted_key(key);
        let title = format!("`[[{dotted}]]`");
        let tables = match value.get_ref() {
            DeValue::Array(items) => items,
            other => {
                let help = format!("write {title}, with two brackets on each side");
                self.error(value.span(), format!("`{key}` can be there many times, found {}", show(other)), help);
                return None;
            }
        };
        if tables.len() > MAX_TABLES {
            let message = format!("{} tables {title} are too many", tables.len());
            self.error(value.span(), message, format!("at most {MAX_TABLES}"));
        }
        let mut list = Vec::new();
        for item in tables.iter().take(MAX_TABLES) {
            let DeValue::Table(table) = item.get_ref() else {
                let found = format!("`{key}` holds tables, found {}", show(item.get_ref()));
                self.error(item.span(), found, format!("write {title}"));
                continue;
            };
            list.push(self.descend(dotted.clone(), title.clone(), Some(table), item.span(), &read));
        }
        Some(list)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&mut self, key: &str, example: &str) {
        let message = format!("`{key}` is missing in {}", self.title);
        self.error(self.span.clone(), message, format!("add `{key} = {example}`"));
    }

    /// Notes that a key is there but has no meaning here.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        if let Some(value) = self.take(key) {
            self.error(value.span(), format!("`{key}` {why}"), "take it out");
        }
    }

    fn dotted_key(&self, key: &str) -> String {
        if self.dotted.is_empty() { key.to_owned() } else { format!("{}.{key}", self.dotted) }
    }

    fn take(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    fn take_table(&mut self, key: &'static str) -> Option<(&'r DeTable<'r>, Range<usize>)> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((table, value.span())),
            other => {
                let dotted = self.dotted_key(key);
                let help = format!("write [{dotted}] on a line of its own, or {key} = {{ ... }}");
                self.error(value.span(), format!("`{key}`: expected one table, found {}", show(other)), help);
                None
            }
        }
    }

    fn descend<T>(
        &mut self,
        dotted: String,
        title: String,
        table: Option<&'r DeTable<'r>>,
        span: Range<usize>,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> T {
        let mut child = Section { dotted, title, table, span, known: Vec::new(), found: Vec::new() };
        let value = read(&mut child);
        self.found.append(&mut child.finish());
        value
    }

    fn accept<T>(&mut self, key: &str, span: Range<usize>, parsed: Parsed<T>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(Wrong { message, help }) => {
                self.error(span, format!("`{key}`: {message}"), help);
                None
            }
        }
    }

    fn error(&mut self, span: Range<usize>, message: String, help: impl Into<String>) {
        self.found.push(Diagnostic { severity: Severity::Error, span, message, help: help.into() });
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        let unknown =
            self.table.into_iter().flatten().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref()));
        let unknown: Vec<_> = unknown.take(MAX_UNKNOWN).collect();
        for (key, _) in unknown {
            let name = key.get_ref().as_ref();
            let help = match nearest(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("keys of {}: {}", self.title, self.known.join(", ")),
            };
            self.error(key.span(), format!("unknown key `{}` in {}", name.escape_debug(), self.title), help);
        }
        self.found
    }
}
