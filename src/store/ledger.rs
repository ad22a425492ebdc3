//! The sums of each queue, kept in memory and in the table `queue`, and what a failed batch takes back.

use std::collections::{BTreeMap, BTreeSet};

use crate::queue::Seq;

/// Sequence numbers that one write of `last_seq` covers.
const SEQ_BLOCK: u64 = 1 << 20;

/// One row of the table `queue`. Bytes are octets of topic, properties and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Account {
    /// Rows up to here are dead.
    pub deleted_to: u64,
    pub count: u64,
    pub bytes: u64,
    /// Rows that are dead and still take space.
    pub dead_count: u64,
    pub dead_bytes: u64,
    /// Newest row ever appended.
    pub last: u64,
    /// Packet identifier given out last.
    pub last_pkid: u16,
}

impl Account {
    /// Takes `count` rows out of the queue. They stay in the table, dead.
    pub(super) fn kill(&mut self, count: u64, bytes: u64) {
        self.take(count, bytes);
        self.dead_count += count;
        self.dead_bytes += bytes;
    }

    /// Takes `count` rows out of the queue and the table.
    pub(super) fn take(&mut self, count: u64, bytes: u64) {
        self.count = self.count.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Nothing that anybody could miss.
    fn is_void(&self) -> bool {
        self.count == 0 && self.dead_count == 0 && self.last_pkid == 0
    }
}

/// All accounts and their totals.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<u16, Account>,
    /// Destinations that have dead rows.
    with_dead: BTreeSet<u16>,
    /// Where rows died last: their pages are the ones most likely still in the log.
    warm: Option<u16>,
    total: Account,
    /// `last_seq` as stored: no sequence number above it was ever used.
    pub reserved: u64,
    /// Largest sequence number seen by this run.
    pub highest: u64,
    /// Order of releases.
    pub next_position: u64,
    undo: BTreeMap<u16, Option<Account>>,
    undo_reserved: u64,
}

impl Ledger {
    /// Takes an account as read from the file.
    pub(super) fn load(&mut self, dest: u16, account: Account) {
        self.highest = self.highest.max(account.last);
        self.put(dest, Some(account));
    }

    /// The account of `dest`, empty if there is none.
    pub(super) fn get(&self, dest: u16) -> Account {
        self.accounts.get(&dest).copied().unwrap_or_default()
    }

    /// Every account, in order of destination.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &Account)> {
        self.accounts.iter().map(|(dest, account)| (*dest, account))
    }

    /// Sums over all destinations; only the counts and bytes have a meaning.
    pub(super) fn total(&self) -> Account {
        self.total
    }

    /// A destination with dead rows, the warmest first.
    pub(super) fn dest_with_dead(&self) -> Option<u16> {
        self.warm.filter(|dest| self.with_dead.contains(dest)).or_else(|| self.with_dead.first().copied())
    }

    /// Destinations with dead rows.
    pub(super) fn all_with_dead(&self) -> Vec<u16> {
        self.with_dead.iter().copied().collect()
    }

    /// Begins a batch: from here on changes can be taken back.
    pub(super) fn begin(&mut self) {
        self.undo.clear();
        self.undo_reserved = self.reserved;
    }

    /// Changes an account.
    pub(super) fn change(&mut self, dest: u16, change: impl FnOnce(&mut Account)) {
        let before = self.accounts.get(&dest).copied();
        self.undo.entry(dest).or_insert(before);
        let mut account = before.unwrap_or_default();
        change(&mut account);
        if account.dead_count > before.unwrap_or_default().dead_count {
            self.warm = Some(dest);
        }
        self.put(dest, Some(account));
    }

    /// Notes that `seq` is used. Returns what `last_seq` must become, if it must change.
    pub(super) fn reserve(&mut self, seq: u64) -> Option<u64> {
        self.highest = self.highest.max(seq);
        if seq <= self.reserved {
            return None;
        }
        self.reserved = (seq | (SEQ_BLOCK - 1)).min(Seq::MAX.0);
        Some(self.reserved)
    }

    /// Accounts that this batch changed, as they have to be written; void ones are dropped (`None`).
    pub(super) fn changed(&mut self) -> Vec<(u16, Option<Account>)> {
        let touched: Vec<u16> = self.undo.keys().copied().collect();
        touched
            .into_iter()
            .filter_map(|dest| {
                let now = self.accounts.get(&dest).copied().filter(|account| !account.is_void());
                if now.is_none() {
                    self.put(dest, None);
                }
                (self.undo.get(&dest) != Some(&now)).then_some((dest, now))
            })
            .collect()
    }

    /// Takes the batch back.
    pub(super) fn roll_back(&mut self) {
        for (dest, account) in std::mem::take(&mut self.undo) {
            self.put(dest, account);
        }
        self.reserved = self.undo_reserved;
    }

    fn put(&mut self, dest: u16, account: Option<Account>) {
        let before = match account {
            Some(account) => self.accounts.insert(dest, account),
            None => self.accounts.remove(&dest),
        }
        .unwrap_or_default();
        let after = account.unwrap_or_default();
        self.total.count = self.total.count + after.count - before.count;
        self.total.bytes = self.total.bytes + after.bytes - before.bytes;
        self.total.dead_count = self.total.dead_count + after.dead_count - before.dead_count;
        self.total.dead_bytes = self.total.dead_bytes + after.dead_bytes - before.dead_bytes;
        if after.dead_count > 0 {
            self.with_dead.insert(dest);
        } else {
            self.with_dead.remove(&dest);
        }
    }
}
