//! The topic ids of one client: which id means which name, and which of them the client knows (MQTT-SN 6.5, 7.3).

use std::collections::BTreeMap;

use crate::mqttsn::{ShortName, Topic, TopicId};

/// The ids both sides know beforehand. Their space is apart from that of normal ids, but
/// normal ids avoid them, because clients are known to mix the two up.
#[derive(Debug, Default)]
pub(super) struct Predefined {
    by_id: BTreeMap<TopicId, String>,
    by_name: BTreeMap<String, TopicId>,
}

impl Predefined {
    /// `own` names and ids, and of those for `all` what does not stand against them.
    pub(super) fn new(own: &BTreeMap<String, u16>, all: &BTreeMap<String, u16>) -> Self {
        let is_free =
            |(name, id): &(&String, &u16)| !own.contains_key(*name) && !own.values().any(|own| own == *id);
        let names = || own.iter().chain(all.iter().filter(is_free));
        Self {
            by_id: names().map(|(name, id)| (TopicId(*id), name.clone())).collect(),
            by_name: names().map(|(name, id)| (name.clone(), TopicId(*id))).collect(),
        }
    }

    pub(super) fn name(&self, id: TopicId) -> Option<&str> {
        self.by_id.get(&id).map(String::as_str)
    }
}

/// Who asked for an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client, by REGISTER or SUBSCRIBE: it may use the id for as long as it is connected.
    Client,
    /// The gateway, to deliver. Makes room for others when the table is full.
    Gateway,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: TopicId,
    pub(super) name: Box<str>,
    pub(super) origin: Origin,
    /// The client was told and agreed.
    known: bool,
    /// The client refused the id: it does not want this topic.
    muted: bool,
}

/// How a topic is named to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alias {
    Use(Topic),
    /// Has an id that the client does not know.
    Register(TopicId),
    /// The client does not want it.
    Muted,
    /// Has no id.
    None,
}

/// No room for another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// An id for a topic, and whether it is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) id: TopicId,
    pub(super) new: bool,
    /// Another topic lost its id for it.
    pub(super) evicted: bool,
}

/// The topic ids of one client.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// In order of id.
    entries: Vec<Entry>,
    /// Subscribed to by predefined id.
    predefined: Vec<TopicId>,
    /// Subscribed to by short name.
    short: Vec<ShortName>,
    last_id: u16,
}

impl Registry {
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.predefined.len() + self.short.len()
    }

    fn find(&self, id: TopicId) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        self.entries.get(at)
    }

    fn find_mut(&mut self, id: TopicId) -> Option<&mut Entry> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        self.entries.get_mut(at)
    }

    /// The name an id stands for.
    pub(super) fn name(&self, id: TopicId) -> Option<&str> {
        self.find(id).map(|entry| &*entry.name)
    }

    /// The id of a name; the same name has the same id for as long as it is here.
    pub(super) fn assign(
        &mut self,
        name: &str,
        origin: Origin,
        predefined: &Predefined,
        max: usize,
    ) -> Result<Assigned, Full> {
        if let Some(entry) = self.entries.iter_mut().find(|entry| &*entry.name == name) {
            if origin == Origin::Client {
                entry.origin = Origin::Client;
                entry.muted = false;
            }
            return Ok(Assigned { id: entry.id, new: false, evicted: false });
        }
        let evicted = self.len() >= max;
        if evicted {
            self.evict()?;
        }
        let id = self.free_id(predefined).ok_or(Full)?;
        self.insert(Entry { id, name: name.into(), origin, known: false, muted: false });
        Ok(Assigned { id, new: true, evicted })
    }

    /// Forgets the oldest topic that only the gateway asked an id for.
    fn evict(&mut self) -> Result<(), Full> {
        let at = self.entries.iter().position(|entry| entry.origin == Origin::Gateway).ok_or(Full)?;
        self.entries.remove(at);
        Ok(())
    }

    /// The next id in a circle, so that an id that was given up stays unused for long.
    fn free_id(&self, predefined: &Predefined) -> Option<TopicId> {
        let in_circle = (self.last_id.wrapping_add(1)..u16::MAX).chain(1..=self.last_id);
        in_circle
            .filter(|id| *id != 0)
            .map(TopicId)
            .find(|id| predefined.name(*id).is_none() && self.find(*id).is_none())
    }

    fn insert(&mut self, entry: Entry) {
        self.last_id = entry.id.0;
        let at = self.entries.partition_point(|other| other.id < entry.id);
        self.entries.insert(at, entry);
    }

    /// The client knows the id from now on.
    pub(super) fn confirm(&mut self, id: TopicId) {
        if let Some(entry) = self.find_mut(id) {
            entry.known = true;
            entry.muted = false;
        }
    }

    /// The client refused the id in REGACK: as good as an unsubscribe from that topic.
    pub(super) fn mute(&mut self, id: TopicId) {
        if let Some(entry) = self.find_mut(id) {
            entry.known = false;
            entry.muted = true;
        }
    }

    /// The client refused a PUBLISH by this name for it: next time another one is agreed on first.
    pub(super) fn doubt(&mut self, topic: Topic) {
        match topic {
            Topic::Id(id) | Topic::Reserved(id) => {
                if let Some(entry) = self.find_mut(id) {
                    entry.known = false;
                }
            }
            Topic::Predefined(id) => self.predefined.retain(|other| *other != id),
            Topic::Short(name) => self.short.retain(|other| *other != name),
        }
    }

    /// The client lost its memory, or may have: every id has to be agreed on again (MQTT-SN 6.10).
    pub(super) fn doubt_all(&mut self) {
        for entry in &mut self.entries {
            entry.known = false;
            entry.muted = false;
        }
    }

    pub(super) fn remove(&mut self, id: TopicId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// Remembers that the client calls the topic by this name. Returns whether that is new.
    pub(super) fn add_named(&mut self, topic: Topic, max: usize) -> Result<bool, Full> {
        let present = match topic {
            Topic::Predefined(id) => self.predefined.contains(&id),
            Topic::Short(name) => self.short.contains(&name),
            Topic::Id(_) | Topic::Reserved(_) => true,
        };
        if present {
            return Ok(false);
        }
        if self.len() >= max {
            self.evict()?;
        }
        match topic {
            Topic::Predefined(id) => self.predefined.push(id),
            Topic::Short(name) => self.short.push(name),
            Topic::Id(_) | Topic::Reserved(_) => {}
        }
        Ok(true)
    }

    /// How to name `topic` to the client.
    pub(super) fn alias(&self, topic: &str, predefined: &Predefined) -> Alias {
        if !self.predefined.is_empty()
            && let Some(id) = predefined.by_name.get(topic)
            && self.predefined.contains(id)
        {
            return Alias::Use(Topic::Predefined(*id));
        }
        if let Some(name) = ShortName::of(topic)
            && self.short.contains(&name)
        {
            return Alias::Use(Topic::Short(name));
        }
        match self.entries.iter().find(|entry| &*entry.name == topic) {
            Some(entry) if entry.muted => Alias::Muted,
            Some(entry) if entry.known => Alias::Use(Topic::Id(entry.id)),
            Some(entry) => Alias::Register(entry.id),
            None => Alias::None,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn predefined(&self) -> &[TopicId] {
        &self.predefined
    }

    pub(super) fn short(&self) -> &[ShortName] {
        &self.short
    }

    /// As recorded. What the client itself asked for it knows; what it was told may not have reached it.
    pub(super) fn restore(&mut self, id: TopicId, name: &str, origin: Origin) {
        self.remove(id);
        self.insert(Entry { id, name: name.into(), origin, known: origin == Origin::Client, muted: false });
    }
}

/// Whether this may be registered or published to: a name, no filter.
pub(super) fn is_topic_name(name: &str) -> bool {
    !name.is_empty() && !has_wildcard(name)
}

pub(super) fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|octet| matches!(octet, b'+' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predefined() -> Predefined {
        Predefined::new(&BTreeMap::from([("two".to_owned(), 2)]), &BTreeMap::new())
    }

    fn assign(registry: &mut Registry, name: &str, origin: Origin) -> Result<u16, Full> {
        registry.assign(name, origin, &predefined(), 3).map(|assigned| assigned.id.0)
    }

    #[test]
    fn a_clients_own_predefined_ids_come_before_those_of_all() {
        let table = |names: &[(&str, u16)]| names.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        let known = Predefined::new(&table(&[("a", 1), ("b", 2)]), &table(&[("a", 7), ("x", 1), ("y", 3)]));
        assert_eq!([1, 2, 3, 7].map(|id| known.name(TopicId(id))), [Some("a"), Some("b"), Some("y"), None]);
        assert_eq!(known.by_name.get("a"), Some(&TopicId(1)));
        assert_eq!(known.by_name.get("x"), None);
    }

    #[test]
    fn the_same_name_has_the_same_id_and_ids_avoid_the_predefined() {
        let mut registry = Registry::default();
        assert_eq!(assign(&mut registry, "a", Origin::Client), Ok(1));
        assert_eq!(assign(&mut registry, "b", Origin::Gateway), Ok(3));
        assert_eq!(assign(&mut registry, "a", Origin::Gateway), Ok(1));
        assert_eq!(registry.name(TopicId(3)), Some("b"));
        assert_eq!(registry.name(TopicId(2)), None);
    }

    #[test]
    fn a_full_table_gives_up_what_only_the_gateway_asked_for() {
        let mut registry = Registry::default();
        assert_eq!(assign(&mut registry, "a", Origin::Client), Ok(1));
        assert_eq!(assign(&mut registry, "b", Origin::Gateway), Ok(3));
        assert_eq!(assign(&mut registry, "c", Origin::Client), Ok(4));
        assert_eq!(assign(&mut registry, "d", Origin::Gateway), Ok(5));
        assert_eq!(registry.name(TopicId(3)), None);
        assert_eq!(assign(&mut registry, "d", Origin::Client), Ok(5));
        assert_eq!(assign(&mut registry, "e", Origin::Client), Err(Full));
        assert_eq!(registry.add_named(Topic::Predefined(TopicId(2)), 3), Err(Full));
        assert_eq!(registry.len(), 3);
    }

    #[test]
    fn ids_go_round_and_leave_out_the_reserved_ones() {
        let mut registry = Registry { last_id: u16::MAX - 2, ..Registry::default() };
        assert_eq!(assign(&mut registry, "a", Origin::Client), Ok(u16::MAX - 1));
        assert_eq!(assign(&mut registry, "b", Origin::Client), Ok(1));
        assert_eq!(assign(&mut registry, "c", Origin::Client), Ok(3));
        assert_eq!(registry.name(TopicId(u16::MAX - 1)), Some("a"));
    }

    #[test]
    fn a_topic_is_named_as_the_client_knows_it() {
        let mut registry = Registry::default();
        let id = TopicId(assign(&mut registry, "ab", Origin::Client).unwrap());
        assert_eq!(registry.alias("ab", &predefined()), Alias::Register(id));
        registry.confirm(id);
        assert_eq!(registry.alias("ab", &predefined()), Alias::Use(Topic::Id(id)));
        let short = Topic::Short(ShortName(*b"ab"));
        assert_eq!(registry.add_named(short, 3), Ok(true));
        assert_eq!(registry.alias("ab", &predefined()), Alias::Use(short));
        registry.doubt(short);
        registry.doubt(Topic::Id(id));
        assert_eq!(registry.alias("ab", &predefined()), Alias::Register(id));
        registry.mute(id);
        assert_eq!(registry.alias("ab", &predefined()), Alias::Muted);
        assert_eq!(registry.alias("two", &predefined()), Alias::None);
        assert_eq!(registry.add_named(Topic::Predefined(TopicId(2)), 3), Ok(true));
        assert_eq!(registry.alias("two", &predefined()), Alias::Use(Topic::Predefined(TopicId(2))));
    }
}
