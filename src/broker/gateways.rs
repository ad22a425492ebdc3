//! Other gateways: upstreams of our bridges, clients here, or both. What came from one does not go back there, and what
//! goes there by a rule does not go there by its subscription too.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::publish::Inbound;
use crate::broker::target::BridgeRule;
use crate::config::{RuleQos, UpstreamId};
use crate::mqtt::hop::Gateway;
use crate::mqtt::topic;

/// Who is who.
#[derive(Debug)]
pub(crate) struct Gateways {
    /// This one. Bridges put its marker on messages that leave from here.
    pub own: Gateway,
    /// Upstreams that are gateways.
    upstreams: BTreeMap<UpstreamId, Gateway>,
}

impl Gateways {
    pub(crate) const fn new(own: Gateway) -> Self {
        Self { own, upstreams: BTreeMap::new() }
    }

    /// Whether a message came from the upstream of a rule, by whatever way.
    pub(crate) fn came_from(&self, rule: &BridgeRule, inbound: &Inbound<'_>) -> bool {
        self.upstreams.get(&rule.upstream).is_some_and(|gateway| gateway.has_passed(inbound.properties))
    }

    /// Whether a rule takes a message to this gateway, where it arrives as it would by a subscription.
    fn takes_to(&self, rule: &BridgeRule, gateway: &Gateway, inbound: &Inbound<'_>) -> bool {
        let is_whole = match rule.qos {
            RuleQos::Keep => rule.keeps_topic,
            RuleQos::Fixed(qos) => rule.keeps_topic && qos >= inbound.qos,
        };
        is_whole
            && self.upstreams.get(&rule.upstream) == Some(gateway)
            && topic::matches(&rule.filter, inbound.topic)
            && !rule.exclude.iter().any(|filter| topic::matches(filter, inbound.topic))
    }
}

impl Broker {
    /// Who this is, to other gateways.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateways.own
    }

    /// From now on this is somebody else to other gateways.
    pub fn set_gateway(&mut self, own: Gateway) {
        self.gateways.own = own;
    }

    /// The upstream is this gateway, or none.
    pub fn meet(&mut self, upstream: UpstreamId, gateway: Option<&Gateway>) {
        match gateway {
            Some(gateway) => self.gateways.upstreams.insert(upstream, gateway.clone()),
            None => self.gateways.upstreams.remove(&upstream),
        };
    }

    /// Whether a client that is this gateway has a message already, or gets it from a bridge.
    pub(crate) fn has_another_way(&self, gateway: &Gateway, inbound: &Inbound<'_>) -> bool {
        gateway.has_passed(inbound.properties)
            || self.rules.iter().any(|rule| self.gateways.takes_to(rule, gateway, inbound))
    }
}
