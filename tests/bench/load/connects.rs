//! Connects: connections that come, are accepted and stay, several handshakes at a time.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, ReadState, raise_file_limit};
use crate::options::Options;
use crate::stats::{Histogram, Report, Stopwatch, nanoseconds_since};
use crate::wire::Packet;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

const TICK_MS: u16 = 100;

struct Attempt {
    client: Client,
    dialled_ns: u64,
    /// Accepted, refused or closed: no longer one of those in parallel.
    settled: bool,
}

struct Rush<'a> {
    options: &'a Options,
    poller: Poller,
    attempts: Vec<Attempt>,
    accepted: u32,
    refused: u32,
    latency: Histogram,
    epoch: Instant,
}

pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.clients)?;
    let mut rush = Rush {
        options,
        poller: Poller::new()?,
        attempts: Vec::new(),
        accepted: 0,
        refused: 0,
        latency: Histogram::new(),
        epoch: Instant::now(),
    };
    let stopwatch = Stopwatch::start(options)?;
    rush.drive()?;
    let elapsed = stopwatch.stop()?;

    let mut report = Report::new();
    report.put("connects", rush.accepted);
    report.put("refused", options.clients - rush.accepted);
    report.put_elapsed(&elapsed, u64::from(rush.accepted));
    report.put_latency(&rush.latency);
    let complete = rush.accepted == options.clients;
    rush.attempts.into_iter().for_each(|attempt| attempt.client.disconnect());
    Ok(Outcome { report, complete })
}

impl Rush<'_> {
    /// Keeps `parallel` handshakes going until every client was answered.
    fn drive(&mut self) -> io::Result<()> {
        let stall_after = Duration::from_secs(self.options.stall_after_seconds);
        let mut buffer = vec![0; READ_BYTES];
        let mut ready = Vec::new();
        let mut moved_at = Instant::now();
        while self.settled() < self.options.clients && moved_at.elapsed() < stall_after {
            while self.dialled() < self.options.clients.min(self.settled() + self.options.parallel) {
                self.dial()?;
            }
            self.poller.wait(TICK_MS, &mut ready)?;
            for &token in &ready {
                moved_at = Instant::now();
                self.read(token, &mut buffer)?;
            }
        }
        Ok(())
    }

    /// On the loopback the TCP handshake is over when `connect` returns: it does not hold up the others.
    fn dial(&mut self) -> io::Result<()> {
        let token = self.attempts.len();
        let dialled_ns = nanoseconds_since(self.epoch);
        let mut client = Client::dial(&self.options.broker, &format!("load-{token}"))?;
        client.set_nonblocking()?;
        self.poller.add(&client, token)?;
        client.flush(&self.poller, token)?;
        self.attempts.push(Attempt { client, dialled_ns, settled: false });
        Ok(())
    }

    fn read(&mut self, token: usize, buffer: &mut [u8]) -> io::Result<()> {
        let attempt = &mut self.attempts[token];
        let mut accepted = None;
        let state = attempt.client.read(buffer, |packet, _| accepted = Some(packet == Packet::ConnAck(0)))?;
        if state == ReadState::Closed {
            self.poller.remove(&attempt.client)?;
            accepted.get_or_insert(false);
        }
        let (Some(accepted), false) = (accepted, attempt.settled) else { return Ok(()) };
        attempt.settled = true;
        if accepted {
            self.accepted += 1;
            self.latency.record(nanoseconds_since(self.epoch) - attempt.dialled_ns);
        } else {
            self.refused += 1;
        }
        Ok(())
    }

    fn dialled(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    fn settled(&self) -> u32 {
        self.accepted + self.refused
    }
}
