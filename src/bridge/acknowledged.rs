//! What the upstream's acknowledgements mean for the queues of the out-rules.

use std::fmt::Write;

use crate::bridge::context::Context;
use crate::bridge::end::End;
use crate::bridge::flights::Flight;
use crate::bridge::link::Link;
use crate::bridge::outgoing::Outgoing;
use crate::bridge::port::FIRST_FIXED_PKID;
use crate::metrics::Level;
use crate::mqtt::{PubAck, PubComp, PubRec, QoS, ReasonCode};
use crate::queue::Seq;

impl Outgoing {
    /// PUBACK came.
    pub(super) fn on_puback(&mut self, ctx: &mut Context<'_>, link: &mut Link, ack: &PubAck<'_>) {
        match self.flights.get(ack.pkid) {
            Some(Flight::Message { rule, seq, qos: QoS::AtLeastOnce }) => {
                self.flights.remove(ack.pkid);
                link.progress_at = ctx.now.at;
                self.on_answer(ctx, link, rule, seq, ack.reason, ack.properties.reason_string);
            }
            Some(Flight::Status) => {
                self.flights.remove(ack.pkid);
                link.progress_at = ctx.now.at;
                if ack.reason.is_error() {
                    ctx.notice(Level::Warn, "upstream refused the link state", ack.reason.as_str());
                }
            }
            _ => ctx.stats.unsolicited += 1,
        }
    }

    /// PUBREC came.
    pub(super) fn on_pubrec(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        ack: &PubRec<'_>,
    ) -> Result<(), End> {
        match self.flights.get(ack.pkid) {
            Some(Flight::Message { rule, seq, qos: QoS::ExactlyOnce }) => {
                link.progress_at = ctx.now.at;
                if ack.reason.is_error() {
                    self.flights.remove(ack.pkid);
                    self.on_answer(ctx, link, rule, seq, ack.reason, ack.properties.reason_string);
                    return Ok(());
                }
                self.release(ctx, link, rule, seq, ack.pkid)
            }
            Some(Flight::Released { .. }) => {
                self.put_pubrel(link, ack.pkid, ReasonCode::Success);
                Ok(())
            }
            // An identifier of ours never was QoS 2. One of the queue's may belong to a message that waits to be sent
            // again: to release it upstream would make a duplicate of that.
            None if ack.pkid < FIRST_FIXED_PKID => {
                ctx.stats.unsolicited += 1;
                self.put_pubrel(link, ack.pkid, ReasonCode::PacketIdentifierNotFound);
                Ok(())
            }
            _ => {
                ctx.stats.unsolicited += 1;
                Ok(())
            }
        }
    }

    /// PUBCOMP came.
    pub(super) fn on_pubcomp(&mut self, ctx: &mut Context<'_>, link: &mut Link, ack: &PubComp<'_>) {
        if let Some(Flight::Released { rule }) = self.flights.get(ack.pkid) {
            self.flights.remove(ack.pkid);
            link.progress_at = ctx.now.at;
            if let Some(source) = self.sources.get(rule) {
                ctx.out.complete(ctx.now, source.dest, ack.pkid);
            }
        } else {
            ctx.stats.unsolicited += 1;
        }
    }

    /// The exchange of a message is over: delivered, refused for now, or refused for good.
    fn on_answer(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        i: usize,
        seq: Seq,
        reason: ReasonCode,
        words: Option<&str>,
    ) {
        let source = &mut self.sources[i];
        source.unanswered -= 1;
        source.trial.acknowledged();
        if !reason.is_error() {
            ctx.stats.acked += 1;
            self.pause.reset();
            ctx.out.acked(ctx.now, source.dest, seq);
        } else if reason == ReasonCode::QuotaExceeded {
            source.refused = true;
            self.pause(ctx, link);
        } else {
            let mut why = format!("upstream refused it: {reason} (0x{:02X})", reason.as_u8());
            if let Some(words) = words {
                // Writing to a string cannot fail.
                write!(why, ", {words:?}").unwrap_or_default();
            }
            self.bury(ctx, i, seq, &why);
        }
        self.return_refused(ctx, i);
    }

    /// The upstream has no room: it is left alone for a while, longer each time.
    fn pause(&mut self, ctx: &mut Context<'_>, link: &mut Link) {
        if link.paused_until.is_none() {
            let wait = self.pause.after_failure();
            link.paused_until = Some(ctx.now.at + wait);
            ctx.stats.pauses += 1;
            ctx.notice(Level::Warn, "upstream has no room", format!("quota exceeded, paused for {wait:?}"));
        }
    }

    /// Refused messages go back to their queue, in their place, when no other of the rule is on its way: so none is
    /// sent twice.
    pub(super) fn return_refused(&mut self, ctx: &mut Context<'_>, i: usize) {
        let source = &mut self.sources[i];
        if source.refused && source.unanswered == 0 {
            source.refused = false;
            ctx.out.rewind(source.dest);
        }
    }
}
