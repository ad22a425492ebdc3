//! CONNECT and CONNACK, MQTT 5.0 sections 3.1 and 3.2; the beginning and the end of sessions.

use crate::broker::acl::Names;
use crate::broker::connection::{Flight, FlightState};
use crate::broker::flat_map::FlatMap;
use crate::broker::packets::Fault;
use crate::broker::session::{NEVER, Peer, Session, Will};
use crate::broker::target::Target;
use crate::broker::{Broker, Limit, Output, Timer};
use crate::metrics::{Level, Notice};
use crate::mqtt::hop::{self, Gateway};
use crate::mqtt::{self, ConnAck, ConnId, Connect, Packet, PubRel, ReasonCode, Version, topic};
use crate::queue::{Outcome, Queues, RecordKind, Token};
use crate::time::{Duration, Now};

/// A client that proved no name, in words.
pub(crate) const ANONYMOUS: &str = "an anonymous client";

/// Which session is wanted, by whom, and how it shall last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub client_id: &'a str,
    /// The proved name; none: anonymous.
    pub user: Option<&'a str>,
    /// Nothing of an earlier session is wanted.
    pub clean: bool,
    pub expiry: u32,
}

/// What is said in CONNACK besides yes.
#[derive(Debug, Default)]
struct Granted {
    session_expiry: Option<u32>,
    assigned: Option<String>,
    keep_alive: Option<u16>,
    /// The client is another gateway, which is told who this is.
    gateway: Option<Gateway>,
}

impl Broker {
    /// A client comes in that has proved to be `user`, or need not be anybody.
    pub(crate) fn handle_connect(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        connect: &Connect<'_>,
        user: Option<&str>,
    ) {
        if let Err(fault) = self.admit(connect) {
            return self.refuse(now, id, fault);
        }
        self.stats.connects += 1;
        let mut granted = Granted::default();
        let client_id = if connect.client_id.is_empty() {
            let assigned = format!("moteway-{:016x}", self.rng.u64(..));
            granted.assigned = Some(assigned.clone());
            assigned
        } else {
            connect.client_id.to_owned()
        };
        let names = Names { client_id: Some(&client_id), user };
        if connect.will.as_ref().is_some_and(|will| !self.may_have_will(names, will.topic)) {
            let fault = Fault::new(ReasonCode::NotAuthorized, "the client may not publish its will");
            return self.refuse(now, id, fault);
        }
        let expiry = self.session_expiry(connect, &mut granted);
        let opening = Opening { client_id: &client_id, user, clean: connect.clean_start, expiry };
        let (session, present) = self.open_session(now, queues, opening, Peer::Conn(id));
        self.set_connection(now, queues, (id, session), connect, &mut granted);
        let gateway = hop::named(&connect.properties.user_properties);
        granted.gateway = gateway.map(|_| self.gateway().clone());
        if let Some(kept) = self.session_mut(session) {
            kept.will = connect.will.as_ref().map(|from| Box::new(will(from)));
            kept.gateway = gateway.map(|name| Box::new(Gateway::new(name)));
        }
        self.save_first(now, queues, id, session, present);
        if !self.send_connack(id, connect.version, present, &granted) {
            self.notice(Level::Info, "client refused", id, "CONNACK is larger than its maximum packet size");
            self.end(now, queues, id, None, false);
            return;
        }
        self.resume(now, queues, id, session);
    }

    /// Writes what a client has to find again once it was let in: its session and its will [MQTT-3.1.2-7], and that the
    /// session it had before is no more. CONNACK waits for the will and for the end: a power cut would lose the one and
    /// bring back the other. While the disk takes nothing there is nothing to wait for.
    fn save_first(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32, present: bool) {
        let Some(kept) = self.sessions.get(session as usize) else { return };
        let key = kept.client_id.as_bytes();
        // It may have ended when the client came the last time, and had not waited.
        let is_ending = !present && queues.is_changing(RecordKind::Session, key);
        let waits = is_ending || kept.will.is_some();
        if !waits || queues.refuses_durable(0).is_some() {
            self.save(now, queues, session, None);
            return;
        }
        let token = self.next_token(id);
        if self.save(now, queues, session, Some(token)) == Outcome::Done {
            let Some(kept) = self.sessions.get(session as usize) else { return };
            queues.delete_record(now, RecordKind::Session, kept.client_id.as_bytes(), Some(token));
        }
        if let Some(conn) = self.conn_mut(id) {
            conn.hold();
        }
        queues.hurry(now);
    }

    /// The client may not come in, and is told why.
    pub(crate) fn refuse(&mut self, now: Now, id: ConnId, fault: Fault) {
        self.stats.connections_refused += 1;
        match fault.limit {
            Some(limit) => self.hit(now, limit, id),
            None => self.notice(Level::Info, "client refused", id, fault.text),
        }
        // Before 5.0 no return code speaks of a will's topic: then there is no CONNACK [MQTT-3.2.2-6].
        let is_5 = self.conn(id).is_some_and(|conn| conn.version == Version::V5);
        if is_5 || fault.reason != ReasonCode::TopicNameInvalid {
            let mut refusal = ConnAck::refusal(fault.reason);
            refusal.properties.reason_string = Some(fault.text);
            let told = self.conn_mut(id).is_some_and(|conn| {
                // A reason string must not make it too large [MQTT-3.2.2-19].
                conn.put(&Packet::ConnAck(refusal)) || conn.put(&Packet::ConnAck(ConnAck::refusal(fault.reason)))
            });
            self.stats.control_sent += u64::from(told);
            self.flush(id);
        }
        self.close(id);
    }

    /// Whether the client may come in.
    fn admit(&self, connect: &Connect<'_>) -> Result<(), Fault> {
        let empty = connect.client_id.is_empty();
        if empty && (connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start))
        {
            return Err(Fault::new(
                ReasonCode::ClientIdentifierNotValid,
                "empty client id without clean session [MQTT-3.1.3-8]",
            ));
        }
        if connect.client_id.len() > self.limits.max_client_id_bytes {
            return Err(Fault::beyond(Limit::ClientIdBytes, ReasonCode::ClientIdentifierNotValid));
        }
        let known = self.by_client.contains_key(connect.client_id);
        if !known && self.sessions.len() >= self.limits.max_sessions {
            return Err(Fault::beyond(Limit::Sessions, ReasonCode::QuotaExceeded));
        }
        connect.will.as_ref().map_or(Ok(()), |will| self.admit_will(will))
    }

    fn admit_will(&self, will: &mqtt::Will<'_>) -> Result<(), Fault> {
        if will.topic.starts_with("$SYS/") {
            return Err(Fault::new(ReasonCode::TopicNameInvalid, "the will's topic is the broker's own"));
        }
        if let Some(limit) = self.topic_limit(will.topic) {
            return Err(Fault::beyond(limit, ReasonCode::TopicNameInvalid));
        }
        if self.has_too_many(&will.properties.user_properties) {
            return Err(Fault::beyond(Limit::UserProperties, ReasonCode::QuotaExceeded));
        }
        let mut properties = Vec::new();
        will.properties.forwarded(&mut properties);
        if will.topic.len() + will.payload.len() + properties.len() > self.limits.max_will_bytes {
            return Err(Fault::beyond(Limit::WillBytes, ReasonCode::QuotaExceeded));
        }
        Ok(())
    }

    pub(crate) fn max_session_expiry(&self) -> u32 {
        u32::try_from(self.limits.max_session_expiry.as_secs()).unwrap_or(NEVER)
    }

    fn session_expiry(&self, connect: &Connect<'_>, granted: &mut Granted) -> u32 {
        let max = self.max_session_expiry();
        if connect.version != Version::V5 {
            return if connect.clean_start { 0 } else { max };
        }
        let wanted = connect.properties.session_expiry.unwrap_or(0);
        if wanted > max {
            granted.session_expiry = Some(max);
        }
        wanted.min(max)
    }

    fn set_connection(
        &mut self,
        now: Now,
        queues: &Queues,
        (id, session): (ConnId, u32),
        connect: &Connect<'_>,
        granted: &mut Granted,
    ) {
        let max_keep_alive = u16::try_from(self.limits.max_keepalive.as_secs()).unwrap_or(u16::MAX);
        let mut keep_alive = connect.keep_alive;
        if connect.version == Version::V5 && max_keep_alive > 0 && !(1..=max_keep_alive).contains(&keep_alive) {
            keep_alive = max_keep_alive;
            granted.keep_alive = Some(keep_alive);
        }
        let own_window = self.limits.max_inflight_messages;
        let own_aliases = self.limits.max_topic_aliases_sent;
        let window = connect.properties.receive_maximum.unwrap_or(u16::MAX).min(own_window).max(1);
        if let Some(kept) = self.session_mut(session) {
            kept.set_window(queues, window);
        }
        let Some(conn) = self.conn_mut(id) else { return };
        conn.version = connect.version;
        conn.session = Some(session);
        conn.window = usize::from(window);
        conn.allow_aliases(connect.properties.topic_alias_maximum.unwrap_or(0).min(own_aliases));
        // The client is given half as much again [MQTT-3.1.2-22].
        conn.silence = (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500));
        let due_at = conn.silence.map(|silence| now.at + silence);
        self.watch_silence(id, due_at);
    }

    /// False when it is larger than the client takes.
    fn send_connack(&mut self, id: ConnId, version: Version, present: bool, granted: &Granted) -> bool {
        let mut ack = ConnAck { session_present: present, ..ConnAck::default() };
        let hop = granted.gateway.as_ref().map(|gateway| hop::property(&gateway.name));
        if version == Version::V5 {
            let properties = &mut ack.properties;
            properties.user_properties = hop.as_ref().map(|hop| hop.as_slice().into()).unwrap_or_default();
            properties.session_expiry = granted.session_expiry;
            properties.assigned_client_id = granted.assigned.as_deref();
            properties.server_keep_alive = granted.keep_alive;
            properties.receive_maximum = Some(self.limits.receive_maximum);
            properties.maximum_packet_size = self.conn(id).map(|conn| self.max_packet_bytes(conn.listener));
            properties.topic_alias_maximum = Some(self.limits.topic_alias_maximum);
        }
        let sent = self.conn_mut(id).is_some_and(|conn| conn.put(&Packet::ConnAck(ack)));
        self.flush(id);
        sent
    }

    /// Finds or makes the session of a client id and gives it to `peer`, taking it from whoever has it. True with it
    /// when it was there before and is kept. It is kept for its own user only: under another name it starts anew, so
    /// that nobody gets what waits for somebody else.
    pub(crate) fn open_session(
        &mut self,
        now: Now,
        queues: &mut Queues,
        opening: Opening<'_>,
        peer: Peer,
    ) -> (u32, bool) {
        let Opening { client_id, user, clean, expiry } = opening;
        if let Some(&session) = self.by_client.get(client_id) {
            self.take_over(now, queues, session);
        }
        // Taking over may have ended it.
        if let Some(&session) = self.by_client.get(client_id) {
            let is_own = self.sessions.get(session as usize).is_some_and(|kept| kept.user.as_deref() == user);
            if is_own && !clean {
                if let Some(kept) = self.session_mut(session) {
                    (kept.peer, kept.expiry) = (peer, expiry);
                    (kept.will_at, kept.ends_at, kept.disconnected_at) = (None, None, None);
                }
                self.watch_session(session);
                return (session, true);
            }
            if !is_own {
                self.tell_of_other_user(queues, session, user);
            }
            self.end_session(now, queues, session);
        }
        self.generation = self.generation.wrapping_add(1);
        let new = Session {
            client_id: client_id.into(),
            user: user.map(Into::into),
            peer,
            generation: self.generation,
            expiry,
            subscriptions: FlatMap::default(),
            line: None,
            window: 1,
            is_stored: false,
            will: None,
            will_at: None,
            disconnected_at: None,
            ends_at: None,
            timer_at: None,
            access: None,
            gateway: None,
        };
        let session = u32::try_from(self.sessions.insert(new)).unwrap_or(u32::MAX);
        self.by_client.insert(client_id.into(), session);
        self.grant(session);
        self.stats.sessions_peak = self.stats.sessions_peak.max(self.sessions.len());
        (session, false)
    }

    /// The session ends because somebody else came under its client id: what waits in it is counted and told.
    fn tell_of_other_user(&mut self, queues: &Queues, session: u32, user: Option<&str>) {
        let Some(kept) = self.sessions.get(session as usize) else { return };
        let waiting = kept.line.map_or(0, |dest| queues.depth(dest).messages);
        let (old, new) = (kept.user.as_deref().unwrap_or(ANONYMOUS), user.unwrap_or(ANONYMOUS));
        let detail = format!(
            "it was that of {old}, and {new} came under its client id; {waiting} waiting messages are dropped"
        );
        let notice = Notice::new(Level::Warn, "session ended for another user", &*kept.client_id, detail);
        self.stats.dropped_for_other_user += waiting;
        self.outputs.push_back(Output::Notice(notice));
    }

    /// Whoever has the session loses it [MQTT-3.1.4-3].
    fn take_over(&mut self, now: Now, queues: &mut Queues, session: u32) {
        match self.sessions.get(session as usize).map(|session| session.peer) {
            Some(Peer::Conn(old)) => {
                let why = Fault::new(ReasonCode::SessionTakenOver, "another connection has the client id");
                self.end(now, queues, old, Some(why), true);
            }
            Some(Peer::Local) => {
                self.outputs.push_back(Output::TakenOver(session));
                self.session_lost(now, queues, session, true);
            }
            Some(Peer::Away) | None => {}
        }
    }

    /// What a resumed session has in flight goes out again, in the old order [MQTT-4.4.0-1].
    fn resume(&mut self, now: Now, queues: &mut Queues, id: ConnId, session: u32) {
        let Some(dest) = self.line_of(session) else { return };
        let releases: Vec<u16> = queues.releases(dest).collect();
        for pkid in releases {
            if let Some(conn) = self.conn_mut(id)
                && conn.is_free(pkid)
            {
                conn.inflight.push_back(Flight { pkid, state: FlightState::PubComp });
            }
            let token = self.next_token(id);
            let outcome = queues.confirm_release(now, dest, pkid, token);
            self.reply_when(id, outcome, &Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)));
        }
        queues.activate(dest);
        self.pump(now, queues, session);
    }

    /// The session's client is gone. With `will`, its will goes out, now or after its delay.
    pub(crate) fn session_lost(&mut self, now: Now, queues: &mut Queues, session: u32, will: bool) {
        let Some(lost) = self.session_mut(session) else { return };
        lost.peer = Peer::Away;
        if !will {
            lost.will = None;
        }
        let durable = lost.is_durable();
        let delay = lost.will.as_ref().map(|will| Duration::from_secs(u64::from(will.delay)));
        if let Some(dest) = lost.line {
            queues.deactivate(now, dest);
        }
        if !durable {
            self.end_session(now, queues, session);
            return;
        }
        let Some(lost) = self.session_mut(session) else { return };
        lost.disconnected_at = Some(now.wall);
        lost.ends_at = lost.lifetime().map(|life| now.at + life);
        lost.will_at = delay.map(|delay| now.at + delay);
        if delay == Some(Duration::ZERO) {
            self.publish_will(now, queues, session);
        }
        self.watch_session(session);
        self.save(now, queues, session, None);
    }

    /// Deletes a session. A will that waits for its delay goes out now [MQTT-3.1.3.2.2].
    pub(crate) fn end_session(&mut self, now: Now, queues: &mut Queues, session: u32) {
        self.publish_will(now, queues, session);
        let Some(ended) = self.sessions.try_remove(session as usize) else { return };
        self.by_client.remove(&ended.client_id);
        if let Some(at) = ended.timer_at {
            self.timers.cancel(at, Timer::Session(session, ended.generation));
        }
        for filter in ended.subscriptions.keys() {
            let (group, filter) = split_share(filter);
            self.tree.remove(filter, group, Target::Session(session));
        }
        if !ended.subscriptions.is_empty() {
            self.routes.forget_all();
        }
        if let Some(dest) = ended.line {
            if queues.may_hold_shared(dest) {
                queues.leave(now, dest, ended.window);
            } else {
                self.stats.ended_with_session += queues.depth(dest).messages;
                queues.remove(now, dest);
            }
        }
        if ended.is_stored {
            queues.delete_record(now, RecordKind::Session, ended.client_id.as_bytes(), None);
        }
    }

    /// Writes the record of a session that lasts, or has a will, or deletes that of one that does no longer. Settled
    /// when durable.
    pub(crate) fn save(&mut self, now: Now, queues: &mut Queues, session: u32, token: Option<Token>) -> Outcome {
        let Some(kept) = self.session_mut(session) else { return Outcome::Done };
        let was_stored = kept.is_stored;
        // While the disk hangs, wills do not gather: as many clients as will may come and go.
        let keeps_will =
            kept.will.as_ref().is_some_and(|will| queues.refuses_durable(will.payload.len()).is_none());
        kept.is_stored = kept.is_durable() || keeps_will;
        if !kept.is_stored {
            if was_stored {
                queues.delete_record(now, RecordKind::Session, kept.client_id.as_bytes(), None);
            }
            return Outcome::Done;
        }
        match serde_json::to_vec(&kept.to_record()) {
            Ok(record) => queues.put(now, RecordKind::Session, kept.client_id.as_bytes(), &record, token),
            // A record is numbers and strings: it can always be written as JSON.
            Err(_) => Outcome::Done,
        }
    }
}

/// A filter's share group, if it has one, and the filter proper.
pub(crate) fn split_share(filter: &str) -> (Option<&str>, &str) {
    match topic::share(filter) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    }
}

fn will(will: &mqtt::Will<'_>) -> Will {
    let mut properties = Vec::new();
    will.properties.forwarded(&mut properties);
    Will {
        topic: will.topic.into(),
        payload: will.payload.into(),
        qos: will.qos.as_u8(),
        retain: will.retain,
        delay: will.properties.will_delay.unwrap_or(0),
        expiry: will.properties.message_expiry,
        properties,
    }
}
