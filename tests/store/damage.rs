//! Damaged files: each must open, keep what can be kept, and say what happened.

use std::fs;
use std::path::Path;

use moteway::mqtt::QoS;
use moteway::queue::{Delivery, DestId, Op, RecordKind, Recovered, Row, Seq};
use moteway::store::Database;
use tempfile::TempDir;

use crate::support::{append, apply, copy_files, message, options, read_all, row, seqs};

const ROWS: u64 = 600;
const DELETED: u64 = 100;

/// A directory as a power cut leaves it: part of the store in the file, the newest changes in the log.
fn specimen() -> TempDir {
    let work = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(work.path())).unwrap();
    let put = |n: u8| Op::Put { kind: RecordKind::Session, key: Box::from([b's', n]), value: vec![n; 500].into() };
    let retain = |n| Op::Retain { message: message(n, 300) };
    apply(&mut database, 1, (0..5).map(put).chain((0..5).map(retain)).collect()).unwrap();
    for batch in 0..ROWS / 50 {
        if batch == 8 {
            database.session().checkpoint().unwrap();
        }
        let appended = (1..=50).map(|n| append(if n % 5 == 0 { 2 } else { 1 }, batch * 50 + n));
        apply(&mut database, 2 + batch, appended.collect()).unwrap();
    }
    let delivery = Delivery { qos: QoS::ExactlyOnce, pkid: 9, ..Delivery::default() };
    let large = Row { seq: Seq(ROWS + 1), delivery, message: message(1, 30_000) };
    let delete = Op::DeleteUpTo { dest: DestId(1), seq: Seq(DELETED) };
    apply(&mut database, 90, vec![Op::Append { dest: DestId(3), row: large }, delete]).unwrap();
    let received =
        [Op::Receive { dest: DestId(1), pkid: 4 }, Op::Release { dest: DestId(1), seq: Seq(0), pkid: 5 }];
    apply(&mut database, 91, received.to_vec()).unwrap();
    let cut = TempDir::new().unwrap();
    copy_files(work.path(), cut.path());
    cut
}

/// The same after an orderly end.
fn closed_specimen() -> TempDir {
    let dir = specimen();
    Database::open(&options(dir.path())).unwrap().0.close().unwrap();
    assert!(!dir.path().join("moteway.db-wal").exists());
    dir
}

fn copy(from: &TempDir) -> TempDir {
    let to = TempDir::new().unwrap();
    copy_files(from.path(), to.path());
    to
}

/// Rows that a healthy specimen has, by destination.
fn expected(dest: u16) -> Vec<u64> {
    match dest {
        1 => (DELETED + 1..=ROWS).filter(|seq| seq % 5 != 0).collect(),
        2 => (1..=ROWS).filter(|seq| seq % 5 == 0).collect(),
        _ => vec![ROWS + 1],
    }
}

/// Opens, reads everything that can be read, writes something, opens again. Returns how many rows were there and
/// what was said.
fn survive(dir: &Path) -> (usize, Recovered) {
    let (mut database, found) = Database::open(&options(dir)).unwrap();
    let count = count_rows(&mut database, &found);
    assert!(found.queues.iter().all(|queue| queue.last <= found.last_seq));
    let next = found.last_seq.0 + 1;
    let written = apply(&mut database, 1, vec![append(900, next)]);
    let closed = database.close();
    let (mut database, again) = Database::open(&options(dir)).unwrap();
    if written.is_ok() && closed.is_ok() {
        assert_eq!(seqs(&mut database, 900), [next]);
    } else {
        assert!(again.damage.is_some(), "{written:?} {closed:?}, and the next start found nothing");
    }
    (count.max(count_rows(&mut database, &again)), found)
}

/// Reads all queues as far as they can be read.
fn count_rows(database: &mut Database, found: &Recovered) -> usize {
    let mut count = 0;
    for queue in found.queues.iter().filter(|queue| queue.dest.0 < 900) {
        if let Ok(rows) = database.session().read(&read_all(queue.dest.0, 0)) {
            count += rows.len();
            assert!(rows.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        }
    }
    count
}

#[test]
fn the_specimen_is_healthy() {
    for dir in [specimen(), closed_specimen()] {
        let (mut database, found) = Database::open(&options(dir.path())).unwrap();
        assert_eq!(found.damage, None);
        for dest in 1..=3 {
            assert_eq!(seqs(&mut database, dest), expected(dest));
        }
        assert_eq!((found.records.len(), found.retained.len()), (5, 5));
    }
}

#[test]
fn flipped_bytes_anywhere_never_stop_it_and_cost_little() {
    let healthy: usize = (1..=3).map(|dest| expected(dest).len()).sum();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut lost = 0;
    for (specimen, name) in
        [(closed_specimen(), "moteway.db"), (specimen(), "moteway.db"), (specimen(), "moteway.db-wal")]
    {
        for round in 0..60 {
            let dir = copy(&specimen);
            let path = dir.path().join(name);
            let mut octets = fs::read(&path).unwrap();
            let mut flips = Vec::new();
            for _ in 0..=rng.usize(..3) {
                let at = rng.usize(..octets.len());
                octets[at] ^= rng.u8(1..);
                flips.push(at);
            }
            fs::write(&path, octets).unwrap();
            let (count, found) = survive(dir.path());
            // Each flip may cost the rows of one page and, unnoticed, one that is larger than a page.
            let missing = healthy.saturating_sub(count);
            assert!(
                missing <= 40 * flips.len(),
                "{name} round {round}, flips at {flips:?}: {missing} lost, {found:?}"
            );
            lost += missing;
        }
    }
    assert!(lost < 180 * 4, "{lost} rows lost in 180 files");
}

#[test]
fn each_octet_of_the_header_may_be_anything() {
    let specimen = closed_specimen();
    for at in 0..100 {
        for value in [0x00, 0xff, 0x40] {
            let dir = copy(&specimen);
            let path = dir.path().join("moteway.db");
            let mut octets = fs::read(&path).unwrap();
            octets[at] = value;
            fs::write(&path, octets).unwrap();
            let (mut database, found) = Database::open(&options(dir.path())).unwrap();
            for dest in 1..=3 {
                assert_eq!(seqs(&mut database, dest), expected(dest), "octet {at} is {value}: {:?}", found.damage);
            }
            assert_eq!((found.records.len(), found.retained.len()), (5, 5), "octet {at}");
            assert_eq!((found.released.len(), found.received.len()), (1, 1), "octet {at}");
        }
    }
}

#[test]
fn a_lost_first_page_costs_no_rows() {
    let dir = closed_specimen();
    let path = dir.path().join("moteway.db");
    let mut octets = fs::read(&path).unwrap();
    octets[..1024].fill(0xa5);
    fs::write(&path, octets).unwrap();
    let (mut database, found) = Database::open(&options(dir.path())).unwrap();
    let damage = found.damage.unwrap();
    assert!(damage.contains("moteway.db.damaged-1") && damage.contains("kept 521 of 521 messages"), "{damage}");
    for dest in 1..=3 {
        assert_eq!(seqs(&mut database, dest), expected(dest));
    }
    let large = database.session().read(&read_all(3, 0)).unwrap();
    assert_eq!(large[0].message, message(1, 30_000));
    assert_eq!(database.session().read(&read_all(2, 5)).unwrap()[0], row(10, 100));
    assert!(dir.path().join("moteway.db.damaged-1").exists());
    drop(database);
    assert_eq!(Database::open(&options(dir.path())).unwrap().1.damage, None);
}

#[test]
fn every_truncation_opens() {
    for (specimen, name) in
        [(closed_specimen(), "moteway.db"), (specimen(), "moteway.db"), (specimen(), "moteway.db-wal")]
    {
        let len = specimen.path().join(name).metadata().unwrap().len();
        for step in 0..=24 {
            let dir = copy(&specimen);
            let file = fs::OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
            file.set_len((len * step / 24).saturating_sub(step % 3)).unwrap();
            survive(dir.path());
        }
    }
}

#[test]
fn a_truncated_file_keeps_the_rows_before_the_cut() {
    let dir = closed_specimen();
    let path = dir.path().join("moteway.db");
    let len = path.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
    let (count, found) = survive(dir.path());
    assert!(found.damage.is_some());
    assert!(count > 150, "{count} rows kept: {:?}", found.damage);
}

#[test]
fn garbage_in_place_of_the_file_or_the_log_opens() {
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..40 {
        let dir = specimen();
        let mut garbage = vec![0; rng.usize(1..60_000)];
        rng.fill(&mut garbage);
        let names: &[&str] =
            [&["moteway.db"][..], &["moteway.db-wal"], &["moteway.db", "moteway.db-wal"]][round % 3];
        for name in names {
            fs::write(dir.path().join(name), &garbage).unwrap();
        }
        let (_, found) = survive(dir.path());
        assert!(found.damage.is_some() || *names == ["moteway.db-wal"], "round {round}");
    }
}

#[test]
fn a_bad_frame_inside_the_log_does_not_take_later_commits_with_it() {
    let dir = specimen();
    let path = dir.path().join("moteway.db-wal");
    let mut octets = fs::read(&path).unwrap();
    octets[700] ^= 0x10;
    fs::write(&path, octets).unwrap();
    let (mut database, found) = Database::open(&options(dir.path())).unwrap();
    assert!(found.damage.unwrap().contains("write-ahead log"));
    let stored = seqs(&mut database, 1);
    assert_eq!(stored.last(), Some(&(ROWS - 1)));
    assert!(expected(1).len() - stored.len() <= 20, "{} rows kept", stored.len());
}

#[test]
fn a_log_torn_by_a_power_cut_is_not_damage() {
    let dir = specimen();
    let path = dir.path().join("moteway.db-wal");
    let octets = fs::read(&path).unwrap();
    fs::write(&path, &octets[..octets.len() - 1500]).unwrap();
    let (mut database, found) = Database::open(&options(dir.path())).unwrap();
    assert_eq!(found.damage, None);
    assert_eq!(seqs(&mut database, 2), expected(2));
}

#[test]
fn damage_met_while_running_is_repaired_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    let count = 20_000;
    for batch in 0..count / 500 {
        apply(&mut database, batch, (1..=500).map(|n| append(1, batch * 500 + n)).collect()).unwrap();
    }
    database.close().unwrap();
    let path = dir.path().join("moteway.db");
    let mut octets = fs::read(&path).unwrap();
    let middle = octets.len() / 2;
    octets[middle..middle + 16_384].fill(0xee);
    fs::write(&path, octets).unwrap();
    // Too large to be checked after an orderly end: the start does not notice.
    let (mut database, found) = Database::open(&options(dir.path())).unwrap();
    assert_eq!((found.damage, found.queues[0].count), (None, count));
    let before = seqs(&mut database, 1);
    assert!(!before.is_empty() && before.len() < 20_000, "{} rows before the damage", before.len());
    let error = database.session().read(&read_all(1, *before.last().unwrap())).unwrap_err();
    assert!(error.contains("damaged"), "{error}");
    drop(database);
    let (mut database, found) = Database::open(&options(dir.path())).unwrap();
    let stored = seqs(&mut database, 1);
    assert_eq!(found.queues[0].count, stored.len() as u64);
    assert!(stored.len() as u64 >= count - 150 && (stored.len() as u64) < count, "{} rows kept", stored.len());
    assert!(found.damage.unwrap().contains(&format!("kept {} of {count} messages", stored.len())));
}

#[test]
fn a_salvage_cut_short_is_finished_at_the_next_start() {
    let damaged = || {
        let dir = closed_specimen();
        let path = dir.path().join("moteway.db");
        let mut octets = fs::read(&path).unwrap();
        octets[..1024].fill(0);
        fs::write(&path, octets).unwrap();
        dir
    };
    // Cut while the new file was being written: it starts over.
    let dir = damaged();
    fs::write(dir.path().join("moteway.db.salvage"), b"half").unwrap();
    assert!(Database::open(&options(dir.path())).unwrap().1.damage.is_some());
    // Cut after the old file was moved away: the new one takes its place.
    let dir = specimen();
    let (database, _) = Database::open(&options(dir.path())).unwrap();
    database.close().unwrap();
    fs::rename(dir.path().join("moteway.db"), dir.path().join("moteway.db.salvage")).unwrap();
    fs::write(dir.path().join("moteway.db-wal"), b"log of the damaged file").unwrap();
    fs::write(dir.path().join("moteway.db.damaged-1"), b"the damaged file").unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    assert_eq!(seqs(&mut database, 1), expected(1));
    assert!(dir.path().join("moteway.db.damaged-1-wal").exists());
}

#[test]
fn only_so_many_damaged_files_are_kept() {
    let dir = TempDir::new().unwrap();
    for n in 1..=5_u64 {
        fs::write(dir.path().join("moteway.db"), vec![0xab; 5000]).unwrap();
        let (database, found) = Database::open(&options(dir.path())).unwrap();
        assert!(found.damage.unwrap().contains(&format!("damaged-{n}")));
        database.close().unwrap();
    }
    let kept: Vec<bool> = (1..=5).map(|n| dir.path().join(format!("moteway.db.damaged-{n}")).exists()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
}
