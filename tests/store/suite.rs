//! One suite, every store: what the contract in `queue` asks of whoever keeps the rows.

use moteway::mqtt::QoS;
use moteway::queue::{Batch, Delivery, DestId, Due, Number, Op, Read, RecordKind, Recovered, Reply, Row, Seq};

use crate::support::{append, message, read_all, row};

/// A store under test.
pub trait Subject {
    /// Commits a batch and waits for the answer.
    fn commit(&mut self, batch: Batch) -> Reply;
    /// Reads and waits for the answer.
    fn read(&mut self, read: Read) -> Reply;
    /// Stops in order and starts again on what is stored.
    fn reopen(&mut self) -> Recovered;
}

type Test = (&'static str, fn(&mut dyn Subject));
type Make<'a> = &'a dyn Fn() -> Box<dyn Subject>;

/// Runs everything, each test on a fresh store.
pub fn run(make: Make<'_>) {
    let tests: [Test; 10] = [
        ("rows come back whole and in order", rows_come_back_whole_and_in_order),
        ("a read keeps its limits but gives at least one row", a_read_keeps_its_limits),
        ("a deleted prefix is gone, the rest stays", a_deleted_prefix_is_gone),
        ("deleting what is not there does nothing", deleting_what_is_not_there_does_nothing),
        ("a restart finds counts, bytes and ends of each queue", a_restart_finds_the_sums),
        ("QoS 2 states survive a restart", qos2_states_survive),
        ("records and retained messages survive a restart, in order", records_and_retained_survive),
        ("clear forgets a destination and no other", clear_forgets_one_destination),
        ("sequence numbers are not used again after everything was deleted", sequence_numbers_are_remembered),
        ("a buried row has left its queue", a_buried_row_has_left),
    ];
    for (name, test) in tests {
        println!("{name}");
        test(&mut *make());
    }
}

fn commit(store: &mut dyn Subject, id: u64, ops: Vec<Op>) {
    assert_eq!(store.commit(Batch { id, ops }), Reply::Committed { batch: id });
}

fn rows(store: &mut dyn Subject, read: Read) -> Vec<Row> {
    match store.read(read) {
        Reply::Rows { dest, after, rows } => {
            assert_eq!((dest, after), (read.dest, read.after));
            rows
        }
        other => panic!("{other:?}"),
    }
}

fn seqs(store: &mut dyn Subject, dest: u16) -> Vec<u64> {
    rows(store, read_all(dest, 0)).iter().map(|row| row.seq.0).collect()
}

fn rows_come_back_whole_and_in_order(store: &mut dyn Subject) {
    let delivery = Delivery {
        qos: QoS::ExactlyOnce,
        retain: true,
        pkid: 77,
        share: u32::MAX,
        subscription_ids: Box::from([3, 268_435_455]),
        number: Number::new(3, 4),
    };
    let first = Row { seq: Seq(5), delivery, message: message(12, 3000) };
    let empty = Row { seq: Seq(9), delivery: Delivery::default(), message: message(1, 0) };
    let [a, b] = [first.clone(), empty.clone()].map(|row| Op::Append { dest: DestId(65_535), row });
    commit(store, 1, vec![a, append(1, 6), b]);
    assert_eq!(rows(store, read_all(65_535, 0)), [first, empty.clone()]);
    assert_eq!(rows(store, read_all(65_535, 5)), [empty]);
    assert_eq!(rows(store, read_all(1, 0)), [row(6, 100)]);
    assert_eq!(rows(store, read_all(0, 0)), []);
}

fn a_read_keeps_its_limits(store: &mut dyn Subject) {
    commit(store, 1, (1..=20).map(|seq| append(3, seq)).collect());
    let all = rows(store, read_all(3, 0));
    let cost = |rows: &[Row]| rows.iter().map(|row| row.message.cost()).sum::<usize>();
    assert_eq!(rows(store, Read { max_rows: 7, ..read_all(3, 2) }), all[2..9]);
    assert_eq!(rows(store, Read { max_bytes: cost(&all[..4]), ..read_all(3, 0) }), all[..4]);
    assert_eq!(rows(store, Read { max_bytes: cost(&all[..4]) + 1, ..read_all(3, 0) }), all[..4]);
    assert_eq!(rows(store, Read { max_bytes: 1, ..read_all(3, 0) }), all[..1]);
}

fn a_deleted_prefix_is_gone(store: &mut dyn Subject) {
    commit(store, 1, (1..=9).flat_map(|seq| [append(1, 2 * seq), append(2, 2 * seq + 1)]).collect());
    commit(store, 2, vec![Op::DeleteUpTo { dest: DestId(1), seq: Seq(9) }]);
    assert_eq!(seqs(store, 1), [10, 12, 14, 16, 18]);
    assert_eq!(seqs(store, 2).len(), 9);
    commit(store, 3, vec![Op::Delete { dest: DestId(1), seq: Seq(14) }, append(1, 20)]);
    assert_eq!(seqs(store, 1), [10, 12, 16, 18, 20]);
    store.reopen();
    assert_eq!(seqs(store, 1), [10, 12, 16, 18, 20]);
    commit(store, 4, vec![Op::DeleteUpTo { dest: DestId(1), seq: Seq(99) }, append(1, 21)]);
    assert_eq!(seqs(store, 1), [21]);
}

fn deleting_what_is_not_there_does_nothing(store: &mut dyn Subject) {
    let dest = DestId(4);
    commit(
        store,
        1,
        vec![
            Op::DeleteUpTo { dest, seq: Seq(8) },
            Op::Delete { dest, seq: Seq(8) },
            Op::Bury { dest, seq: Seq(8), reason: "never there".to_owned() },
            Op::Complete { dest, pkid: 1 },
            Op::Forget { dest, pkid: 1 },
            Op::Clear { dest },
            Op::Remove { kind: RecordKind::Session, key: Box::from(*b"x") },
            Op::Unretain { topic: "x".into() },
        ],
    );
    assert!(store.reopen().queues.is_empty());
}

fn a_restart_finds_the_sums(store: &mut dyn Subject) {
    commit(store, 1, (1..=50).map(|seq| append(1, seq)).chain((51..=60).map(|seq| append(7, seq))).collect());
    commit(store, 2, vec![Op::DeleteUpTo { dest: DestId(1), seq: Seq(20) }]);
    commit(
        store,
        3,
        vec![Op::Delete { dest: DestId(1), seq: Seq(30) }, Op::Delete { dest: DestId(7), seq: Seq(51) }],
    );
    let found = store.reopen();
    let ends: Vec<_> = found.queues.iter().map(|q| (q.dest.0, q.count, q.first.0, q.last.0)).collect();
    assert_eq!(ends, [(1, 29, 21, 50), (7, 9, 52, 60)]);
    for queue in &found.queues {
        let bytes: usize = rows(store, read_all(queue.dest.0, 0)).iter().map(|row| row.message.cost()).sum();
        assert_eq!(queue.bytes, bytes as u64);
    }
    assert!(found.last_seq >= Seq(60));
    assert_eq!(found.damage, None);
}

fn qos2_states_survive(store: &mut dyn Subject) {
    let dest = DestId(2);
    let outbound = |seq, pkid| Op::Append {
        dest,
        row: Row {
            seq: Seq(seq),
            delivery: Delivery { qos: QoS::ExactlyOnce, pkid, ..Delivery::default() },
            message: message(seq, 10),
        },
    };
    commit(store, 1, (1..=5).map(|n| outbound(n, 100 + u16::try_from(n).unwrap())).collect());
    commit(
        store,
        2,
        vec![Op::Release { dest, seq: Seq(2), pkid: 102 }, Op::Release { dest, seq: Seq(1), pkid: 101 }],
    );
    commit(store, 3, vec![Op::Release { dest, seq: Seq(3), pkid: 103 }, Op::Complete { dest, pkid: 101 }]);
    commit(store, 4, vec![Op::Hold { dest, seq: Seq(4), pkid: 104 }]);
    commit(
        store,
        5,
        vec![Op::Receive { dest, pkid: 9 }, Op::Receive { dest, pkid: 8 }, Op::Forget { dest, pkid: 9 }],
    );
    let found = store.reopen();
    let due = |pkid, held| Due { dest, pkid, held: Seq(held) };
    assert_eq!(found.released, [due(102, 0), due(103, 0), due(104, 4)]);
    assert_eq!(found.received, [(dest, 8)]);
    assert_eq!((found.queues[0].count, found.queues[0].last_pkid), (2, 105));
    assert_eq!(seqs(store, 2), [4, 5]);
}

fn records_and_retained_survive(store: &mut dyn Subject) {
    let put = |kind, key: &[u8], value: &[u8]| Op::Put { kind, key: key.into(), value: value.into() };
    let (warm, cold) = (message(1, 5), message(2, 4000));
    commit(
        store,
        1,
        vec![
            put(RecordKind::Upstream, b"cloud", b"{}"),
            put(RecordKind::Dest, &[0, 2], b"b"),
            put(RecordKind::Dest, &[0, 1], b"a"),
            put(RecordKind::Dest, &[0, 1], b""),
            put(RecordKind::Session, b"gone", b"x"),
            Op::Retain { message: cold.clone() },
            Op::Retain { message: message(1, 6) },
            Op::Retain { message: message(3, 6) },
        ],
    );
    commit(
        store,
        2,
        vec![
            Op::Remove { kind: RecordKind::Session, key: Box::from(*b"gone") },
            Op::Retain { message: warm.clone() },
            Op::Unretain { topic: message(3, 0).topic().into() },
        ],
    );
    let found = store.reopen();
    let record = |kind, key: &[u8], value: &[u8]| (kind, Box::from(key), Box::from(value));
    assert_eq!(
        found.records,
        [
            record(RecordKind::Dest, &[0, 1], b""),
            record(RecordKind::Dest, &[0, 2], b"b"),
            record(RecordKind::Upstream, b"cloud", b"{}"),
        ]
    );
    assert_eq!(found.retained, [(*warm).clone(), (*cold).clone()]);
}

fn clear_forgets_one_destination(store: &mut dyn Subject) {
    let states = |dest| [Op::Receive { dest, pkid: 5 }, Op::Release { dest, seq: Seq(1000), pkid: 6 }];
    commit(store, 1, (1..=40).map(|seq| append(1 + u16::from(seq % 2 == 0), seq)).collect());
    commit(store, 2, states(DestId(1)).into_iter().chain(states(DestId(2))).collect());
    commit(store, 3, vec![Op::Clear { dest: DestId(1) }, append(1, 41)]);
    let found = store.reopen();
    assert_eq!(seqs(store, 1), [41]);
    assert_eq!(seqs(store, 2).len(), 20);
    assert_eq!(
        (found.released, found.received),
        (vec![Due { dest: DestId(2), pkid: 6, held: Seq(0) }], vec![(DestId(2), 5)])
    );
}

fn sequence_numbers_are_remembered(store: &mut dyn Subject) {
    commit(store, 1, vec![append(1, 4711)]);
    commit(store, 2, vec![Op::Clear { dest: DestId(1) }]);
    assert!(store.reopen().last_seq >= Seq(4711));
    assert!(store.reopen().last_seq >= Seq(4711));
}

fn a_buried_row_has_left(store: &mut dyn Subject) {
    commit(store, 1, vec![append(1, 1), append(1, 2), append(1, 3)]);
    commit(store, 2, vec![Op::Bury { dest: DestId(1), seq: Seq(2), reason: "too large".to_owned() }]);
    assert_eq!(seqs(store, 1), [1, 3]);
    assert_eq!(store.reopen().queues[0].count, 2);
}
