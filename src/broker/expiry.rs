//! What time alone brings about: silent connections, wills that are due, sessions that end, retained messages that
//! expire.

use crate::broker::packets::Fault;
use crate::broker::publish::{Inbound, Origin};
use crate::broker::session::Peer;
use crate::broker::{Broker, Limit, RETAINED_SWEEP, Timer};
use crate::metrics::Level;
use crate::mqtt::{ConnId, QoS, ReasonCode};
use crate::queue::Queues;
use crate::time::{Instant, Now, earliest};

impl Broker {
    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now, queues: &mut Queues) {
        while let Some(timer) = self.timers.pop_due(now.at) {
            match timer {
                Timer::Silence(conn, epoch) => self.check_silence(now, queues, conn, epoch),
                Timer::Session(session, generation) => self.check_session(now, queues, session, generation),
                Timer::Token(conn, epoch) => self.check_token(now, queues, conn, epoch),
                Timer::Sys => self.on_sys_due(now, queues),
                Timer::Retained => {
                    for topic in self.retained.expired(now.wall) {
                        self.retained.remove(&topic);
                        queues.unretain(now, &topic);
                    }
                    self.timers.set(now.at + RETAINED_SWEEP, Timer::Retained);
                }
            }
        }
    }

    /// Has the connection's silence looked at then, or no more, and forgets what was asked for before.
    pub(crate) fn watch_silence(&mut self, id: ConnId, at: Option<Instant>) {
        let Some(conn) = self.conn_mut(id) else { return };
        let (epoch, before) = (conn.epoch, std::mem::replace(&mut conn.timer_at, at));
        if let Some(before) = before {
            self.timers.cancel(before, Timer::Silence(id, epoch));
        }
        if let Some(at) = at {
            self.timers.set(at, Timer::Silence(id, epoch));
        }
    }

    /// Has the session looked at when its will or its end is due, and forgets what was asked for before.
    pub(crate) fn watch_session(&mut self, session: u32) {
        let Some(kept) = self.session_mut(session) else { return };
        let at = earliest(kept.will_at, kept.ends_at);
        let (generation, before) = (kept.generation, std::mem::replace(&mut kept.timer_at, at));
        if let Some(before) = before {
            self.timers.cancel(before, Timer::Session(session, generation));
        }
        if let Some(at) = at {
            self.timers.set(at, Timer::Session(session, generation));
        }
    }

    /// A connection that said nothing for one and a half keep-alives is dead [MQTT-3.1.2-22]; one that did not even
    /// say CONNECT never lived.
    fn check_silence(&mut self, now: Now, queues: &mut Queues, id: ConnId, epoch: u16) {
        let Some(conn) = self.conn(id).filter(|conn| conn.epoch == epoch && !conn.closing) else { return };
        let (allowed, connected) = match (conn.session, conn.silence) {
            (None, _) => (self.connect_timeout(conn.listener), false),
            (Some(_), Some(silence)) => (silence, true),
            (Some(_), None) => return,
        };
        let due_at = conn.last_received + allowed;
        if due_at > now.at {
            self.watch_silence(id, Some(due_at));
            return;
        }
        if self.give_up_login(now, id) {
            return;
        }
        self.stats.silent += 1;
        if connected {
            self.notice(Level::Info, "client fell silent", id, "nothing heard for one and a half keep-alives");
        } else {
            self.hit(now, Limit::ConnectTimeout, id);
        }
        self.end(
            now,
            queues,
            id,
            Some(Fault::new(ReasonCode::KeepAliveTimeout, "nothing heard for one and a half keep-alives")),
            true,
        );
    }

    fn check_session(&mut self, now: Now, queues: &mut Queues, session: u32, generation: u32) {
        let Some(kept) = self.sessions.get(session as usize).filter(|kept| kept.generation == generation) else {
            return;
        };
        if kept.peer != Peer::Away {
            return;
        }
        let (will_at, ends_at) = (kept.will_at, kept.ends_at);
        if ends_at.is_some_and(|at| at <= now.at) {
            self.stats.sessions_expired += 1;
            self.end_session(now, queues, session);
            return;
        }
        if will_at.is_some_and(|at| at <= now.at) {
            self.publish_will(now, queues, session);
            self.save(now, queues, session, None);
        }
        self.watch_session(session);
    }

    /// Publishes the will of a session whose client is gone, if one is still waiting.
    pub(crate) fn publish_will(&mut self, now: Now, queues: &mut Queues, session: u32) {
        let Some(kept) = self.session_mut(session) else { return };
        if kept.peer != Peer::Away {
            return;
        }
        kept.will_at = None;
        let Some(will) = kept.will.take() else { return };
        // The rules may be others than they were at CONNECT.
        if !self.may_publish(now, session, None, &will.topic) {
            return;
        }
        let inbound = Inbound {
            topic: &will.topic,
            payload: &will.payload,
            qos: QoS::from_u8(will.qos).unwrap_or_default(),
            retain: will.retain,
            properties: &will.properties,
            expiry: will.expiry,
        };
        // It comes from the client, which may have asked for nothing of its own (no local) [MQTT-3.8.3-3].
        let origin = Origin { session: Some(session), ..Origin::default() };
        self.publish(now, queues, origin, &inbound, None, None);
    }
}
