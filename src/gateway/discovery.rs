//! Being found (MQTT-SN 6.1): ADVERTISE now and then to all who can be told at once, GWINFO to who asks.
//!
//! The broker is in this process, so there is never a reason to keep quiet.

use std::net::SocketAddr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::config::LinkId;
use crate::gateway::Gateway;
use crate::gateway::peers::PeerRef;
use crate::mqttsn::{Advertise, GwInfo, Message, SearchGw, decode_datagram};
use crate::time::{Duration, Instant};

/// Forwarders remembered; then the one that was silent for the longest is forgotten.
const MAX_FORWARDERS: usize = 256;
/// What an envelope can say: its field has two bits (MQTT-SN 5.5).
const MAX_RADIUS: u8 = 3;
/// No node in particular.
const ALL_NODES: &[u8] = &[];

/// When to tell whom.
#[derive(Debug)]
pub(super) struct Discovery {
    interval: Duration,
    /// None: never.
    at: Option<Instant>,
    /// Lines have their first ADVERTISE a period after the start: a node at the other end asks first, and some take
    /// whatever comes next for their CONNACK.
    with_lines: bool,
    /// By address, with the time they were last heard. They are known by what they send.
    forwarders: HashMap<(LinkId, Option<SocketAddr>), Instant, FixedState>,
}

impl Discovery {
    /// Zero: never advertises.
    pub(super) fn new(interval: Duration) -> Self {
        let at = (!interval.is_zero()).then_some(Instant::ZERO);
        Self { interval, at, with_lines: false, forwarders: HashMap::default() }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    pub(super) fn forwarders(&self) -> usize {
        self.forwarders.len()
    }

    /// A message came in an envelope: this is how forwarders become known.
    pub(super) fn on_envelope(&mut self, now: Instant, link: LinkId, addr: Option<SocketAddr>) {
        if let Some(heard_at) = self.forwarders.get_mut(&(link, addr)) {
            *heard_at = now;
            return;
        }
        if self.forwarders.len() >= MAX_FORWARDERS {
            let oldest = self.forwarders.iter().min_by_key(|(key, heard_at)| (**heard_at, **key));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.forwarders.remove(&oldest);
            }
        }
        self.forwarders.insert((link, addr), now);
    }

    /// Those that were heard within two periods, in order; the others are forgotten.
    fn alive(&mut self, now: Instant) -> Vec<(LinkId, Option<SocketAddr>)> {
        let patience = self.interval * 2;
        self.forwarders.retain(|_, heard_at| now.since(*heard_at) <= patience);
        let mut alive: Vec<_> = self.forwarders.keys().copied().collect();
        alive.sort_unstable();
        alive
    }
}

impl Gateway {
    /// ADVERTISE to every group, line and forwarder, if it is time.
    pub(super) fn advertise_when_due(&mut self, now: Instant) {
        if self.discovery.at.is_none_or(|at| at > now) {
            return;
        }
        let duration = u16::try_from(self.discovery.interval.as_secs()).unwrap_or(u16::MAX);
        let advertisement = Message::Advertise(Advertise { gateway_id: self.config.gateway_id, duration });
        self.discovery.at = Some(now + self.discovery.interval);
        let with_lines = std::mem::replace(&mut self.discovery.with_lines, true);
        for link in self.radio.ids().filter(|link| with_lines || !self.radio.is_line(*link)).collect::<Vec<_>>() {
            self.radio.broadcast(link, 0, &advertisement);
        }
        for (link, addr) in self.discovery.alive(now) {
            self.radio.send(PeerRef { link, addr, node: Some(ALL_NODES) }, &advertisement);
        }
    }

    /// SEARCHGW: answered at once, to the asker, as far as it asked.
    pub(super) fn on_search(&mut self, peer: PeerRef<'_>, radius: u8) {
        self.stats.searches += 1;
        let info = Message::GwInfo(GwInfo { gateway_id: self.config.gateway_id, address: &[] });
        self.radio.send_with_radius(peer, radius.min(MAX_RADIUS), &info);
    }

    /// What came to a group. Who asks there is answered there too, so that others need not ask again. Anything but
    /// discovery is for one gateway and has no business here: on a network with several, all would take it.
    pub(super) fn on_multicast(&mut self, link: LinkId, from: SocketAddr, octets: &[u8]) {
        if !self.radio.knows(link) {
            return;
        }
        let Ok((envelope, message)) = decode_datagram(octets) else {
            self.stats.malformed += 1;
            return;
        };
        self.stats.messages_received += 1;
        let peer = PeerRef { link, addr: Some(from), node: envelope.map(|envelope| envelope.node) };
        match message {
            Message::SearchGw(SearchGw { radius }) => {
                self.on_search(peer, radius);
                let info = Message::GwInfo(GwInfo { gateway_id: self.config.gateway_id, address: &[] });
                self.radio.broadcast(link, radius, &info);
            }
            Message::Advertise(_) | Message::GwInfo(_) => self.stats.other_gateways += 1,
            _ => self.stats.unexpected += 1,
        }
    }
}
