//! Dead letters, and the second look into an open file.

use std::time::Instant;

use moteway::queue::{DeadCount, Delivery, DestId, Look, Number, Op, RecordKind, Row, Seq};
use moteway::store::{Database, Inspector, Options};
use tempfile::TempDir;

use crate::support::{append, apply, options, seqs};

fn bury(seq: u64) -> Op {
    Op::Bury { dest: DestId(1), seq: Seq(seq), reason: format!("reason {seq}") }
}

fn named() -> Op {
    let value = b"rule:cloud/all".as_slice().into();
    Op::Put { kind: RecordKind::Dest, key: 1_u16.to_be_bytes().as_slice().into(), value }
}

#[test]
fn dead_letters_are_bounded_and_what_is_dropped_for_newer_ones_is_counted() {
    let dir = TempDir::new().unwrap();
    let few = Options { max_dead_letters: 10, ..options(dir.path()) };
    let (mut database, _) = Database::open(&few).unwrap();
    apply(&mut database, 1, (1..=30).map(|seq| append(1, seq)).chain([named()]).collect()).unwrap();
    for seq in 1..=25 {
        apply(&mut database, 1 + seq, vec![bury(seq)]).unwrap();
    }
    let look = Inspector::open(dir.path()).unwrap();
    assert_eq!(look.dead_count().unwrap(), DeadCount { kept: 10, dropped: 15 });
    let letters = look.dead(None, 0).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).next(), Some("reason 16"));
    assert!(letters.iter().all(|letter| letter.queue == "rule:cloud/all" && letter.buried_at.is_some()));
    // The list can be gone through in pieces, and by queue.
    assert_eq!(look.dead(Some("rule:cloud/all"), letters[7].id).unwrap().len(), 2);
    assert!(look.dead(Some("rule:cloud/other"), 0).unwrap().is_empty());
    // What goes back into its queue leaves in the same batch.
    let seq = 31;
    let delivery = Delivery { number: Number::new(7, 9), ..letters[0].delivery.clone() };
    let row = Row { seq: Seq(seq), delivery, message: std::sync::Arc::new(letters[0].message.clone()) };
    let back = vec![Op::Append { dest: DestId(1), row }, Op::Unbury { id: letters[0].id }];
    apply(&mut database, 99, back).unwrap();
    assert_eq!(look.dead_count().unwrap().kept, 9);
    let found = look.find("rule:cloud/all").unwrap().unwrap();
    let rows = look.rows(found, Seq(30)).unwrap();
    assert_eq!(
        (rows.len(), rows[0].delivery.number, &rows[0].message.payload()[..1]),
        (1, Number::new(7, 9), &[16][..])
    );
    assert_eq!(look.find("rule:cloud/none").unwrap(), None);
}

const ROWS: u64 = 60_000;

/// Somebody looks through a long queue while messages go in and out: neither waits for the other, and no row is
/// missed or shown twice.
#[test]
fn a_long_list_is_read_in_pieces_while_the_store_goes_on() {
    let dir = TempDir::new().unwrap();
    let (mut database, _) = Database::open(&options(dir.path())).unwrap();
    for first in (1..ROWS).step_by(2_000) {
        let ops = (first..first + 2_000).map(|seq| append(1, seq)).chain([named()]).collect();
        apply(&mut database, first, ops).unwrap();
    }
    let look = Inspector::open(dir.path()).unwrap();
    let dest = look.find("rule:cloud/all").unwrap().unwrap();
    let begin = Instant::now();
    let first = look.rows(dest, Seq(0)).unwrap();
    println!("the first {} of {ROWS} rows after {:?}", first.len(), begin.elapsed());
    let (mut after, mut seen, mut next) = (Seq(0), Vec::new(), ROWS);
    loop {
        let rows = look.rows(dest, after).unwrap();
        let Some(last) = rows.last() else { break };
        after = last.seq;
        seen.extend(rows.iter().map(|row| row.seq.0).filter(|seq| *seq <= ROWS));
        if next < ROWS + 3_000 {
            next += 1;
            let ops = vec![append(1, next), Op::DeleteUpTo { dest: DestId(1), seq: Seq(next - ROWS) }];
            apply(&mut database, next, ops).unwrap();
            database.session().checkpoint().unwrap();
        }
    }
    assert_eq!(seen, (1..=ROWS).collect::<Vec<_>>(), "what is deleted meanwhile lies behind the reader");
    assert!(next > ROWS + 50, "it did go on meanwhile: {next}");
    assert_eq!(seqs(&mut database, 1).len() as u64, ROWS);
    drop(look);
    database.close().unwrap();
    assert!(!dir.path().join("moteway.db-wal").exists(), "closed in order");
}
