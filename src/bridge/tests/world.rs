//! Everything around the bridge, pretended: time, transport, server, queues, local broker.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::Arc;

use crate::bridge::{Bridge, Common, Input, Intake, LinkState, Local, Login, Outbound, Output, Setup};
use crate::config::{
    Direction, Drain, Pace, Rule, RuleQos, RuleRetain, Upstream, UpstreamId, UpstreamUrl, UpstreamVersion, WhenFull,
};
use crate::metrics::Notice;
use crate::mqtt::hop::Gateway;
use crate::mqtt::{
    ConnAck, ConnAckProperties, ConnId, Message, MessageParts, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
    PublishProperties, QoS, ReasonCode, Version, frame,
};
use crate::queue::{Depth, DestId, Number, Outcome, Peeked, Refusal, Seq, Token};
use crate::time::{Duration, Instant, Now, Wall};

pub(super) const UP: UpstreamId = UpstreamId(0);

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A rule that sends `filter` under `remap`.
pub(super) fn rule(direction: Direction, filter: &str, remap: &str) -> Rule {
    Rule {
        name: filter.to_owned(),
        direction,
        filter: filter.to_owned(),
        remap: remap.to_owned(),
        exclude: Vec::new(),
        qos: RuleQos::Keep,
        retain: RuleRetain::Keep,
        priority: 5,
        ttl: Duration::ZERO,
        max_messages: 1000,
        max_bytes: 1 << 20,
        when_full: WhenFull::DropOldest,
        poison_after: 5,
        drain: Drain::InOrder,
        pace: Pace::default(),
        trace: false,
    }
}

pub(super) fn config(version: UpstreamVersion, rules: Vec<Rule>) -> Upstream {
    let url = |host: &str| UpstreamUrl { tls: true, host: host.to_owned(), port: 8883, websocket: None };
    Upstream {
        name: "cloud".to_owned(),
        url: vec![url("a.example.com"), url("b.example.com")],
        client_id: "box-7".to_owned(),
        version,
        username: Some("user".to_owned()),
        password_file: None,
        keepalive: secs(60),
        clean_start: false,
        connect_timeout: secs(10),
        max_inflight_messages: 100,
        stuck_timeout: secs(90),
        reconnect_min: secs(1),
        reconnect_max: secs(120),
        pace: Pace::default(),
        hop_marker: true,
        rule: rules,
        ..Upstream::default()
    }
}

/// One row of a pretended queue.
#[derive(Debug, Clone)]
struct Row {
    peeked: Peeked,
    in_flight: bool,
}

/// Pretended queues: in memory, never full, and told how to answer.
#[derive(Debug, Default)]
pub(super) struct Queues {
    rows: BTreeMap<DestId, Vec<Row>>,
    /// Those that say when they have something.
    active: BTreeSet<DestId>,
    releases: BTreeMap<DestId, Vec<u16>>,
    /// Their messages, until the exchange is complete.
    held: BTreeMap<DestId, Vec<(Row, u16)>>,
    next: u64,
    next_pkid: u16,
    /// How releases are answered.
    pub(super) outcome: Option<Outcome>,
    /// Those that are not durable yet, with the row that would come back.
    pending: Vec<(Token, DestId, Row, u16)>,
    pub(super) acked: Vec<u64>,
    pub(super) completed: Vec<u16>,
    pub(super) dead: Vec<(u64, String)>,
    /// What the next rows have.
    pub(super) number: Number,
    pub(super) shift: i64,
}

impl Queues {
    pub(super) fn push(&mut self, dest: DestId, parts: MessageParts<'_>) -> u64 {
        self.next += 1;
        self.next_pkid = self.next_pkid.max(0x7FFF) + 1;
        let pkid = if parts.qos == QoS::ExactlyOnce { self.next_pkid } else { 0 };
        self.push_with_pkid(dest, parts, pkid)
    }

    pub(super) fn push_with_pkid(&mut self, dest: DestId, parts: MessageParts<'_>, pkid: u16) -> u64 {
        self.next = self.next.max(1);
        let seq = Seq(self.next);
        let message = Arc::new(Message::new(parts));
        let (qos, retain) = (parts.qos, parts.retain);
        let subscription_ids = Box::default();
        let (number, shift) = (self.number, self.shift);
        let peeked = Peeked {
            seq,
            qos,
            retain,
            pkid,
            sent_before: false,
            message,
            share: 0,
            subscription_ids,
            number,
            shift,
        };
        self.rows.entry(dest).or_default().push(Row { peeked, in_flight: false });
        seq.0
    }

    /// Skips a sequence number, for [`Queues::push_with_pkid`].
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    fn remove(&mut self, dest: DestId, seq: Seq) -> Option<Row> {
        let rows = self.rows.get_mut(&dest)?;
        let at = rows.iter().position(|row| row.peeked.seq == seq)?;
        Some(rows.remove(at))
    }

    /// Takes a row away, as eviction or expiry does.
    pub(super) fn evict(&mut self, dest: DestId, seq: u64) {
        self.remove(dest, Seq(seq)).expect("the row is there");
    }

    /// A release did not become durable: its row is back.
    fn undo_release(&mut self, dest: DestId, row: Row, pkid: u16) {
        self.releases.entry(dest).or_default().retain(|due| *due != pkid);
        self.held.entry(dest).or_default().retain(|(_, due)| *due != pkid);
        let rows = self.rows.entry(dest).or_default();
        let at = rows.partition_point(|other| other.peeked.seq < row.peeked.seq);
        rows.insert(at, Row { in_flight: false, ..row });
    }

    /// The power failed: what was not durable did not happen.
    fn crash(&mut self) {
        for (_, dest, row, pkid) in std::mem::take(&mut self.pending) {
            self.undo_release(dest, row, pkid);
        }
        self.rows.values_mut().flatten().for_each(|row| row.in_flight = false);
        self.active.clear();
    }

    pub(super) fn waiting(&self, dest: DestId) -> Vec<u64> {
        self.rows.get(&dest).into_iter().flatten().map(|row| row.peeked.seq.0).collect()
    }

    pub(super) fn due(&self, dest: DestId) -> &[u16] {
        self.releases.get(&dest).map_or(&[], Vec::as_slice)
    }
}

impl Outbound for Queues {
    fn activate(&mut self, dest: DestId) {
        assert!(self.active.insert(dest), "activated once for each link");
    }

    fn deactivate(&mut self, _: Now, dest: DestId) {
        self.active.remove(&dest);
        self.rewind(dest);
    }

    fn peek(&mut self, _: Now, dest: DestId) -> Option<Peeked> {
        self.rows.get(&dest)?.iter().find(|row| !row.in_flight).map(|row| row.peeked.clone())
    }

    fn take(&mut self, dest: DestId, seq: Seq) {
        let rows = self.rows.get_mut(&dest).expect("a queue");
        let row = rows.iter_mut().find(|row| !row.in_flight).expect("a row that waits");
        assert_eq!(row.peeked.seq, seq, "only the head is taken");
        row.in_flight = true;
    }

    fn acked(&mut self, _: Now, dest: DestId, seq: Seq) {
        let row = self.remove(dest, seq).expect("acknowledged once, while it is there");
        assert!(row.in_flight, "acknowledged while in flight");
        self.acked.push(seq.0);
    }

    fn release(&mut self, _: Now, dest: DestId, seq: Seq, pkid: u16, token: Token) -> Outcome {
        let outcome = self.outcome.unwrap_or(Outcome::Done);
        if let Outcome::Refused(_) = outcome {
            return outcome;
        }
        let row = self.remove(dest, seq).expect("released once");
        assert!(row.in_flight, "released while in flight");
        self.releases.entry(dest).or_default().push(pkid);
        self.held.entry(dest).or_default().push((row.clone(), pkid));
        if outcome == Outcome::Pending {
            self.pending.push((token, dest, row, pkid));
        }
        outcome
    }

    fn complete(&mut self, _: Now, dest: DestId, pkid: u16) {
        self.releases.entry(dest).or_default().retain(|due| *due != pkid);
        self.held.entry(dest).or_default().retain(|(_, due)| *due != pkid);
        self.completed.push(pkid);
    }

    fn renew(&mut self, _: Now, dest: DestId) {
        for (row, pkid) in self.held.remove(&dest).unwrap_or_default() {
            self.undo_release(dest, row, pkid);
        }
    }

    fn safe_releases(&self, dest: DestId) -> Vec<u16> {
        self.due(dest).to_vec()
    }

    fn rewind(&mut self, dest: DestId) {
        self.rows.entry(dest).or_default().iter_mut().for_each(|row| row.in_flight = false);
    }

    fn bury(&mut self, _: Now, dest: DestId, seq: Seq, reason: &str) {
        self.remove(dest, seq).expect("buried once");
        self.dead.push((seq.0, reason.to_owned()));
    }

    fn depth(&self, dest: DestId) -> Depth {
        Depth { messages: self.waiting(dest).len() as u64, ..Depth::default() }
    }
}

/// The pretended local broker.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) outcome: Option<Outcome>,
    pub(super) pending: Vec<Token>,
    pub(super) published: Vec<Message>,
    pub(super) receipts: BTreeSet<u16>,
    pub(super) link_states: Vec<(bool, String)>,
    pub(super) own_sessions: Vec<String>,
    /// Who the upstream said it is, on each link.
    pub(super) met: Vec<Option<String>>,
}

impl Broker {
    fn answer(&mut self, token: Token) -> Outcome {
        let outcome = self.outcome.unwrap_or(Outcome::Done);
        if outcome == Outcome::Pending {
            self.pending.push(token);
        }
        outcome
    }

    pub(super) fn topics(&self) -> Vec<&str> {
        self.published.iter().map(Message::topic).collect()
    }
}

impl Local for Broker {
    fn publish(
        &mut self,
        _: Now,
        _: UpstreamId,
        parts: MessageParts<'_>,
        receipt: Option<u16>,
        token: Token,
    ) -> Outcome {
        let outcome = self.answer(token);
        let known = receipt.is_some_and(|receipt| self.receipts.contains(&receipt));
        if !known && !matches!(outcome, Outcome::Refused(_)) {
            self.published.push(Message::new(parts));
            self.receipts.extend(receipt);
        }
        outcome
    }

    fn forget_receipt(&mut self, _: Now, _: UpstreamId, receipt: u16, token: Token) -> Outcome {
        if self.receipts.remove(&receipt) { self.answer(token) } else { Outcome::Done }
    }

    fn forget_receipts(&mut self, _: Now, _: UpstreamId) {
        self.receipts.clear();
    }

    fn met(&mut self, _: Now, _: UpstreamId, peer: Option<&Gateway>) {
        self.met.push(peer.map(|peer| peer.name.to_string()));
    }

    fn own_session(&mut self, _: Now, _: UpstreamId, client_id: &str) {
        self.own_sessions.push(client_id.to_owned());
    }

    fn status(&mut self, _: Now, _: UpstreamId, up: bool, detail: &str) {
        self.link_states.push((up, detail.to_owned()));
    }
}

/// A packet as the server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Connect(Vec<u8>),
    Publish { topic: String, qos: u8, pkid: u16, dup: bool, retain: bool, payload: Vec<u8>, raw: Vec<u8> },
    PubAck(u16, ReasonCode),
    PubRec(u16, ReasonCode),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    Subscribe(u16, Vec<(String, u8)>),
    PingReq,
    Disconnect(ReasonCode),
}

impl Seen {
    fn of(version: Version, raw: &[u8]) -> Self {
        let frame = frame(raw, u32::MAX).unwrap().unwrap();
        match Packet::decode(version, &frame).expect("the bridge sends well-formed packets") {
            Packet::Connect(_) => Self::Connect(raw.to_vec()),
            Packet::Publish(publish) => Self::Publish {
                topic: publish.topic.to_owned(),
                qos: publish.qos.as_u8(),
                pkid: publish.pkid,
                dup: publish.dup,
                retain: publish.retain,
                payload: publish.payload.to_vec(),
                raw: raw.to_vec(),
            },
            Packet::PubAck(ack) => Self::PubAck(ack.pkid, ack.reason),
            Packet::PubRec(ack) => Self::PubRec(ack.pkid, ack.reason),
            Packet::PubRel(ack) => Self::PubRel(ack.pkid, ack.reason),
            Packet::PubComp(ack) => Self::PubComp(ack.pkid, ack.reason),
            Packet::Subscribe(subscribe) => Self::Subscribe(
                subscribe.pkid,
                subscribe.filters.map(|one| (one.filter.to_owned(), one.options.to_byte())).collect(),
            ),
            Packet::PingReq => Self::PingReq,
            Packet::Disconnect(disconnect) => Self::Disconnect(disconnect.reason),
            other => panic!("a client does not send {other:?}"),
        }
    }

    /// `pkid:payload` of a PUBLISH, with `!` when it is sent again.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Publish { pkid, dup, payload, .. } => {
                format!("{pkid}:{}{}", String::from_utf8_lossy(payload), if *dup { "!" } else { "" })
            }
            other => format!("{other:?}"),
        }
    }
}

/// The bridge with one upstream, and everything around it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) bridge: Bridge,
    pub(super) now: Now,
    pub(super) version: Version,
    pub(super) queues: Queues,
    pub(super) local: Broker,
    /// What the bridge sent and the server has not read.
    unread: Vec<u8>,
    next_conn: u32,
    pub(super) conn: Option<ConnId>,
    /// Endpoints, in the order of the dials.
    pub(super) dials: Vec<usize>,
    pub(super) closes: Vec<ConnId>,
    pub(super) notices: Vec<Notice>,
    /// The transport takes nothing.
    pub(super) stalled: bool,
    /// How long the password that the shell has is good.
    pub(super) valid_for: Option<Duration>,
    /// Looks at another endpoint than the one in use.
    pub(super) probes: Vec<usize>,
}

impl World {
    /// A world for `config`; its rules that send have the destinations 1, 2, 3 in their order.
    pub(super) fn new(config: Upstream) -> Self {
        Self::with(Setup { dests: Self::dests(&config), live: Vec::new(), hop: None, config, resumes: true }, 0)
    }

    pub(super) fn dests(config: &Upstream) -> Vec<(usize, DestId)> {
        let sends = |(_, rule): &(usize, &Rule)| rule.direction != Direction::In;
        let sending = config.rule.iter().enumerate().filter(sends).map(|(i, _)| i);
        sending.zip((1..).map(DestId)).collect()
    }

    pub(super) fn with(setup: Setup, recovered: u64) -> Self {
        let version = match setup.config.version {
            UpstreamVersion::V311 => Version::V311,
            UpstreamVersion::V5 => Version::V5,
        };
        let intake = Intake { max_packet_bytes: 10_000, receive_maximum: 8 };
        let common = Common { intake, recovered: Seq(recovered) };
        let mut bridge = Bridge::new(1);
        bridge.add(UP, setup, common).expect("the rules are sound");
        let mut world = Self {
            bridge,
            now: Now { at: Instant::from_micros(1), wall: Wall::from_millis(1_000_000) },
            version,
            queues: Queues::default(),
            local: Broker::default(),
            unread: Vec::new(),
            next_conn: 0,
            conn: None,
            dials: Vec::new(),
            closes: Vec::new(),
            notices: Vec::new(),
            stalled: false,
            valid_for: None,
            probes: Vec::new(),
        };
        world.queues.next = recovered;
        world
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.bridge.handle_input(self.now, input, &mut self.queues, &mut self.local);
        let mut flushed = false;
        while let Some(output) = self.bridge.poll_output() {
            match output {
                Output::Dial { endpoint, .. } => self.dials.push(endpoint),
                Output::Probe { endpoint, .. } => self.probes.push(endpoint),
                Output::Flush { conn, .. } => {
                    assert!(!std::mem::replace(&mut flushed, true), "one flush for an input");
                    assert_eq!(Some(conn), self.conn, "only the connection in use is flushed");
                }
                Output::Close { upstream, conn } => {
                    self.read_outbox(conn);
                    self.closes.push(conn);
                    self.conn = self.conn.filter(|_| upstream != UP);
                }
                Output::Notice(notice) => self.notices.push(notice),
            }
        }
        if flushed && !self.stalled {
            self.flush();
        }
    }

    /// The transport takes all that waits.
    pub(super) fn flush(&mut self) {
        if let Some(conn) = self.conn {
            self.read_outbox(conn);
            self.input(Input::Flushed { upstream: UP });
        }
    }

    fn read_outbox(&mut self, conn: ConnId) {
        let Some(outbox) = self.bridge.outbox(conn) else { return };
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let n = outbox.slices(&mut slices);
            let bytes = slices[..n].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
            outbox.consume(bytes.len());
            self.unread.extend_from_slice(&bytes);
        }
    }

    /// Time passes, and the bridge is told whenever it asked to be.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now.at + time;
        while let Some(deadline) = self.bridge.deadline().filter(|deadline| *deadline <= until) {
            self.set_clock(deadline.max(self.now.at));
            self.input(Input::Timeout);
            let next = self.bridge.deadline();
            assert!(next.is_none_or(|next| next > self.now.at), "a deadline that stays due is a busy loop");
        }
        self.set_clock(until);
    }

    fn set_clock(&mut self, at: Instant) {
        self.now = Now { at, wall: self.now.wall + at.since(self.now.at) };
    }

    /// Waits for the next dial, unless it waits for us, and lets it succeed, up to CONNECT.
    pub(super) fn dialed(&mut self) -> ConnId {
        while self.bridge.stats(UP).expect("it is there").state != LinkState::Dialing {
            let deadline = self.bridge.deadline().expect("it dials some day");
            self.pass(deadline.since(self.now.at));
        }
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.conn = Some(conn);
        self.unread.clear();
        let login = Login { password: Some(b"secret".to_vec()), valid_for: self.valid_for };
        self.input(Input::Dialed { upstream: UP, conn, login });
        conn
    }

    /// Brings the link up. What the bridge sends is left to read, but for CONNECT.
    pub(super) fn connect(&mut self, session_present: bool) {
        self.connect_with(session_present, ConnAckProperties::default());
    }

    pub(super) fn connect_with(&mut self, session_present: bool, properties: ConnAckProperties<'_>) {
        self.dialed();
        let connect = self.read();
        assert!(matches!(connect[..], [Seen::Connect(_)]), "{connect:?}");
        let connack = ConnAck { session_present, properties, ..ConnAck::default() };
        self.send(&Packet::ConnAck(connack));
    }

    /// The server sends a packet.
    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.receive(&bytes);
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input(Input::Received { upstream: UP, bytes });
    }

    pub(super) fn puback(&mut self, pkid: u16, reason: ReasonCode) {
        self.send(&Packet::PubAck(PubAck::new(pkid, reason)));
    }

    pub(super) fn pubrec(&mut self, pkid: u16) {
        self.send(&Packet::PubRec(PubRec::new(pkid, ReasonCode::Success)));
    }

    pub(super) fn pubrel(&mut self, pkid: u16) {
        self.send(&Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)));
    }

    pub(super) fn pubcomp(&mut self, pkid: u16) {
        self.send(&Packet::PubComp(PubComp::new(pkid, ReasonCode::Success)));
    }

    /// The server publishes.
    pub(super) fn publish(&mut self, topic: &str, qos: u8, pkid: u16) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::from_u8(qos).unwrap(),
            retain: false,
            topic,
            pkid,
            properties: PublishProperties::default(),
            payload: b"x",
        }));
    }

    /// The server closes.
    pub(super) fn hang_up(&mut self) {
        self.conn = None;
        self.input(Input::Closed { upstream: UP, error: None });
    }

    /// Everything that the server can read now.
    pub(super) fn read(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let bytes = std::mem::take(&mut self.unread);
        let mut rest = bytes.as_slice();
        while let Some(packet) = frame(rest, u32::MAX).unwrap() {
            seen.push(Seen::of(self.version, packet.raw));
            rest = &rest[packet.raw.len()..];
        }
        self.unread = rest.to_vec();
        seen
    }

    /// The same, in brief.
    pub(super) fn read_brief(&mut self) -> Vec<String> {
        self.read().iter().map(Seen::brief).collect()
    }

    /// Puts a message into a queue, and tells the bridge. Its payload is `payload`, its topic `site/a`.
    pub(super) fn queue(&mut self, dest: u16, qos: u8, payload: &str) -> u64 {
        self.queue_on(dest, qos, "site/a", payload)
    }

    pub(super) fn queue_on(&mut self, dest: u16, qos: u8, topic: &str, payload: &str) -> u64 {
        let parts = MessageParts { topic, ..parts(qos, payload) };
        let seq = self.queues.push(DestId(dest), parts);
        if self.queues.active.contains(&DestId(dest)) {
            self.input(Input::Ready { dest: DestId(dest) });
        }
        seq
    }

    /// Settles all that waits for the queues' store.
    pub(super) fn settle_releases(&mut self, result: Result<(), Refusal>) {
        for (token, dest, row, pkid) in std::mem::take(&mut self.queues.pending) {
            if result.is_err() {
                self.queues.undo_release(dest, row, pkid);
            }
            self.input(Input::Settled { token, result });
        }
    }

    /// The power fails and comes back: the queues are as the disk has them, and the bridge is new.
    pub(super) fn restart(&mut self, setup: Setup) {
        let mut queues = std::mem::take(&mut self.queues);
        queues.crash();
        *self = Self { now: self.now, next_conn: self.next_conn, ..Self::with(setup, queues.next) };
        self.queues = queues;
    }

    pub(super) fn noticed(&self, what: &str) -> Vec<&str> {
        self.notices.iter().filter(|notice| notice.what == what).map(|notice| notice.detail.as_str()).collect()
    }
}

/// A message on `site/a`.
pub(super) fn parts(qos: u8, payload: &str) -> MessageParts<'_> {
    MessageParts {
        topic: "site/a",
        properties: &[],
        payload: payload.as_bytes(),
        qos: QoS::from_u8(qos).unwrap(),
        retain: false,
        received_at: Wall::from_millis(1_000_000),
        expires_at: None,
    }
}
