//! Radio: MQTT-SN nodes over UDP, each a socket of its own, and one MQTT subscriber that hears them all.
//!
//! All connect at one moment, register their topic, and publish: as fast as the window allows, or at a rate. What the
//! socket of the gateway lost is told, not hidden: nothing is sent twice.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, raise_file_limit};
use crate::options::Options;
use crate::stats::{Histogram, Report, Stopwatch, nanoseconds_since};
use crate::tally::{Order, Window};
use crate::wire::{self, Packet, Stamp};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmmsg, sendmsg};
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const TICK_MS: u16 = 20;
/// Datagrams in one system call.
const BATCH: usize = 16;
/// Room for an answer.
const ANSWER_BYTES: usize = 16;
/// The subscriber's token; nodes come behind it.
const SUBSCRIBER: usize = 0;

// Message types, MQTT-SN 1.2, 5.2.2.
const CONNECT: u8 = 0x04;
const CONNACK: u8 = 0x05;
const REGISTER: u8 = 0x0A;
const REGACK: u8 = 0x0B;
const PUBLISH: u8 = 0x0C;
const PUBACK: u8 = 0x0D;

struct Node {
    socket: UdpSocket,
    topic_id: [u8; 2],
    sent: u32,
    acked: u32,
    window: Window,
    quota: u32,
}

struct Field<'a> {
    options: &'a Options,
    poller: Poller,
    subscriber: Client,
    nodes: Vec<Node>,
    order: Order,
    /// Messages of one node, one behind the other.
    outgoing: Vec<u8>,
    headers: MultiHeaders<()>,
    answers: Vec<u8>,
    sent: u64,
    received: u64,
    expected: u64,
    connects: Histogram,
    latency: Histogram,
    epoch: Instant,
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.clients)?;
    let mut field = Field::connect(options)?;
    let stopwatch = Stopwatch::start(options)?;
    field.drive()?;
    let elapsed = stopwatch.stop()?;

    let lost = field.sent.saturating_sub(field.received);
    let mut report = Report::new();
    report.put_count("messages", field.sent);
    report.put_count("delivered", field.received);
    report.put_count("lost", lost);
    report.put_count("reordered", field.order.late);
    report.put_elapsed(&elapsed, field.received);
    report.put_latency(&field.latency);
    for (name, share) in [("connect_p50_ms", 0.5), ("connect_p99_ms", 0.99)] {
        report.put(name, Duration::from_nanos(field.connects.percentile(share)).as_secs_f64() * 1e3);
    }
    if options.hold {
        println!("{report}");
        io::stdout().flush()?;
        io::copy(&mut io::stdin(), &mut io::sink())?;
    }
    // Datagrams may be lost; the case says how many it lets pass.
    let complete = field.order.late == 0 && field.unacknowledged() == 0;
    field.subscriber.disconnect();
    Ok(Outcome { report, complete })
}

impl<'a> Field<'a> {
    fn connect(options: &'a Options) -> io::Result<Self> {
        let poller = Poller::new()?;
        let subscriber = Client::subscriber(&options.broker, "listener", "bench/#", options.qos)?;
        poller.add(&subscriber, SUBSCRIBER)?;
        let expected = if options.paced {
            u64::from(options.rate) * u64::from(options.seconds)
        } else {
            u64::from(options.messages)
        };
        let mut nodes = Vec::new();
        for index in 0..options.clients {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(options.radio)?;
            socket.set_nonblocking(true)?;
            poller.add(&socket, nodes.len() + 1)?;
            let share = expected / u64::from(options.clients);
            let extra = u64::from(u64::from(index) < expected % u64::from(options.clients));
            let quota = u32::try_from(share + extra).map_err(io::Error::other)?;
            let window = Window::new(1, options.window.max(if options.paced { quota } else { 1 }));
            nodes.push(Node { socket, topic_id: [0; 2], sent: 0, acked: 0, window, quota });
        }
        let mut field = Self {
            options,
            poller,
            subscriber,
            order: Order::new(nodes.len()),
            nodes,
            outgoing: Vec::new(),
            headers: MultiHeaders::preallocate(BATCH, None),
            answers: vec![0; BATCH * ANSWER_BYTES],
            sent: 0,
            received: 0,
            expected,
            connects: Histogram::new(),
            latency: Histogram::new(),
            epoch: Instant::now(),
        };
        field.introduce()?;
        Ok(field)
    }

    /// Everybody's CONNECT at one moment, then everybody's REGISTER. What is lost is sent again after a second.
    fn introduce(&mut self) -> io::Result<()> {
        let mut sent_at = vec![0; self.nodes.len()];
        self.exchange(
            CONNACK,
            |index| {
                let id = format!("node-{index}");
                let mut message = vec![0, CONNECT, 0x04, 0x01, 0x0E, 0x10];
                message.extend(id.as_bytes());
                message
            },
            &mut sent_at,
        )?;
        let mut ignored = vec![0; self.nodes.len()];
        self.exchange(
            REGACK,
            |index| {
                let topic = format!("bench/{index}");
                let mut message = vec![0, REGISTER, 0, 0, 0, 1];
                message.extend(topic.as_bytes());
                message
            },
            &mut ignored,
        )
    }

    fn exchange(&mut self, answer: u8, message: impl Fn(usize) -> Vec<u8>, sent_at: &mut [u64]) -> io::Result<()> {
        const AGAIN_AFTER: Duration = Duration::from_secs(1);
        let mut waiting: Vec<bool> = vec![true; self.nodes.len()];
        let mut left = self.nodes.len();
        let mut next_at = Instant::now();
        let give_up_at = next_at + Duration::from_secs(self.options.stall_after_seconds);
        let mut ready = Vec::new();
        let mut buffer = [0; 256];
        while left > 0 {
            let now = Instant::now();
            if now > give_up_at {
                return Err(io::Error::other(format!("{left} nodes had no answer")));
            }
            if now >= next_at {
                next_at = now + AGAIN_AFTER;
                for index in (0..waiting.len()).filter(|index| waiting[*index]) {
                    let mut octets = message(index);
                    octets[0] = u8::try_from(octets.len()).map_err(io::Error::other)?;
                    sent_at[index] = nanoseconds_since(self.epoch);
                    send(&self.nodes[index].socket, &octets)?;
                }
            }
            self.poller.wait(TICK_MS, &mut ready)?;
            for index in ready.iter().filter_map(|token| token.checked_sub(1)) {
                let node = &mut self.nodes[index];
                while let Some(count) = receive(&node.socket, &mut buffer)? {
                    if count < 3 || buffer[1] != answer || !std::mem::take(&mut waiting[index]) {
                        continue;
                    }
                    left -= 1;
                    if answer == REGACK {
                        node.topic_id = [buffer[2], buffer[3]];
                    } else {
                        self.connects.record(nanoseconds_since(self.epoch) - sent_at[index]);
                    }
                }
            }
        }
        Ok(())
    }

    fn drive(&mut self) -> io::Result<()> {
        let stall_after = Duration::from_secs(self.options.stall_after_seconds);
        let (mut buffer, mut ready) = (vec![0; READ_BYTES], Vec::new());
        let mut moved_at = Instant::now();
        self.epoch = moved_at;
        if !self.options.paced {
            for index in 0..self.nodes.len() {
                self.top_up(index)?;
            }
        }
        while self.received < self.expected || self.unacknowledged() > 0 {
            if self.options.paced {
                self.publish_due()?;
            } else if self.sent - self.received > self.depth() / 4 {
                // Arrivals gather, so that neither side wakes for each.
                std::thread::sleep(Duration::from_micros(self.options.rest_us));
            }
            let wait = if self.options.paced && self.sent < self.expected { 1 } else { TICK_MS };
            self.poller.wait(wait, &mut ready)?;
            let now = Instant::now();
            if !ready.is_empty() || (self.options.paced && self.sent < self.expected) {
                moved_at = now;
            } else if now - moved_at > stall_after.min(Duration::from_secs(2)) {
                return Ok(());
            }
            for token in &ready {
                match token.checked_sub(1) {
                    None => self.read_subscriber(&mut buffer)?,
                    Some(index) => self.read_node(index)?,
                }
            }
        }
        Ok(())
    }

    /// Messages that may be on their way.
    fn depth(&self) -> u64 {
        u64::from(self.options.clients) * u64::from(self.options.window)
    }

    fn unacknowledged(&self) -> u64 {
        if self.options.qos == 0 {
            return 0;
        }
        self.nodes.iter().map(|node| u64::from(node.sent - node.acked)).sum()
    }

    /// Publishes what the window has room for.
    fn top_up(&mut self, index: usize) -> io::Result<()> {
        let node = &self.nodes[index];
        let unsettled = node.sent - node.window.settled();
        let unacked = if self.options.qos == 0 { 0 } else { node.sent - node.acked };
        let room = self.options.window.saturating_sub(unsettled.max(unacked)).min(node.quota - node.sent);
        self.publish(index, room)
    }

    fn publish_due(&mut self) -> io::Result<()> {
        let elapsed_ns = u128::from(nanoseconds_since(self.epoch));
        let due = u64::try_from(elapsed_ns * u128::from(self.options.rate) / 1_000_000_000).unwrap_or(u64::MAX);
        while self.sent < due.min(self.expected) {
            let index = usize::try_from(self.sent).map_err(io::Error::other)? % self.nodes.len();
            self.publish(index, 1)?;
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, count: u32) -> io::Result<()> {
        let sent_ns = nanoseconds_since(self.epoch);
        let (qos, payload) = (self.options.qos, self.options.payload);
        let Self { nodes, outgoing, headers, .. } = self;
        let node = &mut nodes[index];
        let publisher = u32::try_from(index).map_err(io::Error::other)?;
        outgoing.clear();
        for seq in node.sent..node.sent + count {
            publish(outgoing, node.topic_id, qos, payload, Stamp { publisher, seq, sent_ns });
        }
        let length = outgoing.len() / usize::try_from(count).map_err(io::Error::other)?.max(1);
        for batch in outgoing.chunks(BATCH * length.max(1)) {
            if self.options.together {
                send_as_one(&node.socket, batch, length)?;
            } else {
                send_each(&node.socket, batch, length, headers)?;
            }
        }
        node.sent += count;
        self.sent += u64::from(count);
        Ok(())
    }

    fn read_subscriber(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let now_ns = nanoseconds_since(self.epoch);
        let Self { nodes, order, latency, received, .. } = self;
        let mut settled = Vec::new();
        let state = self.subscriber.read(buffer, |packet, out| {
            let Packet::Publish { packet_id, stamp } = packet else { return };
            if let Some(packet_id) = packet_id {
                out.extend(wire::puback(packet_id));
            }
            let index = usize::try_from(stamp.publisher).unwrap_or(usize::MAX);
            let Some(node) = nodes.get_mut(index) else { return };
            *received += 1;
            latency.record(now_ns.saturating_sub(stamp.sent_ns));
            if node.window.pass(order.receive(index, stamp.seq)) {
                settled.push(index);
            }
        })?;
        state.expect_open()?;
        self.subscriber.flush(&self.poller, SUBSCRIBER)?;
        if !self.options.paced {
            settled.sort_unstable();
            settled.dedup();
            for index in settled {
                self.top_up(index)?;
            }
        }
        Ok(())
    }

    fn read_node(&mut self, index: usize) -> io::Result<()> {
        let Self { nodes, headers, answers, .. } = self;
        let node = &mut nodes[index];
        let mut chunks = answers.chunks_mut(ANSWER_BYTES);
        let mut slots: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        // What is left is told again.
        match recvmmsg(node.socket.as_raw_fd(), headers, &mut slots, MsgFlags::MSG_DONTWAIT, None) {
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
            Ok(received) => {
                for answer in received {
                    match answer.iovs().next() {
                        Some([7, PUBACK, _, _, _, _, 0]) => node.acked += 1,
                        Some([7, PUBACK, .., code]) => {
                            return Err(io::Error::other(format!("PUBACK with code {code}")));
                        }
                        _ => {}
                    }
                }
            }
        }
        if !self.options.paced {
            self.top_up(index)?;
        }
        Ok(())
    }
}

/// Appends a PUBLISH, MQTT-SN 5.4.12, with a normal topic id.
fn publish(out: &mut Vec<u8>, topic_id: [u8; 2], qos: u8, payload: usize, stamp: Stamp) {
    let length = u8::try_from(payload + 7).unwrap_or(u8::MAX);
    let [_, _, high, low] = (stamp.seq % 0xFFFF + 1).to_be_bytes();
    let msg_id = if qos == 0 { [0, 0] } else { [high, low] };
    let end = out.len() + usize::from(length);
    out.extend([length, PUBLISH, qos << 5, topic_id[0], topic_id[1], msg_id[0], msg_id[1]]);
    out.extend(stamp.to_bytes());
    out.resize(end, b'.');
}

/// Sends messages of one length, each a datagram, with as few system calls as it takes.
fn send_each(socket: &UdpSocket, messages: &[u8], length: usize, headers: &mut MultiHeaders<()>) -> io::Result<()> {
    let mut left = messages;
    while !left.is_empty() {
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        let mut count = 0;
        for (slice, message) in slices.iter_mut().zip(left.chunks(length)) {
            *slice = [IoSlice::new(message)];
            count += 1;
        }
        let addresses = [None::<()>; BATCH];
        let sent =
            sendmmsg(socket.as_raw_fd(), headers, &slices[..count], &addresses[..count], [], MsgFlags::empty());
        match sent.map(Iterator::count) {
            Ok(count) => left = &left[count * length..],
            Err(error) => wait_for_room(error)?,
        }
    }
    Ok(())
}

/// The same, as one for the system (UDP_SEGMENT): they are told apart at the other end.
fn send_as_one(socket: &UdpSocket, messages: &[u8], length: usize) -> io::Result<()> {
    let length = u16::try_from(length).map_err(io::Error::other)?;
    let slices = [IoSlice::new(messages)];
    let segments = [ControlMessage::UdpGsoSegments(&length)];
    while let Err(error) = sendmsg::<()>(socket.as_raw_fd(), &slices, &segments, MsgFlags::empty(), None) {
        wait_for_room(error)?;
    }
    Ok(())
}

/// Lets others work while the socket is full.
fn wait_for_room(error: Errno) -> io::Result<()> {
    if !matches!(error, Errno::EAGAIN | Errno::ENOBUFS) {
        return Err(error.into());
    }
    std::thread::yield_now();
    Ok(())
}

fn send(socket: &UdpSocket, octets: &[u8]) -> io::Result<()> {
    while let Err(error) = socket.send(octets) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// The next datagram that is there.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match socket.recv(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where nodes find the gateway unless told.
pub(crate) fn default_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))
}
