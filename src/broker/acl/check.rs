//! Filters of an `[[acl]]` that can have no effect, found before the first message.

use crate::broker::acl::filter::{Filled, Names, cover};
use crate::config::{AclFilter, AclRule, Config, Finding};

/// Each filter is compared with so many denials at most.
const MAX_COMPARED: usize = 1000;

/// Placeholders that stand for themselves: what is the same before they are filled in is so afterwards.
const THEMSELVES: Names<'static> = Names { client_id: Some("{client_id}"), user: Some("{user}") };

/// Keys of one action: what allows, what denies, and their filters.
type Lists<'a> = [(&'static str, &'a [AclFilter], &'static str, &'a [AclFilter]); 3];

/// What will surprise in the `[[acl]]` tables of a configuration.
#[must_use]
pub fn check(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, rule) in config.acl.iter().enumerate() {
        for (action, (key, allowed, deny_key, _)) in lists(rule).into_iter().enumerate() {
            let others = config.acl.iter().filter(|other| is_within(rule, other));
            let denied: Vec<&AclFilter> =
                others.flat_map(|other| lists(other)[action].3).take(MAX_COMPARED).collect();
            for (at, filter) in allowed.iter().enumerate() {
                let denied = denied.iter().map(|denied| Filled::new(denied, THEMSELVES));
                if cover(denied, filter.as_str()) {
                    found.push(Finding::warning(
                        format!("acl[{i}].{key}[{at}]"),
                        format!("{filter:?} allows nothing: all of it is denied to the same clients"),
                        format!("`{deny_key}` wins over `{key}`: take one of them out"),
                    ));
                }
            }
        }
    }
    found
}

/// Lists that are there; what one stands for when it is left out has been looked at under its own name.
fn lists(rule: &AclRule) -> Lists<'_> {
    let deny_read = rule.deny_read.as_ref().unwrap_or(&rule.deny_subscribe);
    [
        ("publish", &rule.publish, "deny_publish", &rule.deny_publish),
        ("subscribe", &rule.subscribe, "deny_subscribe", &rule.deny_subscribe),
        ("read", rule.read.as_deref().unwrap_or_default(), "deny_read", deny_read),
    ]
}

/// Whether surely each client that `rule` is for is one that `other` is for.
fn is_within(rule: &AclRule, other: &AclRule) -> bool {
    fn fits<T: PartialEq>(key: &Option<T>, other: &Option<T>) -> bool {
        other.is_none() || key == other
    }
    fits(&rule.user, &other.user)
        && fits(&rule.group, &other.group)
        && fits(&rule.client_id, &other.client_id)
        && fits(&rule.anonymous, &other.anonymous)
}
