//! One upstream: dials, says hello, keeps the link, and starts over when it ends.

use crate::bridge::backoff::Backoff;
use crate::bridge::connect::{Allowance, Hello, Intake, ONLINE, WillTerms};
use crate::bridge::context::{Context, Lane, split};
use crate::bridge::end::End;
use crate::bridge::ending::RETURNING;
use crate::bridge::failover::Failover;
use crate::bridge::incoming::{Incoming, Sink};
use crate::bridge::link::{Link, Need, Wire};
use crate::bridge::manner::Manner;
use crate::bridge::outgoing::{Outgoing, Source};
use crate::bridge::port::{Input, Login, Output};
use crate::bridge::rule::{CompiledRule, RuleError};
use crate::bridge::stats::LinkState;
use crate::bridge::{Common, Setup};
use crate::config::{self, UpstreamUrl, UpstreamVersion};
use crate::metrics::Level;
use crate::mqtt::hop::{self, Gateway};
use crate::mqtt::{ConnAck, ConnId, Outbox, Packet, ReasonCode, Version};
use crate::queue::{Refusal, Token};
use crate::time::{Duration, Instant, Wall, earliest};

/// Waits between tries when the upstream has no room.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Where the link stands.
#[derive(Debug)]
pub(super) enum State {
    /// Waits before the next try.
    Waiting { until: Instant },
    /// The shell connects.
    Dialing,
    /// CONNECT was sent; `clean` says with a clean start.
    Connecting { wire: Wire, give_up_at: Instant, clean: bool, renew_at: Option<Instant> },
    /// CONNACK said yes.
    Up(Box<Link>),
    /// Said goodbye.
    Stopped,
}

/// One upstream and our session with it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) config: config::Upstream,
    pub(super) version: Version,
    pub(super) intake: Intake,
    pub(super) state: State,
    pub(super) backoff: Backoff,
    pub(super) failover: Failover,
    pub(super) will: WillTerms,
    /// The upstream's session, if it has one under our name, is ours: our store knows what is in it.
    pub(super) session_is_ours: bool,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// The beginning of a packet whose end has not come.
    pub(super) partial: Vec<u8>,
    /// Bytes to come that belong to a packet that is let pass.
    pub(super) skip: usize,
    /// What was left to write when we closed.
    pub(super) closing: Option<(ConnId, Outbox)>,
    /// What the local link state says.
    pub(super) told_up: Option<bool>,
    /// The last try ended so that trying again soon is no use.
    pub(super) needs_hands: bool,
}

impl Upstream {
    pub(super) fn new(setup: Setup, common: Common, seed: u64) -> Result<Self, RuleError> {
        let (sources, sinks) = compile(&setup)?;
        let Setup { config, hop, resumes, .. } = setup;
        let mut rng = fastrand::Rng::with_seed(seed);
        let version = version_of(&config);
        let pause = Backoff::new(PAUSE.0, PAUSE.1, rng.fork());
        Ok(Self {
            outgoing: Outgoing::new(sources, common.recovered, pause, Manner::new(&config, hop)),
            incoming: Incoming::new(sinks, version, common.intake, config.max_inflight_messages),
            backoff: Backoff::new(config.reconnect_min, config.reconnect_max, rng),
            failover: Failover::new(config.url.len(), config.return_interval),
            will: WillTerms::new(&config.preset.limits()),
            config,
            version,
            intake: common.intake,
            state: State::Waiting { until: Instant::ZERO },
            session_is_ours: resumes,
            partial: Vec::new(),
            skip: 0,
            closing: None,
            told_up: None,
            needs_hands: false,
        })
    }

    /// Whether the shell has not taken yet what was left to write when it was told to close.
    pub(super) fn is_leaving(&self) -> bool {
        self.closing.as_ref().is_some_and(|(_, outbox)| !outbox.is_empty())
    }

    pub(super) fn endpoint(&self) -> Option<&UpstreamUrl> {
        self.config.url.get(self.failover.endpoint())
    }

    pub(super) fn enter(&mut self, ctx: &mut Context<'_>, state: State) {
        let was_up = ctx.stats.state == LinkState::Up;
        ctx.stats.state = match state {
            State::Waiting { .. } => LinkState::Waiting,
            State::Dialing => LinkState::Dialing,
            State::Connecting { .. } => LinkState::Connecting,
            State::Up(_) => LinkState::Up,
            State::Stopped => LinkState::Stopped,
        };
        if was_up != (ctx.stats.state == LinkState::Up) || ctx.stats.since == Wall::default() {
            ctx.stats.since = ctx.now.wall;
        }
        ctx.stats.endpoint = self.failover.endpoint();
        self.state = state;
    }

    pub(super) fn wire(&self) -> Option<&Wire> {
        match &self.state {
            State::Connecting { wire, .. } => Some(wire),
            State::Up(link) => Some(&link.wire),
            State::Waiting { .. } | State::Dialing | State::Stopped => None,
        }
    }

    fn wire_mut(&mut self) -> Option<&mut Wire> {
        match &mut self.state {
            State::Connecting { wire, .. } => Some(wire),
            State::Up(link) => Some(&mut link.wire),
            State::Waiting { .. } | State::Dialing | State::Stopped => None,
        }
    }

    /// One fact that concerns this upstream.
    pub(super) fn handle_input(&mut self, ctx: &mut Context<'_>, input: &Input<'_>) {
        match input {
            Input::Dialed { conn, login, .. } => self.on_dialed(ctx, *conn, login),
            Input::DialFailed { error, .. } => self.on_closed(ctx, End::Dial(error.clone())),
            Input::Probed { answers, .. } => self.on_probed(ctx, *answers),
            Input::NetworkChanged => self.on_network(ctx),
            Input::Received { bytes, .. } => self.on_received(ctx, bytes),
            Input::Flushed { .. } | Input::Ready { .. } => self.pump(ctx),
            Input::Closed { error, .. } => self.on_closed(ctx, End::Closed(error.clone())),
            Input::Settled { token, result } => self.on_settled(ctx, *token, *result),
            Input::Timeout => self.on_timeout(ctx),
            Input::Shutdown => self.end(ctx, End::Shutdown),
        }
        self.leave_when_done(ctx);
    }

    /// The connection in use, and the bytes that wait for it.
    pub(super) fn queued(&self) -> Option<(ConnId, usize)> {
        self.wire().map(|wire| (wire.conn, wire.outbox.len()))
    }

    /// Asks for a flush if more bytes wait than `before` an input.
    pub(super) fn request_flush(&mut self, ctx: &mut Context<'_>, before: Option<(ConnId, usize)>) {
        let Some(wire) = self.wire_mut() else { return };
        let (conn, len) = (wire.conn, wire.outbox.len());
        let had = before.filter(|(same, _)| *same == conn).map_or(0, |(_, len)| len);
        if len > had {
            wire.last_sent = ctx.now.at;
            ctx.stats.bytes_out += (len - had) as u64;
            ctx.outputs.push_back(Output::Flush { upstream: ctx.upstream, conn });
        }
    }

    /// The outbox of `conn`: the connection in use, or the one that we closed last.
    pub(super) fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        if self.wire().is_some_and(|wire| wire.conn == conn) {
            return self.wire_mut().map(|wire| &mut wire.outbox);
        }
        self.closing.as_mut().filter(|(closing, _)| *closing == conn).map(|(_, outbox)| outbox)
    }

    /// The window has room again, or the queue has something.
    pub(super) fn pump(&mut self, ctx: &mut Context<'_>) {
        if let State::Up(link) = &mut self.state {
            self.outgoing.pump(ctx, link);
        }
    }

    pub(super) fn dial(&mut self, ctx: &mut Context<'_>) {
        if self.told_up.is_none() {
            // Whatever the state said before this process started is not true now.
            self.tell(ctx, false, "connecting");
        }
        self.enter(ctx, State::Dialing);
        let endpoint = self.failover.endpoint();
        ctx.outputs.push_back(Output::Dial { upstream: ctx.upstream, endpoint });
    }

    /// The shell connected.
    fn on_dialed(&mut self, ctx: &mut Context<'_>, conn: ConnId, login: &Login) {
        if !matches!(self.state, State::Dialing) {
            ctx.outputs.push_back(Output::Close { upstream: ctx.upstream, conn });
            return;
        }
        // A session that our store knows nothing of must not be resumed: its identifiers would be taken for ours. 3.1.1
        // cannot discard a session and keep the next one, so there it stays.
        let clean = self.config.clean_start || (self.version == Version::V5 && !self.session_is_ours);
        let hello = Hello {
            config: &self.config,
            version: self.version,
            password: login.password.as_deref(),
            clean_start: clean,
            will: self.will,
            intake: self.intake,
            hop: self.outgoing.manner.hop.as_ref(),
        };
        let mut wire = Wire::new(conn, ctx.now.at);
        hello.put(&mut wire.outbox);
        self.closing = None;
        let give_up_at = ctx.now.at + self.config.connect_timeout;
        let renew_at = login.valid_for.map(|valid_for| ctx.now.at + valid_for * 9 / 10);
        self.enter(ctx, State::Connecting { wire, give_up_at, clean, renew_at });
    }

    pub(super) fn on_connack(&mut self, ctx: &mut Context<'_>, connack: &ConnAck<'_>) -> Result<(), End> {
        if connack.reason.is_error() {
            self.will.learn(connack.reason);
            return Err(End::Refused(connack.reason, words(connack.properties.reason_string)));
        }
        let (wire, clean, renew_at) = match std::mem::replace(&mut self.state, State::Dialing) {
            State::Connecting { wire, clean, renew_at, .. } => (wire, clean, renew_at),
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let resumed = connack.session_present;
        let allowance = Allowance::new(&self.config, connack);
        let mut link = Box::new(Link::new(wire, self.version, allowance, ctx.now.at));
        if clean && resumed {
            link.renew_at = renew_at;
            self.failover.link_up(ctx.now.at);
            self.enter(ctx, State::Up(link));
            let text = "a session is present after a clean start [MQTT-3.2.2-4]";
            return Err(End::Broke(ReasonCode::ProtocolError, text));
        }
        self.session_is_ours = true;
        ctx.local.own_session(ctx.now, ctx.upstream, &self.config.client_id);
        self.meet(ctx, hop::named(&connack.properties.user_properties));
        ctx.stats.connects += 1;
        if !resumed {
            ctx.local.forget_receipts(ctx.now, ctx.upstream);
        }
        self.outgoing.link_up(ctx, &mut link, resumed);
        self.incoming.subscribe(ctx, &mut link, &mut self.outgoing.flights, resumed);
        if !self.config.status_topic.is_empty() {
            self.outgoing.put_status(ctx, &mut link, &self.config.status_topic, ONLINE);
        }
        link.renew_at = renew_at;
        self.failover.link_up(ctx.now.at);
        self.enter(ctx, State::Up(link));
        let waiting: u64 = self.outgoing.dests().map(|dest| ctx.out.depth(dest).messages).sum();
        let session = if resumed { "session resumed" } else { "new session" };
        ctx.notice(Level::Info, "upstream connected", format!("{session}, {waiting} messages wait"));
        self.tell(ctx, true, session);
        Ok(())
    }

    /// The upstream said which gateway it is, if it is one and we are one to it.
    fn meet(&mut self, ctx: &mut Context<'_>, name: Option<&str>) {
        let peer = name.filter(|_| self.outgoing.manner.hop.is_some()).map(Gateway::new);
        ctx.local.met(ctx.now, ctx.upstream, peer.as_ref());
        self.incoming.peer = peer;
    }

    /// The store or the local broker settled something.
    fn on_settled(&mut self, ctx: &mut Context<'_>, token: Token, result: Result<(), Refusal>) {
        let (_, lane, number) = split(token);
        let link = match &mut self.state {
            State::Up(link) => Some(link),
            _ => None,
        };
        match (lane, link) {
            (Lane::Answer, None) => {}
            (Lane::Answer, Some(link)) => self.incoming.on_settled(ctx, link, number, result),
            (Lane::Release, link) => {
                let link = link.map(|link| &mut **link);
                match self.outgoing.on_released(ctx, link, number, result) {
                    Ok(()) => self.pump(ctx),
                    Err(end) => self.end(ctx, end),
                }
            }
        }
    }

    /// When silence becomes an input.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Connecting { give_up_at, .. } => Some(*give_up_at),
            State::Up(link) => {
                let watch = link.deadline(self.outgoing.flights.awaits_upstream(), self.config.stuck_timeout);
                earliest(earliest(watch, self.failover.deadline()), self.outgoing.paced_until)
            }
            State::Dialing | State::Stopped => None,
        }
    }

    fn on_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.at;
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.dial(ctx),
            State::Connecting { give_up_at, .. } if *give_up_at <= now => {
                self.end(ctx, End::Silent("no CONNACK in time"));
            }
            State::Up(link) => {
                if self.failover.is_due(now) {
                    ctx.outputs.push_back(Output::Probe { upstream: ctx.upstream, endpoint: 0 });
                }
                match link.need(now, self.outgoing.flights.awaits_upstream(), self.config.stuck_timeout) {
                    Need::Nothing if self.outgoing.paced_until.is_some_and(|at| at <= now) => {
                        self.outgoing.pump(ctx, link);
                    }
                    Need::Nothing => {}
                    Need::Resume => {
                        link.paused_until = None;
                        self.outgoing.pump(ctx, link);
                    }
                    Need::Ping => self.ping(ctx),
                    Need::Renew => link.leave(now, "the password is renewed"),
                    Need::End(why) => self.end(ctx, End::Silent(why)),
                }
            }
            State::Waiting { .. } | State::Connecting { .. } | State::Dialing | State::Stopped => {}
        }
    }

    /// The first endpoint was looked at while another is in use.
    fn on_probed(&mut self, ctx: &mut Context<'_>, answers: bool) {
        if self.failover.probed(ctx.now.at, answers)
            && let State::Up(link) = &mut self.state
        {
            link.leave(ctx.now.at, RETURNING);
        }
    }

    /// An address or a route came: who waits need not wait longer, and a link may be dead without knowing.
    fn on_network(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.at;
        match &mut self.state {
            State::Waiting { .. } if !self.needs_hands => self.dial(ctx),
            State::Up(link) if link.is_doubtful(now) => self.ping(ctx),
            _ => {}
        }
    }

    fn ping(&mut self, ctx: &Context<'_>) {
        if let State::Up(link) = &mut self.state {
            link.wire.outbox.put_with(|out| Packet::PingReq.encode(self.version, out));
            link.pinged(ctx.now.at);
        }
    }

    pub(super) fn tell(&mut self, ctx: &mut Context<'_>, up: bool, detail: &str) {
        if self.told_up != Some(up) {
            self.told_up = Some(up);
            ctx.local.status(ctx.now, ctx.upstream, up, detail);
        }
    }
}

/// The rules that send and those that receive.
///
/// # Panics
/// If a rule that sends has no destination, or another has one.
pub(super) fn compile(setup: &Setup) -> Result<(Vec<Source>, Vec<Sink>), RuleError> {
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    for (i, rule) in setup.config.rule.iter().enumerate() {
        let CompiledRule { outward, inward } = CompiledRule::new(rule)?;
        let dest = setup.dests.iter().find(|(position, _)| *position == i).map(|(_, dest)| *dest);
        assert_eq!(outward.is_some(), dest.is_some(), "a queue for each rule that sends, and no other");
        let live = setup.live.iter().find(|(position, _)| *position == i).map(|(_, dest)| *dest);
        sources.extend(outward.clone().zip(live).map(|(mapping, dest)| Source::new(rule, mapping, dest, true)));
        sources.extend(outward.zip(dest).map(|(mapping, dest)| Source::new(rule, mapping, dest, false)));
        sinks.extend(inward.map(|mapping| Sink::new(rule, mapping)));
    }
    Ok((sources, sinks))
}

pub(super) const fn version_of(config: &config::Upstream) -> Version {
    match config.version {
        UpstreamVersion::V311 => Version::V311,
        UpstreamVersion::V5 => Version::V5,
    }
}

pub(super) fn words(reason_string: Option<&str>) -> String {
    reason_string.unwrap_or_default().to_owned()
}
