//! A link with DTLS: between its socket and the engine.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use tokio::time::Sleep;

use crate::config::LinkId;
use crate::engine::Input;
use crate::io::Driver;
use crate::io::driver::Core;
use crate::io::dtls::{Associations, DtlsIdentity, Event};
use crate::io::udp::UdpPort;
use crate::metrics::{DtlsStats, Level, Notice};
use crate::time::Now;

pub(super) struct Secure {
    identity: Rc<DtlsIdentity>,
    table: RefCell<Associations>,
    /// What came of sending, for the engine; it cannot be told while it asks for that.
    late: RefCell<Vec<Event>>,
}

impl Secure {
    pub(super) fn new(identity: Rc<DtlsIdentity>) -> Self {
        let table = RefCell::new(Associations::new(Rc::clone(&identity)));
        Self { identity, table, late: RefCell::default() }
    }

    pub(super) fn identity(&self) -> Rc<DtlsIdentity> {
        Rc::clone(&self.identity)
    }

    pub(super) fn stats(&self) -> DtlsStats {
        self.table.borrow().stats()
    }

    /// Ends all associations. The engine needs no word of it: the link is no more.
    pub(super) fn close(&self, port: &UdpPort) {
        let mut table = self.table.borrow_mut();
        table.close();
        for event in table.take_events() {
            if let Event::Send { to, bytes } = event {
                port.transmit(to, bytes);
            }
        }
    }

    /// Encrypts a message and sends it.
    pub(super) fn send(&self, port: &UdpPort, now: std::time::Instant, to: SocketAddr, bytes: &[u8]) {
        let mut table = self.table.borrow_mut();
        table.send(now, to, bytes);
        for event in table.take_events() {
            match event {
                Event::Send { to, bytes } => port.transmit(to, bytes),
                event => {
                    self.late.borrow_mut().push(event);
                    port.wake();
                }
            }
        }
    }

    /// A datagram came.
    #[expect(clippy::too_many_arguments, reason = "who, where, when, and what came")]
    pub(super) fn receive(
        &self,
        port: &UdpPort,
        driver: &Driver,
        link: LinkId,
        core: &mut Core,
        now: Now,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        self.table.borrow_mut().handle_datagram(driver.clock.to_system(now.at), from, bytes);
        self.tell(port, link, core, now);
    }

    /// Does what is due, and sees to being called when more is.
    #[expect(clippy::too_many_arguments, reason = "who, where, when, and the timer")]
    pub(super) fn poll_alarm(
        &self,
        port: &UdpPort,
        driver: &Driver,
        link: LinkId,
        core: &mut Core,
        now: Now,
        mut alarm: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) {
        let late = self.late.take();
        self.tell_all(port, link, core, now, late);
        self.table.borrow_mut().handle_timeout(driver.clock.to_system(now.at));
        self.tell(port, link, core, now);
        let Some(deadline) = self.table.borrow().deadline() else { return };
        if alarm.deadline() != deadline.into() || alarm.is_elapsed() {
            alarm.as_mut().reset(deadline.into());
        }
        if alarm.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn tell(&self, port: &UdpPort, link: LinkId, core: &mut Core, now: Now) {
        let events = self.table.borrow_mut().take_events();
        self.tell_all(port, link, core, now, events);
    }

    fn tell_all(&self, port: &UdpPort, link: LinkId, core: &mut Core, now: Now, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Send { to, bytes } => port.transmit(to, bytes),
                Event::Opened { peer, identity } => {
                    core.input(now, Input::Identified { link, from: peer, identity: identity.as_deref() });
                }
                Event::Data { peer, bytes } => core.input(now, Input::Datagram { link, from: peer, bytes: &bytes }),
                Event::Gone { peer } => core.input(now, Input::Identified { link, from: peer, identity: None }),
                Event::Refused { peer, why } => {
                    core.notice(now, &Notice::new(Level::Warn, "handshake failed", peer.to_string(), why));
                }
            }
        }
    }
}
