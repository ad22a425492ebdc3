//! Topic names and topic filters, MQTT 5.0 sections 4.7 and 4.8 (the rules of 3.1.1 are the same).

use std::fmt;

/// A topic name or filter, like every string, has at most so many bytes [MQTT-4.7.3-3].
pub const MAX_LEN: usize = 65_535;

/// What is wrong with a topic name or a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// It has no character [MQTT-4.7.3-1].
    Empty,
    /// It is longer than [`MAX_LEN`] [MQTT-4.7.3-3].
    TooLong,
    /// It contains U+0000 [MQTT-4.7.3-2].
    Nul,
    /// A name contains `+` or `#` [MQTT-3.3.2-2].
    Wildcard,
    /// In a filter, `+` or `#` does not fill a level, or `#` is not the last level [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    MisplacedWildcard,
    /// A filter begins with `$share/`, but a plain group name and a filter do not follow [MQTT-4.8.2-1],
    /// [MQTT-4.8.2-2].
    Share,
}

impl TopicError {
    /// What is wrong, with the clause.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "topic is empty [MQTT-4.7.3-1]",
            Self::TooLong => "topic is longer than 65535 bytes [MQTT-4.7.3-3]",
            Self::Nul => "topic contains U+0000 [MQTT-4.7.3-2]",
            Self::Wildcard => "topic name contains a wildcard [MQTT-3.3.2-2]",
            Self::MisplacedWildcard => "wildcard is misplaced in topic filter [MQTT-4.7.1-1] [MQTT-4.7.1-2]",
            Self::Share => "shared subscription lacks a group name or filter [MQTT-4.8.2-1] [MQTT-4.8.2-2]",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for TopicError {}

/// Checks a topic name: what is published to.
///
/// # Errors
/// If it is empty, too long, or contains U+0000 or a wildcard.
#[inline]
pub fn check_name(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > MAX_LEN {
        return Err(TopicError::TooLong);
    }
    if has_special(name.as_bytes()) {
        return Err(if name.contains('\0') { TopicError::Nul } else { TopicError::Wildcard });
    }
    Ok(())
}

/// Whether a topic name may be made of these bytes: none is NUL, `+` or `#`. Eight bytes a step, because every
/// PUBLISH passes here.
#[inline]
fn has_special(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    /// Not 0 if and only if a byte of `word` is 0.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & TOPS
    }
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        found |= zeros(word) | zeros(word ^ (ONES * u64::from(b'+'))) | zeros(word ^ (ONES * u64::from(b'#')));
    }
    found != 0 || rest.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'))
}

/// Checks a topic filter: what is subscribed to, also `$share/{group}/{filter}`.
///
/// # Errors
/// If it is empty, too long, contains U+0000, or a wildcard or a share is not well formed.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    if filter.len() > MAX_LEN {
        return Err(TopicError::TooLong);
    }
    if filter == "$share" || filter.starts_with(SHARE) {
        let (_, inner) = share(filter).ok_or(TopicError::Share)?;
        return check_plain(inner);
    }
    check_plain(filter)
}

fn check_plain(filter: &str) -> Result<(), TopicError> {
    if filter.is_empty() {
        return Err(TopicError::Empty);
    }
    let mut closed = false;
    for level in levels(filter) {
        if closed {
            return Err(TopicError::MisplacedWildcard);
        }
        closed = level == "#";
        if level.len() > 1 && level.contains(['+', '#']) {
            return Err(TopicError::MisplacedWildcard);
        }
        if level.contains('\0') {
            return Err(TopicError::Nul);
        }
    }
    Ok(())
}

const SHARE: &str = "$share/";

/// Splits `$share/{group}/{filter}` into group and filter. `None` if this is no share, or has no legal group name
/// or an empty filter.
#[must_use]
pub fn share(filter: &str) -> Option<(&str, &str)> {
    let (group, inner) = filter.strip_prefix(SHARE)?.split_once('/')?;
    let legal = !group.is_empty() && !group.contains(['+', '#', '\0']) && !inner.is_empty();
    legal.then_some((group, inner))
}

/// Whether a topic filter (without share) matches a topic name. Both must be well formed. A wildcard at the
/// beginning does not match a name that begins with `$` [MQTT-4.7.2-1].
#[must_use]
pub fn matches(filter: &str, name: &str) -> bool {
    let (filter, name) = (filter.as_bytes(), name.as_bytes());
    if name.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let (mut f, mut n) = (0, 0);
    loop {
        match filter.get(f) {
            Some(b'#') => return true,
            Some(b'+') => {
                f += 1;
                while name.get(n).is_some_and(|byte| *byte != b'/') {
                    n += 1;
                }
            }
            Some(byte) if name.get(n) == Some(byte) => {
                f += 1;
                n += 1;
            }
            // "a/#" also matches its parent "a".
            Some(b'/') => return n == name.len() && &filter[f..] == b"/#",
            Some(_) => return false,
            None => return n == name.len(),
        }
    }
}

/// The levels of a topic name or filter, from left to right. An empty level is a level.
#[must_use]
pub fn levels(topic: &str) -> Levels<'_> {
    Levels { rest: Some(topic) }
}

/// See [`levels`].
#[derive(Debug, Clone)]
pub struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    /// What was not yet yielded, still joined.
    #[must_use]
    pub const fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let topic = self.rest?;
        match topic.bytes().position(|byte| byte == b'/') {
            Some(at) => {
                self.rest = Some(&topic[at + 1..]);
                Some(&topic[..at])
            }
            None => {
                self.rest = None;
                Some(topic)
            }
        }
    }
}

impl std::iter::FusedIterator for Levels<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_wherever_the_fault_lies() {
        assert_eq!(check_name("/"), Ok(()));
        assert_eq!(check_name("Ünïcode/温度"), Ok(()));
        assert_eq!(check_name(""), Err(TopicError::Empty));
        assert_eq!(check_name(&"x".repeat(65_535)), Ok(()));
        assert_eq!(check_name(&"x".repeat(65_536)), Err(TopicError::TooLong));
        for at in 0..20 {
            for (fault, error) in
                [('+', TopicError::Wildcard), ('#', TopicError::Wildcard), ('\0', TopicError::Nul)]
            {
                let mut name = "abcdefgh/jklmnop/rst".to_owned();
                name.replace_range(at..=at, &fault.to_string());
                assert_eq!(check_name(&name), Err(error), "{name:?}");
            }
        }
    }

    #[test]
    fn filters_are_checked() {
        for filter in
            ["#", "+", "/", "+/+", "/+", "a/#", "a/+/b", "sport/tennis/+", "$SYS/#", "$share/g/a/#", "$share/g//"]
        {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for (filter, error) in [
            ("", TopicError::Empty),
            ("a#", TopicError::MisplacedWildcard),
            ("a/#/b", TopicError::MisplacedWildcard),
            ("#/", TopicError::MisplacedWildcard),
            ("a+/b", TopicError::MisplacedWildcard),
            ("++", TopicError::MisplacedWildcard),
            ("a\0", TopicError::Nul),
            ("$share", TopicError::Share),
            ("$share/", TopicError::Share),
            ("$share/g", TopicError::Share),
            ("$share/g/", TopicError::Share),
            ("$share//a", TopicError::Share),
            ("$share/+/a", TopicError::Share),
            ("$share/g#/a", TopicError::Share),
            ("$share/g/a#", TopicError::MisplacedWildcard),
        ] {
            assert_eq!(check_filter(filter), Err(error), "{filter}");
        }
        assert_eq!(check_filter("$shared/x"), Ok(()));
    }

    #[test]
    fn share_is_split() {
        assert_eq!(share("$share/group/a/+/#"), Some(("group", "a/+/#")));
        assert_eq!(share("$share/group//a"), Some(("group", "/a")));
        assert_eq!(share("share/group/a"), None);
        assert_eq!(share("$share/group"), None);
    }

    #[test]
    fn filters_match_as_the_standard_shows() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+/#", "a"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a/+/c", "a//c"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("+/+", "$SYS/x"),
            ("a", "A"),
            ("a", "a/"),
            ("a/", "a"),
            ("a/b", "a"),
            ("a/+/#", "a"),
            ("a/bc", "a/b"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn levels_keep_empty_ones() {
        assert_eq!(levels("/a//b/").collect::<Vec<_>>(), ["", "a", "", "b", ""]);
        assert_eq!(levels("").collect::<Vec<_>>(), [""]);
        let mut some = levels("a/b/c");
        some.next();
        assert_eq!(some.rest(), Some("b/c"));
    }
}
