//! What happens, drawn from a seed.

use moteway::mqtt::{QoS, RetainHandling, SubscribeOptions, Version};
use moteway::time::{Duration, Instant};

use crate::naive::{Broker, Client};

pub const CLIENTS: usize = 4;
pub const TOPICS: [&str; 4] = ["t/1", "t/2", "t", "u"];
const FILTERS: [&str; 8] = ["t/1", "t/2", "t/+", "t/#", "#", "u", "+", "t"];
/// Intervals of a few seconds, so that they meet.
const SECONDS: [u64; 5] = [0, 1, 2, 3, 5];

/// A topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter(pub &'static str);

impl Filter {
    /// Topic wildcards, MQTT 5.0 section 4.7.1.
    pub fn matches(self, topic: &str) -> bool {
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub topic: &'static str,
    pub payload: String,
    pub qos: QoS,
    pub retain: bool,
    pub expiry: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub publish: Publish,
    pub delay: Duration,
}

/// How a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a new expiry (5.0), where it says one.
    Disconnect {
        with_will: bool,
        expiry: Option<Option<Duration>>,
    },
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Connect {
        client: Client,
        version: Version,
        clean: bool,
        /// `None`: the session never expires.
        expiry: Option<Duration>,
        will: Option<Will>,
        deaf: bool,
    },
    Publish {
        client: Client,
        publish: Publish,
    },
    Subscribe {
        client: Client,
        filter: Filter,
        options: SubscribeOptions,
        id: Option<u32>,
    },
    Unsubscribe {
        client: Client,
        filter: Filter,
    },
    End {
        client: Client,
        ending: Ending,
    },
    /// A client that acknowledged nothing does so now.
    Hear {
        client: Client,
    },
    /// With `timeout` the engine is told at once that it is that time, otherwise only when something else happens.
    Advance {
        to: Instant,
        timeout: bool,
    },
    /// The power goes and comes back. All that was in hand has been written.
    Restart,
}

/// Draws actions that make sense where things stand.
#[derive(Debug)]
pub struct Script {
    rng: fastrand::Rng,
    now: Instant,
    number: u32,
}

impl Script {
    pub fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), now: Instant::ZERO, number: 0 }
    }

    pub fn next(&mut self, broker: &Broker) -> Action {
        let client = self.rng.usize(..CLIENTS);
        let Some(version) = broker.online(client) else {
            return match self.rng.u8(..3) {
                0 => self.advance(broker),
                _ => self.connect(client),
            };
        };
        match self.rng.u8(..20) {
            0 => self.connect(client),
            1..=5 => Action::Publish { client, publish: self.publish(version) },
            6..=9 => self.subscribe(client, version),
            10 => Action::Unsubscribe { client, filter: self.filter() },
            11..=12 => Action::End { client, ending: Ending::Lost },
            13..=14 => Action::End { client, ending: self.disconnect(version) },
            15 => Action::Hear { client },
            16 if self.rng.u8(..4) == 0 => Action::Restart,
            _ => self.advance(broker),
        }
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    fn seconds(&mut self) -> Duration {
        Duration::from_secs(self.any(&SECONDS))
    }

    fn perhaps_seconds(&mut self) -> Option<Duration> {
        self.rng.bool().then(|| self.seconds())
    }

    fn filter(&mut self) -> Filter {
        Filter(self.any(&FILTERS))
    }

    fn qos(&mut self) -> QoS {
        self.any(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn connect(&mut self, client: Client) -> Action {
        let version = if self.rng.u8(..3) == 0 { Version::V311 } else { Version::V5 };
        let clean = self.rng.u8(..4) == 0;
        let expiry = match version {
            Version::V5 => match self.rng.u8(..5) {
                0 => None,
                _ => Some(self.seconds()),
            },
            _ => clean.then_some(Duration::ZERO),
        };
        let will = (self.rng.u8(..3) > 0).then(|| {
            let delay = if version == Version::V5 { self.seconds() } else { Duration::ZERO };
            Will { publish: self.publish(version), delay }
        });
        Action::Connect { client, version, clean, expiry, will, deaf: self.rng.u8(..4) == 0 }
    }

    fn publish(&mut self, version: Version) -> Publish {
        self.number += 1;
        let retain = self.rng.u8(..3) == 0;
        let is_empty = retain && self.rng.u8(..4) == 0;
        Publish {
            topic: self.any(&TOPICS),
            payload: if is_empty { String::new() } else { self.number.to_string() },
            qos: self.qos(),
            retain,
            expiry: if version == Version::V5 { self.perhaps_seconds() } else { None },
        }
    }

    fn subscribe(&mut self, client: Client, version: Version) -> Action {
        let mut options = SubscribeOptions { qos: self.qos(), ..SubscribeOptions::default() };
        let mut id = None;
        if version == Version::V5 {
            options.no_local = self.rng.u8(..3) == 0;
            options.retain_as_published = self.rng.bool();
            options.retain_handling =
                self.any(&[RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
            id = self.rng.bool().then(|| self.rng.u32(1..9));
        }
        Action::Subscribe { client, filter: self.filter(), options, id }
    }

    fn disconnect(&mut self, version: Version) -> Ending {
        if version != Version::V5 {
            return Ending::Disconnect { with_will: false, expiry: None };
        }
        let expiry = self.perhaps_seconds().map(Some);
        Ending::Disconnect { with_will: self.rng.bool(), expiry }
    }

    /// To the instant at which something is due, or a millisecond beside it, or just a while.
    fn advance(&mut self, broker: &Broker) -> Action {
        let milli = Duration::from_millis(1);
        let deadlines = broker.deadlines();
        let due = (!deadlines.is_empty()).then(|| self.any(&deadlines));
        let to = match (due, self.rng.u8(..5)) {
            (Some(at), 0..=1) => at,
            (Some(at), 2) => at + milli,
            (Some(at), 3) => self.now + at.since(self.now).saturating_sub(milli),
            _ => self.now + Duration::from_millis(self.rng.u64(1..3000)),
        };
        self.now = to;
        Action::Advance { to, timeout: self.rng.bool() }
    }

    /// A while in which everything is written.
    pub fn pause(&mut self) -> Action {
        self.now = self.now + Duration::from_millis(400);
        Action::Advance { to: self.now, timeout: true }
    }
}
