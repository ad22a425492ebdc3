//! Topic aliases, MQTT 5.0 section 3.3.2.3.4, in both directions. They belong to one connection and end with it
//! [MQTT-3.3.2-7].

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::broker::connection::Connection;
use crate::broker::packets::Fault;
use crate::broker::{Broker, Limit};
use crate::mqtt::publish::{Head, encode_head};
use crate::mqtt::{ConnId, Publish, ReasonCode};

/// A shorter topic takes no more than its alias would.
const MIN_TOPIC: usize = 4;
/// A topic that is often sent outlasts this many others that look at its place.
const MAX_SCORE: u8 = 16;
/// Topics without an alias that are remembered, by hash, to see which of them come again.
const REMEMBERED: usize = 8;

/// What a defined alias takes beside its topic, about.
const ENTRY: usize = 32;

/// The aliases of a connection that has any.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// What the client defined.
    received: BTreeMap<u16, Box<str>>,
    /// What the client was told.
    sent: Sent,
}

/// Aliases towards the client. A free one goes to the first topic that comes. When all are taken, a topic has to come
/// twice, and finds a place whose own topic came less often of late: topics that come once change nothing.
#[derive(Debug, Default)]
struct Sent {
    max: u16,
    topics: Vec<Known>,
    /// The place that is looked at next.
    hand: usize,
    others: [u32; REMEMBERED],
    next_other: usize,
}

#[derive(Debug)]
struct Known {
    hash: u32,
    /// How often it came, less how often its place was wanted.
    score: u8,
    topic: Box<str>,
}

/// How a topic is told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// By its name.
    Name,
    /// By its name, with an alias from now on.
    Both(u16),
    /// By its alias.
    Alias(u16),
}

impl Sent {
    fn tell(&mut self, topic: &str) -> Telling {
        if self.max == 0 || topic.len() < MIN_TOPIC {
            return Telling::Name;
        }
        let hash = hash(topic);
        if let Some(index) = self.topics.iter().position(|known| known.hash == hash && *known.topic == *topic) {
            let known = &mut self.topics[index];
            known.score = (known.score + 1).min(MAX_SCORE);
            return Telling::Alias(alias(index));
        }
        if self.topics.len() < usize::from(self.max) {
            return Telling::Both(alias(self.topics.len()));
        }
        if !self.others.contains(&hash) {
            self.others[self.next_other] = hash;
            self.next_other = (self.next_other + 1) % REMEMBERED;
            return Telling::Name;
        }
        let index = self.hand;
        self.hand = (index + 1) % self.topics.len();
        match self.topics[index].score.checked_sub(1) {
            Some(less) => {
                self.topics[index].score = less;
                Telling::Name
            }
            None => Telling::Both(alias(index)),
        }
    }

    /// The client was sent the topic with this alias.
    fn define(&mut self, alias: u16, topic: &str) {
        let known = Known { hash: hash(topic), score: 0, topic: topic.into() };
        match self.topics.get_mut(usize::from(alias) - 1) {
            Some(place) => *place = known,
            None => self.topics.push(known),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of a hash is one as well")]
fn hash(topic: &str) -> u32 {
    FixedState::default().hash_one(topic) as u32
}

/// Aliases begin with 1 [MQTT-3.3.2-8].
fn alias(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

impl Connection {
    /// From now on the client may be sent so many aliases.
    pub(crate) fn allow_aliases(&mut self, max: u16) {
        if max > 0 {
            self.aliases.get_or_insert_default().sent.max = max;
        }
    }

    /// Whether its client takes aliases, so that what it is sent differs from what others are.
    pub(crate) fn sends_aliases(&self) -> bool {
        self.aliases.as_ref().is_some_and(|aliases| aliases.sent.max > 0)
    }

    /// Appends a PUBLISH without its payload, with a topic alias where that helps. False when it would be larger than
    /// the client takes.
    pub(crate) fn put_head(&mut self, head: &Head<'_>) -> bool {
        let (version, max) = (self.version, self.max_packet as usize);
        let fits = |head: &Head<'_>| head.packet_len(version) <= max;
        let sent = self.aliases.as_deref_mut().map(|aliases| &mut aliases.sent);
        let (told, aliased) = match sent.map_or(Telling::Name, |sent| sent.tell(head.topic)) {
            Telling::Alias(alias) => (None, Head { topic: "", topic_alias: Some(alias), ..*head }),
            Telling::Both(alias) => (Some(alias), Head { topic_alias: Some(alias), ..*head }),
            Telling::Name => (None, *head),
        };
        if !fits(&aliased) {
            // Without the three bytes of a new alias it may fit.
            if told.is_some() && fits(head) {
                self.outbox.put_with(|out| encode_head(version, head, out));
                return true;
            }
            return false;
        }
        self.outbox.put_with(|out| encode_head(version, &aliased, out));
        if let (Some(alias), Some(aliases)) = (told, &mut self.aliases) {
            aliases.sent.define(alias, head.topic);
        }
        true
    }
}

impl Broker {
    /// The topic that a topic alias stands for; defines the alias where the packet has both [MQTT-3.3.2-12].
    pub(crate) fn resolve_alias(&mut self, id: ConnId, publish: &Publish<'_>) -> Result<Option<Box<str>>, Fault> {
        let Some(alias) = publish.properties.topic_alias else { return Ok(None) };
        let max = self.limits.topic_alias_maximum;
        let Some(conn) = self.conn_mut(id) else { return Ok(None) };
        if alias == 0 || alias > max {
            // [MQTT-3.3.2-9]
            return Err(Fault::beyond(Limit::TopicAlias, ReasonCode::TopicAliasInvalid));
        }
        if publish.topic.is_empty() {
            return match conn.aliases.as_ref().and_then(|aliases| aliases.received.get(&alias)) {
                Some(topic) => Ok(Some(topic.clone())),
                None => Err(Fault::new(ReasonCode::ProtocolError, "topic alias without a topic [MQTT-3.3.2-12]")),
            };
        }
        let before = conn.aliases.get_or_insert_default().received.insert(alias, publish.topic.into());
        let before = before.map_or(0, |old| old.len() + ENTRY);
        conn.alias_bytes = conn.alias_bytes + publish.topic.len() + ENTRY - before;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sent: &mut Sent, topic: &str) -> Telling {
        let telling = sent.tell(topic);
        if let Telling::Both(alias) = telling {
            sent.define(alias, topic);
        }
        telling
    }

    #[test]
    fn the_first_topics_get_the_aliases_and_short_ones_none() {
        let mut sent = Sent { max: 2, ..Sent::default() };
        let told = ["a/1", "long/1", "long/2", "long/1", "long/3"].map(|topic| send(&mut sent, topic));
        let expected = [Telling::Name, Telling::Both(1), Telling::Both(2), Telling::Alias(1), Telling::Name];
        assert_eq!(told, expected);
        assert_eq!(send(&mut Sent::default(), "long/1"), Telling::Name, "the client takes none");
    }

    #[test]
    fn topics_that_come_once_push_nothing_out() {
        let mut sent = Sent { max: 1, ..Sent::default() };
        send(&mut sent, "often");
        for n in 0..1000 {
            assert_eq!(send(&mut sent, &format!("once/{n}")), Telling::Name);
        }
        assert_eq!(send(&mut sent, "often"), Telling::Alias(1));
    }

    #[test]
    fn a_topic_that_comes_more_often_gets_the_place_in_time() {
        let mut sent = Sent { max: 1, ..Sent::default() };
        for _ in 0..100 {
            send(&mut sent, "yesterday");
        }
        let waited = (0..100).position(|_| send(&mut sent, "today") == Telling::Both(1));
        assert_eq!(waited, Some(1 + usize::from(MAX_SCORE)), "seen once, then once for each point");
        assert_eq!(send(&mut sent, "today"), Telling::Alias(1));
        assert_eq!(sent.topics.len(), 1);
    }
}
