//! The filters of an `[[acl]]`: topic filters in which `{client_id}` and `{user}` stand for those of the client.

use std::fmt;

use crate::config::value::{Parsed, Wrong, nearest};
use crate::mqtt::topic;

const CLIENT_ID: &str = "client_id";
const USER: &str = "user";

/// A topic filter, ready to be filled in for one client.
#[derive(Clone, PartialEq, Eq)]
pub struct AclFilter {
    text: Box<str>,
    levels: Box<[AclLevel]>,
    is_open: bool,
}

/// One level of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclLevel {
    /// This text.
    Text(Box<str>),
    /// `+`
    Any,
    /// Text that is the client's own, in part or all.
    Own(Box<[AclPart]>),
}

/// A piece of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclPart {
    /// This text.
    Text(Box<str>),
    /// `{client_id}`
    ClientId,
    /// `{user}`
    User,
}

impl AclFilter {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its levels, without `#`.
    #[must_use]
    pub fn levels(&self) -> &[AclLevel] {
        &self.levels
    }

    /// Whether `#` follows the levels.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn parse(text: &str) -> Parsed<Self> {
        const HELP: &str = "write a topic filter such as \"sensor/{client_id}/#\"";
        let wrong = |message: String| Wrong::new(message, HELP);
        topic::check_filter(text).map_err(|error| wrong(format!("{text:?}: {error}")))?;
        if topic::share(text).is_some() {
            let help = "leave `$share/...` out: a shared subscription needs the right to its filter";
            return Err(Wrong::new(format!("{text:?} names a share"), help));
        }
        let mut levels = Vec::new();
        let mut is_open = false;
        for level in topic::levels(text) {
            match level {
                "#" => is_open = true,
                "+" => levels.push(AclLevel::Any),
                level if level.contains(['{', '}']) => levels.push(AclLevel::Own(parts(text, level)?)),
                level => levels.push(AclLevel::Text(level.into())),
            }
        }
        Ok(Self { text: text.into(), levels: levels.into_boxed_slice(), is_open })
    }

    /// Whether it has `{user}` in it.
    pub(super) fn names_user(&self) -> bool {
        let parts = self.levels.iter().filter_map(|level| match level {
            AclLevel::Own(parts) => Some(parts),
            AclLevel::Text(_) | AclLevel::Any => None,
        });
        parts.flatten().any(|part| *part == AclPart::User)
    }
}

fn parts(filter: &str, level: &str) -> Parsed<Box<[AclPart]>> {
    let torn = || Wrong::new(format!("{filter:?} has a brace without its partner"), "write {client_id} or {user}");
    let mut parts = Vec::new();
    let mut rest = level;
    while let Some(at) = rest.find(['{', '}']) {
        if at > 0 {
            parts.push(AclPart::Text(rest[..at].into()));
        }
        let inner = rest[at..].strip_prefix('{').ok_or_else(torn)?;
        let (name, behind) = inner.split_once('}').ok_or_else(torn)?;
        parts.push(match name {
            CLIENT_ID => AclPart::ClientId,
            USER => AclPart::User,
            other => {
                let help = match nearest(other, [CLIENT_ID, USER].into_iter()) {
                    Some(meant) => format!("did you mean {{{meant}}}?"),
                    None => "only {client_id} and {user} are filled in here".to_owned(),
                };
                return Err(Wrong::new(format!("{filter:?}: {{{other}}} stands for nothing"), help));
            }
        });
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(AclPart::Text(rest.into()));
    }
    Ok(parts.into_boxed_slice())
}

/// As it is written.
impl fmt::Debug for AclFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_taken_apart_into_levels_and_the_clients_own_parts() {
        let filter = AclFilter::parse("a/+/dev-{client_id}.{user}/#").unwrap();
        assert!(filter.is_open() && filter.names_user());
        let [AclLevel::Text(first), AclLevel::Any, AclLevel::Own(parts)] = filter.levels() else {
            panic!("{filter:?}")
        };
        let expected = [AclPart::Text("dev-".into()), AclPart::ClientId, AclPart::Text(".".into()), AclPart::User];
        assert_eq!((&**first, &**parts), ("a", &expected[..]));
        assert!(AclFilter::parse("#").unwrap().levels().is_empty());
        assert!(!AclFilter::parse("a/").unwrap().names_user());
    }

    #[test]
    fn what_is_no_filter_is_refused_with_a_remedy() {
        for (text, says, help) in [
            ("a/#/b", "wildcard is misplaced", "topic filter"),
            ("a/x+", "wildcard is misplaced", "topic filter"),
            ("", "empty", "topic filter"),
            ("$share/g/a", "names a share", "leave `$share/...` out"),
            ("a/{clientid}", "{clientid} stands for nothing", "did you mean {client_id}?"),
            ("a/{gateway}", "{gateway} stands for nothing", "only {client_id} and {user}"),
            ("a/{user", "without its partner", "{user}"),
            ("a/user}", "without its partner", "{user}"),
        ] {
            let wrong = AclFilter::parse(text).unwrap_err();
            assert!(wrong.message.contains(says) && wrong.help.contains(help), "{text}: {wrong:?}");
        }
    }
}
