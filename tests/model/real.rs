//! The engine and its clients, in virtual time: does what the script says, and tells what each client saw.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::LazyLock;

use moteway::config::{Config, ListenerId};
use moteway::engine::{Engine, Input, Output, Start};
use moteway::mqtt::{
    self, ConnId, Connect, ConnectProperties, Disconnect, DisconnectProperties, Packet, PubAck, PubComp, PubRec,
    PubRel, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscribeProperties, Subscription, Unsubscribe,
    Version, WillProperties, frame,
};
use moteway::queue::Recovered;
use moteway::time::{Duration, Instant, Now, Wall};

use crate::naive::Client;
use crate::script::{self, Action, Ending, Filter};
use crate::seen::{Came, Saw};
use crate::store::SimStore;

/// Every change is written at once: nothing that has to be on the disk first is put off.
const CONFIG: &str = "[gateway]\nname = 'box'\n[store]\ncommit_interval = '0s'\ncommit_messages = 1\n";

/// Who may do what, in every other case.
const RULES: &str = r##"
[[acl]]
client_id = ["c0", "c3"]
publish = ["#"]
subscribe = ["#"]

[[acl]]
client_id = ["c1"]
publish = ["#"]
subscribe = ["#"]
deny_publish = ["t/2"]
deny_read = ["u"]

[[acl]]
client_id = ["c2"]
publish = ["t/#"]
subscribe = ["t/#"]
"##;

/// Without rules, and with them.
static SETTINGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
    ["", RULES].map(|rules| {
        let parsed = Config::parse(&format!("{CONFIG}{rules}")).unwrap_or_else(|errors| panic!("{errors}"));
        parsed.resolve("box").expect("a good name")
    })
});

const WALL_AT_START: u64 = 1_700_000_000_000;
const PKID: u16 = 7;
const NAMES: [&str; script::CLIENTS] = ["c0", "c1", "c2", "c3"];

/// A connection of a client.
#[derive(Debug)]
struct Link {
    client: Client,
    version: Version,
    /// Acknowledges nothing yet; what it owes.
    deaf: bool,
    owed: Vec<Packet<'static>>,
    partial: Vec<u8>,
    /// A newer connection of the same client is there.
    is_old: bool,
}

pub struct Real {
    config: &'static Config,
    engine: Engine,
    store: SimStore,
    now: Instant,
    links: BTreeMap<ConnId, Link>,
    saw: BTreeMap<Client, Vec<Saw>>,
}

impl Real {
    pub fn new(with_rules: bool) -> Self {
        let config = &SETTINGS[usize::from(with_rules)];
        Self {
            config,
            engine: start(config, Instant::ZERO, Recovered::default(), 0),
            store: SimStore::default(),
            now: Instant::ZERO,
            links: BTreeMap::new(),
            saw: BTreeMap::new(),
        }
    }

    /// Does it, and tells what each client saw until nothing happens any more.
    pub fn act(&mut self, action: &Action) -> BTreeMap<Client, Vec<Saw>> {
        self.saw.clear();
        match action {
            Action::Connect { .. } => self.connect(action),
            Action::Publish { client, publish } => self.publish(*client, publish),
            Action::Subscribe { client, filter: Filter(filter), options, id } => {
                let filters = [Subscription { filter, options: *options }];
                let properties = SubscribeProperties { subscription_id: *id, ..SubscribeProperties::default() };
                let filters = filters.as_slice().into();
                self.send(*client, &Packet::Subscribe(Subscribe { pkid: PKID, properties, filters }));
            }
            Action::Unsubscribe { client, filter: Filter(filter) } => {
                let filters = [*filter];
                let filters = filters.as_slice().into();
                let properties = Default::default();
                self.send(*client, &Packet::Unsubscribe(Unsubscribe { pkid: PKID, properties, filters }));
            }
            Action::End { client, ending } => self.end(*client, *ending),
            Action::Hear { client } => self.hear(*client),
            Action::Advance { to, timeout } => self.advance(*to, *timeout),
            Action::Restart => self.restart(),
        }
        std::mem::take(&mut self.saw)
    }

    fn link_of(&self, client: Client) -> ConnId {
        let found = self.links.iter().find(|(_, link)| link.client == client && !link.is_old);
        *found.expect("the script knows who is connected").0
    }

    fn connect(&mut self, action: &Action) {
        let Action::Connect { client, version, clean, expiry, will, deaf } = action else { return };
        for link in self.links.values_mut().filter(|link| link.client == *client) {
            link.is_old = true;
        }
        let conn = (0..).map(ConnId).find(|conn| !self.links.contains_key(conn)).expect("a free number");
        let (owed, partial) = (Vec::new(), Vec::new());
        let link = Link { client: *client, version: *version, deaf: *deaf, owed, partial, is_old: false };
        self.links.insert(conn, link);
        self.input(Input::Accepted { conn, listener: ListenerId(0), peer: None, certificate: None });
        let is_v5 = *version == Version::V5;
        let will = will.as_ref().map(|will| mqtt::Will {
            topic: will.publish.topic,
            payload: will.publish.payload.as_bytes(),
            qos: will.publish.qos,
            retain: will.publish.retain,
            properties: WillProperties {
                will_delay: is_v5.then(|| secs(will.delay)),
                message_expiry: will.publish.expiry.map(secs),
                ..WillProperties::default()
            },
        });
        let properties = ConnectProperties {
            session_expiry: is_v5.then(|| expiry.map_or(u32::MAX, secs)),
            ..ConnectProperties::default()
        };
        let (version, clean_start, client) = (*version, *clean, *client);
        let connect = Connect {
            version,
            clean_start,
            keep_alive: 0,
            client_id: NAMES[client],
            will,
            username: None,
            password: None,
            properties,
        };
        self.send_on(conn, &Packet::Connect(connect));
        if !self.links.contains_key(&conn) {
            // Refused: the one before goes on.
            for link in self.links.values_mut().filter(|link| link.client == client) {
                link.is_old = false;
            }
        }
    }

    fn publish(&mut self, client: Client, publish: &script::Publish) {
        let properties =
            PublishProperties { message_expiry: publish.expiry.map(secs), ..PublishProperties::default() };
        let packet = Publish {
            dup: false,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic,
            pkid: if publish.qos == QoS::AtMostOnce { 0 } else { PKID },
            properties,
            payload: publish.payload.as_bytes(),
        };
        self.send(client, &Packet::Publish(packet));
    }

    fn end(&mut self, client: Client, ending: Ending) {
        match ending {
            Ending::Lost => {
                let conn = self.link_of(client);
                self.links.remove(&conn);
                self.input(Input::Closed { conn, error: None });
            }
            Ending::Disconnect { with_will, expiry } => {
                let reason = if with_will { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
                let session_expiry = expiry.map(|expiry| expiry.map_or(u32::MAX, secs));
                let properties = DisconnectProperties { session_expiry, ..DisconnectProperties::default() };
                self.send(client, &Packet::Disconnect(Disconnect { reason, properties }));
            }
        }
    }

    fn hear(&mut self, client: Client) {
        let conn = self.link_of(client);
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.deaf = false;
        for packet in std::mem::take(&mut link.owed) {
            self.send_on(conn, &packet);
        }
    }

    fn advance(&mut self, to: Instant, timeout: bool) {
        let is_due = |at: &Instant| *at < to || (timeout && *at == to);
        while let Some(deadline) = self.engine.deadline().filter(is_due) {
            self.now = self.now.max(deadline);
            self.input(Input::Timeout);
        }
        self.now = to;
    }

    fn restart(&mut self) {
        while self.store.finish().is_some() {}
        self.links.clear();
        self.engine = start(self.config, self.now, self.store.disk.recover(), 1);
        self.drain();
    }

    fn send(&mut self, client: Client, packet: &Packet<'_>) {
        self.send_on(self.link_of(client), packet);
    }

    fn send_on(&mut self, conn: ConnId, packet: &Packet<'_>) {
        // Closed meanwhile.
        let Some(link) = self.links.get(&conn) else { return };
        let mut bytes = Vec::new();
        packet.encode(link.version, &mut bytes);
        self.input(Input::Received { conn, bytes: &bytes });
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(at(self.now), input);
        self.drain();
    }

    /// Does what the engine wants, until it wants nothing more: the store is quick, and clients answer at once.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Flush { conn } => self.flush(conn),
                    Output::Close { conn } => {
                        self.flush(conn);
                        self.closed(conn);
                    }
                    Output::Commit(batch) => self.store.commit(batch),
                    Output::Read(read) => self.store.read(read),
                    _ => {}
                }
            }
            match self.store.finish() {
                Some(reply) => self.engine.handle_input(at(self.now), Input::Store(reply)),
                None => break,
            }
        }
    }

    fn closed(&mut self, conn: ConnId) {
        let Some(link) = self.links.remove(&conn) else { return };
        let saw = self.saw.entry(link.client).or_default();
        if saw.last() != Some(&Saw::Refused) {
            saw.push(if link.is_old { Saw::TakenOver(link.version) } else { Saw::Closed });
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let (Some(outbox), Some(link)) = (self.engine.outbox(conn), self.links.get_mut(&conn)) else { return };
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = outbox.slices(&mut slices);
            let count = slices[..filled].iter().map(|slice| slice.len()).sum();
            slices[..filled].iter().for_each(|slice| link.partial.extend_from_slice(slice));
            outbox.consume(count);
        }
        let buffer = std::mem::take(&mut link.partial);
        let mut rest = buffer.as_slice();
        let mut answers = Vec::new();
        while let Some(frame) = frame(rest, u32::MAX).expect("the engine sends packets") {
            rest = &rest[frame.raw.len()..];
            let packet = Packet::decode(link.version, &frame).expect("the engine sends good packets");
            let (saw, answer) = look(&packet);
            answers.extend(answer);
            self.saw.entry(link.client).or_default().extend(saw);
        }
        link.partial = rest.to_vec();
        if link.deaf {
            let (owed, now): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|packet| matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)));
            link.owed.extend(owed);
            answers = now;
        }
        let version = link.version;
        let mut bytes = Vec::new();
        answers.iter().for_each(|packet| packet.encode(version, &mut bytes));
        self.engine.handle_input(at(self.now), Input::Flushed { conn });
        if !bytes.is_empty() {
            self.engine.handle_input(at(self.now), Input::Received { conn, bytes: &bytes });
        }
    }
}

/// What a client makes of a packet, and answers.
fn look(packet: &Packet<'_>) -> (Option<Saw>, Option<Packet<'static>>) {
    let done = ReasonCode::Success;
    match packet {
        Packet::ConnAck(ack) => {
            let accepted = Saw::ConnAck { session_present: ack.session_present };
            (Some(if ack.reason.is_error() { Saw::Refused } else { accepted }), None)
        }
        Packet::Publish(publish) => {
            let answer = match publish.qos {
                QoS::AtMostOnce => None,
                QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(publish.pkid, done))),
                QoS::ExactlyOnce => Some(Packet::PubRec(PubRec::new(publish.pkid, done))),
            };
            (Some(Saw::Publish(came(publish))), answer)
        }
        Packet::PubRec(rec) if rec.reason.is_error() => (None, None),
        Packet::PubRec(rec) => (None, Some(Packet::PubRel(PubRel::new(rec.pkid, done)))),
        Packet::PubRel(rel) => (None, Some(Packet::PubComp(PubComp::new(rel.pkid, done)))),
        Packet::SubAck(ack) => {
            let granted = ack.codes.first().and_then(|code| QoS::from_u8(*code));
            (Some(Saw::SubAck(granted)), None)
        }
        Packet::UnsubAck(_) => (Some(Saw::UnsubAck), None),
        Packet::PubAck(_) | Packet::PubComp(_) | Packet::Disconnect(_) => (None, None),
        other => panic!("{other:?} is not for a client"),
    }
}

fn came(publish: &Publish<'_>) -> Came {
    let mut ids: Vec<u32> = publish.properties.subscription_ids.iter().collect();
    ids.sort_unstable();
    Came {
        topic: publish.topic.to_owned(),
        payload: String::from_utf8_lossy(publish.payload).into_owned(),
        qos: publish.qos,
        retain: publish.retain,
        ids,
        dup: publish.dup,
        expiry: publish.properties.message_expiry,
    }
}

fn secs(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).expect("a few seconds")
}

fn start(config: &Config, now: Instant, recovered: Recovered, seed: u64) -> Engine {
    let start = Start { config, recovered, seed };
    Engine::new(at(now), start).expect("the configuration is good")
}

fn at(now: Instant) -> Now {
    Now { at: now, wall: Wall::from_millis(WALL_AT_START + now.as_micros() / 1000) }
}
