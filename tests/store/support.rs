//! A store in a directory of its own, and short ways to write rows and operations.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use moteway::config::Durability;
use moteway::mqtt::{Message, MessageParts, QoS};
use moteway::queue::{Batch, Delivery, DestId, Op, Read, Recovered, Reply, Row, Seq};
use moteway::store::{Command, Database, Options, PAGE_SIZE, Store};
use moteway::time::Wall;
use tempfile::TempDir;

use crate::suite::Subject;

/// Options for tests that do not cut the power.
pub fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        max_bytes: 256 << 20,
        durability: Durability::PowerLoss,
        page_size: PAGE_SIZE,
        max_dead_letters: 100,
        max_pending: 64,
    }
}

/// A message whose parts depend on `n`.
pub fn message(n: u64, payload: usize) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic: &format!("site/room-{}/temperature", n % 7),
        properties: if n.is_multiple_of(3) { &[1, 1] } else { &[] },
        payload: &vec![n.to_le_bytes()[0]; payload],
        qos: QoS::AtLeastOnce,
        retain: n.is_multiple_of(5),
        received_at: Wall::from_millis(1_700_000_000_000 + n),
        expires_at: n.is_multiple_of(4).then(|| Wall::from_millis(1_800_000_000_000 + n)),
    }))
}

/// A QoS 1 row.
pub fn row(seq: u64, payload: usize) -> Row {
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    Row { seq: Seq(seq), delivery, message: message(seq, payload) }
}

/// Appends a QoS 1 row.
pub fn append(dest: u16, seq: u64) -> Op {
    Op::Append { dest: DestId(dest), row: row(seq, 100) }
}

/// Asks for everything after `after`.
pub fn read_all(dest: u16, after: u64) -> Read {
    Read { dest: DestId(dest), after: Seq(after), max_rows: u32::MAX, max_bytes: usize::MAX }
}

/// One batch on an open file.
pub fn apply(database: &mut Database, id: u64, ops: Vec<Op>) -> Result<(), String> {
    database.session().apply(&Batch { id, ops })
}

/// Sequence numbers of all rows of a destination.
pub fn seqs(database: &mut Database, dest: u16) -> Vec<u64> {
    let rows = database.session().read(&read_all(dest, 0)).unwrap();
    rows.iter().map(|row| row.seq.0).collect()
}

/// Copies the files of a store that is open: what a power cut would leave behind.
pub fn copy_files(from: &Path, to: &Path) {
    for name in ["moteway.db", "moteway.db-wal"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// The writer thread behind the suite's border.
pub struct Threaded {
    dir: TempDir,
    open: Option<(Store, Receiver<Reply>)>,
    recovered: Recovered,
}

impl Threaded {
    pub fn new() -> Self {
        let mut new = Self { dir: TempDir::new().unwrap(), open: None, recovered: Recovered::default() };
        new.recovered = new.reopen();
        new
    }

    fn ask(&self, command: Command) -> Reply {
        let (store, replies) = self.open.as_ref().unwrap();
        store.submit(command).unwrap();
        replies.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

impl Subject for Threaded {
    fn commit(&mut self, batch: Batch) -> Reply {
        self.ask(Command::Commit(batch))
    }

    fn read(&mut self, read: Read) -> Reply {
        self.ask(Command::Read(read))
    }

    fn reopen(&mut self) -> Recovered {
        if let Some((store, _)) = self.open.take() {
            store.close().unwrap();
        }
        let (sender, replies) = channel();
        let on_reply = Box::new(move |reply| sender.send(reply).unwrap());
        let (store, recovered) = Store::open(&options(self.dir.path()), on_reply).unwrap();
        self.open = Some((store, replies));
        recovered
    }
}
