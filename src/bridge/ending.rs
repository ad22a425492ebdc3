//! How a link ends: what is put back, what is said, and when it is tried again.

use crate::bridge::backoff::STABLE_AFTER;
use crate::bridge::connect::OFFLINE;
use crate::bridge::context::Context;
use crate::bridge::end::End;
use crate::bridge::link::{Link, Wire};
use crate::bridge::port::Output;
use crate::bridge::upstream::{State, Upstream};
use crate::metrics::Level;
use crate::mqtt::{Disconnect, ReasonCode, Version};

/// Why a link to another endpoint is left.
pub(super) const RETURNING: &str = "the first endpoint answers again";

impl Upstream {
    /// The transport was closed, or could not be opened.
    pub(super) fn on_closed(&mut self, ctx: &mut Context<'_>, end: End) {
        let ours = match end {
            End::Dial(_) => matches!(self.state, State::Dialing),
            _ => self.wire().is_some(),
        };
        if ours {
            self.end(ctx, end);
        }
    }

    /// The link, or the try to bring it up, ended: puts everything back, says why, and decides when to try again.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>, end: End) {
        let up_at = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Stopped => return,
            State::Waiting { .. } | State::Dialing => None,
            State::Connecting { wire, .. } => {
                self.close(ctx, wire, &end);
                None
            }
            State::Up(link) => {
                let up_at = link.up_at;
                self.link_ended(ctx, *link, &end);
                Some(up_at)
            }
        };
        self.partial = Vec::new();
        self.skip = 0;
        if end == End::Shutdown {
            self.enter(ctx, State::Stopped);
            return;
        }
        if let End::Left(why) = end {
            ctx.notice(Level::Info, "upstream left", why);
            self.dial(ctx);
            return;
        }
        // An endpoint earns its place by a link that lasts.
        self.failover.link_ended(up_at.is_some_and(|up_at| ctx.now.at.since(up_at) >= STABLE_AFTER));
        let error = Some(end.to_string());
        // An upstream that is away for a week is news once, not once a minute.
        let known = up_at.is_none() && ctx.stats.last_error == error;
        ctx.stats.last_error = error;
        self.needs_hands = end.needs_hands();
        let wait = if self.needs_hands { self.backoff.after_refusal() } else { self.backoff.after_failure() };
        self.enter(ctx, State::Waiting { until: ctx.now.at + wait });
        let what = if up_at.is_some() {
            ctx.stats.losses += 1;
            "upstream lost"
        } else {
            ctx.stats.failures += 1;
            "upstream unreachable"
        };
        let hint = match end {
            End::Disconnected(ReasonCode::SessionTakenOver, _) => {
                format!("; does another gateway use the client id {:?}?", self.config.client_id)
            }
            _ => String::new(),
        };
        let level = if known { Level::Debug } else { Level::Warn };
        ctx.notice(level, what, format!("{end}{hint}; next try in {wait:.1?}"));
    }

    fn link_ended(&mut self, ctx: &mut Context<'_>, mut link: Link, end: &End) {
        if *end == End::Shutdown && !self.config.status_topic.is_empty() {
            self.outgoing.put_status(ctx, &mut link, &self.config.status_topic, OFFLINE);
        }
        self.outgoing.link_ended(ctx, end.blames_messages());
        self.incoming.link_ended();
        self.backoff.link_ended(ctx.now.at, link.up_at);
        self.close(ctx, link.wire, end);
        self.tell(ctx, false, &end.to_string());
    }

    /// A link that is to be left goes when nothing is on its way any more, or when that takes too long.
    pub(super) fn leave_when_done(&mut self, ctx: &mut Context<'_>) {
        let State::Up(link) = &self.state else { return };
        let Some((why, latest)) = link.leaving else { return };
        if self.outgoing.flights.awaits_upstream() && ctx.now.at < latest {
            return;
        }
        if why == RETURNING {
            self.failover.go_back();
        }
        self.end(ctx, End::Left(why));
    }

    /// Says goodbye where the upstream may be told, and asks for the close where it has not closed itself.
    fn close(&mut self, ctx: &mut Context<'_>, mut wire: Wire, end: &End) {
        if end.is_closed() {
            return;
        }
        let Wire { conn, ref mut outbox, .. } = wire;
        match end.farewell() {
            Some(reason) if self.version == Version::V5 || reason == ReasonCode::Success => {
                outbox.put_with(|out| Disconnect::new(reason).encode(self.version, out));
                self.closing = Some((conn, wire.outbox));
            }
            // Nobody reads it, and without DISCONNECT the upstream publishes the will, which says the truth.
            _ => self.closing = None,
        }
        ctx.outputs.push_back(Output::Close { upstream: ctx.upstream, conn });
    }
}
