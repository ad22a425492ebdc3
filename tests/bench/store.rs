//! Measures the store: `cargo bench --bench store [-- quick]`. Every figure printed is measured in this run.
//!
//! * Octets written are those handed to files by `write` (`wchar` in `/proc/self/io`): the log, and the file at
//!   each checkpoint, the last one included. What a file system and a flash translation layer add is not seen.
//! * CPU is that of this thread, user and system (`RUSAGE_THREAD`); the file is written and synced by the same thread.
//! * Messages have 256 octets of payload and a topic of 24, unless the table says otherwise.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use moteway::config::Durability;
use moteway::mqtt::{Message, MessageParts, QoS};
use moteway::queue::{Batch, Delivery, DestId, Op, Read, Row, Seq};
use moteway::store::{Database, Options, PAGE_SIZE, Session};
use moteway::time::Wall;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tempfile::TempDir;

const DEST: DestId = DestId(1);

fn main() {
    let scale = if std::env::args().any(|arg| arg == "quick") { 10 } else { 1 };
    let dir = TempDir::new().expect("a temporary directory");
    println!("store: files in {}, page size {PAGE_SIZE}\n", dir.path().display());
    written(dir.path(), scale);
    speed(dir.path(), scale);
    start(dir.path(), scale);
}

/// Octets written per message, by page size and batch.
fn written(dir: &Path, scale: u64) {
    println!("octets written per message, stored and drained (256 B payload)");
    println!(
        "  steady: each batch is deleted while the next but one is stored; outage: all are stored, then drained"
    );
    println!("{:>6} {:>6} {:>12} {:>12} {:>14}", "page", "batch", "steady", "outage", "store only");
    for page_size in [1024, 2048, 4096] {
        for batch in [1, 10, 50, 200, 1000] {
            let messages = if batch == 1 { 20_000 } else { 200_000 } / scale;
            let options = options(dir, page_size, Durability::None);
            let steady = measure(&options, |session| {
                for (id, first) in (1..messages).step_by(as_usize(batch)).enumerate() {
                    let mut ops = appends(first, batch, 256);
                    ops.push(Op::DeleteUpTo { dest: DEST, seq: Seq(first.saturating_sub(batch + 1)) });
                    apply(session, id as u64, ops);
                }
                drain(session, messages, batch);
            });
            let store_only = measure(&options, |session| store(session, messages, batch, 256));
            let outage = measure(&options, |session| {
                store(session, messages, batch, 256);
                drain(session, messages, batch);
            });
            let [steady, outage, store_only] = [steady, outage, store_only].map(|octets| octets / messages);
            println!("{page_size:>6} {batch:>6} {steady:>12} {outage:>12} {store_only:>14}");
        }
    }
    println!();
}

/// Octets handed to files by `work` on a fresh store, the last checkpoint included.
fn measure(options: &Options, work: impl FnOnce(&mut Session<'_>)) -> u64 {
    remove_files(&options.dir);
    let (mut database, _) = Database::open(options).expect("the store opens");
    let before = io_written();
    work(&mut database.session());
    database.close().expect("the store closes");
    io_written() - before
}

/// Commits per second and CPU per message.
fn speed(dir: &Path, scale: u64) {
    println!("speed (256 B payload, synced at each commit)");
    println!(
        "{:>6} {:>6} {:>11} {:>11} {:>13} {:>12} {:>14}",
        "page", "batch", "commits/s", "messages/s", "store us CPU", "read us CPU", "delete us CPU"
    );
    let sizes = [1, 10, 50, 200, 1000].map(|batch| (PAGE_SIZE, batch));
    for (page_size, batch) in sizes.into_iter().chain([(1024, 1000), (2048, 1000), (4096, 1000)]) {
        let messages = (batch * 2000).min(400_000) / scale;
        remove_files(dir);
        let (mut database, _) = Database::open(&options(dir, page_size, Durability::PowerLoss)).expect("it opens");
        let mut session = database.session();
        let per_message = |cpu: f64| cpu / messages as f64;
        let (clock, cpu) = (Instant::now(), cpu_us());
        store(&mut session, messages, batch, 256);
        let (seconds, stored) = (clock.elapsed().as_secs_f64(), per_message(cpu_us() - cpu));
        let cpu = cpu_us();
        read_all(&mut session, messages);
        let read = per_message(cpu_us() - cpu);
        let cpu = cpu_us();
        drain(&mut session, messages, batch);
        let deleted = per_message(cpu_us() - cpu);
        let commits = messages.div_ceil(batch) as f64 / seconds;
        let rate = messages as f64 / seconds;
        println!(
            "{page_size:>6} {batch:>6} {commits:>11.0} {rate:>11.0} {stored:>13.2} {read:>12.2} {deleted:>14.2}"
        );
        drop(session);
        database.close().expect("it closes");
    }
    println!();
}

/// Time to open, and memory, with a long queue.
fn start(dir: &Path, scale: u64) {
    println!("start and memory (200 B payload; RSS is that of this process)");
    println!(
        "{:>9} {:>10} {:>10} {:>14} {:>11} {:>10} {:>14}",
        "rows", "file MB", "clean ms", "after kill ms", "salvage ms", "RSS kB", "RSS growth kB"
    );
    for rows in [0, 100_000 / scale, 1_000_000 / scale] {
        remove_files(dir);
        let options = options(dir, PAGE_SIZE, Durability::PowerLoss);
        let rss = rss_kb();
        let (mut database, _) = Database::open(&options).expect("it opens");
        store(&mut database.session(), rows, 1000, 200);
        let after = rss_kb();
        // What a kill leaves behind: the files as they are, with a log.
        let killed = TempDir::new().expect("a temporary directory");
        for name in ["moteway.db", "moteway.db-wal"] {
            std::fs::copy(dir.join(name), killed.path().join(name)).expect("files are copied");
        }
        database.close().expect("it closes");
        let file = dir.join("moteway.db").metadata().expect("the file is there").len() as f64 / 1e6;
        let clean = open_ms(&options, rows);
        let unclean = open_ms(&Options { dir: killed.path().to_owned(), ..options.clone() }, rows);
        // And when the first page is lost, so that everything must be carried over into a new file.
        let db = std::fs::OpenOptions::new().write(true).open(dir.join("moteway.db")).expect("the file is there");
        db.write_all_at(&[0; 2048], 0).expect("the file is written");
        let salvage = open_ms(&options, rows);
        let growth = after.saturating_sub(rss);
        println!("{rows:>9} {file:>10.1} {clean:>10.1} {unclean:>14.1} {salvage:>11.1} {after:>10} {growth:>14}");
    }
}

/// Milliseconds to open the store and know all sums.
fn open_ms(options: &Options, rows: u64) -> f64 {
    let clock = Instant::now();
    let (database, recovered) = Database::open(options).expect("it opens");
    let ms = clock.elapsed().as_secs_f64() * 1e3;
    assert_eq!(recovered.queues.iter().map(|queue| queue.count).sum::<u64>(), rows);
    drop(database);
    ms
}

fn store(session: &mut Session<'_>, messages: u64, batch: u64, payload: usize) {
    for (id, first) in (1..=messages).step_by(as_usize(batch)).enumerate() {
        apply(session, id as u64, appends(first, batch, payload));
    }
}

fn drain(session: &mut Session<'_>, messages: u64, batch: u64) {
    for (id, first) in (1..=messages).step_by(as_usize(batch)).enumerate() {
        apply(session, id as u64, vec![Op::DeleteUpTo { dest: DEST, seq: Seq(first + batch - 1) }]);
    }
}

fn read_all(session: &mut Session<'_>, messages: u64) {
    let (mut after, mut count) = (Seq(0), 0);
    loop {
        let read = Read { dest: DEST, after, max_rows: 1000, max_bytes: 1 << 20 };
        let rows = session.read(&read).expect("rows are read");
        let Some(last) = rows.last() else { break };
        (after, count) = (last.seq, count + rows.len() as u64);
    }
    assert!(count >= messages);
}

fn apply(session: &mut Session<'_>, id: u64, ops: Vec<Op>) {
    session.apply(&Batch { id, ops }).expect("the batch is committed");
}

fn appends(first: u64, count: u64, payload: usize) -> Vec<Op> {
    (first..first + count).map(|seq| Op::Append { dest: DEST, row: row(seq, payload) }).collect()
}

fn row(seq: u64, payload: usize) -> Row {
    let message = Message::new(MessageParts {
        topic: &format!("site/room-{:03}/temperature", seq % 1000)[..24],
        properties: &[],
        payload: &vec![seq.to_le_bytes()[0]; payload],
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at: Wall::from_millis(1_700_000_000_000 + seq),
        expires_at: None,
    });
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    Row { seq: Seq(seq), delivery, message: Arc::new(message) }
}

fn options(dir: &Path, page_size: u32, durability: Durability) -> Options {
    Options {
        dir: dir.to_owned(),
        max_bytes: 4 << 30,
        durability,
        page_size,
        max_dead_letters: 100,
        max_pending: 16,
    }
}

fn remove_files(dir: &Path) {
    for entry in std::fs::read_dir(dir).expect("the directory is there").flatten() {
        std::fs::remove_file(entry.path()).expect("the file is removed");
    }
}

/// `wchar`: octets this process handed to `write` and its kin.
fn io_written() -> u64 {
    proc_number("/proc/self/io", "wchar:")
}

fn rss_kb() -> u64 {
    proc_number("/proc/self/status", "VmRSS:")
}

fn proc_number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line is there");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn cpu_us() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("usage is known");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).expect("a small number")
}
