//! The bridge: sessions with upstream brokers, fed from the queues of the out-rules, feeding the local broker.
//!
//! It owns what a session needs to know while the process lives: what is in flight under which identifier, what the
//! upstream allows, how long to wait before the next try. It owns no message: those lie in the queues until the
//! upstream acknowledged them, and a lost link or a crash only means that some are sent again (promises 1 to 3).
//!
//! It speaks MQTT 3.1.1 and 5.0 with the house's own codec. `tests/rumqttc.rs` shows why it is not rumqttc.

mod acknowledged;
mod answers;
mod backoff;
mod connect;
mod context;
mod end;
mod ending;
mod failover;
mod flights;
mod incoming;
mod link;
mod manner;
mod outgoing;
mod oversize;
mod pace;
mod port;
mod property_bag;
mod receive;
mod reconfigure;
mod releases;
pub mod rule;
mod stamp;
mod stats;
#[cfg(test)]
mod tests;
mod trial;
mod upstream;

use std::collections::{BTreeMap, VecDeque};

pub use connect::Intake;
pub use port::{FIRST_FIXED_PKID, Input, Local, Login, Outbound, Output};
pub use stats::{LinkState, Sent, Stats};

use crate::bridge::context::{Context, split};
use crate::bridge::rule::RuleError;
use crate::bridge::upstream::Upstream;
use crate::config::{self, UpstreamId, UpstreamUrl};
use crate::mqtt::hop::Gateway;
use crate::mqtt::{ConnId, Outbox};
use crate::queue::{DestId, Seq};
use crate::time::{Instant, Now, earliest};

/// One upstream, as it is set up at start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// As configured, `{gateway}` filled in.
    pub config: config::Upstream,
    /// The queue of each rule that sends: position in `config.rule`, destination.
    pub dests: Vec<(usize, DestId)>,
    /// The lane of each rule for what comes in while a backlog waits, where it has one.
    pub live: Vec<(usize, DestId)>,
    /// Who we are to other gateways, and what is put on messages that leave, so that they are known when they come back.
    pub hop: Option<Gateway>,
    /// The store may know identifiers of an earlier session with this upstream. If not (a new box, a lost store), a
    /// session that the upstream kept under our name is discarded where the protocol allows it.
    pub resumes: bool,
}

/// What is the same for all upstreams.
#[derive(Debug, Clone, Copy)]
pub struct Common {
    /// What we take at once.
    pub intake: Intake,
    /// The newest message that was stored before this process started.
    pub recovered: Seq,
}

/// An upstream and its books.
#[derive(Debug)]
struct Desk {
    name: String,
    upstream: Upstream,
    stats: Stats,
}

/// All upstreams.
#[derive(Debug)]
pub struct Bridge {
    desks: BTreeMap<UpstreamId, Desk>,
    by_dest: BTreeMap<DestId, UpstreamId>,
    /// Those that said goodbye, until the shell has taken their last words.
    retired: Vec<Desk>,
    outputs: VecDeque<Output>,
    rng: fastrand::Rng,
}

impl Bridge {
    /// A bridge without upstreams. `seed` makes the jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            desks: BTreeMap::new(),
            by_dest: BTreeMap::new(),
            retired: Vec::new(),
            outputs: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether there is such an upstream.
    #[must_use]
    pub fn knows(&self, id: UpstreamId) -> bool {
        self.desks.contains_key(&id)
    }

    /// One more upstream, about to be dialled. What is in the store of an earlier session with it is taken up.
    ///
    /// # Errors
    /// If a rule cannot work; a checked configuration has none.
    ///
    /// # Panics
    /// If a rule that sends has no destination, or another has one.
    pub fn add(&mut self, id: UpstreamId, setup: Setup, common: Common) -> Result<(), RuleError> {
        let dests: Vec<DestId> = setup.dests.iter().chain(&setup.live).map(|(_, dest)| *dest).collect();
        let name = setup.config.name.clone();
        let upstream = Upstream::new(setup, common, self.rng.u64(..))?;
        self.by_dest.extend(dests.into_iter().map(|dest| (dest, id)));
        self.desks.insert(id, Desk { name, upstream, stats: Stats::default() });
        Ok(())
    }

    /// Says goodbye to an upstream that is no more, and forgets it. What it has not acknowledged is in its queues.
    pub fn retire(&mut self, now: Now, id: UpstreamId, out: &mut dyn Outbound, local: &mut dyn Local) {
        self.tell(now, id, &Input::Shutdown, out, local);
        self.by_dest.retain(|_, whose| *whose != id);
        // Of earlier goodbyes the shell has taken the bytes by now.
        self.retired.retain(|desk| desk.upstream.is_leaving());
        self.retired.extend(self.desks.remove(&id));
    }

    /// Goes on with another configuration of an upstream, which may have other rules with other queues. It is dialled
    /// anew if more changes than what its queues may hold.
    ///
    /// # Errors
    /// If a rule cannot work; a checked configuration has none.
    ///
    /// # Panics
    /// If a rule that sends has no destination, or another has one.
    pub fn reconfigure(
        &mut self,
        now: Now,
        id: UpstreamId,
        setup: Setup,
        common: Common,
        out: &mut dyn Outbound,
        local: &mut dyn Local,
    ) -> Result<(), RuleError> {
        let Some(Desk { name, upstream, stats }) = self.desks.get_mut(&id) else { return Ok(()) };
        self.by_dest.retain(|_, whose| *whose != id);
        self.by_dest.extend(setup.dests.iter().chain(&setup.live).map(|(_, dest)| (*dest, id)));
        let mut ctx = Context { now, upstream: id, name, out, local, stats, outputs: &mut self.outputs };
        upstream.reconfigure(&mut ctx, setup, common)
    }

    fn tell(&mut self, now: Now, id: UpstreamId, input: &Input<'_>, out: &mut dyn Outbound, local: &mut dyn Local) {
        let Some(Desk { name, upstream, stats }) = self.desks.get_mut(&id) else { return };
        let mut ctx = Context { now, upstream: id, name, out, local, stats, outputs: &mut self.outputs };
        let before = upstream.queued();
        upstream.handle_input(&mut ctx, input);
        upstream.request_flush(&mut ctx, before);
    }

    /// Exactly one fact about the world.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut dyn Outbound, local: &mut dyn Local) {
        let whose = match &input {
            Input::Dialed { upstream, .. }
            | Input::DialFailed { upstream, .. }
            | Input::Probed { upstream, .. }
            | Input::Received { upstream, .. }
            | Input::Flushed { upstream }
            | Input::Closed { upstream, .. } => Some(*upstream),
            Input::Ready { dest } => match self.by_dest.get(dest) {
                Some(upstream) => Some(*upstream),
                None => return,
            },
            Input::Settled { token, .. } => Some(split(*token).0),
            Input::Timeout | Input::NetworkChanged | Input::Shutdown => None,
        };
        match (whose, &input) {
            // It went while the shell dialled.
            (Some(id), Input::Dialed { conn, .. }) if !self.desks.contains_key(&id) => {
                self.outputs.push_back(Output::Close { upstream: id, conn: *conn });
            }
            (Some(id), input) => self.tell(now, id, input, out, local),
            (None, input) => {
                for id in self.desks.keys().copied().collect::<Vec<_>>() {
                    self.tell(now, id, input, out, local);
                }
            }
        }
    }

    /// What to do next. Drain to `None` after each input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When silence becomes an input.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.desks.values().map(|desk| desk.upstream.deadline()).fold(None, earliest)
    }

    /// The bytes for this connection: the one in use, or the one that was closed last and is still being written.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.desks.values_mut().chain(&mut self.retired).find_map(|desk| desk.upstream.outbox(conn))
    }

    /// The counters of one upstream.
    #[must_use]
    pub fn stats(&self, upstream: UpstreamId) -> Option<&Stats> {
        self.desks.get(&upstream).map(|desk| &desk.stats)
    }

    /// What was sent from the queue of a rule.
    #[must_use]
    pub fn sent(&self, dest: DestId) -> Sent {
        let desk = self.by_dest.get(&dest).and_then(|upstream| self.desks.get(upstream));
        desk.map(|desk| desk.upstream.outgoing.sent(dest)).unwrap_or_default()
    }

    /// The address that is in use or tried next.
    #[must_use]
    pub fn endpoint(&self, upstream: UpstreamId) -> Option<&UpstreamUrl> {
        self.desks.get(&upstream).and_then(|desk| desk.upstream.endpoint())
    }
}
