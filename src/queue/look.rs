//! How people look into what is stored while the engine goes on: the contract between those who show it and a store.

use std::fmt;

use crate::mqtt::Message;
use crate::queue::{Delivery, DestId, Row, Seq};
use crate::time::Wall;

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: u64,
    /// The queue that it was in: `rule:{upstream}/{rule}`. Empty if an earlier version wrote it.
    pub queue: String,
    /// Why.
    pub reason: String,
    /// When it was given up, if known.
    pub buried_at: Option<Wall>,
    /// How it was to be delivered.
    pub delivery: Delivery,
    /// Under its local topic.
    pub message: Message,
}

/// How many dead letters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadCount {
    /// Kept.
    pub kept: u64,
    /// Dropped for newer ones since the file was made.
    pub dropped: u64,
}

/// A second look into a store in use. Errors are in words: what is stored cannot be read.
pub trait Look {
    /// The queue of this name, if it is stored.
    fn find(&self, name: &str) -> Result<Option<DestId>, String>;
    /// The next stored rows of a queue after `after`, oldest first; none when there are no more.
    fn rows(&self, dest: DestId, after: Seq) -> Result<Vec<Row>, String>;
    /// The next dead letters after number `after`, of one queue if it is given; none when there are no more.
    fn dead(&self, queue: Option<&str>, after: u64) -> Result<Vec<DeadLetter>, String>;
    /// How many dead letters there are and were.
    fn dead_count(&self) -> Result<DeadCount, String>;
}

/// Opens a look, on the thread that wants it.
pub struct Looks(Box<dyn Fn() -> Result<Box<dyn Look>, String> + Send + Sync>);

impl Looks {
    /// Looks that are opened so.
    #[must_use]
    pub fn new(open: impl Fn() -> Result<Box<dyn Look>, String> + Send + Sync + 'static) -> Self {
        Self(Box::new(open))
    }

    /// One more.
    ///
    /// # Errors
    /// In words.
    pub fn open(&self) -> Result<Box<dyn Look>, String> {
        (self.0)()
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Looks")
    }
}
