//! One upstream: dials, says hello, keeps the link, and starts over when it ends.

use crate::bridge::backoff::{Backoff, STABLE_AFTER};
use crate::bridge::connect::{Allowance, Hello, Intake, OFFLINE, ONLINE, WillTerms};
use crate::bridge::context::{Context, Lane, split};
use crate::bridge::end::End;
use crate::bridge::failover::Failover;
use crate::bridge::incoming::{Incoming, Sink};
use crate::bridge::link::{Link, Need, Wire};
use crate::bridge::outgoing::{Outgoing, Source};
use crate::bridge::port::{Input, Login, Output};
use crate::bridge::rule::{CompiledRule, RuleError};
use crate::bridge::stats::LinkState;
use crate::bridge::{Common, Setup, oversize};
use crate::config::{self, Preset, UpstreamUrl, UpstreamVersion};
use crate::metrics::Level;
use crate::mqtt::{
    ConnAck, ConnId, DecodeError, Disconnect, Frame, Outbox, Packet, PacketType, PubAck, PubRec, Publish,
    ReasonCode, Version, frame,
};
use crate::queue::{Refusal, Token};
use crate::time::{Duration, Instant, Wall, earliest};

/// Waits between tries when the upstream has no room.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why a link to another endpoint is left.
const RETURNING: &str = "the first endpoint answers again";

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
    state: State,
    pub(super) backoff: Backoff,
    pub(super) failover: Failover,
    pub(super) will: WillTerms,
    /// The upstream's session, if it has one under our name, is ours: our store knows what is in it.
    pub(super) session_is_ours: bool,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// The beginning of a packet whose end has not come.
    partial: Vec<u8>,
    /// Bytes to come that belong to a packet that is let pass.
    skip: usize,
    /// What was left to write when we closed.
    closing: Option<(ConnId, Outbox)>,
    /// What the local link state says.
    told_up: Option<bool>,
    /// The last try ended so that trying again soon is no use.
    needs_hands: bool,
}

impl Upstream {
    pub(super) fn new(setup: Setup, common: Common, seed: u64) -> Result<Self, RuleError> {
        let (sources, sinks) = compile(&setup)?;
        let Setup { config, hop, resumes, .. } = setup;
        let mut rng = fastrand::Rng::with_seed(seed);
        let version = version_of(&config);
        let pause = Backoff::new(PAUSE.0, PAUSE.1, rng.fork());
        let mut outgoing = Outgoing::new(sources, common.recovered, pause, config.pace, hop);
        outgoing.property_bag = config.preset == Preset::AzureIotHub;
        Ok(Self {
            outgoing,
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

    fn wire(&self) -> Option<&Wire> {
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
    fn pump(&mut self, ctx: &mut Context<'_>) {
        if let State::Up(link) = &mut self.state {
            self.outgoing.pump(ctx, link);
        }
    }

    fn dial(&mut self, ctx: &mut Context<'_>) {
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
        };
        let mut wire = Wire::new(conn, ctx.now.at);
        hello.put(&mut wire.outbox);
        self.closing = None;
        let give_up_at = ctx.now.at + self.config.connect_timeout;
        let renew_at = login.valid_for.map(|valid_for| ctx.now.at + valid_for * 9 / 10);
        self.enter(ctx, State::Connecting { wire, give_up_at, clean, renew_at });
    }

    /// Bytes came.
    fn on_received(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) {
        if self.wire().is_none() {
            return;
        }
        ctx.stats.bytes_in += bytes.len() as u64;
        if let State::Up(link) = &mut self.state {
            link.received(ctx.now.at);
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let bytes = &bytes[skipped..];
        let mut partial = std::mem::take(&mut self.partial);
        let result = if partial.is_empty() {
            self.on_bytes(ctx, bytes).map(|used| self.partial.extend_from_slice(&bytes[used..]))
        } else {
            partial.extend_from_slice(bytes);
            self.on_bytes(ctx, &partial).map(|used| {
                if used < partial.len() {
                    partial.drain(..used);
                    self.partial = partial;
                }
            })
        };
        match result {
            Ok(()) => self.pump(ctx),
            Err(end) => self.end(ctx, end),
        }
    }

    /// Handles all packets that are complete and says how many bytes they were.
    fn on_bytes(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) -> Result<usize, End> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            used += match frame(rest, self.intake.max_packet_bytes) {
                Ok(Some(packet)) => {
                    self.on_packet(ctx, &packet).map_err(|end| match packet.packet_type() {
                        Some(PacketType::Publish | PacketType::PubRel | PacketType::SubAck) => end.inbound(),
                        _ => end,
                    })?;
                    packet.raw.len()
                }
                Ok(None) => return Ok(used),
                Err(error) => match self.on_oversize(ctx, rest, error)? {
                    Some(len) => {
                        self.skip = len.saturating_sub(rest.len());
                        len.min(rest.len())
                    }
                    None => return Ok(used),
                },
            };
        }
    }

    /// A packet is too large. One that the upstream could not know better about is let pass: says its length, or `None`
    /// if more of it must come first.
    fn on_oversize(
        &mut self,
        ctx: &mut Context<'_>,
        bytes: &[u8],
        error: DecodeError,
    ) -> Result<Option<usize>, End> {
        let too_large = error.reason() == ReasonCode::PacketTooLarge && self.version != Version::V5;
        match &mut self.state {
            State::Up(link) if too_large => match oversize::skim(bytes) {
                Some(skimmed) => self.incoming.on_oversize(ctx, link, skimmed).map(|()| Some(skimmed.len)),
                None if bytes.len() < oversize::MAX_BEGINNING => Ok(None),
                None => Err(error.into()),
            },
            _ => Err(error.into()),
        }
    }

    fn on_packet(&mut self, ctx: &mut Context<'_>, frame: &Frame<'_>) -> Result<(), End> {
        let State::Up(link) = &mut self.state else {
            return match Packet::decode(self.version, frame)? {
                Packet::ConnAck(connack) => self.on_connack(ctx, &connack),
                _ => Err(End::Broke(ReasonCode::ProtocolError, "the first packet is not CONNACK [MQTT-3.2.0-1]")),
            };
        };
        let version = self.version;
        match frame.packet_type() {
            Some(PacketType::Publish) => {
                return self.incoming.on_publish(ctx, link, &Publish::decode(version, frame)?);
            }
            // To insist on the right reason would not help: the message would be refused on each new link.
            Some(PacketType::PubAck) => {
                self.outgoing.on_puback(ctx, link, &PubAck::decode_from_server(version, frame)?);
                return Ok(());
            }
            Some(PacketType::PubRec) => {
                return self.outgoing.on_pubrec(ctx, link, &PubRec::decode_from_server(version, frame)?);
            }
            _ => {}
        }
        match Packet::decode(version, frame)? {
            Packet::PubComp(ack) => self.outgoing.on_pubcomp(ctx, link, &ack),
            Packet::PubRel(release) => self.incoming.on_pubrel(ctx, link, &release)?,
            Packet::SubAck(ack) => self.incoming.on_suback(ctx, link, &mut self.outgoing.flights, &ack)?,
            Packet::PingResp => {}
            Packet::Disconnect(Disconnect { reason, properties }) if self.version == Version::V5 => {
                return Err(End::Disconnected(reason, words(properties.reason_string)));
            }
            _ => return Err(End::Broke(ReasonCode::ProtocolError, "a server does not send this packet")),
        }
        Ok(())
    }

    fn on_connack(&mut self, ctx: &mut Context<'_>, connack: &ConnAck<'_>) -> Result<(), End> {
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

    /// The transport was closed, or could not be opened.
    fn on_closed(&mut self, ctx: &mut Context<'_>, end: End) {
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

    /// A link that is to be left goes when nothing is on its way any more, or when that takes too long.
    fn leave_when_done(&mut self, ctx: &mut Context<'_>) {
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

    fn tell(&mut self, ctx: &mut Context<'_>, up: bool, detail: &str) {
        if self.told_up != Some(up) {
            self.told_up = Some(up);
            ctx.local.status(ctx.now, ctx.upstream, up, detail);
        }
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

fn words(reason_string: Option<&str>) -> String {
    reason_string.unwrap_or_default().to_owned()
}
