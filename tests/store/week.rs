//! A week without an upstream, in virtual time: ten messages a second into the queue and the file, which keep to their
//! limits, and memory that does not grow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use moteway::config::{Config, Durability, UpstreamId, WhenFull};
use moteway::mqtt::{Message, MessageParts, QoS};
use moteway::queue::{Delivery, Limits, Output, Owner, Queues, Reply, Token};
use moteway::store::{Database, Options};
use moteway::sys::resident_bytes;
use moteway::time::{Instant, Now, Wall};
use tempfile::TempDir;

use crate::support::options;

const DAYS: u64 = 7;
const PER_DAY: u64 = 10 * 86_400;
const KEPT: u64 = 200_000;

#[test]
fn a_week_without_an_upstream_at_ten_messages_a_second_takes_no_more_memory_than_a_day() {
    let dir = TempDir::new().unwrap();
    // Virtual time has no power cuts, and a real disk has no virtual time.
    let options = Options { durability: Durability::None, max_bytes: 64 << 20, ..options(dir.path()) };
    let (mut database, found) = Database::open(&options).unwrap();
    let mut settings = Config::default().store;
    settings.commit_interval = Duration::from_secs(5);
    let mut queues = Queues::new(&settings, &found);
    let mut now = Now { at: Instant::ZERO, wall: Wall::from_millis(1_753_776_000_000) };
    let limits = Limits { max_messages: KEPT, max_bytes: 1 << 30, when_full: WhenFull::DropOldest };
    let dest = queues.open(now, "rule:cloud/all", Owner::Upstream(UpstreamId(0)), limits).unwrap();
    let (mut settled, mut sizes) = (0_u64, Vec::new());
    let begin = Stopwatch::now();
    for day in 1..=DAYS {
        for number in 0..PER_DAY {
            let step = Duration::from_millis(100);
            now = Now { at: now.at + step, wall: now.wall + step };
            let message = Arc::new(Message::new(MessageParts {
                topic: "site/room/temperature",
                properties: &[],
                payload: &[b'x'; 60],
                qos: QoS::AtLeastOnce,
                retain: false,
                received_at: now.wall,
                expires_at: None,
            }));
            assert_eq!(queues.refuses(dest, message.cost()), None, "day {day}, message {number}");
            let mut admission = queues.begin(Some(Token(number)));
            let delivery = Delivery { qos: QoS::AtLeastOnce, ..Delivery::default() };
            queues.push(now, &mut admission, dest, delivery, &message);
            queues.finish(admission);
            serve(&mut queues, &mut database, now, &mut settled);
        }
        let file = dir.path().join("moteway.db").metadata().unwrap().len();
        sizes.push(resident_bytes().unwrap());
        println!(
            "day {day}: {} wait, RSS {} KiB, file {} MiB, after {:.1} s",
            queues.depth(dest).messages,
            sizes[sizes.len() - 1] >> 10,
            file >> 20,
            begin.elapsed().as_secs_f64()
        );
    }
    let stats = queues.stats(dest);
    assert_eq!(queues.depth(dest).messages, KEPT);
    assert_eq!(stats.accepted, DAYS * PER_DAY);
    assert_eq!(stats.accepted, stats.dropped_oldest + KEPT, "{stats:?}");
    assert!(settled > stats.accepted - 1_000, "{settled} acknowledged");
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    assert!(last < first + (2 << 20), "RSS grew from {first} to {last}");
}

/// The store does at once what it is asked.
fn serve(queues: &mut Queues, database: &mut Database, now: Now, settled: &mut u64) {
    let mut outputs: VecDeque<Output> = VecDeque::new();
    loop {
        outputs.extend(std::iter::from_fn(|| queues.poll_output(now)));
        let Some(output) = outputs.pop_front() else { return };
        match output {
            Output::Commit(batch) => {
                database.session().apply(&batch).unwrap();
                queues.handle_reply(now, Reply::Committed { batch: batch.id });
            }
            Output::Read(read) => {
                let rows = database.session().read(&read).unwrap();
                queues.handle_reply(now, Reply::Rows { dest: read.dest, after: read.after, rows });
            }
            Output::Settled(_) => *settled += 1,
            Output::Notice(_) => {}
        }
    }
}
