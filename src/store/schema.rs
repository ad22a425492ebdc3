//! The tables, how they came to be, and every statement that runs more than once.

use rusqlite::{Connection, Statement};

use crate::store::fault::Fault;

/// `application_id` of the file: "mote" in ASCII, so that `file` and others can tell whose it is.
pub(super) const APPLICATION_ID: i64 = 0x6d6f_7465;

/// Version 1.
///
/// A row's key is its destination and sequence number, so each queue lies together, in order, and needs no index.
/// Small columns come first: a long payload then stays on its overflow pages unless it is asked for.
/// `queue` keeps the sums, so that nobody has to count rows. Rows up to `deleted_to` are dead: they are gone for
/// every purpose, and their space is used again by later rows.
const V1: &str = "
CREATE TABLE message(
  key INTEGER PRIMARY KEY,          -- destination << 47 | sequence number
  qos INTEGER, retain INTEGER,      -- as granted to the destination
  published_qos INTEGER, published_retain INTEGER,
  received_at INTEGER, expires_at INTEGER,  -- milliseconds since 1970
  pkid INTEGER, subscription_ids TEXT,
  topic TEXT, properties BLOB, payload BLOB);
CREATE TABLE queue(
  dest INTEGER PRIMARY KEY, deleted_to INTEGER, count INTEGER, bytes INTEGER,
  dead_count INTEGER, dead_bytes INTEGER, last INTEGER, last_pkid INTEGER);
CREATE TABLE dead_letter(
  id INTEGER PRIMARY KEY, key INTEGER, reason TEXT,
  qos INTEGER, retain INTEGER, published_qos INTEGER, published_retain INTEGER,
  received_at INTEGER, expires_at INTEGER, pkid INTEGER, subscription_ids TEXT,
  topic TEXT, properties BLOB, payload BLOB);
CREATE TABLE record(kind INTEGER, key BLOB, value BLOB, PRIMARY KEY(kind, key)) WITHOUT ROWID;
CREATE TABLE retained(topic TEXT PRIMARY KEY, qos INTEGER, retain INTEGER,
  received_at INTEGER, expires_at INTEGER, properties BLOB, payload BLOB) WITHOUT ROWID;
CREATE TABLE released(dest INTEGER, pkid INTEGER, position INTEGER, PRIMARY KEY(dest, pkid)) WITHOUT ROWID;
CREATE TABLE received(dest INTEGER, pkid INTEGER, PRIMARY KEY(dest, pkid)) WITHOUT ROWID;
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE VIEW queued AS
  SELECT dest, key & 0x7fffffffffff AS seq, topic, message.qos, retain,
         datetime(received_at / 1000.0, 'unixepoch') AS received,
         datetime(expires_at / 1000.0, 'unixepoch') AS expires, payload
  FROM queue JOIN message ON key > dest << 47 | deleted_to AND key <= dest << 47 | last;
";

/// Version 2: rows have their number in the rule's books. A dead letter knows its queue and its time.
const V2: &str = "
ALTER TABLE message ADD COLUMN number INTEGER;
ALTER TABLE dead_letter ADD COLUMN number INTEGER;
ALTER TABLE dead_letter ADD COLUMN queue TEXT;
ALTER TABLE dead_letter ADD COLUMN buried_at INTEGER;
";

/// Version 3: the row of a released message stays until the exchange is complete.
const V3: &str = "ALTER TABLE released ADD COLUMN held INTEGER;";

/// One step per version; a released step is never changed.
const MIGRATIONS: &[&str] = &[V1, V2, V3];

/// The version that this program writes.
#[expect(clippy::cast_possible_wrap, reason = "there are a few")]
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the file to [`VERSION`], or says that it is from the future.
pub(super) fn migrate(conn: &Connection) -> Result<(), Fault> {
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == VERSION {
        return Ok(());
    }
    if !(0..=VERSION).contains(&found) {
        // Believed only if it is written in two places: a flipped bit must not look like a later version.
        let confirmed =
            conn.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get::<_, i64>(0));
        return Err(match confirmed {
            Ok(confirmed) if confirmed == found => Fault::Newer(found),
            _ => Fault::Damaged(format!("schema version {found}")),
        });
    }
    for (step, version) in MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(found).unwrap_or(0)) {
        conn.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step}
             INSERT INTO meta(name, value) VALUES('schema', {version}) ON CONFLICT DO UPDATE SET value = excluded.value;
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// Statements that are prepared once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sql {
    Begin,
    Commit,
    Append,
    Rows,
    First,
    Size,
    Sum,
    Delete,
    DeadFromTop,
    DeleteRange,
    DeleteAll,
    Account,
    AccountGone,
    Bury,
    BuryLimit,
    BuryDropped,
    Unbury,
    Release,
    Complete,
    Receive,
    Forget,
    ClearReleased,
    ClearReceived,
    Put,
    Remove,
    Retain,
    Unretain,
    LastSeq,
    LogSize,
}

impl Sql {
    const COUNT: usize = Self::LogSize as usize + 1;

    /// What to prepare.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN IMMEDIATE",
            Self::Commit => "COMMIT",
            Self::Append => "INSERT INTO message VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            Self::Rows => "SELECT * FROM message WHERE key > ?1 AND key <= ?2 ORDER BY key",
            Self::First => "SELECT key FROM message WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT 1",
            Self::Size => {
                "SELECT octet_length(topic) + octet_length(payload) + ifnull(octet_length(properties), 0)
                 FROM message WHERE key = ?1"
            }
            Self::Sum => {
                "SELECT count(*),
                        ifnull(sum(octet_length(topic) + octet_length(payload) + ifnull(octet_length(properties), 0)), 0)
                 FROM message WHERE key > ?1 AND key <= ?2"
            }
            Self::Delete => "DELETE FROM message WHERE key = ?1",
            Self::DeadFromTop => {
                "SELECT key, octet_length(topic) + octet_length(payload) + ifnull(octet_length(properties), 0)
                 FROM message WHERE key >= ?1 AND key <= ?2 ORDER BY key DESC"
            }
            Self::DeleteRange => "DELETE FROM message WHERE key >= ?1 AND key <= ?2",
            Self::DeleteAll => "DELETE FROM message",
            Self::Account => "INSERT OR REPLACE INTO queue VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            Self::AccountGone => "DELETE FROM queue WHERE dest = ?1",
            Self::Bury => {
                "INSERT INTO dead_letter SELECT NULL, key, ?2, qos, retain, published_qos, published_retain,
                 received_at, expires_at, pkid, subscription_ids, topic, properties, payload, number,
                 (SELECT CAST(value AS TEXT) FROM record WHERE kind = 1 AND record.key = ?3),
                 CAST(unixepoch('subsec') * 1000 AS INTEGER)
                 FROM message WHERE key = ?1"
            }
            Self::BuryLimit => "DELETE FROM dead_letter WHERE id <= (SELECT max(id) FROM dead_letter) - ?1",
            Self::BuryDropped => {
                "INSERT INTO meta VALUES('dead_dropped', ?1) ON CONFLICT DO UPDATE SET value = value + excluded.value"
            }
            Self::Unbury => "DELETE FROM dead_letter WHERE id = ?1",
            Self::Release => "INSERT OR REPLACE INTO released VALUES(?1, ?2, ?3, ?4)",
            Self::Complete => "DELETE FROM released WHERE dest = ?1 AND pkid = ?2",
            Self::Receive => "INSERT OR IGNORE INTO received VALUES(?1, ?2)",
            Self::Forget => "DELETE FROM received WHERE dest = ?1 AND pkid = ?2",
            Self::ClearReleased => "DELETE FROM released WHERE dest = ?1",
            Self::ClearReceived => "DELETE FROM received WHERE dest = ?1",
            Self::Put => "INSERT OR REPLACE INTO record VALUES(?1, ?2, ?3)",
            Self::Remove => "DELETE FROM record WHERE kind = ?1 AND key = ?2",
            Self::Retain => "INSERT OR REPLACE INTO retained VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            Self::Unretain => "DELETE FROM retained WHERE topic = ?1",
            Self::LastSeq => "INSERT OR REPLACE INTO meta VALUES('last_seq', ?1)",
            Self::LogSize => "PRAGMA wal_checkpoint(NOOP)",
        }
    }
}

/// The prepared statements of one connection, each made when first used.
pub(super) struct Statements<'c> {
    conn: &'c Connection,
    slots: [Option<Statement<'c>>; Sql::COUNT],
}

impl<'c> Statements<'c> {
    pub(super) fn new(conn: &'c Connection) -> Self {
        Self { conn, slots: [const { None }; Sql::COUNT] }
    }

    /// The prepared form of `sql`.
    pub(super) fn get(&mut self, sql: Sql) -> rusqlite::Result<&mut Statement<'c>> {
        let slot = &mut self.slots[sql as usize];
        if slot.is_none() {
            *slot = Some(self.conn.prepare(sql.text())?);
        }
        slot.as_mut().ok_or(rusqlite::Error::InvalidQuery)
    }
}
