//! The bridge: sessions with upstream brokers, fed from the queues of the out-rules, feeding the local broker.
//!
//! It owns what a session needs to know while the process lives: what is in flight under which identifier, what the
//! upstream allows, how long to wait before the next try. It owns no message: those lie in the queues until the
//! upstream acknowledged them, and a lost link or a crash only means that some are sent again (promises 1 to 3).
//!
//! It speaks MQTT 3.1.1 and 5.0 with the house's own codec. `tests/rumqttc.rs` shows why it is not rumqttc.

mod answers;
mod backoff;
mod connect;
mod context;
mod end;
mod flights;
mod incoming;
mod link;
mod outgoing;
mod oversize;
mod port;
pub mod rule;
mod stats;
#[cfg(test)]
mod tests;
mod trial;
mod upstream;

use std::collections::{BTreeMap, VecDeque};

pub use connect::Intake;
pub use port::{FIRST_FIXED_PKID, Input, Local, Outbound, Output};
pub use stats::{LinkState, Stats};

use crate::bridge::context::{Context, split};
use crate::bridge::rule::RuleError;
use crate::bridge::upstream::Upstream;
use crate::config::{self, UpstreamId};
use crate::mqtt::{ConnId, Outbox};
use crate::queue::{DestId, Seq};
use crate::time::{Instant, Now, earliest};

/// One upstream, as it is set up at start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// As configured, `{gateway}` filled in.
    pub config: config::Upstream,
    /// What `password_file` holds.
    pub password: Option<Vec<u8>>,
    /// The queue of each rule that sends: position in `config.rule`, destination.
    pub dests: Vec<(usize, DestId)>,
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
    /// By [`UpstreamId`].
    desks: Vec<Desk>,
    by_dest: BTreeMap<DestId, UpstreamId>,
    outputs: VecDeque<Output>,
}

impl Bridge {
    /// A bridge that is about to dial: its deadline has passed. `seed` makes the jitter.
    ///
    /// # Errors
    /// If a rule cannot work; a checked configuration has none.
    ///
    /// # Panics
    /// If a rule that sends has no destination, or another has one.
    pub fn new(setups: Vec<Setup>, common: Common, seed: u64) -> Result<Self, RuleError> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut desks, mut by_dest) = (Vec::new(), BTreeMap::new());
        for (id, setup) in (0..=u16::MAX).map(UpstreamId).zip(setups) {
            by_dest.extend(setup.dests.iter().map(|(_, dest)| (*dest, id)));
            let name = setup.config.name.clone();
            let upstream = Upstream::new(setup, common, rng.u64(..))?;
            desks.push(Desk { name, upstream, stats: Stats::default() });
        }
        Ok(Self { desks, by_dest, outputs: VecDeque::new() })
    }

    /// Exactly one fact about the world.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>, out: &mut dyn Outbound, local: &mut dyn Local) {
        let whose = match &input {
            Input::Dialed { upstream, .. }
            | Input::DialFailed { upstream, .. }
            | Input::Received { upstream, .. }
            | Input::Flushed { upstream }
            | Input::Closed { upstream, .. } => Some(*upstream),
            Input::Ready { dest } => match self.by_dest.get(dest) {
                Some(upstream) => Some(*upstream),
                None => return,
            },
            Input::Settled { token, .. } => Some(split(*token).0),
            Input::Timeout | Input::Shutdown => None,
        };
        for (id, desk) in (0..=u16::MAX).map(UpstreamId).zip(&mut self.desks) {
            if whose.is_none_or(|whose| whose == id) {
                let Desk { name, upstream, stats } = desk;
                let outputs = &mut self.outputs;
                let mut ctx = Context { now, upstream: id, name, out, local, stats, outputs };
                let before = upstream.queued();
                upstream.handle_input(&mut ctx, &input);
                upstream.request_flush(&mut ctx, before);
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
        self.desks.iter().map(|desk| desk.upstream.deadline()).fold(None, earliest)
    }

    /// The bytes for this connection: the one in use, or the one that was closed last and is still being written.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.desks.iter_mut().find_map(|desk| desk.upstream.outbox(conn))
    }

    /// The counters of one upstream.
    #[must_use]
    pub fn stats(&self, upstream: UpstreamId) -> Option<&Stats> {
        self.desks.get(usize::from(upstream.0)).map(|desk| &desk.stats)
    }
}
