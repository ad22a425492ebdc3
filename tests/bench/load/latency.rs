//! Latency: a steady rate over many clients, each publishing to its neighbour in turn.
//!
//! The schedule does not wait for the broker. Latency runs from the write to the read of a message, so a generator that
//! wakes late does not blame the broker for it; how late it woke is reported beside it.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, raise_file_limit};
use crate::options::Options;
use crate::stats::{Histogram, Report, Stopwatch, nanoseconds_since};
use crate::tally::Order;
use crate::wire::{self, Packet, PublishTemplate, Stamp};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

const TICK_MS: u16 = 100;
/// The first part of the run warms caches and does not count.
const WARM_UP_SHARE: u32 = 10;
const NANOSECONDS: u64 = 1_000_000_000;

struct Peer {
    client: Client,
    template: PublishTemplate,
    sent: u32,
}

struct Paced<'a> {
    options: &'a Options,
    poller: Poller,
    peers: Vec<Peer>,
    order: Order,
    total: u64,
    sent: u64,
    received: u64,
    latency: Histogram,
    lag: Histogram,
    epoch: Instant,
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.clients)?;
    let mut paced = Paced::connect(options)?;
    let stopwatch = Stopwatch::start(options)?;
    paced.drive()?;
    let elapsed = stopwatch.stop()?;

    let lost = paced.total.saturating_sub(paced.received);
    let mut report = Report::new();
    report.put_count("messages", paced.sent);
    report.put_count("delivered", paced.received);
    report.put_count("lost", lost);
    report.put_count("reordered", paced.order.late);
    report.put_elapsed(&elapsed, paced.received);
    report.put_latency(&paced.latency);
    report.put("send_lag_p99_us", Duration::from_nanos(paced.lag.percentile(0.99)).as_secs_f64() * 1e6);
    let complete = lost == 0 && paced.order.late == 0;
    paced.peers.into_iter().for_each(|peer| peer.client.disconnect());
    Ok(Outcome { report, complete })
}

impl<'a> Paced<'a> {
    fn connect(options: &'a Options) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut peers = Vec::new();
        for index in 0..options.clients {
            let neighbour = (index + 1) % options.clients;
            let (id, own) = (format!("latency-{index}"), format!("latency/{index}"));
            let client = Client::subscriber(&options.broker, &id, &own, options.qos)?;
            poller.add(&client, peers.len())?;
            let template = PublishTemplate::new(&format!("latency/{neighbour}"), options.qos, options.payload);
            peers.push(Peer { client, template, sent: 0 });
        }
        Ok(Self {
            options,
            poller,
            order: Order::new(peers.len()),
            peers,
            total: u64::from(options.rate) * u64::from(options.seconds),
            sent: 0,
            received: 0,
            latency: Histogram::new(),
            lag: Histogram::new(),
            epoch: Instant::now(),
        })
    }

    fn drive(&mut self) -> io::Result<()> {
        let timer = self.start_timer()?;
        let timer_token = self.peers.len();
        self.poller.add(&timer, timer_token)?;
        self.epoch = Instant::now();
        let stall_after = Duration::from_secs(self.options.stall_after_seconds);
        let mut buffer = vec![0; READ_BYTES];
        let mut ready = Vec::new();
        let mut moved_at = Instant::now();
        while self.received < self.total {
            self.poller.wait(TICK_MS, &mut ready)?;
            for &token in &ready {
                if token == timer_token {
                    timer.wait()?;
                } else {
                    moved_at = Instant::now();
                    self.read(token, &mut buffer)?;
                }
                self.publish_due()?;
            }
            if moved_at.elapsed() > stall_after {
                break;
            }
        }
        Ok(())
    }

    /// One expiry per message, or ten thousand a second where the rate is higher.
    fn start_timer(&self) -> io::Result<TimerFd> {
        let interval = Duration::from_secs(1) / self.options.rate.min(10_000);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(interval)), TimerSetTimeFlags::empty())?;
        Ok(timer)
    }

    /// Sends each message whose time has come.
    fn publish_due(&mut self) -> io::Result<()> {
        let now_ns = nanoseconds_since(self.epoch);
        let rate = u64::from(self.options.rate);
        while self.sent < self.total {
            let due_ns = self.sent * NANOSECONDS / rate;
            if due_ns > now_ns {
                break;
            }
            let number = u32::try_from(self.sent % u64::from(self.options.clients)).unwrap_or_default();
            let token = number as usize;
            let peer = &mut self.peers[token];
            let sent_ns = nanoseconds_since(self.epoch);
            self.lag.record(sent_ns - due_ns);
            peer.template.append(peer.client.out(), Stamp { publisher: number, seq: peer.sent, sent_ns });
            peer.sent += 1;
            self.sent += 1;
            peer.client.flush(&self.poller, token)?;
        }
        Ok(())
    }

    fn read(&mut self, token: usize, buffer: &mut [u8]) -> io::Result<()> {
        let now_ns = nanoseconds_since(self.epoch);
        let warm_ns = u64::from(self.options.seconds) * NANOSECONDS / u64::from(WARM_UP_SHARE);
        let Self { order, latency, received, .. } = self;
        let client = &mut self.peers[token].client;
        let state = client.read(buffer, |packet, out| {
            let Packet::Publish { packet_id, stamp } = packet else { return };
            if let Some(packet_id) = packet_id {
                out.extend(wire::puback(packet_id));
            }
            *received += 1;
            // Each client has one publisher, its neighbour, so its own number names the stream.
            order.receive(token, stamp.seq);
            if stamp.sent_ns >= warm_ns {
                latency.record(now_ns.saturating_sub(stamp.sent_ns));
            }
        })?;
        state.expect_open()?;
        client.flush(&self.poller, token)
    }
}
