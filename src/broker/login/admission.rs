//! From CONNECT to a session: who is asked, who waits, who is let in and who is turned away.

use crate::broker::connection::Connection;
use crate::broker::login::secret::Secret;
use crate::broker::login::throttle::Origin;
use crate::broker::login::token::CLOCK_BEGINS;
use crate::broker::login::{
    BAD_PASSWORD, Check, Claim, Credentials, Door, Guest, Identity, Intake, Kind, Proof, Refusal, Running, Verdict,
    certificate,
};
use crate::broker::packets::Fault;
use crate::broker::{Broker, Output, Timer};
use crate::metrics::{Level, Notice};
use crate::mqtt::{ConnAck, ConnId, Connect, Packet, ReasonCode, frame};
use crate::queue::Queues;
use crate::time::{Duration, Now, Wall};

/// How often at the least the end of a token is held against the wall clock, which may be set at any time.
const TOKEN_LOOK: Duration = Duration::from_secs(60);
/// Characters of a user's name in the log.
const SHOWN_CHARS: usize = 64;

impl Broker {
    /// From now on log-ins are checked against these. Who is in stays in.
    pub fn handle_credentials(&mut self, credentials: Credentials) {
        self.logins.replace(credentials);
    }

    /// The client showed this certificate (DER) in its handshake, right before it was accepted.
    pub fn handle_certificate(&mut self, id: ConnId, der: &[u8]) {
        let Some(which) = self.door(id).and_then(|door| door.certificate) else { return };
        let name = certificate::name(der, which);
        if let Some(conn) = self.conn_mut(id) {
            conn.guest.get_or_insert_default().certificate = Some(name);
        }
    }

    /// How the connection's next bytes are to be treated.
    #[must_use]
    pub fn intake(&self, id: ConnId) -> Intake {
        match self.conn(id) {
            Some(conn) if conn.is_waiting() => Intake::Paused,
            Some(conn) if conn.session.is_none() => Intake::Secret,
            _ => Intake::Open,
        }
    }

    fn door(&self, id: ConnId) -> Option<&Door> {
        let listener = self.conn(id)?.listener;
        self.listeners.get(usize::from(listener.0)).map(|listener| &listener.door)
    }

    /// A CONNECT came, or its turn. `raw` are its bytes.
    pub(in crate::broker) fn handle_login(
        &mut self,
        now: Now,
        queues: &mut Queues,
        id: ConnId,
        raw: &[u8],
        connect: &Connect<'_>,
    ) {
        if let Some(conn) = self.conn_mut(id) {
            conn.max_packet = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
            conn.wants_reasons = connect.properties.request_problem_information.unwrap_or(true);
        }
        if connect.properties.authentication_method.is_some() {
            let text = "enhanced authentication is not supported";
            return self.refuse(now, id, Fault::new(ReasonCode::BadAuthenticationMethod, text));
        }
        let Some(conn) = self.conn(id) else { return };
        let origin = Origin::from(conn.peer);
        let Some(door) = self.door(id) else { return };
        match self.logins.judge(now, door, origin, conn.guest.as_deref(), connect) {
            Verdict::In(identity) => self.let_in(now, queues, id, connect, identity),
            Verdict::Out(refusal) => self.turn_away(now, id, connect.username, refusal),
            Verdict::Ask(kind, claim) => {
                self.warn_of_the_clock(now, id, &kind);
                let logins = &mut self.logins;
                let is_free = logins.running.is_none();
                let is_full = logins.waiting.len() >= logins.max_waiting
                    || logins.waiting_bytes + raw.len() > logins.max_waiting_bytes;
                if !is_free && is_full {
                    return self.turn_away(now, id, connect.username, Refusal::Busy);
                }
                let Some(conn) = self.conn_mut(id) else { return };
                conn.guest.get_or_insert_default().connect = Some(Secret::copy_of(raw));
                let epoch = conn.epoch;
                if is_free {
                    self.ask(id, epoch, origin, kind, claim);
                } else {
                    self.logins.waiting.push_back((id, epoch));
                    self.logins.waiting_bytes += raw.len();
                }
            }
        }
    }

    fn ask(&mut self, conn: ConnId, epoch: u16, origin: Origin, kind: Kind, claim: Claim) {
        let logins = &mut self.logins;
        logins.last_check += 1;
        let (id, generation) = (logins.last_check, logins.generation);
        logins.running = Some(Running { id, conn, epoch, origin, claim, generation });
        self.outputs.push_back(Output::Verify(Check { id, proof: Proof(kind) }));
    }

    /// A check is done. Its connection may be gone, or the credentials may have changed.
    pub fn handle_verified(&mut self, now: Now, queues: &mut Queues, check: u64, good: bool) {
        let Some(running) = self.logins.running.take_if(|running| running.id == check) else { return };
        let good = good && running.claim.is_known;
        let is_current = running.generation == self.logins.generation;
        if good && is_current {
            self.logins.remember(&running.claim);
        }
        let id = running.conn;
        match self.take_connect(id, running.epoch) {
            // Judged again, by what holds now.
            Some(raw) if !is_current => self.resume_login(now, queues, id, &raw),
            Some(raw) if good => {
                self.with_connect(id, &raw, |broker, connect| {
                    broker.let_in(now, queues, id, connect, running.claim.identity);
                });
                self.handle_received(now, queues, id, &[]);
            }
            Some(_) => {
                let text = if running.claim.memory.is_some() || !running.claim.is_known {
                    BAD_PASSWORD
                } else {
                    "the token is not signed with one of the keys"
                };
                self.turn_away(now, id, running.claim.identity.user.as_deref(), Refusal::Bad(text));
            }
            // Whoever leaves before the answer has failed all the same.
            None if !good && is_current => self.count_failure(now, running.origin),
            None => {}
        }
        self.next_logins(now, queues);
    }

    /// Whose turn it is, until one has to be checked.
    fn next_logins(&mut self, now: Now, queues: &mut Queues) {
        while self.logins.running.is_none() {
            let Some((id, epoch)) = self.logins.waiting.pop_front() else { return };
            if let Some(raw) = self.take_connect(id, epoch) {
                self.logins.waiting_bytes -= raw.expose().len();
                self.resume_login(now, queues, id, &raw);
            }
        }
    }

    fn take_connect(&mut self, id: ConnId, epoch: u16) -> Option<Secret> {
        let conn = self.conn_mut(id).filter(|conn| conn.epoch == epoch)?;
        conn.guest.as_mut()?.connect.take()
    }

    /// Judges a kept CONNECT, and goes on with what came behind it.
    fn resume_login(&mut self, now: Now, queues: &mut Queues, id: ConnId, raw: &Secret) {
        self.with_connect(id, raw, |broker, connect| {
            broker.handle_login(now, queues, id, raw.expose(), connect);
        });
        self.handle_received(now, queues, id, &[]);
    }

    fn with_connect(&mut self, id: ConnId, raw: &Secret, then: impl FnOnce(&mut Self, &Connect<'_>)) {
        let frame = frame(raw.expose(), u32::MAX).ok().flatten();
        match frame.and_then(|frame| Connect::decode(&frame).ok()) {
            Some(connect) => then(self, &connect),
            // It was decoded before.
            None => self.close(id),
        }
    }

    fn let_in(&mut self, now: Now, queues: &mut Queues, id: ConnId, connect: &Connect<'_>, identity: Identity) {
        if let Some(conn) = self.conn_mut(id) {
            conn.guest = None;
        }
        self.handle_connect(now, queues, id, connect, identity.user.as_deref());
        if let Some(ends) = identity.ends {
            self.watch_token(now, id, ends);
        }
    }

    fn turn_away(&mut self, now: Now, id: ConnId, user: Option<&str>, refusal: Refusal) {
        let mut level = Level::Info;
        match refusal {
            Refusal::Bad(_) => {
                level = Level::Warn;
                self.stats.logins_refused += 1;
                if let Some(peer) = self.conn(id).map(|conn| conn.peer) {
                    self.count_failure(now, Origin::from(peer));
                }
            }
            Refusal::Nameless(_) => self.stats.logins_refused += 1,
            Refusal::Throttled => self.stats.logins_throttled += 1,
            Refusal::Busy => self.stats.logins_busy += 1,
        }
        self.stats.connections_refused += 1;
        let text = refusal.text();
        let detail = match user {
            Some(user) => format!("user {:?}: {text}", user.chars().take(SHOWN_CHARS).collect::<String>()),
            None => text.to_owned(),
        };
        self.notice(level, "log-in refused", id, detail);
        self.reply(id, &Packet::ConnAck(ConnAck::refusal(refusal.reason())));
        self.close(id);
    }

    fn count_failure(&mut self, now: Now, origin: Origin) {
        let throttle = &mut self.logins.throttle;
        let begins = throttle.add_failure(now.at, origin);
        self.stats.login_addresses_forgotten = throttle.forgotten;
        if begins {
            let detail = "too many log-ins from there failed; see max_failures in [auth]";
            let notice = Notice::new(Level::Warn, "log-ins blocked", origin.to_string(), detail);
            self.outputs.push_back(Output::Notice(notice));
        }
    }

    /// Nobody waits longer for a check than for a CONNECT. False if nothing is checked.
    pub(in crate::broker) fn give_up_login(&mut self, now: Now, id: ConnId) -> bool {
        let is_waiting = self.conn(id).is_some_and(Connection::is_waiting);
        if is_waiting {
            self.turn_away(now, id, None, Refusal::Busy);
        }
        is_waiting
    }

    /// The connection ends: nothing is to be checked for it any more.
    pub(in crate::broker) fn forget_login(&mut self, id: ConnId) {
        let Some(conn) = self.conn_mut(id) else { return };
        let epoch = conn.epoch;
        let Some(Guest { connect, ends, .. }) = conn.guest.take().map(|guest| *guest) else { return };
        if let Some((_, at)) = ends {
            self.timers.cancel(at, Timer::Token(id, epoch));
        }
        let place = self.logins.waiting.iter().position(|waiting| *waiting == (id, epoch));
        if let (Some(connect), Some(place)) = (connect, place) {
            self.logins.waiting.remove(place);
            self.logins.waiting_bytes -= connect.expose().len();
        }
    }

    /// Has the end of the connection's token looked at.
    fn watch_token(&mut self, now: Now, id: ConnId, ends: Wall) {
        let at = now.at + (ends - now.wall).min(TOKEN_LOOK);
        let Some(conn) = self.conn_mut(id).filter(|conn| !conn.closing) else { return };
        let epoch = conn.epoch;
        conn.guest.get_or_insert_default().ends = Some((ends, at));
        self.timers.set(at, Timer::Token(id, epoch));
    }

    /// What a token ends, ends now or is looked at again.
    pub(in crate::broker) fn check_token(&mut self, now: Now, queues: &mut Queues, id: ConnId, epoch: u16) {
        let conn = self.conn(id).filter(|conn| conn.epoch == epoch && !conn.closing);
        let Some((ends, _)) = conn.and_then(|conn| conn.guest.as_ref()?.ends) else { return };
        if ends > now.wall {
            return self.watch_token(now, id, ends);
        }
        self.notice(Level::Info, "client's token is over", id, "it has to log in with a new one");
        self.end(now, queues, id, Some(Fault::new(ReasonCode::NotAuthorized, "the token is over")), true);
    }

    /// A box that does not know the time lets in whoever has a token that was good once.
    fn warn_of_the_clock(&mut self, now: Now, id: ConnId, kind: &Kind) {
        if matches!(kind, Kind::Token(_)) && now.wall < CLOCK_BEGINS {
            let detail = "the clock of this box is not set: whether a token is over cannot be told";
            self.notice(Level::Warn, "tokens without a clock", id, detail);
        }
    }
}
