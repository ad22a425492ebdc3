//! Power cuts at every point of a run, on a disk that loses what was not synced, and tears it.
//!
//! A child writes batches under strace, which tells every write and every sync. From these the files are made as a
//! power cut at any of these points may leave them: what was synced is there; of what was not, anything may be, whole,
//! in part, or not at all. The store must open each of them without damage, with all that was committed by then and
//! nothing of a batch that was not.
//!
//! `MOTEWAY_CRASH_POINTS=N` tries that many (2 000 unless told), `MOTEWAY_CRASH_SEED=N` other batches.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use moteway::queue::{Batch, DestId, Op, Seq};
use moteway::store::{Database, Options};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{options, row, seqs};

const DIR: &str = "MOTEWAY_TEST_CRASH_DIR";
const SEED: &str = "MOTEWAY_CRASH_SEED";
const BATCHES: u64 = 220;
const DESTS: u16 = 3;
/// What a disk writes at once.
const SECTOR: usize = 512;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Small, so that the log is folded into the file again and again.
fn small(dir: &Path) -> Options {
    Options { max_bytes: 2 << 20, ..options(dir) }
}

/// Rows by destination.
type Rows = BTreeMap<u16, Vec<u64>>;

/// All batches, and what is stored after each.
fn batches() -> (Vec<Batch>, Vec<Rows>) {
    let mut rng = fastrand::Rng::with_seed(number(SEED, 3));
    let (mut rows, mut next) = (Rows::new(), 1);
    let (mut batches, mut after) = (Vec::new(), vec![Rows::new()]);
    for id in 1..=BATCHES {
        let mut ops = Vec::new();
        for _ in 0..rng.usize(1..12) {
            let dest = rng.u16(1..=DESTS);
            let of_dest = rows.entry(dest).or_default();
            match rng.u8(..10) {
                0..7 => {
                    ops.push(Op::Append { dest: DestId(dest), row: row(next, rng.usize(..3_000)) });
                    of_dest.push(next);
                    next += 1;
                }
                7..9 if of_dest.len() > 20 => {
                    let seq = of_dest[rng.usize(..of_dest.len())];
                    ops.push(Op::DeleteUpTo { dest: DestId(dest), seq: Seq(seq) });
                    of_dest.retain(|other| *other > seq);
                }
                _ if !of_dest.is_empty() => {
                    let seq = of_dest.remove(rng.usize(..of_dest.len()));
                    ops.push(Op::Delete { dest: DestId(dest), seq: Seq(seq) });
                }
                _ => {}
            }
        }
        rows.retain(|_, of_dest| !of_dest.is_empty());
        batches.push(Batch { id, ops });
        after.push(rows.clone());
    }
    (batches, after)
}

/// Not a test by itself: the child that is watched.
#[test]
fn child_that_is_watched_while_it_commits() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut database, _) = Database::open(&small(dir.as_ref())).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "mark 0").unwrap();
    for batch in batches().0 {
        database.session().apply(&batch).unwrap();
        writeln!(out, "mark {}", batch.id).unwrap();
        out.flush().unwrap();
    }
    // Without an orderly end.
    std::process::exit(0);
}

#[derive(Debug)]
enum Event {
    Write {
        file: usize,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: usize,
        len: usize,
    },
    Sync {
        file: usize,
    },
    /// So many batches were reported as committed.
    Mark(usize),
}

const FILES: [&str; 2] = ["moteway.db", "moteway.db-wal"];

/// Understands a line of strace, if it is about the files of the store or a mark.
fn event(line: &str) -> Option<Event> {
    let (call, rest) = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start()).split_once('(')?;
    if rest.ends_with("-1") || rest.contains(") = -1 ") {
        return None;
    }
    let (_, after) = rest.split_once('<')?;
    let (path, arguments) = after.split_once('>')?;
    let path = String::from_utf8(unhex(path)).ok()?;
    let file = FILES.iter().position(|name| path.ends_with(&format!("/{name}")));
    let numbers = |text: &str| -> Vec<usize> {
        text.split(')').next().unwrap_or_default().split(',').filter_map(|part| part.trim().parse().ok()).collect()
    };
    match (call, file) {
        ("pwrite64", Some(file)) => {
            let (text, rest) = arguments.strip_prefix(", \"")?.split_once('"')?;
            let (bytes, numbers) = (unhex(text), numbers(rest.strip_prefix(", ")?));
            assert_eq!(bytes.len(), numbers[0], "strace tells all that is written");
            Some(Event::Write { file, at: numbers[1], bytes })
        }
        ("ftruncate", Some(file)) => Some(Event::Truncate { file, len: numbers(arguments.strip_prefix(", ")?)[0] }),
        ("fsync" | "fdatasync", Some(file)) => Some(Event::Sync { file }),
        ("write", None) => {
            let text = String::from_utf8(unhex(arguments.strip_prefix(", \"")?.split_once('"')?.0)).ok()?;
            text.trim().strip_prefix("mark ")?.parse().ok().map(Event::Mark)
        }
        ("write" | "pwritev" | "writev" | "rename", Some(_)) => panic!("the store writes in another way: {call}"),
        _ => None,
    }
}

/// `\x6d\x61` as octets.
fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|octet| u8::from_str_radix(octet, 16).expect("two hexadecimal digits")).collect()
}

fn watch(dir: &Path) -> Vec<Event> {
    let trace = dir.join("trace");
    let status = Process::new("strace")
        .args(["-f", "-xx", "-y", "-s", "1000000", "-o"])
        .arg(&trace)
        .args(["-e", "trace=pwrite64,pwritev,write,writev,fsync,fdatasync,ftruncate"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_is_watched_while_it_commits", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::null())
        .status()
        .expect("strace is there: `apt-get install strace`");
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&trace).unwrap();
    std::fs::remove_file(trace).unwrap();
    text.lines().filter_map(event).collect()
}

/// A file as the disk has it, and what it was told since the last sync.
#[derive(Default)]
struct File<'e> {
    safe: Vec<u8>,
    pending: Vec<&'e Event>,
}

fn apply(content: &mut Vec<u8>, event: &Event, torn: impl Fn(usize) -> bool) {
    match event {
        Event::Write { at, bytes, .. } => {
            content.resize(content.len().max(at + bytes.len()), 0);
            for (sector, piece) in bytes.chunks(SECTOR).enumerate().filter(|(sector, _)| !torn(*sector)) {
                let from = at + sector * SECTOR;
                content[from..from + piece.len()].copy_from_slice(piece);
            }
        }
        Event::Truncate { len, .. } => content.resize(*len, 0),
        Event::Sync { .. } | Event::Mark(_) => unreachable!("these change nothing"),
    }
}

impl File<'_> {
    fn sync(&mut self) {
        for event in self.pending.drain(..) {
            apply(&mut self.safe, event, |_| false);
        }
    }

    /// What a power cut leaves.
    fn after_cut(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut content = self.safe.clone();
        let whole = rng.usize(..=self.pending.len());
        let mode = rng.u8(..4);
        for (n, event) in self.pending.iter().enumerate() {
            let kept = match mode {
                // The first so many, the last of them torn; any of them, each torn or not; none; all.
                0 => n <= whole,
                1 => rng.bool(),
                2 => false,
                _ => true,
            };
            if kept {
                let tears = (mode == 0 && n == whole) || (mode == 1 && rng.bool());
                let lost: Vec<bool> = (0..256).map(|_| tears && rng.bool()).collect();
                apply(&mut content, event, |sector| lost[sector % lost.len()]);
            }
        }
        content
    }
}

/// Opens what a power cut left, and says what is stored.
fn open(files: &[Vec<u8>; 2], point: usize) -> Rows {
    let dir = TempDir::new().unwrap();
    for (name, content) in FILES.iter().zip(files) {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let (mut database, found) = Database::open(&small(dir.path())).unwrap();
    assert_eq!(found.damage, None, "point {point}");
    let rows: Rows =
        (1..=DESTS).map(|dest| (dest, seqs(&mut database, dest))).filter(|(_, s)| !s.is_empty()).collect();
    let counts: Rows = found.queues.iter().map(|queue| (queue.dest.0, vec![queue.count])).collect();
    let counted = rows.iter().map(|(dest, seqs)| (*dest, vec![seqs.len() as u64])).collect();
    assert_eq!(counts, counted, "point {point}: the sums");
    database.close().unwrap();
    let conn = Connection::open(dir.path().join(FILES[0])).unwrap();
    let said: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok", "point {point}");
    rows
}

#[test]
fn a_power_cut_at_any_point_keeps_what_was_committed_and_damages_nothing() {
    let dir = TempDir::new().unwrap();
    let events = watch(dir.path());
    let after = batches().1;
    let begin = events.iter().position(|event| matches!(event, Event::Mark(0))).expect("it began");
    let points = usize::try_from(number("MOTEWAY_CRASH_POINTS", 2000)).unwrap();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut at: Vec<usize> = (0..points).map(|_| rng.usize(begin..=events.len())).collect();
    at.sort_unstable();
    let mut files: [File<'_>; 2] = Default::default();
    let (mut done, mut committed, mut more, mut torn) = (0, 0, 0, 0);
    for point in at {
        for event in &events[done..point] {
            match event {
                Event::Write { file, .. } | Event::Truncate { file, .. } => files[*file].pending.push(event),
                Event::Sync { file } => files[*file].sync(),
                Event::Mark(mark) => committed = *mark,
            }
        }
        done = point;
        torn += usize::from(files.iter().any(|file| !file.pending.is_empty()));
        let left = [files[0].after_cut(&mut rng), files[1].after_cut(&mut rng)];
        let rows = open(&left, point);
        // The batch that was under way may be there, whole.
        let found = (committed..after.len().min(committed + 2)).find(|count| after[*count] == rows);
        let found = found.unwrap_or_else(|| panic!("point {point}: after {committed} batches there is {rows:?}"));
        more += found - committed;
    }
    println!(
        "{} writes and syncs, {points} power cuts, {torn} with unsynced writes, {more} kept a batch more",
        events.len()
    );
    assert!(torn > points / 4 && more > 0, "cuts between batches prove little: {torn}, {more}");
    assert!(files[0].safe.len() > 100_000, "the log was never folded: {}", files[0].safe.len());
}
