//! Who a subscription leads to, and how.

use crate::config::{RuleQos, RuleRetain, UpstreamId};
use crate::mqtt::QoS;
use crate::queue::DestId;
use crate::time::Duration;

/// Who gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A session, by its slot.
    Session(u32),
    /// A bridge rule, by its slot.
    Rule(u32),
}

/// How a subscription wants its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// Subscription identifier, 0 for none.
    pub id: u32,
}

/// A bridge's out-rule as the broker sees it: a filter that leads to a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgeRule {
    /// MQTT filter of local topics.
    pub filter: Box<str>,
    /// Filters of local topics that are left out.
    pub exclude: Vec<Box<str>>,
    /// The rule's queue.
    pub dest: DestId,
    /// What came from this upstream does not go back to it.
    pub upstream: UpstreamId,
    /// What is sent upstream.
    pub qos: RuleQos,
    /// What is sent upstream.
    pub retain: RuleRetain,
    /// Zero: messages do not age.
    pub ttl: Duration,
    /// Its messages have the same topic there as here.
    pub keeps_topic: bool,
}
