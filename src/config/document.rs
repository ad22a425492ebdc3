//! A configuration file and its drop-ins with their text: the configuration, what is wrong with it, and where each key
//! lies.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Diagnostics, Finding, Severity, Source};
use crate::config::reader::Section;
use crate::config::{Config, Variables, expand, merge, sense, tables};

/// A larger file is not a configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// More drop-ins are refused.
const MAX_DROP_INS: usize = 100;
/// Where drop-ins lie, beside the main file.
const DROP_INS: &str = "conf.d";
/// A longer key is none of ours; its place is that of its table.
const MAX_KEY_BYTES: usize = 256;

/// A configuration file that was read and understood as far as it goes.
#[derive(Debug, Clone)]
pub struct Document {
    map: SourceMap,
    draft: Config,
    diagnostics: Diagnostics,
    drop_ins: usize,
    /// Not TOML: what the parser made of it is a guess, and would only invent mistakes.
    torn: bool,
}

impl Document {
    /// Understands `text`; `file` is its name in messages.
    #[must_use]
    pub fn parse(file: &str, text: &str) -> Self {
        Self::parse_with(file, text, &|_| None)
    }

    /// Understands `text`, with these variables.
    #[must_use]
    pub fn parse_with(file: &str, text: &str, variables: Variables<'_>) -> Self {
        Self::parse_all(&[(file, text)], variables)
    }

    /// Understands several files, by name and text, each laid over those before it.
    #[must_use]
    pub fn parse_all(files: &[(&str, &str)], variables: Variables<'_>) -> Self {
        // Places are counted through all files: each is read as if the ones before it were blank.
        let mut start = 0;
        let padded: Vec<(usize, String)> = files
            .iter()
            .map(|(_, text)| {
                let own = start;
                start += text.len() + 1;
                // Only at the beginning may there be a byte order mark.
                let rest = text.trim_start_matches('\u{feff}');
                (own, format!("{:1$}{rest}", "", own + text.len() - rest.len()))
            })
            .collect();
        let sources: Vec<Source> = files
            .iter()
            .zip(&padded)
            .map(|((file, text), (start, _))| Source {
                file: (*file).to_owned(),
                start: *start,
                text: (*text).into(),
            })
            .collect();
        let mut list: Vec<Diagnostic> = Vec::new();
        let mut root = DeTable::new();
        for (start, text) in &padded {
            let (table, errors) = DeTable::parse_recoverable(text);
            list.extend(errors.iter().map(|error| syntax_error(error, *start)));
            merge::lay_over(&mut root, table.into_inner());
        }
        let torn = !list.is_empty();
        let mut unset = Vec::new();
        expand::expand(&mut root, variables, &mut unset);
        let map = SourceMap::of(&root);
        let (draft, found) = Section::read_root(&root, tables::config);
        if !torn {
            list.extend(unset);
            list.extend(found);
        }
        let diagnostics = Diagnostics::new(sources, list);
        let mut document = Self { map, draft, diagnostics, drop_ins: files.len().saturating_sub(1), torn };
        document.report(sense::check(&document.draft, &document.map));
        document
    }

    /// Reads and understands a file, and the drop-ins in the directory `conf.d` beside it: the files `*.toml`, in the
    /// order of their names. `variables` are put in for `${NAME}`.
    ///
    /// # Errors
    /// When one cannot be read, is not UTF-8, or is too large to be a configuration.
    pub fn read(path: &Path, variables: Variables<'_>) -> Result<Self, ReadError> {
        let mut files = vec![(path.display().to_string(), read_text(path)?)];
        for path in drop_ins(path)? {
            files.push((path.display().to_string(), read_text(&path)?));
        }
        let texts: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        Ok(Self::parse_all(&texts, variables))
    }

    /// The files that [`Document::read`] would read: the main one, and the drop-ins.
    ///
    /// # Errors
    /// When the directory of drop-ins cannot be read.
    pub fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let mut files = vec![path.to_owned()];
        files.extend(drop_ins(path)?);
        Ok(files)
    }

    /// How many drop-ins there were.
    #[must_use]
    pub fn drop_ins(&self) -> usize {
        self.drop_ins
    }

    /// The configuration as far as it was understood, for further checks only: where a value was wrong it holds the
    /// default.
    #[must_use]
    pub fn draft(&self) -> &Config {
        &self.draft
    }

    /// The file and the line, from 1, of a key's value, or else of the table around it.
    #[must_use]
    pub fn line(&self, path: &str) -> (&str, usize) {
        self.diagnostics.line(self.map.nearest(path).start)
    }

    /// Adds what a check found on the draft. An error at a place that has one already is a consequence of it and
    /// left out, and so is all about a file that is not TOML.
    pub fn report(&mut self, findings: Vec<Finding>) {
        if self.torn {
            return;
        }
        let wrong: Vec<Range<usize>> = self
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| diagnostic.span.clone())
            .collect();
        let found = findings.into_iter().map(|finding| Diagnostic {
            severity: finding.severity,
            span: self.map.nearest(&finding.path),
            message: finding.message,
            help: finding.help,
        });
        let is_consequence =
            |span: &Range<usize>| wrong.iter().any(|other| span.start < other.end && other.start < span.end);
        self.diagnostics.extend(found.filter(|diagnostic| !is_consequence(&diagnostic.span)));
    }

    /// What is wrong, and what will surprise.
    #[must_use]
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// The configuration and the warnings, or what is wrong.
    ///
    /// # Errors
    /// When there is at least one error.
    pub fn finish(self) -> Result<(Config, Diagnostics), Diagnostics> {
        if self.diagnostics.has_errors() { Err(self.diagnostics) } else { Ok((self.draft, self.diagnostics)) }
    }
}

fn read_text(path: &Path) -> Result<String, ReadError> {
    let error = |reason: String| ReadError { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|e| error(e.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(error(format!("{size} bytes are too many for a configuration")));
    }
    let bytes = std::fs::read(path).map_err(|e| error(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        error(format!("line {line} is not UTF-8 text"))
    })
}

/// The drop-ins beside a configuration, by name. Hidden files and those of editors (`x.toml~`) are not meant.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let directory = main.parent().unwrap_or(Path::new("")).join(DROP_INS);
    let error = |reason: String| ReadError { path: directory.clone(), reason };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(error(e.to_string())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| error(e.to_string()))?.path();
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
        if files.len() > MAX_DROP_INS {
            return Err(error(format!("more than {MAX_DROP_INS} files are too many for a configuration")));
        }
    }
    files.sort();
    Ok(files)
}

/// `start` is where the file begins: what has no place is shown there.
fn syntax_error(error: &toml::de::Error, start: usize) -> Diagnostic {
    let message = error.message();
    let help = match message {
        "duplicate key" => "a key or table may be there once; for one more of a kind write [[...]]",
        m if m.starts_with("string values must be quoted") => "write text, durations and sizes in double quotes",
        _ => "",
    };
    Diagnostic {
        severity: Severity::Error,
        span: error.span().unwrap_or(start..start),
        message: format!("not TOML: {message}"),
        help: help.to_owned(),
    }
}

/// Where each key of a file lies, by its path, such as `upstream[0].rule[1].remap`.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceMap {
    values: BTreeMap<String, Range<usize>>,
}

impl SourceMap {
    fn of(root: &DeTable<'_>) -> Self {
        let mut map = Self::default();
        map.add_table("", root);
        map
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    /// Where the value is, or the closest table around it that the file has, or its start.
    fn nearest(&self, mut path: &str) -> Range<usize> {
        loop {
            if let Some(span) = self.values.get(path) {
                return span.clone();
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => return 0..0,
            }
        }
    }

    fn add(&mut self, path: String, value: &DeValue<'_>, span: Range<usize>) {
        match value {
            DeValue::Table(table) => self.add_table(&format!("{path}."), table),
            DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.add(format!("{path}[{i}]"), item.get_ref(), item.span());
                }
            }
            _ => {}
        }
        self.values.insert(path, span);
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter().filter(|(key, _)| key.get_ref().len() <= MAX_KEY_BYTES) {
            self.add(format!("{prefix}{}", key.get_ref()), value.get_ref(), value.span());
        }
    }
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the configuration {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for ReadError {}
