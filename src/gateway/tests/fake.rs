//! A broker of a few pages: enough to stand behind the port.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::gateway::{Next, Opened, Publish, SessionId, Sessions, Will};
use crate::mqtt::{Message, MessageParts, QoS};
use crate::queue::{Outcome, Refusal, Seq, Token};
use crate::time::Now;

#[derive(Debug, Default)]
struct Session {
    client: String,
    user: Option<String>,
    clean: bool,
    open: bool,
    subscriptions: BTreeMap<String, QoS>,
    queue: VecDeque<(bool, Next)>,
    will: Option<Will>,
    receipts: BTreeSet<u16>,
    releases: Vec<u16>,
    last_pkid: u16,
}

/// What a client published: client id, topic, payload.
pub(super) type Published = (Option<String>, String, Vec<u8>);

#[derive(Debug, Default)]
pub(super) struct Broker {
    sessions: BTreeMap<SessionId, Session>,
    last_session: u32,
    last_seq: u64,
    /// Nothing is safe until it is settled.
    pub(super) hold: bool,
    pub(super) refuse: Option<Refusal>,
    pub(super) held: Vec<Token>,
    pub(super) published: Vec<Published>,
    pub(super) wills: Vec<Will>,
    pub(super) records: BTreeMap<String, String>,
    pub(super) saves: usize,
    /// Sessions that have something new.
    pub(super) ready: BTreeSet<SessionId>,
    /// Queues that are being read from the disk.
    pub(super) reading: bool,
    /// When messages come in.
    pub(super) wall: crate::time::Wall,
}

impl Broker {
    fn outcome(&mut self, token: Token) -> Outcome {
        match (self.refuse, self.hold) {
            (Some(refusal), _) => Outcome::Refused(refusal),
            (None, true) => {
                self.held.push(token);
                Outcome::Pending
            }
            (None, false) => Outcome::Done,
        }
    }

    pub(super) fn session_of(&self, client: &str) -> Option<SessionId> {
        self.sessions.iter().find(|(_, session)| session.client == client).map(|(id, _)| *id)
    }

    fn session(&self, client: &str) -> &Session {
        &self.sessions[&self.session_of(client).expect("a session")]
    }

    pub(super) fn is_open(&self, client: &str) -> bool {
        self.session_of(client).is_some_and(|id| self.sessions[&id].open)
    }

    pub(super) fn user(&self, client: &str) -> Option<&str> {
        self.session(client).user.as_deref()
    }

    pub(super) fn subscriptions(&self, client: &str) -> Vec<&str> {
        self.session(client).subscriptions.keys().map(String::as_str).collect()
    }

    pub(super) fn will(&self, client: &str) -> Option<&Will> {
        self.session(client).will.as_ref()
    }

    pub(super) fn queued(&self, client: &str) -> usize {
        self.session(client).queue.len()
    }

    pub(super) fn releases_of(&self, client: &str) -> Vec<u16> {
        self.session(client).releases.clone()
    }

    /// Another connection took the session: the gateway may not use it any more.
    pub(super) fn shut(&mut self, session: SessionId) {
        self.sessions.get_mut(&session).expect("just found").open = false;
    }

    /// A process that dies keeps what is durable.
    pub(super) fn restart(&mut self) {
        self.sessions.retain(|_, session| !session.clean);
        for session in self.sessions.values_mut() {
            session.open = false;
            for (in_flight, _) in &mut session.queue {
                *in_flight = false;
            }
        }
        self.held.clear();
    }

    pub(super) fn route(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        let message = Arc::new(Message::new(MessageParts {
            topic,
            properties: &[],
            payload,
            qos,
            retain: false,
            received_at: self.wall,
            expires_at: None,
        }));
        for (id, session) in &mut self.sessions {
            let granted = session.subscriptions.iter().filter(|(filter, _)| matches(filter, topic));
            let Some(granted) = granted.map(|(_, granted)| *granted).max() else { continue };
            self.last_seq += 1;
            let qos = qos.min(granted);
            if qos == QoS::ExactlyOnce {
                session.last_pkid += 1;
            }
            let pkid = if qos == QoS::ExactlyOnce { session.last_pkid } else { 0 };
            let next = Next { seq: Seq(self.last_seq), qos, retain: false, pkid, message: Arc::clone(&message) };
            session.queue.push_back((false, next));
            self.ready.insert(*id);
        }
    }
}

fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

impl Sessions for Broker {
    fn open(&mut self, _: Now, client_id: &str, user: Option<&str>, clean: bool) -> Result<Opened, Refusal> {
        if let Some(refusal) = self.refuse {
            return Err(refusal);
        }
        let found = self.session_of(client_id);
        let keep = !clean && found.is_some_and(|id| self.sessions[&id].user.as_deref() == user);
        if let Some(id) = found.filter(|_| !keep) {
            self.sessions.remove(&id);
        }
        if let Some(session) = found.filter(|_| keep) {
            let kept = self.sessions.get_mut(&session).expect("just found");
            (kept.open, kept.clean) = (true, false);
            return Ok(Opened { session, present: true });
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions.insert(
            session,
            Session {
                client: client_id.into(),
                user: user.map(str::to_owned),
                clean,
                open: true,
                ..Session::default()
            },
        );
        Ok(Opened { session, present: false })
    }

    fn close(&mut self, now: Now, session: SessionId, will: bool) {
        self.rewind(now, session);
        let kept = self.sessions.get_mut(&session).expect("only open sessions are closed");
        assert!(kept.open, "closed twice");
        kept.open = false;
        let last_will = kept.will.take().filter(|_| will);
        if kept.clean {
            self.sessions.remove(&session);
        }
        if let Some(last_will) = last_will {
            self.route(&last_will.topic, &last_will.payload, last_will.qos);
            self.wills.push(last_will);
        }
    }

    fn set_will(&mut self, _: Now, session: SessionId, will: Option<Will>, token: Token) -> Outcome {
        let outcome = self.outcome(token);
        if !matches!(outcome, Outcome::Refused(_)) {
            self.sessions.get_mut(&session).expect("open").will = will;
        }
        outcome
    }

    fn publish(&mut self, _: Now, session: Option<SessionId>, publish: Publish<'_>, token: Token) -> Outcome {
        let outcome = self.outcome(token);
        if matches!(outcome, Outcome::Refused(_)) {
            return outcome;
        }
        if let (Some(receipt), Some(session)) = (publish.receipt, session)
            && !self.sessions.get_mut(&session).expect("open").receipts.insert(receipt)
        {
            return outcome;
        }
        let client = session.map(|session| self.sessions[&session].client.clone());
        self.published.push((client, publish.topic.into(), publish.payload.into()));
        self.route(publish.topic, publish.payload, publish.qos);
        outcome
    }

    fn forget_receipt(&mut self, _: Now, session: SessionId, receipt: u16, token: Token) -> Outcome {
        self.sessions.get_mut(&session).expect("open").receipts.remove(&receipt);
        self.outcome(token)
    }

    fn subscribe(&mut self, _: Now, session: SessionId, filter: &str, qos: QoS, token: Token) -> (QoS, Outcome) {
        let outcome = self.outcome(token);
        if !matches!(outcome, Outcome::Refused(_)) {
            self.sessions.get_mut(&session).expect("open").subscriptions.insert(filter.into(), qos);
        }
        (qos, outcome)
    }

    fn unsubscribe(&mut self, _: Now, session: SessionId, filter: &str, token: Token) -> Outcome {
        self.sessions.get_mut(&session).expect("open").subscriptions.remove(filter);
        self.outcome(token)
    }

    fn next(&mut self, _: Now, session: SessionId) -> Option<Next> {
        if self.reading {
            return None;
        }
        let queue = &mut self.sessions.get_mut(&session).expect("open").queue;
        let (in_flight, next) = queue.iter_mut().find(|(in_flight, _)| !in_flight)?;
        *in_flight = true;
        Some(next.clone())
    }

    fn waiting(&self, session: SessionId) -> u64 {
        self.sessions[&session].queue.len() as u64
    }

    fn acked(&mut self, _: Now, session: SessionId, seq: Seq) {
        let queue = &mut self.sessions.get_mut(&session).expect("open").queue;
        let at = queue.iter().position(|(in_flight, next)| *in_flight && next.seq == seq).expect("in flight");
        queue.remove(at);
    }

    fn release(&mut self, now: Now, session: SessionId, seq: Seq, pkid: u16, token: Token) -> Outcome {
        let outcome = self.outcome(token);
        if !matches!(outcome, Outcome::Refused(_)) {
            self.acked(now, session, seq);
            self.sessions.get_mut(&session).expect("open").releases.push(pkid);
        }
        outcome
    }

    fn complete(&mut self, _: Now, session: SessionId, pkid: u16) {
        self.sessions.get_mut(&session).expect("open").releases.retain(|other| *other != pkid);
    }

    fn releases(&self, session: SessionId) -> Vec<u16> {
        self.sessions[&session].releases.clone()
    }

    fn rewind(&mut self, _: Now, session: SessionId) {
        for (in_flight, _) in &mut self.sessions.get_mut(&session).expect("open").queue {
            *in_flight = false;
        }
    }

    fn save_client(&mut self, _: Now, client_id: &str, record: Option<String>, token: Token) -> Outcome {
        let outcome = self.outcome(token);
        if matches!(outcome, Outcome::Refused(_)) {
            return outcome;
        }
        self.saves += 1;
        match record {
            Some(record) => self.records.insert(client_id.into(), record),
            None => self.records.remove(client_id),
        };
        outcome
    }
}
