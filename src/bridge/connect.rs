//! The handshake: CONNECT as configured, what CONNACK allows, SUBSCRIBE.

use crate::config::{self, CloudLimits, Preset};
use crate::mqtt::hop::{self, Gateway};
use crate::mqtt::{
    ConnAck, Connect, ConnectProperties, Filters, Outbox, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeOptions, SubscribeProperties, Subscription, Version, Will, WillProperties,
};
use crate::time::Duration;

/// How long a 5.0 upstream shall keep our session without us: long enough for a box in a drawer, not for ever.
const SESSION_EXPIRY_SECS: u32 = 30 * 24 * 3600;

/// The largest window: leaves packet identifiers of ours for SUBSCRIBE and the link state.
const MAX_WINDOW: u16 = 32_000;

/// Payload of the link state when the link is up.
pub(super) const ONLINE: &[u8] = b"online";
/// Payload of the link state, and of the will, when it is not.
pub(super) const OFFLINE: &[u8] = b"offline";

/// What we take from the upstream at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intake {
    /// Largest packet. A 5.0 upstream is told; any upstream is cut off when it sends more.
    pub max_packet_bytes: u32,
    /// QoS 1 and 2 messages not yet acknowledged (Receive Maximum).
    pub receive_maximum: u16,
}

impl Intake {
    /// As `[broker]` has it: an upstream is treated as any client.
    #[must_use]
    pub fn new(config: &config::Broker) -> Self {
        Self { max_packet_bytes: config.max_packet_bytes, receive_maximum: config.receive_maximum }
    }
}

/// What the upstream allows on this link, CONNACK, MQTT 5.0 section 3.2.2.3. 3.1.1 allows all and says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// QoS 1 and 2 messages on their way, with the operator's limit taken in.
    pub(super) window: usize,
    /// Highest level for a PUBLISH [MQTT-3.2.2-11].
    pub(super) max_qos: QoS,
    /// Whether RETAIN may be set [MQTT-3.2.2-14].
    pub(super) retain: bool,
    /// Largest packet [MQTT-3.2.2-15].
    pub(super) max_packet_bytes: usize,
    /// Zero: no keep-alive.
    pub(super) keepalive: Duration,
    /// Topic aliases that may be used [MQTT-3.2.2-17].
    pub(super) topic_aliases: u16,
    /// What its preset knows beyond that.
    pub(super) cloud: CloudLimits,
}

impl Allowance {
    pub(super) fn new(config: &config::Upstream, connack: &ConnAck<'_>) -> Self {
        let said = &connack.properties;
        let cloud = config.preset.limits();
        let window = config.window().min(said.receive_maximum.unwrap_or(u16::MAX)).clamp(1, MAX_WINDOW);
        let keepalive = said.server_keep_alive.unwrap_or_else(|| config.keepalive_secs());
        Self {
            window: usize::from(window),
            max_qos: said.maximum_qos.unwrap_or(QoS::ExactlyOnce).min(cloud.max_qos),
            retain: said.retain_available.unwrap_or(true) && cloud.retain,
            max_packet_bytes: said.maximum_packet_size.map_or(usize::MAX, |max| max as usize),
            keepalive: Duration::from_secs(u64::from(keepalive)),
            topic_aliases: config.max_topic_aliases.min(said.topic_alias_maximum.unwrap_or(0)),
            cloud,
        }
    }
}

/// How the will is worded. A server judges it before it can tell its limits, so a refusal is the only way to learn
/// them [MQTT-3.2.2-12], [MQTT-3.2.2-13].
#[derive(Debug, Clone, Copy)]
pub(super) struct WillTerms {
    qos: QoS,
    retain: bool,
}

impl WillTerms {
    pub(super) const fn new(cloud: &CloudLimits) -> Self {
        Self { qos: QoS::AtLeastOnce, retain: cloud.retain }
    }

    /// Takes a lesson from a refusal.
    pub(super) fn learn(&mut self, reason: ReasonCode) {
        match reason {
            ReasonCode::QoSNotSupported => self.qos = QoS::AtMostOnce,
            ReasonCode::RetainNotSupported => self.retain = false,
            _ => {}
        }
    }
}

/// Who we are to the upstream.
#[derive(Debug)]
pub(super) struct Hello<'a> {
    pub(super) config: &'a config::Upstream,
    pub(super) version: Version,
    pub(super) password: Option<&'a [u8]>,
    pub(super) clean_start: bool,
    pub(super) will: WillTerms,
    pub(super) intake: Intake,
    pub(super) hop: Option<&'a Gateway>,
}

impl Hello<'_> {
    /// Appends CONNECT.
    pub(super) fn put(&self, outbox: &mut Outbox) {
        let config = self.config;
        let will = (!config.status_topic.is_empty()).then_some(Will {
            topic: &config.status_topic,
            payload: OFFLINE,
            qos: self.will.qos,
            retain: self.will.retain,
            properties: WillProperties::default(),
        });
        // A cloud with limits of its own is no gateway, and need not like what it does not know.
        let hop = self.hop.filter(|_| config.preset == Preset::Generic).map(|hop| hop::property(&hop.name));
        let properties = ConnectProperties {
            session_expiry: (!config.clean_start).then_some(SESSION_EXPIRY_SECS),
            receive_maximum: Some(self.intake.receive_maximum.max(1)),
            maximum_packet_size: Some(self.intake.max_packet_bytes.max(1)),
            user_properties: hop.as_ref().map(|hop| hop.as_slice().into()).unwrap_or_default(),
            ..ConnectProperties::default()
        };
        let username = config.user();
        let connect = Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive: config.keepalive_secs(),
            client_id: &config.client_id,
            will,
            username: username.as_deref(),
            password: self.password,
            properties: if self.version == Version::V5 { properties } else { ConnectProperties::default() },
        };
        outbox.put_with(|out| connect.encode(out));
    }
}

/// Appends one SUBSCRIBE for these filters and levels.
pub(super) fn put_subscribe<'a>(
    version: Version,
    pkid: u16,
    filters: impl Iterator<Item = (&'a str, QoS)>,
    outbox: &mut Outbox,
) {
    let list: Vec<Subscription<'_>> = filters
        .map(|(filter, qos)| {
            let options = SubscribeOptions {
                qos,
                // What we sent does not come back. Shared subscriptions, which may not ask for it, are no rules.
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
            };
            Subscription { filter, options }
        })
        .collect();
    let subscribe =
        Subscribe { pkid, properties: SubscribeProperties::default(), filters: Filters::from(list.as_slice()) };
    outbox.put_with(|out| subscribe.encode(version, out));
}
