//! What the parts of one upstream need while they handle an input.

use std::collections::VecDeque;

use crate::bridge::port::{Local, Outbound, Output};
use crate::bridge::stats::Stats;
use crate::config::{RuleRetain, UpstreamId};
use crate::metrics::{Level, Notice};
use crate::queue::Token;
use crate::time::Now;

/// The world around an upstream, for the time of one input.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) upstream: UpstreamId,
    pub(super) name: &'a str,
    pub(super) out: &'a mut dyn Outbound,
    pub(super) local: &'a mut dyn Local,
    pub(super) stats: &'a mut Stats,
    pub(super) outputs: &'a mut VecDeque<Output>,
}

impl Context<'_> {
    pub(super) fn notice(&mut self, level: Level, what: &'static str, detail: impl Into<String>) {
        self.outputs.push_back(Output::Notice(Notice::new(level, what, self.name, detail)));
    }

    /// The token for something with this number, in this lane, of this upstream.
    pub(super) fn token(&self, lane: Lane, number: u64) -> Token {
        Token(u64::from(self.upstream.0) << 48 | (lane as u64) << LANE_SHIFT | (number & NUMBER))
    }
}

const LANE_SHIFT: u32 = 47;
const NUMBER: u64 = (1 << LANE_SHIFT) - 1;

/// What a token is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// An answer to what came from the upstream.
    Answer = 0,
    /// A QoS 2 message that the upstream has.
    Release = 1,
}

/// Takes a token apart.
pub(super) fn split(token: Token) -> (UpstreamId, Lane, u64) {
    let upstream = u16::try_from(token.0 >> 48).unwrap_or(u16::MAX);
    let lane = if token.0 >> LANE_SHIFT & 1 == 0 { Lane::Answer } else { Lane::Release };
    (UpstreamId(upstream), lane, token.0 & NUMBER)
}

/// The RETAIN flag under a rule.
pub(super) const fn retained(policy: RuleRetain, as_is: bool) -> bool {
    match policy {
        RuleRetain::Keep => as_is,
        RuleRetain::Strip => false,
        RuleRetain::Set => true,
    }
}
