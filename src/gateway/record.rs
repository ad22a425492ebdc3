//! What outlives the process about a client whose session does: its address, its sleep, its topic ids. JSON, one
//! record for each client, written only when it changes.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::gateway::acks::NOBODY;
use crate::gateway::client::{Asked, Client, State, with_tolerance};
use crate::gateway::clients::Slot;
use crate::gateway::peers::Peer;
use crate::gateway::radio::Radio;
use crate::gateway::registry::Origin;
use crate::gateway::will::restore_will;
use crate::gateway::{Cx, Gateway, Sessions};
use crate::metrics::{Level, Notice};
use crate::mqttsn::{ShortName, Topic, TopicId};
use crate::queue::{Outcome, Token};
use crate::time::Now;

/// The only version so far.
const VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    user: Option<String>,
    /// Connected, asleep or not.
    connected: bool,
    /// Seconds.
    keepalive: u16,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sleep: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    peer: Option<PeerRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    topics: Vec<TopicRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    predefined: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    short: Vec<[u8; 2]>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    will: Option<WillRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PeerRecord {
    /// By name: positions change with the configuration.
    link: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    node: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TopicRecord {
    id: u16,
    name: String,
    /// The client asked for it.
    client: bool,
}

/// The broker has the will too; here it is kept for updates of half of it.
#[derive(Debug, Serialize, Deserialize)]
struct WillRecord {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
}

impl Record {
    fn of(client: &Client, radio: &Radio) -> Self {
        let registry = &client.registry;
        Self {
            version: VERSION,
            user: client.user.as_deref().map(str::to_owned),
            connected: client.session().is_some(),
            keepalive: client.keepalive,
            sleep: client.sleep,
            peer: client.peer.as_ref().and_then(|peer| {
                let link = radio.name(peer.link)?.to_owned();
                Some(PeerRecord { link, address: peer.addr, node: peer.node.as_deref().map(Vec::from) })
            }),
            topics: registry
                .entries()
                .iter()
                .map(|entry| TopicRecord {
                    id: entry.id.0,
                    name: entry.name.to_string(),
                    client: entry.origin == Origin::Client,
                })
                .collect(),
            predefined: registry.predefined().iter().map(|id| id.0).collect(),
            short: registry.short().iter().map(|name| name.0).collect(),
            will: client.will.as_ref().map(|will| WillRecord {
                topic: will.topic.clone(),
                payload: will.payload.clone(),
                qos: will.qos.as_u8(),
                retain: will.retain,
            }),
        }
    }

    /// Gives a new client what was recorded, except its state and its address.
    fn restore(self, client: &mut Client, max_topics: usize) -> Option<PeerRecord> {
        client.clean = false;
        client.user = self.user.map(Into::into);
        client.keepalive = self.keepalive;
        client.sleep = self.sleep;
        for topic in self.topics.iter().filter(|topic| !topic.name.is_empty()).take(max_topics) {
            let origin = if topic.client { Origin::Client } else { Origin::Gateway };
            client.registry.restore(TopicId(topic.id), &topic.name, origin);
        }
        let predefined = self.predefined.iter().map(|id| Topic::Predefined(TopicId(*id)));
        let short = self.short.iter().map(|name| Topic::Short(ShortName(*name)));
        for topic in predefined.chain(short) {
            if client.registry.add_named(topic, max_topics).is_err() {
                break;
            }
        }
        let will = self.will.and_then(|will| restore_will(will.topic, will.payload, will.qos, will.retain));
        client.will = will.map(Box::new);
        self.peer
    }
}

fn hash(json: &str) -> u64 {
    FixedState::default().hash_one(json)
}

impl Gateway {
    /// Takes over the clients of an earlier run: client ids and their records. Those that were connected then have
    /// their sessions again, and time to be heard of.
    pub fn recover<'a>(
        &mut self,
        now: Now,
        records: impl IntoIterator<Item = (&'a str, &'a str)>,
        sessions: &mut dyn Sessions,
    ) {
        let cx = &mut Cx { now, sessions };
        for (client_id, json) in records {
            let record = serde_json::from_str::<Record>(json).ok().filter(|record| record.version == VERSION);
            match record {
                Some(record) if !self.clients.is_full() && self.clients.by_id(client_id).is_none() => {
                    self.recover_client(cx, client_id, record, hash(json));
                }
                _ => {
                    self.stats.records_unusable += 1;
                    let detail = "it has to connect again";
                    self.radio.notice(Notice::new(Level::Warn, "MQTT-SN record unusable", client_id, detail));
                }
            }
        }
    }

    fn recover_client(&mut self, cx: &mut Cx<'_>, client_id: &str, record: Record, saved: u64) {
        let slot = self.clients.insert(client_id, self.known.find(client_id), cx.now.at);
        let connected = record.connected;
        let client = &mut self.clients[slot];
        client.saved = Some(saved);
        let peer = record.restore(client, self.config.max_topics_per_client);
        let user = client.user.clone();
        let mut open = || cx.sessions.open(cx.now, client_id, user.as_deref(), false).ok();
        let opened = if connected { open() } else { None };
        let Some(opened) = opened else { return };
        if let Some(peer) = peer
            && let Some(link) = self.radio.by_name(&peer.link)
        {
            let peer = Peer { link, addr: peer.address, node: peer.node.map(Vec::into_boxed_slice) };
            self.clients.bind(slot, peer.as_ref());
        }
        let (keepalive, sleep) = (self.clients[slot].keepalive, self.clients[slot].sleep);
        match sleep {
            Some(seconds) => {
                // It may as well have been active.
                let until = cx.now.at + with_tolerance(seconds.max(keepalive));
                self.clients.set_state(slot, State::Asleep { session: opened.session, until, resumed: true });
            }
            None => {
                let asked = Asked { will: false, clean: false, keepalive };
                self.begin_active(cx, slot, opened.session, asked);
                self.pump(cx, slot);
            }
        }
        self.arm(slot);
    }

    /// Makes the client's record safe, if it has changed. A client with a clean session has none.
    pub(super) fn save(&mut self, cx: &mut Cx<'_>, slot: Slot, token: Token) -> Outcome {
        let client = &mut self.clients[slot];
        if client.clean {
            return match client.saved.take() {
                Some(_) => cx.sessions.save_client(cx.now, &client.id, None, token),
                None => Outcome::Done,
            };
        }
        let record = Record::of(client, &self.radio);
        #[expect(clippy::expect_used, reason = "nothing in a record can fail to be written")]
        let json = serde_json::to_string(&record).expect("a record has only strings for keys");
        let hash = hash(&json);
        if client.saved == Some(hash) {
            return Outcome::Done;
        }
        let outcome = cx.sessions.save_client(cx.now, &client.id, Some(json), token);
        if !matches!(outcome, Outcome::Refused(_)) {
            client.saved = Some(hash);
        }
        outcome
    }

    /// As [`Gateway::save`] where no answer depends on it. If it fails, the next change writes it all.
    pub(super) fn save_unwaited(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let token = self.token(slot);
        self.save(cx, slot, token);
    }

    pub(super) fn forget_record(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let client = &mut self.clients[slot];
        if client.saved.take().is_some() {
            cx.sessions.save_client(cx.now, &client.id, None, NOBODY);
        }
    }
}
