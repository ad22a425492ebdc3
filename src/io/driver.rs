//! The driver: the engine, and who has to be woken for what it wants done.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;
use tokio::sync::Notify;

use crate::config::{LinkId, ListenerId, UpstreamId};
use crate::engine::{Engine, Input, Login, Output};
use crate::io::deadline::{self, Alarm};
use crate::io::disk::Disk;
use crate::io::notices::Notices;
use crate::io::serial::SerialPort;
use crate::io::turnstile::Turnstile;
use crate::io::udp::UdpPort;
use crate::io::upstream::{Dialer, Target};
use crate::io::verifier::Verifier;
use crate::metrics::{Notice, PortStats};
use crate::mqtt::{ConnId, Outbox};
use crate::sys::Clock;
use crate::time::Now;

/// Size of the one buffer that all reads go through.
pub(super) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What the shells did, beside what the engine counts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections accepted, including those that did not finish their TLS handshake.
    pub accepted: u64,
    /// Connections closed at once because their listener was full.
    pub refused: u64,
    /// Connections closed at once because their address had its share already.
    pub refused_by_address: u64,
    /// TLS and WebSocket handshakes that failed or took too long.
    pub handshakes_failed: u64,
    /// Messages to links that are not there.
    pub link_gone: u64,
}

/// The engine and everything around it. Lives on one thread, shared by its tasks.
pub struct Driver {
    pub(super) clock: Clock,
    /// Lent to whoever reads, for the length of one poll.
    pub(super) buffer: RefCell<Box<[u8]>>,
    core: RefCell<Core>,
    dialer: Dialer,
    pub(super) handshakes: Turnstile,
    /// Connection tasks alive.
    connections: Cell<usize>,
    changed: Notify,
}

/// What is borrowed during a turn.
pub(super) struct Core {
    clock: Clock,
    pub(super) engine: Engine,
    pub(super) stats: Stats,
    pub(super) alarm: Alarm,
    /// A connection whose outbox holds this much is not read until its peer took some of it.
    pub(super) pause_bytes: usize,
    slots: Slab<Slot>,
    /// The connection whose task is being polled. It looks at its slot itself, so it needs no wake.
    running: Option<ConnId>,
    /// By [`LinkId`].
    links: Vec<LinkPort>,
    /// Dials and probes asked for in this turn; started when the turn ends.
    dials: Vec<(UpstreamId, usize, Errand)>,
    pub(super) disk: Box<dyn Disk>,
    /// None: nobody can log in with a password or a token.
    verifier: Option<Verifier>,
    notices: Notices,
    shutdown_done: bool,
}

/// What the driver knows of a connection. Its task has the rest.
#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    dirty: bool,
    /// Set when the engine is done with the connection: what is still to be written.
    closing: Option<Box<Outbox>>,
}

/// What an endpoint is connected to for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Dial,
    Probe,
}

enum LinkPort {
    None,
    Udp(Rc<UdpPort>),
    Serial(Rc<SerialPort>),
}

impl Driver {
    /// A driver for `engine`, which nobody can dial from yet.
    #[must_use]
    pub fn new(engine: Engine, clock: Clock, disk: Box<dyn Disk>) -> Rc<Self> {
        Rc::new(Self {
            clock,
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice()),
            core: RefCell::new(Core {
                clock,
                engine,
                stats: Stats::default(),
                alarm: Alarm::default(),
                pause_bytes: usize::MAX,
                slots: Slab::new(),
                running: None,
                links: Vec::new(),
                dials: Vec::new(),
                disk,
                verifier: None,
                notices: Notices::default(),
                shutdown_done: false,
            }),
            dialer: Dialer::default(),
            handshakes: Turnstile::default(),
            connections: Cell::new(0),
            changed: Notify::new(),
        })
    }

    /// Does what the engine wants from the beginning, and watches its deadlines from now on.
    /// Call it on the engine's thread once listeners and links are in place.
    pub fn start(self: &Rc<Self>) {
        tokio::task::spawn_local(deadline::watch(Rc::clone(self)));
        self.inputs(std::iter::empty());
    }

    /// Where upstreams are from now on. Attempts to reach those in `changed` that are under way are given up, and the
    /// engine is not told: it has to know that they changed.
    pub fn set_targets(&self, targets: BTreeMap<UpstreamId, Rc<Target>>, changed: &[UpstreamId]) {
        self.dialer.set_targets(targets, changed);
    }

    /// A connection is not read while its outbox holds so many bytes.
    pub fn set_pause_bytes(&self, pause_bytes: usize) {
        self.core().pause_bytes = pause_bytes;
    }

    /// Whether log-ins are checked.
    #[must_use]
    pub fn has_verifier(&self) -> bool {
        self.core.borrow().verifier.is_some()
    }

    /// A link is no more: what is still sent there is dropped and counted.
    pub fn remove_link(&self, link: LinkId) {
        self.core().add_link(link, LinkPort::None);
    }

    /// Says goodbye to nodes, where the link has a way to.
    pub fn close_links(&self) {
        let mut core = self.core();
        for link in 0..core.links.len() {
            core.replace_link(link, LinkPort::None);
        }
    }

    /// Gives the checks of log-ins to this thread from now on.
    pub fn set_verifier(&self, verifier: Verifier) {
        self.core().verifier = Some(verifier);
    }

    /// Tells the engine one fact and does what it wants done.
    pub fn input(self: &Rc<Self>, input: Input<'_>) {
        self.inputs(std::iter::once(input));
    }

    /// Tells the engine several facts of one moment.
    pub fn inputs<'a>(self: &Rc<Self>, inputs: impl Iterator<Item = Input<'a>>) {
        let now = self.clock.now();
        let mut core = self.core();
        core.dispatch(now);
        for input in inputs {
            core.input(now, input);
        }
        self.end_turn(core);
    }

    /// Has somebody look into the engine between two messages, and does what it wants done afterwards.
    pub fn visit(self: &Rc<Self>, visit: impl FnOnce(&mut Engine, Now)) {
        let now = self.clock.now();
        let mut core = self.core();
        core.tell_ports(now);
        visit(&mut core.engine, now);
        core.dispatch(now);
        self.end_turn(core);
    }

    /// Writes to the log what a shell has to say.
    pub(super) fn log(&self, notice: &Notice) {
        let now = self.clock.now();
        self.core().notice(now, notice);
    }

    /// Counts what a shell did.
    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.core().stats);
    }

    /// What the shells did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.borrow().stats
    }

    /// Waits until the engine answered `Input::Shutdown`.
    pub async fn shutdown_done(&self) {
        self.until(|| self.core.borrow().shutdown_done).await;
    }

    /// Waits until no connection is left.
    pub async fn disconnected(&self) {
        self.until(|| self.connections.get() == 0).await;
    }

    async fn until(&self, done: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if done() {
                return;
            }
            changed.await;
        }
    }

    /// Borrows what a turn needs. Never held across an `await`.
    pub(super) fn core(&self) -> RefMut<'_, Core> {
        self.core.borrow_mut()
    }

    /// Ends a turn: starts dials, sets the alarm, tells who waits for the shutdown.
    pub(super) fn end_turn(self: &Rc<Self>, mut core: RefMut<'_, Core>) {
        core.running = None;
        let deadline = core.engine.deadline();
        core.alarm.expect(deadline);
        if core.shutdown_done {
            self.changed.notify_waiters();
        }
        if core.dials.is_empty() {
            return;
        }
        let dials = std::mem::take(&mut core.dials);
        drop(core);
        for (upstream, endpoint, errand) in dials {
            match errand {
                Errand::Dial => self.dialer.dial(self, upstream, endpoint),
                Errand::Probe => self.dialer.probe(self, upstream, endpoint),
            }
        }
    }

    /// Gives a new accepted connection its number and tells the engine.
    pub(super) fn on_accepted(
        self: &Rc<Self>,
        listener: ListenerId,
        peer: Option<std::net::SocketAddr>,
        certificate: Option<&[u8]>,
    ) -> ConnId {
        let mut core = self.core();
        let conn = core.open();
        core.input(self.clock.now(), Input::Accepted { conn, listener, peer, certificate });
        self.end_turn(core);
        conn
    }

    /// Gives a dialled connection its number and tells the engine.
    pub(super) fn on_dialed(self: &Rc<Self>, upstream: UpstreamId, login: Login) -> ConnId {
        let mut core = self.core();
        let conn = core.open();
        core.input(self.clock.now(), Input::Dialed { upstream, conn, login });
        self.end_turn(core);
        conn
    }

    /// A connection's task begins (+1) or has ended.
    pub(super) fn on_task(&self, begins: bool) {
        let count = self.connections.get();
        self.connections.set(if begins { count + 1 } else { count - 1 });
        if count == 1 && !begins {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(super) fn add_udp(&self, link: LinkId, port: Rc<UdpPort>) {
        self.core().add_link(link, LinkPort::Udp(port));
    }

    pub(super) fn add_serial(&self, link: LinkId, port: Rc<SerialPort>) {
        self.core().add_link(link, LinkPort::Serial(port));
    }
}

impl Core {
    /// Tells the engine one fact and does what it wants done.
    pub(super) fn input(&mut self, now: Now, input: Input<'_>) {
        self.engine.handle_input(now, input);
        self.dispatch(now);
    }

    /// Writes to the log what a shell has to say.
    pub(super) fn notice(&mut self, now: Now, notice: &Notice) {
        self.notices.log(now.at, notice);
    }

    fn dispatch(&mut self, now: Now) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                // One that is dirty already was woken, or waits for its socket.
                Output::Flush { conn } if self.is_dirty(conn) => {}
                Output::Flush { conn } => self.wake(conn, |slot| slot.dirty = true),
                Output::Close { conn } => {
                    // The engine may forget the connection from its next input on, so the rest is taken now.
                    let rest = self.engine.outbox(conn).map(std::mem::take).unwrap_or_default();
                    self.wake(conn, |slot| slot.closing = Some(Box::new(rest)));
                }
                Output::Datagram { link, to, bytes } => match self.links.get(usize::from(link.0)) {
                    Some(LinkPort::Udp(port)) => port.send(self.clock.to_system(now.at), to, bytes),
                    _ => self.stats.link_gone += 1,
                },
                Output::Multicast { link, radius, bytes } => match self.links.get(usize::from(link.0)) {
                    Some(LinkPort::Udp(port)) => port.send_to_groups(radius, &bytes),
                    _ => self.stats.link_gone += 1,
                },
                Output::SerialWrite { link, bytes } => match self.links.get(usize::from(link.0)) {
                    Some(LinkPort::Serial(port)) => port.write(bytes),
                    _ => self.stats.link_gone += 1,
                },
                Output::Dial { upstream, endpoint } => self.dials.push((upstream, endpoint, Errand::Dial)),
                Output::Probe { upstream, endpoint } => self.dials.push((upstream, endpoint, Errand::Probe)),
                Output::Verify { check, proof } => {
                    let taken = self.verifier.as_ref().is_some_and(|verifier| verifier.check(check, proof));
                    if !taken {
                        self.engine.handle_input(now, Input::Verified { check, good: false });
                    }
                }
                Output::Commit(batch) => self.disk.commit(batch),
                Output::Read(read) => self.disk.read(read),
                Output::Notice(notice) => self.notices.log(now.at, &notice),
                Output::ShutdownDone => self.shutdown_done = true,
            }
        }
    }

    /// Whether the connection is not read until its peer took some of its outbox, or the engine answers.
    pub(super) fn is_paused(&mut self, conn: ConnId) -> bool {
        let waiting = self.engine.outbox(conn).map_or(0, |outbox| outbox.len());
        waiting >= self.pause_bytes || self.engine.is_backlogged(conn)
    }

    /// Changes a connection's slot and wakes its task, unless that task is the one that runs.
    fn wake(&mut self, conn: ConnId, change: impl FnOnce(&mut Slot)) {
        let Some(slot) = self.slots.get_mut(conn.0 as usize) else { return };
        change(slot);
        if self.running != Some(conn)
            && let Some(waker) = &slot.waker
        {
            waker.wake_by_ref();
        }
    }

    fn open(&mut self) -> ConnId {
        let key = self.slots.insert(Slot::default());
        #[expect(clippy::expect_used, reason = "each slot is an open file")]
        ConnId(u32::try_from(key).expect("the limit on open files is far below 2^32"))
    }

    /// Begins a turn of `conn`, whose task is woken through `waker` later.
    pub(super) fn begin_turn(&mut self, conn: ConnId, waker: &Waker) {
        self.running = Some(conn);
        if let Some(slot) = self.slots.get_mut(conn.0 as usize)
            && !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            slot.waker = Some(waker.clone());
        }
    }

    /// Whether the engine asked for a flush that is not done yet.
    pub(super) fn is_dirty(&self, conn: ConnId) -> bool {
        self.slots.get(conn.0 as usize).is_some_and(|slot| slot.dirty)
    }

    /// The flush is done.
    pub(super) fn set_clean(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.get_mut(conn.0 as usize) {
            slot.dirty = false;
        }
    }

    /// Whether the engine is done with the connection.
    pub(super) fn is_closing(&self, conn: ConnId) -> bool {
        self.slots.get(conn.0 as usize).is_some_and(|slot| slot.closing.is_some())
    }

    /// Frees the number of a connection that the engine closed or that was reported to it as closed, and returns
    /// what is still to be written.
    pub(super) fn release(&mut self, conn: ConnId) -> Option<Box<Outbox>> {
        self.slots.try_remove(conn.0 as usize).and_then(|slot| slot.closing)
    }

    /// The engine is about to be asked, or to tell about itself.
    pub(super) fn tell_ports(&mut self, now: Now) {
        for link in &self.links {
            // After a burst nothing else makes it look.
            if let LinkPort::Udp(port) = link
                && let Some(notice) = port.look_for_losses(now)
            {
                self.notices.log(now.at, &notice);
            }
        }
        self.engine.set_ports(self.links.iter().map(|link| match link {
            LinkPort::None => PortStats::default(),
            LinkPort::Udp(port) => port.stats(),
            LinkPort::Serial(port) => port.stats(),
        }));
    }

    fn add_link(&mut self, link: LinkId, port: LinkPort) {
        let at = usize::from(link.0);
        if self.links.len() <= at {
            self.links.resize_with(at + 1, || LinkPort::None);
        }
        self.replace_link(at, port);
    }

    /// A socket that is in use no longer says goodbye.
    fn replace_link(&mut self, at: usize, port: LinkPort) {
        let LinkPort::Udp(before) = std::mem::replace(&mut self.links[at], port) else { return };
        let goes_on = |link: &LinkPort| matches!(link, LinkPort::Udp(port) if Rc::ptr_eq(port, &before));
        if !self.links.iter().any(goes_on) {
            before.close();
        }
    }
}
