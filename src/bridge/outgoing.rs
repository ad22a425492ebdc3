//! From the queues of the out-rules to the upstream: what is sent next, and what its acknowledgements mean.

use std::collections::VecDeque;

use crate::bridge::backoff::Backoff;
use crate::bridge::context::{Context, retained};
use crate::bridge::flights::{Flight, Flights};
use crate::bridge::link::Link;
use crate::bridge::manner::Manner;
use crate::bridge::pace::Pace;
use crate::bridge::port::FIRST_FIXED_PKID;
use crate::bridge::property_bag;
use crate::bridge::releases::Release;
use crate::bridge::rule::Mapping;
use crate::bridge::stamp::Stamp;
use crate::bridge::stats::Sent;
use crate::bridge::trial::Trial;
use crate::config::{self, RuleRetain};
use crate::metrics::Level;
use crate::mqtt::alias::Telling;
use crate::mqtt::publish::{Head, encode_head};
use crate::mqtt::{MAX_PACKET, Publish, PublishProperties, QoS, ReasonCode, Version};
use crate::queue::{DestId, Peeked, Seq};
use crate::time::{Instant, earliest};

/// So many bytes may wait for the transport before the queues are left alone. Enough to keep a fast line busy
/// between two turns, little enough that what is sent is not yet old.
const HIGH_WATER: usize = 64 * 1024;

/// What a topic alias takes in a packet.
const ALIAS_BYTES: usize = 3;

/// An out-rule with its queue.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    mapping: Mapping,
    pub(super) dest: DestId,
    priority: u8,
    /// The lane that goes before the backlog of its rule.
    is_live: bool,
    pace: Pace,
    trace: bool,
    retain: RuleRetain,
    pub(super) trial: Trial,
    /// What it sent since the start.
    sent: Sent,
    /// Messages sent on this link and not yet answered.
    pub(super) unanswered: usize,
    /// Some were refused for lack of quota: they are in flight for the queue, but no longer on their way.
    pub(super) refused: bool,
}

impl Source {
    pub(super) fn new(rule: &config::Rule, mapping: Mapping, dest: DestId, is_live: bool) -> Self {
        Self {
            name: rule.name.clone(),
            mapping,
            dest,
            priority: rule.priority,
            is_live,
            pace: Pace::new(rule.pace),
            trace: rule.trace,
            retain: rule.retain,
            trial: Trial::new(rule.poison_after),
            sent: Sent::default(),
            unanswered: 0,
            refused: false,
        }
    }

    /// Those of a higher rank go first.
    fn rank(&self) -> (u8, bool) {
        (self.priority, self.is_live)
    }
}

/// The outgoing half of one upstream's session.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Higher rank first.
    pub(super) sources: Vec<Source>,
    pub(super) flights: Flights,
    /// In the order of their PUBREC, which is the order of PUBREL [MQTT-4.6.0-4].
    pub(super) releases: VecDeque<Release>,
    /// The number of the first of them.
    pub(super) first_release: u64,
    /// QoS 2 messages up to here may have been sent before this process started.
    maybe_sent: Seq,
    pub(super) pause: Backoff,
    pub(super) manner: Manner,
    /// Something waits that may go then, if the window has room.
    pub(super) paced_until: Option<Instant>,
    /// The oldest message of each source, while pumping.
    heads: Vec<Option<Peeked>>,
    topic: String,
    /// What is said of a message beside what its publisher said.
    properties: Vec<u8>,
    stamp: Stamp,
}

impl Outgoing {
    pub(super) fn new(mut sources: Vec<Source>, recovered: Seq, pause: Backoff, manner: Manner) -> Self {
        sources.sort_by_key(|source| std::cmp::Reverse(source.rank()));
        Self {
            sources,
            flights: Flights::new(),
            releases: VecDeque::new(),
            first_release: 1,
            maybe_sent: recovered,
            pause,
            manner,
            paced_until: None,
            heads: Vec::new(),
            topic: String::new(),
            properties: Vec::new(),
            stamp: Stamp::default(),
        }
    }

    /// Other rules from now on, between two links. What is on its way for a rule that stays keeps its identifier.
    pub(super) fn reconfigure(&mut self, mut sources: Vec<Source>, manner: Manner) {
        (self.manner, self.paced_until) = (manner, None);
        sources.sort_by_key(|source| std::cmp::Reverse(source.rank()));
        let place = |dest: DestId| sources.iter().position(|source| source.dest == dest);
        let places: Vec<Option<usize>> = self.dests().map(place).collect();
        self.flights.renumber(&places);
        for source in &mut sources {
            source.sent = self.sent(source.dest);
        }
        self.sources = sources;
    }

    pub(super) fn dests(&self) -> impl Iterator<Item = DestId> + '_ {
        self.sources.iter().map(|source| source.dest)
    }

    /// What was sent from a queue since the start.
    pub(super) fn sent(&self, dest: DestId) -> Sent {
        self.sources.iter().find(|source| source.dest == dest).map(|source| source.sent).unwrap_or_default()
    }

    /// Sends while the window and the outbox have room: the highest priority first, and within one priority in the
    /// order of arrival.
    pub(super) fn pump(&mut self, ctx: &mut Context<'_>, link: &mut Link) {
        self.paced_until = None;
        if link.paused_until.is_some()
            || link.leaving.is_some()
            || self.pump_trial(ctx, link)
            || !self.has_room(link)
        {
            return;
        }
        self.heads.extend(self.sources.iter().map(|source| ctx.out.peek(ctx.now, source.dest)));
        while self.has_room(link)
            && let Some((source, head)) = self.next_head()
        {
            if !self.may_go(source, ctx.now.at) {
                // Its turn comes later; a rule without a pace of its own does not wait for it.
                continue;
            }
            // A source that must wait stays without a head, and so out of the way of the others.
            if self.send(ctx, link, source, &head) {
                self.heads[source] = ctx.out.peek(ctx.now, self.sources[source].dest);
            }
        }
        self.heads.clear();
    }

    fn has_room(&self, link: &Link) -> bool {
        self.flights.in_window() < link.allowance.window && link.wire.outbox.len() < HIGH_WATER
    }

    /// Whether a source may send now; if not, when is remembered.
    fn may_go(&mut self, source: usize, now: Instant) -> bool {
        let at = self.opens_at(source, now);
        self.paced_until = earliest(self.paced_until, at);
        at.is_none()
    }

    /// When a source may send, if not now.
    fn opens_at(&mut self, source: usize, now: Instant) -> Option<Instant> {
        self.manner.pace.opens_at(now).max(self.sources[source].pace.opens_at(now))
    }

    /// Takes the head that is next: the oldest among those of the highest rank that has any.
    fn next_head(&mut self) -> Option<(usize, Peeked)> {
        let first = self.heads.iter().position(Option::is_some)?;
        let rank = self.sources[first].rank();
        let same = (first..self.heads.len()).take_while(|i| self.sources[*i].rank() == rank);
        let next = same.filter_map(|i| self.heads[i].as_ref().map(|head| (head.seq, i))).min()?.1;
        self.heads[next].take().map(|head| (next, head))
    }

    /// While a rule is on trial, its oldest message is sent with nothing else on its way. Says whether so.
    fn pump_trial(&mut self, ctx: &mut Context<'_>, link: &mut Link) -> bool {
        for i in 0..self.sources.len() {
            if !self.sources[i].trial.is_on() {
                continue;
            }
            while link.wire.outbox.len() < HIGH_WATER
                && self.may_go(i, ctx.now.at)
                && let Some(head) = ctx.out.peek(ctx.now, self.sources[i].dest)
            {
                if self.flights.in_window() > 0 || !self.send(ctx, link, i, &head) {
                    return true;
                }
            }
        }
        self.sources.iter().any(|source| source.trial.is_on() && source.unanswered > 0)
    }

    /// Sends a message, or buries it if it can never be sent. False if it must wait.
    fn send(&mut self, ctx: &mut Context<'_>, link: &mut Link, i: usize, head: &Peeked) -> bool {
        self.free_vanished(link, i, head.seq);
        let Peeked { seq, ref message, .. } = *head;
        let Source { name, mapping, trace, .. } = &self.sources[i];
        if *trace || mapping.has_fields() {
            self.stamp.set(name, head);
        }
        if let Err(error) = mapping.remap_with(message.topic(), self.stamp.fields(), &mut self.topic) {
            self.bury(ctx, i, seq, &format!("topic cannot be remapped: {error}"));
            return true;
        }
        if self.manner.property_bag {
            property_bag::fill(&mut self.topic, trace.then_some(&self.stamp));
        }
        if let Some(why) = link.allowance.cloud.objection(&self.topic, message.payload().len()) {
            self.bury(ctx, i, seq, &why);
            return true;
        }
        let qos = head.qos.min(link.allowance.max_qos);
        let Some((pkid, dup)) = self.pkid(i, head, qos) else { return false };
        let dest = self.sources[i].dest;
        let forwarded = match link.version {
            Version::V5 => {
                let trace = self.sources[i].trace.then_some(&self.stamp);
                self.manner.properties(message.properties(), trace, &mut self.properties)
            }
            Version::V31 | Version::V311 => &[],
        };
        let packet = Head {
            dup,
            qos,
            retain: link.allowance.retain && retained(self.sources[i].retain, head.retain),
            topic: &self.topic,
            pkid,
            message_expiry: message.remaining_secs(ctx.now.wall.shifted(-head.shift)),
            forwarded,
            payload_len: message.payload().len(),
            ..Head::default()
        };
        let max = link.allowance.max_packet_bytes.min(MAX_PACKET as usize);
        let (packet, told) = aliased(link, packet, max);
        let len = packet.packet_len(link.version);
        if len > max {
            self.bury(ctx, i, seq, &format!("packet of {len} bytes is too large, the upstream takes {max}"));
            return true;
        }
        ctx.out.take(dest, seq);
        link.wire.outbox.put_with(|out| encode_head(link.version, &packet, out));
        link.wire.outbox.put_payload(message);
        ctx.stats.sent += 1;
        match (told, packet.topic_alias) {
            (Some(alias), _) => link.aliases.define(alias, &self.topic),
            (None, Some(_)) => ctx.stats.alias_bytes_saved += (self.topic.len() - ALIAS_BYTES) as u64,
            (None, None) => {}
        }
        self.manner.pace.sent(len);
        let source = &mut self.sources[i];
        source.pace.sent(len);
        source.sent.messages += 1;
        source.sent.bytes += len as u64;
        if qos == QoS::AtMostOnce {
            ctx.out.acked(ctx.now, dest, seq);
            ctx.stats.acked += 1;
        } else {
            self.depart(ctx, link, pkid, Flight::Message { rule: i, seq, qos });
            self.sources[i].unanswered += 1;
        }
        true
    }

    /// The identifier for a message, and whether the upstream may have seen the message before. `None` if the
    /// identifier is not free yet.
    fn pkid(&mut self, i: usize, head: &Peeked, qos: QoS) -> Option<(u16, bool)> {
        let again = self.flights.again(i, head.seq);
        match qos {
            QoS::AtMostOnce => Some((0, false)),
            QoS::AtLeastOnce => match again.filter(|pkid| *pkid < FIRST_FIXED_PKID) {
                Some(pkid) => Some((pkid, true)),
                None => self.flights.free_pkid().map(|pkid| (pkid, false)),
            },
            QoS::ExactlyOnce => {
                let mine = again == Some(head.pkid);
                let free = mine || self.flights.get(head.pkid).is_none();
                free.then_some((head.pkid, mine || head.seq <= self.maybe_sent))
            }
        }
    }

    /// A QoS 2 message that was sent, but will not be sent again, may have left its identifier with the upstream: PUBREL
    /// frees it there, or the next message that carries it would be taken for a repetition.
    fn free_vanished(&mut self, link: &mut Link, i: usize, seq: Seq) {
        while let Some((pkid, qos)) = self.flights.take_vanished(i, seq) {
            if qos == QoS::ExactlyOnce {
                self.put_pubrel(link, pkid, ReasonCode::Success);
                self.flights.set(pkid, Flight::Released { rule: i });
            }
        }
    }

    /// Something is on its way from now: the watch runs from the first.
    pub(super) fn depart(&mut self, ctx: &Context<'_>, link: &mut Link, pkid: u16, flight: Flight) {
        if !self.flights.awaits_upstream() {
            link.progress_at = ctx.now.at;
        }
        self.flights.set(pkid, flight);
    }

    pub(super) fn bury(&mut self, ctx: &mut Context<'_>, i: usize, seq: Seq, reason: &str) {
        let Source { dest, name, .. } = &self.sources[i];
        ctx.out.bury(ctx.now, *dest, seq, reason);
        ctx.stats.buried += 1;
        ctx.notice(Level::Warn, "message moved to the dead letters", format!("rule {name:?}: {reason}"));
    }

    /// The link is up. In a resumed session, what is due comes first [MQTT-4.4.0-1]; otherwise the upstream has
    /// nothing of ours under any identifier. What it acknowledged with PUBREC alone it need not have passed on before
    /// PUBREL (MQTT 3.1.1, figure 4.3, method A), and lost then with its session: that is sent again, since a copy can
    /// be told and a loss cannot.
    pub(super) fn link_up(&mut self, ctx: &mut Context<'_>, link: &mut Link, resumed: bool) {
        self.dests().for_each(|dest| ctx.out.activate(dest));
        if !resumed {
            self.dests().for_each(|dest| ctx.out.renew(ctx.now, dest));
            self.flights.session_lost();
            self.releases.iter_mut().for_each(|release| release.void = true);
            self.maybe_sent = Seq::default();
            return;
        }
        let mut unanswered = self.flights.released();
        for i in 0..self.sources.len() {
            // Those of an earlier configuration's session may still be on their way to the disk: they wait for the next
            // link, and so does who would be given their identifiers.
            for pkid in ctx.out.safe_releases(self.sources[i].dest) {
                if !matches!(self.flights.get(pkid), Some(Flight::Releasing { .. })) {
                    unanswered.retain(|other| *other != pkid);
                    self.put_pubrel(link, pkid, ReasonCode::Success);
                    self.flights.set(pkid, Flight::Released { rule: i });
                }
            }
        }
        for pkid in unanswered {
            self.put_pubrel(link, pkid, ReasonCode::Success);
        }
    }

    /// The link ended: all goes back to the queues, in order. `blamed`: a message may be what it died of.
    pub(super) fn link_ended(&mut self, ctx: &mut Context<'_>, blamed: bool) {
        self.paced_until = None;
        let mut convicted = Vec::new();
        for (i, source) in self.sources.iter_mut().enumerate() {
            if source.trial.link_ended(blamed && source.unanswered > 0) {
                convicted.extend(self.flights.oldest(i).map(|seq| (i, seq)));
            }
            source.unanswered = 0;
            source.refused = false;
            ctx.out.deactivate(ctx.now, source.dest);
        }
        self.flights.link_ended();
        for (i, seq) in convicted {
            self.bury(ctx, i, seq, "the link ended each time it was sent");
        }
    }

    /// Publishes the link state, retained where the upstream allows it. At QoS 1 if there is room, and else at QoS 0:
    /// nobody waits for it.
    pub(super) fn put_status(&mut self, ctx: &Context<'_>, link: &mut Link, topic: &str, payload: &[u8]) {
        let mut pkid = 0;
        if link.allowance.max_qos > QoS::AtMostOnce && self.flights.in_window() < link.allowance.window {
            pkid = self.flights.free_pkid().unwrap_or(0);
        }
        let publish = Publish {
            dup: false,
            qos: if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            retain: link.allowance.retain,
            topic,
            pkid,
            properties: PublishProperties::default(),
            payload,
        };
        let version = link.version;
        link.wire.outbox.put_with(|out| publish.encode(version, out));
        if pkid != 0 {
            self.depart(ctx, link, pkid, Flight::Status);
        }
    }
}

/// The packet with a topic alias where that helps, and the alias that is new in it.
fn aliased<'t>(link: &mut Link, packet: Head<'t>, max: usize) -> (Head<'t>, Option<u16>) {
    match link.aliases.tell(packet.topic) {
        Telling::Alias(alias) => (Head { topic: "", topic_alias: Some(alias), ..packet }, None),
        // Without the bytes of a new alias it may fit.
        Telling::Both(alias) if packet.packet_len(link.version) + ALIAS_BYTES + 2 <= max => {
            (Head { topic_alias: Some(alias), ..packet }, Some(alias))
        }
        Telling::Both(_) | Telling::Name => (packet, None),
    }
}
