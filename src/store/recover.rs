//! What a store hands over at start, and how far it trusts its file.

use rusqlite::Connection;

use crate::queue::{DestId, Due, Recovered, Seq, StoredQueue};
use crate::store::columns::{Columns, cost, key, record_kind, unsigned};
use crate::store::fault::Fault;
use crate::store::ledger::{Account, Ledger};
use crate::store::session::Session;

/// No sum that a real file can have.
const MAX_SUM: u64 = 1 << 47;

/// Every row of every queue, as `queued` but whole.
const LIVE_ROWS: &str = "SELECT message.* FROM queue JOIN message
    ON message.key > dest << 47 | deleted_to AND message.key <= dest << 47 | last";

/// Reads the accounts.
pub(super) fn load_ledger(conn: &Connection) -> Result<Ledger, Fault> {
    let mut ledger = Ledger::default();
    for_each(conn, "SELECT * FROM queue", |columns| {
        let (dest, account) = account(columns)?;
        ledger.load(dest, account);
        Some(())
    })?;
    for_each(conn, "SELECT value FROM meta WHERE name = 'last_seq'", |columns| {
        ledger.reserved = columns.number(0).filter(|seq| *seq <= Seq::MAX.0)?;
        Some(())
    })?;
    for_each(conn, "SELECT ifnull(max(position), 0) + 1 FROM released", |columns| {
        ledger.next_position = columns.number(0)?;
        Some(())
    })?;
    // A restart must not make the next write of `last_seq` late: what was reserved counts as used.
    ledger.highest = ledger.highest.max(ledger.reserved);
    Ok(ledger)
}

/// One row of `queue`.
pub(super) fn account(columns: &Columns<'_>) -> Option<(u16, Account)> {
    let sum = |at| columns.number(at).filter(|sum| *sum <= MAX_SUM);
    let account = Account {
        deleted_to: sum(1)?,
        count: sum(2)?,
        bytes: sum(3)?,
        dead_count: sum(4)?,
        dead_bytes: sum(5)?,
        last: sum(6).filter(|last| *last <= Seq::MAX.0)?,
        last_pkid: columns.small(7)?,
    };
    (account.deleted_to <= account.last).then_some((columns.small(0)?, account))
}

impl Session<'_> {
    /// Everything that is kept, the rows only as sums.
    pub(super) fn recover(&mut self) -> Result<Recovered, Fault> {
        let conn = self.conn;
        let mut recovered = Recovered { last_seq: Seq(self.ledger.highest), ..Recovered::default() };
        let accounts: Vec<(u16, Account)> =
            self.ledger.iter().filter(|(_, account)| account.count > 0).map(|(dest, a)| (dest, *a)).collect();
        for (dest, account) in accounts {
            let first = self.first(dest, &account)?;
            let first =
                first.ok_or_else(|| Fault::Damaged(format!("the rows of destination {dest} are missing")))?;
            recovered.queues.push(StoredQueue {
                dest: DestId(dest),
                count: account.count,
                bytes: cost(account.count, account.bytes),
                first: Seq(first),
                last: Seq(account.last),
                last_pkid: account.last_pkid,
            });
        }
        for_each(conn, "SELECT kind, key, value FROM record ORDER BY kind, key", |columns| {
            let kind = record_kind(columns.number(0)?)?;
            recovered.records.push((kind, columns.blob(1)?.into(), columns.blob(2)?.into()));
            Some(())
        })?;
        for_each(conn, "SELECT * FROM retained ORDER BY topic", |columns| {
            recovered.retained.push(columns.retained()?);
            Some(())
        })?;
        for_each(conn, "SELECT dest, pkid, held FROM released ORDER BY position", |columns| {
            let held = Seq(columns.number(2).unwrap_or(0));
            recovered.released.push(Due { dest: DestId(columns.small(0)?), pkid: columns.small(1)?, held });
            Some(())
        })?;
        for_each(conn, "SELECT dest, pkid FROM received ORDER BY dest, pkid", |columns| {
            recovered.received.push((DestId(columns.small(0)?), columns.small(1)?));
            Some(())
        })?;
        Ok(recovered)
    }

    /// Reads the whole file: structure, sums against rows, and each row that is alive.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        let found: String = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            // SQLite heads its findings with the name of the database, which says nothing here.
            let findings: Vec<&str> = found.lines().filter(|line| !line.starts_with("***")).collect();
            return Err(Fault::Damaged(findings.join("; ")));
        }
        let accounts: Vec<(u16, Account)> = self.ledger.iter().map(|(dest, account)| (dest, *account)).collect();
        let mut rows = 0;
        for (dest, account) in accounts {
            let (count, bytes) = self.sum(key(dest, account.deleted_to), key(dest, Seq::MAX.0))?;
            let (dead_count, _) = self.sum(key(dest, 0) - 1, key(dest, account.deleted_to))?;
            rows += count + dead_count;
            if (count, bytes, dead_count) != (account.count, account.bytes, account.dead_count) {
                return Err(Fault::Damaged(format!("the sums of destination {dest} do not match its rows")));
            }
        }
        let all: u64 = self.conn.query_row("SELECT count(*) FROM message", [], |row| unsigned(row, 0))?;
        if all != rows {
            return Err(Fault::Damaged("rows without a queue".to_owned()));
        }
        for_each(self.conn, LIVE_ROWS, |columns| columns.delivery_and_message(1).map(|_| ()))
    }
}

/// Hands each row of a query to `take`; a row that it does not understand is damage.
fn for_each(conn: &Connection, sql: &str, mut take: impl FnMut(&Columns<'_>) -> Option<()>) -> Result<(), Fault> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(&Columns::of(row)).ok_or_else(|| Fault::Damaged(format!("a row of \"{sql}\"")))?;
    }
    Ok(())
}
