//! The subscription tree: filters in, the targets of a topic out.
//!
//! One walk per topic finds everything; [`crate::broker::routes`] remembers the result until a subscription changes,
//! so the walk is not on the path of ordinary messages.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::broker::children::Children;
use crate::broker::flat_map::FlatMap;
use crate::broker::target::{Options, Target};

/// Subscribers at one node, by target, so that the same subscription made twice replaces itself.
pub(crate) type Here = FlatMap<Target, Options>;

#[derive(Debug, Default)]
struct Node {
    children: Children<Node>,
    /// Filters that end here.
    here: Here,
    /// Filters that end here with `#`.
    below: Here,
    /// Boxed, because most nodes have none.
    shared: Option<Box<Shared>>,
}

/// Shared subscriptions that end at one node, by group; and those with `#`.
#[derive(Debug, Default)]
struct Shared {
    here: BTreeMap<Box<str>, Group>,
    below: BTreeMap<Box<str>, Group>,
}

/// One shared subscription: a group's members at one filter.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub members: Here,
    /// Whose turn it is, over all topics that match.
    pub turn: Rc<Cell<usize>>,
    /// The number under which its messages are stored.
    pub id: u32,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.here.is_empty() && self.below.is_empty() && self.shared.is_none()
    }

    /// Whether it would be there without one of its children.
    fn is_fork(&self) -> bool {
        self.children.len() > 1 || !self.here.is_empty() || !self.below.is_empty() || self.shared.is_some()
    }

    fn slot(&mut self, group: Option<&str>, below: bool) -> &mut Here {
        match (group, below) {
            (None, false) => &mut self.here,
            (None, true) => &mut self.below,
            (Some(group), _) => &mut self.group(group, below).members,
        }
    }

    fn group(&mut self, name: &str, below: bool) -> &mut Group {
        let shared = self.shared.get_or_insert_default();
        let groups = if below { &mut shared.below } else { &mut shared.here };
        groups.entry(name.into()).or_default()
    }

    fn forget_empty_group(&mut self, group: &str, below: bool) {
        let Some(shared) = &mut self.shared else { return };
        let groups = if below { &mut shared.below } else { &mut shared.here };
        if groups.get(group).is_some_and(|group| group.members.is_empty()) {
            groups.remove(group);
        }
        if shared.here.is_empty() && shared.below.is_empty() {
            self.shared = None;
        }
    }

    fn visit_here<'a>(&'a self, found: &mut Found<'a>) {
        found.plain.extend(self.here.iter());
        found.shared.extend(self.shared.iter().flat_map(|shared| shared.here.values()));
    }

    fn visit_below<'a>(&'a self, found: &mut Found<'a>) {
        found.plain.extend(self.below.iter());
        found.shared.extend(self.shared.iter().flat_map(|shared| shared.below.values()));
    }
}

/// What a topic matches: a target once for each of its filters, and the members of each shared group.
#[derive(Debug, Default)]
pub(crate) struct Found<'a> {
    pub plain: Vec<(&'a Target, &'a Options)>,
    pub shared: Vec<&'a Group>,
}

/// All subscriptions. Filters are taken as already checked.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    root: Node,
    count: usize,
    /// Those of `count` that are shared.
    shared: usize,
}

impl Tree {
    /// Adds a subscription or replaces its options. True when it is new.
    pub(crate) fn insert(&mut self, filter: &str, group: Option<&str>, target: Target, options: Options) -> bool {
        let mut node = &mut self.root;
        let mut below = false;
        for level in filter.split('/') {
            if level == "#" {
                below = true;
                break;
            }
            if !node.children.contains_key(level) {
                node.children.insert(level, Node::default());
            }
            let Some(child) = node.children.get_mut(level) else { return false };
            node = child;
        }
        let is_new = node.slot(group, below).insert(target, options).is_none();
        if let Some(name) = group {
            node.group(name, below).id = share_id(name, filter);
        }
        self.count += usize::from(is_new);
        self.shared += usize::from(is_new && group.is_some());
        is_new
    }

    /// Removes a subscription, and the branch that led to it alone. True when it was there.
    pub(crate) fn remove(&mut self, filter: &str, group: Option<&str>, target: Target) -> bool {
        let mut levels: Vec<&str> = filter.split('/').collect();
        let below = levels.pop_if(|last| *last == "#").is_some();
        // The lowest node on the way that has something else to hold: there the branch may be cut.
        let mut fork = 0;
        let mut node = &mut self.root;
        for (depth, level) in levels.iter().enumerate() {
            if node.is_fork() {
                fork = depth;
            }
            let Some(child) = node.children.get_mut(level) else { return false };
            node = child;
        }
        let was_there = node.slot(group, below).remove(&target).is_some();
        if let Some(group) = group {
            node.forget_empty_group(group, below);
        }
        if node.is_empty() && !levels.is_empty() {
            self.cut(&levels[..=fork]);
        }
        self.count -= usize::from(was_there);
        self.shared -= usize::from(was_there && group.is_some());
        was_there
    }

    /// Takes away the branch at the end of this path.
    fn cut(&mut self, path: &[&str]) {
        let Some((last, path)) = path.split_last() else { return };
        let mut node = &mut self.root;
        for level in path {
            let Some(child) = node.children.get_mut(level) else { return };
            node = child;
        }
        dismantle(node.children.remove(last));
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many of them are shared.
    pub(crate) fn shared(&self) -> usize {
        self.shared
    }

    /// Whether a filter begins with this level.
    pub(crate) fn has_branch(&self, level: &str) -> bool {
        self.root.children.contains_key(level)
    }

    /// Everything that the topic matches.
    pub(crate) fn find(&self, topic: &str) -> Found<'_> {
        let mut found = Found::default();
        // Wildcards at the first level do not match topics that begin with `$` [MQTT-4.7.2-1].
        let dollar = topic.starts_with('$');
        if !dollar {
            self.root.visit_below(&mut found);
        }
        let levels: Vec<&str> = topic.split('/').collect();
        let mut open: Vec<(&Node, usize)> = vec![(&self.root, 0)];
        while let Some((node, depth)) = open.pop() {
            let Some(level) = levels.get(depth) else {
                node.visit_here(&mut found);
                continue;
            };
            if let Some(child) = node.children.get(level) {
                // `a/#` matches `a` itself as well [MQTT-4.7.1-2].
                child.visit_below(&mut found);
                open.push((child, depth + 1));
            }
            if (depth > 0 || !dollar)
                && let Some(child) = node.children.get("+")
            {
                child.visit_below(&mut found);
                open.push((child, depth + 1));
            }
        }
        found
    }
}

/// A number for a shared subscription that is the same in every run: FNV-1a, never 0. Two that share a number and a
/// topic would hand messages to each other's members, nothing worse.
fn share_id(group: &str, filter: &str) -> u32 {
    let bytes = group.bytes().chain([b'/']).chain(filter.bytes());
    bytes.fold(0x811C_9DC5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)).max(1)
}

/// A branch may be as deep as a topic: it is dropped level by level, not by recursion that could overflow the stack.
fn dismantle(nodes: impl IntoIterator<Item = Node>) {
    let mut open: Vec<Node> = nodes.into_iter().collect();
    while let Some(mut node) = open.pop() {
        open.extend(std::mem::take(&mut node.children).into_values());
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.root.children).into_values());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(id: u32) -> Target {
        Target::Session(id)
    }

    fn matching(tree: &Tree, topic: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = tree
            .find(topic)
            .plain
            .iter()
            .filter_map(|(target, _)| match target {
                Target::Session(id) => Some(*id),
                Target::Rule(_) => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn wildcards_match_as_the_standard_says() {
        let mut tree = Tree::default();
        for (id, filter) in ["sport/#", "sport/+", "+", "#", "+/+", "/+", "$SYS/#", "$SYS/+/a"].iter().enumerate() {
            assert!(tree.insert(filter, None, session(id as u32), Options::default()));
        }
        assert_eq!(matching(&tree, "sport"), [0, 2, 3]);
        assert_eq!(matching(&tree, "sport/tennis"), [0, 1, 3, 4]);
        assert_eq!(matching(&tree, "/finance"), [3, 4, 5]);
        assert_eq!(matching(&tree, "$SYS/b/a"), [6, 7]);
        assert_eq!(matching(&tree, "$SYS"), [6]);
    }

    #[test]
    fn an_emptied_tree_holds_nothing() {
        let mut tree = Tree::default();
        tree.insert("a/b/#", Some("g"), session(1), Options::default());
        tree.insert("a/+", None, session(2), Options::default());
        assert!(tree.remove("a/b/#", Some("g"), session(1)));
        assert!(!tree.remove("a/b/#", Some("g"), session(1)));
        assert!(tree.remove("a/+", None, session(2)));
        assert!(tree.root.is_empty());
        assert_eq!(tree.len(), 0);
    }

    #[test]
    fn a_tree_of_great_depth_can_be_dropped() {
        let mut tree = Tree::default();
        let deep = "x/".repeat(30_000);
        tree.insert(&deep, None, session(1), Options::default());
        assert_eq!(matching(&tree, &deep), [1]);
        // And cut off, down to what it shares with another.
        tree.insert("x/x/y", None, session(2), Options::default());
        assert!(tree.remove(&deep, None, session(1)));
        assert_eq!((tree.root.children.len(), tree.len(), matching(&tree, "x/x/y")), (1, 1, vec![2]));
        tree.insert(&deep, None, session(1), Options::default());
    }

    #[test]
    fn a_bomb_of_wildcards_is_walked_once_per_node() {
        let mut tree = Tree::default();
        let mut filters = 0;
        for bits in 0..1_u32 << 12 {
            let filter: Vec<&str> = (0..12).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
            filters += u32::from(tree.insert(&filter.join("/"), None, session(bits), Options::default()));
        }
        // Each node has one path to it: all filters match, each is found once, and no node is seen twice.
        let topic = ["a"; 12].join("/");
        let found = matching(&tree, &topic);
        assert_eq!((found.len(), found.last()), (filters as usize, Some(&4095)));
        for bits in 0..1_u32 << 12 {
            let filter: Vec<&str> = (0..12).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
            assert!(tree.remove(&filter.join("/"), None, session(bits)));
        }
        assert!(tree.root.is_empty());
    }

    /// The standard's rule, read level by level.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) => true,
            (None, None) => true,
            (Some((f, filter)), Some((t, topic))) => (*f == "+" || f == t) && matches(filter, topic),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_the_rule_finds(
            filters in prop::collection::vec("([ab+]?)(/[ab+]?){0,3}(/#)?", 1..12),
            topic in "([ab]?)(/[ab]?){0,4}",
        ) {
            let mut tree = Tree::default();
            for (id, filter) in filters.iter().enumerate() {
                tree.insert(filter, None, session(id as u32), Options::default());
            }
            let levels: Vec<&str> = topic.split('/').collect();
            let expected: Vec<u32> = filters.iter().enumerate()
                .filter(|(_, filter)| matches(&filter.split('/').collect::<Vec<_>>(), &levels))
                .map(|(id, _)| id as u32)
                .collect();
            prop_assert_eq!(matching(&tree, &topic), expected);
        }
    }
}
