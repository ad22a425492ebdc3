//! One MQTT connection, and the poller that watches them all.

use crate::transport::{Broker, Transport};
use crate::wire::{self, Packet, Session};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

/// One read takes at most this much; the buffer is shared by all connections.
pub(crate) const READ_BYTES: usize = 256 * 1024;
/// How long a broker may take to answer CONNECT or SUBSCRIBE.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: Transport,
    /// The beginning of a packet whose end has not arrived.
    partial: Vec<u8>,
    /// Encoded packets; the first `written` bytes are with the kernel.
    out: Vec<u8>,
    written: usize,
    watches_writable: bool,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadState {
    Open,
    Closed,
}

impl ReadState {
    /// For a connection that the broker has no reason to close.
    pub(crate) fn expect_open(self) -> io::Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Closed => Err(io::Error::other("the broker closed a connection")),
        }
    }
}

impl Client {
    /// Connects and queues CONNECT; nothing is sent yet.
    pub(crate) fn dial(broker: &Broker, client_id: &str) -> io::Result<Self> {
        Self::dial_with(broker, client_id, Session::Clean)
    }

    fn dial_with(broker: &Broker, client_id: &str, session: Session) -> io::Result<Self> {
        let mut client = Self::over(Transport::dial(broker)?);
        client.out = wire::connect(client_id, session);
        Ok(client)
    }

    /// The other end of a connection, for the forwarder.
    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Transport::Tcp(stream)))
    }

    fn over(stream: Transport) -> Self {
        Self { stream, partial: Vec::new(), out: Vec::new(), written: 0, watches_writable: false }
    }

    /// Connects, waits for CONNACK, and leaves the socket non-blocking.
    pub(crate) fn connect(broker: &Broker, client_id: &str) -> io::Result<Self> {
        let mut client = Self::dial(broker, client_id)?;
        client.exchange(&wire::CONNACK_ACCEPTED)?;
        client.set_nonblocking()?;
        Ok(client)
    }

    /// As [`Self::connect`], with one subscription granted.
    pub(crate) fn subscriber(broker: &Broker, client_id: &str, filter: &str, qos: u8) -> io::Result<Self> {
        Self::subscriber_with(broker, client_id, filter, qos, Session::Clean)
    }

    /// As [`Self::subscriber`], in a session that outlives the connection.
    pub(crate) fn stored_subscriber(broker: &Broker, client_id: &str, filter: &str, qos: u8) -> io::Result<Self> {
        Self::subscriber_with(broker, client_id, filter, qos, Session::Kept)
    }

    fn subscriber_with(
        broker: &Broker,
        client_id: &str,
        filter: &str,
        qos: u8,
        session: Session,
    ) -> io::Result<Self> {
        let mut client = Self::dial_with(broker, client_id, session)?;
        client.exchange(&wire::CONNACK_ACCEPTED)?;
        client.out.extend(wire::subscribe(filter, qos));
        client.exchange(&wire::suback(qos))?;
        client.set_nonblocking()?;
        Ok(client)
    }

    /// Comes back to a stored session.
    pub(crate) fn resume(broker: &Broker, client_id: &str) -> io::Result<Self> {
        let mut client = Self::dial_with(broker, client_id, Session::Kept)?;
        client.exchange(&wire::CONNACK_RESUMED)?;
        client.set_nonblocking()?;
        Ok(client)
    }

    /// Sends what is queued and waits for exactly this answer.
    fn exchange(&mut self, expected: &[u8]) -> io::Result<()> {
        self.stream.socket().set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        self.stream.write_all(&self.out)?;
        self.out.clear();
        let mut answer = vec![0; expected.len()];
        self.stream.read_exact(&mut answer)?;
        if answer == expected {
            return Ok(());
        }
        Err(io::Error::other(format!("the broker answered {answer:02x?}, expected {expected:02x?}")))
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.stream.socket().set_nonblocking(true)
    }

    /// Where to append packets; [`Self::flush`] sends them.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Reads once and hands over each complete packet, with the buffer for answers.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut on_packet: impl FnMut(Packet, &mut Vec<u8>),
    ) -> io::Result<ReadState> {
        let mut unexpected = false;
        let state = self.read_frames(buffer, |frame, body_at, out| match wire::decode(frame, body_at) {
            Ok(packet) => on_packet(packet, out),
            Err(wire::Unexpected) => unexpected = true,
        })?;
        if unexpected { Err(io::Error::other("a packet that was not asked for")) } else { Ok(state) }
    }

    /// As [`Self::read`], with the bytes of each packet and where in them its body begins.
    pub(crate) fn read_frames(
        &mut self,
        buffer: &mut [u8],
        mut on_frame: impl FnMut(&[u8], usize, &mut Vec<u8>),
    ) -> io::Result<ReadState> {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        let end = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(ReadState::Closed),
            Ok(count) => kept + count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(ReadState::Open);
            }
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..end];
        while let Some((body_at, length)) = wire::frame(rest).map_err(|_| io::Error::other("not MQTT"))? {
            on_frame(&rest[..length], body_at, &mut self.out);
            rest = &rest[length..];
        }
        if rest.len() == buffer.len() {
            return Err(io::Error::other("a packet larger than the read buffer"));
        }
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        Ok(ReadState::Open)
    }

    /// Writes as much as the kernel takes, and has the poller say when it takes the rest.
    pub(crate) fn flush(&mut self, poller: &Poller, token: usize) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.push()?;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let blocked = !self.out.is_empty() || self.stream.holds_back();
        if blocked != self.watches_writable {
            self.watches_writable = blocked;
            poller.modify(self, token, blocked)?;
        }
        Ok(())
    }

    /// A clean goodbye where the socket takes it; the load is over, so nothing hangs on it.
    pub(crate) fn disconnect(mut self) {
        if let Err(error) = self.stream.write_all(&wire::DISCONNECT) {
            eprintln!("mqtt-load: DISCONNECT not sent: {error}");
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// epoll, level-triggered; a token says whose event it is.
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); 256] })
    }

    pub(crate) fn add(&self, fd: impl AsFd, token: usize) -> io::Result<()> {
        Ok(self.epoll.add(fd, interest(token, false)?)?)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    fn modify(&self, fd: impl AsFd, token: usize, writable: bool) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut interest(token, writable)?)?)
    }

    /// Waits, then lists the tokens that are ready in `ready`; empty after `timeout_ms`.
    pub(crate) fn wait(&mut self, timeout_ms: u16, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let count = match self.epoll.wait(&mut self.events, EpollTimeout::from(timeout_ms)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &self.events[..count] {
            ready.push(usize::try_from(event.data()).map_err(io::Error::other)?);
        }
        Ok(())
    }
}

fn interest(token: usize, writable: bool) -> io::Result<EpollEvent> {
    let write = if writable { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
    Ok(EpollEvent::new(EpollFlags::EPOLLIN | write, u64::try_from(token).map_err(io::Error::other)?))
}

/// Lets this process hold as many sockets as it is allowed to; an error when `needed` are more than that.
pub(crate) fn raise_file_limit(needed: u32) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let spare = 16;
    if hard < u64::from(needed) + spare {
        return Err(io::Error::other(format!("{needed} connections need more than {hard} open files")));
    }
    Ok(())
}
