//! The new file that takes over what a damaged one still holds.

use std::collections::BTreeMap;

use rusqlite::{Connection, Statement};

use crate::queue::Seq;
use crate::store::columns::{self, Columns, record_kind, signed, split, unsigned};
use crate::store::database::connect;
use crate::store::fault::Fault;
use crate::store::ledger::Account;
use crate::store::options::{Options, Paths};
use crate::store::recover::account;
use crate::store::session::pragma_rows;
use crate::store::wreck::{Table, Wreck};

/// Rows per transaction.
const CHUNK: u64 = 4096;
/// Numbers skipped when it is not certain which were used last.
const SEQ_GAP: u64 = 1 << 20;

/// What was carried over.
#[derive(Debug, Default)]
struct Kept {
    messages: u64,
    /// What the accounts say that there were.
    expected: u64,
    /// Rows of destinations whose account is lost.
    uncertain: u64,
    records: u64,
    retained: u64,
    dead_letters: u64,
    /// Small rows that could not be read.
    lost: u64,
    full: bool,
}

/// Writes the new file under its temporary name and closes it. Returns what was kept and lost, in words.
pub(super) fn rebuild(options: &Options, paths: &Paths, wreck: &Wreck) -> Result<String, Fault> {
    let (conn, _) = connect(options, &paths.salvage)?;
    let mut writer = Writer { conn: &conn, kept: Kept::default(), rows: 0, fault: None };
    let accounts = accounts(wreck, &mut writer.kept);
    writer.begin();
    writer.small_tables(wreck);
    writer.messages(wreck, &accounts);
    writer.queues(wreck, &accounts);
    let Writer { kept, fault, .. } = writer;
    if let Some(fault) = fault {
        return Err(fault);
    }
    conn.execute_batch("COMMIT")?;
    pragma_rows(&conn, "PRAGMA wal_checkpoint(TRUNCATE)")?;
    conn.close().map_err(|(_, error)| error)?;
    Ok(kept.in_words())
}

/// The accounts. Of two for one destination the later counts: sequence numbers only grow.
fn accounts(wreck: &Wreck, kept: &mut Kept) -> BTreeMap<u16, Account> {
    let mut accounts: BTreeMap<u16, Account> = BTreeMap::new();
    kept.lost += wreck.each(Table::Queue, |columns| {
        if let Some((dest, found)) = account(columns) {
            let known = accounts.entry(dest).or_insert(found);
            if (found.last, found.deleted_to) > (known.last, known.deleted_to) {
                *known = found;
            }
        }
    });
    kept.expected = accounts.values().map(|account| account.count).sum();
    accounts
}

struct Writer<'c> {
    conn: &'c Connection,
    kept: Kept,
    rows: u64,
    /// The first error other than a full file; ends everything.
    fault: Option<Fault>,
}

impl<'c> Writer<'c> {
    fn begin(&mut self) {
        self.try_do(|conn| conn.execute_batch("BEGIN IMMEDIATE"));
    }

    fn try_do<T>(&mut self, work: impl FnOnce(&'c Connection) -> rusqlite::Result<T>) -> Option<T> {
        if self.fault.is_some() {
            return None;
        }
        match work(self.conn).map_err(Fault::from) {
            Ok(done) => Some(done),
            Err(fault) if fault.is_full() && !self.conn.is_autocommit() => {
                self.kept.full = true;
                None
            }
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    /// Inserts one row. Returns whether it is new and there was room.
    fn insert(&mut self, work: impl FnOnce() -> rusqlite::Result<usize>) -> bool {
        let new = self.try_do(|_| work()) == Some(1);
        self.rows += u64::from(new);
        if self.rows >= CHUNK {
            self.rows = 0;
            self.try_do(|conn| {
                conn.execute_batch("COMMIT")?;
                pragma_rows(conn, "PRAGMA wal_checkpoint(PASSIVE)")?;
                conn.execute_batch("BEGIN IMMEDIATE")
            });
        }
        new
    }

    /// A statement of the new file.
    fn prepare(&mut self, sql: &str) -> Option<Statement<'c>> {
        self.try_do(|conn| conn.prepare(sql))
    }

    fn small_tables(&mut self, wreck: &Wreck) {
        if let Some(mut put) = self.prepare("INSERT OR IGNORE INTO record VALUES(?1, ?2, ?3)") {
            self.kept.lost += wreck.each(Table::Record, |columns| {
                if let (Some(kind), Some(key), Some(value)) =
                    (columns.number(0).and_then(record_kind), columns.blob(1), columns.blob(2))
                {
                    self.kept.records += u64::from(self.insert(|| put.execute((kind as u8, key, value))));
                }
            });
        }
        if let Some(mut put) = self.prepare("INSERT OR IGNORE INTO retained VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)") {
            self.kept.lost += wreck.each(Table::Retained, |columns| {
                if let Some(message) = columns.retained() {
                    let new = self.insert(|| {
                        columns::bind_retained(&mut put, &message)?;
                        put.raw_execute()
                    });
                    self.kept.retained += u64::from(new);
                }
            });
        }
        if let Some(mut put) = self.prepare("INSERT OR IGNORE INTO released VALUES(?1, ?2, ?3, ?4)") {
            self.kept.lost += wreck.each(Table::Released, |columns| {
                if let (Some(dest), Some(pkid), Some(position)) =
                    (columns.small(0), columns.small(1), columns.number(2))
                {
                    self.insert(|| put.execute((dest, pkid, signed(position), columns.number(3).map(signed))));
                }
            });
        }
        if let Some(mut put) = self.prepare("INSERT OR IGNORE INTO received VALUES(?1, ?2)") {
            self.kept.lost += wreck.each(Table::Received, |columns| {
                if let (Some(dest), Some(pkid)) = (columns.small(0), columns.small(1)) {
                    self.insert(|| put.execute((dest, pkid)));
                }
            });
        }
        self.dead_letters(wreck);
    }

    fn dead_letters(&mut self, wreck: &Wreck) {
        let sql = "INSERT OR IGNORE INTO dead_letter
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
        let Some(mut put) = self.prepare(sql) else { return };
        self.kept.lost += wreck.each(Table::DeadLetter, |columns| {
            let sound = columns.number(1).is_some() && columns.text(2).is_some();
            if sound && columns.delivery_and_message(3).is_some() {
                let new = self.insert(|| {
                    for (at, value) in columns.values.iter().enumerate() {
                        put.raw_bind_parameter(at + 1, rusqlite::types::ToSqlOutput::Borrowed(*value))?;
                    }
                    put.raw_execute()
                });
                self.kept.dead_letters += u64::from(new);
            }
        });
    }

    fn messages(&mut self, wreck: &Wreck, accounts: &BTreeMap<u16, Account>) {
        let sql = "INSERT OR IGNORE INTO message VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let Some(mut put) = self.prepare(sql) else { return };
        wreck.each(Table::Message, |columns| {
            let Some((dest, row)) = row(columns) else { return };
            let known = accounts.get(&dest);
            if known.is_some_and(|account| row.seq.0 <= account.deleted_to) {
                return;
            }
            let new = self.insert(|| {
                columns::bind_row(&mut put, dest, &row)?;
                put.raw_execute()
            });
            self.kept.messages += u64::from(new);
            self.kept.uncertain += u64::from(new && known.is_none());
        });
    }

    /// Writes the accounts anew, from the rows that are there now.
    fn queues(&mut self, wreck: &Wreck, accounts: &BTreeMap<u16, Account>) {
        let mut last_seq = None;
        wreck.each(Table::Meta, |columns| {
            if columns.text(0) == Some("last_seq") {
                last_seq = columns.number(1).filter(|seq| *seq <= Seq::MAX.0);
            }
        });
        let mut sums = accounts.clone();
        for account in sums.values_mut() {
            (account.count, account.bytes, account.dead_count, account.dead_bytes) = (0, 0, 0, 0);
        }
        let counted = self.try_do(|conn| {
            let mut statement = conn.prepare(
                "SELECT key >> 47, count(*), max(key),
                        sum(octet_length(topic) + octet_length(payload) + ifnull(octet_length(properties), 0))
                 FROM message GROUP BY 1",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let account = sums.entry(row.get(0)?).or_default();
                account.count = unsigned(row, 1)?;
                account.last = account.last.max(split(row.get(2)?).1.0);
                account.bytes = unsigned(row, 3)?;
            }
            Ok(())
        });
        let Some(mut put) = self.prepare("INSERT OR REPLACE INTO queue VALUES(?1, ?2, ?3, ?4, 0, 0, ?5, ?6)")
        else {
            return;
        };
        if counted.is_none() {
            return;
        }
        for (dest, a) in &sums {
            let (deleted_to, count, bytes) = (signed(a.deleted_to), signed(a.count), signed(a.bytes));
            self.insert(|| put.execute((dest, deleted_to, count, bytes, signed(a.last), a.last_pkid)));
        }
        let highest = sums.values().map(|account| account.last).max().unwrap_or(0);
        let last_seq = last_seq.unwrap_or(0).max(highest).saturating_add(SEQ_GAP).min(Seq::MAX.0);
        self.try_do(|conn| conn.execute("INSERT OR REPLACE INTO meta VALUES('last_seq', ?1)", [signed(last_seq)]));
    }
}

/// A row of `message` with its destination, if it is one.
fn row(columns: &Columns<'_>) -> Option<(u16, crate::queue::Row)> {
    let key = signed(columns.number(0)?);
    let row = columns.row(key)?;
    Some((split(key).0.0, row))
}

impl Kept {
    fn in_words(&self) -> String {
        let mut words = format!(
            "kept {} of {} messages, {} records, {} retained messages, {} dead letters",
            self.messages,
            self.expected.max(self.messages),
            self.records,
            self.retained,
            self.dead_letters
        );
        if self.lost > 0 {
            words += &format!("; {} records or retained messages lost", self.lost);
        }
        if self.uncertain > 0 {
            words += &format!("; {} messages may be delivered again", self.uncertain);
        }
        if self.full {
            words += "; the rest found no room";
        }
        words
    }
}
