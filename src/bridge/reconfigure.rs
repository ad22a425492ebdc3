//! An upstream under another configuration.
//!
//! What its queues may hold changes while it is connected. Anything else needs a new connection, but not a new session:
//! what is on its way keeps its identifier (promise 3), as over any lost link.

use crate::bridge::connect::WillTerms;
use crate::bridge::context::Context;
use crate::bridge::end::End;
use crate::bridge::failover::Failover;
use crate::bridge::manner::Manner;
use crate::bridge::outgoing::Source;
use crate::bridge::rule::RuleError;
use crate::bridge::upstream::{State, Upstream, compile, version_of};
use crate::bridge::{Common, Setup, incoming::Sink};
use crate::metrics::Level;

impl Upstream {
    /// Goes on with another configuration, on a new connection where one is needed.
    ///
    /// # Errors
    /// If a rule cannot work; then nothing has changed. A checked configuration has none.
    pub(super) fn reconfigure(
        &mut self,
        ctx: &mut Context<'_>,
        setup: Setup,
        common: Common,
    ) -> Result<(), RuleError> {
        let (sources, sinks): (Vec<Source>, Vec<Sink>) = compile(&setup)?;
        let Setup { config, hop, .. } = setup;
        let goes_on = self.config.connects_like(&config) && self.intake == common.intake;
        if goes_on {
            self.config = config;
            return Ok(());
        }
        ctx.notice(Level::Info, "upstream reconfigured", "it is connected anew");
        self.end(ctx, End::Shutdown);
        self.session_is_ours &= self.config.client_id == config.client_id;
        self.version = version_of(&config);
        self.intake = common.intake;
        self.outgoing.reconfigure(sources, Manner::new(&config, hop));
        self.incoming.reconfigure(sinks, self.version, common.intake, config.max_inflight_messages);
        self.backoff.configure(config.reconnect_min, config.reconnect_max);
        self.config = config;
        self.will = WillTerms::new(&self.config.preset.limits());
        self.failover = Failover::new(self.config.url.len(), self.config.return_interval);
        self.enter(ctx, State::Waiting { until: ctx.now.at });
        Ok(())
    }
}
