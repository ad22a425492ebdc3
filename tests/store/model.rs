//! Random batches against a model of maps, with restarts and power cuts.

use std::collections::{BTreeMap, BTreeSet};

use moteway::mqtt::{Message, QoS};
use moteway::queue::{Batch, Delivery, DestId, Due, Op, Read, RecordKind, Recovered, Row, Seq, StoredQueue};
use moteway::store::{Database, Options};
use tempfile::TempDir;

use crate::support::{copy_files, message, options};

type Bytes = Box<[u8]>;

/// What must be stored.
#[derive(Debug, Clone, Default)]
struct Model {
    queues: BTreeMap<u16, BTreeMap<u64, Row>>,
    last_pkid: BTreeMap<u16, u16>,
    released: Vec<Due>,
    received: BTreeSet<(DestId, u16)>,
    records: BTreeMap<(RecordKind, Bytes), Bytes>,
    retained: BTreeMap<String, Message>,
    last_seq: u64,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Append { dest, row } => {
                self.last_seq = self.last_seq.max(row.seq.0);
                if row.delivery.pkid != 0 {
                    self.last_pkid.insert(dest.0, row.delivery.pkid);
                }
                self.queues.entry(dest.0).or_default().insert(row.seq.0, row);
            }
            Op::DeleteUpTo { dest, seq } => {
                self.queues.entry(dest.0).or_default().retain(|at, _| *at > seq.0);
            }
            Op::Delete { dest, seq } | Op::Bury { dest, seq, .. } => {
                self.queues.entry(dest.0).or_default().remove(&seq.0);
            }
            Op::Release { dest, seq, pkid } => {
                self.queues.entry(dest.0).or_default().remove(&seq.0);
                self.hold(dest, pkid, Seq(0));
            }
            Op::Hold { dest, seq, pkid } => self.hold(dest, pkid, seq),
            Op::Complete { dest, pkid } => self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid)),
            Op::Receive { dest, pkid } => drop(self.received.insert((dest, pkid))),
            Op::Forget { dest, pkid } => drop(self.received.remove(&(dest, pkid))),
            Op::Unbury { .. } => {}
            Op::Clear { dest } => {
                self.queues.remove(&dest.0);
                self.last_pkid.remove(&dest.0);
                self.released.retain(|due| due.dest != dest);
                self.received.retain(|entry| entry.0 != dest);
            }
            Op::Put { kind, key, value } => drop(self.records.insert((kind, key), value)),
            Op::Remove { kind, key } => drop(self.records.remove(&(kind, key))),
            Op::Retain { message } => drop(self.retained.insert(message.topic().to_owned(), (*message).clone())),
            Op::Unretain { topic } => drop(self.retained.remove(&*topic)),
        }
    }

    fn hold(&mut self, dest: DestId, pkid: u16, held: Seq) {
        self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid));
        self.released.push(Due { dest, pkid, held });
    }

    fn recovered(&self, last_seq: Seq) -> Recovered {
        let queue = |(dest, rows): (&u16, &BTreeMap<u64, Row>)| {
            Some(StoredQueue {
                dest: DestId(*dest),
                count: rows.len() as u64,
                bytes: rows.values().map(|row| row.message.cost() as u64).sum(),
                first: rows.values().next()?.seq,
                // The newest row that was ever there: a queue may have lost its newest rows to single deletions.
                last: rows.values().next_back()?.seq,
                last_pkid: self.last_pkid.get(dest).copied().unwrap_or(0),
            })
        };
        Recovered {
            last_seq,
            queues: self.queues.iter().filter_map(queue).collect(),
            records: self.records.iter().map(|((kind, key), value)| (*kind, key.clone(), value.clone())).collect(),
            retained: self.retained.values().cloned().collect(),
            released: self.released.clone(),
            received: self.received.iter().copied().collect(),
            damage: None,
        }
    }
}

struct Run {
    rng: fastrand::Rng,
    model: Model,
    next_seq: u64,
    next_pkid: u16,
}

impl Run {
    fn op(&mut self) -> Op {
        let dest = DestId([0, 1, 2, 500, 65_535][self.rng.usize(..5)]);
        let seq = Seq(self.some_seq(dest.0));
        let pkid = self.rng.u16(1..9);
        match self.rng.u8(..100) {
            0..60 => self.append(dest),
            60..72 => Op::DeleteUpTo { dest, seq },
            72..78 => Op::Delete { dest, seq },
            78..80 => Op::Release { dest, seq, pkid },
            80..82 => Op::Hold { dest, seq, pkid },
            82..84 => Op::Complete { dest, pkid },
            84..86 => Op::Receive { dest, pkid },
            86..88 => Op::Forget { dest, pkid },
            88..90 => Op::Bury { dest, seq, reason: "refused".to_owned() },
            90 => Op::Clear { dest },
            91..94 => Op::Put {
                kind: RecordKind::Session,
                key: self.key(),
                value: vec![7; self.rng.usize(..3000)].into(),
            },
            94..96 => Op::Remove { kind: RecordKind::Session, key: self.key() },
            96..99 => Op::Retain { message: message(self.rng.u64(..9), self.rng.usize(..3000)) },
            _ => Op::Unretain { topic: message(self.rng.u64(..9), 0).topic().into() },
        }
    }

    fn append(&mut self, dest: DestId) -> Op {
        self.next_seq += self.rng.u64(1..4);
        let qos = QoS::from_u8(self.rng.u8(1..3)).unwrap();
        let mut delivery = Delivery { qos, ..Delivery::default() };
        if qos == QoS::ExactlyOnce {
            self.next_pkid = self.next_pkid % 60_000 + 1;
            delivery.pkid = self.next_pkid;
        }
        let len = if self.rng.u8(..20) == 0 { self.rng.usize(..20_000) } else { self.rng.usize(..300) };
        Op::Append { dest, row: Row { seq: Seq(self.next_seq), delivery, message: message(self.next_seq, len) } }
    }

    /// Mostly a row that exists, rather one at the old end.
    fn some_seq(&mut self, dest: u16) -> u64 {
        let rows = self.model.queues.get(&dest).map_or(0, BTreeMap::len);
        if rows == 0 || self.rng.u8(..10) == 0 {
            return self.rng.u64(..self.next_seq + 3);
        }
        let at = if self.rng.bool() { self.rng.usize(..rows.min(5)) } else { self.rng.usize(..rows) };
        *self.model.queues[&dest].keys().nth(at).unwrap()
    }

    fn key(&mut self) -> Box<[u8]> {
        Box::from([b'k', self.rng.u8(..6)])
    }

    /// Applies a random batch to both; now and then one that must be refused as a whole.
    fn step(&mut self, database: &mut Database, id: u64) {
        let mut next = self.model.clone();
        let mut ops = Vec::new();
        for _ in 0..self.rng.usize(1..120) {
            let op = self.op();
            next.apply(&op);
            ops.push(op);
        }
        let refused = self.rng.u8(..12) == 0 && self.next_seq > 0;
        if refused {
            let Op::Append { dest, row } = self.append(DestId(9)) else { unreachable!() };
            ops.extend([Op::Append { dest, row: row.clone() }, Op::Append { dest, row }]);
        }
        let result = database.session().apply(&Batch { id, ops });
        assert_eq!(result.is_err(), refused, "{result:?}");
        if !refused {
            self.model = next;
        }
    }

    fn check_reads(&mut self, database: &mut Database) {
        let dests: Vec<u16> = self.model.queues.keys().copied().collect();
        for dest in dests {
            let read = Read {
                dest: DestId(dest),
                after: Seq(self.some_seq(dest).saturating_sub(1)),
                max_rows: self.rng.u32(1..200),
                max_bytes: usize::MAX,
            };
            let found = database.session().read(&read).unwrap();
            let rows = self.model.queues[&dest].range(read.after.0 + 1..);
            let expected: Vec<Row> = rows.take(read.max_rows as usize).map(|(_, row)| row.clone()).collect();
            assert_eq!(found, expected, "destination {dest} after {:?}", read.after);
        }
    }
}

/// Opens and compares everything that is handed over at start.
fn open(options: &Options, run: &Run) -> Database {
    let (database, found) = Database::open(options).unwrap();
    assert!(found.last_seq.0 >= run.model.last_seq);
    let mut expected = run.model.recovered(found.last_seq);
    // `last` may name a row that was deleted on its own since.
    for (expected, found) in expected.queues.iter_mut().zip(&found.queues) {
        assert!(found.last >= expected.last && found.last.0 <= run.next_seq);
        expected.last = found.last;
    }
    assert_eq!(found, expected);
    database
}

#[test]
fn random_batches_with_restarts_and_power_cuts_match_the_model() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut dir = TempDir::new().unwrap();
        let mut run =
            Run { rng: fastrand::Rng::with_seed(seed), model: Model::default(), next_seq: 0, next_pkid: 0 };
        // A small file, so that its log is folded often.
        let small = |dir: &TempDir| Options {
            max_bytes: 12 << 20,
            page_size: [1024, 2048, 4096][usize::try_from(seed % 3).unwrap()],
            durability: moteway::config::Durability::None,
            ..options(dir.path())
        };
        let mut database = open(&small(&dir), &run);
        for id in 1..60 {
            run.step(&mut database, id);
            run.check_reads(&mut database);
            match run.rng.u8(..12) {
                0 => {
                    database.close().unwrap();
                    database = open(&small(&dir), &run);
                }
                1 => {
                    let after = TempDir::new().unwrap();
                    copy_files(dir.path(), after.path());
                    drop(database);
                    dir = after;
                    database = open(&small(&dir), &run);
                }
                2 => while database.session().shrink().unwrap() {},
                _ => {}
            }
        }
    }
}
