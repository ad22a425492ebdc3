//! Flow: publishers to subscribers, as fast as flow control allows, with nothing for the broker to drop.
//!
//! QoS 0 counts a message as in flight until every subscriber has it, QoS 1 until its PUBACK. With QoS 1 the backlog,
//! published and not yet received, is bounded as well, for a broker may acknowledge faster than it delivers.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, raise_file_limit};
use crate::options::Options;
use crate::stats::{Histogram, Report, Stopwatch, nanoseconds_since};
use crate::tally::{Order, Window};
use crate::wire::{self, Packet, PublishTemplate, Stamp};
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

/// How often a silent run looks at the clock.
const TICK_MS: u16 = 100;

struct Publisher {
    client: Client,
    template: PublishTemplate,
    quota: u32,
    sent: u32,
    acked: u32,
    window: Window,
    /// Already in the list of those that may have room.
    touched: bool,
}

struct Flow<'a> {
    options: &'a Options,
    poller: Poller,
    /// Tokens: subscribers first, then publishers.
    subscribers: Vec<Client>,
    publishers: Vec<Publisher>,
    order: Order,
    latency: Histogram,
    received: u64,
    expected: u64,
    epoch: Instant,
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.publishers + options.subscribers)?;
    // A pause of 100 us should not become one of 150.
    nix::sys::prctl::set_timerslack(1)?;
    let mut flow = Flow::connect(options)?;
    let stopwatch = Stopwatch::start(options)?;
    flow.drive()?;
    let elapsed = stopwatch.stop()?;

    // A second copy could hide a loss; it counts as out of order, so the run is not complete either way.
    let lost = flow.expected.saturating_sub(flow.received);
    let mut report = Report::new();
    report.put_count("messages", u64::from(options.messages));
    report.put_count("delivered", flow.received);
    report.put_count("lost", lost);
    report.put_count("reordered", flow.order.late);
    report.put_count("unacknowledged", flow.unacknowledged());
    report.put_elapsed(&elapsed, flow.received);
    report.put_latency(&flow.latency);
    let complete = lost == 0 && flow.order.late == 0 && flow.unacknowledged() == 0;
    flow.disconnect();
    Ok(Outcome { report, complete })
}

impl<'a> Flow<'a> {
    fn connect(options: &'a Options) -> io::Result<Self> {
        let poller = Poller::new()?;
        let mut subscribers = Vec::new();
        for index in 0..options.subscribers {
            let filter = if options.pairs { format!("bench/{index}") } else { "bench/#".into() };
            let client = Client::subscriber(&options.broker, &format!("load-s{index}"), &filter, options.qos)?;
            poller.add(&client, subscribers.len())?;
            subscribers.push(client);
        }
        let receivers = if options.pairs { 1 } else { options.subscribers };
        let unsettled = if options.qos == 0 { options.window } else { options.backlog };
        let mut publishers = Vec::new();
        for index in 0..options.publishers {
            let client = Client::connect(&options.broker, &format!("load-p{index}"))?;
            poller.add(&client, subscribers.len() + publishers.len())?;
            let remainder = u32::from(index < options.messages % options.publishers);
            publishers.push(Publisher {
                client,
                template: PublishTemplate::new(&format!("bench/{index}"), options.qos, options.payload),
                quota: options.messages / options.publishers + remainder,
                sent: 0,
                acked: 0,
                window: Window::new(receivers, unsettled),
                touched: false,
            });
        }
        Ok(Self {
            options,
            poller,
            order: Order::new(publishers.len() * subscribers.len()),
            subscribers,
            publishers,
            latency: Histogram::new(),
            received: 0,
            expected: u64::from(options.messages) * u64::from(receivers),
            epoch: Instant::now(),
        })
    }

    /// Runs until everything arrived and was acknowledged, or nothing has moved for the stall time.
    fn drive(&mut self) -> io::Result<()> {
        let stall_after = Duration::from_secs(self.options.stall_after_seconds);
        let mut buffer = vec![0; READ_BYTES];
        let mut ready = Vec::new();
        let mut touched: Vec<usize> = (0..self.publishers.len()).collect();
        let mut moved_at = Instant::now();
        while !self.is_finished() {
            for index in touched.drain(..) {
                self.top_up(index)?;
            }
            self.rest();
            self.poller.wait(TICK_MS, &mut ready)?;
            let now = Instant::now();
            if !ready.is_empty() {
                moved_at = now;
            } else if now - moved_at > stall_after {
                return Ok(());
            }
            for &token in &ready {
                match token.checked_sub(self.subscribers.len()) {
                    None => self.read_subscriber(token, &mut buffer, &mut touched)?,
                    Some(index) => self.read_publisher(index, &mut buffer, &mut touched)?,
                }
            }
        }
        Ok(())
    }

    /// Lets arrivals gather while the broker still has work. Waking for each message would cost this side more than the
    /// broker spends, and would charge the broker for a wake-up per write.
    fn rest(&self) {
        let published: u64 = self.publishers.iter().map(|publisher| u64::from(publisher.sent)).sum();
        let receivers = self.expected / u64::from(self.options.messages);
        let deepest = u64::from(self.options.publishers) * u64::from(self.options.window) * receivers;
        if published * receivers - self.received > deepest / 4 {
            std::thread::sleep(Duration::from_micros(self.options.rest_us));
        }
    }

    /// Publishes what the window has room for, in one write. A deep window is topped up by quarters, not by ones.
    fn top_up(&mut self, index: usize) -> io::Result<()> {
        let publisher = &mut self.publishers[index];
        publisher.touched = false;
        let room = publisher.room(self.options);
        let left = publisher.quota - publisher.sent;
        if room >= left.min(self.options.window.div_ceil(4)) && left > 0 {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let sent_ns = nanoseconds_since(self.epoch);
            for seq in publisher.sent..publisher.sent + room.min(left) {
                publisher.template.append(publisher.client.out(), Stamp { publisher: number, seq, sent_ns });
            }
            publisher.sent += room.min(left);
        }
        publisher.client.flush(&self.poller, self.subscribers.len() + index)
    }

    fn read_subscriber(&mut self, token: usize, buffer: &mut [u8], touched: &mut Vec<usize>) -> io::Result<()> {
        let Self { publishers, order, latency, received, .. } = self;
        let now_ns = nanoseconds_since(self.epoch);
        let mut foreign = 0_u64;
        let state = self.subscribers[token].read(buffer, |packet, out| {
            let Packet::Publish { packet_id, stamp } = packet else { return };
            if let Some(packet_id) = packet_id {
                out.extend(wire::puback(packet_id));
            }
            let index = usize::try_from(stamp.publisher).unwrap_or(usize::MAX);
            match publishers.get_mut(index) {
                Some(publisher) if stamp.seq < publisher.sent => {
                    *received += 1;
                    latency.record(now_ns.saturating_sub(stamp.sent_ns));
                    let stream = token * self.options.publishers as usize + index;
                    let settled = publisher.window.pass(order.receive(stream, stamp.seq));
                    if settled && !std::mem::replace(&mut publisher.touched, true) {
                        touched.push(index);
                    }
                }
                _ => foreign += 1,
            }
        })?;
        if foreign > 0 {
            return Err(io::Error::other(format!("{foreign} messages that were never published")));
        }
        state.expect_open()?;
        self.subscribers[token].flush(&self.poller, token)
    }

    fn read_publisher(&mut self, index: usize, buffer: &mut [u8], touched: &mut Vec<usize>) -> io::Result<()> {
        let publisher = &mut self.publishers[index];
        let mut acks = 0;
        let state = publisher.client.read(buffer, |packet, _| acks += u32::from(packet == Packet::PubAck))?;
        publisher.acked += acks;
        if !std::mem::replace(&mut publisher.touched, true) {
            touched.push(index);
        }
        state.expect_open()
    }

    fn is_finished(&self) -> bool {
        self.received >= self.expected && self.unacknowledged() == 0
    }

    fn unacknowledged(&self) -> u64 {
        if self.options.qos == 0 {
            return 0;
        }
        self.publishers.iter().map(|publisher| u64::from(publisher.sent.saturating_sub(publisher.acked))).sum()
    }

    fn disconnect(self) {
        let publishers = self.publishers.into_iter().map(|publisher| publisher.client);
        publishers.chain(self.subscribers).for_each(Client::disconnect);
    }
}

impl Publisher {
    /// How many more may be in flight now.
    fn room(&self, options: &Options) -> u32 {
        let unsettled = self.sent - self.window.settled();
        if options.qos == 0 {
            return options.window - unsettled;
        }
        let unacked = self.sent.saturating_sub(self.acked);
        (options.window - unacked).min(options.backlog - unsettled)
    }
}
