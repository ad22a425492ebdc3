//! A map for few entries: a sorted vector. It takes the room of its entries, where a `BTreeMap` takes that of eleven.

use std::borrow::Borrow;

/// Entries in the order of their keys. Finding is by bisection; adding and removing move what lies behind, so entries
/// should be small or few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlatMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K: Ord, V> FlatMap<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.entries.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Sets an entry and gives what it replaces.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(index) => Some(std::mem::replace(&mut self.entries[index].1, value)),
            Err(index) => {
                // Most maps hold one entry for life.
                if self.entries.is_empty() {
                    self.entries.reserve_exact(1);
                }
                self.entries.insert(index, (key, value));
                None
            }
        }
    }

    /// Takes an entry out. A map that is mostly empty gives room back.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key).ok()?;
        let (_, value) = self.entries.remove(index);
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in prop::collection::vec((any::<bool>(), 0..40_u8, any::<u16>()), 0..200)) {
            let (mut flat, mut tree) = (FlatMap::default(), BTreeMap::new());
            for (add, key, value) in steps {
                if add {
                    prop_assert_eq!(flat.insert(key, value), tree.insert(key, value));
                } else {
                    prop_assert_eq!(flat.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(flat.contains_key(&key), add);
                prop_assert_eq!((flat.len(), flat.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(flat.iter().eq(tree.iter()) && flat.keys().eq(tree.keys()));
            }
        }
    }

    #[test]
    fn one_entry_takes_the_room_of_one_and_many_give_theirs_back() {
        let mut map = FlatMap::default();
        map.insert(0, 0);
        assert_eq!(map.entries.capacity(), 1);
        assert!((1..100).all(|key| map.insert(key, key).is_none()));
        assert!((1..100).all(|key| map.remove(&key).is_some()));
        assert!(map.entries.capacity() < 8);
    }
}
