//! The durable store: one SQLite file behind the contract of [`crate::queue`].
//!
//! It owns `moteway.db` and its companions in the state directory. It promises that a batch which was answered with
//! `Committed` survives a power cut (with the default durability), that a batch which failed left no trace, and that
//! it starts whatever the file looks like. It never decides what is stored or deleted.
//!
//! * [`Store`] is the handle of the writer thread; [`Database`] and [`Session`] are the same without a thread.
//! * [`Inspector`] reads beside them, for people.
//! * `schema` has the tables, `session` the batches, `ledger` the sums of each queue, `recover` the start.
//! * `wal`, `pages` and `wreck` read a damaged file octet by octet, `rebuild` and `salvage` put a new one in its place.

mod columns;
mod database;
mod fault;
mod inspect;
mod ledger;
mod lock;
mod options;
mod pages;
mod rebuild;
mod recover;
mod salvage;
mod schema;
mod session;
mod thread;
mod wal;
mod wreck;

pub use database::Database;
pub use inspect::Inspector;
pub use lock::{Lock, claim};
pub use options::{Options, PAGE_SIZE, StoreError};
pub use session::Session;
pub use thread::{Backup, Command, OnReply, Store, SubmitError};
