//! What a hostile client may try, at the level of MQTT: it is refused or bounded, and another client does not feel it.
//!
//! Each test prints what the other client's round trips took meanwhile, and how much the gateway grew.

mod bystander;
mod floods;
mod slow;
mod subscriptions;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moteway::mqtt::{Connect, Packet, ReasonCode, Version, frame};

use crate::harness::BOUND;
use crate::harness::gateway::Gateway;
use crate::hostile::bystander::Bystander;

const MIB: u64 = 1 << 20;

/// A gateway under attack, with somebody else on it.
struct Scene {
    what: &'static str,
    gateway: Gateway,
    bystander: Bystander,
    rss: u64,
}

impl Scene {
    fn new(what: &'static str, tables: &str) -> Self {
        let mut gateway = Gateway::start(tables);
        let bystander = Bystander::start(gateway.address());
        let rss = gateway.rss();
        Self { what, gateway, bystander, rss }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// A connection that does what it likes, with CONNECT accepted.
    fn attacker(&self, connect: &Connect<'_>) -> Attacker {
        let mut attacker = Attacker::dial(self.address());
        assert_eq!(attacker.introduce(connect), ReasonCode::Success, "{:?}", connect.client_id);
        attacker
    }

    /// How much the gateway grew since the start, in bytes.
    fn growth(&mut self) -> u64 {
        self.gateway.rss().saturating_sub(self.rss)
    }

    /// The gateway grew by no more than this, and the other client was served.
    #[track_caller]
    fn end(mut self, most: u64) {
        let growth = self.growth();
        let what = self.what;
        eprintln!("{what}: grew by {} KiB; the other client: {}", growth >> 10, self.bystander.stop());
        assert!(growth <= most, "{what}: grew by {growth} bytes, more than {most}");
        assert!(self.gateway.is_running());
    }
}

/// A raw connection. What cannot be written within a moment is not written.
struct Attacker {
    stream: TcpStream,
}

impl Attacker {
    fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        Self { stream }
    }

    fn introduce(&mut self, connect: &Connect<'_>) -> ReasonCode {
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
        self.packet(connect.version, |packet| match packet {
            Packet::ConnAck(ack) => ack.reason,
            packet => panic!("{packet:?} instead of CONNACK"),
        })
    }

    /// Reads one packet, which is the next.
    fn packet<T>(&mut self, version: Version, take: impl FnOnce(&Packet<'_>) -> T) -> T {
        let mut bytes = Vec::new();
        loop {
            if let Some(frame) = frame(&bytes, u32::MAX).unwrap() {
                return take(&Packet::decode(version, &frame).unwrap());
            }
            let mut one = [0];
            self.stream.read_exact(&mut one).unwrap();
            bytes.extend_from_slice(&one);
        }
    }

    /// Whether all of it could be written.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn send_packet(&mut self, version: Version, packet: &Packet<'_>) -> bool {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        self.send(&bytes)
    }

    /// Writes the same again and again, until it was taken so often or is not taken any more. Says how often it was.
    fn repeat(&mut self, bytes: &[u8], times: usize) -> usize {
        let many = 64.min(times);
        let block = bytes.repeat(many);
        (0..times / many).take_while(|_| self.send(&block)).count() * many
    }

    /// Reads until the gateway closes.
    fn drain(&mut self) -> u64 {
        let (mut piece, mut count) = ([0; 16 * 1024], 0);
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return count,
                Ok(len) => count += len as u64,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return count,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }
}
