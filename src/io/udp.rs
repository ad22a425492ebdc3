//! UDP links.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::config::LinkId;
use crate::engine::Input;
use crate::io::Driver;
use crate::io::driver::{Core, Stats};
use crate::time::Now;

/// What the kernel is asked to keep for us while we are busy; it may give less.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Datagrams received in one go before other tasks get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Outgoing datagrams that wait for a full socket.
const MAX_QUEUED_DATAGRAMS: usize = 1024;

/// A bound UDP socket and what waits to be sent.
pub struct UdpPort {
    socket: UdpSocket,
    groups: Vec<SocketAddr>,
    queue: RefCell<VecDeque<(SocketAddr, Vec<u8>)>>,
    task: RefCell<Option<Waker>>,
}

/// Binds a UDP link. An IPv6 wildcard takes IPv4 too when `dual_stack` is set. Needs a runtime. `beside` is a
/// port that has the address until the new one takes its place.
///
/// # Errors
/// If the address is taken, is not on this machine, or needs more rights.
pub fn bind_udp(
    bind: SocketAddr,
    dual_stack: bool,
    groups: &[SocketAddr],
    beside: Option<&UdpPort>,
) -> io::Result<Rc<UdpPort>> {
    let socket = Socket::new(Domain::for_address(bind), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // More than `net.core.rmem_max` is cut down to it, and whatever we get will do.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).ok();
    let share = |may| -> io::Result<()> {
        let Some(old) = beside else { return Ok(()) };
        SockRef::from(&old.socket).set_reuse_port(may)?;
        socket.set_reuse_port(may)
    };
    share(true)?;
    let bound = socket.bind(&bind.into());
    share(false)?;
    bound?;
    Ok(Rc::new(UdpPort {
        socket: UdpSocket::from_std(socket.into())?,
        groups: groups.to_vec(),
        queue: RefCell::default(),
        task: RefCell::default(),
    }))
}

/// Moves datagrams between the socket and the engine for ever.
pub async fn serve_udp(driver: Rc<Driver>, link: LinkId, port: Rc<UdpPort>) {
    driver.add_udp(link, Rc::clone(&port));
    poll_fn(|cx| {
        *port.task.borrow_mut() = Some(cx.waker().clone());
        let now = driver.clock.now();
        let mut core = driver.core();
        port.poll_queue(cx, &mut core.stats);
        port.poll_receive(&driver, link, &mut core, now, cx);
        driver.end_turn(core);
        Poll::<()>::Pending
    })
    .await;
}

impl UdpPort {
    /// The address it is bound to, with the port that the system chose if it was asked to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a datagram now, or queues it when the socket is full.
    pub(super) fn send(&self, to: SocketAddr, bytes: Vec<u8>, stats: &mut Stats) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() && !would_block(self.socket.try_send_to(&bytes, to), stats) {
            return;
        }
        if queue.len() >= MAX_QUEUED_DATAGRAMS {
            stats.datagrams_dropped += 1;
            return;
        }
        queue.push_back((to, bytes));
        if queue.len() == 1
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Sends a datagram to every group of the link.
    pub(super) fn send_to_groups(&self, bytes: &[u8], stats: &mut Stats) {
        for group in &self.groups {
            self.send(*group, bytes.to_vec(), stats);
        }
    }

    /// Sends what waits, as far as the socket takes it.
    fn poll_queue(&self, cx: &mut Context<'_>, stats: &mut Stats) {
        let mut queue = self.queue.borrow_mut();
        while let Some((to, bytes)) = queue.front() {
            match self.socket.poll_send_to(cx, bytes, *to) {
                Poll::Pending => return,
                Poll::Ready(sent) => {
                    stats.datagrams_dropped += u64::from(sent.is_err());
                    queue.pop_front();
                }
            }
        }
        // A queue that was long once gives its memory back.
        queue.shrink_to(MAX_QUEUED_DATAGRAMS / 16);
    }

    fn poll_receive(&self, driver: &Driver, link: LinkId, core: &mut Core, now: Now, cx: &mut Context<'_>) {
        let mut buffer = driver.buffer.borrow_mut();
        for _ in 0..DATAGRAMS_PER_TURN {
            let mut room = ReadBuf::new(&mut buffer);
            match self.socket.poll_recv_from(cx, &mut room) {
                Poll::Pending => return,
                Poll::Ready(Ok(from)) => {
                    let bytes = room.filled();
                    core.input(now, Input::Datagram { link, from, bytes });
                }
                // An earlier datagram of ours was refused somewhere; the socket is as good as before.
                Poll::Ready(Err(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
    }
}

/// Whether the socket was full; counts a datagram that the system refused for good.
fn would_block(sent: io::Result<usize>, stats: &mut Stats) -> bool {
    match sent {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(_) => {
            stats.datagrams_dropped += 1;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_wait_in_order_for_a_full_socket_and_too_many_are_dropped_and_counted() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (port, receiver) = (bind_udp(local, false, &[], None).unwrap(), UdpSocket::bind(local).await.unwrap());
        let to = receiver.local_addr().unwrap();
        let mut stats = Stats::default();
        port.queue.borrow_mut().push_back((to, vec![0]));
        for i in 1..=MAX_QUEUED_DATAGRAMS {
            port.send(to, vec![u8::try_from(i % 256).unwrap()], &mut stats);
        }
        assert_eq!((port.queue.borrow().len(), stats.datagrams_dropped), (MAX_QUEUED_DATAGRAMS, 1));
        port.queue.borrow_mut().truncate(5);
        poll_fn(|cx| {
            port.poll_queue(cx, &mut stats);
            if port.queue.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        port.send(to, vec![5], &mut stats);
        for i in 0..=5 {
            let mut byte = [0];
            receiver.recv(&mut byte).await.unwrap();
            assert_eq!(byte, [i]);
        }
    }
}
