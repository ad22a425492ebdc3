//! A broker as the standard tells it, without a thought for speed: lists, and a copy of everything where two things may
//! come first. It knows nothing of the code that it is held against.
//!
//! Where the standard leaves open what happens first (a client comes back at the very instant at which its session
//! expires or its will is due), every order is followed; what is then seen tells which it was.

use crate::script::{Action, Ending, Filter, Publish, Will};
use crate::seen::{Delivery, Dup, Event, Events};
use moteway::mqtt::{QoS, RetainHandling, SubscribeOptions, Version};
use moteway::time::{Duration, Instant};

pub type Client = usize;

/// An application message, MQTT 5.0 section 3.3.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    publish: Publish,
    /// Publisher, where order counts.
    from: Client,
    expires_at: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subscription {
    filter: Filter,
    options: SubscribeOptions,
    id: Option<u32>,
}

/// A QoS 1 or 2 message that the client did not acknowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    message: Message,
    delivery: Delivery,
    /// It was sent before, as far as known.
    sent: Dup,
    came_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Online {
    version: Version,
    /// Takes messages and acknowledges none.
    deaf: bool,
}

/// Session state, MQTT 5.0 section 4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    client: Client,
    online: Option<Online>,
    /// Session Expiry Interval; `None`: it does not expire.
    expiry: Option<Duration>,
    subscriptions: Vec<Subscription>,
    waiting: Vec<Waiting>,
    will: Option<Will>,
    will_at: Option<Instant>,
    ends_at: Option<Instant>,
    /// When the client went.
    away_since: Instant,
}

impl Session {
    fn ends_with_its_connection(&self) -> bool {
        self.expiry == Some(Duration::ZERO)
    }

    fn due_at(&self) -> Option<Instant> {
        moteway::time::earliest(self.will_at, self.ends_at)
    }
}

/// What the rules of `real::RULES` say, where they are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rules(bool);

impl Rules {
    fn may_publish(self, client: Client, topic: &str) -> bool {
        !self.0 || !matches!((client, topic), (1, "t/2") | (2, "u"))
    }

    fn may_subscribe(self, client: Client, Filter(filter): Filter) -> bool {
        !self.0 || client != 2 || filter.starts_with('t')
    }

    fn may_read(self, client: Client, topic: &str) -> bool {
        !self.0 || !matches!((client, topic), (1 | 2, "u"))
    }
}

/// One possible state of the broker, and what its clients were sent in the last step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Broker {
    rules: Rules,
    now: Instant,
    sessions: Vec<Session>,
    retained: Vec<Message>,
    pub events: Events,
}

impl Broker {
    pub fn new(with_rules: bool) -> Self {
        Self { rules: Rules(with_rules), ..Self::default() }
    }

    /// All states that may follow from this one by `action`.
    pub fn step(&self, action: &Action) -> Vec<Self> {
        let mut start = self.clone();
        start.events = Events::default();
        if let Action::Advance { to, .. } = action {
            return start.advance(*to);
        }
        let mut after = Vec::new();
        for mut state in start.with_what_is_due() {
            state.act(action);
            // Nobody comes in before what is due at a start has happened.
            let next = if *action == Action::Restart { state.all_due() } else { state.with_what_is_due() };
            after.extend(next);
        }
        after
    }

    /// When something of its own accord is due, or a message expires.
    pub fn deadlines(&self) -> Vec<Instant> {
        let of_sessions = self.sessions.iter().flat_map(|session| [session.will_at, session.ends_at]);
        let waiting = self.sessions.iter().flat_map(|session| &session.waiting).map(|waiting| &waiting.message);
        let of_messages = waiting.chain(&self.retained).map(|message| message.expires_at);
        of_sessions.chain(of_messages).flatten().filter(|at| *at > self.now).collect()
    }

    /// Whoever is connected, and with which version.
    pub fn online(&self, client: Client) -> Option<Version> {
        let session = self.sessions.iter().find(|session| session.client == client)?;
        session.online.map(|online| online.version)
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Connect { client, version, clean, expiry, will, deaf } => {
                let online = Online { version: *version, deaf: *deaf };
                self.connect(*client, online, *clean, *expiry, will.as_ref());
            }
            Action::Publish { client, publish } => self.publish_from(*client, publish),
            Action::Subscribe { client, filter, options, id } => self.subscribe(*client, *filter, *options, *id),
            Action::Unsubscribe { client, filter } => self.unsubscribe(*client, *filter),
            Action::End { client, ending } => self.end(*client, *ending),
            Action::Hear { client } => self.hear(*client),
            Action::Restart => self.restart(),
            Action::Advance { .. } => unreachable!("time is not an action of a client"),
        }
    }

    fn session(&mut self, client: Client) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.client == client)
    }

    fn tell(&mut self, client: Client, event: Event) {
        self.events.entry(client).or_default().push(event);
    }

    /// Lets time pass: whatever is due before `to` has happened then, what is due at `to` may have.
    fn advance(mut self, to: Instant) -> Vec<Self> {
        let next = self.sessions.iter().filter_map(Session::due_at).min();
        match next.filter(|at| *at < to) {
            Some(at) => {
                self.now = self.now.max(at);
                self.all_due().into_iter().flat_map(|state| state.advance(to)).collect()
            }
            None => {
                self.now = to;
                self.with_what_is_due()
            }
        }
    }

    /// This state, and those in which what is due now has happened, in any order.
    fn with_what_is_due(self) -> Vec<Self> {
        let has_due = self.sessions.iter().any(|session| session.due_at().is_some_and(|at| at <= self.now));
        if !has_due {
            return vec![self];
        }
        let mut states = self.all_due();
        states.push(self);
        states
    }

    /// The states in which everything that is due has happened, in any order.
    fn all_due(&self) -> Vec<Self> {
        let due: Vec<Client> = self
            .sessions
            .iter()
            .filter(|session| session.due_at().is_some_and(|at| at <= self.now))
            .map(|session| session.client)
            .collect();
        if due.is_empty() {
            return vec![self.clone()];
        }
        let mut states = Vec::new();
        for client in due {
            let mut state = self.clone();
            state.let_due(client);
            states.extend(state.all_due());
        }
        states
    }

    fn let_due(&mut self, client: Client) {
        let now = self.now;
        let Some(session) = self.session(client) else { return };
        if session.ends_at.is_some_and(|at| at <= now) {
            self.end_session(client);
        } else {
            self.publish_will(client);
        }
    }

    /// CONNECT, MQTT 5.0 section 3.1.
    fn connect(
        &mut self,
        client: Client,
        online: Online,
        clean: bool,
        expiry: Option<Duration>,
        will: Option<&Will>,
    ) {
        if will.is_some_and(|will| !self.rules.may_publish(client, will.publish.topic)) {
            // It gets in nobody's way.
            self.tell(client, Event::Refused);
            return;
        }
        // The one that was connected is disconnected [MQTT-3.1.4-3], and its will published as for any lost client.
        if let Some(old) = self.session(client).and_then(|session| session.online) {
            self.tell(client, Event::TakenOver(old.version));
            self.lose(client);
        }
        // A clean start ends the session [MQTT-3.1.2-4], and a will that waits goes out (section 3.1.3.2.2).
        if clean {
            self.end_session(client);
        }
        let is_present = self.session(client).is_some();
        if !is_present {
            self.sessions.push(Session {
                client,
                online: None,
                expiry,
                subscriptions: Vec::new(),
                waiting: Vec::new(),
                will: None,
                will_at: None,
                ends_at: None,
                away_since: self.now,
            });
        }
        self.tell(client, Event::ConnAck { session_present: is_present });
        let Some(session) = self.session(client) else { return };
        (session.online, session.expiry) = (Some(online), expiry);
        // In time: the will before is not sent [MQTT-3.1.3-9].
        (session.will, session.will_at, session.ends_at) = (will.cloned(), None, None);
        // What was not acknowledged is sent again, in order [MQTT-4.4.0-1], and what came meanwhile.
        for waiting in std::mem::take(&mut session.waiting) {
            self.send_waiting(client, waiting);
        }
    }

    /// The connection is gone without a word.
    fn lose(&mut self, client: Client) {
        let now = self.now;
        let Some(session) = self.session(client) else { return };
        session.online = None;
        session.away_since = now;
        if session.ends_with_its_connection() {
            self.end_session(client);
            return;
        }
        session.ends_at = session.expiry.map(|expiry| now + expiry);
        session.will_at = session.will.as_ref().map(|will| now + will.delay);
        if session.will_at == Some(now) {
            self.publish_will(client);
        }
    }

    fn end(&mut self, client: Client, ending: Ending) {
        let Some(session) = self.session(client) else { return };
        if let Ending::Disconnect { with_will, expiry } = ending {
            // A session that was to end with its connection cannot be made to last: a protocol error, as if the
            // connection was lost (section 3.14.2.2.2).
            let is_wrong = session.ends_with_its_connection() && expiry.is_some_and(|to| to != session.expiry);
            if !with_will && !is_wrong {
                // [MQTT-3.14.4-3]
                session.will = None;
            }
            if let (Some(expiry), false) = (expiry, is_wrong) {
                session.expiry = expiry;
            }
            self.tell(client, Event::Closed);
        }
        self.lose(client);
    }

    /// A session that ends publishes its will (section 3.1.3.2.2) and is forgotten.
    fn end_session(&mut self, client: Client) {
        self.publish_will(client);
        self.sessions.retain(|session| session.client != client);
    }

    fn publish_will(&mut self, client: Client) {
        let Some(session) = self.session(client) else { return };
        session.will_at = None;
        if let Some(will) = session.will.take() {
            self.publish_from(client, &will.publish);
        }
    }

    /// PUBLISH, MQTT 5.0 section 3.3. A will comes from the client whose will it is.
    fn publish_from(&mut self, from: Client, publish: &Publish) {
        if !self.rules.may_publish(from, publish.topic) {
            return;
        }
        let expires_at = publish.expiry.map(|expiry| self.now + expiry);
        let message = Message { publish: publish.clone(), from, expires_at };
        if publish.retain {
            self.retained.retain(|old| old.publish.topic != publish.topic);
            // An empty payload only deletes [MQTT-3.3.1-6].
            if !publish.payload.is_empty() {
                self.retained.push(message.clone());
            }
        }
        for client in self.sessions.iter().map(|session| session.client).collect::<Vec<_>>() {
            self.route(client, &message);
        }
    }

    /// One copy for each client, for all its subscriptions that match [MQTT-3.3.4-2].
    fn route(&mut self, client: Client, message: &Message) {
        if !self.rules.may_read(client, message.publish.topic) {
            return;
        }
        let Some(session) = self.session(client) else { return };
        let is_wanted = |subscription: &&Subscription| {
            // No local [MQTT-3.8.3-3].
            let is_own = message.from == client && subscription.options.no_local;
            subscription.filter.matches(message.publish.topic) && !is_own
        };
        let matching: Vec<&Subscription> = session.subscriptions.iter().filter(is_wanted).collect();
        let Some(qos) = matching.iter().map(|subscription| subscription.options.qos).max() else { return };
        // Of one copy for several subscriptions the standard does not say whose flag it has.
        let as_published = |of: bool| message.publish.retain && of;
        let flags: Vec<bool> = matching.iter().map(|sub| as_published(sub.options.retain_as_published)).collect();
        let mut ids: Vec<u32> = matching.iter().filter_map(|subscription| subscription.id).collect();
        ids.sort_unstable();
        let delivery = Delivery {
            topic: message.publish.topic,
            payload: message.publish.payload.clone(),
            from: message.from,
            qos: qos.min(message.publish.qos),
            retain: flags,
            ids,
            ..Delivery::default()
        };
        self.deliver(client, message.clone(), delivery);
    }

    /// Sends to whoever is there, and keeps for a session what is not acknowledged.
    fn deliver(&mut self, client: Client, message: Message, delivery: Delivery) {
        let came_at = self.now;
        let Some(session) = self.session(client) else { return };
        let is_online = session.online.is_some();
        if delivery.qos == QoS::AtMostOnce && !is_online {
            // It may be dropped (section 4.3.1), and is.
            return;
        }
        let waiting = Waiting { message, delivery, sent: Dup::No, came_at };
        if is_online { self.send_waiting(client, waiting) } else { session.waiting.push(waiting) }
    }

    fn send_waiting(&mut self, client: Client, mut waiting: Waiting) {
        let now = self.now;
        let Some(session) = self.session(client) else { return };
        let Some(online) = session.online else { return };
        let left = waiting.message.expires_at.map(|at| at.since(now));
        let is_over = waiting.message.expires_at.is_some_and(|at| at < now);
        if is_over && waiting.sent == Dup::No {
            // [MQTT-3.3.2-5]
            return;
        }
        // At the very instant both are right; and what was sent before may be finished.
        let may = left == Some(Duration::ZERO);
        let is_v5 = online.version == Version::V5;
        let mut delivery = waiting.delivery.clone();
        delivery.dup = waiting.sent;
        delivery.may = may;
        delivery.left = left.filter(|_| is_v5);
        if !is_v5 {
            delivery.ids.clear();
        }
        if online.deaf && delivery.qos > QoS::AtMostOnce {
            waiting.sent = if may || waiting.sent == Dup::Perhaps { Dup::Perhaps } else { Dup::Yes };
            session.waiting.push(waiting);
        }
        self.tell(client, Event::Publish(delivery));
    }

    /// The client acknowledges everything from now on, and all that it got.
    fn hear(&mut self, client: Client) {
        if let Some(session) = self.session(client)
            && let Some(online) = session.online.as_mut()
        {
            online.deaf = false;
            session.waiting.clear();
        }
    }

    /// SUBSCRIBE, MQTT 5.0 section 3.8.
    fn subscribe(&mut self, client: Client, filter: Filter, options: SubscribeOptions, id: Option<u32>) {
        let may = self.rules.may_subscribe(client, filter);
        self.tell(client, Event::SubAck(may.then_some(options.qos)));
        if !may {
            return;
        }
        let Some(session) = self.session(client) else { return };
        let new = Subscription { filter, options, id };
        let old = session.subscriptions.iter_mut().find(|old| old.filter == filter);
        let is_new = old.is_none();
        match old {
            // It replaces the old one [MQTT-3.8.4-3].
            Some(old) => *old = new.clone(),
            None => session.subscriptions.push(new.clone()),
        }
        let wanted = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if !wanted {
            return;
        }
        let (now, rules) = (self.now, self.rules);
        let alive = |message: &&Message| message.expires_at.is_none_or(|at| at >= now);
        let matching = |message: &&Message| {
            filter.matches(message.publish.topic) && rules.may_read(client, message.publish.topic)
        };
        let found: Vec<Message> = self.retained.iter().filter(alive).filter(matching).cloned().collect();
        for message in found {
            let delivery = Delivery {
                topic: message.publish.topic,
                payload: message.publish.payload.clone(),
                from: message.from,
                qos: options.qos.min(message.publish.qos),
                // [MQTT-3.3.1-8]
                retain: vec![true],
                ids: id.into_iter().collect(),
                is_retained: true,
                ..Delivery::default()
            };
            self.deliver(client, message, delivery);
        }
    }

    fn unsubscribe(&mut self, client: Client, filter: Filter) {
        self.tell(client, Event::UnsubAck);
        if let Some(session) = self.session(client) {
            session.subscriptions.retain(|subscription| subscription.filter != filter);
        }
    }

    /// The power goes and comes back. Sessions that end with their connection are gone; to the others it is as if all
    /// connections were lost now.
    fn restart(&mut self) {
        let now = self.now;
        for session in &mut self.sessions {
            for waiting in &mut session.waiting {
                // That it was sent was not written down, and times are, to the millisecond.
                let may_be_sent = waiting.came_at.as_micros() / 1000 <= session.away_since.as_micros() / 1000;
                if waiting.sent != Dup::No || may_be_sent {
                    waiting.sent = Dup::Perhaps;
                }
            }
            if session.online.take().is_some() {
                session.away_since = now;
                session.ends_at = session.expiry.map(|expiry| now + expiry);
                session.will_at = session.will.as_ref().map(|will| now + will.delay);
            }
        }
    }
}
