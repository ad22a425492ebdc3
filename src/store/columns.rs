//! Rows and messages as columns, and back.

use std::sync::Arc;

use rusqlite::Statement;
use rusqlite::types::ValueRef;

use crate::mqtt::{Message, MessageParts, QoS};
use crate::queue::{Delivery, DestId, Number, RecordKind, Row, Seq};
use crate::time::Wall;

const SEQ_BITS: u32 = 47;

/// Primary key of a row.
pub(super) fn key(dest: u16, seq: u64) -> i64 {
    (i64::from(dest) << SEQ_BITS) | signed(seq.min(Seq::MAX.0))
}

/// Destination and sequence number of a primary key.
pub(super) fn split(key: i64) -> (DestId, Seq) {
    (DestId(u16::try_from(key >> SEQ_BITS).unwrap_or(u16::MAX)), Seq(key.unsigned_abs() & Seq::MAX.0))
}

/// As SQLite keeps it. What does not fit is beyond any real clock or count.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A column that holds a count or a number that is never negative.
pub(super) fn unsigned(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// Octets of a message that are its own: [`Message::cost`] without the fixed part, which may differ between builds.
pub(super) fn raw_len(message: &Message) -> u64 {
    (message.topic().len() + message.properties().len() + message.payload().len()) as u64
}

/// What `count` messages of `raw` octets count for, as the sum of [`Message::cost`].
pub(super) fn cost(count: u64, raw: u64) -> u64 {
    raw + count * Message::FIXED_COST as u64
}

/// Binds a row to the thirteen parameters of `Sql::Append`.
pub(super) fn bind_row(statement: &mut Statement<'_>, dest: u16, row: &Row) -> rusqlite::Result<()> {
    let (delivery, message) = (&row.delivery, &*row.message);
    statement.raw_bind_parameter(1, key(dest, row.seq.0))?;
    statement.raw_bind_parameter(2, delivery.qos.as_u8())?;
    statement.raw_bind_parameter(3, delivery.retain)?;
    statement.raw_bind_parameter(4, message.qos.as_u8())?;
    statement.raw_bind_parameter(5, message.retain)?;
    statement.raw_bind_parameter(6, signed(message.received_at.as_millis()))?;
    statement.raw_bind_parameter(7, message.expires_at.map(|at| signed(at.as_millis())))?;
    statement.raw_bind_parameter(8, (delivery.pkid != 0).then_some(delivery.pkid))?;
    statement.raw_bind_parameter(9, ids_text(delivery))?;
    statement.raw_bind_parameter(10, message.topic())?;
    statement.raw_bind_parameter(11, some_bytes(message.properties()))?;
    statement.raw_bind_parameter(12, message.payload())?;
    statement.raw_bind_parameter(13, (delivery.number.0 != 0).then(|| signed(delivery.number.0)))
}

/// Binds a message to the seven parameters of `Sql::Retain`.
pub(super) fn bind_retained(statement: &mut Statement<'_>, message: &Message) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, message.topic())?;
    statement.raw_bind_parameter(2, message.qos.as_u8())?;
    statement.raw_bind_parameter(3, message.retain)?;
    statement.raw_bind_parameter(4, signed(message.received_at.as_millis()))?;
    statement.raw_bind_parameter(5, message.expires_at.map(|at| signed(at.as_millis())))?;
    statement.raw_bind_parameter(6, some_bytes(message.properties()))?;
    statement.raw_bind_parameter(7, message.payload())
}

/// The most columns that a table has.
pub(super) const MAX_COLUMNS: usize = 17;

/// The columns of a row, wherever they come from: a statement or the octets of a damaged page. Each getter answers
/// `None` if the column is not what it must be.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    pub values: [ValueRef<'a>; MAX_COLUMNS],
    pub len: usize,
}

impl<'a> Columns<'a> {
    pub(super) const EMPTY: Self = Self { values: [ValueRef::Null; MAX_COLUMNS], len: 0 };

    /// The columns of a statement's row.
    pub(super) fn of(row: &'a rusqlite::Row<'_>) -> Self {
        let mut columns = Self::EMPTY;
        while let Some(slot) = columns.values.get_mut(columns.len)
            && let Ok(value) = row.get_ref(columns.len)
        {
            *slot = value;
            columns.len += 1;
        }
        columns
    }

    fn get(&self, at: usize) -> Option<ValueRef<'a>> {
        self.values[..self.len].get(at).copied()
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, at: usize) -> Option<u64> {
        match self.get(at)? {
            ValueRef::Integer(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// A number that may be absent.
    fn maybe_number(&self, at: usize) -> Option<Option<u64>> {
        match self.get(at)? {
            ValueRef::Null => Some(None),
            _ => self.number(at).map(Some),
        }
    }

    pub(super) fn small(&self, at: usize) -> Option<u16> {
        u16::try_from(self.number(at)?).ok()
    }

    fn flag(&self, at: usize) -> Option<bool> {
        match self.number(at)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn qos(&self, at: usize) -> Option<QoS> {
        QoS::from_u8(u8::try_from(self.number(at)?).ok()?)
    }

    pub(super) fn blob(&self, at: usize) -> Option<&'a [u8]> {
        match self.get(at)? {
            ValueRef::Blob(bytes) => Some(bytes),
            ValueRef::Null => Some(&[]),
            _ => None,
        }
    }

    pub(super) fn text(&self, at: usize) -> Option<&'a str> {
        match self.get(at)? {
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// `qos` to `number` of `message`, starting at column `from`.
    pub(super) fn delivery_and_message(&self, from: usize) -> Option<(Delivery, Message)> {
        let (subscription_ids, share) = match self.get(from + 7)? {
            ValueRef::Null => Default::default(),
            _ => parse_ids(self.text(from + 7)?)?,
        };
        let delivery = Delivery {
            qos: self.qos(from)?,
            retain: self.flag(from + 1)?,
            pkid: u16::try_from(self.maybe_number(from + 6)?.unwrap_or(0)).ok()?,
            share,
            subscription_ids,
            // Rows of version 1 end before it.
            number: Number(self.number(from + 11).unwrap_or(0)),
        };
        let message = Message::new(MessageParts {
            qos: self.qos(from + 2)?,
            retain: self.flag(from + 3)?,
            received_at: Wall::from_millis(self.number(from + 4)?),
            expires_at: self.maybe_number(from + 5)?.map(Wall::from_millis),
            topic: self.text(from + 8)?,
            properties: self.blob(from + 9)?,
            payload: self.blob(from + 10)?,
        });
        Some((delivery, message))
    }

    /// A row of `message`, the key given apart.
    pub(super) fn row(&self, key: i64) -> Option<Row> {
        let (delivery, message) = self.delivery_and_message(1)?;
        Some(Row { seq: split(key).1, delivery, message: Arc::new(message) })
    }

    /// A row of `retained`.
    pub(super) fn retained(&self) -> Option<Message> {
        Some(Message::new(MessageParts {
            topic: self.text(0)?,
            qos: self.qos(1)?,
            retain: self.flag(2)?,
            received_at: Wall::from_millis(self.number(3)?),
            expires_at: self.maybe_number(4)?.map(Wall::from_millis),
            properties: self.blob(5)?,
            payload: self.blob(6)?,
        }))
    }
}

/// The kind of a record by its number.
pub(super) fn record_kind(number: u64) -> Option<RecordKind> {
    const KINDS: [RecordKind; 5] =
        [RecordKind::Meta, RecordKind::Dest, RecordKind::Session, RecordKind::SnClient, RecordKind::Upstream];
    KINDS.into_iter().find(|kind| u64::from(*kind as u8) == number)
}

fn some_bytes(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// Subscription identifiers as a person reads them, and the shared subscription behind an `@`: `3,17`, `3@9`, `@9`.
fn ids_text(delivery: &Delivery) -> Option<String> {
    if delivery.subscription_ids.is_empty() && delivery.share == 0 {
        return None;
    }
    let ids = delivery.subscription_ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    Some(if delivery.share == 0 { ids } else { format!("{ids}@{}", delivery.share) })
}

fn parse_ids(text: &str) -> Option<(Box<[u32]>, u32)> {
    let (ids, share) = text.split_once('@').unwrap_or((text, "0"));
    let ids =
        if ids.is_empty() { Some(Box::default()) } else { ids.split(',').map(|id| id.parse().ok()).collect() };
    Some((ids?, share.parse().ok()?))
}
