//! The reference of the configuration, from the comments and values of `config/moteway.toml`.

use std::fmt::Write;

use moteway::config::{Config, DEFAULT_TOML};

use crate::roff;

pub struct Reference {
    /// What the file says about itself.
    preface: Vec<String>,
    tables: Vec<Table>,
}

struct Table {
    /// With its brackets.
    heading: String,
    text: String,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    value: String,
    text: String,
    kind: Kind,
}

/// What the value in the file is.
#[derive(Clone, Copy)]
enum Kind {
    /// What holds without the key.
    Default,
    /// An example of a key that must be there.
    Required,
    /// An example of a key that may be left out.
    Example,
}

impl Reference {
    pub fn read() -> Self {
        let lines: Vec<String> = DEFAULT_TOML.lines().map(uncomment).collect();
        let all = Config::parse(&lines.join("\n")).unwrap_or_else(|error| panic!("{error}"));
        // The first block is about the file.
        let preface = lines.iter().take_while(|line| line.starts_with('#')).count();
        let mut reference = Self { preface: paragraphs(&lines[..preface]), tables: Vec::new() };
        let mut comment = 0..0;
        for (number, line) in lines.iter().enumerate().skip(preface) {
            // What stands alone goes with the table that follows.
            if line.is_empty() || line.starts_with('#') {
                comment.end = number + 1;
                continue;
            }
            let text = paragraphs(&lines[comment.start.max(preface)..comment.end.max(preface)]).join(" ");
            comment = number + 1..number + 1;
            if line.starts_with('[') {
                reference.tables.push(Table { heading: line.clone(), text, keys: Vec::new() });
            } else {
                let (name, value) = line.split_once('=').expect("a key and a value on one line");
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                let kind = kind(&all, &lines, number, &name);
                reference.tables.last_mut().expect("a key is in a table").keys.push(Key {
                    name,
                    value,
                    text,
                    kind,
                });
            }
        }
        assert!(reference.tables.len() > 8, "config/moteway.toml was not understood");
        reference
    }

    pub fn man_page(&self) -> String {
        let mut page = roff::title("moteway.toml", 5, "File Formats");
        roff::section(&mut page, "NAME", &["moteway.toml - configuration of the gateway moteway"]);
        roff::section(&mut page, "SYNOPSIS", &["/etc/moteway/moteway.toml"]);
        let preface: Vec<&str> = self.preface.iter().map(String::as_str).collect();
        roff::section(&mut page, "DESCRIPTION", &preface);
        page.push_str(".SH TABLES\n");
        for table in &self.tables {
            writeln!(page, ".SS {}", roff::escape(&table.heading)).unwrap();
            if !table.text.is_empty() {
                writeln!(page, "{}", roff::escape(&table.text)).unwrap();
            }
            for key in &table.keys {
                let (name, value) = (roff::escape(&key.name), roff::escape(&key.value));
                let value = match key.kind {
                    Kind::Default => format!(" = {value}"),
                    Kind::Required => format!(" (required), for instance {value}"),
                    Kind::Example => format!(", for instance {value}"),
                };
                writeln!(page, ".TP\n\\fB{name}\\fR{value}").unwrap();
                if !key.text.is_empty() {
                    writeln!(page, "{}", roff::escape(&key.text)).unwrap();
                }
            }
        }
        roff::section(&mut page, "SEE ALSO", &["moteway(1), /usr/share/doc/moteway/"]);
        page
    }

    pub fn markdown(&self) -> String {
        let mut page =
            "# Configuration\n\n<!-- packaging/generate writes this page from config/moteway.toml. -->\n\n"
                .to_owned();
        for paragraph in &self.preface {
            writeln!(page, "{paragraph}\n").unwrap();
        }
        page.push_str("In the middle column is the default, or an example in brackets.\n");
        for table in &self.tables {
            writeln!(page, "\n## {}\n", table.heading).unwrap();
            if !table.text.is_empty() {
                writeln!(page, "{}\n", table.text).unwrap();
            }
            page.push_str("| key | value | |\n|---|---|---|\n");
            for key in &table.keys {
                let value = match key.kind {
                    Kind::Default => format!("`{}`", key.value),
                    Kind::Required => format!("required (`{}`)", key.value),
                    Kind::Example => format!("(`{}`)", key.value),
                };
                writeln!(page, "| `{}` | {} | {} |", key.name, cell(&value), cell(&key.text)).unwrap();
            }
        }
        page
    }
}

/// An example, switched on.
fn uncomment(line: &str) -> String {
    match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example.to_owned(),
        _ => line.to_owned(),
    }
}

/// Whether the configuration is another one without this line.
fn kind(all: &Config, lines: &[String], number: usize, key: &str) -> Kind {
    let others = lines.iter().enumerate().filter(|&(other, _)| other != number);
    let others: Vec<&str> = others.map(|(_, line)| line.as_str()).collect();
    match Config::parse(&others.join("\n")) {
        Ok(config) if config == *all => Kind::Default,
        Err(error) if error.to_string().contains(&format!("`{key}` is missing")) => Kind::Required,
        _ => Kind::Example,
    }
}

/// Comment lines as text. An empty line ends a paragraph, and an indented one is its own.
fn paragraphs(lines: &[String]) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in lines {
        let text = line.trim_start_matches('#');
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() || text.starts_with("  ") {
            paragraphs.push(words);
        } else if let Some(last) = paragraphs.last_mut() {
            *last = if last.is_empty() { words } else { format!("{last} {words}") };
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
