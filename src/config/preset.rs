//! What is known of clouds: the limits they do not tell in CONNACK, and what they ask for beyond the standard.

use crate::config::schema::{Pace, Upstream, UpstreamVersion};
use crate::mqtt::QoS;
use crate::time::Duration;

/// The kind of broker an upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Follows the standard, and tells its limits.
    #[default]
    Generic,
    AwsIotCore,
    AzureIotHub,
    AzureEventGrid,
    HivemqCloud,
    EmqxCloud,
    Thingsboard,
}

pub(super) const PRESETS: &[(&str, Preset)] = &[
    ("generic", Preset::Generic),
    ("aws-iot-core", Preset::AwsIotCore),
    ("azure-iot-hub", Preset::AzureIotHub),
    ("azure-event-grid", Preset::AzureEventGrid),
    ("hivemq-cloud", Preset::HivemqCloud),
    ("emqx-cloud", Preset::EmqxCloud),
    ("thingsboard", Preset::Thingsboard),
];

/// What a broker takes, whatever CONNACK says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudLimits {
    /// Highest level of a PUBLISH and of a subscription.
    pub max_qos: QoS,
    /// Whether retained messages are taken.
    pub retain: bool,
    /// Topic and payload of one message.
    pub max_message_bytes: Option<u32>,
    pub max_topic_bytes: Option<usize>,
    /// Slashes in a topic.
    pub max_slashes: Option<usize>,
    /// Topics that begin so may have more slashes: what comes after it is counted.
    pub deep_prefix: Option<&'static str>,
    pub filters_per_subscribe: usize,
    pub max_subscriptions: Option<usize>,
    /// QoS 1 and 2 messages on their way.
    pub max_inflight_messages: Option<u16>,
    pub max_keepalive: Option<Duration>,
    pub max_client_id_bytes: Option<usize>,
    /// The one version that is spoken.
    pub version: Option<UpstreamVersion>,
    /// What is kept to where the configuration says nothing else.
    pub pace: Pace,
}

/// What the standard allows. Filters go eight at a time, which is as good as any number.
const STANDARD: CloudLimits = CloudLimits {
    max_qos: QoS::ExactlyOnce,
    retain: true,
    max_message_bytes: None,
    max_topic_bytes: None,
    max_slashes: None,
    deep_prefix: None,
    filters_per_subscribe: 8,
    max_subscriptions: None,
    max_inflight_messages: None,
    max_keepalive: None,
    max_client_id_bytes: None,
    version: None,
    pace: Pace { messages: 0, bytes: 0 },
};

impl Preset {
    /// As the configuration names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        PRESETS.iter().find(|(_, preset)| *preset == self).map_or("generic", |(name, _)| name)
    }

    /// What it takes.
    #[must_use]
    pub const fn limits(self) -> CloudLimits {
        match self {
            // The first says all in CONNACK, and ends the connection of who does not listen (0x93).
            Self::Generic | Self::HivemqCloud | Self::EmqxCloud => STANDARD,
            Self::AwsIotCore => CloudLimits {
                max_qos: QoS::AtLeastOnce,
                max_message_bytes: Some(128 << 10),
                max_topic_bytes: Some(256),
                max_slashes: Some(7),
                deep_prefix: Some("$aws/rules/"),
                max_subscriptions: Some(50),
                max_inflight_messages: Some(100),
                max_keepalive: Some(Duration::from_secs(1200)),
                max_client_id_bytes: Some(128),
                // It takes 100 messages and 512 KiB a second. Below that by what a burst and the largest message add.
                pace: Pace { messages: 90, bytes: 340_000 },
                ..STANDARD
            },
            Self::AzureIotHub => CloudLimits {
                max_qos: QoS::AtLeastOnce,
                retain: false,
                max_message_bytes: Some(256 << 10),
                max_subscriptions: Some(5),
                max_keepalive: Some(Duration::from_secs(1177)),
                max_client_id_bytes: Some(128),
                version: Some(UpstreamVersion::V311),
                ..STANDARD
            },
            Self::AzureEventGrid => CloudLimits {
                max_qos: QoS::AtLeastOnce,
                retain: false,
                max_message_bytes: Some(512 << 10),
                max_slashes: Some(7),
                max_topic_bytes: Some(256),
                max_subscriptions: Some(50),
                max_keepalive: Some(Duration::from_secs(1160)),
                max_client_id_bytes: Some(128),
                ..STANDARD
            },
            Self::Thingsboard => CloudLimits {
                max_qos: QoS::AtLeastOnce,
                retain: false,
                max_message_bytes: Some(64 << 10),
                ..STANDARD
            },
        }
    }
}

impl CloudLimits {
    /// Why the upstream does not take a message on this topic, if it does not.
    #[must_use]
    pub fn objection(&self, topic: &str, payload: usize) -> Option<String> {
        let bytes = topic.len() + payload;
        if let Some(max) = self.max_message_bytes.filter(|max| bytes > *max as usize) {
            return Some(format!("topic and payload of {bytes} bytes are too large, the upstream takes {max}"));
        }
        if let Some(max) = self.max_topic_bytes.filter(|max| topic.len() > *max) {
            return Some(format!("topic of {} bytes is too long, the upstream takes {max}", topic.len()));
        }
        // `$aws/rules/NAME/` does not count.
        let counted = self.deep_prefix.and_then(|prefix| topic.strip_prefix(prefix));
        let counted = counted.map_or(topic, |rest| rest.split_once('/').map_or("", |(_, rest)| rest));
        let slashes = counted.bytes().filter(|byte| *byte == b'/').count();
        let max = self.max_slashes.filter(|max| slashes > *max)?;
        Some(format!("topic with {slashes} slashes is too deep, the upstream takes {max}"))
    }
}

impl Upstream {
    /// The keep-alive that the upstream takes, in whole seconds.
    #[must_use]
    pub fn keepalive_secs(&self) -> u16 {
        let max = self.preset.limits().max_keepalive.unwrap_or(Duration::MAX);
        u16::try_from(self.keepalive.min(max).as_secs()).unwrap_or(u16::MAX)
    }

    /// The window that is configured, within what the upstream takes.
    #[must_use]
    pub fn window(&self) -> u16 {
        self.max_inflight_messages.min(self.preset.limits().max_inflight_messages.unwrap_or(u16::MAX))
    }

    /// The user name: Azure IoT Hub wants one made of hub and device.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        match (&self.username, self.preset, self.url.first()) {
            (None, Preset::AzureIotHub, Some(url)) => {
                Some(format!("{}/{}/?api-version=2021-04-12", url.host, self.client_id))
            }
            (name, ..) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_aws_are_counted_as_aws_counts_them() {
        let aws = Preset::AwsIotCore.limits();
        for (topic, taken) in [
            ("1/2/3/4/5/6/7/8", true),
            ("1/2/3/4/5/6/7/8/9", false),
            ("$aws/rules/my_rule/1/2/3/4/5/6/7/8", true),
            ("$aws/rules/my_rule/1/2/3/4/5/6/7/8/9", false),
        ] {
            assert_eq!(aws.objection(topic, 10).is_none(), taken, "{topic}");
        }
        assert!(aws.objection(&"x".repeat(257), 1).is_some_and(|why| why.contains("257 bytes")));
        assert_eq!(aws.objection("t", (128 << 10) - 1), None);
        assert!(aws.objection("t", 128 << 10).is_some_and(|why| why.contains("131073 bytes")));
        assert_eq!(Preset::Generic.limits().objection(&"/".repeat(1000), 1 << 28), None);
    }

    #[test]
    fn what_is_configured_is_clamped_and_the_hub_gets_its_user_name() {
        let upstream = Upstream {
            preset: Preset::AzureIotHub,
            url: vec![crate::config::UpstreamUrl {
                tls: true,
                host: "hub.azure-devices.net".to_owned(),
                port: 8883,
                websocket: None,
            }],
            client_id: "box-7".to_owned(),
            keepalive: Duration::from_secs(3600),
            ..Upstream::default()
        };
        assert_eq!((upstream.keepalive_secs(), upstream.window()), (1177, 1000));
        assert_eq!(upstream.user().as_deref(), Some("hub.azure-devices.net/box-7/?api-version=2021-04-12"));
        let named = Upstream { username: Some("x".to_owned()), ..upstream };
        assert_eq!(named.user().as_deref(), Some("x"));
        let aws = Upstream { preset: Preset::AwsIotCore, ..named };
        assert_eq!((aws.window(), aws.keepalive_secs()), (100, 1200));
    }

    #[test]
    fn every_preset_has_the_name_it_is_found_by() {
        for (name, preset) in PRESETS {
            assert_eq!(preset.as_str(), *name);
        }
    }
}
