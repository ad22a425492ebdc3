//! One value at a time: what a key may hold, and what to write when it holds something else.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use crate::config::schema::Bind;
use crate::time::Duration;

/// What is wrong with a value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    pub(super) fn kind(expected: &str, found: &DeValue<'_>, help: impl Into<String>) -> Self {
        Self::new(format!("expected {expected}, found {}", show(found)), help)
    }
}

pub(super) type Parsed<T> = Result<T, Wrong>;

/// The value in words, for messages.
pub(super) fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
        DeValue::String(_) => "a long string".to_owned(),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| Wrong::kind("true or false", value, "write true or false, without quotes"))
}

pub(super) fn string(value: &DeValue<'_>) -> Parsed<String> {
    let text = value.as_str().ok_or_else(|| Wrong::kind("a string", value, "write it in double quotes"))?;
    if text.contains('\0') {
        return Err(Wrong::new("a null character is not allowed here", ""));
    }
    Ok(text.to_owned())
}

pub(super) fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    let text = string(value)?;
    if text.is_empty() {
        return Err(Wrong::new("expected a path, found an empty string", "write a path, or leave the key out"));
    }
    Ok(PathBuf::from(text))
}

/// The path of a URL, or nothing.
pub(super) fn url_path(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    let legal = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if text.is_empty() || (text.starts_with('/') && legal) {
        return Ok(text);
    }
    Err(Wrong::new(
        format!("{text:?} is not the path of a URL"),
        "write one such as \"/mqtt\", without `?` and `#`",
    ))
}

/// A name that goes into topics, metrics and logs.
pub(super) fn name(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(legal) {
        return Err(Wrong::new(
            format!("{} is not a name", show(value)),
            "a name has 1 to 64 letters, digits, `-`, `_` or `.`",
        ));
    }
    Ok(text)
}

/// A whole number in a range.
pub(super) fn integer<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let help = || format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value else { return Err(Wrong::kind("a number", value, help())) };
        within(i128::from_str_radix(number.as_str(), number.radix()).ok(), &range)
            .ok_or_else(|| Wrong::new(format!("{number} is out of range"), help()))
    }
}

/// A number of bytes in a range: an integer, or a string with a unit.
pub(super) fn bytes<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let size = match value {
            DeValue::String(text) => parse_size(text)?,
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX),
            _ => return Err(Wrong::kind("a size", value, SIZE_HELP)),
        };
        within(Some(size), &range).ok_or_else(|| {
            let help = format!("write {} to {}", show_size(*range.start()), show_size(*range.end()));
            Wrong::new(format!("{} is out of range", show(value)), help)
        })
    }
}

fn within<T: TryFrom<u64>>(number: Option<i128>, range: &RangeInclusive<u64>) -> Option<T> {
    let number = u64::try_from(number?).ok()?;
    if range.contains(&number) { T::try_from(number).ok() } else { None }
}

const SIZE_HELP: &str = "write a size such as \"64MiB\", \"500kB\" or a number of bytes";

/// Units of sizes, the longest first.
const UNITS: [(&str, i128); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

fn parse_size(text: &str) -> Parsed<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let neat = !number.is_empty() && !number.starts_with('_') && !number.ends_with('_');
    let number: i128 = match number.replace('_', "").parse() {
        Ok(number) if neat => number,
        _ => return Err(Wrong::new(format!("{text:?} is not a size"), SIZE_HELP)),
    };
    if unit.is_empty() {
        return Ok(number);
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) {
        return Ok(number.saturating_mul(*factor));
    }
    let lower = unit.to_ascii_lowercase();
    let meant = UNITS.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name == lower || name.strip_suffix("ib") == Some(&lower) || name.strip_suffix('b') == Some(&lower)
    });
    let help = match meant {
        Some((name, _)) => format!("did you mean \"{number}{name}\"?"),
        None => SIZE_HELP.to_owned(),
    };
    Err(Wrong::new(format!("{unit:?} is not a unit of size"), help))
}

/// A size in the largest unit that shows it exactly.
pub(super) fn show_size(size: u64) -> String {
    let units = &UNITS[..3];
    match units.iter().find(|(_, factor)| size > 0 && i128::from(size) % factor == 0) {
        Some((unit, factor)) => format!("{}{unit}", i128::from(size) / factor),
        None => size.to_string(),
    }
}

/// A duration in a range, such as "30s" or "1h 30min".
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    const HELP: &str = "write a duration such as \"500ms\", \"30s\", \"5min\", \"12h\" or \"7d\"";
    move |value| {
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(n) => {
                let help = format!("write it with its unit and in quotes, such as \"{n}s\"");
                return Err(Wrong::kind("a duration", value, help));
            }
            _ => return Err(Wrong::kind("a duration", value, HELP)),
        };
        if text.contains('M') {
            return Err(Wrong::new(
                format!("{text:?} may mean minutes or months"),
                "write \"5min\" or \"5months\"",
            ));
        }
        let duration = humantime::parse_duration(text)
            .map_err(|error| Wrong::new(format!("{text:?} is not a duration: {error}"), HELP))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let [from, to] = [range.start(), range.end()].map(|&end| humantime::format_duration(end));
        Err(Wrong::new(format!("{text:?} is out of range"), format!("write \"{from}\" to \"{to}\"")))
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let words = || -> Vec<&str> { choices.iter().map(|(word, _)| *word).collect() };
        let one_of = || words().iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Some(text) = value.as_str() else {
            return Err(Wrong::kind("a word", value, format!("write one of {}", one_of())));
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let help = match nearest(text, words().into_iter()) {
            Some(word) => format!("did you mean \"{word}\"? It is one of {}", one_of()),
            None => format!("write one of {}", one_of()),
        };
        Err(Wrong::new(format!("{} is not known here", show(value)), help))
    }
}

/// What the kernel takes as the path of a Unix socket.
const MAX_SOCKET_PATH: usize = 107;

/// Where to listen: an address and port, or the path of a Unix socket.
pub(super) fn bind(value: &DeValue<'_>) -> Parsed<Bind> {
    let path = match value.as_str() {
        Some(text) if Path::new(text).is_absolute() => path(value)?,
        Some(text) if text.contains('/') => {
            let help = format!("write the whole path of a socket, such as \"/run/moteway/{}\"", last_part(text));
            return Err(Wrong::new(format!("{} is not an absolute path", show(value)), help));
        }
        _ => return address(value).map(Bind::Tcp),
    };
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = format!("the path of a socket may have {MAX_SOCKET_PATH} bytes");
        return Err(Wrong::new(message, "use a shorter one, such as \"/run/moteway/mqtt.sock\""));
    }
    Ok(Bind::Unix(path))
}

/// The whole path of a Unix socket.
pub(super) fn socket_path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    match value.as_str() {
        Some(text) if text.contains('/') => match bind(value)? {
            Bind::Unix(path) => Ok(path),
            Bind::Tcp(_) => Err(Wrong::new(format!("{} is no path", show(value)), SOCKET_HELP)),
        },
        _ => Err(Wrong::kind("the path of a socket", value, SOCKET_HELP)),
    }
}

const SOCKET_HELP: &str = "write a whole path such as \"/run/moteway/control.sock\", or \"\" for none";

/// What an empty string turns off.
pub(super) fn or_none<T>(parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> impl Fn(&DeValue<'_>) -> Parsed<Option<T>> {
    move |value| if value.as_str() == Some("") { Ok(None) } else { parse(value).map(Some) }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("mqtt.sock")
}

/// Permissions of a file, in octal.
pub(super) fn permissions(value: &DeValue<'_>) -> Parsed<u32> {
    const HELP: &str = "write three or four octal digits in quotes, such as \"0660\"";
    let text = value.as_str().ok_or_else(|| Wrong::kind("permissions", value, HELP))?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => Err(Wrong::new(format!("{text:?} are not permissions of a file"), HELP)),
    }
}

/// An address to listen on.
pub(super) fn address(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let text = value.as_str().ok_or_else(|| {
        Wrong::kind("an address with its port", value, "write it in quotes, such as \"127.0.0.1:1883\"")
    })?;
    text.parse().map_err(|_| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let help = if text.parse::<std::net::Ipv4Addr>().is_ok() {
            format!("add the port: \"{text}:1883\"")
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            format!("write it in brackets and with its port: \"[{text}]:1883\"")
        } else if host == "localhost" && port.parse::<u16>().is_ok() {
            format!("names are not resolved here: write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")
        } else if matches!(host, "" | "*") && port.parse::<u16>().is_ok() {
            format!("for all addresses write \"0.0.0.0:{port}\" (IPv4) or \"[::]:{port}\"")
        } else {
            "write an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"".to_owned()
        };
        Wrong::new(format!("{} is not an address with a port", show(value)), help)
    })
}

/// The candidate that was most likely meant, if one is near enough.
pub(super) fn nearest<'c>(typed: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let typed = typed.to_lowercase().replace('-', "_");
    let far = typed.chars().count() / 3 + 1;
    let distance = |candidate: &str| {
        let candidate = candidate.replace('-', "_");
        // `password` for `password_file`: many letters, one slip.
        let begun = typed.len() >= 4 && candidate.starts_with(&typed);
        if begun { 1 } else { edits(&typed, &candidate) }
    };
    candidates
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, deleted or replaced to get from one word to the other (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    // A key is short; what is not, is not a misspelt key.
    if a.len() > 100 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_underscores() {
        let good = [("64MiB", 64 << 20), ("1_000", 1000), ("7", 7), ("2 kB", 2000), ("1GiB", 1 << 30), ("9B", 9)];
        for (text, size) in good {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        let bad = [("64MB ", true), ("64mb", false), ("1.5GiB", false), ("", false), ("_1", false), ("MiB", false)];
        for (text, fine) in bad {
            assert_eq!(parse_size(text).is_ok(), fine, "{text}");
        }
        assert!(parse_size("64M").unwrap_err().help.contains("64MiB"));
        assert!(parse_size(&"9".repeat(60)).is_err());
        assert_eq!([0, 1000, 1024, 3 << 20].map(show_size), ["0", "1000", "1KiB", "3MiB"].map(str::to_owned));
    }

    #[test]
    fn the_nearest_word_is_the_one_meant_and_far_words_are_not_offered() {
        let words = || ["keepalive", "clean_start", "url"].into_iter();
        assert_eq!(nearest("keep_alive", words()), Some("keepalive"));
        assert_eq!(nearest("CleanStart", words()), Some("clean_start"));
        assert_eq!(nearest("ulr", words()), Some("url"));
        assert_eq!(nearest("something_else", words()), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn a_bad_address_is_answered_with_the_good_one() {
        let help = |text: &str| address(&DeValue::String(text.into())).unwrap_err().help;
        assert!(help("localhost:1883").contains("\"127.0.0.1:1883\""));
        assert!(help(":1884").contains("\"0.0.0.0:1884\""));
        assert!(help("10.0.0.1").contains("\"10.0.0.1:1883\""));
        assert!(help("::1").contains("\"[::1]:1883\""));
        assert!(help("10.0.0.1:99999").contains("IP address and a port"));
    }
}
