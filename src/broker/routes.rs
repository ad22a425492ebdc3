//! Where a topic's messages go, remembered until a subscription changes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::broker::target::{Options, Target};
use crate::broker::tree::{Found, Tree};

/// Topics remembered at most; a burst of new topics starts over rather than growing.
const MAX_ROUTES: usize = 4096;
/// A longer topic is not remembered.
const MAX_TOPIC: usize = 256;

/// One session's part in a topic: its overlapping subscriptions made one [MQTT-3.3.4-2].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leg {
    pub target: Target,
    /// The greatest QoS of them; retain as published and no local if all of them say so.
    pub options: Options,
    /// The subscription identifiers of all of them.
    pub ids: Box<[u32]>,
    /// The shared subscription that it is a part of, or 0.
    pub share: u32,
    /// The part in the session's own messages, where only some of them want none [MQTT-3.8.3-3].
    pub own: Option<Box<Self>>,
}

/// A shared subscription's members for this topic.
#[derive(Debug)]
pub(crate) struct Share {
    /// The number under which its messages are stored.
    pub id: u32,
    pub members: Box<[Leg]>,
    /// Whose turn it is: the subscription's, not the topic's, so that many topics are shared out evenly too.
    pub turn: Rc<Cell<usize>>,
}

/// Everything that a topic leads to.
#[derive(Debug, Default)]
pub(crate) struct Route {
    pub legs: Box<[Leg]>,
    pub shares: Box<[Share]>,
    /// Its own, never used again; 0: none.
    pub number: u64,
    /// Sessions that are left out because they may not read the topic.
    pub unread: u32,
}

impl Route {
    pub(crate) fn is_empty(&self) -> bool {
        self.legs.is_empty() && self.shares.is_empty()
    }
}

/// Routes by topic.
#[derive(Debug)]
pub(crate) struct Routes {
    by_topic: HashMap<Box<str>, Rc<Route>, FixedState>,
    /// Routes made so far.
    made: u64,
}

impl Routes {
    /// `seed` keeps the table's order out of the hands of whoever chooses topic names.
    pub(crate) fn new(seed: u64) -> Self {
        Self { by_topic: HashMap::with_hasher(FixedState::with_seed(seed)), made: 0 }
    }

    /// A subscription changed.
    pub(crate) fn forget_all(&mut self) {
        self.by_topic.clear();
    }

    /// The route of a topic, if it is remembered.
    pub(crate) fn known(&self, topic: &str) -> Option<Rc<Route>> {
        self.by_topic.get(topic).map(Rc::clone)
    }

    /// Finds the route of a topic and remembers it. `leaves_out` says who is not to get it all the same.
    pub(crate) fn find(&mut self, tree: &Tree, topic: &str, leaves_out: impl Fn(Target) -> bool) -> Rc<Route> {
        self.made += 1;
        let route = Rc::new(Route { number: self.made, ..compile(&tree.find(topic), leaves_out) });
        if topic.len() <= MAX_TOPIC {
            if self.by_topic.len() >= MAX_ROUTES {
                self.by_topic.clear();
            }
            self.by_topic.insert(topic.into(), Rc::clone(&route));
        }
        route
    }
}

fn compile(found: &Found<'_>, leaves_out: impl Fn(Target) -> bool) -> Route {
    let mut wishes: BTreeMap<Target, Vec<Options>> = BTreeMap::new();
    let mut unread = BTreeSet::new();
    let mut is_out = |target: Target| {
        let is_out = unread.contains(&target) || leaves_out(target);
        if is_out && matches!(target, Target::Session(_)) {
            unread.insert(target);
        }
        is_out
    };
    for (target, options) in &found.plain {
        if wishes.contains_key(*target) || !is_out(**target) {
            wishes.entry(**target).or_default().push(**options);
        }
    }
    let mut shares = Vec::new();
    for group in &found.shared {
        let members: Box<[Leg]> = group
            .members
            .iter()
            .filter(|(target, _)| !is_out(**target))
            .map(|(target, options)| leg(*target, &[*options], group.id))
            .collect();
        if !members.is_empty() {
            shares.push(Share { members, turn: Rc::clone(&group.turn), id: group.id });
        }
    }
    Route {
        legs: wishes.into_iter().map(|(target, options)| leg(target, &options, 0)).collect(),
        shares: shares.into_boxed_slice(),
        number: 0,
        unread: u32::try_from(unread.len()).unwrap_or(u32::MAX),
    }
}

/// Makes one of all.
fn leg(target: Target, all: &[Options], share: u32) -> Leg {
    let local: Vec<Options> = all.iter().filter(|options| !options.no_local).copied().collect();
    let is_mixed = !local.is_empty() && local.len() < all.len();
    Leg {
        target,
        options: Options {
            qos: all.iter().map(|options| options.qos).max().unwrap_or_default(),
            no_local: local.is_empty(),
            retain_as_published: all.iter().all(|options| options.retain_as_published),
            id: 0,
        },
        share,
        ids: all.iter().map(|options| options.id).filter(|id| *id != 0).collect(),
        own: is_mixed.then(|| Box::new(leg(target, &local, share))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::QoS;

    #[test]
    fn overlapping_subscriptions_become_one_leg_with_all_identifiers() {
        let mut tree = Tree::default();
        let options = |qos, id| Options { qos, id, ..Options::default() };
        tree.insert("a/#", None, Target::Session(1), options(QoS::AtMostOnce, 5));
        tree.insert("a/+", None, Target::Session(1), options(QoS::ExactlyOnce, 6));
        let mut routes = Routes::new(1);
        let route = routes.find(&tree, "a/b", |_| false);
        assert_eq!(route.legs.len(), 1);
        assert_eq!(route.legs[0].options.qos, QoS::ExactlyOnce);
        let mut ids = route.legs[0].ids.to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [5, 6]);
    }

    #[test]
    fn who_is_left_out_is_counted_once_and_no_share_is_left_without_members() {
        let mut tree = Tree::default();
        for (filter, group, session) in
            [("a/#", None, 1), ("a/+", None, 1), ("a/b", None, 2), ("a/b", Some("g"), 1)]
        {
            tree.insert(filter, group, Target::Session(session), Options::default());
        }
        let route = Routes::new(1).find(&tree, "a/b", |target| target == Target::Session(1));
        let legs: Vec<Target> = route.legs.iter().map(|leg| leg.target).collect();
        assert_eq!((legs, route.shares.len(), route.unread), (vec![Target::Session(2)], 0, 1));
    }

    #[test]
    fn own_messages_come_by_those_subscriptions_that_want_them() {
        let mut tree = Tree::default();
        let options = |qos, id, no_local| Options { qos, id, no_local, ..Options::default() };
        tree.insert("a/#", None, Target::Session(1), options(QoS::ExactlyOnce, 5, true));
        let alone = Routes::new(1).find(&tree, "a/b", |_| false).legs[0].clone();
        assert!(alone.options.no_local && alone.own.is_none());
        tree.insert("a/+", None, Target::Session(1), options(QoS::AtMostOnce, 6, false));
        let both = Routes::new(1).find(&tree, "a/b", |_| false).legs[0].clone();
        assert_eq!((both.options.qos, both.options.no_local), (QoS::ExactlyOnce, false));
        let own = both.own.as_deref().expect("one of them wants its own");
        assert_eq!((own.options.qos, &*own.ids), (QoS::AtMostOnce, &[6][..]));
    }

    #[test]
    fn many_topics_do_not_grow_the_table_without_bound() {
        let tree = Tree::default();
        let mut routes = Routes::new(1);
        for n in 0..3 * MAX_ROUTES {
            assert!(routes.find(&tree, &format!("t/{n}"), |_| false).is_empty());
        }
        assert!(routes.by_topic.len() <= MAX_ROUTES);
    }
}
