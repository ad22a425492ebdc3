//! A session: what is kept of a client, connected or not.

use serde::{Deserialize, Serialize};

use crate::broker::acl::{Access, Names};
use crate::broker::flat_map::FlatMap;
use crate::broker::target::Options;
use crate::mqtt::hop::Gateway;
use crate::mqtt::{ConnId, QoS};
use crate::queue::{DestId, Queues};
use crate::time::{Duration, Instant, Wall};

/// Session expiry interval that means never (MQTT 5.0, 3.1.2.11.2).
pub(crate) const NEVER: u32 = u32::MAX;

/// Who is at the other end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nobody.
    Away,
    /// An MQTT connection.
    Conn(ConnId),
    /// The MQTT-SN gateway.
    Local,
}

/// A will and when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Retain flag.
    pub retain: bool,
    /// MQTT 5.0 will delay interval in seconds.
    #[serde(default)]
    pub delay: u32,
    /// MQTT 5.0 message expiry interval in seconds.
    #[serde(default)]
    pub expiry: Option<u32>,
    /// Forwarded MQTT 5.0 properties in wire form.
    #[serde(default)]
    pub properties: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Box<str>,
    /// The proved name of the client that has it or last had it; none: anonymous.
    pub user: Option<Box<str>>,
    pub peer: Peer,
    /// Grows when the slot is given to another session, so that an old timer does not hit a new one.
    pub generation: u32,
    /// Seconds that the session outlives its connection; 0: not at all; [`NEVER`].
    pub expiry: u32,
    pub subscriptions: FlatMap<Box<str>, Options>,
    /// Made when the first message needs it.
    pub line: Option<DestId>,
    /// So many messages of each QoS may be on their way to the client, or were when it was there last.
    pub window: u16,
    /// It has a record in the store.
    pub is_stored: bool,
    /// Boxed, because most have none.
    pub will: Option<Box<Will>>,
    /// The connection is gone and the will goes out then, unless the client is back by then.
    pub will_at: Option<Instant>,
    pub disconnected_at: Option<Wall>,
    /// When it ends, once its client is gone.
    pub ends_at: Option<Instant>,
    /// When its will and its end are looked at.
    pub timer_at: Option<Instant>,
    /// What it has of the rules, if there are any.
    pub access: Option<Box<Access>>,
    /// Its client is another gateway's bridge.
    pub gateway: Option<Box<Gateway>>,
}

impl Session {
    /// Who its client is.
    pub(crate) fn names(&self) -> Names<'_> {
        Names { client_id: Some(&self.client_id), user: self.user.as_deref() }
    }

    /// It outlasts its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.expiry > 0
    }

    /// The name of its queue in the store.
    pub(crate) fn line_name(&self) -> String {
        line_name(&self.client_id)
    }

    /// The client is there, and is sent so many messages before it answers. What waits may have been sent before it came,
    /// when it was more.
    pub(crate) fn set_window(&mut self, queues: &Queues, window: u16) {
        let waits = self.line.is_some_and(|dest| queues.depth(dest).messages > 0);
        self.window = if waits { self.window.max(window) } else { window };
    }

    pub(crate) fn lifetime(&self) -> Option<Duration> {
        (self.expiry != NEVER).then(|| Duration::from_secs(u64::from(self.expiry)))
    }

    pub(crate) fn to_record(&self) -> Record {
        // One that ends with its connection is written for its will alone.
        let lasting = self.subscriptions.iter().filter(|_| self.is_durable());
        let subscriptions = lasting.map(|(filter, options)| StoredSubscription {
            filter: filter.to_string(),
            qos: options.qos.as_u8(),
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            id: options.id,
        });
        Record {
            user: self.user.as_deref().map(str::to_owned),
            expiry: self.expiry,
            subscriptions: subscriptions.collect(),
            will: self.will.as_deref().cloned(),
            disconnected_at: self.disconnected_at.map(Wall::as_millis),
            window: Some(self.window),
            gateway: self.gateway.as_ref().map(|gateway| gateway.name.to_string()),
        }
    }
}

pub(crate) fn line_name(client_id: &str) -> String {
    format!("session:{client_id}")
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSubscription {
    pub filter: String,
    pub qos: u8,
    #[serde(default)]
    pub no_local: bool,
    #[serde(default)]
    pub retain_as_published: bool,
    #[serde(default)]
    pub id: u32,
}

impl StoredSubscription {
    pub(crate) fn options(&self) -> Options {
        Options {
            qos: QoS::from_u8(self.qos).unwrap_or_default(),
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            id: self.id,
        }
    }
}

/// A session as it lies in the store, in JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The proved name of its client; absent: anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub expiry: u32,
    pub subscriptions: Vec<StoredSubscription>,
    #[serde(default)]
    pub will: Option<Will>,
    /// Milliseconds since the epoch; absent: it was connected when the gateway stopped.
    #[serde(default)]
    pub disconnected_at: Option<u64>,
    /// See [`Session::window`]; absent: an earlier version wrote it.
    #[serde(default)]
    pub window: Option<u16>,
    /// What the gateway calls itself that it belongs to; absent: to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_the_proved_name_and_one_without_is_anonymous() {
        let old: Record = serde_json::from_str(r#"{"expiry":60,"subscriptions":[]}"#).unwrap();
        assert_eq!(old.user, None);
        assert!(!serde_json::to_string(&old).unwrap().contains("user"));
        let named = Record { user: Some("ann".to_owned()), ..old };
        let text = serde_json::to_string(&named).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), named);
    }
}
