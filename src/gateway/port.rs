//! What the gateway asks of the broker. The engine answers these calls with the broker core; tests with a fake.

use std::sync::Arc;

use crate::mqtt::{Message, QoS};
use crate::queue::{Outcome, Refusal, Seq, Token};
use crate::time::Now;

/// A session of the broker core, as the gateway sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
}

/// A session that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    pub session: SessionId,
    /// It was there before, with its subscriptions and its queue.
    pub present: bool,
}

/// The next message for a session. It stays first in line, in flight, until [`Sessions::acked`], [`Sessions::release`]
/// or [`Sessions::rewind`].
#[derive(Debug, Clone)]
pub struct Next {
    pub seq: Seq,
    pub qos: QoS,
    pub retain: bool,
    /// For QoS 2: the message id to use, the same after a restart. Otherwise 0: the gateway chooses.
    pub pkid: u16,
    pub message: Arc<Message>,
}

/// What the gateway asks of the broker, on behalf of its MQTT-SN clients.
pub trait Sessions {
    /// Opens or resumes the session of `client_id` (taking it over from any other connection). `clean` discards what
    /// was kept; a session that is not clean outlives its connection and the process. If the gateway itself has the
    /// session open, it goes on (unless `clean`, and whatever it was before) with nothing in flight: no will goes out,
    /// and nothing is told of a takeover. `user` is who the node proved to be; a session is kept for its own user only.
    fn open(&mut self, now: Now, client_id: &str, user: Option<&str>, clean: bool) -> Result<Opened, Refusal>;
    /// The connection ended, and what was in flight is not any more. The will goes out unless `will` is false; either
    /// way the session has none then. A clean session is discarded.
    fn close(&mut self, now: Now, session: SessionId, will: bool);
    /// Sets, changes or deletes the will. Settled when durable.
    fn set_will(&mut self, now: Now, session: SessionId, will: Option<Will>, token: Token) -> Outcome;
    /// Publishes; `session` is `None` for QoS -1 without a session. Settled when promise 1 holds.
    /// With `receipt`, this is QoS 2: the message id is remembered with the message (PUBREC when settled), and a
    /// repeated PUBLISH of a remembered id is not published again but answered `Done` or `Pending` all the same.
    fn publish(&mut self, now: Now, session: Option<SessionId>, publish: Publish<'_>, token: Token) -> Outcome;
    /// QoS 2 from the client, PUBREL came: forgets the id. PUBCOMP when settled. `Done` for an unknown id.
    fn forget_receipt(&mut self, now: Now, session: SessionId, receipt: u16, token: Token) -> Outcome;
    /// Subscribes; the granted QoS is at most what was asked for. SUBACK when settled. Retained messages follow as
    /// ordinary deliveries.
    fn subscribe(&mut self, now: Now, session: SessionId, filter: &str, qos: QoS, token: Token) -> (QoS, Outcome);
    /// Unsubscribes. UNSUBACK when settled.
    fn unsubscribe(&mut self, now: Now, session: SessionId, filter: &str, token: Token) -> Outcome;
    /// The next message for the session that is not in flight, and puts it in flight.
    fn next(&mut self, now: Now, session: SessionId) -> Option<Next>;
    /// How many messages wait for the session, in flight ones too.
    fn waiting(&self, session: SessionId) -> u64;
    /// The client has it (or will never want it): QoS 0 sent, QoS 1 acknowledged, or given up.
    fn acked(&mut self, now: Now, session: SessionId, seq: Seq);
    /// QoS 2 to the client, PUBREC came. PUBREL when settled. If refused, the message stays in flight; if the token
    /// comes back as not settled, [`Sessions::rewind`] follows and it is sent again.
    fn release(&mut self, now: Now, session: SessionId, seq: Seq, pkid: u16, token: Token) -> Outcome;
    /// QoS 2 to the client, PUBCOMP came.
    fn complete(&mut self, now: Now, session: SessionId, pkid: u16);
    /// QoS 2 ids of a resumed session whose PUBREL is due and may be sent at once. One whose release is still on its way
    /// to the disk is left to the next resumption.
    fn releases(&self, session: SessionId) -> Vec<u16>;
    /// What is in flight goes back to the queue, in its place.
    fn rewind(&mut self, now: Now, session: SessionId);
    /// Sets or deletes the gateway's own durable record of a client. Settled when durable.
    fn save_client(&mut self, now: Now, client_id: &str, record: Option<String>, token: Token) -> Outcome;
}

/// A PUBLISH on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    /// QoS 2: the client's message id.
    pub receipt: Option<u16>,
}
