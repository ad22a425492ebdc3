//! What is wrong with a configuration, where, and what to write instead. Rendered for a terminal, without colours.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// More than this is not printed; the rest is counted.
const MAX_SHOWN: usize = 50;
/// Longer source lines are cut around the place in question.
const MAX_LINE_CHARS: usize = 160;

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file works, but does something that will surprise.
    Warning,
}

/// One thing that is wrong, or will surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// Where: bytes of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead; may be empty.
    pub help: String,
}

/// What a check found by looking at the finished [`Config`](crate::config::Config), which knows keys but no places.
/// [`Document::report`](crate::config::Document::report) turns it into a [`Diagnostic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// The key, such as `upstream[0].rule[1].remap`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; may be empty.
    pub help: String,
}

impl Finding {
    /// Something for which the file is refused.
    pub fn error(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), message: message.into(), help: help.into() }
    }

    /// Something that will surprise.
    pub fn warning(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message, help) }
    }
}

/// One file. Places are counted through all files in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Its name in messages.
    pub(super) file: String,
    /// The place of its first byte.
    pub(super) start: usize,
    pub(super) text: Arc<str>,
}

/// All diagnostics of a configuration: errors, then warnings, each in the order of the text. Its `Display` shows each
/// with its file, its line and a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// At least one.
    sources: Vec<Source>,
    list: Vec<Diagnostic>,
}

fn sort(list: &mut [Diagnostic]) {
    list.sort_by_key(|diagnostic| (diagnostic.severity, diagnostic.span.start));
}

impl Diagnostics {
    pub(super) fn new(sources: Vec<Source>, mut list: Vec<Diagnostic>) -> Self {
        sort(&mut list);
        Self { sources, list }
    }

    pub(super) fn extend(&mut self, more: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(more);
        sort(&mut self.list);
    }

    /// Errors, then warnings.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many there are of one severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// Whether the file is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Line and column of a diagnostic in its file, both from 1; the column counts characters.
    #[must_use]
    pub fn position(&self, diagnostic: &Diagnostic) -> (usize, usize) {
        let (_, place) = self.place(&diagnostic.span);
        (place.line, place.column)
    }

    /// The file of a byte of the text, and its line there, from 1.
    pub(super) fn line(&self, at: usize) -> (&str, usize) {
        let (file, place) = self.place(&(at..at));
        (file, place.line)
    }

    /// The name of the file that a span lies in, and the place there.
    fn place(&self, span: &Range<usize>) -> (&str, Place) {
        match self.sources.iter().rfind(|source| source.start <= span.start) {
            Some(Source { file, start, text }) => {
                (file, Place::find(text, &(span.start - start..span.end.saturating_sub(*start))))
            }
            None => ("", Place::find("", &(0..0))),
        }
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (file, place) = self.place(&diagnostic.span);
        let gutter = place.line.to_string().len();
        writeln!(f, "{severity}: {}", diagnostic.message)?;
        writeln!(f, "{:gutter$}--> {}:{}:{}", "", file, place.line, place.column)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", place.line, place.source)?;
        writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(place.carets), indent = place.indent)?;
        if !diagnostic.help.is_empty() {
            writeln!(f, "{:gutter$} = help: {}", "", diagnostic.help)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().take(MAX_SHOWN).enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            self.render(f, diagnostic)?;
        }
        match self.list.len().saturating_sub(MAX_SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Where a span lies, and its line made fit for a terminal.
struct Place {
    line: usize,
    column: usize,
    source: String,
    indent: usize,
    carets: usize,
}

impl Place {
    fn find(text: &str, span: &Range<usize>) -> Self {
        let start = floor_char(text, span.start);
        let end = floor_char(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let before: Vec<char> = text[line_start..start].chars().collect();
        let marked: Vec<char> = text[start..end.min(line_end)].chars().collect();
        let after: Vec<char> = text[start + (end.min(line_end) - start)..line_end].chars().collect();

        // A long line shows what is around the mark.
        let skip = before.len().saturating_sub(MAX_LINE_CHARS / 2);
        let shown: Vec<char> = before.iter().skip(skip).chain(&marked).chain(&after).copied().collect();
        let source: String = shown.iter().take(MAX_LINE_CHARS).map(|&c| printable(c)).collect();
        let indent = before.len() - skip;
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before.len() + 1,
            source: source.trim_end().to_owned(),
            indent,
            carets: marked.len().clamp(1, MAX_LINE_CHARS - indent),
        }
    }
}

/// A control character (a tab, an escape sequence) would move the caret or the terminal.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, span: Range<usize>, help: &str) -> Diagnostics {
        let diagnostic =
            Diagnostic { severity: Severity::Error, span, message: "bad".to_owned(), help: help.to_owned() };
        let source = Source { file: "m.toml".to_owned(), start: 0, text: text.into() };
        Diagnostics::new(vec![source], vec![diagnostic])
    }

    #[test]
    fn a_diagnostic_shows_file_line_column_source_caret_and_remedy() {
        let shown = one("a = 1\n  b = \"é\" # x\n", 12..16, "write c").to_string();
        assert_eq!(
            shown,
            "error: bad\n --> m.toml:2:7\n  |\n2 |   b = \"é\" # x\n  |       ^^^\n  = help: write c\n"
        );
    }

    #[test]
    fn any_span_in_any_text_is_rendered() {
        for text in ["", "\n", "a", "é\té\n\u{1b}[31m", &"x".repeat(1000)] {
            for start in 0..text.len() + 3 {
                for len in [0, 1, 5, 2000] {
                    let shown = one(text, start..start + len, "").to_string();
                    assert!(shown.contains('^') && !shown.contains('\u{1b}'), "{shown}");
                    assert!(shown.lines().all(|line| line.chars().count() < 200));
                }
            }
        }
    }

    #[test]
    fn a_flood_of_errors_is_cut_and_counted() {
        let mut all = one("a\n", 0..1, "");
        let first = all.list[0].clone();
        all.extend(std::iter::repeat_n(first, 99));
        assert!(all.to_string().ends_with("... and 50 more\n"));
    }
}
