//! What the engine may hold, by its configuration.

use moteway::config::Config;
use moteway::engine::Status;

/// Checks every gauge against its limit.
pub fn check(config: &Config, status: &Status, open: usize) {
    let broker = &config.broker;
    let sn = &config.sn;
    assert_eq!(status.connections, open, "connections that are counted and connections that are open");
    assert!(status.connections <= broker.max_connections);
    assert!(status.sessions <= broker.max_sessions, "{} sessions", status.sessions);
    let rules: usize = config.upstream.iter().map(|upstream| upstream.rule.len()).sum();
    let subscriptions = broker.max_sessions * broker.max_subscriptions_per_client + rules;
    assert!(status.subscriptions <= subscriptions, "{} subscriptions", status.subscriptions);
    let (messages, bytes) = status.retained;
    // What the gateway says about itself is retained too.
    assert!(
        messages <= broker.max_retained_messages && bytes <= broker.max_retained_bytes,
        "{:?}",
        status.retained
    );
    assert!(status.gateway.clients <= sn.max_clients as u64, "{:?}", status.gateway);
    assert!(status.gateway.topics <= (sn.max_clients * sn.max_topics_per_client) as u64, "{:?}", status.gateway);
    // Small changes are taken even where there is no room, as many as a client has packet identifiers; a session's
    // record waits once.
    let slack = 192 * 1024;
    assert!(
        status.pending_bytes <= config.store.max_pending_bytes + slack,
        "{} bytes pending",
        status.pending_bytes
    );
    for line in &status.lines {
        let rule = config.upstream.iter().flat_map(|upstream| {
            let name = |rule: &str| format!("rule:{}/{rule}", upstream.name);
            upstream.rule.iter().map(move |rule| (name(&rule.name), rule.max_messages, rule.max_bytes))
        });
        let of_rule = rule.into_iter().find(|(name, ..)| *name == line.name);
        let (messages, bytes) = of_rule.map_or_else(
            || {
                (
                    broker.max_queued_messages.max(sn.max_sleep_messages),
                    broker.max_queued_bytes.max(sn.max_sleep_bytes),
                )
            },
            |(_, messages, bytes)| (messages, bytes),
        );
        assert!(line.depth.messages <= messages && line.depth.bytes <= bytes, "{line:?}");
        assert_eq!(line.depth.messages == 0, line.depth.bytes == 0, "{line:?}");
        assert_eq!(line.stats.lost, 0, "{line:?}");
    }
}
