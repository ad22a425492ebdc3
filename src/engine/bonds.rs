//! Which sessions that upstreams keep are ours: made by us, and known to the store.
//!
//! A session of somebody else under our client id (an earlier life of the box, a lost store) has packet identifiers in it
//! that would be taken for ours. So it is written down whose it is, before the first QoS 2 message is sent in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::queue::{RecordKind, Recovered};

/// An upstream as it lies in the store, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The client id under which the upstream's session is ours; none: we never had one.
    session: Option<String>,
    /// What it calls itself, if it is a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

/// By the names of the upstreams.
#[derive(Debug, Default)]
pub(crate) struct Bonds(BTreeMap<String, Record>);

impl Bonds {
    /// What the store found. A record that cannot be read is none.
    pub(super) fn recover(recovered: &Recovered) -> Self {
        let records = recovered.records.iter().filter(|(kind, ..)| *kind == RecordKind::Upstream);
        let read = records.filter_map(|(_, key, value)| {
            Some((String::from_utf8_lossy(key).into_owned(), serde_json::from_slice(value).ok()?))
        });
        Self(read.collect())
    }

    /// Whether the upstream's session under this client id is ours. `None` if nothing was ever written about it.
    pub(super) fn is_ours(&self, upstream: &str, client_id: &str) -> Option<bool> {
        self.0.get(upstream).map(|record| record.session.as_deref() == Some(client_id))
    }

    /// Notes whose it is. Gives what has to be written, if that is new.
    pub(super) fn note(&mut self, upstream: &str, client_id: Option<&str>) -> Option<Vec<u8>> {
        let gateway = self.gateway(upstream).map(str::to_owned);
        self.set(upstream, Record { session: client_id.map(str::to_owned), gateway })
    }

    /// Which gateway it was last.
    pub(super) fn gateway(&self, upstream: &str) -> Option<&str> {
        self.0.get(upstream)?.gateway.as_deref()
    }

    /// Notes which gateway it is, if it is one. Gives what has to be written, if that is new.
    pub(super) fn meet(&mut self, upstream: &str, gateway: Option<&str>) -> Option<Vec<u8>> {
        let record = self.0.get(upstream)?.clone();
        self.set(upstream, Record { gateway: gateway.map(str::to_owned), ..record })
    }

    fn set(&mut self, upstream: &str, record: Record) -> Option<Vec<u8>> {
        if self.0.get(upstream) == Some(&record) {
            return None;
        }
        let value = serde_json::to_vec(&record);
        self.0.insert(upstream.to_owned(), record);
        // Strings can always be written as JSON.
        value.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_gateway_it_is_and_whose_session_are_written_in_one_and_apart() {
        let mut bonds = Bonds::default();
        assert_eq!(bonds.meet("cloud", Some("barn.1")), None, "before the session there is nothing to write to");
        assert!(bonds.note("cloud", Some("box")).is_some());
        let written = bonds.meet("cloud", Some("barn.1")).unwrap();
        assert_eq!((bonds.meet("cloud", Some("barn.1")), bonds.note("cloud", Some("box"))), (None, None));
        let records = vec![(RecordKind::Upstream, b"cloud".as_slice().into(), written.into())];
        let mut found = Bonds::recover(&Recovered { records, ..Recovered::default() });
        assert_eq!((found.gateway("cloud"), found.is_ours("cloud", "box")), (Some("barn.1"), Some(true)));
        assert!(found.note("cloud", Some("other")).is_some() && found.gateway("cloud") == Some("barn.1"));
        assert!(found.meet("cloud", None).is_some() && found.gateway("cloud").is_none());
        let earlier: Record = serde_json::from_str(r#"{"session":"box"}"#).unwrap();
        assert_eq!(earlier.gateway, None);
    }
}
