//! The broker and the queues as the gateway and the bridge see them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::bridge::rule::Mapping;
use crate::bridge::{Local, Outbound};
use crate::broker::Broker;
use crate::broker::local::LocalPublish;
use crate::config::{Pace, RuleQos, UpstreamId};
use crate::engine::bonds::Bonds;
use crate::gateway::{self, Next, Opened, Publish, SessionId, Sessions};
use crate::mqtt::hop::Gateway;
use crate::mqtt::{MessageParts, QoS};
use crate::queue::{Depth, DestId, Outcome, Peeked, Queues, RecordKind, Refusal, Seq, Token};
use crate::time::{Duration, Now};

/// Whose a token is.
pub(crate) mod owner {
    pub(crate) const BROKER: u8 = 0;
    pub(crate) const GATEWAY: u8 = 1;
    pub(crate) const BRIDGE: u8 = 2;
}

/// What the gateway's clients are given.
pub(crate) struct Clients<'a> {
    pub broker: &'a mut Broker,
    pub queues: &'a mut Queues,
}

impl Clients<'_> {
    fn line(&self, session: SessionId) -> Option<DestId> {
        self.broker.local_line(session.0)
    }
}

impl Sessions for Clients<'_> {
    fn open(&mut self, now: Now, client_id: &str, user: Option<&str>, clean: bool) -> Result<Opened, Refusal> {
        let (session, present) = self.broker.local_open(now, self.queues, client_id, user, clean)?;
        Ok(Opened { session: SessionId(session), present })
    }

    fn close(&mut self, now: Now, session: SessionId, will: bool) {
        self.broker.local_close(now, self.queues, session.0, will);
    }

    fn set_will(&mut self, now: Now, session: SessionId, will: Option<gateway::Will>, token: Token) -> Outcome {
        let will = will.map(|will| crate::broker::Will {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos.as_u8(),
            retain: will.retain,
            delay: 0,
            expiry: None,
            properties: Vec::new(),
        });
        self.broker.local_set_will(now, self.queues, session.0, will, token.owned_by(owner::GATEWAY))
    }

    fn publish(&mut self, now: Now, session: Option<SessionId>, publish: Publish<'_>, token: Token) -> Outcome {
        let publish = LocalPublish {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            receipt: publish.receipt,
        };
        let session = session.map(|session| session.0);
        self.broker.local_publish(now, self.queues, session, publish, token.owned_by(owner::GATEWAY))
    }

    fn forget_receipt(&mut self, now: Now, session: SessionId, receipt: u16, token: Token) -> Outcome {
        self.broker.local_forget_receipt(now, self.queues, session.0, receipt, token.owned_by(owner::GATEWAY))
    }

    fn subscribe(&mut self, now: Now, session: SessionId, filter: &str, qos: QoS, token: Token) -> (QoS, Outcome) {
        let token = token.owned_by(owner::GATEWAY);
        (qos, self.broker.local_subscribe(now, self.queues, session.0, filter, qos, token))
    }

    fn unsubscribe(&mut self, now: Now, session: SessionId, filter: &str, token: Token) -> Outcome {
        self.broker.local_unsubscribe(now, self.queues, session.0, filter, token.owned_by(owner::GATEWAY))
    }

    fn next(&mut self, now: Now, session: SessionId) -> Option<Next> {
        let next = self.broker.local_next(now, self.queues, session.0)?;
        Some(Next { seq: next.seq, qos: next.qos, retain: next.retain, pkid: next.pkid, message: next.message })
    }

    fn waiting(&self, session: SessionId) -> u64 {
        self.line(session).map_or(0, |dest| self.queues.depth(dest).messages)
    }

    fn acked(&mut self, now: Now, session: SessionId, seq: Seq) {
        self.broker.local_acked(now, self.queues, session.0, seq);
    }

    fn release(&mut self, now: Now, session: SessionId, seq: Seq, pkid: u16, token: Token) -> Outcome {
        match self.line(session) {
            Some(dest) => self.queues.release(now, dest, seq, pkid, token.owned_by(owner::GATEWAY)),
            None => Outcome::Done,
        }
    }

    fn complete(&mut self, now: Now, session: SessionId, pkid: u16) {
        if let Some(dest) = self.line(session) {
            self.queues.complete(now, dest, pkid);
        }
    }

    fn releases(&self, session: SessionId) -> Vec<u16> {
        self.line(session).map(|dest| self.queues.safe_releases(dest).collect()).unwrap_or_default()
    }

    fn rewind(&mut self, _now: Now, session: SessionId) {
        if let Some(dest) = self.line(session) {
            self.queues.rewind(dest);
        }
    }

    fn save_client(&mut self, now: Now, client_id: &str, record: Option<String>, token: Token) -> Outcome {
        let token = Some(token.owned_by(owner::GATEWAY));
        match record {
            Some(record) => {
                self.queues.put(now, RecordKind::SnClient, client_id.as_bytes(), record.as_bytes(), token)
            }
            None => self.queues.delete_record(now, RecordKind::SnClient, client_id.as_bytes(), token),
        }
    }
}

/// What the ports need to know of an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamSetup {
    pub name: String,
    /// Where inbound QoS 2 identifiers are remembered, if it has rules that bring messages in.
    pub receipts: Option<DestId>,
    /// Those that send.
    pub rules: Vec<OutRule>,
    /// Of all of them together.
    pub pace: Pace,
}

/// A rule that sends.
#[derive(Debug)]
pub(crate) struct OutRule {
    pub name: String,
    pub mapping: Mapping,
    pub dest: DestId,
    pub qos: RuleQos,
    /// The lane for what comes in while a backlog waits.
    pub live: Option<DestId>,
    /// Zero: messages do not age.
    pub ttl: Duration,
    pub priority: u8,
    pub pace: Pace,
    /// What comes in goes before the backlog.
    pub live_first: bool,
}

impl OutRule {
    /// Its queues.
    pub(super) fn lanes(&self) -> impl Iterator<Item = DestId> + use<> {
        [Some(self.dest), self.live].into_iter().flatten()
    }
}

/// What the bridge sees of the other cores.
pub(crate) struct BridgePorts<'a> {
    pub queues: &'a mut Queues,
    pub broker: &'a mut Broker,
    pub bonds: &'a mut Bonds,
    pub upstreams: &'a BTreeMap<UpstreamId, UpstreamSetup>,
    pub status_topic: &'a str,
}

impl BridgePorts<'_> {
    pub(crate) fn with<T>(&mut self, ask: impl FnOnce(&mut dyn Outbound, &mut dyn Local) -> T) -> T {
        // Both ports use the queues, one after the other.
        let queues = RefCell::new(&mut *self.queues);
        let mut lines = Lines { queues: &queues };
        let mut local = LocalBroker {
            broker: self.broker,
            queues: &queues,
            bonds: self.bonds,
            upstreams: self.upstreams,
            status_topic: self.status_topic,
        };
        ask(&mut lines, &mut local)
    }
}

/// The queues of out-rules, as the bridge sees them.
pub(crate) struct Lines<'a, 'b> {
    pub queues: &'a RefCell<&'b mut Queues>,
}

impl Outbound for Lines<'_, '_> {
    fn activate(&mut self, dest: DestId) {
        self.queues.borrow_mut().activate(dest);
    }

    fn deactivate(&mut self, now: Now, dest: DestId) {
        self.queues.borrow_mut().deactivate(now, dest);
    }

    fn peek(&mut self, now: Now, dest: DestId) -> Option<Peeked> {
        self.queues.borrow_mut().peek(now, dest)
    }

    fn take(&mut self, dest: DestId, seq: Seq) {
        self.queues.borrow_mut().take(dest, seq);
    }

    fn acked(&mut self, now: Now, dest: DestId, seq: Seq) {
        self.queues.borrow_mut().acked(now, dest, seq);
    }

    fn release(&mut self, now: Now, dest: DestId, seq: Seq, pkid: u16, token: Token) -> Outcome {
        self.queues.borrow_mut().release(now, dest, seq, pkid, token.owned_by(owner::BRIDGE))
    }

    fn complete(&mut self, now: Now, dest: DestId, pkid: u16) {
        self.queues.borrow_mut().complete(now, dest, pkid);
    }

    fn renew(&mut self, now: Now, dest: DestId) {
        self.queues.borrow_mut().renew(now, dest);
    }

    fn safe_releases(&self, dest: DestId) -> Vec<u16> {
        self.queues.borrow().safe_releases(dest).collect()
    }

    fn rewind(&mut self, dest: DestId) {
        self.queues.borrow_mut().rewind(dest);
    }

    fn bury(&mut self, now: Now, dest: DestId, seq: Seq, reason: &str) {
        self.queues.borrow_mut().bury(now, dest, seq, reason);
    }

    fn depth(&self, dest: DestId) -> Depth {
        self.queues.borrow().depth(dest)
    }
}

/// The broker, as the bridge sees it.
pub(crate) struct LocalBroker<'a, 'b> {
    pub broker: &'a mut Broker,
    pub bonds: &'a mut Bonds,
    pub queues: &'a RefCell<&'b mut Queues>,
    pub upstreams: &'a BTreeMap<UpstreamId, UpstreamSetup>,
    pub status_topic: &'a str,
}

impl LocalBroker<'_, '_> {
    fn upstream(&self, upstream: UpstreamId) -> Option<&UpstreamSetup> {
        self.upstreams.get(&upstream)
    }

    fn receipts(&self, upstream: UpstreamId) -> Option<DestId> {
        self.upstream(upstream)?.receipts
    }
}

impl Local for LocalBroker<'_, '_> {
    fn publish(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        parts: MessageParts<'_>,
        receipt: Option<u16>,
        token: Token,
    ) -> Outcome {
        let receipt = self.receipts(upstream).zip(receipt);
        let token = token.owned_by(owner::BRIDGE);
        self.broker.publish_from_upstream(now, &mut self.queues.borrow_mut(), upstream, &parts, receipt, token)
    }

    fn forget_receipt(&mut self, now: Now, upstream: UpstreamId, receipt: u16, token: Token) -> Outcome {
        let token = token.owned_by(owner::BRIDGE);
        let forgotten =
            self.receipts(upstream).and_then(|dest| self.queues.borrow_mut().forget(now, dest, receipt, token));
        forgotten.unwrap_or(Outcome::Done)
    }

    fn forget_receipts(&mut self, now: Now, upstream: UpstreamId) {
        if let Some(dest) = self.receipts(upstream) {
            self.queues.borrow_mut().forget_all(now, dest);
        }
    }

    fn own_session(&mut self, now: Now, upstream: UpstreamId, client_id: &str) {
        let Some(setup) = self.upstreams.get(&upstream) else { return };
        if let Some(record) = self.bonds.note(&setup.name, Some(client_id)) {
            self.queues.borrow_mut().own_session(now, upstream, setup.name.as_bytes(), &record);
        }
    }

    fn met(&mut self, now: Now, upstream: UpstreamId, peer: Option<&Gateway>) {
        self.broker.meet(upstream, peer);
        // After a restart it must be known before the link is there, or what waits would go there twice.
        let Some(setup) = self.upstreams.get(&upstream) else { return };
        if let Some(record) = self.bonds.meet(&setup.name, peer.map(|peer| &*peer.name)) {
            let key = setup.name.as_bytes();
            self.queues.borrow_mut().put(now, RecordKind::Upstream, key, &record, None);
        }
    }

    fn status(&mut self, now: Now, upstream: UpstreamId, up: bool, detail: &str) {
        let Some(name) = self.upstream(upstream).map(|upstream| upstream.name.as_str()) else { return };
        if self.status_topic.is_empty() {
            return;
        }
        let topic = format!("{}/upstream/{name}", self.status_topic);
        let state = serde_json::json!({
            "state": if up { "online" } else { "offline" },
            "detail": detail,
            "since": now.wall.as_millis(),
        });
        self.broker.publish_own(now, &mut self.queues.borrow_mut(), &topic, state.to_string().as_bytes(), true);
    }
}
