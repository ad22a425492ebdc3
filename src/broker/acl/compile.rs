//! From the tables of the configuration to rules that can be asked.

use std::collections::BTreeSet;

use crate::broker::acl::Action;
use crate::broker::acl::filter::Names;
use crate::config::{AclFilter, AclRule, Config};

/// One `[[acl]]`.
#[derive(Debug)]
pub(super) struct Rule {
    /// One of these names must be proved: those that are named, and of them those in a named group.
    users: Option<BTreeSet<Box<str>>>,
    anonymous: Option<bool>,
    clients: Option<Vec<ClientIds>>,
    publish: List,
    subscribe: List,
    read: List,
}

/// One client id, or all that begin alike.
#[derive(Debug)]
struct ClientIds {
    text: Box<str>,
    is_prefix: bool,
}

/// What a rule says about one action.
#[derive(Debug)]
pub(super) struct List {
    pub(super) allow: Filters,
    pub(super) deny: Filters,
}

#[derive(Debug)]
pub(super) struct Filters {
    /// The key that they were written under.
    pub(super) key: &'static str,
    pub(super) filters: Box<[AclFilter]>,
}

impl Filters {
    fn new(key: &'static str, filters: &[AclFilter]) -> Self {
        Self { key, filters: filters.into() }
    }

    /// Those of a key that is there, or else those of another.
    fn or(key: &'static str, filters: Option<&Vec<AclFilter>>, other: Self) -> Self {
        filters.map_or(other, |filters| Self::new(key, filters))
    }
}

impl Rule {
    fn new(rule: &AclRule, config: &Config) -> Self {
        let subscribe = || List {
            allow: Filters::new("subscribe", &rule.subscribe),
            deny: Filters::new("deny_subscribe", &rule.deny_subscribe),
        };
        let List { allow, deny } = subscribe();
        Self {
            users: users(rule, config),
            anonymous: rule.anonymous,
            clients: rule.client_id.as_ref().map(|ids| ids.iter().map(|id| client_ids(id)).collect()),
            publish: List {
                allow: Filters::new("publish", &rule.publish),
                deny: Filters::new("deny_publish", &rule.deny_publish),
            },
            read: List {
                allow: Filters::or("read", rule.read.as_ref(), allow),
                deny: Filters::or("deny_read", rule.deny_read.as_ref(), deny),
            },
            subscribe: subscribe(),
        }
    }

    /// Whether the rule is for this client.
    pub(super) fn is_for(&self, names: Names<'_>) -> bool {
        let user = names.user;
        self.anonymous.is_none_or(|anonymous| anonymous == user.is_none())
            && self.users.as_ref().is_none_or(|users| user.is_some_and(|user| users.contains(user)))
            && self
                .clients
                .as_ref()
                .is_none_or(|clients| names.client_id.is_some_and(|id| clients.iter().any(|client| client.is(id))))
    }

    pub(super) fn list(&self, action: Action) -> &List {
        match action {
            Action::Publish => &self.publish,
            Action::Subscribe => &self.subscribe,
            Action::Read => &self.read,
        }
    }
}

impl ClientIds {
    fn is(&self, id: &str) -> bool {
        if self.is_prefix { id.starts_with(&*self.text) } else { *id == *self.text }
    }
}

pub(super) fn rules(config: &Config) -> Vec<Rule> {
    config.acl.iter().map(|rule| Rule::new(rule, config)).collect()
}

fn client_ids(text: &str) -> ClientIds {
    match text.strip_suffix('*') {
        Some(prefix) => ClientIds { text: prefix.into(), is_prefix: true },
        None => ClientIds { text: text.into(), is_prefix: false },
    }
}

fn users(rule: &AclRule, config: &Config) -> Option<BTreeSet<Box<str>>> {
    let set = |names: &mut dyn Iterator<Item = &String>| names.map(|name| name.as_str().into()).collect();
    let named: Option<BTreeSet<Box<str>>> = rule.user.as_ref().map(|users| set(&mut users.iter()));
    let grouped: Option<BTreeSet<Box<str>>> = rule
        .group
        .as_ref()
        .map(|groups| set(&mut groups.iter().filter_map(|group| config.auth.groups.get(group)).flatten()));
    match (named, grouped) {
        (Some(named), Some(grouped)) => Some(named.intersection(&grouped).cloned().collect()),
        (named, grouped) => named.or(grouped),
    }
}
