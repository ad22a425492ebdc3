//! A broker with its queues, the time, and a store that keeps the contract and nothing more.

use std::collections::{BTreeMap, VecDeque};

use crate::broker::login::Check;
use crate::broker::{Broker, Output};
use crate::config::{Config, ListenerId};
use crate::metrics::Notice;
use crate::mqtt::{
    ConnId, Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscribeOptions,
    SubscribeProperties, Subscription, Version, frame,
};
use crate::queue::{
    self, Batch, DestId, Due, Op, Owner, Queues, Read, RecordKind, Recovered, Reply, Row, Seq, StoredQueue,
};
use crate::time::{Instant, Now, Wall};

fn at(millis: u64) -> Now {
    Now { at: Instant::from_micros(millis * 1000), wall: Wall::from_millis(1_800_000_000_000 + millis) }
}

type Records = BTreeMap<(RecordKind, Box<[u8]>), Box<[u8]>>;

/// What was committed.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub rows: BTreeMap<(DestId, Seq), Row>,
    pub records: Records,
    retained: BTreeMap<Box<str>, crate::mqtt::Message>,
    released: Vec<Due>,
    received: Vec<(DestId, u16)>,
    last_seq: Seq,
}

impl Disk {
    fn of(recovered: Recovered) -> Self {
        assert!(recovered.queues.is_empty(), "rows come by commits only");
        let records = recovered.records.into_iter().map(|(kind, key, value)| ((kind, key), value));
        let retained = recovered.retained.into_iter().map(|message| (message.topic().into(), message));
        Self { records: records.collect(), retained: retained.collect(), ..Self::default() }
    }

    fn apply(&mut self, batch: &Batch) {
        for op in batch.ops.clone() {
            match op {
                Op::Append { dest, row } => {
                    let follows = self.rows.range((dest, row.seq)..=(dest, Seq::MAX)).next().is_none();
                    assert!(follows, "row {:?} of {dest:?} is not the newest", row.seq);
                    self.last_seq = self.last_seq.max(row.seq);
                    self.rows.insert((dest, row.seq), row);
                }
                Op::DeleteUpTo { dest, seq } => self.rows.retain(|(d, s), _| *d != dest || *s > seq),
                Op::Delete { dest, seq } | Op::Bury { dest, seq, .. } => drop(self.rows.remove(&(dest, seq))),
                Op::Release { dest, seq, pkid } => {
                    self.rows.remove(&(dest, seq));
                    self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid));
                    self.released.push(Due { dest, pkid, held: Seq(0) });
                }
                Op::Hold { .. } => unreachable!("there are no upstreams"),
                Op::Complete { dest, pkid } => {
                    self.released.retain(|due| (due.dest, due.pkid) != (dest, pkid));
                }
                Op::Receive { dest, pkid } => self.received.push((dest, pkid)),
                Op::Forget { dest, pkid } => self.received.retain(|entry| *entry != (dest, pkid)),
                Op::Unbury { .. } => {}
                Op::Clear { dest } => {
                    self.rows.retain(|(d, _), _| *d != dest);
                    self.released.retain(|due| due.dest != dest);
                    self.received.retain(|(d, _)| *d != dest);
                }
                Op::Put { kind, key, value } => drop(self.records.insert((kind, key), value)),
                Op::Remove { kind, key } => drop(self.records.remove(&(kind, key))),
                Op::Retain { message } => drop(self.retained.insert(message.topic().into(), (*message).clone())),
                Op::Unretain { topic } => drop(self.retained.remove(&topic)),
            }
        }
    }

    fn read(&self, read: Read) -> Reply {
        let after = (read.dest, Seq(read.after.0 + 1));
        let rows = self.rows.range(after..=(read.dest, Seq::MAX)).map(|(_, row)| row.clone());
        Reply::Rows { dest: read.dest, after: read.after, rows: rows.take(3).collect() }
    }

    fn recover(&self) -> Recovered {
        let mut queues: BTreeMap<DestId, StoredQueue> = BTreeMap::new();
        for ((dest, seq), row) in &self.rows {
            let (dest, first, last) = (*dest, *seq, *seq);
            let new = StoredQueue { dest, count: 0, bytes: 0, first, last, last_pkid: 0 };
            let queue = queues.entry(dest).or_insert(new);
            queue.count += 1;
            queue.bytes += row.message.cost() as u64;
            queue.last = last;
            if row.delivery.pkid != 0 {
                queue.last_pkid = row.delivery.pkid;
            }
        }
        Recovered {
            last_seq: self.last_seq,
            queues: queues.into_values().collect(),
            records: self.records.iter().map(|((kind, key), value)| (*kind, key.clone(), value.clone())).collect(),
            retained: self.retained.values().cloned().collect(),
            released: self.released.clone(),
            received: self.received.clone(),
            damage: None,
        }
    }
}

/// A broker, its queues, and the time.
pub(super) struct Bench {
    pub broker: Broker,
    pub queues: Queues,
    pub millis: u64,
    /// Commits wait until told.
    pub hold: bool,
    pub held: Vec<Batch>,
    /// Messages written.
    pub appended: usize,
    /// What was committed.
    pub disk: Disk,
    pub closed: Vec<ConnId>,
    /// What went to the log.
    pub notices: Vec<Notice>,
    /// Asked for and not answered.
    pub checks: VecDeque<Check>,
}

/// What a connection was sent, decoded one by one.
pub(super) fn packets(version: Version, bytes: &[u8]) -> Vec<String> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(frame) = frame(rest, u32::MAX).unwrap() {
        rest = &rest[frame.raw.len()..];
        found.push(match Packet::decode(version, &frame).unwrap() {
            Packet::Publish(publish) => {
                let flags = format!(
                    "{}{}{}",
                    publish.qos.as_u8(),
                    if publish.dup { " dup" } else { "" },
                    if publish.retain { " retained" } else { "" }
                );
                let ids: Vec<u32> = publish.properties.subscription_ids.into_iter().collect();
                let ids = if ids.is_empty() { String::new() } else { format!(" ids {ids:?}") };
                let alias = publish.properties.topic_alias.map_or(String::new(), |alias| format!(" alias {alias}"));
                format!("{}={} qos {flags}{alias}{ids}", publish.topic, String::from_utf8_lossy(publish.payload))
            }
            Packet::ConnAck(ack) => format!("connack {:?} present {}", ack.reason, ack.session_present),
            Packet::PubAck(ack) => format!("puback {} {:?}", ack.pkid, ack.reason),
            Packet::PubRec(ack) => format!("pubrec {} {:?}", ack.pkid, ack.reason),
            Packet::PubRel(ack) => format!("pubrel {}", ack.pkid),
            Packet::PubComp(ack) => format!("pubcomp {} {:?}", ack.pkid, ack.reason),
            Packet::SubAck(ack) => format!("suback {:?}", ack.codes),
            Packet::UnsubAck(ack) => format!("unsuback {:?}", ack.codes),
            Packet::Disconnect(disconnect) => format!("disconnect {:?}", disconnect.reason),
            other => format!("{other:?}"),
        });
    }
    assert!(rest.is_empty(), "half a packet was sent");
    found
}

pub(super) fn hello(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        clean_start: false,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() },
    }
}

pub(super) fn message(topic: &'static str, payload: &'static str, qos: QoS, pkid: u16) -> Publish<'static> {
    let properties = PublishProperties::default();
    Publish { dup: false, qos, retain: false, topic, pkid, properties, payload: payload.as_bytes() }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), Recovered::default())
    }

    pub(super) fn with(config: Config, recovered: Recovered) -> Self {
        Self::start(&config, Disk::of(recovered), 0)
    }

    fn start(config: &Config, disk: Disk, millis: u64) -> Self {
        let now = at(millis);
        let recovered = disk.recover();
        let mut queues = Queues::new(&config.store, &recovered);
        let mut broker = Broker::new(now, config, 1 + millis);
        broker.recover(now, &mut queues, recovered);
        Self {
            broker,
            queues,
            millis,
            hold: false,
            held: vec![],
            appended: 0,
            disk,
            closed: vec![],
            notices: vec![],
            checks: VecDeque::new(),
        }
    }

    /// The power goes and comes back: what was not committed is gone.
    pub(super) fn restart(self) -> Self {
        self.restart_after(0)
    }

    /// The same, and the power was away for so long.
    pub(super) fn restart_after(self, millis: u64) -> Self {
        self.restart_as(&Config::default(), millis)
    }

    /// The same, and the configuration was changed.
    pub(super) fn restart_as(self, config: &Config, millis: u64) -> Self {
        let mut bench = Self::start(config, self.disk, self.millis + millis);
        bench.settle();
        bench
    }

    pub(super) fn now(&self) -> Now {
        at(self.millis)
    }

    /// Lets everything happen that can happen within the next second, and commits unless held.
    pub(super) fn settle(&mut self) {
        for _ in 0..2 {
            self.millis += 500;
            let now = self.now();
            self.broker.handle_timeout(now, &mut self.queues);
            loop {
                let mut busy = false;
                while let Some((dest, owner)) = self.queues.poll_ready() {
                    match owner {
                        Owner::Session(session) => self.broker.pump(now, &mut self.queues, session),
                        Owner::Leaver => self.broker.hand_on(now, &mut self.queues, dest),
                        Owner::Upstream(_) | Owner::Nobody => {}
                    }
                }
                while let Some(output) = self.queues.poll_output(now) {
                    busy = true;
                    self.handle_queue_output(now, output);
                }
                while let Some(output) = self.broker.poll_output() {
                    match output {
                        Output::Close(conn) => self.closed.push(conn),
                        Output::Notice(notice) => self.notices.push(notice),
                        Output::Verify(check) => self.checks.push_back(check),
                        Output::Flush(_) | Output::TakenOver(_) | Output::SysDue => {}
                    }
                }
                if !busy {
                    break;
                }
            }
        }
    }

    pub(super) fn handle_queue_output(&mut self, now: Now, output: queue::Output) {
        match output {
            queue::Output::Commit(batch) => {
                if self.hold {
                    self.held.push(batch);
                } else {
                    self.apply(now, &batch);
                }
            }
            queue::Output::Read(read) => self.queues.handle_reply(now, self.disk.read(read)),
            queue::Output::Settled(token) => self.broker.handle_settled(token),
            queue::Output::Notice(_) => {}
        }
    }

    pub(super) fn commit(&mut self) {
        let now = self.now();
        self.hold = false;
        for batch in std::mem::take(&mut self.held) {
            self.apply(now, &batch);
        }
        self.settle();
    }

    fn apply(&mut self, now: Now, batch: &Batch) {
        self.appended += batch.ops.iter().filter(|op| matches!(op, Op::Append { .. })).count();
        self.disk.apply(batch);
        self.queues.handle_reply(now, Reply::Committed { batch: batch.id });
    }

    pub(super) fn send(&mut self, conn: u32, packet: &Packet<'_>, version: Version) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        let now = self.now();
        self.broker.handle_received(now, &mut self.queues, ConnId(conn), &bytes);
        self.settle();
    }

    /// What the connection was sent since the last time, after everything settled.
    pub(super) fn sent(&mut self, conn: u32, version: Version) -> Vec<String> {
        packets(version, &self.sent_bytes(conn))
    }

    pub(super) fn sent_bytes(&mut self, conn: u32) -> Vec<u8> {
        let Some(outbox) = self.broker.outbox(ConnId(conn)) else { return Vec::new() };
        let outbox = std::mem::take(outbox);
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = outbox.slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(bytes.len(), outbox.len());
        bytes
    }

    pub(super) fn connect(&mut self, conn: u32, connect: &Connect<'_>) -> Vec<String> {
        self.dial(conn, connect);
        self.sent(conn, connect.version)
    }

    /// Connects, and leaves the answer to be looked at.
    pub(super) fn dial(&mut self, conn: u32, connect: &Connect<'_>) {
        let now = self.now();
        self.broker.handle_accepted(now, ConnId(conn), ListenerId(0), None);
        self.send(conn, &Packet::Connect(*connect), connect.version);
    }

    pub(super) fn subscribe(
        &mut self,
        conn: u32,
        version: Version,
        filter: &str,
        options: SubscribeOptions,
        id: Option<u32>,
    ) {
        let filters = [Subscription { filter, options }];
        let packet = Subscribe {
            pkid: 9,
            properties: SubscribeProperties { subscription_id: id, ..SubscribeProperties::default() },
            filters: filters.as_slice().into(),
        };
        self.send(conn, &Packet::Subscribe(packet), version);
    }

    pub(super) fn publish(&mut self, conn: u32, version: Version, publish: &Publish<'_>) {
        self.send(conn, &Packet::Publish(*publish), version);
    }

    pub(super) fn lose(&mut self, conn: u32) {
        let now = self.now();
        self.broker.handle_closed(now, &mut self.queues, ConnId(conn));
        self.settle();
    }
}

pub(super) fn qos(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, ..SubscribeOptions::default() }
}
