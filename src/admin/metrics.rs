//! `/metrics` in Prometheus' text format. Units are in the names; labels are names from the configuration and fixed
//! words, so their number is bounded: no client, topic or address is a label.

use std::fmt::{Display, Write};

use crate::admin::Office;
use crate::admin::status::{client_reasons, reasons, rule_of};
use crate::bridge::{self, LinkState};
use crate::broker::Limit;
use crate::engine::Overview;
use crate::gateway;
use crate::metrics::{DtlsStats, PortStats};
use crate::mqttsn::framing;
use crate::queue::{Depth, LineStats};
use crate::sys;
use crate::time::{Now, Wall};

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A figure of many.
type Of<T> = fn(&T) -> u64;

/// All metrics.
pub(super) fn text(office: &Office, now: Now, overview: &Overview) -> String {
    let mut page = Page::default();
    process(&mut page, office, now);
    clients(&mut page, overview);
    traffic(&mut page, overview);
    upstreams(&mut page, overview);
    queues(&mut page, overview);
    lost(&mut page, overview);
    radio(&mut page, overview, now);
    store(&mut page, overview);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Infallible: it writes to a string.
        write!(self.0, "# HELP moteway_{name} {help}\n# TYPE moteway_{name} {kind}\n").ok();
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        write!(self.0, "moteway_{name}").ok();
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            write!(self.0, "{before}{label}=\"{}\"", Escaped(value)).ok();
        }
        let end = if labels.is_empty() { "" } else { "}" };
        writeln!(self.0, "{end} {value}").ok();
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.value(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.value(name, &[], value);
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

/// Seconds with three decimals, without a float's rounding.
struct Seconds(Wall);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis();
        write!(f, "{}.{:03}", millis / 1_000, millis % 1_000)
    }
}

fn process(page: &mut Page, office: &Office, now: Now) {
    page.family("build_info", "gauge", "Version and name of the gateway; the value is always 1.");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION")), ("gateway", &office.name)], 1);
    let started = now.wall.as_millis().saturating_sub(now.at.as_micros() / 1_000);
    let help = "When the process started, in seconds since 1970.";
    page.gauge("start_time_seconds", help, Seconds(Wall::from_millis(started)));
    if let Some(bytes) = sys::resident_bytes() {
        page.gauge("resident_memory_bytes", "Memory of the process.", bytes);
    }
    if let Some(time) = sys::cpu_time() {
        page.family("cpu_seconds_total", "counter", "Processor time of the process.");
        page.value("cpu_seconds_total", &[], time.as_secs_f64());
    }
}

fn clients(page: &mut Page, overview: &Overview) {
    let status = &overview.status;
    let broker = &status.broker;
    page.gauge("mqtt_connections", "Open MQTT connections.", status.connections);
    page.family("sessions", "gauge", "Sessions, by whether their client is connected.");
    page.value("sessions", &[("state", "connected")], overview.connected);
    page.value("sessions", &[("state", "away")], status.sessions - overview.connected);
    page.gauge("subscriptions", "Subscriptions, rules of bridges too.", status.subscriptions);
    page.counter("mqtt_connections_accepted_total", "MQTT connections accepted.", broker.connections_opened);
    page.counter("mqtt_connects_total", "MQTT clients that were let in.", broker.connects);
    page.family("mqtt_refused_total", "counter", "What was refused to MQTT clients, by what it was.");
    for (what, count) in [
        ("connection", broker.connections_refused),
        ("login", broker.logins_refused),
        ("login-throttled", broker.logins_throttled),
        ("login-busy", broker.logins_busy),
        ("publish", broker.publish_refused),
        ("publish-not-allowed", broker.publish_denied),
        ("subscribe-not-allowed", broker.subscribe_denied),
        ("retained", broker.retained_refused),
    ] {
        page.value("mqtt_refused_total", &[("what", what)], count);
    }
    page.counter(
        "mqtt_protocol_errors_total",
        "Connections ended for breaking the protocol.",
        broker.protocol_errors,
    );
    page.counter("mqtt_silent_total", "Connections ended because they were silent.", broker.silent);
    page.family("limit_reached_total", "counter", "How often a limit was reached, by its key.");
    for limit in Limit::ALL {
        page.value("limit_reached_total", &[("limit", limit.key())], broker.limits.of(*limit));
    }
}

fn traffic(page: &mut Page, overview: &Overview) {
    let broker = &overview.status.broker;
    page.counter("mqtt_publish_received_total", "PUBLISH packets of MQTT clients.", broker.publish_received);
    page.counter("mqtt_publish_sent_total", "PUBLISH packets to MQTT clients.", broker.publish_sent);
    page.counter("mqtt_received_bytes_total", "Bytes of MQTT clients, without TLS.", broker.bytes_received);
    page.counter("mqtt_sent_bytes_total", "Bytes to MQTT clients, without TLS.", broker.bytes_sent);
    page.gauge("retained_messages", "Retained messages.", overview.status.retained.0);
    page.gauge("retained_bytes", "Bytes of retained messages.", overview.status.retained.1);
}

fn upstreams(page: &mut Page, overview: &Overview) {
    let upstreams = &overview.status.upstreams;
    page.family("upstream_up", "gauge", "Whether the link to the upstream is up.");
    for upstream in upstreams {
        let up = u8::from(upstream.stats.state == LinkState::Up);
        page.value("upstream_up", &[("upstream", &upstream.name)], up);
    }
    page.family("upstream_state_since_seconds", "gauge", "Since when the link is as it is, in seconds since 1970.");
    for upstream in upstreams {
        let since = Seconds(upstream.stats.since);
        page.value("upstream_state_since_seconds", &[("upstream", &upstream.name)], since);
    }
    let counters: [(&str, &str, Of<bridge::Stats>); 13] = [
        ("upstream_connects_total", "Links that came up.", |stats| stats.connects),
        ("upstream_connect_failures_total", "Tries that did not come up.", |stats| stats.failures),
        ("upstream_losses_total", "Links that were up and ended.", |stats| stats.losses),
        ("upstream_published_total", "PUBLISH packets sent, repeated ones too.", |stats| stats.sent),
        ("upstream_acknowledged_total", "Messages that the upstream has.", |stats| stats.acked),
        ("upstream_received_total", "Messages that came from the upstream.", |stats| stats.received),
        ("upstream_refused_total", "Messages of the upstream that were refused here.", |stats| stats.refused),
        ("upstream_unmatched_total", "Messages of the upstream that no rule takes.", |stats| stats.unmatched),
        ("upstream_dead_letters_total", "Messages moved to the dead letters.", |stats| stats.buried),
        ("upstream_pauses_total", "Times that the upstream asked for a pause.", |stats| stats.pauses),
        ("upstream_unsolicited_total", "Acknowledgements of nothing in flight.", |stats| stats.unsolicited),
        ("upstream_sent_bytes_total", "Bytes given to the transport.", |stats| stats.bytes_out),
        ("upstream_received_bytes_total", "Bytes received.", |stats| stats.bytes_in),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for upstream in upstreams {
            page.value(name, &[("upstream", &upstream.name)], count(&upstream.stats));
        }
    }
}

fn queues(page: &mut Page, overview: &Overview) {
    // What clients have counts as one queue, of the upstream and rule "".
    let rules = || {
        let rules = overview.status.lines.iter().filter_map(|line| {
            let (upstream, rule) = rule_of(line)?;
            Some((upstream, rule, line.depth, line.stats))
        });
        rules.chain([("", "", overview.clients.depth, overview.clients.stats)])
    };
    let gauges: [(&str, &str, Of<Depth>); 2] = [
        ("queue_messages", "Messages that wait; those of clients together, under empty labels.", |at| at.messages),
        ("queue_bytes", "Bytes that wait.", |at| at.bytes),
    ];
    for (name, help, count) in gauges {
        page.family(name, "gauge", help);
        for (upstream, rule, depth, _) in rules() {
            page.value(name, &[("upstream", upstream), ("rule", rule)], count(&depth));
        }
    }
    page.family(
        "queue_oldest_seconds",
        "gauge",
        "When the oldest message that waits arrived, in seconds since 1970.",
    );
    for (upstream, rule, depth, _) in rules() {
        if let Some(oldest) = depth.oldest {
            page.value("queue_oldest_seconds", &[("upstream", upstream), ("rule", rule)], Seconds(oldest));
        }
    }
    page.family("queue_limit_messages", "gauge", "Messages that may wait.");
    page.family_of_limits("queue_limit_messages", overview, |limits| limits.max_messages);
    page.family("queue_limit_bytes", "gauge", "Bytes that may wait.");
    page.family_of_limits("queue_limit_bytes", overview, |limits| limits.max_bytes);
    let counters: [(&str, &str, Of<LineStats>); 2] = [
        ("queue_accepted_total", "Messages taken into the queue.", |stats| stats.accepted),
        ("queue_delivered_total", "Messages that their receiver acknowledged.", |stats| stats.delivered),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for (upstream, rule, _, stats) in rules() {
            page.value(name, &[("upstream", upstream), ("rule", rule)], count(&stats));
        }
    }
    page.family("queue_dropped_total", "counter", "Messages that did not arrive, by reason.");
    for (upstream, rule, _, stats) in rules() {
        for (reason, count) in reasons(&stats) {
            let labels = [("upstream", upstream), ("rule", rule), ("reason", reason)];
            page.value("queue_dropped_total", &labels, count);
        }
    }
}

impl Page {
    fn family_of_limits(&mut self, name: &str, overview: &Overview, limit: fn(&crate::queue::Limits) -> u64) {
        for line in &overview.status.lines {
            let Some((upstream, rule)) = rule_of(line) else { continue };
            if limit(&line.limits) != u64::MAX {
                self.value(name, &[("upstream", upstream), ("rule", rule)], limit(&line.limits));
            }
        }
    }
}

fn lost(page: &mut Page, overview: &Overview) {
    page.family("dropped_total", "counter", "Messages on their way to a client that were dropped, by reason.");
    for (to, reason, count) in client_reasons(overview) {
        page.value("dropped_total", &[("to", to), ("reason", reason)], count);
    }
}

fn radio(page: &mut Page, overview: &Overview, now: Now) {
    let node = &overview.status.gateway;
    page.family("sn_clients", "gauge", "MQTT-SN clients by state.");
    let other = node.clients.saturating_sub(node.active + node.sleeping);
    for (state, count) in [("active", node.active), ("asleep", node.sleeping), ("other", other)] {
        page.value("sn_clients", &[("state", state)], count);
    }
    let sleepers = overview.sleepers;
    page.gauge("sn_buffered_messages", "Messages that wait for clients that sleep.", sleepers.messages);
    page.gauge("sn_buffered_bytes", "Bytes in these.", sleepers.bytes);
    page.family("sn_sleep_ends_seconds", "gauge", "When the next sleeper is given up, in seconds since 1970.");
    if let Some(at) = sleepers.next_end {
        page.value("sn_sleep_ends_seconds", &[], Seconds(now.wall_at(at)));
    }
    for (name, help, count) in [
        ("sn_messages_received_total", "MQTT-SN messages received.", node.messages_received),
        ("sn_messages_sent_total", "MQTT-SN messages sent.", node.messages_sent),
        ("sn_publish_received_total", "PUBLISH of MQTT-SN clients.", node.publishes_received),
        ("sn_publish_sent_total", "PUBLISH to MQTT-SN clients.", node.publishes_sent),
        ("sn_retransmissions_total", "Requests sent again for want of an answer.", node.retransmissions),
        ("sn_clients_lost_total", "MQTT-SN clients that fell silent.", node.clients_lost),
        ("sn_malformed_total", "Datagrams and frames that are no message.", node.malformed),
        ("sn_congestion_total", "Requests refused with congestion.", node.congestion),
    ] {
        page.counter(name, help, count);
    }
    page.family("link_up", "gauge", "Whether a radio link can carry something.");
    for link in &overview.status.links {
        page.value("link_up", &[("link", &link.name)], u8::from(link.open));
    }
    let counters: [(&str, &str, Of<gateway::LinkStats>); 5] = [
        ("link_messages_received_total", "MQTT-SN messages of a link.", |stats| stats.messages_received),
        ("link_messages_sent_total", "MQTT-SN messages to a link.", |stats| stats.messages_sent),
        ("link_malformed_total", "Frames or datagrams of a link that are no message.", |stats| stats.malformed),
        ("link_rate_limited_total", "Messages beyond the rate of their node.", |stats| stats.rate_limited),
        ("link_retransmissions_total", "Requests sent again on a link.", |stats| stats.retransmissions),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for link in &overview.status.links {
            page.value(name, &[("link", &link.name)], count(&link.stats));
        }
    }
    links(page, overview, now);
}

/// Figures that not every link has.
fn links(page: &mut Page, overview: &Overview, now: Now) {
    let links = &overview.status.links;
    let counters: [(&str, &str, Of<PortStats>); 2] = [
        ("link_dropped_total", "Messages to a link whose socket or port was full or away.", |port| port.dropped),
        ("link_lost_total", "Datagrams that came faster than they could be taken.", |port| port.lost),
    ];
    for (name, help, count) in counters {
        page.family(name, "counter", help);
        for link in links {
            page.value(name, &[("link", &link.name)], count(&link.port));
        }
    }
    page.family("link_last_heard_seconds", "gauge", "When a message last came, in seconds since 1970.");
    for link in links {
        if let Some(at) = link.stats.heard_at {
            page.value("link_last_heard_seconds", &[("link", &link.name)], Seconds(now.wall_at(at)));
        }
    }
    page.family("link_round_trip_seconds", "gauge", "From a request on a link to its answer, smoothed.");
    for link in &overview.status.links {
        if let Some(time) = link.stats.round_trip {
            page.value("link_round_trip_seconds", &[("link", &link.name)], time.as_secs_f64());
        }
    }
    let serial: [(&str, &str, Of<framing::Stats>); 6] = [
        ("link_frames_total", "Frames of a serial link.", |stats| stats.frames),
        ("link_noise_bytes_total", "Octets of a serial link that are in no frame.", |stats| stats.noise_bytes),
        ("link_checksum_errors_total", "Frames of a serial link with a wrong checksum.", |stats| stats.crc_errors),
        ("link_oversize_total", "Frames of a serial link longer than its MTU.", |stats| stats.oversize),
        ("link_timeouts_total", "Frames that a serial link fell silent in.", |stats| stats.timeouts),
        ("link_undelivered_total", "Messages that a radio module could not deliver.", |stats| stats.undelivered),
    ];
    for (name, help, count) in serial {
        page.family(name, "counter", help);
        for link in links {
            if let Some(stats) = &link.framing {
                page.value(name, &[("link", &link.name)], count(stats));
            }
        }
    }
    dtls(page, overview);
}

fn dtls(page: &mut Page, overview: &Overview) {
    let links = || overview.status.links.iter().filter_map(|link| Some((link.name.as_str(), link.port.dtls?)));
    let figures: [(&str, &str, &str, Of<DtlsStats>); 9] = [
        ("dtls_associations", "gauge", "Associations that stand.", |stats| stats.associations),
        ("dtls_handshakes", "gauge", "Handshakes under way.", |stats| stats.handshakes),
        ("dtls_opened_total", "counter", "Handshakes that ended well.", |stats| stats.opened),
        ("dtls_hellos_dropped_total", "counter", "Handshakes not begun: there were too many.", |stats| {
            stats.hellos_dropped
        }),
        ("dtls_displaced_total", "counter", "Handshakes without a cookie that gave way to others.", |stats| {
            stats.displaced
        }),
        ("dtls_closed_total", "counter", "Associations that the node ended, or an error.", |stats| stats.closed),
        ("dtls_idle_total", "counter", "Associations ended after a long silence.", |stats| stats.idle),
        ("dtls_evicted_total", "counter", "Associations that gave way to another.", |stats| stats.evicted),
        ("dtls_strays_total", "counter", "Datagrams of no association.", |stats| stats.strays),
    ];
    for (name, kind, help, figure) in figures {
        page.family(name, kind, help);
        for (link, stats) in links() {
            page.value(name, &[("link", link)], figure(&stats));
        }
    }
    page.family("dtls_failed_total", "counter", "Handshakes that came to nothing, by reason.");
    for (link, stats) in links() {
        for (reason, count) in stats.failed.by_reason() {
            page.value("dtls_failed_total", &[("link", link), ("reason", reason)], count);
        }
    }
}

fn store(page: &mut Page, overview: &Overview) {
    let status = &overview.status;
    let help = "Whether the last write failed, so that what must be safe is refused.";
    page.gauge("store_failing", help, u8::from(status.store_failing));
    page.gauge("store_pending_bytes", "Bytes that wait for the disk.", status.pending_bytes);
    page.gauge("queue_memory_bytes", "Bytes of queued messages in memory.", overview.queue_memory);
}
