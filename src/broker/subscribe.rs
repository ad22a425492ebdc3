//! SUBSCRIBE and UNSUBSCRIBE, MQTT 5.0 sections 3.8 to 3.11.

use std::sync::Arc;

use crate::broker::connect::split_share;
use crate::broker::packets::Fault;
use crate::broker::session::{Peer, Session};
use crate::broker::target::{Options, Target};
use crate::broker::{Broker, Limit};
use crate::mqtt::{
    ConnId, Message, Packet, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
    topic,
};
use crate::queue::{Delivery, Outcome, Queues, Token};
use crate::time::Now;

impl Broker {
    pub(crate) fn handle_subscribe(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Fault> {
        let version = self.conn(id).map_or(Version::V311, |conn| conn.version);
        let subscription_id = subscribe.properties.subscription_id.unwrap_or(0);
        let mut codes = Vec::new();
        let mut retained = Vec::new();
        for wanted in subscribe.filters {
            let options = Options {
                qos: wanted.options.qos,
                no_local: wanted.options.no_local,
                retain_as_published: wanted.options.retain_as_published,
                id: subscription_id,
            };
            match self.subscribe(now, session, wanted.filter, options) {
                Ok(is_new) => {
                    codes.push(options.qos.as_u8());
                    let send = match wanted.options.retain_handling {
                        RetainHandling::SendAtSubscribe => true,
                        RetainHandling::SendIfNew => is_new,
                        RetainHandling::DoNotSend => false,
                    };
                    if send {
                        retained.push((wanted.filter, options));
                    }
                }
                // 3.1.1 knows one code for no [MQTT-3.8.4-5].
                Err(reason) => codes.push(if version == Version::V5 { reason.as_u8() } else { 0x80 }),
            }
        }
        let token = self.next_token(id);
        let outcome = self.save_filters(now, queues, session, token);
        let ack = SubAck { pkid: subscribe.pkid, properties: Default::default(), codes: &codes };
        self.reply_when(id, outcome, &Packet::SubAck(ack));
        for (filter, options) in retained {
            self.send_retained(now, queues, session, filter, options);
        }
        Ok(())
    }

    pub(crate) fn handle_unsubscribe(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        session: u32,
        unsubscribe: &Unsubscribe<'_>,
    ) {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters {
            let was_there = self.unsubscribe(session, filter);
            let code = if was_there { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
            codes.push(code.as_u8());
        }
        let token = self.next_token(id);
        let outcome = self.save_filters(now, queues, session, token);
        let ack = UnsubAck { pkid: unsubscribe.pkid, properties: Default::default(), codes: &codes };
        self.reply_when(id, outcome, &Packet::UnsubAck(ack));
    }

    /// Makes the subscriptions of a session safe that outlasts its connection.
    pub(crate) fn save_filters(&mut self, now: Now, queues: &mut Queues, session: u32, token: Token) -> Outcome {
        let lasts = self.sessions.get(session as usize).is_some_and(Session::is_durable);
        if lasts { self.save(now, queues, session, Some(token)) } else { Outcome::Done }
    }

    /// Adds a subscription or replaces its options. True when it is new.
    pub(crate) fn subscribe(
        &mut self,
        now: Now,
        session: u32,
        filter: &str,
        options: Options,
    ) -> Result<bool, ReasonCode> {
        let (group, plain) = split_share(filter);
        let too_long = (filter.len() > self.limits.max_topic_bytes).then_some(Limit::TopicBytes);
        if let Some(limit) = too_long.or_else(|| self.topic_limit(plain)) {
            self.hit_from(now, limit, session);
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if !self.may_subscribe(now, session, filter) {
            return Err(ReasonCode::NotAuthorized);
        }
        let max = self.limits.max_subscriptions_per_client;
        let Some(kept) = self.session_mut(session) else { return Err(ReasonCode::UnspecifiedError) };
        if kept.subscriptions.len() >= max && !kept.subscriptions.contains_key(filter) {
            self.hit_from(now, Limit::Subscriptions, session);
            return Err(ReasonCode::QuotaExceeded);
        }
        kept.subscriptions.insert(filter.into(), options);
        self.routes.forget_all();
        Ok(self.tree.insert(plain, group, Target::Session(session), options))
    }

    /// Removes a subscription. True when it was there.
    pub(crate) fn unsubscribe(&mut self, session: u32, filter: &str) -> bool {
        let Some(kept) = self.session_mut(session) else { return false };
        if kept.subscriptions.remove(filter).is_none() {
            return false;
        }
        let (group, plain) = split_share(filter);
        self.tree.remove(plain, group, Target::Session(session));
        self.routes.forget_all();
        true
    }

    /// Sends the retained messages that a new subscription asks for; none for a shared one [MQTT-4.8.2].
    pub(crate) fn send_retained(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        filter: &str,
        options: Options,
    ) {
        if topic::share(filter).is_some() {
            return;
        }
        for message in self.retained.matching(filter, now.wall) {
            self.send_one_retained(now, queues, session, &message, options);
        }
        self.send_sys_topics(now, queues, session, filter, options);
    }

    pub(crate) fn send_one_retained(
        &mut self,
        now: Now,
        queues: &mut Queues,
        session: u32,
        message: &Arc<Message>,
        options: Options,
    ) {
        let subscription_ids = if options.id == 0 { Box::default() } else { Box::from([options.id]) };
        let qos = message.qos.min(options.qos);
        if self.sessions.get(session as usize).is_none_or(|session| session.peer == Peer::Away) {
            return;
        }
        if !self.may_read(session, message.topic()) {
            self.stats.delivery_denied += 1;
            return;
        }
        let Some(dest) = self.line(queues, now, session) else { return };
        if qos > QoS::AtMostOnce && queues.refuses(dest, message.cost()).is_some() {
            queues.count_refused(dest);
            return;
        }
        let mut admission = queues.begin(None);
        let delivery = Delivery { qos, retain: true, subscription_ids, ..Delivery::default() };
        queues.push(now, &mut admission, dest, delivery, message);
        queues.finish(admission);
    }
}
