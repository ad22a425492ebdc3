//! What the store writes: pages to its log at each commit, and from there to its file.
//!
//! The figures follow from how SQLite lays out the tables of the store: rows of one queue lie together in leaves, and a
//! commit writes each page that it touched. `tests/store` holds them against what the store really writes.

use crate::config::WhenFull;
use crate::engine::drill::drain::DrainedRule;
use crate::engine::drill::fill::{Filled, Outcome};
use crate::engine::drill::{Commits, Disk, RuleTraffic};
use crate::time::Duration;

/// What a row has beside topic, properties and payload: its key, the kinds of its columns, when it came.
const ROW_BYTES: f64 = 32.0;
/// When it expires.
const EXPIRY_BYTES: f64 = 6.0;
/// Of a leaf.
const PAGE_HEAD: f64 = 8.0;
/// Of a page in the log.
const FRAME_HEAD: f64 = 24.0;
/// Pages that say where others are take so much of the file.
const INNER: f64 = 1.012;
/// The table of sums, which each commit changes.
const SUMS: f64 = 1.0;
/// Changed with the first new page of a commit: the page above, the map of pages, the head of the file.
const NEW_PAGES: f64 = 3.0;
/// Where rows of another queue lie behind those of this one, a full leaf is divided, with its neighbours, twice for each
/// leaf that is gained; in a large batch these are the same pages.
const DIVIDED: f64 = 7.0;
const MAX_DIVIDED: f64 = 5.0;
/// Changed when rows are taken out: the leaf at the border with its neighbours, what is above them, and their map.
const FREE_PAGES: f64 = 5.0;
/// Deletions are gathered, and space is taken back for so much at least.
const LAZY: f64 = 0.25;
const RECLAIM_BYTES: f64 = 8192.0;
/// What is reckoned for a row then.
const RECLAIM_ROW: f64 = 48.0;

/// How rows of one size lie in pages.
struct Rows {
    per_leaf: f64,
    /// Pages of its own for what of a row does not fit into a leaf.
    overflow: f64,
}

fn rows(raw: f64, ttl: Duration, disk: Disk) -> Rows {
    let page = disk.page_bytes as f64;
    let whole = raw + ROW_BYTES + if ttl.is_zero() { 0.0 } else { EXPIRY_BYTES };
    // The bounds of the file format of SQLite, section 1.6.
    let (most, least) = (page - 35.0, ((page - 12.0) * 32.0 / 255.0).floor() - 23.0);
    if whole <= most {
        return Rows { per_leaf: ((page - PAGE_HEAD) / whole).floor(), overflow: 0.0 };
    }
    let rest = least + (whole - least) % (page - 4.0);
    let local = if rest <= most { rest } else { least };
    let overflow = ((whole - local) / (page - 4.0)).ceil();
    Rows { per_leaf: ((page - PAGE_HEAD) / (local + 4.0)).floor().max(1.0), overflow }
}

/// Bytes of the file for a row.
pub(super) fn row_bytes(raw: f64, ttl: Duration, disk: Disk) -> f64 {
    let Rows { per_leaf, overflow } = rows(raw, ttl, disk);
    disk.page_bytes as f64 * (1.0 / per_leaf + overflow) * INNER
}

/// What comes into a queue while nothing changes.
struct Flow {
    per_second: f64,
    raw: f64,
    rows: Rows,
    /// For each that comes another goes.
    deletes: bool,
    /// No rows of another queue lie behind its own.
    is_last: bool,
}

/// Pages written to the log, and those of them that are not written again soon.
#[derive(Default)]
struct Written {
    frames: f64,
    cold: f64,
    /// Pages of rows that there are at the end.
    leaves: f64,
}

/// Bytes written while the queues fill.
pub(super) fn outage(rules: &[&RuleTraffic], filled: &Outcome, commits: Commits, disk: Disk) -> f64 {
    let mut times: Vec<f64> = filled.rules.iter().flat_map(|rule| [rule.level_at, rule.taken_for]).collect();
    times.sort_by(f64::total_cmp);
    let (mut from, mut written) = (0.0, Written { leaves: leaves(rules, filled, disk), ..Written::default() });
    let last = last(rules);
    for until in times {
        if until <= from {
            continue;
        }
        let flows = rules.iter().zip(&filled.rules).filter(|(_, filled)| from < filled.taken_for);
        let flows = flows.filter_map(|(rule, filled)| {
            let is_level = from >= filled.level_at;
            let stops = matches!(rule.limits.when_full, WhenFull::DropNewest | WhenFull::Reject);
            (!(is_level && stops)).then(|| flow(rule, is_level, last, disk))
        });
        written.add(&flows.collect::<Vec<_>>(), until - from, commits);
        from = until;
    }
    written.bytes(disk)
}

/// Bytes written while the backlog goes: what comes in meanwhile waits behind it, and what is gone is deleted. A rule of
/// which nothing waits any more writes nothing: its messages are delivered before they would be written.
pub(super) fn drain(
    rules: &[&RuleTraffic],
    filled: &Outcome,
    drained: &[DrainedRule],
    commits: Commits,
    disk: Disk,
) -> f64 {
    let until = |drained: &DrainedRule| drained.seconds.unwrap_or_default();
    let mut times: Vec<f64> = drained.iter().map(until).collect();
    times.sort_by(f64::total_cmp);
    let (mut from, last) = (0.0, last(rules));
    let mut written = Written { leaves: leaves(rules, filled, disk), ..Written::default() };
    for time in times {
        let waits = |(rule, drained): &(&&RuleTraffic, &DrainedRule)| until(drained) > from && !rule.live_first;
        let flows = rules.iter().zip(drained).filter(waits).map(|(rule, _)| flow(rule, true, last, disk));
        let flows: Vec<Flow> = flows.collect();
        if flows.iter().any(|flow| flow.per_second > 0.0) {
            written.add(&flows, time - from, commits);
        } else {
            written.frames += (time - from) / LAZY.max(commits.gather.as_secs_f64()) * SUMS;
        }
        from = time;
    }
    written.bytes(disk)
}

/// Whose rows lie behind those of all others.
fn last(rules: &[&RuleTraffic]) -> u16 {
    rules.iter().filter(|rule| rule.per_second > 0.0).map(|rule| rule.place).max().unwrap_or_default()
}

/// Pages of rows at the end of the outage.
fn leaves(rules: &[&RuleTraffic], filled: &Outcome, disk: Disk) -> f64 {
    let of = |(rule, filled): (&&RuleTraffic, &Filled)| {
        let Rows { per_leaf, overflow } = rows(rule.raw(), rule.ttl, disk);
        filled.waiting * (1.0 / per_leaf + overflow) + 1.0
    };
    rules.iter().zip(&filled.rules).map(of).sum()
}

fn flow(rule: &RuleTraffic, deletes: bool, last: u16, disk: Disk) -> Flow {
    Flow {
        per_second: rule.per_second,
        raw: rule.raw(),
        rows: rows(rule.raw(), rule.ttl, disk),
        deletes,
        is_last: rule.place >= last,
    }
}

impl Written {
    /// So many seconds with these flows.
    fn add(&mut self, flows: &[Flow], seconds: f64, commits: Commits) {
        let per_second: f64 = flows.iter().map(|flow| flow.per_second).sum();
        if per_second <= 0.0 {
            return;
        }
        // The first waits for company, and is committed with what came meanwhile.
        let batch = (1.0 + per_second * commits.gather.as_secs_f64()).min(commits.max_changes as f64);
        let (mut leaves, mut new, mut freed) = (0.0, 0.0_f64, 0.0_f64);
        for flow in flows {
            let own = batch * flow.per_second / per_second;
            leaves += own.min(1.0) + (own - 1.0).max(0.0) / flow.rows.per_leaf + own * flow.rows.overflow;
            new += own / flow.rows.per_leaf + own * flow.rows.overflow;
            if !flow.is_last {
                leaves += (DIVIDED * own / flow.rows.per_leaf).min(MAX_DIVIDED);
            }
            if flow.deletes {
                freed += own * (flow.raw + RECLAIM_ROW) / RECLAIM_BYTES;
            }
        }
        let freed = freed.min(1.0);
        let head = NEW_PAGES * new.min(1.0).max(freed);
        let count = seconds * per_second / batch;
        self.frames += count * (leaves + SUMS + head + FREE_PAGES * freed);
        self.cold += count * (new + FREE_PAGES * freed);
    }

    /// With what is copied from the log to the file each time that the log has grown to its bound.
    fn bytes(&self, disk: Disk) -> f64 {
        let page = disk.page_bytes as f64;
        let frame = page + FRAME_HEAD;
        let per_fold = (disk.log_bytes as f64 / frame).max(1.0);
        let folds = (self.frames / per_fold).floor();
        // No more than there are.
        let cold = if self.frames > 0.0 { (self.cold / self.frames * per_fold).min(self.leaves) } else { 0.0 };
        let copied = cold + NEW_PAGES + SUMS;
        self.frames * frame + folds * copied * page
    }
}
