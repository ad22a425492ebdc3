//! CONNECT and the end of connections (MQTT-SN 6.2, 6.12): who has which session at which address.

use crate::gateway::acks::{Ack, code_of};
use crate::gateway::client::{Asked, Flow, State, WillStep};
use crate::gateway::clients::Slot;
use crate::gateway::peers::PeerRef;
use crate::gateway::registry::Registry;
use crate::gateway::{Cx, Gateway, SessionId, Will};
use crate::metrics::{Level, Notice};
use crate::mqttsn::{ConnAck, Connect, Disconnect, Message, PROTOCOL_ID, ReturnCode};
use crate::queue::Outcome;

/// The standard says 23; what works elsewhere works here.
const MAX_CLIENT_ID_BYTES: usize = 128;

/// What a connection does to the will.
#[derive(Debug)]
pub(super) enum WillChange {
    /// It was not asked for: the one of the session stays.
    Keep,
    Set(Will),
    Delete,
}

impl Gateway {
    pub(super) fn on_connect(&mut self, cx: &mut Cx<'_>, peer: PeerRef<'_>, connect: Connect<'_>) {
        let id = connect.client_id;
        if connect.protocol_id != PROTOCOL_ID || id.is_empty() || id.len() > MAX_CLIENT_ID_BYTES {
            return self.refuse_connect(peer, ReturnCode::NOT_SUPPORTED);
        }
        if let Some(why) = self.forbids(peer, id) {
            self.stats.forbidden += 1;
            self.radio.notice(Notice::new(Level::Warn, "MQTT-SN client refused", id, why));
            return self.refuse_connect(peer, ReturnCode::NOT_SUPPORTED);
        }
        let asked = Asked { will: connect.will, clean: connect.clean_session, keepalive: connect.duration };
        let slot = match self.clients.by_id(id) {
            Some(slot) => {
                if !self.is_owner(slot, peer) {
                    self.stats.foreign += 1;
                    let detail = "it belongs to another identity than the one that was proved";
                    self.notice(Level::Warn, "MQTT-SN client refused", slot, detail);
                    return self.refuse_connect(peer, ReturnCode::NOT_SUPPORTED);
                }
                if self.is_repeated(cx, slot, peer, asked) {
                    self.on_heard(cx, slot);
                    self.repeat_connect(slot);
                    return self.arm(slot);
                }
                slot
            }
            None => match self.make_room(cx) {
                true => self.clients.insert(id, self.known.find(id), cx.now.at),
                false => {
                    let detail = "limit max_clients reached";
                    self.radio.notice(Notice::new(Level::Warn, "MQTT-SN client refused", id, detail));
                    return self.refuse_connect(peer, ReturnCode::CONGESTION);
                }
            },
        };
        self.bind(cx, slot, peer);
        let user = self.identities.of(peer).cloned();
        let same_user = self.clients[slot].user == user;
        self.clients[slot].user = user;
        self.clients[slot].heard_at = cx.now.at;
        // From sleep it is no new connection unless it says so: what waited for it is delivered.
        if self.clients[slot].is_sleeping() && !asked.clean && same_user {
            self.return_from_sleep(cx, slot, asked);
        } else {
            self.start_connection(cx, slot, asked);
        }
        self.arm(slot);
    }

    fn refuse_connect(&mut self, peer: PeerRef<'_>, code: ReturnCode) {
        self.stats.connects_refused += 1;
        self.count_refusal(code);
        self.radio.send(peer, &Message::ConnAck(ConnAck { code }));
    }

    /// Whether there is room for one more client, if need be by forgetting the one that is away for the longest.
    /// All that a disconnected client loses with it are topic ids, which are agreed on again.
    fn make_room(&mut self, cx: &mut Cx<'_>) -> bool {
        if !self.clients.is_full() {
            return true;
        }
        let Some(oldest) = self.clients.oldest_disconnected() else { return false };
        self.forget_record(cx, oldest);
        self.clients.remove(oldest);
        !self.clients.is_full()
    }

    /// A CONNECT that came again because its answer was lost: the same, from the same address, in the retry window.
    fn is_repeated(&self, cx: &Cx<'_>, slot: Slot, peer: PeerRef<'_>, asked: Asked) -> bool {
        let client = &self.clients[slot];
        if client.peer.as_ref().is_none_or(|bound| bound.as_ref() != peer) {
            return false;
        }
        match &client.state {
            State::AwaitingWill { asked: before, .. } => *before == asked,
            State::Active { asked: before, repeat_until, .. } => *before == asked && cx.now.at < *repeat_until,
            State::Disconnected { .. } | State::Asleep { .. } | State::Awake { .. } => false,
        }
    }

    fn repeat_connect(&mut self, slot: Slot) {
        self.stats.duplicates += 1;
        match self.clients[slot].state {
            State::AwaitingWill { .. } => self.ask_for_will(slot),
            _ if self.is_pending(slot, |ack| ack == Ack::Connect) => {}
            _ => self.reply(slot, &Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED })),
        }
    }

    /// Gives the address to the client, and takes it from who had it. That one's timers go on: it may be elsewhere.
    pub(super) fn bind(&mut self, cx: &mut Cx<'_>, slot: Slot, peer: PeerRef<'_>) {
        let asleep = self.clients[slot].is_sleeping();
        let unbound = self.clients.bind(slot, peer);
        if let Some(other) = unbound.client {
            self.save_unwaited(cx, other);
        }
        let Some(old) = unbound.peer else { return };
        self.stats.address_changes += 1;
        if !asleep {
            self.radio.send(old.as_ref(), &Message::Disconnect(Disconnect { duration: None }));
        }
    }

    fn start_connection(&mut self, cx: &mut Cx<'_>, slot: Slot, asked: Asked) {
        self.clients[slot].pending.clear();
        if !asked.will {
            return self.open_session(cx, slot, asked, WillChange::Keep);
        }
        self.pause_flow(cx, slot);
        let (retry, session) = (self.retry(cx), self.clients[slot].session());
        let state = State::AwaitingWill { asked, step: WillStep::Topic, retry, session };
        self.clients.set_state(slot, state);
        self.ask_for_will(slot);
    }

    /// All of the will is known: the client gets its session, and CONNACK once the will is safe.
    pub(super) fn open_session(&mut self, cx: &mut Cx<'_>, slot: Slot, asked: Asked, will: WillChange) {
        self.pause_flow(cx, slot);
        let client = &self.clients[slot];
        let opened = match cx.sessions.open(cx.now, &client.id, client.user.as_deref(), asked.clean) {
            Ok(opened) => opened.session,
            Err(refusal) => {
                if let Some(peer) = self.clients.unbind(slot) {
                    self.refuse_connect(peer.as_ref(), code_of(refusal));
                }
                return self.end_session(cx, slot, true);
            }
        };
        self.begin_active(cx, slot, opened, asked);
        let client = &mut self.clients[slot];
        client.clean = asked.clean;
        client.sleep = None;
        client.last_sent = None;
        if asked.clean {
            client.registry = Registry::default();
        } else {
            client.registry.doubt_all();
        }
        let change = match will {
            WillChange::Set(will) => Some(Some(will)),
            WillChange::Delete => Some(None),
            WillChange::Keep if asked.clean => None,
            WillChange::Keep => client.will.take().map(|will| Some(*will)),
        };
        client.will = change.clone().flatten().map(Box::new);
        let token = self.token(slot);
        let set = match change {
            Some(will) => cx.sessions.set_will(cx.now, opened, will, token),
            None => Outcome::Done,
        };
        // CONNACK promises nothing about the record: without it the client connects again.
        self.save_unwaited(cx, slot);
        self.conclude(cx, slot, token, Ack::Connect, &[set]);
    }

    /// The client listens from now on.
    pub(super) fn begin_active(&mut self, cx: &mut Cx<'_>, slot: Slot, session: SessionId, asked: Asked) {
        self.clients[slot].keepalive = asked.keepalive;
        let flow = Flow::new(cx.sessions.releases(session));
        let repeat_until = cx.now.at + self.config.retry_interval;
        self.clients.set_state(slot, State::Active { session, flow, asked, repeat_until });
    }

    /// DISCONNECT, MQTT-SN 6.12, and with a duration 6.14.
    pub(super) fn on_disconnect(&mut self, cx: &mut Cx<'_>, slot: Slot, duration: Option<u16>) {
        match duration {
            Some(seconds) if seconds > 0 && self.clients[slot].state.is_connected() => {
                self.fall_asleep(cx, slot, seconds);
            }
            _ => {
                self.reply(slot, &Message::Disconnect(Disconnect { duration: None }));
                self.end_session(cx, slot, false);
            }
        }
    }

    /// The connection is over; the will goes out if `will`. What outlives it stays: nothing, or the topic ids.
    pub(super) fn end_session(&mut self, cx: &mut Cx<'_>, slot: Slot, will: bool) {
        if let Some(session) = self.clients[slot].session() {
            cx.sessions.close(cx.now, session, will);
        }
        self.clients.unbind(slot);
        self.clients[slot].pending.clear();
        self.clients.set_state(slot, State::Disconnected { since: cx.now.at });
        self.save_unwaited(cx, slot);
        if self.clients[slot].clean {
            self.clients.remove(slot);
        }
    }

    /// Keep-alive or sleep ran out (MQTT-SN 6.11, 6.14).
    pub(super) fn lose(&mut self, cx: &mut Cx<'_>, slot: Slot, detail: &str) {
        self.stats.clients_lost += 1;
        self.notice(Level::Info, "MQTT-SN client lost", slot, detail);
        self.end_session(cx, slot, true);
    }

    /// An operator ends the connection: the client is told, unless it sleeps, and may come again.
    pub(super) fn on_kick(&mut self, cx: &mut Cx<'_>, client_id: &str) {
        let Some(slot) = self.clients.by_id(client_id) else { return };
        self.notice(Level::Info, "MQTT-SN client sent away", slot, "by an operator");
        if !self.clients[slot].is_sleeping() {
            self.reply(slot, &Message::Disconnect(Disconnect { duration: None }));
        }
        self.end_session(cx, slot, true);
    }

    /// The client id connected by other means: here it is forgotten, with its topic ids.
    pub(super) fn on_taken_over(&mut self, cx: &mut Cx<'_>, session: SessionId) {
        let Some(slot) = self.clients.by_session(session) else { return };
        self.stats.taken_over += 1;
        self.notice(Level::Info, "MQTT-SN session taken over", slot, "the client id connected by other means");
        if !self.clients[slot].is_sleeping() {
            self.reply(slot, &Message::Disconnect(Disconnect { duration: None }));
        }
        self.forget_record(cx, slot);
        self.clients.remove(slot);
    }
}
