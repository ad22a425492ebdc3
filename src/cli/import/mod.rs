//! `moteway import mosquitto.conf`: a configuration that does what mosquitto's did, and a list of what it does not.

mod access;
mod bridge;
mod lines;
mod listener;
mod settings;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::bridge::rule;
use crate::cli::import::lines::Line;
use crate::cli::{Failure, count, print};
use crate::config::Document;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// mosquitto's configuration; files of its include_dir are read too
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write; passwords of bridges get files of their own beside it. Without it, the result is printed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What could not be carried over, and why.
struct Note {
    place: String,
    text: String,
    why: String,
}

/// What becomes of the lines: the new configuration, secrets that get files of their own, and notes.
#[derive(Default)]
struct Import {
    toml: String,
    /// File name and contents.
    secrets: Vec<(String, String)>,
    notes: Vec<Note>,
    directory: PathBuf,
}

impl Import {
    fn note(&mut self, line: &Line, why: impl Into<String>) {
        let text = if line.value.is_empty() { line.key.clone() } else { format!("{} {}", line.key, line.shown()) };
        self.notes.push(Note { place: line.place(), text, why: why.into() });
    }

    /// `key = value`, the value in TOML.
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        writeln!(self.toml, "{key} = {value}").unwrap_or_default();
    }

    fn table(&mut self, name: &str) {
        let gap = if self.toml.is_empty() { "" } else { "\n" };
        writeln!(self.toml, "{gap}{name}").unwrap_or_default();
    }

    /// Takes a number from a line, or notes that it is none.
    fn number(&mut self, line: &Line) -> Option<u64> {
        let number = line.value.parse().ok();
        if number.is_none() {
            self.note(line, "this is no number");
        }
        number
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut import = Import { directory: directory_of(args.output.as_deref())?, ..Import::default() };
    let lines = lines::read(&args.file).map_err(Failure::Unusable)?;
    let conf = settings::Conf::sort(lines, &mut import);
    settings::put(&conf, &mut import);
    listener::put(&conf, &mut import);
    access::put(&conf, &mut import).map_err(Failure::Unusable)?;
    bridge::put(&conf, &mut import);
    prove(&import)?;
    let head = format!("# From {}, by `moteway import`.\n", args.file.display());
    match &args.output {
        Some(path) => {
            write(path, &format!("{head}{}", import.toml), 0o640)?;
            for (name, secret) in &import.secrets {
                write(&import.directory.join(name), secret, 0o600)?;
            }
        }
        None => print(&format!("{head}{}", import.toml))?,
    }
    for Note { place, text, why } in &import.notes {
        eprintln!("warning: not carried over: {text}\n --> {place}\n  = {why}\n");
    }
    match import.notes.len() {
        0 => Ok(()),
        notes => Err(Failure::Failed(format!("{} not carried over, see above", count(notes, "line")))),
    }
}

fn directory_of(output: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(output) = output else { return Ok(PathBuf::new()) };
    let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::canonicalize(directory).map_err(|error| Failure::Failed(format!("{}: {error}", directory.display())))
}

/// Nothing is written that would not be taken.
fn prove(import: &Import) -> Result<(), Failure> {
    let mut document = Document::parse("the new configuration", &import.toml);
    if let Ok(config) = document.draft().clone().resolve("gateway") {
        document.report(rule::check(&config));
    }
    document.finish().map(drop).map_err(Failure::BadConfig)
}

/// A file that is there is not overwritten.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// As TOML writes text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}
