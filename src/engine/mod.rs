//! The one pure composition: gateway, broker, bridge and queue; turns inputs into outputs.
//!
//! The cores do not know each other. Here the broker answers what the gateway and the bridge ask of it, what is
//! settled finds its way to whoever waits, and everything that the cores want done becomes one stream of outputs.

mod bonds;
mod contract;
pub mod drill;
mod history;
mod operate;
mod ports;
mod rates;
mod reconfigure;
mod roster;
mod setup;
mod shutdown;
mod sn_topics;
mod status;

pub use crate::bridge::Login;
pub use crate::broker::login::{Credentials, Intake, Proof, certificate_name};
pub use contract::{Input, Output};
pub use history::Sample;
pub use operate::{Letter, Replayed};
pub use reconfigure::Plan;
pub use roster::ClientStatus;
pub use setup::Start;
pub use status::{LineStatus, LinkStatus, Overview, Sleepers, SnClientStatus, Status, UpstreamStatus};

use std::collections::{BTreeMap, VecDeque};

use crate::bridge::{self, Bridge};
use crate::broker::{self, Broker};
use crate::config::{LinkId, UpstreamId};
use crate::engine::bonds::Bonds;
use crate::engine::history::History;
use crate::engine::ports::{BridgePorts, Clients, UpstreamSetup, owner};
use crate::engine::rates::Rates;
use crate::engine::shutdown::Stop;
use crate::gateway::{self, Gateway, SessionId};
use crate::metrics::{Level, Notice, PortStats};
use crate::mqtt::{ConnId, Outbox};
use crate::queue::{self, Owner, Queues, Reply, Token};
use crate::time::{Instant, Now, earliest};

/// Who a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conn {
    Client,
    Upstream(UpstreamId),
    /// An upstream's, given up: what still comes from it is nobody's.
    Gone,
}

/// The whole gateway, without its sockets, files and clocks.
#[derive(Debug)]
pub struct Engine {
    broker: Broker,
    gateway: Gateway,
    bridge: Bridge,
    queues: Queues,
    /// Topic prefix of what the gateway says about itself; empty: it says nothing.
    status_topic: String,
    upstreams: BTreeMap<UpstreamId, UpstreamSetup>,
    /// Names of the radio links, for the log.
    links: BTreeMap<LinkId, String>,
    /// What the shell counted of each link, by [`LinkId`].
    ports: Vec<PortStats>,
    conns: Vec<Conn>,
    outputs: VecDeque<Output>,
    stop: Stop,
    history: History,
    rates: Rates,
    /// Dead letters on their way back, and the batch that says so.
    replaying: Vec<(u64, u64)>,
    /// The store has what was made by chance of this gateway's name.
    keeps_suffix: bool,
    /// Which sessions that upstreams keep are ours.
    bonds: Bonds,
}

impl Engine {
    /// Takes exactly one fact about the world. Drain [`Engine::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        if self.queues.watch_clock(now) {
            let notice =
                Notice::new(Level::Info, "clock was set", "clock", "times of what is stored are put right");
            self.outputs.push_back(Output::Notice(notice));
        }
        match input {
            Input::Accepted { conn, listener, peer, certificate } => {
                self.set_conn(conn, Conn::Client);
                self.broker.handle_accepted(now, conn, listener, peer);
                if let Some(certificate) = certificate {
                    self.broker.handle_certificate(conn, certificate);
                }
            }
            Input::Received { conn, bytes } => match self.conn(conn) {
                Conn::Gone => {}
                Conn::Client if self.stop != Stop::No => {}
                Conn::Client => self.broker.handle_received(now, &mut self.queues, conn, bytes),
                Conn::Upstream(upstream) => self.tell_bridge(now, bridge::Input::Received { upstream, bytes }),
            },
            Input::Flushed { conn } => match self.conn(conn) {
                Conn::Gone => {}
                Conn::Client => self.broker.handle_flushed(now, &mut self.queues, conn),
                Conn::Upstream(upstream) => self.tell_bridge(now, bridge::Input::Flushed { upstream }),
            },
            Input::Closed { conn, error } => match self.conn(conn) {
                Conn::Gone => {}
                Conn::Client => self.broker.handle_closed(now, &mut self.queues, conn),
                Conn::Upstream(upstream) => self.tell_bridge(now, bridge::Input::Closed { upstream, error }),
            },
            Input::Datagram { .. } | Input::Multicast { .. } | Input::SerialBytes { .. }
                if self.stop != Stop::No => {}
            Input::Datagram { link, from, bytes } => {
                self.tell_gateway(now, gateway::Input::Datagram { link, from, bytes });
            }
            Input::Multicast { link, from, bytes } => {
                self.tell_gateway(now, gateway::Input::Multicast { link, from, bytes });
            }
            Input::Identified { link, from, identity } => {
                self.tell_gateway(now, gateway::Input::Identified { link, from, identity });
            }
            Input::SerialOpened { link } => self.tell_gateway(now, gateway::Input::SerialOpened { link }),
            Input::SerialBytes { link, bytes } => {
                self.tell_gateway(now, gateway::Input::SerialBytes { link, bytes });
            }
            Input::SerialClosed { link, error } => {
                self.tell_gateway(now, gateway::Input::SerialClosed { link });
                let who = self.links.get(&link).cloned().unwrap_or_default();
                let notice = Notice::new(Level::Warn, "serial port lost", who, error);
                self.outputs.push_back(Output::Notice(notice));
            }
            Input::Dialed { upstream, conn, login } => {
                self.set_conn(conn, Conn::Upstream(upstream));
                self.tell_bridge(now, bridge::Input::Dialed { upstream, conn, login });
            }
            Input::Probed { upstream, answers } => {
                self.tell_bridge(now, bridge::Input::Probed { upstream, answers });
            }
            Input::NetworkChanged => self.tell_bridge(now, bridge::Input::NetworkChanged),
            Input::DialFailed { upstream, error } => {
                self.tell_bridge(now, bridge::Input::DialFailed { upstream, error });
            }
            Input::Reconfigure(plan) => self.reconfigure(now, *plan),
            Input::Credentials(credentials) => self.broker.handle_credentials(credentials),
            Input::Verified { check, good } => {
                self.broker.handle_verified(now, &mut self.queues, check, good);
            }
            Input::Store(reply) => self.handle_reply(now, reply),
            Input::Timeout => self.handle_timeout(now),
            Input::Shutdown => self.handle_shutdown(now),
        }
        self.settle(now);
        self.look(now);
    }

    /// What the engine wants done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When silence becomes an input: give [`Input::Timeout`] then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let cores = earliest(self.broker.deadline(), self.gateway.deadline());
        let shells = earliest(self.queues.deadline(), self.stop.deadline());
        earliest(earliest(cores, self.bridge.deadline()), shells)
    }

    /// What the shell counted of each link, by [`LinkId`]: before it asks, and before the engine tells about itself.
    pub fn set_ports(&mut self, ports: impl Iterator<Item = PortStats>) {
        self.ports.clear();
        self.ports.extend(ports);
    }

    fn port(&self, link: LinkId) -> PortStats {
        self.ports.get(usize::from(link.0)).copied().unwrap_or_default()
    }

    /// The bytes on their way to a connection.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        match self.conn(conn) {
            Conn::Client => self.broker.outbox(conn),
            Conn::Upstream(_) | Conn::Gone => self.bridge.outbox(conn),
        }
    }

    /// Whether a client has to take what it is sent, or wait for the disk, before more is read from it.
    #[must_use]
    pub fn is_backlogged(&self, conn: ConnId) -> bool {
        self.conn(conn) == Conn::Client && self.broker.is_backlogged(conn)
    }

    /// How a connection's next bytes are to be treated. Ask before each read.
    #[must_use]
    pub fn intake(&self, conn: ConnId) -> Intake {
        match self.conn(conn) {
            Conn::Client => self.broker.intake(conn),
            Conn::Upstream(_) | Conn::Gone => Intake::Open,
        }
    }

    fn conn(&self, conn: ConnId) -> Conn {
        self.conns.get(conn.0 as usize).copied().unwrap_or(Conn::Client)
    }

    fn set_conn(&mut self, conn: ConnId, to: Conn) {
        let index = conn.0 as usize;
        if self.conns.len() <= index {
            self.conns.resize(index + 1, Conn::Client);
        }
        self.conns[index] = to;
    }

    fn tell_gateway(&mut self, now: Now, input: gateway::Input<'_>) {
        let mut clients = Clients { broker: &mut self.broker, queues: &mut self.queues };
        self.gateway.handle_input(now, input, &mut clients);
    }

    fn tell_bridge(&mut self, now: Now, input: bridge::Input<'_>) {
        let (bridge, mut ports) = self.bridge_and_ports();
        ports.with(|out, local| bridge.handle_input(now, input, out, local));
    }

    /// The bridge, and what it sees of the other cores.
    fn bridge_and_ports(&mut self) -> (&mut Bridge, BridgePorts<'_>) {
        let ports = BridgePorts {
            bonds: &mut self.bonds,
            queues: &mut self.queues,
            broker: &mut self.broker,
            upstreams: &self.upstreams,
            status_topic: &self.status_topic,
        };
        (&mut self.bridge, ports)
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    fn handle_reply(&mut self, now: Now, reply: Reply) {
        self.queues.handle_reply(now, reply);
    }

    fn handle_timeout(&mut self, now: Now) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.at);
        if due(self.broker.deadline()) {
            self.broker.handle_timeout(now, &mut self.queues);
        }
        if due(self.gateway.deadline()) {
            self.tell_gateway(now, gateway::Input::Timeout);
        }
        if due(self.bridge.deadline()) {
            self.tell_bridge(now, bridge::Input::Timeout);
        }
        if due(self.queues.deadline()) {
            self.queues.handle_timeout(now);
        }
    }

    /// Lets the cores talk until none has anything left to say. What is only passed on to the outside wakes no other
    /// core, so it asks for no further round.
    fn settle(&mut self, now: Now) {
        self.talk(now);
        while self.go_on_stopping(now) {
            self.talk(now);
        }
    }

    fn talk(&mut self, now: Now) {
        loop {
            let mut busy = false;
            while let Some((dest, whose)) = self.queues.poll_ready() {
                busy = true;
                match whose {
                    Owner::Session(session) if self.broker.is_local(session) => {
                        self.tell_gateway(now, gateway::Input::Ready { session: SessionId(session) });
                    }
                    Owner::Session(session) => self.broker.pump(now, &mut self.queues, session),
                    Owner::Upstream(_) => self.tell_bridge(now, bridge::Input::Ready { dest }),
                    Owner::Leaver => self.broker.hand_on(now, &mut self.queues, dest),
                    Owner::Nobody => {}
                }
            }
            while let Some(output) = self.queues.poll_output(now) {
                match output {
                    queue::Output::Commit(batch) => self.outputs.push_back(Output::Commit(batch)),
                    queue::Output::Read(read) => self.outputs.push_back(Output::Read(read)),
                    queue::Output::Settled(token) => {
                        busy = true;
                        self.tell_settled(now, token);
                    }
                    queue::Output::Notice(notice) => self.outputs.push_back(Output::Notice(notice)),
                }
            }
            while let Some(output) = self.broker.poll_output() {
                match output {
                    broker::Output::Flush(conn) => self.outputs.push_back(Output::Flush { conn }),
                    broker::Output::Close(conn) => self.outputs.push_back(Output::Close { conn }),
                    broker::Output::TakenOver(session) => {
                        busy = true;
                        self.tell_gateway(now, gateway::Input::TakenOver { session: SessionId(session) });
                    }
                    broker::Output::SysDue => {
                        busy = true;
                        let more = self.sn_topics(now);
                        self.broker.publish_sys_topics(now, &mut self.queues, more);
                    }
                    broker::Output::Verify(check) => {
                        self.outputs.push_back(Output::Verify { check: check.id, proof: check.proof });
                    }
                    broker::Output::Notice(notice) => self.outputs.push_back(Output::Notice(notice)),
                }
            }
            self.drain_gateway();
            self.drain_bridge();
            if !busy {
                break;
            }
        }
    }

    fn tell_settled(&mut self, now: Now, token: Token) {
        match token.split() {
            (owner::BROKER, token) => self.broker.handle_settled(token),
            (owner::GATEWAY, token) => {
                self.tell_gateway(now, gateway::Input::Settled { token, outcome: Ok(()) });
            }
            (owner::BRIDGE, token) => self.tell_bridge(now, bridge::Input::Settled { token, result: Ok(()) }),
            _ => {}
        }
    }

    fn drain_gateway(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            self.outputs.push_back(match output {
                gateway::Output::Send { link, to: Some(to), bytes } => {
                    Output::Datagram { link, to, bytes: bytes.to_vec() }
                }
                gateway::Output::Send { link, to: None, bytes } => {
                    Output::SerialWrite { link, bytes: bytes.to_vec() }
                }
                gateway::Output::Multicast { link, radius, bytes } => {
                    Output::Multicast { link, radius, bytes: bytes.to_vec() }
                }
                gateway::Output::Notice(notice) => Output::Notice(notice),
            });
        }
    }

    fn drain_bridge(&mut self) {
        while let Some(output) = self.bridge.poll_output() {
            if let bridge::Output::Close { conn, .. } = output {
                self.set_conn(conn, Conn::Gone);
            }
            self.outputs.push_back(match output {
                bridge::Output::Dial { upstream, endpoint } => Output::Dial { upstream, endpoint },
                bridge::Output::Probe { upstream, endpoint } => Output::Probe { upstream, endpoint },
                bridge::Output::Flush { conn, .. } => Output::Flush { conn },
                bridge::Output::Close { conn, .. } => Output::Close { conn },
                bridge::Output::Notice(notice) => Output::Notice(notice),
            });
        }
    }
}
