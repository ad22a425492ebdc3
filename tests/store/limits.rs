//! A full file, a second instance, a directory that is not there, and what a person finds in the file.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::channel;

use moteway::config::Durability;
use moteway::queue::{Batch, DestId, Op, Reply, Seq};
use moteway::store::{Command, Database, Options, Store, StoreError, SubmitError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{append, apply, options, read_all, seqs};

#[test]
fn a_full_file_refuses_a_batch_and_takes_the_next_after_a_delete() {
    let dir = TempDir::new().unwrap();
    let small = Options { max_bytes: 1 << 20, durability: Durability::None, ..options(dir.path()) };
    let (mut database, _) = Database::open(&small).unwrap();
    let mut seq = 0;
    let mut fill = |database: &mut Database, from: u64| {
        loop {
            assert!(seq < from + 20_000, "the file never fills");
            let ops = (1..=50).map(|n| append(1, seq + n)).collect();
            if let Err(error) = apply(database, 1, ops) {
                assert!(error.contains("full"), "{error}");
                return seq;
            }
            seq += 50;
        }
    };
    let stored = fill(&mut database, 0);
    assert!(stored > 1000, "only {stored} rows fit");
    assert_eq!(seqs(&mut database, 1), (1..=stored).collect::<Vec<_>>());
    apply(&mut database, 2, vec![Op::DeleteUpTo { dest: DestId(1), seq: Seq(stored / 2) }]).unwrap();
    let again = fill(&mut database, stored);
    assert!(again - stored > stored / 3, "only {} of {stored} rows of room came back", again - stored);
    database.close().unwrap();
    let (mut database, found) = Database::open(&small).unwrap();
    assert_eq!(found.damage, None);
    assert_eq!(seqs(&mut database, 1), (stored / 2 + 1..=again).collect::<Vec<_>>());
    let size: u64 = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= 1 << 20, "{size} octets in use");
}

/// What only leads to deletions is taken by a full file too, or nothing would ever leave it.
#[test]
fn a_full_file_takes_the_pubrecs_of_a_large_window() {
    let dir = TempDir::new().unwrap();
    let small = Options { max_bytes: 1 << 20, durability: Durability::None, ..options(dir.path()) };
    let (mut database, _) = Database::open(&small).unwrap();
    let mut seq = 0;
    for rows in [50, 1] {
        while apply(&mut database, 1, (1..=rows).map(|n| append(1, seq + n)).collect()).is_ok() {
            seq += rows;
        }
    }
    assert!(seq > 1000, "only {seq} rows fit");
    for window in 0..2 {
        let hold = |n: u16| Op::Hold { dest: DestId(1), seq: Seq(u64::from(n)), pkid: 0x8000 + n };
        apply(&mut database, 2, (1..=1000).map(hold).collect()).unwrap();
        let complete = |n: u16| Op::Complete { dest: DestId(1), pkid: 0x8000 + n };
        let over = (1..=1000).map(complete).chain([Op::DeleteUpTo { dest: DestId(1), seq: Seq(window) }]);
        apply(&mut database, 3, over.collect()).unwrap();
    }
    database.close().unwrap();
    let size: u64 = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= 1 << 20, "{size} octets in use");
}

const LIMITED: &str = "MOTEWAY_TEST_LIMITED_DIR";

/// Not a test by itself: runs alone in a process, because its limit on the size of files holds for all of it.
#[test]
fn child_whose_writes_fail() {
    let Some(dir) = std::env::var_os(LIMITED) else { return };
    let options = options(dir.as_ref());
    let (mut database, _) = Database::open(&options).unwrap();
    // The signal would end the process; without it the write fails.
    SigSet::from_iter([Signal::SIGXFSZ]).thread_block().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let mut stored = Vec::new();
    let mut session = database.session();
    for id in 1..=60 {
        let failing = id % 6 == 0;
        // The log grows with each batch, so from its present size on it cannot be written.
        let soft = if failing { dir_size(&options) / 8 } else { hard };
        setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
        let first = id * 1000;
        let result = session.apply(&Batch { id, ops: (first..first + 300).map(|seq| append(1, seq)).collect() });
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
        assert_eq!(result.is_err(), failing, "batch {id}: {result:?}");
        if result.is_ok() {
            stored.extend(first..first + 300);
        }
        let rows = session.read(&read_all(1, 0)).unwrap();
        assert!(rows.iter().map(|row| row.seq.0).eq(stored.iter().copied()), "after batch {id}");
    }
    drop(session);
    drop(database);
    let (mut database, found) = Database::open(&options).unwrap();
    assert_eq!(found.damage, None);
    assert_eq!(seqs(&mut database, 1), stored);
    println!("all is well");
}

fn dir_size(options: &Options) -> u64 {
    let files = std::fs::read_dir(&options.dir).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_batch_that_cannot_be_written_leaves_no_trace_and_the_next_is_tried_afresh() {
    let dir = TempDir::new().unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::child_whose_writes_fail", "--nocapture"])
        .env(LIMITED, dir.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout);
    assert!(out.contains("all is well"), "{out}\n{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn the_file_shrinks_after_a_long_queue_was_drained() {
    let dir = TempDir::new().unwrap();
    let large = Options { durability: Durability::None, ..options(dir.path()) };
    let (mut database, _) = Database::open(&large).unwrap();
    for batch in 0..200_u64 {
        apply(&mut database, batch, (1..=500).map(|n| append(1, batch * 500 + n)).collect()).unwrap();
    }
    apply(&mut database, 999, vec![Op::DeleteUpTo { dest: DestId(1), seq: Seq(99_990) }]).unwrap();
    let file = dir.path().join("moteway.db");
    let before = file.metadata().unwrap().len();
    let mut steps = 0;
    while database.session().shrink().unwrap() {
        steps += 1;
        assert!(steps < 1000, "it never ends");
    }
    database.session().checkpoint().unwrap();
    let after = file.metadata().unwrap().len();
    assert!(before > 12 << 20 && after < 8 << 20, "{before} octets became {after}");
    assert_eq!(seqs(&mut database, 1), (99_991..=100_000).collect::<Vec<_>>());
}

#[test]
fn a_second_instance_is_told_who_is_first() {
    let dir = TempDir::new().unwrap();
    let first = Database::open(&options(dir.path())).unwrap();
    let error = Database::open(&options(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::InUse { pid: Some(_), .. }));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    Database::open(&options(dir.path())).unwrap();
}

#[test]
fn a_missing_directory_is_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("nowhere");
    let text = Database::open(&options(&missing)).unwrap_err().to_string();
    assert!(text.contains("nowhere") && text.contains("state_dir"), "{text}");
}

const READ_ONLY: &str = "MOTEWAY_TEST_READ_ONLY_DIR";

/// Not a test by itself: runs where the directory is mounted read-only.
#[test]
fn child_on_a_read_only_disk() {
    let Some(dir) = std::env::var_os(READ_ONLY) else { return };
    println!("said: {}", Database::open(&options(dir.as_ref())).unwrap_err());
}

#[test]
fn a_disk_that_is_mounted_read_only_is_told_with_a_remedy_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    apply(&mut database, 1, vec![append(1, 1)]).unwrap();
    database.close().unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    let child = std::process::Command::new("unshare")
        .args(if is_root { &["-m"][..] } else { &["-U", "-r", "-m"][..] })
        .args([
            "sh",
            "-ec",
            "mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\"; exec \"$2\" --exact \"$3\" --nocapture",
            "sh",
        ])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg("limits::child_on_a_read_only_disk")
        .env(READ_ONLY, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let named = format!("said: {}", dir.path().display());
    assert!(
        said.contains(&named) && said.contains("not mounted read-only"),
        "{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    assert_eq!(seqs(&mut database, 1), [1]);
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    apply(&mut database, 1, vec![append(1, 1)]).unwrap();
    database.close().unwrap();
    let conn = Connection::open(dir.path().join("moteway.db")).unwrap();
    conn.execute_batch("PRAGMA user_version = 99; UPDATE meta SET value = 99 WHERE name = 'schema'").unwrap();
    drop(conn);
    let error = Database::open(&options(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(!dir.path().join("moteway.db.damaged-1").exists());
}

#[test]
fn files_are_private_and_a_person_can_read_the_queue() {
    let dir = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    apply(&mut database, 1, vec![append(3, 1), append(3, 2), append(3, 3)]).unwrap();
    let bury = Op::Bury { dest: DestId(3), seq: Seq(2), reason: "too large".to_owned() };
    apply(&mut database, 2, vec![Op::DeleteUpTo { dest: DestId(3), seq: Seq(1) }, bury]).unwrap();
    for name in ["moteway.db", "moteway.db-wal", "moteway.lock"] {
        let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    database.close().unwrap();
    let conn = Connection::open(dir.path().join("moteway.db")).unwrap();
    let queued = "SELECT dest || ' ' || seq || ' ' || topic || ' ' || received FROM queued";
    let rows: Vec<String> =
        conn.prepare(queued).unwrap().query_map([], |row| row.get(0)).unwrap().flatten().collect();
    assert_eq!(rows, ["3 3 site/room-3/temperature 2023-11-14 22:13:20"]);
    let dead: (i64, String) = conn
        .query_row("SELECT key & 0x7fffffffffff, reason FROM dead_letter", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert_eq!(dead, (2, "too large".to_owned()));
}

#[test]
fn a_full_hand_over_gives_the_command_back() {
    let dir = TempDir::new().unwrap();
    let (gate, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let on_reply = Box::new(move |_: Reply| wait.lock().unwrap().recv().unwrap_or_default());
    let (store, _) = Store::open(&Options { max_pending: 2, ..options(dir.path()) }, on_reply).unwrap();
    let batch = |id| Command::Commit(Batch { id, ops: vec![append(1, id)] });
    // The thread is stuck in its first reply; two more commands fit, perhaps one less while it picks up the first.
    let refused = (1..=4).map(|id| store.submit(batch(id))).filter(Result::is_err).count();
    assert!((1..=2).contains(&refused), "{refused}");
    assert!(matches!(store.submit(Command::Checkpoint), Err(SubmitError::Full(Command::Checkpoint))));
    drop(gate);
    store.close().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    assert_eq!(seqs(&mut database, 1).len(), 4 - refused);
}
