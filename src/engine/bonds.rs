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
        let record = Record { session: client_id.map(str::to_owned) };
        if self.0.get(upstream) == Some(&record) {
            return None;
        }
        let value = serde_json::to_vec(&record);
        self.0.insert(upstream.to_owned(), record);
        // A string can always be written as JSON.
        value.ok()
    }
}
