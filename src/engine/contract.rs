//! The engine's border: what the shells tell it and what it asks of them.

use std::net::SocketAddr;

use crate::bridge::Login;
use crate::broker::login::{Credentials, Proof};
use crate::config::{LinkId, ListenerId, UpstreamId};
use crate::engine::Plan;
use crate::metrics::Notice;
use crate::mqtt::ConnId;
use crate::queue::{Batch, Read, Reply};

/// Exactly one fact about the world.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected and, where the listener asks for it, finished its TLS or WebSocket handshake.
    /// `certificate` is the client's own, in DER, checked by the handshake against the listener's CA and CRL.
    Accepted { conn: ConnId, listener: ListenerId, peer: Option<SocketAddr>, certificate: Option<&'a [u8]> },
    /// Bytes came. The engine decodes in place and keeps only an unfinished packet.
    Received { conn: ConnId, bytes: &'a [u8] },
    /// The shell wrote all that the outbox held.
    Flushed { conn: ConnId },
    /// The peer closed, or the transport failed: no more bytes either way. `conn` is free for another connection. Not
    /// sent in answer to `Output::Close`.
    Closed { conn: ConnId, error: Option<String> },
    /// A datagram came on a UDP link.
    Datagram { link: LinkId, from: SocketAddr, bytes: &'a [u8] },
    /// A datagram came to a multicast group of a UDP link.
    Multicast { link: LinkId, from: SocketAddr, bytes: &'a [u8] },
    /// The peer at an address of a link that knows its peers (DTLS) proved who it is, before its first datagram; or,
    /// with `None`, what proved it is over. The user of the ACL for a node that connects from there.
    Identified { link: LinkId, from: SocketAddr, identity: Option<&'a str> },
    /// A serial port was opened; what came before is void.
    SerialOpened { link: LinkId },
    /// Bytes came from a serial port.
    SerialBytes { link: LinkId, bytes: &'a [u8] },
    /// A serial port vanished or could not be opened; the shell keeps trying.
    SerialClosed { link: LinkId, error: String },
    /// `Output::Dial` succeeded, TLS included: the upstream may talk over `conn`, where `login` proves who we are.
    Dialed { upstream: UpstreamId, conn: ConnId, login: Login },
    /// `Output::Dial` failed.
    DialFailed { upstream: UpstreamId, error: String },
    /// What came of `Output::Probe`.
    Probed { upstream: UpstreamId, answers: bool },
    /// This box got an address or a route.
    NetworkChanged,
    /// The operator wants another configuration. It is in force when this was handled.
    Reconfigure(Box<Plan>),
    /// What log-ins are checked against, at start and whenever it changes. Until it comes there is nothing.
    Credentials(Credentials),
    /// `Output::Verify` was done: whether the proof is good.
    Verified { check: u64, good: bool },
    /// The store answers.
    Store(Reply),
    /// The deadline passed.
    Timeout,
    /// The operator wants the daemon to stop: clients are told, the batch in hand is committed.
    Shutdown,
}

/// What the engine wants done. Drained to `None` after each input.
#[derive(Debug)]
pub enum Output {
    /// `Engine::outbox(conn)` has bytes. Once per turn and connection.
    Flush { conn: ConnId },
    /// Write what the outbox still holds (for a short while), then close. The engine is done with the connection when
    /// it asks for this, and counts it no longer: no input follows, neither `Received` nor `Flushed` nor `Closed`. The
    /// shell takes the outbox before its next input, and may use `conn` again as soon as it has. The socket lives on
    /// until its end was seen or waited for long enough, and the shell's own limits count it until then.
    Close { conn: ConnId },
    /// Send one datagram.
    Datagram { link: LinkId, to: SocketAddr, bytes: Vec<u8> },
    /// Send one datagram to each multicast group of the UDP link. `radius` is that of MQTT-SN: how many hops, 0 for the
    /// whole network.
    Multicast { link: LinkId, radius: u8, bytes: Vec<u8> },
    /// Write to a serial port.
    SerialWrite { link: LinkId, bytes: Vec<u8> },
    /// Connect to the upstream's endpoint at this position of its `url` list, resolving its name afresh.
    Dial { upstream: UpstreamId, endpoint: usize },
    /// Connect likewise, and close again: does it answer?
    Probe { upstream: UpstreamId, endpoint: usize },
    /// Call [`Proof::verify`] where nobody waits for it, and say what it said in `Input::Verified`. The engine asks
    /// for no second check before that. Ask [`Engine::intake`](crate::engine::Engine::intake) before reading from a
    /// connection: that of the client is not read meanwhile.
    Verify { check: u64, proof: Proof },
    /// Hand this batch to the store.
    Commit(Batch),
    /// Hand this read to the store.
    Read(Read),
    /// Write this to the log.
    Notice(Notice),
    /// After `Input::Shutdown`: everything that can be safe is safe.
    ShutdownDone,
}
