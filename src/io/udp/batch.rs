//! Many datagrams with one system call, both ways.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams in one system call.
pub(super) const BATCH: usize = 32;

/// Room for the addresses of one batch.
pub(super) struct Batch {
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { incoming: MultiHeaders::preallocate(BATCH, None), outgoing: MultiHeaders::preallocate(BATCH, None) }
    }

    /// Takes the datagrams that are there, as many as `buffer` has room for at `slot_bytes` each; what is longer is
    /// cut to that. Returns how many came.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        slot_bytes: usize,
        mut take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let count = (buffer.len() / slot_bytes).clamp(1, BATCH);
        let mut chunks = buffer.chunks_mut(slot_bytes);
        let mut slots: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let (incoming, slots) = (&mut self.incoming, &mut slots[..count]);
        socket.try_io(Interest::READABLE, || {
            let received = recvmmsg(socket.as_raw_fd(), incoming, slots, MsgFlags::MSG_DONTWAIT, None)?;
            let mut count = 0;
            for message in received {
                count += 1;
                let Some(from) = message.address.as_ref().and_then(address) else { continue };
                // An empty datagram has no slice.
                take(from, message.iovs().next().unwrap_or_default());
            }
            Ok(count)
        })
    }

    /// Sends the datagrams in order. Returns how many went out; fewer than given if the socket is full.
    pub(super) fn send<'q>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = &'q (SocketAddr, Vec<u8>)>,
    ) -> io::Result<usize> {
        let mut slices: [[IoSlice<'q>; 1]; BATCH] = [[IoSlice::new(&[])]; BATCH];
        let mut addresses = [None; BATCH];
        let mut count = 0;
        for (slot, (to, bytes)) in datagrams.take(BATCH).enumerate() {
            slices[slot] = [IoSlice::new(bytes)];
            addresses[slot] = Some(SockaddrStorage::from(*to));
            count = slot + 1;
        }
        let outgoing = &mut self.outgoing;
        socket.try_io(Interest::WRITABLE, || {
            let sent = sendmmsg(
                socket.as_raw_fd(),
                outgoing,
                &slices[..count],
                &addresses[..count],
                [],
                MsgFlags::MSG_DONTWAIT,
            );
            Ok(sent?.count())
        })
    }
}

/// An address of the internet, with the scope of a link-local one.
fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
}

/// Whether a system call on the socket is to be tried again when it is ready.
pub(super) fn is_not_ready(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::EINTR as i32)
}
