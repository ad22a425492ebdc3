//! The bridge's border: facts and wishes, and what it asks of the queues and of the local broker. The engine answers
//! these calls with the queue core and the broker core; tests with fakes.

use std::fmt;

use crate::config::UpstreamId;
use crate::metrics::Notice;
use crate::mqtt::hop::Gateway;
use crate::mqtt::{ConnId, MessageParts};
use crate::queue::{Depth, DestId, Outcome, Peeked, Refusal, Seq, Token};
use crate::time::{Duration, Now};

/// Exactly one fact about the world. `Received`, `Flushed` and `Closed` are about the connection in use: what still
/// comes from one that [`Output::Close`] named is not passed on.
#[derive(Debug)]
pub enum Input<'a> {
    /// [`Output::Dial`] succeeded, TLS included. `login` is how we prove who we are on this connection.
    Dialed { upstream: UpstreamId, conn: ConnId, login: Login },
    /// [`Output::Dial`] failed. Each dial is answered by exactly one of these two.
    DialFailed { upstream: UpstreamId, error: String },
    /// [`Output::Probe`] was done.
    Probed { upstream: UpstreamId, answers: bool },
    /// The network of this box changed: an address or a route came.
    NetworkChanged,
    /// Bytes came from the upstream.
    Received { upstream: UpstreamId, bytes: &'a [u8] },
    /// All that the outbox held is written.
    Flushed { upstream: UpstreamId },
    /// The upstream closed, or the transport failed. Not sent in answer to [`Output::Close`].
    Closed { upstream: UpstreamId, error: Option<String> },
    /// The queue of this rule has something to send that it had not before.
    Ready { dest: DestId },
    /// What a call answered with [`Outcome::Pending`] is safe now, or will not be.
    Settled { token: Token, result: Result<(), Refusal> },
    /// The deadline passed.
    Timeout,
    /// Say goodbye to all upstreams and dial no more.
    Shutdown,
}

/// How we prove who we are, beside a certificate.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Login {
    pub password: Option<Vec<u8>>,
    /// The upstream takes the password for this long, and ends the connection then.
    pub valid_for: Option<Duration>,
}

/// Without the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "...");
        f.debug_struct("Login").field("password", &password).field("valid_for", &self.valid_for).finish()
    }
}

/// What the bridge wants done. Drained to `None` after each input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect to the endpoint at this position of the upstream's `url` list.
    Dial { upstream: UpstreamId, endpoint: usize },
    /// Look whether this endpoint answers, and say so. A dial of the same upstream ends it without an answer.
    Probe { upstream: UpstreamId, endpoint: usize },
    /// The outbox of this connection has bytes. At most once per input and upstream.
    Flush { upstream: UpstreamId, conn: ConnId },
    /// Write what the outbox of this connection still holds (for a short while), then close it.
    Close { upstream: UpstreamId, conn: ConnId },
    /// For the log.
    Notice(Notice),
}

/// Packet identifiers of QoS 2 messages are given out by the queue and start here; those below belong to the session.
pub const FIRST_FIXED_PKID: u16 = 0x8000;

/// The queues of the out-rules. A message that expired or was evicted while in flight may still be acknowledged,
/// released or buried: nothing happens then.
pub trait Outbound {
    /// The link is up: from now on [`Input::Ready`] says when the queue has something, and QoS 0 is taken in.
    fn activate(&mut self, dest: DestId);
    /// The link ended: what is in flight goes back to the queue, in its place. QoS 0 waits for no link: it is dropped.
    fn deactivate(&mut self, now: Now, dest: DestId);
    /// The oldest message that is not in flight. `None` if there is none, or if it must first be read from the disk or
    /// (QoS 2) committed: then [`Input::Ready`] follows. Expired messages are skipped and counted.
    fn peek(&mut self, now: Now, dest: DestId) -> Option<Peeked>;
    /// Puts the message that was just peeked at in flight.
    fn take(&mut self, dest: DestId, seq: Seq);
    /// A message in flight was delivered: QoS 0 written, QoS 1 acknowledged. In any order.
    fn acked(&mut self, now: Now, dest: DestId, seq: Seq);
    /// QoS 2, PUBREC came: the message is kept until PUBCOMP, but not sent again. PUBREL when settled. If it is refused, at once or when it is
    /// settled, the message is in the queue as before, and not in flight.
    fn release(&mut self, now: Now, dest: DestId, seq: Seq, pkid: u16, token: Token) -> Outcome;
    /// QoS 2, PUBCOMP came: the identifier is free. Nothing happens if it was.
    fn complete(&mut self, now: Now, dest: DestId, pkid: u16);
    /// The upstream has a new session: what it had with PUBREC and not with PUBCOMP is in the queue again, in its place.
    fn renew(&mut self, now: Now, dest: DestId);
    /// QoS 2 identifiers whose PUBREL is due and which are durable, so that it may be sent at once, in the order of their
    /// release.
    fn safe_releases(&self, dest: DestId) -> Vec<u16>;
    /// What is in flight goes back to the queue, in its place.
    fn rewind(&mut self, dest: DestId);
    /// Moves a message, in flight or not, to the dead letters.
    fn bury(&mut self, now: Now, dest: DestId, seq: Seq, reason: &str);
    /// How full the queue is.
    fn depth(&self, dest: DestId) -> Depth;
}

/// The local broker, as an upstream's messages see it.
pub trait Local {
    /// Publishes. Acknowledged upstream when settled. With `receipt`, this is QoS 2: the identifier is remembered with
    /// the message, and a message with a remembered identifier is not published again, but answered all the same.
    fn publish(
        &mut self,
        now: Now,
        upstream: UpstreamId,
        parts: MessageParts<'_>,
        receipt: Option<u16>,
        token: Token,
    ) -> Outcome;
    /// QoS 2, PUBREL came: forgets the identifier. PUBCOMP when settled. `Done` for an unknown one.
    fn forget_receipt(&mut self, now: Now, upstream: UpstreamId, receipt: u16, token: Token) -> Outcome;
    /// The upstream forgot the session: all its identifiers mean nothing any more. What is published after this call
    /// is stored after it.
    fn forget_receipts(&mut self, now: Now, upstream: UpstreamId);
    /// The upstream's session under this client id is ours from now on. The queues give out no QoS 2 until that is
    /// durable: after a power cut the session would be discarded as somebody else's, and what is in flight sent again.
    fn own_session(&mut self, now: Now, upstream: UpstreamId, client_id: &str);
    /// The upstream is this gateway, or none.
    fn met(&mut self, now: Now, upstream: UpstreamId, peer: Option<&Gateway>);
    /// The link came up or went down. For the retained local link state.
    fn status(&mut self, now: Now, upstream: UpstreamId, up: bool, detail: &str);
}
