//! The branches below a node of the subscription tree. Most nodes have one, and a `BTreeMap` takes the room of eleven.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) enum Children<N> {
    #[default]
    None,
    One(Box<(Box<str>, N)>),
    Many(BTreeMap<Box<str>, N>),
}

impl<N> Children<N> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, level: &str) -> Option<&N> {
        match self {
            Self::None => None,
            Self::One(one) => (*one.0 == *level).then_some(&one.1),
            Self::Many(many) => many.get(level),
        }
    }

    pub(crate) fn get_mut(&mut self, level: &str) -> Option<&mut N> {
        match self {
            Self::None => None,
            Self::One(one) => (*one.0 == *level).then_some(&mut one.1),
            Self::Many(many) => many.get_mut(level),
        }
    }

    pub(crate) fn contains_key(&self, level: &str) -> bool {
        self.get(level).is_some()
    }

    /// Adds a branch that is not there yet.
    pub(crate) fn insert(&mut self, level: &str, node: N) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(Box::new((level.into(), node))),
            Self::One(one) => Self::Many(BTreeMap::from([*one, (level.into(), node)])),
            Self::Many(mut many) => {
                many.insert(level.into(), node);
                Self::Many(many)
            }
        };
    }

    pub(crate) fn remove(&mut self, level: &str) -> Option<N> {
        if !self.contains_key(level) {
            return None;
        }
        match std::mem::take(self) {
            Self::None => None,
            Self::One(one) => Some(one.1),
            Self::Many(mut many) => {
                let removed = many.remove(level);
                *self = match many.len() {
                    1 => many.pop_first().map_or(Self::None, |one| Self::One(Box::new(one))),
                    _ => Self::Many(many),
                };
                removed
            }
        }
    }

    pub(crate) fn into_values(self) -> Vec<N> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one.1],
            Self::Many(many) => many.into_values().collect(),
        }
    }
}
