//! Filters filled in for one client: whether they match a topic, meet another filter, or cover it together.

use crate::config::{AclFilter, AclLevel, AclPart};
use crate::mqtt::topic;

/// Who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Names<'a> {
    /// None: a node that never connects (MQTT-SN QoS -1).
    pub client_id: Option<&'a str>,
    /// The proved name; none: anonymous.
    pub user: Option<&'a str>,
}

/// What became of a filter's placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    /// There are none, or each stands for a harmless name.
    Ready,
    /// The client has no such name: the filter is not for it.
    Absent,
    /// The name has `+`, `#` or `/` in it, or a `$` that would begin the topic: it would mean other topics than the
    /// operator thought of.
    Unsafe,
}

/// A filter with the names that go into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled<'a> {
    filter: &'a AclFilter,
    names: Names<'a>,
}

impl<'a> Names<'a> {
    fn of(&self, part: &'a AclPart) -> Option<&'a str> {
        match part {
            AclPart::Text(text) => Some(text),
            AclPart::ClientId => self.client_id,
            AclPart::User => self.user,
        }
    }

    /// What becomes of the filter's placeholders under these names.
    pub(crate) fn filling(&self, filter: &'a AclFilter) -> Filling {
        let mut filling = Filling::Ready;
        for (depth, level) in filter.levels().iter().enumerate() {
            let AclLevel::Own(parts) = level else { continue };
            for (at, part) in parts.iter().enumerate().filter(|(_, part)| !matches!(part, AclPart::Text(_))) {
                match self.of(part) {
                    None | Some("") => return Filling::Absent,
                    Some(name) if name.contains(['+', '#', '/']) => filling = Filling::Unsafe,
                    Some(name) if depth == 0 && at == 0 && name.starts_with('$') => filling = Filling::Unsafe,
                    Some(_) => {}
                }
            }
        }
        filling
    }
}

impl<'a> Filled<'a> {
    /// The filter for a client; its [`Filling`] must be ready.
    pub(crate) fn new(filter: &'a AclFilter, names: Names<'a>) -> Self {
        Self { filter, names }
    }

    /// Whether the level at this depth is there and is, or may be, this text. A wildcard that begins a filter does not
    /// stand for a level that begins with `$` [MQTT-4.7.2-1].
    fn is(&self, depth: usize, text: &str) -> bool {
        match self.filter.levels().get(depth) {
            None => false,
            Some(AclLevel::Text(level)) => **level == *text,
            Some(AclLevel::Any) => depth > 0 || !text.starts_with('$'),
            Some(AclLevel::Own(parts)) => {
                let rest = parts.iter().try_fold(text, |rest, part| rest.strip_prefix(self.names.of(part)?));
                rest == Some("")
            }
        }
    }

    /// Whether the level at this depth begins with a `$` that is written there.
    fn is_reserved(&self, depth: usize) -> bool {
        let first = match self.filter.levels().get(depth) {
            Some(AclLevel::Text(text)) => Some(&**text),
            Some(AclLevel::Own(parts)) => parts.first().and_then(|part| self.names.of(part)),
            Some(AclLevel::Any) | None => None,
        };
        first.is_some_and(|text| text.starts_with('$'))
    }

    fn len(&self) -> usize {
        self.filter.levels().len()
    }

    /// Whether only `#` is left at this depth.
    fn is_open_at(&self, depth: usize) -> bool {
        self.filter.is_open() && self.len() == depth
    }

    /// Whether the topic name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut depth = 0;
        for level in topic::levels(name) {
            if self.is_open_at(depth) {
                return depth > 0 || !level.starts_with('$');
            }
            if !self.is(depth, level) {
                return false;
            }
            depth += 1;
        }
        // `a/#` matches `a` as well [MQTT-4.7.1-2].
        self.len() == depth
    }

    /// Whether some topic name matches both this and the other filter.
    pub(crate) fn meets(&self, other: &str) -> bool {
        let mut depth = 0;
        for level in topic::levels(other) {
            if self.is_open_at(depth) {
                return depth > 0 || !level.starts_with('$');
            }
            let met = match level {
                // What is left here, be it nothing, lies below it.
                "#" => return depth > 0 || !self.is_reserved(depth),
                "+" => depth < self.len() && (depth > 0 || !self.is_reserved(depth)),
                text => self.is(depth, text),
            };
            if !met {
                return false;
            }
            depth += 1;
        }
        self.len() == depth
    }

    /// How many `+`, and nothing else but perhaps `#`, are left from this depth on.
    fn pluses(&self, depth: usize) -> Option<usize> {
        let rest = self.filter.levels().get(depth..)?;
        rest.iter().all(|level| *level == AclLevel::Any).then_some(rest.len())
    }
}

/// Whether each topic name that `asked` matches is matched by one of the filters.
///
/// Level by level, the filters that can still match are kept. Where `asked` has a wildcard it stands for names that
/// no filter spells out too, so only wildcards keep up with it; and what keeps up with such a name keeps up with all.
pub(crate) fn cover<'a>(filters: impl Iterator<Item = Filled<'a>>, asked: &str) -> bool {
    let mut open: Vec<Filled<'_>> = filters.collect();
    let mut depth = 0;
    for level in topic::levels(asked) {
        if open.iter().any(|filter| filter.is_open_at(depth)) && (depth > 0 || !level.starts_with('$')) {
            return true;
        }
        match level {
            "#" => return cover_below(&open, depth),
            "+" => open.retain(|filter| filter.filter.levels().get(depth) == Some(&AclLevel::Any)),
            text => open.retain(|filter| filter.is(depth, text)),
        }
        if open.is_empty() {
            return false;
        }
        depth += 1;
    }
    open.iter().any(|filter| filter.len() == depth)
}

/// Whether the filters match whatever follows at this depth: nothing, one level, two, and so on without end.
fn cover_below(filters: &[Filled<'_>], depth: usize) -> bool {
    let tails = filters.iter().filter_map(|filter| Some((filter.pluses(depth)?, filter.filter.is_open())));
    let (open, exact): (Vec<_>, Vec<_>) = tails.partition(|(_, is_open)| *is_open);
    // `+/#` matches one level and more.
    let Some(endless_from) = open.iter().map(|(count, _)| *count).min() else { return false };
    // There is no topic name without a level. That there is none without a character either is left aside: it would
    // only allow a little more.
    let shortest = usize::from(depth == 0);
    (shortest..endless_from).all(|count| exact.contains(&(count, false)))
}
