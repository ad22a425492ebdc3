//! The way out and in: links with their framings, and the arena that outgoing messages wait in until they are
//! drained. Nothing here is allocated per message once the arena has its size.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use crate::config::{self, Framing, LinkId, LinkKind};
use crate::gateway::Output;
use crate::gateway::peers::PeerRef;
use crate::gateway::stats::{LinkInfo, LinkStats};
use crate::metrics::Notice;
use crate::mqttsn::framing::{self, Framer};
use crate::mqttsn::{Forwarded, Message};
use crate::time::{Instant, earliest};

/// An arena that grew beyond this in one burst is given back.
const KEEP_BYTES: usize = 256 * 1024;

#[derive(Debug)]
enum Line {
    Udp { groups: bool },
    Serial { framer: Framer, open: bool },
}

#[derive(Debug)]
struct Link {
    config: config::Link,
    line: Line,
    stats: LinkStats,
}

impl Link {
    fn new(link: &config::Link) -> Self {
        let line = match &link.kind {
            LinkKind::Udp(udp) => Line::Udp { groups: !udp.multicast.is_empty() },
            LinkKind::Serial(serial) => Line::Serial { framer: framer(serial.framing, link.mtu), open: false },
        };
        Self { config: link.clone(), line, stats: LinkStats::default() }
    }
}

#[derive(Debug, Clone, Copy)]
enum To {
    Address(SocketAddr),
    Line,
    Groups { radius: u8 },
}

#[derive(Debug)]
struct Outgoing {
    link: LinkId,
    to: To,
    bytes: Range<usize>,
}

/// All links.
#[derive(Debug)]
pub(super) struct Radio {
    /// By [`LinkId`]; none in place of one that is no more.
    links: Vec<Option<Link>>,
    bytes: Vec<u8>,
    /// A frame before its framing.
    frame: Vec<u8>,
    sends: VecDeque<Outgoing>,
    notices: VecDeque<Notice>,
    pub(super) sent: u64,
    /// Not sent: longer than the link's MTU.
    pub(super) too_long: u64,
    /// Not sent: the serial port is away.
    pub(super) link_down: u64,
}

impl Radio {
    pub(super) fn new(links: &[config::Link]) -> Self {
        Self {
            links: links.iter().map(|link| Some(Link::new(link))).collect(),
            bytes: Vec::new(),
            frame: Vec::new(),
            sends: VecDeque::new(),
            notices: VecDeque::new(),
            sent: 0,
            too_long: 0,
            link_down: 0,
        }
    }

    fn link_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(usize::from(link.0))?.as_mut()
    }

    fn link(&self, link: LinkId) -> Option<&Link> {
        self.links.get(usize::from(link.0))?.as_ref()
    }

    /// Other links from now on. One that did not change goes on; one that did is opened anew by the shell.
    pub(super) fn configure(&mut self, links: &[config::Link], ids: &[LinkId]) {
        let mut before = std::mem::take(&mut self.links);
        for (id, link) in ids.iter().zip(links) {
            let index = usize::from(id.0);
            if self.links.len() <= index {
                self.links.resize_with(index + 1, || None);
            }
            let known = before.get_mut(index).and_then(Option::take).filter(|known| known.config == *link);
            self.links[index] = Some(known.unwrap_or_else(|| Link::new(link)));
        }
    }

    fn framer_mut(&mut self, link: LinkId) -> Option<&mut Framer> {
        match &mut self.link_mut(link)?.line {
            Line::Serial { framer, .. } => Some(framer),
            Line::Udp { .. } => None,
        }
    }

    /// All links.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + use<> {
        (0..u16::try_from(self.links.len()).unwrap_or(u16::MAX)).map(LinkId)
    }

    pub(super) fn knows(&self, link: LinkId) -> bool {
        self.link(link).is_some()
    }

    /// Whether only clients that are known beforehand may send anything there.
    pub(super) fn is_for_known_only(&self, link: LinkId) -> bool {
        self.link(link).is_some_and(|link| link.config.known_only)
    }

    /// Counts on a link.
    pub(super) fn count(&mut self, link: LinkId, count: impl FnOnce(&mut LinkStats)) {
        if let Some(link) = self.link_mut(link) {
            count(&mut link.stats);
        }
    }

    /// All links with what happened on them.
    pub(super) fn infos(&self) -> impl Iterator<Item = LinkInfo<'_>> {
        self.ids().zip(&self.links).filter_map(|(id, link)| {
            let link = link.as_ref()?;
            let (open, framing) = match &link.line {
                Line::Udp { .. } => (true, None),
                Line::Serial { framer, open } => (*open, Some(framer.stats())),
            };
            Some(LinkInfo { id, name: &link.config.name, open, stats: link.stats, framing })
        })
    }

    /// The name in the configuration, which outlives a change of positions.
    pub(super) fn name(&self, link: LinkId) -> Option<&str> {
        self.link(link).map(|link| link.config.name.as_str())
    }

    pub(super) fn by_name(&self, name: &str) -> Option<LinkId> {
        let position =
            self.links.iter().position(|link| link.as_ref().is_some_and(|link| link.config.name == name))?;
        u16::try_from(position).ok().map(LinkId)
    }

    /// A serial line, open or not.
    pub(super) fn is_line(&self, link: LinkId) -> bool {
        self.link(link).is_some_and(|link| matches!(link.config.kind, LinkKind::Serial(_)))
    }

    /// Both are UDP, or both are serial.
    pub(super) fn same_class(&self, a: LinkId, b: LinkId) -> bool {
        self.is_line(a) == self.is_line(b)
    }

    pub(super) fn set_open(&mut self, link: LinkId, up: bool) {
        if let Some(Line::Serial { framer, open }) = self.link_mut(link).map(|link| &mut link.line) {
            framer.reset();
            *open = up;
        }
    }

    pub(super) fn feed(&mut self, now: Instant, link: LinkId, octets: &[u8]) {
        if let Some(framer) = self.framer_mut(link) {
            framer.feed(now, octets);
        }
    }

    /// Copies the next frame of a serial link to `frame`.
    pub(super) fn next_frame(&mut self, link: LinkId, frame: &mut Vec<u8>) -> bool {
        let Some(octets) = self.framer_mut(link).and_then(Framer::next_frame) else { return false };
        frame.clear();
        frame.extend_from_slice(octets);
        true
    }

    /// The serial links whose unfinished frame is ended by silence at `now`.
    pub(super) fn take_silent(&mut self, now: Instant) -> Vec<LinkId> {
        let mut silent = Vec::new();
        for (position, link) in (0..).zip(&mut self.links) {
            if let Some(Link { line: Line::Serial { framer, .. }, .. }) = link
                && framer.deadline().is_some_and(|at| at <= now)
            {
                framer.handle_timeout(now);
                silent.push(LinkId(position));
            }
        }
        silent
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.links.iter().flatten().fold(None, |at, link| match &link.line {
            Line::Serial { framer, .. } => earliest(at, framer.deadline()),
            Line::Udp { .. } => at,
        })
    }

    pub(super) fn framing_stats(&self, link: LinkId) -> Option<framing::Stats> {
        match &self.link(link)?.line {
            Line::Serial { framer, .. } => Some(framer.stats()),
            Line::Udp { .. } => None,
        }
    }

    /// Sends a message to a peer. Returns whether it fits the link: what does not is not sent.
    pub(super) fn send(&mut self, to: PeerRef<'_>, message: &Message<'_>) -> bool {
        self.send_with_radius(to, 0, message)
    }

    /// As [`Radio::send`]; a forwarder is asked to broadcast up to `radius` hops.
    pub(super) fn send_with_radius(&mut self, to: PeerRef<'_>, radius: u8, message: &Message<'_>) -> bool {
        self.put(to.link, to.addr.map_or(To::Line, To::Address), to.node, radius, message)
    }

    /// Sends to all who listen on a link, where there is a way to: multicast groups, and the far end of a line.
    pub(super) fn broadcast(&mut self, link: LinkId, radius: u8, message: &Message<'_>) {
        let to = match self.link(link).map(|link| &link.line) {
            Some(Line::Udp { groups: true }) => To::Groups { radius },
            Some(Line::Serial { open: true, .. }) => To::Line,
            Some(Line::Udp { groups: false } | Line::Serial { open: false, .. }) | None => return,
        };
        self.put(link, to, None, radius, message);
    }

    fn put(&mut self, at: LinkId, to: To, node: Option<&[u8]>, radius: u8, message: &Message<'_>) -> bool {
        let Some(link) = self.links.get_mut(usize::from(at.0)).and_then(Option::as_mut) else { return true };
        let mtu = link.config.mtu;
        let start = self.bytes.len();
        let fits = match &mut link.line {
            Line::Udp { .. } => put(&mut self.bytes, node, radius, message, mtu),
            Line::Serial { open: false, .. } => {
                self.link_down += 1;
                return true;
            }
            Line::Serial { framer, .. } => {
                self.frame.clear();
                let fits = put(&mut self.frame, node, radius, message, mtu);
                if fits {
                    framer.encode(&self.frame, &mut self.bytes);
                }
                fits
            }
        };
        if fits {
            self.sends.push_back(Outgoing { link: at, to, bytes: start..self.bytes.len() });
            self.sent += 1;
            link.stats.messages_sent += 1;
        } else {
            self.bytes.truncate(start);
            self.too_long += 1;
        }
        fits
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    pub(super) fn poll_output(&mut self) -> Option<Output<'_>> {
        if let Some(notice) = self.notices.pop_front() {
            return Some(Output::Notice(notice));
        }
        let Some(send) = self.sends.pop_front() else {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP_BYTES);
            return None;
        };
        let (link, bytes) = (send.link, &self.bytes[send.bytes]);
        Some(match send.to {
            To::Address(to) => Output::Send { link, to: Some(to), bytes },
            To::Line => Output::Send { link, to: None, bytes },
            To::Groups { radius } => Output::Multicast { link, radius, bytes },
        })
    }
}

fn framer(framing: Framing, mtu: usize) -> Framer {
    match framing {
        Framing::Length => Framer::length(mtu),
        Framing::Slip => Framer::slip(mtu),
        Framing::Cobs => Framer::cobs(mtu),
        Framing::Hdlc => Framer::hdlc(mtu),
        Framing::Xbee => Framer::xbee(mtu, false),
        Framing::XbeeEscaped => Framer::xbee(mtu, true),
    }
}

/// Appends a message in its envelope; `false` if it does not fit.
fn put(out: &mut Vec<u8>, node: Option<&[u8]>, radius: u8, message: &Message<'_>, mtu: usize) -> bool {
    if let Some(node) = node
        && (Forwarded { radius, node }).encode(out).is_err()
    {
        return false;
    }
    let start = out.len();
    message.encode(out).is_ok() && out.len() - start <= mtu
}
