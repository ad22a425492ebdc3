//! Authorisation: what the `[[acl]]` tables of the configuration let a client do.
//!
//! A client may do what one of the rules that are for it allows and none of them denies; publish, subscribe and read
//! (what is delivered) are told apart. Without any rule there is no [`Acl`], and everything is allowed.
//!
//! Nothing is worked out twice: the rules that are for a session are found when it is opened, and sessions with the
//! same ones share the list; who may not read a topic is left out of its route; who may publish to it is remembered
//! beside the route.

mod check;
mod compile;
mod filter;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::broker::acl::compile::Rule;
use crate::broker::acl::filter::{Filled, Filling};
use crate::broker::connect::split_share;
use crate::broker::session::Session;
use crate::config::{AclFilter, Config};
use crate::time::{Duration, Instant};

pub use check::check;
pub use filter::Names;

/// What a client wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Publish to a topic.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// Be given a message.
    Read,
}

/// What came of it, and which filter was decisive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be done.
    pub allowed: bool,
    /// The filter's key, such as `acl[0].publish[1]`. None: nothing allows it.
    pub by: Option<String>,
}

/// Answers kept at most; then they are worked out again.
const MAX_KNOWN: usize = 16 * 1024;
/// Sets of rules that no session has any more are looked for when there are twice as many as last time.
const MIN_SETS: usize = 64;
/// A client that goes on with what it may not do is told of once in this time.
const BURST: Duration = Duration::from_secs(60);

/// The rules that are for a client, by position.
pub(crate) type RuleSet = Rc<[u16]>;

/// All rules, ready to be asked.
#[derive(Debug)]
pub struct Acl {
    rules: Vec<Rule>,
    sets: BTreeSet<RuleSet>,
    sweep_at: usize,
    /// Who may publish where: by session and route, both by numbers that are not used again.
    known: HashMap<(u32, u64), bool, FixedState>,
    /// Of nodes that never connect.
    nobody: Access,
}

/// What a session has of the rules.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    rules: RuleSet,
    /// When the log was last told of each kind of thing that it may not do.
    told_at: [Option<Instant>; 3],
}

impl Access {
    fn new(rules: RuleSet) -> Self {
        Self { rules, told_at: [None; 3] }
    }

    /// Whether the log is to be told of one more denial.
    fn tell(&mut self, now: Instant, action: Action) -> bool {
        let told_at = &mut self.told_at[action as usize];
        let tell = told_at.is_none_or(|at| now.since(at) >= BURST);
        if tell {
            *told_at = Some(now);
        }
        tell
    }
}

impl Acl {
    /// The rules of a checked configuration; none: everything is allowed. `seed` keeps tables out of the hands of
    /// whoever chooses topic names.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Option<Self> {
        if config.acl.is_empty() {
            return None;
        }
        let mut acl = Self {
            rules: compile::rules(config),
            sets: BTreeSet::new(),
            sweep_at: MIN_SETS,
            known: HashMap::with_hasher(FixedState::with_seed(seed)),
            nobody: Access::new(Rc::default()),
        };
        acl.nobody = acl.access(Names::default());
        Some(acl)
    }

    /// The rules that are for a client.
    fn rules_for(&self, names: Names<'_>) -> Vec<u16> {
        let numbered = self.rules.iter().zip(0..);
        numbered.filter(|(rule, _)| rule.is_for(names)).map(|(_, number)| number).collect()
    }

    /// What a session of this client has of the rules.
    pub(crate) fn access(&mut self, names: Names<'_>) -> Access {
        let rules = self.rules_for(names);
        if let Some(set) = self.sets.get(rules.as_slice()) {
            return Access::new(Rc::clone(set));
        }
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(|set| Rc::strong_count(set) > 1);
            self.sweep_at = MIN_SETS.max(2 * self.sets.len());
        }
        let set: RuleSet = rules.into();
        self.sets.insert(Rc::clone(&set));
        Access::new(set)
    }

    /// Whether the rules allow it. `$share/{group}/` of a filter does not count.
    pub(crate) fn allows(&self, rules: &[u16], names: Names<'_>, action: Action, topic: &str) -> bool {
        self.judge(rules, names, action, topic).allowed
    }

    /// Whether a session may be given messages of a topic.
    pub(crate) fn lets_read(&self, session: &Session, topic: &str) -> bool {
        let allows = |access: &Access| self.allows(&access.rules, session.names(), Action::Read, topic);
        session.access.as_deref().is_some_and(allows)
    }

    /// Remembers who may publish where.
    fn remember(&mut self, session_and_route: (u32, u64), allowed: bool) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(session_and_route, allowed);
    }

    /// What a client may do, and why. For a publish and a read, `topic` is a name; for a subscribe, a filter.
    #[must_use]
    pub fn explain(&self, names: Names<'_>, action: Action, topic: &str) -> Verdict {
        let found = self.judge(&self.rules_for(names), names, action, topic);
        let by = found.by.map(|(rule, key, at)| format!("acl[{rule}].{key}[{at}]"));
        Verdict { allowed: found.allowed, by }
    }

    fn judge(&self, rules: &[u16], names: Names<'_>, action: Action, topic: &str) -> Found {
        let (_, topic) = if action == Action::Subscribe { split_share(topic) } else { (None, topic) };
        let lists = || {
            let numbered = rules.iter().filter_map(|number| Some((*number, self.rules.get(usize::from(*number))?)));
            numbered.map(|(number, rule)| (number, rule.list(action)))
        };
        let question = Question { names, action, topic };
        for (number, list) in lists() {
            if let Some(at) = list.deny.filters.iter().position(|filter| question.is_denied_by(filter)) {
                return Found { allowed: false, by: Some((number, list.deny.key, at)) };
            }
        }
        for (number, list) in lists() {
            if let Some(at) = list.allow.filters.iter().position(|filter| question.is_allowed_by([filter])) {
                return Found { allowed: true, by: Some((number, list.allow.key, at)) };
            }
        }
        // No filter alone covers what is subscribed to, but all together may.
        let together = action == Action::Subscribe
            && question.is_allowed_by(lists().flat_map(|(_, list)| list.allow.filters.iter()));
        let first = lists().find(|(_, list)| together && !list.allow.filters.is_empty());
        Found { allowed: together, by: first.map(|(number, list)| (number, list.allow.key, 0)) }
    }
}

/// What a client wants to do with a topic name, or with a filter when it subscribes.
struct Question<'a> {
    names: Names<'a>,
    action: Action,
    topic: &'a str,
}

impl<'a> Question<'a> {
    fn is_denied_by(&self, filter: &'a AclFilter) -> bool {
        match self.names.filling(filter) {
            Filling::Absent => false,
            // What was to be denied cannot be known: all of it is.
            Filling::Unsafe => true,
            Filling::Ready if self.action == Action::Subscribe => Filled::new(filter, self.names).meets(self.topic),
            Filling::Ready => Filled::new(filter, self.names).matches(self.topic),
        }
    }

    /// Whether the filters allow it together.
    fn is_allowed_by(&self, filters: impl IntoIterator<Item = &'a AclFilter>) -> bool {
        let ready = filters.into_iter().filter(|filter| self.names.filling(filter) == Filling::Ready);
        let mut filled = ready.map(|filter| Filled::new(filter, self.names));
        match self.action {
            Action::Subscribe => filter::cover(filled, self.topic),
            Action::Publish | Action::Read => filled.any(|filter| filter.matches(self.topic)),
        }
    }
}

/// A verdict with the decisive filter by rule, key and position.
struct Found {
    allowed: bool,
    by: Option<(u16, &'static str, usize)>,
}
