//! Each behaviour of a line by its name. Random schedules against a model are in `tests/sim`.

use std::sync::Arc;

use super::*;
use crate::config::{Config, WhenFull};
use crate::mqtt::{Message, MessageParts, QoS};
use crate::time::Duration;

const LIMITS: Limits = Limits { max_messages: 3, max_bytes: 1 << 20, when_full: WhenFull::DropOldest };

fn at(millis: u64) -> Now {
    Now { at: Instant::from_micros(millis * 1000), wall: Wall::from_millis(1_000_000 + millis) }
}

fn message(text: &str) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic: "t",
        properties: &[],
        payload: text.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at: Wall::default(),
        expires_at: None,
    }))
}

fn queues() -> Queues {
    Queues::new(&Config::default().store, &Recovered::default())
}

fn line(queues: &mut Queues, limits: Limits) -> DestId {
    let dest = queues.open(at(0), "rule:cloud/all", Owner::Session(1), limits).unwrap();
    queues.activate(dest);
    dest
}

fn push(queues: &mut Queues, now: Now, dest: DestId, qos: QoS, text: &str, token: u64) -> Outcome {
    let mut admission = queues.begin(Some(Token(token)));
    let delivery = Delivery { qos, ..Delivery::default() };
    queues.push(now, &mut admission, dest, delivery, &message(text));
    queues.finish(admission)
}

fn drain(queues: &mut Queues, now: Now) -> Vec<Output> {
    std::iter::from_fn(|| queues.poll_output(now)).filter(|output| !matches!(output, Output::Notice(_))).collect()
}

fn commit(queues: &mut Queues, now: Now) -> (Vec<Op>, Vec<Output>) {
    let mut outputs = drain(queues, now);
    let Some(Output::Commit(batch)) = outputs.pop() else { panic!("no batch in {outputs:?}") };
    queues.handle_reply(now, Reply::Committed { batch: batch.id });
    outputs.extend(drain(queues, now));
    (batch.ops, outputs)
}

fn payload(peeked: &Peeked) -> &str {
    std::str::from_utf8(peeked.message.payload()).unwrap()
}

#[test]
fn a_publish_is_settled_by_the_commit() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    assert_eq!(push(&mut queues, at(0), dest, QoS::AtLeastOnce, "a", 7), Outcome::Pending);
    assert_eq!(drain(&mut queues, at(1)), [], "neither settled nor committed before the interval is over");
    let (ops, outputs) = commit(&mut queues, at(300));
    assert!(matches!(ops.as_slice(), [Op::Put { .. }, Op::Append { .. }]), "{ops:?}");
    assert_eq!(outputs, [Output::Settled(Token(7))]);
}

#[test]
fn delivered_before_commit_is_never_written() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    commit(&mut queues, at(300));
    push(&mut queues, at(300), dest, QoS::AtLeastOnce, "a", 7);
    let peeked = queues.peek(at(301), dest).unwrap();
    queues.take(dest, peeked.seq);
    queues.acked(at(302), dest, peeked.seq);
    assert_eq!(drain(&mut queues, at(10_000)), [Output::Settled(Token(7))]);
    assert_eq!(queues.deadline(), None);
    assert_eq!(queues.depth(dest).messages, 0);
}

#[test]
fn oldest_gives_way_but_not_what_is_in_flight() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    for text in ["a", "b", "c"] {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, text, 0);
    }
    let first = queues.peek(at(0), dest).unwrap();
    queues.take(dest, first.seq);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "d", 0);
    assert_eq!(queues.stats(dest).dropped_oldest, 1);
    let order: Vec<String> = std::iter::from_fn(|| {
        let peeked = queues.peek(at(0), dest)?;
        queues.take(dest, peeked.seq);
        Some(payload(&peeked).to_owned())
    })
    .collect();
    assert_eq!((payload(&first), order), ("a", vec!["c".to_owned(), "d".to_owned()]));
    assert_eq!(queues.depth(dest).messages, 3);
}

#[test]
fn what_was_dropped_behind_one_in_flight_is_not_read_again() {
    let mut queues = queues();
    let dest = line(&mut queues, Limits { max_messages: 3, ..LIMITS });
    let large = "x".repeat(12 * 1024);
    for _ in 0..3 {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, &large, 0);
    }
    let first = queues.peek(at(0), dest).unwrap();
    queues.take(dest, first.seq);
    commit(&mut queues, at(300));
    // The second gives way, and the disk takes long to learn of it.
    push(&mut queues, at(300), dest, QoS::AtLeastOnce, &large, 0);
    assert_eq!(queues.stats(dest).dropped_oldest, 1);
    // What lies behind it leaves the memory with the receiver, and is read for the next.
    queues.deactivate(at(301), dest);
    queues.activate(dest);
    let reads: Vec<u64> = drain(&mut queues, at(301))
        .into_iter()
        .filter_map(|output| if let Output::Read(read) = output { Some(read.after.0) } else { None })
        .collect();
    assert_eq!(reads, [first.seq.0 + 1], "the row of the second is still there");
}

#[test]
fn reject_refuses_before_anything_is_stored() {
    let mut queues = queues();
    let dest = line(&mut queues, Limits { max_messages: 1, when_full: WhenFull::Reject, ..LIMITS });
    assert_eq!(queues.refuses(dest, 10), None);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "a", 0);
    assert_eq!(queues.refuses(dest, 10), Some(Refusal::Full));
}

#[test]
fn a_lost_link_sends_again_in_the_old_order() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    for text in ["a", "b", "c"] {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, text, 0);
    }
    let mut seqs = Vec::new();
    while let Some(peeked) = queues.peek(at(0), dest) {
        queues.take(dest, peeked.seq);
        seqs.push(peeked.seq);
    }
    queues.acked(at(0), dest, seqs[1]);
    queues.rewind(dest);
    let again: Vec<(String, bool)> = std::iter::from_fn(|| {
        let peeked = queues.peek(at(0), dest)?;
        queues.take(dest, peeked.seq);
        Some((payload(&peeked).to_owned(), peeked.sent_before))
    })
    .collect();
    assert_eq!(again, [("a".to_owned(), true), ("c".to_owned(), true)]);
}

#[test]
fn what_was_acknowledged_out_of_turn_goes_from_the_disk_by_itself() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    for text in ["a", "b"] {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, text, 0);
    }
    commit(&mut queues, at(300));
    let first = queues.peek(at(300), dest).unwrap();
    queues.take(dest, first.seq);
    let second = queues.peek(at(300), dest).unwrap();
    queues.take(dest, second.seq);
    queues.acked(at(300), dest, second.seq);
    let (ops, _) = commit(&mut queues, at(5_000));
    assert_eq!(ops, [Op::Delete { dest, seq: second.seq }]);
    assert_eq!(queues.depth(dest).messages, 1);
}

#[test]
fn qos_2_waits_for_its_identifier_to_be_durable() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    push(&mut queues, at(0), dest, QoS::ExactlyOnce, "a", 0);
    assert!(queues.peek(at(0), dest).is_none());
    commit(&mut queues, at(300));
    let peeked = queues.peek(at(300), dest).unwrap();
    assert_eq!(peeked.pkid, 1);
    queues.take(dest, peeked.seq);
    assert_eq!(queues.release(at(300), dest, peeked.seq, peeked.pkid, Token(9)), Outcome::Pending);
    let (ops, outputs) = commit(&mut queues, at(900));
    assert!(matches!(ops.as_slice(), [Op::Release { pkid: 1, .. }]), "{ops:?}");
    assert_eq!(outputs, [Output::Settled(Token(9))]);
    assert!(queues.releases(dest).eq([1]));
    queues.complete(at(900), dest, 1);
    assert_eq!(queues.releases(dest).count(), 0);
}

fn upstream_line(queues: &mut Queues) -> DestId {
    let owner = Owner::Upstream(config::UpstreamId(0));
    let dest = queues.open(at(0), "rule:cloud/all", owner, LIMITS).unwrap();
    queues.activate(dest);
    dest
}

/// Sends what waits and takes it as received.
fn send_and_release(queues: &mut Queues, now: Now, dest: DestId) -> Peeked {
    let peeked = queues.peek(now, dest).unwrap();
    queues.take(dest, peeked.seq);
    assert_eq!(queues.release(now, dest, peeked.seq, peeked.pkid, Token(9)), Outcome::Pending);
    peeked
}

#[test]
fn an_upstream_that_lost_its_session_between_pubrec_and_pubcomp_gets_the_message_again() {
    let mut queues = queues();
    let dest = upstream_line(&mut queues);
    for text in ["a", "b"] {
        push(&mut queues, at(0), dest, QoS::ExactlyOnce, text, 0);
    }
    commit(&mut queues, at(300));
    let first = send_and_release(&mut queues, at(300), dest);
    let (ops, _) = commit(&mut queues, at(600));
    assert_eq!(ops, [Op::Hold { dest, seq: first.seq, pkid: first.pkid }]);
    queues.deactivate(at(600), dest);
    queues.activate(dest);
    assert_eq!(payload(&queues.peek(at(600), dest).unwrap()), "b", "in the same session only PUBREL goes again");
    assert!(queues.safe_releases(dest).eq([first.pkid]));
    queues.renew(at(700), dest);
    let again = queues.peek(at(700), dest).unwrap();
    assert_eq!((payload(&again), again.sent_before, queues.releases(dest).count()), ("a", false, 0));
    send_and_release(&mut queues, at(700), dest);
    queues.complete(at(700), dest, first.pkid);
    let (ops, _) = commit(&mut queues, at(1_000));
    let delete = Op::DeleteUpTo { dest, seq: first.seq };
    let Op::Complete { .. } = ops[0] else { panic!("{ops:?}") };
    assert_eq!(ops[2..], [Op::Complete { dest, pkid: first.pkid }, delete], "together: {ops:?}");
    assert_eq!((queues.depth(dest).messages, queues.stats(dest).delivered), (1, 1));
}

#[test]
fn an_exchange_that_is_over_before_its_row_is_read_does_not_send_it_again() {
    let (key, name) = (Box::from([0, 0]), Box::from(&b"rule:cloud/all"[..]));
    let row = |seq| Row {
        seq: Seq(seq),
        delivery: Delivery {
            qos: QoS::ExactlyOnce,
            pkid: 0x8000 + u16::try_from(seq).unwrap(),
            ..Delivery::default()
        },
        message: message("a"),
    };
    let (dest, cost) = (DestId(0), message("a").cost() as u64);
    let due = |seq| Due { dest, pkid: row(seq).delivery.pkid, held: Seq(seq) };
    let stored = StoredQueue { dest, count: 3, bytes: 3 * cost, first: Seq(1), last: Seq(3), last_pkid: 0x8003 };
    let recovered = Recovered {
        last_seq: Seq(3),
        queues: vec![stored],
        records: vec![(RecordKind::Dest, key, name)],
        released: vec![due(1), due(2)],
        ..Recovered::default()
    };
    let mut queues = Queues::new(&Config::default().store, &recovered);
    assert_eq!(upstream_line(&mut queues), dest);
    queues.complete(at(0), dest, 0x8001);
    assert!(queues.safe_releases(dest).eq([0x8002]), "the one that is over is not repeated");
    queues.handle_reply(at(1), Reply::Rows { dest, after: Seq(0), rows: vec![row(1), row(2), row(3)] });
    assert_eq!(queues.peek(at(1), dest).unwrap().seq, Seq(3), "the second waits for PUBCOMP");
    queues.complete(at(1), dest, 0x8002);
    let (ops, _) = commit(&mut queues, at(600));
    let gone = |seq| Op::Delete { dest, seq: Seq(seq) };
    let over = |seq| Op::Complete { dest, pkid: row(seq).delivery.pkid };
    assert_eq!(ops, [gone(1), over(1), over(2), Op::DeleteUpTo { dest, seq: Seq(2) }]);
    let depth = queues.depth(dest);
    assert_eq!((depth.messages, depth.bytes, queues.stats(dest).delivered), (1, cost, 2));
}

#[test]
fn with_the_store_full_pubrel_goes_out_all_the_same() {
    let mut queues = queues();
    let dest = upstream_line(&mut queues);
    for text in ["a", "b"] {
        push(&mut queues, at(0), dest, QoS::ExactlyOnce, text, 0);
    }
    commit(&mut queues, at(300));
    push(&mut queues, at(300), dest, QoS::ExactlyOnce, "c", 0);
    let Some(Output::Commit(batch)) = drain(&mut queues, at(600)).pop() else { panic!("no batch") };
    let first = send_and_release(&mut queues, at(600), dest);
    queues.handle_reply(at(600), Reply::Failed { batch: batch.id, error: "full".to_owned() });
    let outputs = drain(&mut queues, at(2_000));
    let ops = vec![Op::Hold { dest, seq: first.seq, pkid: first.pkid }];
    assert_eq!(outputs[0], Output::Commit(Batch { id: Batch::RELIEF, ops }));
    queues.handle_reply(at(2_000), Reply::Committed { batch: Batch::RELIEF });
    assert_eq!(drain(&mut queues, at(2_000)), [Output::Settled(Token(9))], "or nothing would ever leave it");
    queues.handle_reply(at(2_000), Reply::Failed { batch: batch.id, error: "full".to_owned() });
    queues.complete(at(2_000), dest, first.pkid);
    let outputs = drain(&mut queues, at(4_000));
    let Output::Commit(Batch { id: Batch::RELIEF, ref ops }) = outputs[0] else { panic!("{outputs:?}") };
    assert_eq!(ops.last(), Some(&Op::DeleteUpTo { dest, seq: first.seq }));
}

#[test]
fn what_does_not_fit_the_window_is_read_back_in_order() {
    let mut settings = Config::default().store;
    settings.window_bytes = 1;
    let mut queues = Queues::new(&settings, &Recovered::default());
    let dest = line(&mut queues, LIMITS);
    for text in ["a", "b"] {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, text, 0);
    }
    let (ops, _) = commit(&mut queues, at(300));
    let first = queues.peek(at(300), dest).unwrap();
    queues.take(dest, first.seq);
    queues.acked(at(300), dest, first.seq);
    let outputs = drain(&mut queues, at(300));
    let [Output::Read(read)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(read.after, first.seq);
    let Some(Op::Append { row, .. }) = ops.into_iter().last() else { panic!() };
    queues.handle_reply(at(301), Reply::Rows { dest, after: read.after, rows: vec![row] });
    assert_eq!(queues.poll_ready(), Some((dest, Owner::Session(1))));
    assert_eq!(payload(&queues.peek(at(301), dest).unwrap()), "b");
}

#[test]
fn a_failing_disk_refuses_new_and_keeps_trying_the_old() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "a", 7);
    let outputs = drain(&mut queues, at(300));
    let [Output::Commit(batch)] = outputs.as_slice() else { panic!("{outputs:?}") };
    queues.handle_reply(at(301), Reply::Failed { batch: batch.id, error: "disk full".into() });
    assert_eq!(queues.refuses(dest, 1), Some(Refusal::Store));
    assert_eq!(drain(&mut queues, at(302)), []);
    let again = drain(&mut queues, at(1_400));
    assert_eq!(again, [Output::Commit(batch.clone())]);
    queues.handle_reply(at(1_401), Reply::Committed { batch: batch.id });
    assert_eq!(drain(&mut queues, at(1_401)), [Output::Settled(Token(7))]);
    assert_eq!(queues.refuses(dest, 1), None);
}

#[test]
fn of_a_record_that_changes_again_and_again_only_the_newest_waits() {
    let mut queues = queues();
    let mut put = |value: &[u8], token| queues.put(at(0), RecordKind::Session, b"c", value, token);
    assert_eq!(put(b"one", Some(Token(1))), Outcome::Pending);
    assert_eq!(put(b"two", None), Outcome::Done);
    for n in 0..1000 {
        assert_eq!(put(&[7; 1000], Some(Token(n))), Outcome::Pending);
    }
    assert!(queues.pending_bytes() < 2000, "{}", queues.pending_bytes());
    let (ops, settled) = commit(&mut queues, at(300));
    let record = Op::Put { kind: RecordKind::Session, key: b"c"[..].into(), value: [7; 1000].into() };
    assert_eq!((ops, settled.len()), (vec![record], 1001));
    // The next batch begins with nothing.
    queues.delete_record(at(300), RecordKind::Session, b"c", None);
    let (ops, _) = commit(&mut queues, at(900));
    assert_eq!(ops, [Op::Remove { kind: RecordKind::Session, key: b"c"[..].into() }]);
}

#[test]
fn an_expired_message_is_counted_and_skipped() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    let mut admission = queues.begin(None);
    let mut expiring = (*message("a")).clone();
    expiring.expires_at = Some(at(0).wall + Duration::from_secs(1));
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    queues.push(at(0), &mut admission, dest, delivery, &Arc::new(expiring));
    assert!(queues.peek(at(999), dest).is_some());
    assert!(queues.peek(at(1_000), dest).is_none());
    assert_eq!((queues.stats(dest).expired, queues.depth(dest)), (1, Depth::default()));
}

#[test]
fn a_receiver_that_never_acknowledges_does_not_hold_what_is_dropped_behind_it() {
    let mut queues = queues();
    let dest = queues.open_in_memory(Owner::Session(1), LIMITS).unwrap();
    queues.activate(dest);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "in flight", 0);
    let first = queues.peek(at(0), dest).unwrap();
    queues.take(dest, first.seq);
    for _ in 0..1000 {
        push(&mut queues, at(0), dest, QoS::AtLeastOnce, "waiting", 0);
    }
    assert_eq!((queues.depth(dest).messages, queues.stats(dest).dropped_oldest), (3, 998));
    assert_eq!(queues.memory() as u64, queues.depth(dest).bytes);
    queues.acked(at(0), dest, first.seq);
    assert_eq!((queues.depth(dest).messages, queues.memory() as u64), (2, queues.depth(dest).bytes));
    queues.remove(at(0), dest);
    assert_eq!(queues.memory(), 0);
}

#[test]
fn lines_in_memory_share_what_there_is_and_leave_room_for_one_more() {
    let mut settings = Config::default().store;
    settings.max_memory_bytes = 1 << 20;
    let mut queues = Queues::new(&settings, &Recovered::default());
    let limits = Limits { max_messages: u64::MAX, max_bytes: u64::MAX, when_full: WhenFull::DropOldest };
    let text = "x".repeat(1000);
    let fill = |queues: &mut Queues, dest| {
        for _ in 0..2000 {
            push(queues, at(0), dest, QoS::AtLeastOnce, &text, 0);
        }
        queues.depth(dest).bytes
    };
    let lines: Vec<DestId> =
        (0..9).map(|owner| queues.open_in_memory(Owner::Session(owner), limits).unwrap()).collect();
    let alone = fill(&mut queues, lines[0]);
    assert!((1 << 18..=1 << 19).contains(&alone), "{alone}: half, and the other half is left");
    for dest in &lines[1..] {
        assert!(fill(&mut queues, *dest) >= 14 * 1024, "however many there are, each gets something");
    }
    assert!(queues.memory() <= (1 << 20) + 9 * 16 * 1024, "{}", queues.memory());
    // Every message dropped was counted, and QoS 0 makes no stored message go.
    let durable = line(&mut queues, limits);
    push(&mut queues, at(0), durable, QoS::AtLeastOnce, "stored", 0);
    let before = queues.stats(durable);
    for _ in 0..100 {
        push(&mut queues, at(0), durable, QoS::AtMostOnce, &text, 0);
    }
    let after = queues.stats(durable);
    assert!(after.dropped_qos0 > 50 && after.dropped_oldest == before.dropped_oldest, "{after:?}");
}

#[test]
fn what_makes_room_goes_before_a_batch_that_does_not_fit() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "a", 1);
    commit(&mut queues, at(300));
    push(&mut queues, at(300), dest, QoS::AtLeastOnce, "b", 2);
    let outputs = drain(&mut queues, at(600));
    let [Output::Commit(full)] = outputs.as_slice() else { panic!("{outputs:?}") };
    queues.handle_reply(at(601), Reply::Failed { batch: full.id, error: "file full".into() });
    let first = queues.peek(at(601), dest).unwrap();
    queues.take(dest, first.seq);
    queues.acked(at(602), dest, first.seq);
    let outputs = drain(&mut queues, at(1_700));
    let delete = Op::DeleteUpTo { dest, seq: first.seq };
    let relief = Batch { id: Batch::RELIEF, ops: vec![delete.clone()] };
    assert_eq!(outputs, [Output::Commit(relief), Output::Commit(full.clone())]);
    queues.handle_reply(at(1_701), Reply::Committed { batch: Batch::RELIEF });
    assert_eq!(drain(&mut queues, at(1_701)), [], "nobody waits for that");
    queues.handle_reply(at(1_702), Reply::Committed { batch: full.id });
    let outputs = drain(&mut queues, at(9_000));
    assert_eq!(outputs, [Output::Settled(Token(2)), Output::Commit(Batch { id: full.id + 1, ops: vec![delete] })]);
}

fn publish(queues: &mut Queues, dest: DestId, topic: &str, text: &str) {
    let mut admission = queues.begin(None);
    let message = Arc::new(Message::new(MessageParts {
        topic,
        properties: &[],
        payload: text.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at: Wall::default(),
        expires_at: None,
    }));
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    queues.push(at(0), &mut admission, dest, delivery, &message);
    queues.finish(admission);
}

fn next(queues: &mut Queues, dest: DestId) -> Option<String> {
    let peeked = queues.peek(at(0), dest)?;
    queues.take(dest, peeked.seq);
    queues.acked(at(0), dest, peeked.seq);
    Some(payload(&peeked).to_owned())
}

#[test]
fn what_comes_while_a_backlog_waits_takes_the_live_lane_and_both_keep_to_one_limit() {
    let mut queues = queues();
    let limits = Limits { max_messages: 5, ..LIMITS };
    let open = |queues: &mut Queues, name: &str| queues.open(at(0), name, Owner::Session(1), limits).unwrap();
    let (backlog, live) = (open(&mut queues, "rule:cloud/all"), open(&mut queues, "live:cloud/all"));
    queues.pair(backlog, Some(live));
    for text in ["1", "2", "3"] {
        publish(&mut queues, backlog, "t", text);
    }
    assert_eq!((queues.depth(backlog).messages, queues.depth(live).messages), (3, 0), "nobody is there");
    queues.activate(backlog);
    queues.activate(live);
    for text in ["4", "5", "6"] {
        publish(&mut queues, backlog, "t", text);
    }
    assert_eq!((queues.depth(backlog).messages, queues.depth(live).messages), (2, 3), "the oldest went");
    assert_eq!((queues.stats(backlog).dropped_oldest, queues.stats(live).dropped_oldest), (1, 0));
    assert_eq!(next(&mut queues, live).as_deref(), Some("4"));
    assert_eq!([next(&mut queues, backlog), next(&mut queues, backlog)].map(Option::unwrap), ["2", "3"]);
    publish(&mut queues, backlog, "t", "7");
    let rest: Vec<String> = std::iter::from_fn(|| next(&mut queues, live)).collect();
    assert_eq!(rest, ["5", "6", "7"], "as long as the live lane has something, it keeps the order");
    publish(&mut queues, backlog, "t", "8");
    assert_eq!((next(&mut queues, live), next(&mut queues, backlog)), (None, Some("8".to_owned())));
}

#[test]
fn an_emptied_line_settles_counts_and_goes_on() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    push(&mut queues, at(0), dest, QoS::AtLeastOnce, "stored", 1);
    commit(&mut queues, at(300));
    push(&mut queues, at(300), dest, QoS::AtLeastOnce, "in hand", 2);
    let first = queues.peek(at(300), dest).unwrap();
    queues.take(dest, first.seq);
    assert_eq!(queues.purge(at(301), dest), 2);
    assert_eq!((queues.depth(dest), queues.memory(), queues.stats(dest).purged), (Depth::default(), 0, 2));
    let (ops, outputs) = commit(&mut queues, at(900));
    assert_eq!(ops, [Op::DeleteUpTo { dest, seq: queues.last_seq() }]);
    assert_eq!(outputs, [Output::Settled(Token(2))]);
    queues.acked(at(901), dest, first.seq);
    push(&mut queues, at(901), dest, QoS::AtLeastOnce, "new", 3);
    assert_eq!(payload(&queues.peek(at(902), dest).unwrap()), "new");
}

#[test]
fn numbers_count_what_is_dropped_too() {
    let mut queues = queues();
    let dest = line(&mut queues, Limits { max_messages: 2, ..LIMITS });
    publish(&mut queues, dest, "t", "before");
    assert_eq!(queues.peek(at(0), dest).unwrap().number, Number(0), "nobody asked for numbers");
    next(&mut queues, dest);
    queues.begin_epoch(0x1234_5677);
    queues.trace(dest, true);
    for text in ["1", "2", "3"] {
        publish(&mut queues, dest, "t", text);
    }
    let number = queues.peek(at(0), dest).unwrap().number;
    assert_eq!((number.epoch(), number.count()), (0x1234_5677, 2), "the first was dropped: a gap");
}

#[test]
fn what_came_before_the_clock_was_set_does_not_expire_with_it() {
    let mut queues = queues();
    let dest = line(&mut queues, LIMITS);
    let wrong = |secs: u64| Now { at: at(secs * 1000).at, wall: Wall::from_millis(secs * 1000) };
    let right = |secs: u64| Now { wall: Wall::from_millis(1_753_776_000_000 + secs * 1000), ..wrong(secs) };
    assert!(!queues.watch_clock(wrong(0)));
    let mut admission = queues.begin(None);
    let mut early = (*message("early")).clone();
    early.received_at = wrong(1).wall;
    early.expires_at = Some(wrong(61).wall);
    let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
    queues.push(wrong(1), &mut admission, dest, delivery, &Arc::new(early));
    assert!(queues.watch_clock(right(10)));
    let peeked = queues.peek(right(11), dest).expect("50 seconds are left");
    assert_eq!(peeked.message.received_at.shifted(peeked.shift), right(1).wall);
    assert!(queues.peek(right(62), dest).is_none());
    assert_eq!(queues.stats(dest).expired, 1);
}
