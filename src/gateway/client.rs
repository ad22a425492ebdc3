//! One MQTT-SN client: its states (MQTT-SN 6.14) and what each of them owns.

use std::sync::Arc;

use crate::gateway::access::Entry;
use crate::gateway::acks::{Ack, Pending};
use crate::gateway::peers::Peer;
use crate::gateway::registry::Registry;
use crate::gateway::{Next, SessionId, Will};
use crate::mqtt::QoS;
use crate::mqttsn::{MsgId, Topic, TopicId};
use crate::queue::Seq;
use crate::time::{Duration, Instant, earliest};

/// Retransmission of one request: T_RETRY and N_RETRY.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) left: u8,
}

/// What the client asked for in CONNECT, to recognise the same CONNECT again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) will: bool,
    pub(super) clean: bool,
    pub(super) keepalive: u16,
}

/// How far the will handshake is (MQTT-SN 6.3).
#[derive(Debug)]
pub(super) enum WillStep {
    Topic,
    Message { topic: String, qos: QoS, retain: bool },
}

/// One message on its way to the client. Only one is, at any time.
#[derive(Debug)]
pub(super) enum Step {
    Idle,
    /// The client stopped answering; goes on with its next sign of life.
    Stalled,
    /// A new topic id is being made safe before the client is told.
    Saving {
        next: Next,
        id: TopicId,
        refused: bool,
    },
    /// REGISTER sent. `refused`: the client has refused the message once.
    Registering {
        next: Next,
        id: TopicId,
        msg_id: MsgId,
        retry: Retry,
        refused: bool,
    },
    /// PUBLISH of QoS 1 or 2 sent.
    Publishing {
        next: Next,
        topic: Topic,
        msg_id: MsgId,
        retry: Retry,
        refused: bool,
    },
    /// PUBREC came and is being made safe.
    Releasing {
        pkid: u16,
    },
    /// PUBREL sent.
    Released {
        pkid: u16,
        retry: Retry,
    },
}

/// The way out to a client that listens.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) step: Step,
    /// QoS 2 ids of earlier connections whose PUBREL is due, the next one last.
    pub(super) releases: Vec<u16>,
    /// Set when a turn's budget was used up.
    pub(super) resume_at: Option<Instant>,
}

impl Flow {
    /// `releases` in the order in which they were released.
    pub(super) fn new(mut releases: Vec<u16>) -> Self {
        releases.reverse();
        Self { step: Step::Idle, releases, resume_at: None }
    }

    pub(super) fn retry_mut(&mut self) -> Option<&mut Retry> {
        match &mut self.step {
            Step::Registering { retry, .. } | Step::Publishing { retry, .. } | Step::Released { retry, .. } => {
                Some(retry)
            }
            Step::Idle | Step::Stalled | Step::Saving { .. } | Step::Releasing { .. } => None,
        }
    }

    /// When the client should have answered.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match &self.step {
            Step::Registering { retry, .. } | Step::Publishing { retry, .. } | Step::Released { retry, .. } => {
                Some(retry.at)
            }
            Step::Idle | Step::Stalled | Step::Saving { .. } | Step::Releasing { .. } => None,
        }
    }
}

/// A client's state. "Lost" is "disconnected" with its will published.
#[derive(Debug)]
pub(super) enum State {
    /// Kept for its topic ids, as long as its session is.
    Disconnected { since: Instant },
    /// `session` is that of the connection before, until the handshake ends.
    AwaitingWill { asked: Asked, step: WillStep, retry: Retry, session: Option<SessionId> },
    /// `repeat_until`: a CONNECT like the last one is that one again.
    Active { session: SessionId, flow: Flow, asked: Asked, repeat_until: Instant },
    /// `resumed`: restored after a restart, when it may well have been active.
    Asleep { session: SessionId, until: Instant, resumed: bool },
    /// `left`: messages that this wake still delivers. `stalled_at`: it ends although not all of them came.
    Awake { session: SessionId, flow: Flow, left: u64, stalled_at: Instant },
}

impl State {
    /// Whether requests other than those of the handshake are answered.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self, Self::Active { .. } | Self::Asleep { .. } | Self::Awake { .. })
    }
}

/// One MQTT-SN client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: Arc<str>,
    /// What the configuration says of it.
    pub(super) known: Option<Entry>,
    pub(super) peer: Option<Peer>,
    /// Who it proved to be when it connected.
    pub(super) user: Option<Arc<str>>,
    pub(super) clean: bool,
    /// Seconds; 0 is none.
    pub(super) keepalive: u16,
    /// The last sleep it asked for, in seconds. Outlives the sleep, so that going to and fro writes nothing.
    pub(super) sleep: Option<u16>,
    pub(super) will: Option<Box<Will>>,
    pub(super) registry: Registry,
    pub(super) last_msg_id: u16,
    /// The QoS 1 message that was sent last, to use its message id again after a pause.
    pub(super) last_sent: Option<(Seq, MsgId)>,
    /// Requests that are answered once safe.
    pub(super) pending: Vec<Pending>,
    pub(super) heard_at: Instant,
    /// The timer that is set for it.
    pub(super) timer_at: Option<Instant>,
    /// Hash of its durable record, if it has one.
    pub(super) saved: Option<u64>,
    pub(super) state: State,
}

impl Client {
    pub(super) fn new(id: Arc<str>, known: Option<Entry>, now: Instant) -> Self {
        Self {
            id,
            known,
            peer: None,
            user: None,
            clean: true,
            keepalive: 0,
            sleep: None,
            will: None,
            registry: Registry::default(),
            last_msg_id: 0,
            last_sent: None,
            pending: Vec::new(),
            heard_at: now,
            timer_at: None,
            saved: None,
            state: State::Disconnected { since: now },
        }
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        match self.state {
            State::Disconnected { .. } => None,
            State::AwaitingWill { session, .. } => session,
            State::Active { session, .. } | State::Asleep { session, .. } | State::Awake { session, .. } => {
                Some(session)
            }
        }
    }

    /// The session and the way out, while the client listens.
    pub(super) fn flow_mut(&mut self) -> Option<(SessionId, &mut Flow)> {
        match &mut self.state {
            State::Active { session, flow, .. } | State::Awake { session, flow, .. } => Some((*session, flow)),
            State::Disconnected { .. } | State::AwaitingWill { .. } | State::Asleep { .. } => None,
        }
    }

    /// Asleep or awake.
    pub(super) fn is_sleeping(&self) -> bool {
        matches!(self.state, State::Asleep { .. } | State::Awake { .. })
    }

    /// Nothing is delivered before these answers: the client would not know the topic id yet.
    pub(super) fn holds_delivery(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.ack, Ack::Connect | Ack::Subscribe { .. }))
    }

    /// A message id for REGISTER or a QoS 1 PUBLISH; never 0.
    pub(super) fn next_msg_id(&mut self) -> MsgId {
        self.last_msg_id = self.last_msg_id.checked_add(1).unwrap_or(1);
        MsgId(self.last_msg_id)
    }

    /// When an active client is lost: keep-alive with tolerance, or the limit for clients without one.
    pub(super) fn lost_at(&self, idle_timeout: Duration) -> Instant {
        let patience = if self.keepalive == 0 { idle_timeout } else { with_tolerance(self.keepalive) };
        self.heard_at + patience
    }

    /// When its silence, or the gateway's, becomes an event.
    pub(super) fn deadline(&self, idle_timeout: Duration) -> Option<Instant> {
        match &self.state {
            State::Disconnected { .. } => None,
            State::AwaitingWill { retry, .. } => Some(retry.at),
            State::Active { flow, .. } => {
                let lost_at = Some(self.lost_at(idle_timeout));
                earliest(lost_at, earliest(flow.retry_at(), flow.resume_at))
            }
            State::Asleep { until, .. } => Some(*until),
            // While the client is to answer, its retries bound the wake; while the store is, this does.
            State::Awake { flow, stalled_at, .. } => {
                earliest(flow.retry_at().or(Some(*stalled_at)), flow.resume_at)
            }
        }
    }
}

/// Keep-alive and sleep duration as the gateway waits for them (MQTT-SN 7.2): 10 % more above a minute, 50 % below.
pub(super) fn with_tolerance(seconds: u16) -> Duration {
    let seconds = Duration::from_secs(u64::from(seconds));
    if seconds > Duration::from_secs(60) { seconds * 11 / 10 } else { seconds * 3 / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_is_a_half_up_to_a_minute_and_a_tenth_above() {
        assert_eq!(with_tolerance(60), Duration::from_secs(90));
        assert_eq!(with_tolerance(61), Duration::from_millis(67_100));
        assert_eq!(with_tolerance(u16::MAX), Duration::from_millis(72_088_500));
    }

    #[test]
    fn message_ids_are_never_zero() {
        let mut client = Client::new("a".into(), None, Instant::ZERO);
        client.last_msg_id = u16::MAX;
        assert_eq!(client.next_msg_id(), MsgId(1));
    }
}
