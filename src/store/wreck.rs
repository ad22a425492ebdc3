//! A damaged file, sorted: which of its pages hold rows of which table.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rusqlite::Connection;

use crate::store::columns::Columns;
use crate::store::fault::Fault;
use crate::store::options::{PAGE_SIZE, Paths};
use crate::store::pages::{Image, Kind, Node};
use crate::store::{schema, wal};

/// A table, told by the shape of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Message,
    Queue,
    DeadLetter,
    Record,
    Retained,
    Released,
    Received,
    Meta,
}

impl Table {
    const ALL: [Self; 8] = [
        Self::Message,
        Self::Queue,
        Self::DeadLetter,
        Self::Record,
        Self::Retained,
        Self::Released,
        Self::Received,
        Self::Meta,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Queue => "queue",
            Self::DeadLetter => "dead_letter",
            Self::Record => "record",
            Self::Retained => "retained",
            Self::Released => "released",
            Self::Received => "received",
            Self::Meta => "meta",
        }
    }

    /// Whose record this is, found on a page of this kind.
    fn of(kind: Kind, columns: &Columns<'_>) -> Option<Self> {
        let in_table = kind == Kind::TableLeaf;
        match columns.len {
            12 | 13 if in_table => Some(Self::Message),
            8 if in_table => Some(Self::Queue),
            14 | 17 if in_table => Some(Self::DeadLetter),
            7 if !in_table => Some(Self::Retained),
            3 | 4 if !in_table && columns.number(2).is_some() => Some(Self::Released),
            3 if !in_table => Some(Self::Record),
            2 if !in_table && columns.text(0).is_some() => Some(Self::Meta),
            2 if !in_table => Some(Self::Received),
            _ => None,
        }
    }
}

/// The damaged file and its map.
#[derive(Debug)]
pub(super) struct Wreck {
    image: Image,
    /// Pages with records, in the order in which they are believed.
    pages: BTreeMap<Table, Vec<u32>>,
}

impl Wreck {
    /// Looks at the file with the page sizes that it may have; the first that yields a record is right.
    pub(super) fn open(paths: &Paths) -> io::Result<Self> {
        let mut claimed = [0; 2];
        File::open(&paths.db)?.read_at(&mut claimed, 16)?;
        let claimed = u32::from(u16::from_be_bytes(claimed));
        let logged = wal::scan(&paths.wal).map_or(0, |log| log.page_size);
        for size in [claimed, logged, PAGE_SIZE, 1024, 4096] {
            if size.is_power_of_two() && (512..=65_536).contains(&size) {
                let wreck = Self::map(Image::open(&paths.db, &paths.wal, size)?);
                if wreck.has_records() {
                    return Ok(wreck);
                }
            }
        }
        Ok(Self { image: Image::open(&paths.db, &paths.wal, PAGE_SIZE)?, pages: BTreeMap::new() })
    }

    /// Hands over each record of a table. Returns how many could not be read.
    pub(super) fn each(&self, table: Table, mut take: impl FnMut(&Columns<'_>)) -> u64 {
        let mut bad = 0;
        for page in self.pages.get(&table).into_iter().flatten() {
            if let Some(node) = Node::load(&self.image, *page) {
                bad += node.records(&self.image, |columns| {
                    if Table::of(node.kind, &columns) == Some(table) {
                        take(&columns);
                    }
                });
            }
        }
        bad
    }

    fn has_records(&self) -> bool {
        let mut records = 0;
        for table in Table::ALL {
            if table != Table::Message {
                self.each(table, |_| records += 1);
            }
        }
        records > 0 || self.pages.get(&Table::Message).is_some_and(|pages| pages.len() > 1)
    }

    /// Follows each tree from its root. Where a tree is broken, pages that nobody else claims are searched for its
    /// leaves; they come last, because a page that fell out of a tree may be old.
    fn map(image: Image) -> Self {
        let mut claims = vec![false; image.pages as usize + 1];
        let mut pages = BTreeMap::new();
        let mut broken = Vec::new();
        let roots = roots(image.page_size).unwrap_or_default();
        for table in Table::ALL {
            let root = roots.get(table.name()).copied().unwrap_or(0);
            let (found, whole) = follow(&image, root, table, &mut claims);
            pages.insert(table, found);
            if !whole {
                broken.push(table);
            }
        }
        let mut wreck = Self { image, pages };
        if !broken.is_empty() {
            wreck.adopt_orphans(&broken, claims);
        }
        wreck
    }

    fn adopt_orphans(&mut self, broken: &[Table], mut claims: Vec<bool>) {
        for free in self.image.free_pages() {
            if let Some(claim) = claims.get_mut(free as usize) {
                *claim = true;
            }
        }
        for number in 2..=self.image.pages {
            if claims.get(number as usize) != Some(&false) || self.image.is_pointer_map(number) {
                continue;
            }
            let Some(node) = Node::load(&self.image, number) else { continue };
            let mut owner = None;
            node.records(&self.image, |columns| owner = owner.or(Table::of(node.kind, &columns)));
            if let Some(owner) = owner.filter(|owner| broken.contains(owner)) {
                self.pages.entry(owner).or_default().push(number);
            }
        }
    }
}

/// Pages with records of one tree, and whether all of it could be followed.
fn follow(image: &Image, root: u32, table: Table, claims: &mut [bool]) -> (Vec<u32>, bool) {
    let by_number = matches!(table, Table::Message | Table::Queue | Table::DeadLetter);
    let (mut found, mut whole, mut open) = (Vec::new(), true, vec![root]);
    while let Some(number) = open.pop() {
        let claim = claims.get_mut(number as usize).filter(|claimed| !**claimed && number > 1);
        let node = Node::load(image, number)
            .filter(|node| matches!(node.kind, Kind::TableInterior | Kind::TableLeaf) == by_number);
        let (Some(claim), Some(node)) = (claim, node) else {
            whole = false;
            continue;
        };
        *claim = true;
        open.extend(node.children().into_iter().rev());
        if node.kind != Kind::TableInterior {
            found.push(number);
        }
    }
    (found, whole)
}

/// Where the trees start. They are created in a fixed order in an empty file, so they always start at the same pages.
fn roots(page_size: u32) -> Result<BTreeMap<String, u32>, Fault> {
    let conn = Connection::open_in_memory()?;
    conn.execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = INCREMENTAL"))?;
    schema::migrate(&conn)?;
    let mut statement = conn.prepare("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'")?;
    let roots = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(roots.collect::<rusqlite::Result<_>>()?)
}
