//! Rust source, read just well enough for the house rules: comments and literals are blanked out, paths are found
//! wherever they stand, and `use` trees are spelled out.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One file of source.
pub(crate) struct Source {
    /// Path from the root of the package, with `/`.
    pub(crate) path: String,
    /// The text with comments, strings and characters replaced by spaces. Lines are where they were.
    pub(crate) code: String,
    /// The text as it is.
    pub(crate) text: String,
    /// Parts of the file that are compiled for tests only.
    tests: Vec<Range<usize>>,
}

/// A path such as `crate::queue::Queues`, and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) at: usize,
}

/// Something against a rule.
#[derive(Debug)]
pub(crate) struct Finding(pub(crate) String);

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let whole = path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/");
        let everything = 0..code.len();
        let tests = if whole { vec![everything] } else { test_items(&code) };
        Self { path: path.to_owned(), code, text: text.to_owned(), tests }
    }

    /// The module directly under the root of the crate that this file is part of, or `main` or `lib`.
    pub(crate) fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// Whether `super` in this file, outside any inner module, is the root of the crate.
    pub(crate) fn is_directly_under_the_root(&self) -> bool {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        !inner.contains('/') || (inner.ends_with("/mod.rs") && inner.matches('/').count() == 1)
    }

    pub(crate) fn is_test_at(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// Whether `at` is inside a module written out in this file.
    pub(crate) fn is_inside_a_module(&self, at: usize) -> bool {
        words(&self.code).any(|(start, word)| {
            let item = || item_end(&self.code, start);
            word == "mod" && start < at && item().is_some_and(|(open, end)| (open..end).contains(&at))
        })
    }

    pub(crate) fn finding(&self, at: usize, message: &str) -> Finding {
        let line = self.code[..at].matches('\n').count() + 1;
        Finding(format!("{}:{line}: {message}", self.path))
    }

    /// Every path in the file: those of `use` items spelled out one by one, and those in the midst of code.
    pub(crate) fn paths(&self) -> Vec<Found> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        let mut i = 0;
        while i < tokens.len() {
            let follows = |next: &str| tokens.get(i + 1).is_some_and(|token| token.1 == next);
            if tokens[i].1 == "use" && !follows("<") {
                i = spell_out(&tokens, i + 1, "", &mut found);
            } else if is_word(tokens[i].1) {
                i = simple_path(&tokens, i, &mut found);
            } else {
                i += 1;
            }
        }
        found
    }
}

/// Every `.rs` file under `dir`, in order of path.
pub(crate) fn read_all(root: &Path, dir: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![root.join(dir)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
    // `#[cfg(test)] mod trial;` makes a file of its own a test.
    let named: Vec<String> = found.iter().flat_map(Source::test_files).collect();
    for source in &mut found {
        let stem = source.path.trim_end_matches(".rs");
        if named.iter().any(|name| stem == name || stem.starts_with(&format!("{name}/"))) {
            let everything = 0..source.code.len();
            source.tests = vec![everything];
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// The files, without `.rs`, that this one declares as modules for tests only.
    fn test_files(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let dir = stem.strip_suffix("/mod").or_else(|| stem.strip_suffix("/lib")).unwrap_or(stem);
        let declared = self.tests.iter().filter_map(|range| {
            let item = self.code[range.clone()].trim_end().strip_suffix(';')?;
            let (_, name) = item.rsplit_once("mod ")?;
            Some(format!("{dir}/{}", name.trim()))
        });
        declared.collect()
    }
}

/// Replaces comments, strings and characters by spaces, so that what is left is code.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'\'' => char_end(text, i),
            b'r' if i == 0 || !is_word_byte(bytes[i - 1]) || matches!(bytes[i - 1], b'b' | b'c') => {
                raw_end(text, i)
            }
            _ => i,
        };
        for byte in &mut code[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8(code).expect("whole characters were replaced")
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |n| start + n)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < bytes.len() {
        match &bytes[i..(i + 2).min(bytes.len())] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut i = start + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// The end of a character, or `start` when the quote begins a lifetime.
fn char_end(text: &str, start: usize) -> usize {
    let mut rest = text[start + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => {
            let escaped = start + 3;
            text.get(escaped..).and_then(|tail| tail.find('\'')).map_or(text.len(), |n| escaped + n + 1)
        }
        Some(_) => match rest.next() {
            Some((n, '\'')) => start + 1 + n + 1,
            _ => start,
        },
        None => start,
    }
}

/// The end of `r"..."` or `r##"..."##`, or `start` when it is neither.
fn raw_end(text: &str, start: usize) -> usize {
    let rest = &text[start + 1..];
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let Some(inner) = rest[hashes..].strip_prefix('"') else { return start };
    let close = format!("\"{}", "#".repeat(hashes));
    let body = start + 1 + hashes + 1;
    inner.find(&close).map_or(text.len(), |n| body + n + close.len())
}

fn is_word_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn is_word(token: &str) -> bool {
    token.bytes().next().is_some_and(is_word_byte)
}

/// Words, `::`, and single characters, each with its place.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        if is_word_byte(bytes[i]) {
            while i < bytes.len() && is_word_byte(bytes[i]) {
                i += 1;
            }
        } else {
            i += if bytes[i..].starts_with(b"::") { 2 } else { 1 };
        }
        if !bytes[start].is_ascii_whitespace() {
            tokens.push((start, &code[start..i]));
        }
    }
    tokens
}

fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    tokens(code).into_iter().filter(|token| is_word(token.1))
}

/// Reads one `use` tree from token `i` on, and returns the token after it.
fn spell_out(tokens: &[(usize, &str)], mut i: usize, prefix: &str, found: &mut Vec<Found>) -> usize {
    let mut path = prefix.to_owned();
    let at = tokens.get(i).map_or(0, |token| token.0);
    while let Some((_, token)) = tokens.get(i) {
        match *token {
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|token| token.1 != "}") {
                    i = spell_out(tokens, i, &path, found);
                    if tokens.get(i).is_some_and(|token| token.1 == ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "::" => i += 1,
            "as" => i += 2,
            token if is_word(token) || token == "*" => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(token);
                i += 1;
            }
            _ => break,
        }
    }
    if !path.is_empty() {
        found.push(Found { path, at });
    }
    // A token that has no place in a tree ends it; the caller must not stand still.
    if tokens.get(i).is_some_and(|token| matches!(token.1, "," | "}" | ";")) { i } else { i + 1 }
}

/// Reads `a::b::c` from token `i` on, and returns the token after it. One word alone is no path.
fn simple_path(tokens: &[(usize, &str)], mut i: usize, found: &mut Vec<Found>) -> usize {
    let (at, first) = tokens[i];
    let mut path = first.to_owned();
    i += 1;
    while let [(_, "::"), (_, next), ..] = &tokens[i..]
        && is_word(next)
    {
        path.push_str("::");
        path.push_str(next);
        i += 2;
    }
    if path.len() > first.len() {
        found.push(Found { path, at });
    }
    i
}

/// Items that are compiled for tests only.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let marks = ["#[cfg(test)]", "#[cfg(all(test"].into_iter().flat_map(|mark| code.match_indices(mark));
    marks.map(|(start, _)| start..item_end(code, start).map_or(code.len(), |(_, end)| end)).collect()
}

/// Where the body of the item at `start` begins and ends. An item without a body ends with its semicolon.
fn item_end(code: &str, start: usize) -> Option<(usize, usize)> {
    let open = start + code[start..].find(['{', ';'])?;
    let mut depth = 0;
    for (n, c) in code[open..].char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some((open, open + n + 1));
        }
    }
    None
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "a /* b /* c */ d */ e // f\n\"g\\\" h\" 'i' '\\'' 'j: k r#\"l \" m\"# b\"n\" br\"\\\" o '\u{e9}' p";
    let source = Source::new("src/x.rs", text);
    assert_eq!(source.code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "'j:", "k", "b", "b", "o", "p"]);
    assert_eq!(source.code.lines().count(), text.lines().count());
}

#[test]
fn paths_are_found_in_use_trees_and_in_code() {
    let text = "use a::{self, b::{C as D, e::*}, f};\npub(crate) use ::g::h;\nfn i() -> impl J + use<'_> { k::l::<M>(n.o); crate :: p::q!() }";
    let paths: Vec<String> = Source::new("src/x.rs", text).paths().into_iter().map(|found| found.path).collect();
    assert_eq!(paths, ["a::self", "a::b::C", "a::b::e::*", "a::f", "g::h", "k::l", "crate::p::q"]);
}

#[test]
fn tests_are_told_from_code() {
    let text = "use a::B;\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n#[cfg(test)]\nmod trial;\nfn d() {}\n";
    let source = Source::new("src/x/mod.rs", text);
    let is_test = |word: &str| source.is_test_at(text.find(word).unwrap());
    assert!(is_test("fn c") && is_test("trial") && !is_test("a::B") && !is_test("fn d"));
    assert_eq!(source.test_files(), ["src/x/trial"]);
    assert!(source.is_inside_a_module(text.find("fn c").unwrap()));
    assert!(!source.is_inside_a_module(text.find("fn d").unwrap()));
}
