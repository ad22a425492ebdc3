//! The lines of a mosquitto configuration, those of its include_dir in their place.

use std::fs;
use std::path::{Path, PathBuf};

/// A larger file, or more files than this, are no configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 1000;

/// One line that says something.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) file: PathBuf,
    pub(super) number: usize,
    pub(super) key: String,
    pub(super) value: String,
}

impl Line {
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }

    /// The value as it may be printed.
    pub(super) fn shown(&self) -> &str {
        if self.key.contains("password") && !self.key.contains("file") { "..." } else { &self.value }
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self.value.as_str(), "true" | "1")
    }
}

/// Reads a file, and what it includes.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for line in text_lines(path)? {
        if line.key != "include_dir" {
            lines.push(line);
            continue;
        }
        let error = |error: std::io::Error| format!("{}: {}: {error}", line.place(), line.value);
        let mut files = Vec::new();
        for entry in fs::read_dir(&line.value).map_err(error)?.take(MAX_FILES) {
            let path = entry.map_err(error)?.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                files.push(path);
            }
        }
        files.sort();
        for file in files {
            lines.extend(text_lines(&file)?);
        }
    }
    Ok(lines)
}

/// The lines of one file: a word, and the rest.
pub(super) fn text_lines(path: &Path) -> Result<Vec<Line>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(format!("{} is too large for a configuration", path.display()));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
    let lines = text.lines().zip(1..).filter_map(|(line, number)| {
        let line = line.trim();
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let says = !key.is_empty() && !key.starts_with('#');
        says.then(|| Line { file: path.to_owned(), number, key: key.to_owned(), value: value.trim().to_owned() })
    });
    Ok(lines.collect())
}
