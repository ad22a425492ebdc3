//! Does each `[[acl]]` speak of somebody, and say something?

use crate::config::schema::{AclRule, Config};
use crate::config::{AclFilter, Finding};

pub(super) fn check(config: &Config, found: &mut Vec<Finding>) {
    for (group, members) in &config.auth.groups {
        if members.is_empty() {
            let message = format!("group `{group}` has no user");
            found.push(Finding::warning(format!("auth.groups.{group}"), message, "name its users, or take it out"));
        }
    }
    for (i, rule) in config.acl.iter().enumerate() {
        let path = format!("acl[{i}]");
        groups(&path, rule, config, found);
        somebody(&path, rule, config, found);
        something(&path, rule, found);
        users(&path, rule, found);
    }
}

/// A group that is not there is a slip of the pen, and would leave its users without rights.
fn groups(path: &str, rule: &AclRule, config: &Config, found: &mut Vec<Finding>) {
    for (i, group) in rule.group.iter().flatten().enumerate() {
        if !config.auth.groups.contains_key(group) {
            let known: Vec<&str> = config.auth.groups.keys().map(String::as_str).collect();
            let help = match known.as_slice() {
                [] => format!("add [auth.groups] with `{group} = [...]`"),
                known => format!("[auth.groups] has: {}", known.join(", ")),
            };
            found.push(Finding::error(format!("{path}.group[{i}]"), format!("there is no group `{group}`"), help));
        }
    }
}

fn somebody(path: &str, rule: &AclRule, config: &Config, found: &mut Vec<Finding>) {
    let nobody = |key: &str, why: String, found: &mut Vec<Finding>| {
        found.push(Finding::warning(
            format!("{path}.{key}"),
            format!("this [[acl]] is for nobody: {why}"),
            "all of `user`, `group`, `client_id` and `anonymous` must hold for one client",
        ));
    };
    for (key, list) in [("user", &rule.user), ("group", &rule.group), ("client_id", &rule.client_id)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            return nobody(key, format!("`{key}` is an empty list"), found);
        }
    }
    let named = rule.user.is_some() || rule.group.is_some();
    if named && rule.anonymous == Some(true) {
        return nobody("anonymous", "a client without a name is no user".to_owned(), found);
    }
    if let (Some(users), Some(groups)) = (&rule.user, &rule.group) {
        let members: Vec<&String> =
            groups.iter().filter_map(|group| config.auth.groups.get(group)).flatten().collect();
        let known = groups.iter().all(|group| config.auth.groups.contains_key(group));
        if known && !users.iter().any(|user| members.contains(&user)) {
            nobody("user", format!("no user of it is in {}", groups.join(" or ")), found);
        }
    }
}

fn something(path: &str, rule: &AclRule, found: &mut Vec<Finding>) {
    if lists(rule).iter().all(|(_, filters)| filters.is_empty()) {
        let help = "add `publish`, `subscribe` or `read`, or the same with `deny_` before it";
        found.push(Finding::warning(path, "this [[acl]] allows and denies nothing", help));
    }
}

/// A client without a name has no `{user}`.
fn users(path: &str, rule: &AclRule, found: &mut Vec<Finding>) {
    if rule.anonymous != Some(true) {
        return;
    }
    for (key, filters) in lists(rule) {
        for (i, filter) in filters.iter().enumerate().filter(|(_, filter)| filter.names_user()) {
            found.push(Finding::warning(
                format!("{path}.{key}[{i}]"),
                format!("{filter:?} never matches: clients without a name have no {{user}}"),
                "write {client_id}, or take `anonymous` out",
            ));
        }
    }
}

fn lists(rule: &AclRule) -> [(&'static str, &[AclFilter]); 6] {
    [
        ("publish", &rule.publish),
        ("subscribe", &rule.subscribe),
        ("read", rule.read.as_deref().unwrap_or_default()),
        ("deny_publish", &rule.deny_publish),
        ("deny_subscribe", &rule.deny_subscribe),
        ("deny_read", rule.deny_read.as_deref().unwrap_or_default()),
    ]
}
