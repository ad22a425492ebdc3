//! UDP links, in the clear or with DTLS.

mod batch;
mod multicast;
mod overflow;
mod secure;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::config::{LinkId, UdpLink};
use crate::engine::Input;
use crate::io::Driver;
use crate::io::driver::Core;
use crate::io::dtls::DtlsIdentity;
use crate::io::share::come_back_later;
use crate::io::udp::batch::Batch;
use crate::io::udp::multicast::Place;
use crate::io::udp::overflow::Overflow;
use crate::io::udp::secure::Secure;
use crate::metrics::{Level, Notice, PortStats};
use crate::time::Now;

/// Batches received in one go before other tasks get their turn.
const BATCHES_PER_TURN: usize = 4;
/// Outgoing datagrams that wait for a full socket.
const MAX_QUEUED_DATAGRAMS: usize = 4096;
/// What a forwarder's envelope and DTLS may add to a message.
const EXTRA_BYTES: usize = 255 + 128;

/// A bound UDP socket and what waits to be sent.
pub struct UdpPort {
    name: String,
    socket: UdpSocket,
    /// Longer datagrams are cut, and are no messages then.
    slot_bytes: usize,
    places: Vec<Place>,
    /// How far a message to the whole network goes.
    hops: u8,
    queue: RefCell<VecDeque<(SocketAddr, Vec<u8>)>>,
    /// Answers gather in the queue until all that came was handled.
    gathering: Cell<bool>,
    batch: RefCell<Batch>,
    overflow: RefCell<Overflow>,
    secure: Option<Secure>,
    stats: Cell<PortStats>,
    task: RefCell<Option<Waker>>,
}

/// What a UDP link is to be.
pub struct UdpOptions<'a> {
    /// As the log names it.
    pub name: &'a str,
    pub settings: &'a UdpLink,
    /// Longest message.
    pub mtu: usize,
    /// Whether an IPv6 wildcard takes IPv4 too.
    pub dual_stack: bool,
    /// With it, the link speaks DTLS.
    pub dtls: Option<Rc<DtlsIdentity>>,
}

/// Binds a UDP link. Needs a runtime. `beside` is a port that has the address until the new one takes its place.
///
/// # Errors
/// If the address is taken, is not on this machine, or needs more rights.
pub fn bind_udp(options: UdpOptions<'_>, beside: Option<&UdpPort>) -> io::Result<Rc<UdpPort>> {
    let UdpOptions { name, settings: udp, mtu, dual_stack, dtls } = options;
    let socket = Socket::new(Domain::for_address(udp.bind), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if udp.bind.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    if multicast::shares_port(udp) {
        socket.set_reuse_address(true)?;
    }
    multicast::hear_no_groups(&socket, udp.bind)?;
    // Without the right to exceed it, more than `net.core.rmem_max` is cut down to that, and what we get will do.
    if setsockopt(&socket, sockopt::RcvBufForce, &udp.receive_buffer).is_err() {
        socket.set_recv_buffer_size(udp.receive_buffer).ok();
    }
    let share = |may| -> io::Result<()> {
        let Some(old) = beside else { return Ok(()) };
        SockRef::from(&old.socket).set_reuse_port(may)?;
        socket.set_reuse_port(may)
    };
    share(true)?;
    let bound = socket.bind(&udp.bind.into());
    share(false)?;
    bound?;
    let socket = UdpSocket::from_std(socket.into())?;
    Ok(Rc::new(UdpPort {
        name: name.to_owned(),
        slot_bytes: mtu + EXTRA_BYTES,
        places: multicast::places(udp),
        hops: udp.multicast_hops,
        queue: RefCell::default(),
        gathering: Cell::new(false),
        batch: RefCell::new(Batch::new()),
        overflow: RefCell::new(Overflow::new(&socket)?),
        secure: dtls.map(Secure::new),
        stats: Cell::default(),
        task: RefCell::default(),
        socket,
    }))
}

/// Moves datagrams between the socket and the engine for ever.
pub async fn serve_udp(driver: Rc<Driver>, link: LinkId, port: Rc<UdpPort>) {
    driver.add_udp(link, Rc::clone(&port));
    // They end with this one.
    let mut groups = JoinSet::new();
    for place in &port.places {
        groups.spawn_local(multicast::serve(Rc::clone(&driver), link, port.name.clone(), place.clone()));
    }
    let start = driver.clock.to_system(driver.clock.now().at);
    let mut alarm = pin!(tokio::time::sleep_until(start.into()));
    poll_fn(|cx| {
        *port.task.borrow_mut() = Some(cx.waker().clone());
        let now = driver.clock.now();
        let mut core = driver.core();
        port.gathering.set(true);
        port.poll_receive(&driver, link, &mut core, now, cx);
        if let Some(secure) = &port.secure {
            secure.poll_alarm(&port, &driver, link, &mut core, now, alarm.as_mut(), cx);
        }
        port.gathering.set(false);
        port.poll_queue(cx);
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

    /// Whether it has room for messages of this length, and not much more.
    #[must_use]
    pub fn takes(&self, mtu: usize) -> bool {
        self.slot_bytes == mtu + EXTRA_BYTES
    }

    /// What it shows its nodes, with DTLS.
    #[must_use]
    pub fn identity(&self) -> Option<Rc<DtlsIdentity>> {
        self.secure.as_ref().map(Secure::identity)
    }

    /// Sends a message, encrypted where the link is.
    pub(super) fn send(&self, now: std::time::Instant, to: SocketAddr, bytes: Vec<u8>) {
        match &self.secure {
            Some(secure) => secure.send(self, now, to, &bytes),
            None => self.transmit(to, bytes),
        }
    }

    /// Sends a message to each group, so many hops far; 0: as far as it may go.
    pub(super) fn send_to_groups(&self, radius: u8, bytes: &[u8]) {
        let hops = if radius == 0 { self.hops } else { radius.min(self.hops) };
        for place in &self.places {
            if place.send(&self.socket, hops, bytes).is_err() {
                self.count(|stats| stats.dropped += 1);
            }
        }
    }

    /// Sends a datagram now, or queues it when the socket is full or others are about to follow.
    fn transmit(&self, to: SocketAddr, bytes: Vec<u8>) {
        let mut queue = self.queue.borrow_mut();
        if !self.gathering.get() && queue.is_empty() && !self.would_block(self.socket.try_send_to(&bytes, to)) {
            return;
        }
        if queue.len() >= MAX_QUEUED_DATAGRAMS {
            self.count(|stats| stats.dropped += 1);
            return;
        }
        queue.push_back((to, bytes));
        if queue.len() == 1 && !self.gathering.get() {
            self.wake();
        }
    }

    /// Has the task look at what was left for it.
    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Sends what waits, as far as the socket takes it.
    fn poll_queue(&self, cx: &mut Context<'_>) {
        let mut queue = self.queue.borrow_mut();
        let mut batch = self.batch.borrow_mut();
        while !queue.is_empty() {
            if self.socket.poll_send_ready(cx).is_pending() {
                return;
            }
            match batch.send(&self.socket, queue.iter()) {
                Ok(sent) => drop(queue.drain(..sent.max(1))),
                Err(error) if batch::is_not_ready(&error) => {}
                // Of the first one. What is wrong with it is not wrong with the others.
                Err(_) => {
                    self.count(|stats| stats.dropped += 1);
                    queue.pop_front();
                }
            }
        }
        // A queue that was long once gives its memory back.
        queue.shrink_to(MAX_QUEUED_DATAGRAMS / 16);
    }

    fn poll_receive(&self, driver: &Driver, link: LinkId, core: &mut Core, now: Now, cx: &mut Context<'_>) {
        let mut buffer = driver.buffer.borrow_mut();
        let mut batch = self.batch.borrow_mut();
        for _ in 0..BATCHES_PER_TURN {
            if self.socket.poll_recv_ready(cx).is_pending() {
                return;
            }
            let received =
                batch.receive(&self.socket, &mut buffer, self.slot_bytes, |from, bytes| match &self.secure {
                    Some(secure) => secure.receive(self, driver, link, core, now, from, bytes),
                    None => core.input(now, Input::Datagram { link, from, bytes }),
                });
            // Nothing came after all, or an earlier datagram of ours was refused somewhere: either way, the socket is
            // as good as before.
            received.ok();
        }
        // There may be more than we can take.
        if let Some(notice) = self.look_for_losses(now) {
            core.notice(now, &notice);
        }
        come_back_later(cx);
    }

    /// Whether the socket was full; counts a datagram that the system refused for good.
    fn would_block(&self, sent: io::Result<usize>) -> bool {
        match sent {
            Ok(_) => false,
            Err(error) if batch::is_not_ready(&error) => true,
            Err(_) => {
                self.count(|stats| stats.dropped += 1);
                false
            }
        }
    }

    /// Counts what the system dropped since the last look, which was a while ago; what there is to say of it.
    pub(super) fn look_for_losses(&self, now: Now) -> Option<Notice> {
        let lost = self.overflow.borrow_mut().look(now.at);
        if lost == 0 {
            return None;
        }
        self.count(|stats| stats.lost += lost);
        let detail = format!("{lost} came faster than they could be taken");
        Some(Notice::new(Level::Warn, "datagrams lost", self.name.as_str(), detail))
    }

    fn count(&self, count: impl FnOnce(&mut PortStats)) {
        let mut stats = self.stats.get();
        count(&mut stats);
        self.stats.set(stats);
    }

    /// What it counted so far.
    pub(super) fn stats(&self) -> PortStats {
        PortStats { dtls: self.secure.as_ref().map(Secure::stats), ..self.stats.get() }
    }

    /// Ends its associations, and tells the nodes as far as the socket takes it.
    pub(super) fn close(&self) {
        if let Some(secure) = &self.secure {
            secure.close(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_wait_in_order_for_a_full_socket_and_too_many_are_dropped_and_counted() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = &UdpLink { bind: local, ..UdpLink::default() };
        let options = UdpOptions { name: "udp", settings, mtu: 1400, dual_stack: false, dtls: None };
        let (port, receiver) = (bind_udp(options, None).unwrap(), UdpSocket::bind(local).await.unwrap());
        let to = receiver.local_addr().unwrap();
        port.queue.borrow_mut().push_back((to, vec![0]));
        for i in 1..=MAX_QUEUED_DATAGRAMS {
            port.transmit(to, vec![u8::try_from(i % 256).unwrap()]);
        }
        assert_eq!((port.queue.borrow().len(), port.stats().dropped), (MAX_QUEUED_DATAGRAMS, 1));
        port.queue.borrow_mut().truncate(50);
        poll_fn(|cx| {
            port.poll_queue(cx);
            if port.queue.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        port.transmit(to, vec![50]);
        for i in 0..=50 {
            let mut byte = [0];
            receiver.recv(&mut byte).await.unwrap();
            assert_eq!(byte, [i]);
        }
    }
}
