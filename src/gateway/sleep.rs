//! Sleep (MQTT-SN 6.14), keep-alive (6.11), and what any sign of life means.

use crate::gateway::acks::{Ack, code_of};
use crate::gateway::client::{Asked, Flow, State, Step, with_tolerance};
use crate::gateway::clients::Slot;
use crate::gateway::peers::PeerRef;
use crate::gateway::{Cx, Gateway};
use crate::mqttsn::{ConnAck, Message, ReturnCode};

impl Gateway {
    /// DISCONNECT with a duration: from now on everything waits.
    pub(super) fn fall_asleep(&mut self, cx: &mut Cx<'_>, slot: Slot, seconds: u16) {
        self.pause_flow(cx, slot);
        let Some(session) = self.clients[slot].session() else { return };
        self.clients[slot].sleep = Some(seconds);
        let until = cx.now.at + with_tolerance(seconds);
        self.clients.set_state(slot, State::Asleep { session, until, resumed: false });
        let token = self.token(slot);
        let saved = self.save(cx, slot, token);
        if !self.is_pending(slot, |ack| ack == Ack::Sleep) {
            self.conclude(cx, slot, token, Ack::Sleep, &[saved]);
        }
    }

    /// PINGREQ with a client id: a sleeper wakes up, perhaps at another address (NAT, NB-IoT).
    pub(super) fn on_wake(&mut self, cx: &mut Cx<'_>, peer: PeerRef<'_>, client_id: &str) {
        let Some(slot) = self.clients.by_id(client_id) else { return self.on_stranger(cx.now.at, peer) };
        let client = &self.clients[slot];
        let bound = client.peer.as_ref();
        let at_home = bound.is_some_and(|bound| bound.as_ref() == peer);
        let may_move = client.is_sleeping()
            && self.config.wake_from_new_address
            && bound.is_none_or(|bound| self.radio.same_class(bound.link, peer.link));
        if !self.is_owner(slot, peer) || (!at_home && (!may_move || self.forbids(peer, client_id).is_some())) {
            return self.on_stranger(cx.now.at, peer);
        }
        if !at_home {
            self.bind(cx, slot, peer);
            self.save_unwaited(cx, slot);
        }
        self.on_heard(cx, slot);
        self.on_ping(cx, slot);
        self.arm(slot);
    }

    pub(super) fn on_ping(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        match &self.clients[slot].state {
            State::Active { .. } => self.reply(slot, &Message::PingResp),
            State::Asleep { .. } => self.wake(cx, slot),
            // It missed something, perhaps the message in flight.
            State::Awake { .. } => {
                self.stats.duplicates += 1;
                self.retransmit(slot);
                self.pump(cx, slot);
            }
            State::Disconnected { .. } | State::AwaitingWill { .. } => self.stats.unexpected += 1,
        }
    }

    /// Delivers what waits by now; what comes meanwhile waits for the next time, or the client would never sleep.
    fn wake(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let Some(session) = self.clients[slot].session() else { return };
        let flow = Flow::new(cx.sessions.releases(session));
        let left = cx.sessions.waiting(session);
        let stalled_at = cx.now.at + self.config.retry_interval;
        self.clients.set_state(slot, State::Awake { session, flow, left, stalled_at });
        self.pump(cx, slot);
    }

    /// Every delivery of this wake is settled, or put off: PINGRESP sends the client to sleep.
    pub(super) fn finish_wake(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        self.pause_flow(cx, slot);
        let client = &self.clients[slot];
        let Some(session) = client.session() else { return };
        let until = cx.now.at + with_tolerance(client.sleep.unwrap_or(client.keepalive));
        self.clients.set_state(slot, State::Asleep { session, until, resumed: false });
        self.reply(slot, &Message::PingResp);
    }

    /// CONNECT of a sleeper that keeps its session: only its state changes; Will is not asked for again.
    pub(super) fn return_from_sleep(&mut self, cx: &mut Cx<'_>, slot: Slot, asked: Asked) {
        self.pause_flow(cx, slot);
        let Some(mut session) = self.clients[slot].session() else { return };
        if self.clients[slot].clean {
            // From now on it is to outlive the connection.
            let client = &self.clients[slot];
            match cx.sessions.open(cx.now, &client.id, client.user.as_deref(), false) {
                Ok(opened) => session = opened.session,
                Err(refusal) => return self.refuse_return(slot, code_of(refusal)),
            }
            self.clients[slot].clean = false;
        }
        self.begin_active(cx, slot, session, asked);
        self.save_unwaited(cx, slot);
        self.reply(slot, &Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED }));
        self.pump(cx, slot);
    }

    fn refuse_return(&mut self, slot: Slot, code: ReturnCode) {
        self.stats.connects_refused += 1;
        self.count_refusal(code);
        self.reply(slot, &Message::ConnAck(ConnAck { code }));
    }

    /// Any message shows that the client lives and listens.
    pub(super) fn on_heard(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let client = &mut self.clients[slot];
        client.heard_at = cx.now.at;
        if let State::Active { session, flow, .. } = &mut client.state
            && matches!(flow.step, Step::Stalled)
        {
            *flow = Flow::new(cx.sessions.releases(*session));
            flow.resume_at = Some(cx.now.at);
        }
    }

    /// A client that was recorded as asleep talks as an active one: it was that when the gateway stopped.
    pub(super) fn on_talk(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let client = &self.clients[slot];
        let State::Asleep { session, resumed: true, .. } = client.state else { return };
        let asked = Asked { will: false, clean: client.clean, keepalive: client.keepalive };
        self.begin_active(cx, slot, session, asked);
        self.pump_later(cx, slot);
    }

    /// The client's own deadline: what that means depends on what it should have done.
    pub(super) fn on_deadline(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let client = &self.clients[slot];
        match &client.state {
            State::Disconnected { .. } => {}
            State::AwaitingWill { .. } => self.on_handshake_deadline(cx, slot),
            State::Active { .. } if client.lost_at(self.config.idle_timeout) <= cx.now.at => {
                self.lose(cx, slot, "nothing heard within its keep-alive");
            }
            State::Asleep { .. } => self.lose(cx, slot, "did not wake up in time"),
            State::Awake { flow, stalled_at, .. }
                if flow.retry_at().is_none() && flow.resume_at.is_none() && *stalled_at <= cx.now.at =>
            {
                self.finish_wake(cx, slot);
            }
            State::Active { .. } | State::Awake { .. } => self.on_flow_deadline(cx, slot),
        }
    }
}
