//! Topic aliases that we give to topics we send, MQTT 5.0 section 3.3.2.3.4. They belong to one connection and end with
//! it [MQTT-3.3.2-7].

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// A shorter topic takes no more than its alias would.
const MIN_TOPIC: usize = 4;
/// A topic that is often sent outlasts this many others that look at its place.
const MAX_SCORE: u8 = 16;
/// Topics without an alias that are remembered, by hash, to see which of them come again.
const REMEMBERED: usize = 8;

/// Aliases that we give. A free one goes to the first topic that comes. When all are taken, a topic has to come
/// twice, and finds a place whose own topic came less often of late: topics that come once change nothing.
#[derive(Debug, Default)]
pub struct SentAliases {
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

/// How a topic is told to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// By its name.
    Name,
    /// By its name, with an alias from now on.
    Both(u16),
    /// By its alias.
    Alias(u16),
}

impl SentAliases {
    /// From now on so many may be used.
    pub fn allow(&mut self, max: u16) {
        self.max = max;
    }

    /// How many may be used.
    #[must_use]
    pub fn max(&self) -> u16 {
        self.max
    }

    /// How to tell a topic now.
    pub fn tell(&mut self, topic: &str) -> Telling {
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

    /// The peer was sent the topic with this alias.
    pub fn define(&mut self, alias: u16, topic: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sent: &mut SentAliases, topic: &str) -> Telling {
        let telling = sent.tell(topic);
        if let Telling::Both(alias) = telling {
            sent.define(alias, topic);
        }
        telling
    }

    #[test]
    fn the_first_topics_get_the_aliases_and_short_ones_none() {
        let mut sent = SentAliases { max: 2, ..SentAliases::default() };
        let told = ["a/1", "long/1", "long/2", "long/1", "long/3"].map(|topic| send(&mut sent, topic));
        let expected = [Telling::Name, Telling::Both(1), Telling::Both(2), Telling::Alias(1), Telling::Name];
        assert_eq!(told, expected);
        assert_eq!(send(&mut SentAliases::default(), "long/1"), Telling::Name, "the client takes none");
    }

    #[test]
    fn topics_that_come_once_push_nothing_out() {
        let mut sent = SentAliases { max: 1, ..SentAliases::default() };
        send(&mut sent, "often");
        for n in 0..1000 {
            assert_eq!(send(&mut sent, &format!("once/{n}")), Telling::Name);
        }
        assert_eq!(send(&mut sent, "often"), Telling::Alias(1));
    }

    #[test]
    fn a_topic_that_comes_more_often_gets_the_place_in_time() {
        let mut sent = SentAliases { max: 1, ..SentAliases::default() };
        for _ in 0..100 {
            send(&mut sent, "yesterday");
        }
        let waited = (0..100).position(|_| send(&mut sent, "today") == Telling::Both(1));
        assert_eq!(waited, Some(1 + usize::from(MAX_SCORE)), "seen once, then once for each point");
        assert_eq!(send(&mut sent, "today"), Telling::Alias(1));
        assert_eq!(sent.topics.len(), 1);
    }
}
