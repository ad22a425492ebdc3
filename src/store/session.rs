//! Batches and reads on an open file.
//!
//! Deleting is cheap: a queue's `deleted_to` moves, and the rows behind it are dead. SQLite would write every page
//! of the deleted rows to its log, as much again as storing them cost. Instead dead rows are removed in the same
//! transaction that appends about as many, so that each freed page is at once filled again and written once. If no
//! row is alive at all, the table is emptied, which writes next to nothing.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::queue::{Batch, DestId, Op, Read, Row, Seq};
use crate::store::columns::{self, Columns, key, raw_len, signed, split, unsigned};
use crate::store::fault::Fault;
use crate::store::ledger::{Account, Ledger};
use crate::store::options::{Options, PageLimit};
use crate::store::schema::{Sql, Statements};

/// Dead rows are removed in pieces of at least this many octets.
const RECLAIM_MIN: u64 = 8 << 10;
/// And at most this many, however much was appended since.
const RECLAIM_MAX: u64 = 1 << 20;
/// What a row takes beside its octets, about.
const ROW_OVERHEAD: u64 = 48;
/// Emptying the table reads each of its pages, so it must be small.
const EMPTY_MAX: u64 = 8 << 20;
/// Unused space that is kept for later rather than given back to the file system.
const KEEP_UNUSED: u64 = 4 << 20;

/// The open file in use, by one thread.
pub struct Session<'d> {
    pub(super) conn: &'d Connection,
    pub(super) statements: Statements<'d>,
    pub(super) ledger: &'d mut Ledger,
    pub(super) suspect: PathBuf,
    pub(super) page_size: u32,
    pub(super) wal_limit: u64,
    max_dead_letters: u32,
    max_pages: PageLimit,
    /// Octets appended since dead rows were last removed.
    debt: u64,
    /// The log could not be folded into the file.
    log_stuck: bool,
    /// Frames of an attempt that failed, or of a run that was cut short, may lie behind the end of the log.
    leftovers: &'d mut bool,
}

impl<'a> Session<'a> {
    /// The open file itself.
    pub(super) fn connection(&self) -> &'a Connection {
        self.conn
    }
}

impl<'d> Session<'d> {
    pub(super) fn new(
        conn: &'d Connection,
        ledger: &'d mut Ledger,
        suspect: PathBuf,
        page_size: u32,
        options: &Options,
        leftovers: &'d mut bool,
    ) -> Self {
        Self {
            conn,
            statements: Statements::new(conn),
            ledger,
            suspect,
            page_size,
            wal_limit: options.wal_limit(),
            max_dead_letters: options.max_dead_letters,
            max_pages: options.max_pages(page_size),
            debt: 0,
            log_stuck: false,
            leftovers,
        }
    }

    /// Commits a batch, all of it or nothing.
    ///
    /// # Errors
    /// In words, if nothing of it is stored. The next batch is tried afresh.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), String> {
        self.begin_log_anew();
        let mut result = self.bound_log().and_then(|()| self.transaction(|session| session.run(batch)));
        if matches!(&result, Err(fault) if fault.is_full()) && self.ledger.total().dead_count > 0 {
            let wanted = RECLAIM_MAX.max(4 * appended_bytes(batch));
            result = self
                .transaction(|session| session.reclaim(wanted))
                .and_then(|()| self.transaction(|session| session.run(batch)));
        }
        if matches!(&result, Err(fault) if fault.is_full()) && !stores(batch) {
            result =
                self.limit_pages(self.max_pages.all).and_then(|()| self.transaction(|session| session.run(batch)));
            // SQLite sets it no lower than what the file has now.
            result = result.and(self.limit_pages(self.max_pages.growing));
        }
        if result.is_ok() {
            // The batch is safe whether or not the log can be folded; a log that cannot is bounded by `bound_log`.
            self.log_stuck = self.checkpoint_if_due().map_err(|fault| self.note(&fault)).is_err();
        }
        *self.leftovers |= matches!(result, Err(Fault::Sqlite(_)));
        result.map_err(|fault| self.note(&fault))
    }

    fn limit_pages(&self, pages: u64) -> Result<(), Fault> {
        Ok(pragma_rows(self.conn, &format!("PRAGMA max_page_count = {pages}"))?)
    }

    /// Rows in order of sequence number.
    ///
    /// # Errors
    /// In words, if the rows cannot be read.
    pub fn read(&mut self, read: &Read) -> Result<Vec<Row>, String> {
        self.rows(read).map_err(|fault| self.note(&fault))
    }

    /// Folds the log into the file.
    ///
    /// # Errors
    /// In words; the log keeps what the file does not have yet.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        pragma_rows(self.conn, "PRAGMA wal_checkpoint(TRUNCATE)").map_err(|error| self.note(&error.into()))
    }

    /// Gives a small piece of unused space back to the file system. Returns whether there is more to do.
    ///
    /// # Errors
    /// In words; nothing is lost.
    pub fn shrink(&mut self) -> Result<bool, String> {
        let step = |session: &mut Self| -> Result<bool, Fault> {
            let free: u64 = session.conn.pragma_query_value(None, "freelist_count", |row| unsigned(row, 0))?;
            let total = session.ledger.total();
            let dead = total.dead_bytes + total.dead_count * ROW_OVERHEAD;
            if free * u64::from(session.page_size) + dead <= KEEP_UNUSED {
                return Ok(false);
            }
            session.transaction(|session| {
                session.reclaim(RECLAIM_MAX / 2)?;
                // Pages that leave the file in the transaction that freed them are never written.
                Ok(pragma_rows(session.conn, "PRAGMA incremental_vacuum(512)")?)
            })?;
            session.checkpoint_if_due()?;
            Ok(true)
        };
        step(self).map_err(|fault| self.note(&fault))
    }

    /// Words for a fault. If the file contradicts itself, the next start is told to check it.
    fn note(&mut self, fault: &Fault) -> String {
        let mut words = fault.to_string();
        if matches!(fault, Fault::Damaged(_))
            && let Err(error) = std::fs::write(&self.suspect, &words)
        {
            words = format!("{words}; {}: {error}", self.suspect.display());
        }
        words
    }

    /// Runs `work` in a transaction of its own.
    fn transaction(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.statements.get(Sql::Begin)?.raw_execute()?;
        self.ledger.begin();
        let result = work(self).and_then(|()| self.write_accounts()).and_then(|()| {
            self.statements.get(Sql::Commit)?.raw_execute()?;
            Ok(())
        });
        if result.is_err() {
            self.ledger.roll_back();
            if !self.conn.is_autocommit() {
                self.conn.execute_batch("ROLLBACK")?;
            }
        }
        result
    }

    fn run(&mut self, batch: &Batch) -> Result<(), Fault> {
        self.make_room(batch)?;
        for op in &batch.ops {
            self.run_op(op)?;
        }
        self.empty_if_all_dead()
    }

    fn run_op(&mut self, op: &Op) -> Result<(), Fault> {
        match op {
            Op::Append { dest, row } => self.append(dest.0, row),
            Op::DeleteUpTo { dest, seq } => self.delete_up_to(dest.0, seq.0),
            Op::Delete { dest, seq } => self.delete(dest.0, seq.0),
            Op::Release { dest, seq, pkid } => {
                self.delete(dest.0, seq.0)?;
                self.release(dest.0, *pkid, None)
            }
            Op::Hold { dest, seq, pkid } => self.release(dest.0, *pkid, Some(signed(seq.0))),
            Op::Complete { dest, pkid } => self.execute(Sql::Complete, (dest.0, pkid)),
            Op::Receive { dest, pkid } => self.execute(Sql::Receive, (dest.0, pkid)),
            Op::Forget { dest, pkid } => self.execute(Sql::Forget, (dest.0, pkid)),
            Op::Bury { dest, seq, reason } => self.bury(dest.0, seq.0, reason),
            Op::Unbury { id } => self.execute(Sql::Unbury, [signed(*id)]),
            Op::Clear { dest } => self.clear(dest.0),
            Op::Put { kind, key, value } => self.execute(Sql::Put, (*kind as u8, &**key, &**value)),
            Op::Remove { kind, key } => self.execute(Sql::Remove, (*kind as u8, &**key)),
            Op::Retain { message } => {
                let statement = self.statements.get(Sql::Retain)?;
                columns::bind_retained(statement, message)?;
                statement.raw_execute()?;
                Ok(())
            }
            Op::Unretain { topic } => self.execute(Sql::Unretain, [&**topic]),
        }
    }

    fn execute(&mut self, sql: Sql, params: impl rusqlite::Params) -> Result<(), Fault> {
        self.statements.get(sql)?.execute(params)?;
        Ok(())
    }

    fn append(&mut self, dest: u16, row: &Row) -> Result<(), Fault> {
        let seq = row.seq.0;
        let last = self.ledger.get(dest).last;
        if seq <= last || seq > Seq::MAX.0 {
            return Err(Fault::Refused(format!("row {seq} of destination {dest} does not follow row {last}")));
        }
        if let Some(last_seq) = self.ledger.reserve(seq) {
            self.execute(Sql::LastSeq, [signed(last_seq)])?;
        }
        let statement = self.statements.get(Sql::Append)?;
        columns::bind_row(statement, dest, row)?;
        statement.raw_execute()?;
        self.ledger.change(dest, |account| {
            account.count += 1;
            account.bytes += raw_len(&row.message);
            account.last = seq;
            if row.delivery.pkid != 0 {
                account.last_pkid = row.delivery.pkid;
            }
        });
        Ok(())
    }

    fn delete_up_to(&mut self, dest: u16, seq: u64) -> Result<(), Fault> {
        let account = self.ledger.get(dest);
        let upto = seq.min(account.last);
        if upto <= account.deleted_to || account.count == 0 {
            return Ok(());
        }
        let (count, bytes) = if upto == account.last {
            (account.count, account.bytes)
        } else {
            self.sum(key(dest, account.deleted_to), key(dest, upto))?
        };
        self.ledger.change(dest, |account| {
            account.kill(count, bytes);
            account.deleted_to = upto;
        });
        Ok(())
    }

    /// Deletes one row. The oldest of its queue just dies; one from the middle leaves the table.
    fn delete(&mut self, dest: u16, seq: u64) -> Result<(), Fault> {
        let account = self.ledger.get(dest);
        if seq <= account.deleted_to || seq > account.last || account.count == 0 {
            return Ok(());
        }
        let Some(bytes) = self.size(key(dest, seq))? else { return Ok(()) };
        if self.first(dest, &account)? == Some(seq) {
            self.ledger.change(dest, |account| {
                account.kill(1, bytes);
                account.deleted_to = seq;
            });
            return Ok(());
        }
        self.execute(Sql::Delete, [key(dest, seq)])?;
        self.ledger.change(dest, |account| account.take(1, bytes));
        Ok(())
    }

    fn release(&mut self, dest: u16, pkid: u16, held: Option<i64>) -> Result<(), Fault> {
        let position = self.ledger.next_position;
        self.ledger.next_position += 1;
        self.execute(Sql::Release, (dest, pkid, signed(position), held))
    }

    fn bury(&mut self, dest: u16, seq: u64, reason: &str) -> Result<(), Fault> {
        let account = self.ledger.get(dest);
        if seq <= account.deleted_to || seq > account.last {
            return Ok(());
        }
        self.execute(Sql::Bury, (key(dest, seq), reason, dest.to_be_bytes()))?;
        let dropped = self.statements.get(Sql::BuryLimit)?.execute([self.max_dead_letters])?;
        if dropped > 0 {
            self.execute(Sql::BuryDropped, [signed(dropped as u64)])?;
        }
        self.delete(dest, seq)
    }

    fn clear(&mut self, dest: u16) -> Result<(), Fault> {
        self.execute(Sql::ClearReleased, [dest])?;
        self.execute(Sql::ClearReceived, [dest])?;
        self.ledger.change(dest, |account| {
            account.kill(account.count, account.bytes);
            account.deleted_to = account.last;
            account.last_pkid = 0;
        });
        Ok(())
    }

    fn size(&mut self, key: i64) -> Result<Option<u64>, Fault> {
        let mut rows = self.statements.get(Sql::Size)?.query([key])?;
        Ok(rows.next()?.map(|row| unsigned(row, 0)).transpose()?)
    }

    /// Count and octets of the rows after one key up to another.
    pub(super) fn sum(&mut self, after: i64, upto: i64) -> Result<(u64, u64), Fault> {
        let statement = self.statements.get(Sql::Sum)?;
        Ok(statement.query_row([after, upto], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?)
    }

    /// The oldest row that is alive.
    pub(super) fn first(&mut self, dest: u16, account: &Account) -> Result<Option<u64>, Fault> {
        let bounds = [key(dest, account.deleted_to), key(dest, account.last)];
        let mut rows = self.statements.get(Sql::First)?.query(bounds)?;
        Ok(match rows.next()? {
            Some(row) => Some(split(row.get(0)?).1.0),
            None => None,
        })
    }

    fn rows(&mut self, read: &Read) -> Result<Vec<Row>, Fault> {
        let DestId(dest) = read.dest;
        let account = self.ledger.get(dest);
        let after = read.after.0.max(account.deleted_to);
        let mut found: Vec<Row> = Vec::new();
        if account.count == 0 || after >= account.last {
            return Ok(found);
        }
        let mut rows = self.statements.get(Sql::Rows)?.query([key(dest, after), key(dest, account.last)])?;
        let mut cost = 0;
        loop {
            let row = match next_row(&mut rows) {
                Ok(Some(row)) => row,
                Ok(None) => break,
                // What lies before an unreadable row can still be delivered.
                Err(_) if !found.is_empty() => break,
                Err(fault) => return Err(fault),
            };
            cost += row.message.cost();
            if !found.is_empty() && cost > read.max_bytes {
                break;
            }
            found.push(row);
            if found.len() as u64 >= u64::from(read.max_rows) || cost >= read.max_bytes {
                break;
            }
        }
        Ok(found)
    }

    /// Removes about as many dead rows as the batch is going to append.
    fn make_room(&mut self, batch: &Batch) -> Result<(), Fault> {
        self.debt = (self.debt + appended_bytes(batch)).min(RECLAIM_MAX);
        if self.debt >= RECLAIM_MIN && self.ledger.total().dead_count > 0 {
            let debt = std::mem::take(&mut self.debt);
            self.reclaim(debt)?;
        }
        Ok(())
    }

    /// Removes dead rows of about `wanted` octets, those that died last first: their pages are still in the log,
    /// and writing them once more costs the file nothing at the next checkpoint.
    fn reclaim(&mut self, wanted: u64) -> Result<(), Fault> {
        let mut wanted = wanted;
        while wanted > 0
            && let Some(dest) = self.ledger.dest_with_dead()
        {
            let deleted_to = self.ledger.get(dest).deleted_to;
            let (bottom, top) = (key(dest, 0), key(dest, deleted_to));
            let (mut count, mut bytes, mut lowest) = (0, 0, top);
            let mut rows = self.statements.get(Sql::DeadFromTop)?.query([bottom, top])?;
            while bytes + count * ROW_OVERHEAD < wanted
                && let Some(row) = rows.next()?
            {
                lowest = row.get(0)?;
                bytes += unsigned(row, 1)?;
                count += 1;
            }
            drop(rows);
            if count > 0 {
                self.execute(Sql::DeleteRange, [lowest, top])?;
            }
            wanted = wanted.saturating_sub(bytes + count * ROW_OVERHEAD);
            let finished = wanted > 0;
            self.ledger.change(dest, |account| {
                account.dead_count = account.dead_count.saturating_sub(count);
                account.dead_bytes = account.dead_bytes.saturating_sub(bytes);
                if finished {
                    (account.dead_count, account.dead_bytes) = (0, 0);
                }
            });
        }
        Ok(())
    }

    /// Empties the table if that is cheap and frees something worth it.
    fn empty_if_all_dead(&mut self) -> Result<(), Fault> {
        let total = self.ledger.total();
        let dead = total.dead_bytes + total.dead_count * ROW_OVERHEAD;
        if total.count > 0 || !(RECLAIM_MIN..=EMPTY_MAX).contains(&dead) {
            return Ok(());
        }
        self.execute(Sql::DeleteAll, [])?;
        for dest in self.ledger.all_with_dead() {
            self.ledger.change(dest, |account| (account.dead_count, account.dead_bytes) = (0, 0));
        }
        Ok(())
    }

    fn write_accounts(&mut self) -> Result<(), Fault> {
        for (dest, account) in self.ledger.changed() {
            let Some(account) = account else {
                self.execute(Sql::AccountGone, [dest])?;
                continue;
            };
            let columns = [
                i64::from(dest),
                signed(account.deleted_to),
                signed(account.count),
                signed(account.bytes),
                signed(account.dead_count),
                signed(account.dead_bytes),
                signed(account.last),
                i64::from(account.last_pkid),
            ];
            self.execute(Sql::Account, columns)?;
        }
        Ok(())
    }

    /// Folds the log into the file when it has grown to its bound. The log is then written from its start again.
    fn checkpoint_if_due(&mut self) -> Result<(), Fault> {
        if self.log_bytes()? >= self.wal_limit {
            pragma_rows(self.conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        Ok(())
    }

    /// Gives the log a new generation, so that nothing behind its end can be taken for a part of it.
    fn begin_log_anew(&mut self) {
        if *self.leftovers {
            // If it cannot be done now, the next batch tries again.
            *self.leftovers = pragma_rows(self.conn, "PRAGMA wal_checkpoint(TRUNCATE)").is_err();
        }
    }

    /// Refuses to let the log grow on and on while it cannot be folded.
    fn bound_log(&mut self) -> Result<(), Fault> {
        if self.log_stuck && self.log_bytes()? >= 4 * self.wal_limit {
            self.checkpoint_if_due()?;
            self.log_stuck = false;
        }
        Ok(())
    }

    fn log_bytes(&mut self) -> Result<u64, Fault> {
        let frames: i64 = self.statements.get(Sql::LogSize)?.query_row([], |row| row.get(1))?;
        Ok(u64::try_from(frames).unwrap_or(0) * (u64::from(self.page_size) + 24))
    }
}

/// The next row of `message`.
fn next_row(rows: &mut rusqlite::Rows<'_>) -> Result<Option<Row>, Fault> {
    let Some(columns) = rows.next()? else { return Ok(None) };
    let key: i64 = columns.get(0)?;
    match Columns::of(columns).row(key) {
        Some(row) => Ok(Some(row)),
        None => {
            let (DestId(dest), Seq(seq)) = split(key);
            Err(Fault::Damaged(format!("row {seq} of destination {dest}")))
        }
    }
}

/// About how much the table grows by this batch.
fn appended_bytes(batch: &Batch) -> u64 {
    let of = |op: &Op| match op {
        Op::Append { row, .. } => raw_len(&row.message) + ROW_OVERHEAD,
        _ => 0,
    };
    batch.ops.iter().map(of).sum()
}

/// Whether a batch stores something that was not there, apart from marks of a few octets.
fn stores(batch: &Batch) -> bool {
    batch.ops.iter().any(|op| matches!(op, Op::Append { .. } | Op::Retain { .. } | Op::Put { .. }))
}

/// Runs a pragma that works row by row to its end.
pub(super) fn pragma_rows(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
