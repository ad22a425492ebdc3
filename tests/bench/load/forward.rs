//! Forward: the least that can stand where the broker stands. It moves each PUBLISH to every subscriber, whatever the
//! topic, and acknowledges it at once: no sessions, no matching, no limits. What it costs is the floor for a broker.

use crate::Outcome;
use crate::client::{Client, Poller, READ_BYTES, ReadState, raise_file_limit};
use crate::options::Options;
use crate::wire;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::TcpListener;

const TICK_MS: u16 = 1_000;
const LISTENER: usize = 0;

struct Forwarder {
    listener: TcpListener,
    poller: Poller,
    /// By token less one; a place stays empty when its client has left.
    peers: Vec<Option<Client>>,
    subscribers: Vec<usize>,
    /// The publications of one read, back to back.
    batch: Vec<u8>,
}

/// Serves until the process is told to stop.
pub(crate) fn run(options: &Options) -> Result<Outcome, Box<dyn Error>> {
    raise_file_limit(options.clients)?;
    let listener = TcpListener::bind(options.broker.address)?;
    listener.set_nonblocking(true)?;
    let poller = Poller::new()?;
    poller.add(&listener, LISTENER)?;
    let mut forwarder =
        Forwarder { listener, poller, peers: Vec::new(), subscribers: Vec::new(), batch: Vec::new() };
    let mut buffer = vec![0; READ_BYTES];
    let mut ready = Vec::new();
    loop {
        forwarder.poller.wait(TICK_MS, &mut ready)?;
        for &token in &ready {
            match token.checked_sub(LISTENER + 1) {
                None => forwarder.accept()?,
                Some(index) => forwarder.serve(index, &mut buffer)?,
            }
        }
        forwarder.flush_subscribers()?;
    }
}

impl Forwarder {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let client = Client::accepted(stream)?;
                    self.peers.push(Some(client));
                    let token = self.peers.len();
                    self.poller
                        .add(self.peers.last().and_then(Option::as_ref).ok_or(ErrorKind::NotFound)?, token)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from a client, answers it, and queues what it published for the subscribers.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Self { peers, subscribers, batch, .. } = self;
        let Some(client) = &mut peers[index] else { return Ok(()) };
        batch.clear();
        let state = client.read_frames(buffer, |frame, body_at, out| match frame[0] >> 4 {
            wire::PUBLISH => {
                batch.extend_from_slice(frame);
                out.extend(wire::publish_id(frame, body_at).map(wire::puback).iter().flatten());
            }
            wire::CONNECT => out.extend(wire::CONNACK_ACCEPTED),
            wire::SUBSCRIBE => {
                out.extend(wire::suback(frame[frame.len() - 1]));
                subscribers.push(index);
            }
            _ => {}
        });
        if !matches!(state, Ok(ReadState::Open)) {
            self.peers[index] = None;
            self.subscribers.retain(|&subscriber| subscriber != index);
            return Ok(());
        }
        client.flush(&self.poller, LISTENER + 1 + index)?;
        for &subscriber in subscribers.iter() {
            if let Some(client) = &mut peers[subscriber] {
                client.out().extend_from_slice(batch);
            }
        }
        Ok(())
    }

    fn flush_subscribers(&mut self) -> io::Result<()> {
        for &index in &self.subscribers {
            if let Some(client) = &mut self.peers[index] {
                client.flush(&self.poller, LISTENER + 1 + index)?;
            }
        }
        Ok(())
    }
}
