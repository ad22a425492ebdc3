//! QoS 2 messages that the upstream has, on their way through the store: PUBREL follows when that is safe.

use crate::bridge::context::{Context, Lane};
use crate::bridge::end::End;
use crate::bridge::flights::Flight;
use crate::bridge::link::Link;
use crate::bridge::outgoing::Outgoing;
use crate::mqtt::{PubRel, QoS, ReasonCode};
use crate::queue::{Outcome, Refusal, Seq};

/// A release on its way through the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Release {
    pkid: u16,
    settled: bool,
    /// The session was lost meanwhile, or the store could not take it: no PUBREL.
    pub(super) void: bool,
}

impl Outgoing {
    /// The message is the upstream's now. That must be durable before PUBREL: PUBREL lets the upstream forget the
    /// identifier, and the message, if it were sent again after a power cut, would be new to it.
    pub(super) fn release(
        &mut self,
        ctx: &mut Context<'_>,
        link: &mut Link,
        i: usize,
        seq: Seq,
        pkid: u16,
    ) -> Result<(), End> {
        let source = &mut self.sources[i];
        source.unanswered -= 1;
        source.trial.acknowledged();
        ctx.stats.acked += 1;
        self.pause.reset();
        self.flights.set(pkid, Flight::Releasing { rule: i, seq });
        let token = ctx.token(Lane::Release, self.first_release + self.releases.len() as u64);
        match ctx.out.release(ctx.now, source.dest, seq, pkid, token) {
            Outcome::Done => self.releases.push_back(Release { pkid, settled: true, void: false }),
            Outcome::Pending => self.releases.push_back(Release { pkid, settled: false, void: false }),
            Outcome::Refused(_) => {
                self.flights.keep(pkid, i, seq, QoS::ExactlyOnce);
                return Err(End::Store);
            }
        }
        self.return_refused(ctx, i);
        self.put_settled(ctx, Some(link));
        Ok(())
    }

    /// The store settled a release, while the link was up or not. If it could not take it, the message is in the queue
    /// again, and the next link repeats the exchange.
    pub(super) fn on_released(
        &mut self,
        ctx: &mut Context<'_>,
        link: Option<&mut Link>,
        number: u64,
        result: Result<(), Refusal>,
    ) -> Result<(), End> {
        let place = number.checked_sub(self.first_release).and_then(|place| usize::try_from(place).ok());
        let Some(release) = place.and_then(|place| self.releases.get_mut(place)) else { return Ok(()) };
        let (pkid, failed, is_up) = (release.pkid, result.is_err() && !release.void, link.is_some());
        release.settled = true;
        release.void |= failed;
        if let (true, Some(Flight::Releasing { rule, seq })) = (failed, self.flights.get(pkid)) {
            self.flights.keep(pkid, rule, seq, QoS::ExactlyOnce);
        }
        self.put_settled(ctx, link);
        if failed && is_up { Err(End::Store) } else { Ok(()) }
    }

    /// Sends PUBREL for all whose turn it is. Without a link, they are sent when there is one.
    fn put_settled(&mut self, ctx: &Context<'_>, mut link: Option<&mut Link>) {
        while let Some(Release { pkid, void, .. }) = self.releases.pop_front_if(|release| release.settled) {
            self.first_release += 1;
            if let (false, Some(Flight::Releasing { rule, .. })) = (void, self.flights.get(pkid)) {
                if let Some(link) = link.as_deref_mut() {
                    self.put_pubrel(link, pkid, ReasonCode::Success);
                    self.depart(ctx, link, pkid, Flight::Released { rule });
                } else {
                    self.flights.set(pkid, Flight::Released { rule });
                }
            }
        }
    }

    pub(super) fn put_pubrel(&self, link: &mut Link, pkid: u16, reason: ReasonCode) {
        let version = link.version;
        link.wire.outbox.put_with(|out| PubRel::new(pkid, reason).encode(version, out));
    }
}
