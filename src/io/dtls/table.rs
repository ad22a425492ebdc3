//! The associations of a link, by address, and what bounds them.

use std::collections::BTreeSet;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::io::dtls::association::{Association, End, Phase, Progress, is_client_hello, is_plain};
use crate::io::dtls::identity::DtlsIdentity;
use crate::io::dtls::keys::Asked;
use crate::metrics::DtlsStats;
use crate::time::Duration;

/// What the table wants done, in order.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::io) enum Event {
    Send {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// An association with this address is there, or another one in its place.
    Opened {
        peer: SocketAddr,
        identity: Option<String>,
    },
    Data {
        peer: SocketAddr,
        bytes: Vec<u8>,
    },
    /// There is none any more.
    Gone {
        peer: SocketAddr,
    },
    /// A handshake came to nothing.
    Refused {
        peer: SocketAddr,
        why: String,
    },
}

type Key = (SocketAddr, bool);

/// All associations of one link.
pub(in crate::io) struct Associations {
    identity: Rc<DtlsIdentity>,
    open: HashMap<SocketAddr, Association, RandomState>,
    handshakes: HashMap<SocketAddr, Association, RandomState>,
    /// The flag tells open ones from handshakes.
    timers: BTreeSet<(Instant, SocketAddr, bool)>,
    hellos: Bucket,
    /// Lent to the library.
    buffer: Vec<u8>,
    events: Vec<Event>,
    stats: DtlsStats,
}

impl Associations {
    pub(in crate::io) fn new(identity: Rc<DtlsIdentity>) -> Self {
        Self {
            hellos: Bucket::new(identity.settings().max_hellos_per_second),
            identity,
            open: HashMap::default(),
            handshakes: HashMap::default(),
            timers: BTreeSet::new(),
            buffer: vec![0; 2048],
            events: Vec::new(),
            stats: DtlsStats::default(),
        }
    }

    /// What happened since the last call.
    pub(in crate::io) fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    pub(in crate::io) fn stats(&self) -> DtlsStats {
        let (associations, handshakes) = (self.open.len() as u64, self.handshakes.len() as u64);
        DtlsStats { associations, handshakes, ..self.stats }
    }

    /// Ends all that stand, and tells the nodes. Handshakes are dropped in silence.
    pub(in crate::io) fn close(&mut self) {
        for (peer, mut one) in self.open.drain() {
            let progress = one.close(&mut self.buffer);
            self.events.extend(progress.packets.into_iter().map(|bytes| Event::Send { to: peer, bytes }));
        }
        self.handshakes.clear();
        self.timers.clear();
    }

    /// A datagram came from an address.
    pub(in crate::io) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let hello = is_client_hello(bytes);
        if hello && !self.hellos.take(now) {
            self.stats.hellos_dropped += 1;
            return;
        }
        // A forged ClientHello does not come between an association and its peer.
        let shakes = self.handshakes.get(&from).is_some_and(|one| one.phase > Phase::Hello || is_plain(bytes));
        if !shakes && hello {
            if !self.make_room() {
                self.stats.hellos_dropped += 1;
                return;
            }
            self.handshakes.insert(from, Association::new(self.identity.current(), now, bytes));
        }
        let key = (from, !(shakes || hello));
        let Some(mut one) = self.remove(key) else {
            self.stats.strays += 1;
            return;
        };
        let progress = one.handle_packet(now, bytes, &mut self.buffer);
        self.settle(now, key, one, progress);
    }

    /// Encrypts a message to an address.
    pub(in crate::io) fn send(&mut self, now: Instant, to: SocketAddr, message: &[u8]) {
        let key = (to, true);
        let Some(mut one) = self.remove(key) else {
            self.stats.strays += 1;
            return;
        };
        let progress = one.send(now, message, &mut self.buffer);
        self.settle(now, key, one, progress);
    }

    /// When [`Associations::handle_timeout`] is due.
    pub(in crate::io) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Repeats what was not answered, and ends what took too long or was silent for too long.
    pub(in crate::io) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, peer, open)) = self.timers.first()
            && at <= now
        {
            let key = (peer, open);
            let Some(mut one) = self.remove(key) else {
                self.timers.pop_first();
                continue;
            };
            if now >= self.idle_at(&one) {
                let progress = one.close(&mut self.buffer);
                self.drop_association(key, &one, progress, End::Silent);
            } else {
                let progress = one.handle_timeout(now, &mut self.buffer);
                self.settle(now, key, one, progress);
            }
        }
    }

    fn map(&mut self, open: bool) -> &mut HashMap<SocketAddr, Association, RandomState> {
        if open { &mut self.open } else { &mut self.handshakes }
    }

    /// Takes an association out, to be put back by [`Associations::settle`]. Its timer stays.
    fn remove(&mut self, (peer, open): Key) -> Option<Association> {
        self.map(open).remove(&peer)
    }

    /// Does what came of a step, and puts the association where it belongs now.
    fn settle(&mut self, now: Instant, key: Key, mut one: Association, mut progress: Progress) {
        let (peer, was_open) = key;
        if let Some(end) = progress.end.take() {
            self.unset_timer(key, &one);
            self.drop_association(key, &one, progress, end);
            return;
        }
        self.send_all(peer, progress.packets);
        let is_open = one.phase == Phase::Open;
        if is_open && !was_open {
            self.unset_timer(key, &one);
            one.timer_at = None;
            self.stats.opened += 1;
            self.replace(peer);
            self.events.push(Event::Opened { peer, identity: one.identity.clone() });
        }
        for bytes in progress.data {
            self.events.push(Event::Data { peer, bytes });
        }
        self.set_timer(now, (peer, is_open), &mut one);
        self.map(is_open).insert(peer, one);
    }

    /// Makes room among the open ones for one with this peer.
    fn replace(&mut self, peer: SocketAddr) {
        if let Some(before) = self.open.remove(&peer) {
            self.unset_timer((peer, true), &before);
        }
        if self.open.len() < self.identity.settings().max_associations {
            return;
        }
        let quietest = self.open.iter().min_by_key(|(_, one)| one.heard_at).map(|(peer, _)| *peer);
        if let Some(quietest) = quietest
            && let Some(mut one) = self.remove((quietest, true))
        {
            self.stats.evicted += 1;
            self.unset_timer((quietest, true), &one);
            let progress = one.close(&mut self.buffer);
            self.send_all(quietest, progress.packets);
            self.events.push(Event::Gone { peer: quietest });
        }
    }

    /// Makes room among the handshakes for one more. Those that may be forged give way, the oldest first.
    fn make_room(&mut self) -> bool {
        if self.handshakes.len() < self.identity.settings().max_handshakes {
            return true;
        }
        let unproven = self.handshakes.iter().filter(|(_, one)| one.phase == Phase::Hello);
        let Some(oldest) = unproven.min_by_key(|(_, one)| one.heard_at).map(|(peer, _)| *peer) else {
            return false;
        };
        if let Some(one) = self.handshakes.remove(&oldest) {
            self.unset_timer((oldest, false), &one);
            self.stats.displaced += 1;
        }
        true
    }

    fn drop_association(&mut self, (peer, open): Key, one: &Association, progress: Progress, end: End) {
        self.send_all(peer, progress.packets);
        for bytes in progress.data {
            self.events.push(Event::Data { peer, bytes });
        }
        if open {
            self.stats.idle += u64::from(end == End::Silent);
            self.stats.closed += u64::from(end != End::Silent);
            self.events.push(Event::Gone { peer });
            return;
        }
        let failed = &mut self.stats.failed;
        let (count, why) = match (&one.asked, end) {
            (Some(Asked::Unknown), _) => {
                (&mut failed.unknown_identity, "there is no key for its identity".to_owned())
            }
            (Some(Asked::Known(_)), End::Garbled(_)) => (&mut failed.wrong_key, "its key is another".to_owned()),
            (_, End::Closed) => (&mut failed.closed, "it gave up".to_owned()),
            (_, End::Silent) => (&mut failed.timeout, "it took too long".to_owned()),
            (_, End::Untrusted(why)) => (&mut failed.certificate, why),
            (_, End::Garbled(why) | End::Failed(why)) => (&mut failed.protocol, why),
        };
        *count += 1;
        self.events.push(Event::Refused { peer, why });
    }

    fn send_all(&mut self, to: SocketAddr, packets: Vec<Vec<u8>>) {
        self.events.extend(packets.into_iter().map(|bytes| Event::Send { to, bytes }));
    }

    fn idle_at(&self, one: &Association) -> Instant {
        let settings = self.identity.settings();
        let limit = if one.phase == Phase::Open { settings.idle_timeout } else { settings.handshake_timeout };
        one.heard_at + limit
    }

    /// Sets the timer anew, unless it goes off before it has to anyway.
    fn set_timer(&mut self, now: Instant, key: Key, one: &mut Association) {
        let (peer, open) = key;
        let at = self.idle_at(one).min(one.retry_at);
        match one.timer_at {
            Some(set) if set <= at && set > now => {}
            _ => {
                self.unset_timer(key, one);
                one.timer_at = Some(at);
                self.timers.insert((at, peer, open));
            }
        }
    }

    fn unset_timer(&mut self, (peer, open): Key, one: &Association) {
        if let Some(at) = one.timer_at {
            self.timers.remove(&(at, peer, open));
        }
    }
}

/// So many in a second, and as many at once.
struct Bucket {
    per_second: u32,
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { per_second, left: per_second.into(), at: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let most = f64::from(self.per_second);
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.left = since.as_secs_f64().mul_add(most, self.left).min(most);
        self.at = Some(now);
        let good = self.left >= 1.0;
        if good {
            self.left -= 1.0;
        }
        good
    }
}
