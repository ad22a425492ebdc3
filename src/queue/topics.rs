//! About how many topics there are, in little memory however many that is: linear counting. Each topic sets one bit of
//! a field, and the bits that are still clear tell how many there were.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

const WORDS: usize = 256;
const BITS: u64 = 64 * WORDS as u64;

/// Topics seen lately. Exact to one or two in a hundred up to some fifty thousand.
#[derive(Debug)]
pub(crate) struct Topics {
    now: Box<[u64; WORDS]>,
    /// As it was at the last turn.
    before: Box<[u64; WORDS]>,
}

impl Default for Topics {
    fn default() -> Self {
        Self { now: Box::new([0; WORDS]), before: Box::new([0; WORDS]) }
    }
}

impl Topics {
    pub(crate) fn note(&mut self, topic: &str) {
        let bit = FixedState::default().hash_one(topic) % BITS;
        let word = usize::try_from(bit / 64).unwrap_or_default();
        self.now[word] |= 1 << (bit % 64);
    }

    /// Forgets what was not seen since the last turn.
    pub(crate) fn turn(&mut self) {
        self.before = std::mem::replace(&mut self.now, Box::new([0; WORDS]));
    }

    pub(crate) fn count(&self) -> f64 {
        let words = self.now.iter().zip(self.before.iter());
        let clear: u32 = words.map(|(now, before)| (now | before).count_zeros()).sum();
        let bits = BITS as f64;
        // With none left there are more than can be told.
        -bits * (f64::from(clear.max(1)) / bits).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_counted_once_and_those_of_long_ago_are_forgotten() {
        let mut topics = Topics::default();
        assert!(topics.count() < 0.5);
        for (count, error) in [(10, 0.5), (1_000, 20.0), (30_000, 600.0)] {
            let mut topics = Topics::default();
            for _ in 0..2 {
                (0..count).for_each(|number| topics.note(&format!("site/{number}/temperature")));
            }
            let found = topics.count();
            assert!((found - f64::from(count)).abs() <= error, "{found} of {count}");
        }
        (0..100).for_each(|number| topics.note(&format!("a/{number}")));
        topics.turn();
        topics.note("a/1");
        assert!((topics.count() - 100.0).abs() < 2.0, "those of the last turn count");
        topics.turn();
        assert!((topics.count() - 1.0).abs() < 0.1);
    }
}
