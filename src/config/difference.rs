//! What a reload changes, and what it cannot.

use crate::config::{Config, Finding, Rule, Upstream, WhenFull};
use crate::time::Duration;

/// Puts the running values in place of those that only a restart can change, and says so: an error where going on
/// would mean something else than the file says, a warning where nothing but the key itself waits.
pub fn hold_back(running: &Config, new: &mut Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if new.gateway != running.gateway {
        let (old, new) = (&running.gateway, &new.gateway);
        let mut refuse = |is_other: bool, key: &str, what: String| {
            if is_other {
                let message = format!("{what} cannot change while the gateway runs");
                findings.push(Finding::error(key, message, "restart it: `systemctl restart moteway`"));
            }
        };
        let name = format!("the name of the gateway ({:?}, now {:?})", old.name, new.name);
        refuse(old.name != new.name, "gateway.name", name);
        let state_dir = format!("the state directory ({})", old.state_dir.display());
        refuse(old.state_dir != new.state_dir, "gateway.state_dir", state_dir);
        let topic = format!("the topic of the gateway's own state ({:?})", old.status_topic);
        refuse(old.status_topic != new.status_topic, "gateway.status_topic", topic);
    }
    let mut wait = |key: &str, value: String| {
        let help = format!("restart the gateway; until then it stays {value}");
        findings.push(Finding::warning(key, "this needs a restart", help));
    };
    if new.admin != running.admin {
        wait("admin", "as it was".to_owned());
        new.admin = running.admin.clone();
    }
    if new.log.format != running.log.format {
        wait("log.format", format!("{:?}", running.log.format).to_lowercase());
        new.log.format = running.log.format;
    }
    if new.store.durability != running.store.durability {
        wait("store.durability", "as it was".to_owned());
        new.store.durability = running.store.durability;
    }
    if new.store.max_bytes != running.store.max_bytes {
        wait("store.max_bytes", format!("{} bytes", running.store.max_bytes));
        new.store.max_bytes = running.store.max_bytes;
    }
    if new.store.max_dead_letters != running.store.max_dead_letters {
        wait("store.max_dead_letters", running.store.max_dead_letters.to_string());
        new.store.max_dead_letters = running.store.max_dead_letters;
    }
    findings
}

impl Upstream {
    /// Whether a connection may go on under the other configuration: no more is different than what queues may hold.
    #[must_use]
    pub fn connects_like(&self, other: &Self) -> bool {
        self.without_limits() == other.without_limits()
    }

    fn without_limits(&self) -> Self {
        let rule = |rule: &Rule| Rule {
            ttl: Duration::ZERO,
            max_messages: 0,
            max_bytes: 0,
            when_full: WhenFull::DropOldest,
            ..rule.clone()
        };
        Self { rule: self.rule.iter().map(rule).collect(), ..self.clone() }
    }
}

/// What is different, in the words of the file: tables, and what has a name by its name.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let tables = [
        ("[log]", old.log != new.log),
        ("[store]", old.store != new.store),
        ("[broker]", old.broker != new.broker),
        ("[auth]", old.auth != new.auth),
        ("[[acl]]", old.acl != new.acl),
        ("[sn]", old.sn != new.sn),
    ];
    let mut changes: Vec<String> =
        tables.iter().filter(|(_, is_other)| *is_other).map(|(name, _)| format!("{name} changed")).collect();
    named(&mut changes, "listener", &old.listener, &new.listener, |listener| &listener.name);
    named(&mut changes, "link", &old.link, &new.link, |link| &link.name);
    named(&mut changes, "upstream", &old.upstream, &new.upstream, |upstream| &upstream.name);
    changes
}

fn named<T: PartialEq>(
    changes: &mut Vec<String>,
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl for<'a> Fn(&'a T) -> &'a str,
) {
    for item in new {
        match old.iter().find(|other| name(other) == name(item)) {
            None => changes.push(format!("{kind} {} added", name(item))),
            Some(other) if other != item => changes.push(format!("{kind} {} changed", name(item))),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|item| !new.iter().any(|other| name(other) == name(item)));
    changes.extend(gone.map(|item| format!("{kind} {} removed", name(item))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, LogFormat, Severity};

    fn config(text: &str) -> Config {
        Config::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    const OLD: &str = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\n\
        [[listener]]\nname = \"b\"\nbind = \"127.0.0.1:2\"\n";
    const NEW: &str = "[log]\nlevel = \"debug\"\n[[listener]]\nname = \"c\"\nbind = \"127.0.0.1:1\"\n\
        [[listener]]\nname = \"b\"\nbind = \"127.0.0.1:3\"\n";

    #[test]
    fn what_changed_is_named() {
        let said = changes(&config(OLD), &config(NEW));
        assert_eq!(said, ["[log] changed", "listener c added", "listener b changed", "listener a removed"]);
        assert_eq!(changes(&config(OLD), &config(OLD)), Vec::<String>::new());
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_said_with_its_key() {
        let running = config(OLD);
        let mut new = config(
            "[gateway]\nname = \"x\"\nstate_dir = \"/x\"\nstatus_topic = \"x\"\n[log]\nformat = \"json\"\n\
             [store]\ndurability = \"none\"\nmax_bytes = \"64MiB\"\n",
        );
        let found = hold_back(&running, &mut new);
        let keys = |severity| -> Vec<&str> {
            found.iter().filter(|found| found.severity == severity).map(|found| found.path.as_str()).collect()
        };
        assert_eq!(keys(Severity::Error), ["gateway.name", "gateway.state_dir", "gateway.status_topic"]);
        assert_eq!(keys(Severity::Warning), ["log.format", "store.durability", "store.max_bytes"]);
        assert_eq!((new.log.format, new.store.durability), (LogFormat::Auto, Durability::PowerLoss));
        assert_eq!(new.store.max_bytes, running.store.max_bytes);
        assert_eq!(hold_back(&running, &mut running.clone()), Vec::new());
    }
}
