//! SQLite's file format, as far as it takes to get rows out of a file that SQLite itself refuses to read.
//!
//! Everything is doubted: a page, cell or record that does not fit its own lengths is skipped. Nothing here can
//! loop or allocate beyond the size of the file. See "Database File Format" in SQLite's documentation.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::types::ValueRef;

use crate::store::columns::{Columns, MAX_COLUMNS};
use crate::store::wal::{self, Log};

/// A file and the log beside it, as numbered pages.
#[derive(Debug)]
pub(super) struct Image {
    db: File,
    wal: Option<File>,
    log: Log,
    pub page_size: u32,
    /// How many pages there are; their numbers start at 1.
    pub pages: u32,
}

impl Image {
    /// Opens both files for reading and takes pages of `page_size`.
    pub(super) fn open(db: &Path, wal: &Path, page_size: u32) -> std::io::Result<Self> {
        let db = File::open(db)?;
        let log = wal::scan(wal).unwrap_or_default();
        let log = if log.page_size == page_size { log } else { Log::default() };
        let in_db = db.metadata()?.len().div_ceil(u64::from(page_size));
        let in_log = log.pages.last_key_value().map_or(0, |(page, _)| *page);
        // A page number beyond what both files can hold is garbage, and must not make us count to four billion.
        let most = in_db + log.pages.len() as u64 + 65_536;
        let pages = u32::try_from(in_db.max(u64::from(in_log)).min(most)).unwrap_or(u32::MAX);
        Ok(Self { db, wal: File::open(wal).ok(), log, page_size, pages })
    }

    /// The octets of a page, zeros beyond the end of the file. `None` if it cannot be read.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        if number == 0 || number > self.pages {
            return None;
        }
        let mut page = vec![0; self.page_size as usize];
        if let (Some(offset), Some(wal)) = (self.log.pages.get(&number), &self.wal) {
            wal.read_exact_at(&mut page, *offset).ok()?;
            return Some(page);
        }
        let start = u64::from(number - 1) * u64::from(self.page_size);
        let mut filled = 0;
        while filled < page.len() {
            match self.db.read_at(&mut page[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(page)
    }

    /// Whether a page only tells where other pages belong (`auto_vacuum`).
    pub(super) fn is_pointer_map(&self, number: u32) -> bool {
        number >= 2 && (number - 2).is_multiple_of(self.page_size / 5 + 1)
    }

    /// Pages on the free list, as far as it can be followed.
    pub(super) fn free_pages(&self) -> Vec<u32> {
        let mut free = Vec::new();
        let mut trunk = self.page(1).map_or(0, |page| be32(&page, 32));
        while trunk != 0
            && free.len() < self.pages as usize
            && let Some(page) = self.page(trunk)
        {
            let count = (be32(&page, 4) as usize).min(page.len() / 4 - 2);
            free.push(trunk);
            free.extend((0..count).map(|leaf| be32(&page, 8 + 4 * leaf)));
            trunk = be32(&page, 0);
        }
        free
    }
}

/// What a b-tree page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TableInterior,
    TableLeaf,
    IndexInterior,
    IndexLeaf,
}

/// A page that claims to be part of a b-tree.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    octets: Vec<u8>,
    /// Where its header starts.
    header: usize,
}

impl Node {
    /// Reads page `number` as a b-tree page.
    pub(super) fn load(image: &Image, number: u32) -> Option<Self> {
        let octets = image.page(number)?;
        let header = if number == 1 { 100 } else { 0 };
        let kind = match octets.get(header)? {
            2 => Kind::IndexInterior,
            5 => Kind::TableInterior,
            10 => Kind::IndexLeaf,
            13 => Kind::TableLeaf,
            _ => return None,
        };
        Some(Self { kind, octets, header })
    }

    /// Offsets of its cells.
    fn cells(&self) -> impl Iterator<Item = usize> {
        let start = self.header + if self.is_interior() { 12 } else { 8 };
        let count = usize::from(be16(&self.octets, self.header + 3)).min(self.octets.len() / 4);
        (0..count).map(move |cell| usize::from(be16(&self.octets, start + 2 * cell)))
    }

    pub(super) fn is_interior(&self) -> bool {
        matches!(self.kind, Kind::TableInterior | Kind::IndexInterior)
    }

    /// Pages below this one.
    pub(super) fn children(&self) -> Vec<u32> {
        if !self.is_interior() {
            return Vec::new();
        }
        self.cells().map(|at| be32(&self.octets, at)).chain([be32(&self.octets, self.header + 8)]).collect()
    }

    /// Hands over each record on this page; the columns of a record that does not hold together are left out.
    /// Returns how many those were.
    pub(super) fn records(&self, image: &Image, mut take: impl FnMut(Columns<'_>)) -> u64 {
        if self.kind == Kind::TableInterior {
            return 0;
        }
        let mut bad = 0;
        for at in self.cells() {
            match self.payload(image, at) {
                Some((rowid, payload)) => match record(rowid, &payload) {
                    Some(columns) => take(columns),
                    None => bad += 1,
                },
                None => bad += 1,
            }
        }
        bad
    }

    /// Row number (of a table) and payload of the cell at an offset, overflow pages included.
    fn payload(&self, image: &Image, at: usize) -> Option<(Option<i64>, Vec<u8>)> {
        let mut input = self.octets.get(at..)?;
        if self.kind == Kind::IndexInterior {
            input = input.get(4..)?;
        }
        let len = usize::try_from(varint(&mut input)?).ok()?;
        let rowid = match self.kind {
            Kind::TableLeaf => Some(varint(&mut input)?),
            _ => None,
        };
        if len as u64 > u64::from(image.pages) * u64::from(image.page_size) {
            return None;
        }
        let usable = image.page_size as usize;
        let most = if rowid.is_some() { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if len <= most {
            return Some((rowid, input.get(..len)?.to_vec()));
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (len - least) % (usable - 4);
        let local = if fitting <= most { fitting } else { least };
        let mut payload = input.get(..local)?.to_vec();
        let mut next = be32(input.get(local..local + 4)?, 0);
        while payload.len() < len {
            let page = image.page(next)?;
            let piece = (len - payload.len()).min(usable - 4);
            payload.extend_from_slice(page.get(4..4 + piece)?);
            next = be32(&page, 0);
        }
        Some((rowid, payload))
    }
}

/// Splits a record into its columns. The first column of a table is its row number.
fn record(rowid: Option<i64>, payload: &[u8]) -> Option<Columns<'_>> {
    let mut input = payload;
    let header_len = usize::try_from(varint(&mut input)?).ok()?;
    let mut header = payload.get(payload.len() - input.len()..header_len)?;
    let mut body = payload.get(header_len..)?;
    let mut columns = Columns::EMPTY;
    while !header.is_empty() {
        let kind = varint(&mut header)?;
        if columns.len == MAX_COLUMNS {
            return None;
        }
        let value = match kind {
            0 => ValueRef::Null,
            1..=4 => integer(&mut body, usize::try_from(kind).ok()?)?,
            5 => integer(&mut body, 6)?,
            6 => integer(&mut body, 8)?,
            8 | 9 => ValueRef::Integer(kind - 8),
            12.. if kind % 2 == 0 => ValueRef::Blob(piece(&mut body, (kind - 12) / 2)?),
            13.. => ValueRef::Text(piece(&mut body, (kind - 13) / 2)?),
            _ => return None,
        };
        columns.values[columns.len] = value;
        columns.len += 1;
    }
    if let (Some(rowid), Some(first)) = (rowid, columns.values.first_mut()) {
        *first = ValueRef::Integer(rowid);
    }
    body.is_empty().then_some(columns)
}

fn piece<'a>(body: &mut &'a [u8], len: i64) -> Option<&'a [u8]> {
    let (piece, rest) = body.split_at_checked(usize::try_from(len).ok()?)?;
    *body = rest;
    Some(piece)
}

fn integer<'a>(body: &mut &'a [u8], len: usize) -> Option<ValueRef<'a>> {
    let (octets, rest) = body.split_at_checked(len)?;
    *body = rest;
    let sign = if octets.first()? & 0x80 == 0 { 0 } else { -1 };
    Some(ValueRef::Integer(octets.iter().fold(sign, |value, octet| (value << 8) | i64::from(*octet))))
}

/// One to nine octets, seven bits each, eight in the ninth.
fn varint(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0_i64;
    for at in 0..9 {
        let (octet, rest) = input.split_first()?;
        *input = rest;
        if at == 8 {
            return Some((value << 8) | i64::from(*octet));
        }
        value = (value << 7) | i64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}
