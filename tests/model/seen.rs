//! What clients see, and whether it is what they should.

use std::collections::BTreeMap;

use moteway::mqtt::{QoS, Version};
use moteway::time::Duration;

use crate::naive::Client;

/// Whether a message was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dup {
    #[default]
    No,
    Yes,
    Perhaps,
}

/// A PUBLISH that should come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    pub topic: &'static str,
    pub payload: String,
    pub from: Client,
    pub qos: QoS,
    /// The flags that it may have.
    pub retain: Vec<bool>,
    pub ids: Vec<u32>,
    pub dup: Dup,
    /// What is left of its expiry interval, for a 5.0 client.
    pub left: Option<Duration>,
    /// It may as well not come.
    pub may: bool,
    pub is_retained: bool,
}

/// What a client should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    ConnAck {
        session_present: bool,
    },
    /// CONNACK said no.
    Refused,
    Publish(Delivery),
    /// `None`: no.
    SubAck(Option<QoS>),
    UnsubAck,
    /// Its connection ended, at its own wish.
    Closed,
    /// Its old connection, of that version, ended because there is a new one.
    TakenOver(Version),
}

pub type Events = BTreeMap<Client, Vec<Event>>;

/// A PUBLISH that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    pub topic: String,
    pub payload: String,
    pub qos: QoS,
    pub retain: bool,
    pub ids: Vec<u32>,
    pub dup: bool,
    pub expiry: Option<u32>,
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saw {
    ConnAck { session_present: bool },
    Refused,
    Publish(Came),
    SubAck(Option<QoS>),
    UnsubAck,
    Closed,
    TakenOver(Version),
}

impl Delivery {
    fn is(&self, came: &Came) -> bool {
        let dup = match self.dup {
            Dup::No => !came.dup,
            Dup::Yes => came.dup || self.qos == QoS::AtMostOnce,
            Dup::Perhaps => true,
        };
        let expiry = match (self.left, came.expiry) {
            (None, None) => true,
            // The standard counts in seconds, and does not say how a part of one counts.
            (Some(left), Some(secs)) => {
                (left.as_secs()..=left.as_millis().div_ceil(1000) as u64).contains(&u64::from(secs))
            }
            _ => false,
        };
        let is_same = (self.topic, &self.payload, self.qos) == (came.topic.as_str(), &came.payload, came.qos);
        is_same && dup && expiry && self.retain.contains(&came.retain) && self.ids == came.ids
    }

    /// Within this the order holds [MQTT-4.6.0-6].
    fn row(&self) -> (Client, &str, QoS, bool) {
        (self.from, self.topic, self.qos, self.is_retained)
    }
}

/// Whether what a client saw is what it should see: each thing once, in an order that is allowed.
pub fn agree(should: &[Event], saw: &[Saw]) -> bool {
    let mut used = vec![false; saw.len()];
    let mut last = BTreeMap::new();
    for event in should {
        let Event::Publish(delivery) = event else { continue };
        let is_it = |saw: &Saw| matches!(saw, Saw::Publish(came) if delivery.is(came));
        let found = (0..saw.len()).find(|at| !used[*at] && is_it(&saw[*at]));
        let Some(at) = found else {
            if delivery.may {
                continue;
            }
            return false;
        };
        used[at] = true;
        if last.insert(delivery.row(), at).is_some_and(|before| before > at) {
            return false;
        }
    }
    let is_publish = |saw: &Saw| matches!(saw, Saw::Publish(_));
    if (0..saw.len()).any(|at| is_publish(&saw[at]) && !used[at]) {
        return false;
    }
    let others: Vec<&Saw> = saw.iter().filter(|saw| !is_publish(saw)).collect();
    let expected: Vec<Saw> = should.iter().filter_map(plain).collect();
    others.into_iter().eq(&expected)
}

fn plain(event: &Event) -> Option<Saw> {
    Some(match event {
        Event::ConnAck { session_present } => Saw::ConnAck { session_present: *session_present },
        Event::Refused => Saw::Refused,
        Event::SubAck(qos) => Saw::SubAck(*qos),
        Event::UnsubAck => Saw::UnsubAck,
        Event::Closed => Saw::Closed,
        Event::TakenOver(version) => Saw::TakenOver(*version),
        Event::Publish(_) => return None,
    })
}
