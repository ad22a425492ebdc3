//! Many publishes at once, with a window, as a quick client sends them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use moteway::mqtt::{Connect, Packet, QoS, Version, frame};

use crate::harness::BOUND;
use crate::harness::client::message;

/// Messages sent and not yet acknowledged.
const WINDOW: u32 = 1000;

/// A connection that publishes at QoS 1 as fast as it is acknowledged.
pub(crate) struct Flood {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Flood {
    pub(crate) fn connect(address: SocketAddr, connect: &Connect<'_>) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let mut flood = Self { socket, buffer: Vec::new() };
        let mut out = Vec::new();
        connect.encode(&mut out);
        flood.socket.write_all(&out).unwrap();
        while flood.read(connect.version) == 0 {}
        flood
    }

    /// Publishes `payload` once for each number, and returns when all are acknowledged.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], numbers: Range<u32>) {
        let (mut sent, mut acked) = (numbers.start, numbers.start);
        while acked < numbers.end {
            let mut out = Vec::new();
            while sent < numbers.end && sent - acked < WINDOW {
                let mut publish = message(topic, payload, QoS::AtLeastOnce);
                publish.pkid = u16::try_from(sent % 60_000 + 1).unwrap();
                publish.encode(Version::V311, &mut out);
                sent += 1;
            }
            self.socket.write_all(&out).unwrap();
            acked += self.read(Version::V311);
        }
    }

    /// Reads once, and counts the packets.
    fn read(&mut self, version: Version) -> u32 {
        let mut chunk = [0; 16 * 1024];
        let count = self.socket.read(&mut chunk).unwrap();
        assert!(count > 0, "the gateway closed the connection");
        self.buffer.extend_from_slice(&chunk[..count]);
        let (mut used, mut packets) = (0, 0);
        while let Some(frame) = frame(&self.buffer[used..], u32::MAX).unwrap() {
            used += frame.raw.len();
            match Packet::decode(version, &frame).unwrap() {
                Packet::ConnAck(_) | Packet::PubAck(_) => packets += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
        self.buffer.drain(..used);
        packets
    }
}
