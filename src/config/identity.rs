//! `{gateway}`: one file for a thousand boxes. Each puts its own name in.

use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use crate::config::value::{Parsed, Wrong, string};
use crate::config::{Config, IdentitySource};

/// How the identity is written in the configuration.
pub(super) const GATEWAY: &str = "{gateway}";

/// Longest identity. It is part of topics and of the client id, which some clouds limit to 128 bytes.
const MAX_IDENTITY_BYTES: usize = 128;

/// A name that cannot stand for `{gateway}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadIdentity {
    identity: String,
}

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be the name of a gateway", self.identity)
    }
}

impl std::error::Error for BadIdentity {}

impl BadIdentity {
    /// What a name may be.
    pub const HELP: &'static str =
        "use 1 to 128 bytes without `+`, `#`, `/`, `{`, `}`, control characters and without `$` at the beginning";
}

/// Checks that a name can be a level of a topic and a part of a client id.
///
/// # Errors
/// When it cannot.
pub(super) fn check(identity: &str) -> Result<(), BadIdentity> {
    let illegal = |c: char| c.is_control() || matches!(c, '+' | '#' | '/' | '{' | '}');
    let empty_or_long = identity.is_empty() || identity.len() > MAX_IDENTITY_BYTES;
    if empty_or_long || identity.starts_with('$') || identity.contains(illegal) {
        return Err(BadIdentity { identity: identity.to_owned() });
    }
    Ok(())
}

/// Reads one entry of `gateway.identity`.
pub(super) fn source(value: &DeValue<'_>) -> Parsed<IdentitySource> {
    let text = string(value)?;
    match text.split_once(':') {
        None if text == "machine-id" => Ok(IdentitySource::MachineId),
        None if text == "serial-number" => Ok(IdentitySource::SerialNumber),
        None if text == "network-address" => Ok(IdentitySource::NetworkAddress(None)),
        // What the kernel takes as a name, and what cannot lead out of its directory.
        Some(("network-address", name)) if !name.is_empty() && !name.contains(['/', '.']) => {
            Ok(IdentitySource::NetworkAddress(Some(name.to_owned())))
        }
        Some(("file", path)) if path.starts_with('/') => Ok(IdentitySource::File(PathBuf::from(path))),
        _ => Err(Wrong::new(
            format!("{text:?} is nothing that tells a box from another"),
            "write file:/PATH, machine-id, serial-number, network-address or network-address:INTERFACE",
        )),
    }
}

impl Config {
    /// Puts the identity of this box in place of every `{gateway}`: `gateway.name`, or `found`, what was found in the
    /// places of `gateway.identity`, when that is empty. Afterwards `gateway.name` is the identity.
    ///
    /// # Errors
    /// When the identity cannot be a level of a topic.
    pub fn resolve(mut self, found: &str) -> Result<Self, BadIdentity> {
        if self.gateway.name.is_empty() {
            found.clone_into(&mut self.gateway.name);
        }
        let identity = self.gateway.name.clone();
        check(&identity)?;
        let fill = |text: &mut String| *text = text.replace(GATEWAY, &identity);
        fill(&mut self.gateway.status_topic);
        for upstream in &mut self.upstream {
            fill(&mut upstream.client_id);
            fill(&mut upstream.status_topic);
            upstream.username.as_mut().map(fill);
            for rule in &mut upstream.rule {
                fill(&mut rule.filter);
                fill(&mut rule.remap);
                rule.exclude.iter_mut().for_each(fill);
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Rule, Upstream};

    #[test]
    fn the_identity_goes_everywhere_and_the_name_wins_over_what_was_found() {
        let mut config = Config::default();
        config.gateway.status_topic = "status/{gateway}".to_owned();
        let text = || "x/{gateway}/{room}".to_owned();
        let rule = Rule { filter: text(), remap: text(), exclude: vec![text()], ..Rule::default() };
        config.upstream.push(Upstream {
            status_topic: "s/{gateway}".to_owned(),
            username: Some("hub/{gateway}".to_owned()),
            rule: vec![rule],
            ..Upstream::default()
        });

        let named = config.clone().resolve("m1").unwrap();
        assert_eq!((named.gateway.name.as_str(), named.gateway.status_topic.as_str()), ("m1", "status/m1"));
        let upstream = &named.upstream[0];
        assert_eq!((upstream.client_id.as_str(), upstream.status_topic.as_str()), ("m1", "s/m1"));
        assert_eq!(upstream.username.as_deref(), Some("hub/m1"));
        let rule = &upstream.rule[0];
        assert_eq!([&rule.filter, &rule.remap, &rule.exclude[0]], ["x/m1/{room}"; 3]);

        config.gateway.name = "box-7".to_owned();
        assert_eq!(config.resolve("m1").unwrap().upstream[0].client_id, "box-7");
    }

    #[test]
    fn places_of_an_identity_have_their_names() {
        let read = |text: &str| Config::parse(&format!("[gateway]\nidentity = {text}\n"));
        let config = read("[\"network-address:eth0\", \"file:/x y\", \"machine-id\"]").unwrap();
        let expected = [
            IdentitySource::NetworkAddress(Some("eth0".to_owned())),
            IdentitySource::File(PathBuf::from("/x y")),
            IdentitySource::MachineId,
        ];
        assert_eq!(config.gateway.identity, expected);
        assert_eq!(read("\"serial-number\"").unwrap().gateway.identity, [IdentitySource::SerialNumber]);
        for bad in
            ["\"mac\"", "\"file:x\"", "\"network-address:\"", "\"network-address:../x\"", "\"machine-id:7\"", "7"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_that_would_break_a_topic_is_refused() {
        for bad in ["", "a/b", "a+", "#", "a\0", "a\n", "{x}", "$SYS", &"x".repeat(129)] {
            assert!(Config::default().resolve(bad).is_err(), "{bad:?}");
        }
        assert!(Config::default().resolve("Gerät 7.east").is_ok());
    }
}
