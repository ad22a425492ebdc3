//! Where the broker asks: at each publish, subscription and delivery.

use crate::broker::acl::{Access, Acl, Action, Names};
use crate::broker::connect::ANONYMOUS;
use crate::broker::routes::Route;
use crate::broker::{Broker, Output};
use crate::metrics::{Level, Notice};
use crate::mqtt::QoS;
use crate::queue::{DestId, Peeked, Queues};
use crate::time::Now;

impl Broker {
    /// Puts other rules in force, for sessions with and without their clients. Subscriptions stay: those that are no
    /// longer allowed get only what may be read, and what waits in queues is asked about again.
    pub fn set_acl(&mut self, queues: &Queues, acl: Option<Acl>) {
        self.acl = acl.map(Box::new);
        self.recheck_up_to = queues.last_seq();
        self.routes.forget_all();
        let sessions: Vec<usize> = self.sessions.iter().map(|(session, _)| session).collect();
        for session in sessions.into_iter().filter_map(|session| u32::try_from(session).ok()) {
            self.grant(session);
        }
    }

    /// Gives a session what it has of the rules. Its client id and its user must be set.
    pub(crate) fn grant(&mut self, session: u32) {
        let Some(kept) = self.sessions.get_mut(session as usize) else { return };
        let access = self.acl.as_deref_mut().map(|acl| Box::new(acl.access(kept.names())));
        kept.access = access;
    }

    /// Whether a client of this name may have a will for the topic. Asked before it has a session.
    pub(crate) fn may_have_will(&mut self, names: Names<'_>, topic: &str) -> bool {
        let Some(acl) = self.acl.as_deref() else { return true };
        let allowed = acl.allows(&acl.rules_for(names), names, Action::Publish, topic);
        self.stats.publish_denied += u64::from(!allowed);
        allowed
    }

    /// Whether the session may publish to the topic; counted and told if not. The answer is remembered for a route.
    pub(crate) fn may_publish(&mut self, now: Now, session: u32, route: Option<&Route>, topic: &str) -> bool {
        let Some(acl) = self.acl.as_deref_mut() else { return true };
        let Some(kept) = self.sessions.get(session as usize) else { return false };
        let Some(access) = kept.access.as_deref() else { return false };
        let key = route.map(|route| (kept.generation, route.number));
        let allowed = match key.and_then(|key| acl.known.get(&key)) {
            Some(allowed) => *allowed,
            None => {
                let allowed = acl.allows(&access.rules, kept.names(), Action::Publish, topic);
                if let Some(key) = key {
                    acl.remember(key, allowed);
                }
                allowed
            }
        };
        if !allowed {
            self.denied(now, session, Action::Publish, topic);
        }
        allowed
    }

    /// Whether a node that never connects may publish to the topic: what everyone may.
    pub(crate) fn may_nobody_publish(&mut self, now: Now, topic: &str) -> bool {
        let Some(acl) = self.acl.as_deref_mut() else { return true };
        let allowed = acl.allows(&acl.nobody.rules, Names::default(), Action::Publish, topic);
        if !allowed {
            self.stats.publish_denied += 1;
            if acl.nobody.tell(now.at, Action::Publish) {
                self.tell(Action::Publish, "a node without connection".to_owned(), topic);
            }
        }
        allowed
    }

    /// Whether the session may subscribe to the filter; counted and told if not.
    pub(crate) fn may_subscribe(&mut self, now: Now, session: u32, filter: &str) -> bool {
        let allowed =
            self.asks(session, |acl, access, names| acl.allows(&access.rules, names, Action::Subscribe, filter));
        if !allowed {
            self.denied(now, session, Action::Subscribe, filter);
        }
        allowed
    }

    /// Whether the session may be given messages of the topic.
    pub(crate) fn may_read(&self, session: u32, topic: &str) -> bool {
        self.asks(session, |acl, access, names| acl.allows(&access.rules, names, Action::Read, topic))
    }

    fn asks(&self, session: u32, ask: impl Fn(&Acl, &Access, Names<'_>) -> bool) -> bool {
        let Some(acl) = self.acl.as_deref() else { return true };
        let Some(kept) = self.sessions.get(session as usize) else { return false };
        kept.access.as_deref().is_some_and(|access| ask(acl, access, kept.names()))
    }

    /// The next message that waits for the session. Those that it may not read any more, since the rules changed while
    /// they waited, are dropped, counted and told.
    pub(crate) fn next_readable(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        dest: DestId,
    ) -> Option<Peeked> {
        loop {
            let next = queues.peek(now, dest)?;
            // A message that was sent with QoS 2 must be finished, or its identifier would stay in use.
            let is_begun = next.sent_before && next.qos == QoS::ExactlyOnce;
            if next.seq > self.recheck_up_to || is_begun || self.may_read(session, next.message.topic()) {
                return Some(next);
            }
            queues.withhold(now, dest, next.seq);
            self.denied(now, session, Action::Read, next.message.topic());
        }
    }

    fn denied(&mut self, now: Now, session: u32, action: Action, topic: &str) {
        *match action {
            Action::Publish => &mut self.stats.publish_denied,
            Action::Subscribe => &mut self.stats.subscribe_denied,
            Action::Read => &mut self.stats.delivery_denied,
        } += 1;
        let Some(kept) = self.sessions.get_mut(session as usize) else { return };
        if kept.access.as_deref_mut().is_some_and(|access| access.tell(now.at, action)) {
            let user = kept.user.as_deref().unwrap_or(ANONYMOUS);
            let who = format!("{} ({user})", kept.client_id);
            self.tell(action, who, topic);
        }
    }

    fn tell(&mut self, action: Action, who: String, topic: &str) {
        let what = match action {
            Action::Publish => "publish not allowed",
            Action::Subscribe => "subscription not allowed",
            Action::Read => "waiting message not allowed any more",
        };
        let detail = format!("{topic:?}; `moteway route` says why");
        self.outputs.push_back(Output::Notice(Notice::new(Level::Warn, what, who, detail)));
    }
}
