//! A store in memory that keeps the store's contract and nothing more: what was not committed is gone after a crash,
//! commits take time, and a full disk refuses them.

use std::collections::{BTreeMap, VecDeque};

use moteway::queue::{Batch, DestId, Due, Op, Read, RecordKind, Recovered, Reply, Row, Seq, StoredQueue};

#[derive(Debug, Default, Clone)]
pub struct Disk {
    rows: BTreeMap<(DestId, Seq), Row>,
    pub dead: BTreeMap<u64, (DestId, Row, String)>,
    records: BTreeMap<(RecordKind, Box<[u8]>), Box<[u8]>>,
    retained: BTreeMap<Box<str>, moteway::mqtt::Message>,
    released: Vec<Due>,
    received: Vec<(DestId, u16)>,
    last_seq: Seq,
    pub commits: u64,
    pub appended: u64,
}

impl Disk {
    pub fn apply(&mut self, batch: &Batch) {
        self.commits += 1;
        for op in &batch.ops {
            self.apply_one(op.clone());
        }
    }

    fn apply_one(&mut self, op: Op) {
        match op {
            Op::Append { dest, row } => {
                self.last_seq = self.last_seq.max(row.seq);
                self.appended += 1;
                let old = self.rows.insert((dest, row.seq), row);
                assert!(old.is_none(), "a row was appended twice");
            }
            Op::DeleteUpTo { dest, seq } => self.rows.retain(|(d, s), _| *d != dest || *s > seq),
            Op::Delete { dest, seq } => {
                self.rows.remove(&(dest, seq));
            }
            Op::Release { dest, seq, pkid } => {
                self.rows.remove(&(dest, seq));
                self.hold(dest, pkid, Seq(0));
            }
            Op::Hold { dest, seq, pkid } => self.hold(dest, pkid, seq),
            Op::Complete { dest, pkid } => self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid)),
            Op::Receive { dest, pkid } => {
                self.received.retain(|entry| *entry != (dest, pkid));
                self.received.push((dest, pkid));
            }
            Op::Forget { dest, pkid } => self.received.retain(|entry| *entry != (dest, pkid)),
            Op::Bury { dest, seq, reason } => {
                if let Some(row) = self.rows.remove(&(dest, seq)) {
                    let id = self.dead.last_key_value().map_or(1, |(id, _)| id + 1);
                    self.dead.insert(id, (dest, row, reason));
                }
            }
            Op::Unbury { id } => drop(self.dead.remove(&id)),
            Op::Clear { dest } => {
                self.rows.retain(|(d, _), _| *d != dest);
                self.released.retain(|due| due.dest != dest);
                self.received.retain(|(d, _)| *d != dest);
            }
            Op::Put { kind, key, value } => {
                self.records.insert((kind, key), value);
            }
            Op::Remove { kind, key } => {
                self.records.remove(&(kind, key));
            }
            Op::Retain { message } => {
                self.retained.insert(message.topic().into(), (*message).clone());
            }
            Op::Unretain { topic } => {
                self.retained.remove(&topic);
            }
        }
    }

    fn hold(&mut self, dest: DestId, pkid: u16, held: Seq) {
        self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid));
        self.released.push(Due { dest, pkid, held });
    }

    /// What one destination has.
    pub fn rows_of(&self, dest: DestId) -> impl Iterator<Item = &Row> {
        self.rows.range((dest, Seq(0))..=(dest, Seq::MAX)).map(|(_, row)| row)
    }

    fn rows_after(&self, batch: &Batch) -> usize {
        let mut after = self.clone();
        after.apply(batch);
        after.rows.len()
    }

    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn read(&self, read: &Read) -> Reply {
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        let after = (read.dest, Seq(read.after.0 + 1));
        for (_, row) in self.rows.range(after..).take_while(|((dest, _), _)| *dest == read.dest) {
            bytes += row.message.cost();
            if !rows.is_empty() && (bytes > read.max_bytes || rows.len() >= read.max_rows as usize) {
                break;
            }
            rows.push(row.clone());
        }
        Reply::Rows { dest: read.dest, after: read.after, rows }
    }

    pub fn recover(&self) -> Recovered {
        let mut queues: BTreeMap<DestId, StoredQueue> = BTreeMap::new();
        for ((dest, seq), row) in &self.rows {
            let queue = queues.entry(*dest).or_insert(StoredQueue {
                dest: *dest,
                count: 0,
                bytes: 0,
                first: *seq,
                last: *seq,
                last_pkid: 0,
            });
            queue.count += 1;
            queue.bytes += row.message.cost() as u64;
            queue.last = *seq;
            if row.delivery.pkid != 0 {
                queue.last_pkid = row.delivery.pkid;
            }
        }
        Recovered {
            last_seq: self.last_seq,
            queues: queues.into_values().collect(),
            records: self.records.iter().map(|((k, key), value)| (*k, key.clone(), value.clone())).collect(),
            retained: self.retained.values().cloned().collect(),
            released: self.released.clone(),
            received: self.received.clone(),
            damage: None,
        }
    }
}

#[derive(Debug)]
enum Job {
    Commit(Batch),
    Read(Read),
}

/// The disk and what it has to do.
#[derive(Debug, Default)]
pub struct SimStore {
    pub disk: Disk,
    jobs: VecDeque<Job>,
    pub full: bool,
    /// More rows do not fit.
    pub max_rows: Option<usize>,
    /// Batches that did not fit.
    pub overflows: u64,
}

impl SimStore {
    pub fn commit(&mut self, batch: Batch) {
        self.jobs.push_back(Job::Commit(batch));
    }

    pub fn read(&mut self, read: Read) {
        self.jobs.push_back(Job::Read(read));
    }

    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Finishes the oldest job.
    pub fn finish(&mut self) -> Option<Reply> {
        Some(match self.jobs.pop_front()? {
            Job::Commit(batch) if self.full => Reply::Failed { batch: batch.id, error: "disk full".into() },
            Job::Commit(batch) => {
                if self.max_rows.is_some_and(|max| self.disk.rows_after(&batch) > max.max(self.disk.rows.len())) {
                    self.overflows += 1;
                    return Some(Reply::Failed { batch: batch.id, error: "file full".into() });
                }
                self.disk.apply(&batch);
                Reply::Committed { batch: batch.id }
            }
            Job::Read(read) => self.disk.read(&read),
        })
    }

    /// The power goes: of what was under way, any number of whole batches may have reached the disk, in order.
    pub fn crash(&mut self, rng: &mut fastrand::Rng) {
        let survivors = rng.usize(0..=self.jobs.len());
        for job in self.jobs.drain(..).take(survivors) {
            if let (Job::Commit(batch), false) = (job, self.full) {
                self.disk.apply(&batch);
            }
        }
    }
}
