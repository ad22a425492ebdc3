//! Backlog: messages for a subscriber that is away, made safe one and all, then fetched when it is back.
//!
//! Both halves are measured apart: `store` ends with the last PUBACK, `drain` with the last message's arrival. Nothing
//! may be lost and each publisher's order must hold. A broker that keeps the queue in memory only passes as well.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, raise_file_limit};
use crate::options::Options;
use crate::stats::{Report, Stopwatch, nanoseconds_since};
use crate::tally::Order;
use crate::wire::{self, Packet, PublishTemplate, Stamp};
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

const TICK_MS: u16 = 100;
const QOS: u8 = 1;
const SUBSCRIBER: &str = "load-away";
const FILTER: &str = "bench/#";

struct Publisher {
    client: Client,
    template: PublishTemplate,
    quota: u32,
    sent: u32,
    acked: u32,
}

impl Publisher {
    /// Publishes what the window has room for, in one write, by quarters of the window.
    fn top_up(&mut self, number: usize, window: u32, epoch: Instant, poller: &Poller) -> io::Result<()> {
        let room = window - (self.sent - self.acked);
        let left = self.quota - self.sent;
        if room >= left.min(window.div_ceil(4)) && left > 0 {
            let publisher = u32::try_from(number).unwrap_or(u32::MAX);
            let sent_ns = nanoseconds_since(epoch);
            for seq in self.sent..self.sent + room.min(left) {
                self.template.append(self.client.out(), Stamp { publisher, seq, sent_ns });
            }
            self.sent += room.min(left);
        }
        self.client.flush(poller, number)
    }
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.publishers + 1)?;
    Client::stored_subscriber(&options.broker, SUBSCRIBER, FILTER, QOS)?.disconnect();

    let stopwatch = Stopwatch::start(options)?;
    let unacknowledged = store(options)?;
    let stored = stopwatch.stop()?;
    let stopwatch = Stopwatch::start(options)?;
    let (received, late) = drain(options)?;
    let drained = stopwatch.stop()?;

    let messages = u64::from(options.messages);
    let mut report = Report::new();
    report.put_count("messages", messages);
    report.put_count("unacknowledged", unacknowledged);
    report.put_count("lost", messages.saturating_sub(received));
    report.put_count("reordered", late);
    report.put_part(["store_per_second", "store_load_cpu", "store_cpu"], &stored, messages - unacknowledged);
    report.put_part(["drain_per_second", "drain_load_cpu", "drain_cpu"], &drained, received);
    Ok(Outcome { report, complete: unacknowledged == 0 && received == messages && late == 0 })
}

/// Publishes everything; says how many were not acknowledged when nothing moved any more.
fn store(options: &Options) -> io::Result<u64> {
    let mut poller = Poller::new()?;
    let mut publishers = Vec::new();
    for index in 0..options.publishers {
        let client = Client::connect(&options.broker, &format!("load-p{index}"))?;
        poller.add(&client, publishers.len())?;
        let remainder = u32::from(index < options.messages % options.publishers);
        publishers.push(Publisher {
            client,
            template: PublishTemplate::new(&format!("bench/{index}"), QOS, options.payload),
            quota: options.messages / options.publishers + remainder,
            sent: 0,
            acked: 0,
        });
    }
    let stall_after = Duration::from_secs(options.stall_after_seconds);
    let (epoch, mut moved_at) = (Instant::now(), Instant::now());
    let mut buffer = vec![0; READ_BYTES];
    let mut ready: Vec<usize> = (0..publishers.len()).collect();
    let mut left = u64::from(options.messages);
    loop {
        for &index in &ready {
            publishers[index].top_up(index, options.window, epoch, &poller)?;
        }
        if left == 0 || moved_at.elapsed() > stall_after {
            break;
        }
        poller.wait(TICK_MS, &mut ready)?;
        for &index in &ready {
            moved_at = Instant::now();
            let publisher = &mut publishers[index];
            let mut acks = 0;
            let on_packet = |packet, _: &mut Vec<u8>| acks += u32::from(packet == Packet::PubAck);
            publisher.client.read(&mut buffer, on_packet)?.expect_open()?;
            publisher.acked += acks;
            left -= u64::from(acks);
        }
    }
    publishers.into_iter().for_each(|publisher| publisher.client.disconnect());
    Ok(left)
}

/// Fetches everything; gives how many came, and how many of them not in their publisher's order.
fn drain(options: &Options) -> io::Result<(u64, u64)> {
    let mut poller = Poller::new()?;
    let mut subscriber = Client::resume(&options.broker, SUBSCRIBER)?;
    poller.add(&subscriber, 0)?;
    let stall_after = Duration::from_secs(options.stall_after_seconds);
    let mut order = Order::new(options.publishers as usize);
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    let (mut received, mut foreign) = (0, 0_u64);
    let mut moved_at = Instant::now();
    while received < u64::from(options.messages) && moved_at.elapsed() < stall_after {
        poller.wait(TICK_MS, &mut ready)?;
        if ready.is_empty() {
            continue;
        }
        moved_at = Instant::now();
        let on_packet = |packet, out: &mut Vec<u8>| {
            let Packet::Publish { packet_id, stamp } = packet else { return };
            if let Some(packet_id) = packet_id {
                out.extend(wire::puback(packet_id));
            }
            if stamp.publisher >= options.publishers {
                foreign += 1;
                return;
            }
            let passed = order.receive(stamp.publisher as usize, stamp.seq);
            // A gap is a loss: only what came is counted.
            received += u64::from(!passed.is_empty());
        };
        subscriber.read(&mut buffer, on_packet)?.expect_open()?;
        subscriber.flush(&poller, 0)?;
    }
    subscriber.disconnect();
    if foreign > 0 {
        return Err(io::Error::other(format!("{foreign} messages that were never published")));
    }
    Ok((received, order.late))
}
