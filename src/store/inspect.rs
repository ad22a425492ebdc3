//! A second look into the open file, for people: what lies in a queue, and what became a dead letter.
//!
//! It reads over a connection of its own that cannot write, page by page, each page in a transaction of its own. So
//! neither the writer nor the folding of the log waits for a reader, however long the list and however slow its reader.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::queue::{DeadCount, DeadLetter, DestId, Look, RecordKind, Row, Seq};
use crate::store::columns::{Columns, key, unsigned};
use crate::store::fault::Fault;
use crate::store::options::Paths;
use crate::time::Wall;

/// A read-only connection to the store of a running gateway.
#[derive(Debug)]
pub struct Inspector {
    conn: Connection,
}

/// A page has so many rows at most,
const MAX_ROWS: usize = 500;
/// and, after its first row, so many octets.
const MAX_BYTES: usize = 1 << 20;

impl Inspector {
    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// In words, if there is none.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<Self> {
            let conn = Connection::open_with_flags(Paths::new(dir).db, flags)?;
            conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -256; PRAGMA mmap_size = 0")?;
            Ok(Self { conn })
        };
        open().map_err(|error| error.to_string())
    }

    fn page<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        of: impl Fn(&Columns<'_>) -> Option<T>,
        cost: impl Fn(&T) -> usize,
    ) -> Result<Vec<T>, String> {
        let read = || -> Result<Vec<T>, Fault> {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query(params)?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while found.len() < MAX_ROWS && bytes < MAX_BYTES {
                let Some(row) = rows.next()? else { break };
                let one = of(&Columns::of(row)).ok_or_else(|| Fault::Damaged("a row".to_owned()))?;
                bytes += cost(&one);
                found.push(one);
            }
            Ok(found)
        };
        read().map_err(|fault| fault.to_string())
    }
}

impl Look for Inspector {
    fn find(&self, name: &str) -> Result<Option<DestId>, String> {
        let sql = "SELECT key FROM record WHERE kind = ?1 AND value = CAST(?2 AS BLOB)";
        let found: rusqlite::Result<Option<Vec<u8>>> =
            self.conn.query_row(sql, (RecordKind::Dest as u8, name), |row| row.get(0)).optional();
        let key = found.map_err(|error| error.to_string())?;
        Ok(key.and_then(|key| Some(DestId(u16::from_be_bytes(key.try_into().ok()?)))))
    }

    fn rows(&self, dest: DestId, after: Seq) -> Result<Vec<Row>, String> {
        self.page(
            "SELECT message.* FROM queue JOIN message
             ON message.key > max(?1, queue.dest << 47 | deleted_to) AND message.key <= queue.dest << 47 | last
             WHERE queue.dest = ?2 ORDER BY message.key",
            (key(dest.0, after.0), dest.0),
            |columns| columns.row(i64::try_from(columns.number(0)?).ok()?),
            |row| row.message.cost(),
        )
    }

    fn dead(&self, queue: Option<&str>, after: u64) -> Result<Vec<DeadLetter>, String> {
        self.page(
            "SELECT * FROM dead_letter WHERE id > ?1 AND (?2 IS NULL OR queue = ?2) ORDER BY id",
            (i64::try_from(after).unwrap_or(i64::MAX), queue),
            |columns| {
                let (delivery, message) = columns.delivery_and_message(3)?;
                Some(DeadLetter {
                    id: columns.number(0)?,
                    queue: columns.text(15).unwrap_or_default().to_owned(),
                    reason: columns.text(2)?.to_owned(),
                    buried_at: columns.number(16).map(Wall::from_millis),
                    delivery,
                    message,
                })
            },
            |letter| letter.message.cost(),
        )
    }

    fn dead_count(&self) -> Result<DeadCount, String> {
        let sql = "SELECT (SELECT count(*) FROM dead_letter),
                          ifnull((SELECT value FROM meta WHERE name = 'dead_dropped'), 0)";
        let count = self
            .conn
            .query_row(sql, [], |row| Ok(DeadCount { kept: unsigned(row, 0)?, dropped: unsigned(row, 1)? }));
        count.map_err(|error| error.to_string())
    }
}
