//! Store-and-forward as a value: limits, eviction, expiry, cursors, the batch in hand.

mod contract;

pub use contract::{
    Batch, Delivery, DestId, Op, Outcome, Read, RecordKind, Recovered, Refusal, Reply, Row, Seq, StoredQueue, Token,
};
