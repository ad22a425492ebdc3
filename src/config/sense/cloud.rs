//! Does an upstream fit what its cloud takes?

use crate::config::document::SourceMap;
use crate::config::schema::{Direction, Rule, RuleQos, RuleRetain, Upstream, UpstreamVersion};
use crate::config::{Finding, Preset};
use crate::mqtt::QoS;

/// Checks the upstream at `path`. `map` tells what the file says and what is a default.
pub(super) fn check(path: &str, upstream: &Upstream, map: &SourceMap, found: &mut Vec<Finding>) {
    let (limits, name) = (upstream.preset.limits(), upstream.preset.as_str());
    let at = |key: &str| format!("{path}.{key}");
    if upstream.preset != Preset::Generic && upstream.url.iter().any(|url| !url.tls) {
        let message = format!("{name} is reached over TLS only");
        found.push(Finding::warning(at("url"), message, "write mqtts:// or wss://"));
    }
    if limits.version.is_some_and(|version| version != upstream.version) {
        let message = format!("{name} speaks MQTT 3.1.1 only");
        found.push(Finding::error(at("version"), message, "take `version` out"));
    }
    if let Some(max) = limits.max_keepalive {
        if upstream.keepalive.is_zero() {
            let message = format!("{name} wants a keep-alive");
            found.push(Finding::error(at("keepalive"), message, "write one such as \"60s\""));
        } else if upstream.keepalive > max {
            let message = format!("{name} takes a keep-alive of {}s at most, so this one is used", max.as_secs());
            found.push(Finding::warning(at("keepalive"), message, format!("write \"{}s\"", max.as_secs())));
        }
    }
    if let Some(max) = limits.max_inflight_messages
        && upstream.max_inflight_messages > max
        && map.has(&at("max_inflight_messages"))
    {
        let message = format!("{name} takes {max} messages at a time, so no more are sent");
        found.push(Finding::warning(at("max_inflight_messages"), message, format!("write at most {max}")));
    }
    if let Some(max) = limits.max_client_id_bytes.filter(|max| upstream.client_id.len() > *max) {
        let message = format!("{name} takes client ids of {max} bytes at most");
        found.push(Finding::error(at("client_id"), message, "use a shorter one"));
    }
    let subscriptions = upstream.rule.iter().filter(|rule| rule.direction != Direction::Out).count();
    if let Some(max) = limits.max_subscriptions.filter(|max| subscriptions > *max) {
        let message = format!("{subscriptions} rules subscribe, {name} takes {max} subscriptions");
        found.push(Finding::error(path, message, "join some of them with a wildcard"));
    }
    sas(&at("sas_key_file"), upstream, found);
    fast(&at("pace"), upstream, found);
    for (i, rule) in upstream.rule.iter().enumerate() {
        clamped(&format!("{path}.rule[{i}]"), rule, upstream, found);
        untold(&format!("{path}.rule[{i}]"), rule, upstream, found);
    }
}

fn fast(at: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    let (pace, usual) = (upstream.pace, upstream.preset.limits().pace);
    let faster = |pace: u64, usual: u64| usual > 0 && (pace == 0 || pace > usual);
    if faster(pace.messages, usual.messages) || faster(pace.bytes, usual.bytes) {
        let message = format!("{} does not take messages as fast as that", upstream.preset.as_str());
        let help = format!("leave `pace` out for {} messages and {} bytes a second", usual.messages, usual.bytes);
        found.push(Finding::warning(at, message, help));
    }
}

fn sas(at: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    if upstream.sas_key_file.is_none() {
        return;
    }
    if upstream.preset != Preset::AzureIotHub {
        let message = "`sas_key_file` has no effect: it is for Azure IoT Hub";
        found.push(Finding::warning(at, message, "write `preset = \"azure-iot-hub\"`, or take it out"));
    } else if upstream.password_file.is_some() {
        found.push(Finding::error(at, "there are two passwords", "take out `password_file` or `sas_key_file`"));
    }
}

/// Numbers that are given and never told.
fn untold(path: &str, rule: &Rule, upstream: &Upstream, found: &mut Vec<Finding>) {
    let has_room = upstream.version == UpstreamVersion::V5 || upstream.preset == Preset::AzureIotHub;
    if rule.trace && rule.direction != Direction::In && !has_room && !rule.remap.contains("{mw-") {
        let message = "`trace` has no effect here: messages of MQTT 3.1.1 have no properties";
        let help = "write {mw-time}, {mw-seq} and {mw-epoch} into `remap`, or take it out";
        found.push(Finding::warning(format!("{path}.trace"), message, help));
    }
}

/// What a rule asks for and will not get.
fn clamped(path: &str, rule: &Rule, upstream: &Upstream, found: &mut Vec<Finding>) {
    let (limits, name) = (upstream.preset.limits(), upstream.preset.as_str());
    if matches!(rule.qos, RuleQos::Fixed(qos) if qos > limits.max_qos) {
        let message =
            format!("{name} has no QoS {}: it will be {}", QoS::ExactlyOnce.as_u8(), limits.max_qos.as_u8());
        found.push(Finding::warning(format!("{path}.qos"), message, "write `qos = 1`"));
    }
    if rule.retain == RuleRetain::Set && !limits.retain {
        let message = format!("{name} takes no retained messages: they are sent without the flag");
        found.push(Finding::warning(format!("{path}.retain"), message, "write `retain = \"strip\"`"));
    }
}
