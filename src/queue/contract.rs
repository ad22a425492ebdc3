//! What is agreed between the cores, which decide what must be durable, and a store, which makes it so.
//!
//! A store executes [`Batch`]es in order, each atomically, and answers [`Reply::Committed`] once the batch would
//! survive a power cut. It answers [`Read`]s with rows in order of [`Seq`]. It never decides anything.

use std::sync::Arc;

use crate::mqtt::{Message, QoS};

/// A destination with a queue of its own: a stored session or a bridge rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestId(pub u16);

/// Position of a message in the order of arrival, over all destinations. At most [`Seq::MAX`]; 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The largest sequence number: a row's key is 16 bits of destination and 47 bits of sequence.
    pub const MAX: Self = Self((1 << 47) - 1);
}

/// How one destination gets a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Granted quality of service.
    pub qos: QoS,
    /// The RETAIN flag as this destination sees it.
    pub retain: bool,
    /// Packet identifier, fixed when the row is appended: for QoS 2, and in the queue of a session for QoS 1;
    /// otherwise 0.
    pub pkid: u16,
    /// The shared subscription that it came by, by the broker's number for it; 0 for none.
    pub share: u32,
    /// MQTT 5.0 subscription identifiers that matched.
    pub subscription_ids: Box<[u32]>,
    /// Its place in the numbering of a rule's queue, gaps and all; 0 for none.
    pub number: Number,
}

/// A number in the books of one rule: an epoch, which begins with the process, and a count from 1 in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Number(pub u64);

impl Number {
    /// The number `count` of an epoch.
    #[must_use]
    pub const fn new(epoch: u32, count: u32) -> Self {
        Self((epoch as u64 & 0x7fff_ffff) << 32 | count as u64)
    }

    /// Which numbering it belongs to.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// From 1; 0 for none.
    #[must_use]
    pub const fn count(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

/// One stored message of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Position.
    pub seq: Seq,
    /// How this destination gets it.
    pub delivery: Delivery,
    /// The message, shared with other destinations while in memory.
    pub message: Arc<Message>,
}

/// What a record in the key-value table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The gateway itself: epoch, last wall time.
    Meta = 0,
    /// A destination: key is its id (2 octets, big-endian), value says whose queue it is.
    Dest = 1,
    /// An MQTT session: key is the client id, value is JSON.
    Session = 2,
    /// An MQTT-SN client: key is the client id, value is JSON.
    SnClient = 3,
    /// An upstream: key is its name, value is JSON.
    Upstream = 4,
}

/// One change to what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Adds a row; sequence numbers of one destination only grow.
    Append { dest: DestId, row: Row },
    /// Deletes the acknowledged prefix: all rows of `dest` up to and including `seq`.
    DeleteUpTo { dest: DestId, seq: Seq },
    /// Deletes one row.
    Delete { dest: DestId, seq: Seq },
    /// Outbound QoS 2, PUBREC came: deletes the row and remembers that PUBREL is due for `pkid`.
    Release { dest: DestId, seq: Seq, pkid: u16 },
    /// The same, but the row stays until PUBCOMP.
    Hold { dest: DestId, seq: Seq, pkid: u16 },
    /// Outbound QoS 2, PUBCOMP came: forgets `pkid`.
    Complete { dest: DestId, pkid: u16 },
    /// Inbound QoS 2, PUBLISH came: remembers `pkid` so that a repeated PUBLISH is recognised.
    Receive { dest: DestId, pkid: u16 },
    /// Inbound QoS 2, PUBREL came: forgets `pkid`.
    Forget { dest: DestId, pkid: u16 },
    /// Moves a row to the dead letters, with the reason.
    Bury { dest: DestId, seq: Seq, reason: String },
    /// Deletes a dead letter: it is in a queue again, or nobody wants it.
    Unbury { id: u64 },
    /// Deletes all rows, releases and receipts of `dest`.
    Clear { dest: DestId },
    /// Sets a record.
    Put { kind: RecordKind, key: Box<[u8]>, value: Box<[u8]> },
    /// Deletes a record.
    Remove { kind: RecordKind, key: Box<[u8]> },
    /// Sets the retained message of its topic.
    Retain { message: Arc<Message> },
    /// Deletes the retained message of a topic.
    Unretain { topic: Box<str> },
}

/// Changes that are committed together. Identifiers grow by one from 1; [`Batch::RELIEF`] is none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Which batch.
    pub id: u64,
    /// In the order in which they happened.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Deletions that make room for a batch that failed. They are made again with their own batch.
    pub const RELIEF: u64 = 0;
}

/// Asks for rows of `dest` after `after`, until one of the limits is reached (but at least one row if there is any).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whose.
    pub dest: DestId,
    /// Rows with a greater sequence number.
    pub after: Seq,
    /// At most so many rows.
    pub max_rows: u32,
    /// At most so many bytes, counted as [`Message::cost`].
    pub max_bytes: usize,
}

/// What a store answers. Replies to batches come in the order of the batches; a read sees all batches handed over
/// before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This batch and all before it are safe.
    Committed { batch: u64 },
    /// This batch was not committed and nothing of it is stored (full disk, read-only disk, input/output error).
    /// The store keeps running; the next batch is tried afresh.
    Failed { batch: u64, error: String },
    /// Rows in order.
    Rows {
        /// Whose.
        dest: DestId,
        /// What was asked for.
        after: Seq,
        /// In order of `seq`.
        rows: Vec<Row>,
    },
    /// A read failed.
    Unreadable { dest: DestId, after: Seq, error: String },
}

/// A destination as found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredQueue {
    /// Which.
    pub dest: DestId,
    /// Rows.
    pub count: u64,
    /// Bytes, counted as [`Message::cost`].
    pub bytes: u64,
    /// Oldest row.
    pub first: Seq,
    /// Newest row.
    pub last: Seq,
    /// The packet identifier that was given out last (newest row that has one, or release), or 0.
    pub last_pkid: u16,
}

/// An outbound QoS 2 identifier whose PUBREL is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub dest: DestId,
    /// Which.
    pub pkid: u16,
    /// The row that stays until PUBCOMP; 0 if it is gone.
    pub held: Seq,
}

/// Everything that a store hands over at start. Rows stay where they are and are read when needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The largest sequence number ever stored, over all destinations, or 0.
    pub last_seq: Seq,
    /// Queues that are not empty.
    pub queues: Vec<StoredQueue>,
    /// Records, in order of kind and key.
    pub records: Vec<(RecordKind, Box<[u8]>, Box<[u8]>)>,
    /// Retained messages, in order of topic.
    pub retained: Vec<Message>,
    /// Outbound QoS 2 identifiers whose PUBREL is due, in the order in which they were released.
    pub released: Vec<Due>,
    /// Inbound QoS 2 identifiers that were received and not yet released.
    pub received: Vec<(DestId, u16)>,
    /// Set when the file was damaged: what was lost, in words.
    pub damage: Option<String>,
}

/// What a core wants to be told about later. The number means something to its owner only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// Bits that a core may use; above them the engine writes whose token it is.
    pub const BITS: u32 = 60;

    /// The same number, marked as belonging to `owner` (1..=15).
    #[must_use]
    pub const fn owned_by(self, owner: u8) -> Self {
        Self(self.0 & ((1 << Self::BITS) - 1) | (owner as u64) << Self::BITS)
    }

    /// Whose it is, and its number.
    #[must_use]
    pub const fn split(self) -> (u8, Self) {
        ((self.0 >> Self::BITS) as u8, Self(self.0 & ((1 << Self::BITS) - 1)))
    }
}

/// What became of something that must be safe before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Safe now: acknowledge at once.
    Done,
    /// Not safe yet: the token comes back as settled when it is.
    Pending,
    /// Not taken, and nothing of it is stored.
    Refused(Refusal),
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client may not do this (MQTT 5.0: 0x87).
    NotAuthorised,
    /// A queue is full and its rule says reject, or a limit is reached (MQTT 5.0: 0x97; MQTT-SN: congestion).
    Full,
    /// The store cannot take it now (full or failing disk).
    Store,
    /// The topic or filter is not legal here (MQTT 5.0: 0x90, 0x8F).
    Topic,
}
