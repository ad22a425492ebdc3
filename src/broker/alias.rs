//! Topic aliases, MQTT 5.0 section 3.3.2.3.4, in both directions. They belong to one connection and end with it
//! [MQTT-3.3.2-7].

use std::collections::BTreeMap;

use crate::broker::connection::Connection;
use crate::broker::packets::Fault;
use crate::broker::{Broker, Limit};
use crate::mqtt::alias::{SentAliases, Telling};
use crate::mqtt::publish::{Head, encode_head};
use crate::mqtt::{ConnId, Publish, ReasonCode};

/// What a defined alias takes beside its topic, about.
const ENTRY: usize = 32;

/// The aliases of a connection that has any.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// What the client defined.
    received: BTreeMap<u16, Box<str>>,
    /// What the client was told.
    sent: SentAliases,
}

impl Connection {
    /// From now on the client may be sent so many aliases.
    pub(crate) fn allow_aliases(&mut self, max: u16) {
        if max > 0 {
            self.aliases.get_or_insert_default().sent.allow(max);
        }
    }

    /// Whether its client takes aliases, so that what it is sent differs from what others are.
    pub(crate) fn sends_aliases(&self) -> bool {
        self.aliases.as_ref().is_some_and(|aliases| aliases.sent.max() > 0)
    }

    /// Appends a PUBLISH without its payload, with a topic alias where that helps. False when it would be larger than
    /// the client takes.
    pub(crate) fn put_head(&mut self, head: &Head<'_>) -> bool {
        let (version, max) = (self.version, self.max_packet as usize);
        let fits = |head: &Head<'_>| head.packet_len(version) <= max;
        let sent = self.aliases.as_deref_mut().map(|aliases| &mut aliases.sent);
        let (told, aliased) = match sent.map_or(Telling::Name, |sent| sent.tell(head.topic)) {
            Telling::Alias(alias) => (None, Head { topic: "", topic_alias: Some(alias), ..*head }),
            Telling::Both(alias) => (Some(alias), Head { topic_alias: Some(alias), ..*head }),
            Telling::Name => (None, *head),
        };
        if !fits(&aliased) {
            // Without the three bytes of a new alias it may fit.
            if told.is_some() && fits(head) {
                self.outbox.put_with(|out| encode_head(version, head, out));
                return true;
            }
            return false;
        }
        self.outbox.put_with(|out| encode_head(version, &aliased, out));
        if let (Some(alias), Some(aliases)) = (told, &mut self.aliases) {
            aliases.sent.define(alias, head.topic);
        }
        true
    }
}

impl Broker {
    /// The topic that a topic alias stands for; defines the alias where the packet has both [MQTT-3.3.2-12].
    pub(crate) fn resolve_alias(&mut self, id: ConnId, publish: &Publish<'_>) -> Result<Option<Box<str>>, Fault> {
        let Some(alias) = publish.properties.topic_alias else { return Ok(None) };
        let max = self.limits.topic_alias_maximum;
        let Some(conn) = self.conn_mut(id) else { return Ok(None) };
        if alias == 0 || alias > max {
            // [MQTT-3.3.2-9]
            return Err(Fault::beyond(Limit::TopicAlias, ReasonCode::TopicAliasInvalid));
        }
        if publish.topic.is_empty() {
            return match conn.aliases.as_ref().and_then(|aliases| aliases.received.get(&alias)) {
                Some(topic) => Ok(Some(topic.clone())),
                None => Err(Fault::new(ReasonCode::ProtocolError, "topic alias without a topic [MQTT-3.3.2-12]")),
            };
        }
        let before = conn.aliases.get_or_insert_default().received.insert(alias, publish.topic.into());
        let before = before.map_or(0, |old| old.len() + ENTRY);
        conn.alias_bytes = conn.alias_bytes + publish.topic.len() + ENTRY - before;
        Ok(None)
    }
}
