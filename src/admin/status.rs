//! From the engine's figures to the report.

use crate::admin::Office;
use crate::admin::report::{
    Client, ClientPage, ClientQueues, Clients, Dtls, Link, Loss, Process, Queue, Report, Serial, Store, Traffic,
    Upstream,
};
use crate::bridge::LinkState;
use crate::engine::{ClientStatus, LineStatus, LinkStatus, Overview, UpstreamStatus};
use crate::metrics::DtlsStats;
use crate::mqttsn::framing;
use crate::queue::LineStats;
use crate::sys;
use crate::time::{Duration, Now, Wall};

/// A link may be away this long before it is a problem: it is dialled again at once after a loss.
const LINK_PATIENCE: Duration = Duration::from_secs(30);
/// A queue this full is a problem, in percent.
const NEARLY_FULL: u64 = 90;

/// What is told of the gateway.
pub(super) fn report(office: &Office, now: Now, overview: &Overview) -> Report {
    let status = &overview.status;
    let queues: Vec<Queue> = status.lines.iter().filter_map(queue).collect();
    let problems = problems(now, overview, &queues);
    let connected = overview.connected as u64;
    Report {
        name: office.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: now.wall.as_millis(),
        started: now.wall.as_millis().saturating_sub(now.at.as_micros() / 1_000),
        well: problems.is_empty(),
        problems,
        upstreams: status.upstreams.iter().map(upstream).collect(),
        queues,
        client_queues: ClientQueues {
            queues: overview.clients.lines,
            messages: overview.clients.depth.messages,
            bytes: overview.clients.depth.bytes,
            oldest: overview.clients.depth.oldest.map(Wall::as_millis),
            accepted: overview.clients.stats.accepted,
            delivered: overview.clients.stats.delivered,
        },
        lost: losses(overview),
        clients: Clients {
            connections: status.connections as u64,
            sessions: status.sessions as u64,
            connected,
            away: status.sessions as u64 - connected,
            subscriptions: status.subscriptions as u64,
            sn_known: status.gateway.clients,
            sn_active: status.gateway.active,
            sn_asleep: status.gateway.sleeping,
            sn_buffered: overview.sleepers.messages,
            sn_buffered_bytes: overview.sleepers.bytes,
            sn_sleep_ends: overview.sleepers.next_end.map(|at| now.wall_at(at).as_millis()),
        },
        links: links(now, overview),
        store: Store {
            failing: status.store_failing,
            pending_bytes: status.pending_bytes as u64,
            queue_memory_bytes: overview.queue_memory as u64,
            retained_messages: status.retained.0 as u64,
            retained_bytes: status.retained.1 as u64,
        },
        traffic: Traffic {
            mqtt_received: status.broker.publish_received,
            mqtt_sent: status.broker.publish_sent,
            mqtt_bytes_received: status.broker.bytes_received,
            mqtt_bytes_sent: status.broker.bytes_sent,
            sn_received: status.gateway.publishes_received,
            sn_sent: status.gateway.publishes_sent,
        },
        process: Process {
            resident_bytes: sys::resident_bytes(),
            cpu_seconds: sys::cpu_time().map(|time| time.as_secs_f64()),
        },
        can_change: office.token.is_some(),
    }
}

fn problems(now: Now, overview: &Overview, queues: &[Queue]) -> Vec<String> {
    let mut problems = Vec::new();
    if overview.status.store_failing {
        problems.push("the disk takes nothing: messages that must be safe are refused".to_owned());
    }
    for UpstreamStatus { name, stats, .. } in &overview.status.upstreams {
        let for_millis = now.wall.as_millis().saturating_sub(stats.since.as_millis());
        let is_fresh = stats.failures == 0 && u128::from(for_millis) < LINK_PATIENCE.as_millis();
        if stats.state != LinkState::Up && !is_fresh {
            let why = stats.last_error.as_deref().unwrap_or("it was never up");
            problems.push(format!("upstream {name} is down: {why}"));
        }
    }
    for link in overview.status.links.iter().filter(|link| !link.open) {
        problems.push(format!("link {} is away: its serial port cannot be opened", link.name));
    }
    for queue in queues {
        let full = percent(queue.messages, queue.max_messages).max(percent(queue.bytes, queue.max_bytes));
        let Queue { upstream, rule, messages, .. } = queue;
        if full >= NEARLY_FULL {
            problems.push(format!("the queue of {upstream}/{rule} is {full} % full"));
        }
        if queue.max_messages.is_none() && *messages > 0 {
            problems
                .push(format!("{messages} messages of {upstream}/{rule} wait for a rule that is not configured"));
        }
    }
    problems
}

fn percent(part: u64, whole: Option<u64>) -> u64 {
    whole.filter(|whole| *whole > 0).map_or(0, |whole| part.saturating_mul(100) / whole)
}

fn upstream(found: &UpstreamStatus) -> Upstream {
    let stats = &found.stats;
    Upstream {
        name: found.name.clone(),
        state: stats.state.as_str().to_owned(),
        since: stats.since.as_millis(),
        url: found.url.clone(),
        last_error: stats.last_error.clone(),
        connects: stats.connects,
        failures: stats.failures,
        losses: stats.losses,
        sent: stats.sent,
        acknowledged: stats.acked,
        received: stats.received,
        refused: stats.refused,
        unmatched: stats.unmatched,
        dead_letters: stats.buried,
        bytes_sent: stats.bytes_out,
        bytes_received: stats.bytes_in,
    }
}

/// Upstream and rule of a queue's name. An upstream's memory of QoS 2 identifiers is no queue.
pub(super) fn rule_of(line: &LineStatus) -> Option<(&str, &str)> {
    line.name.strip_prefix("rule:")?.split_once('/')
}

fn queue(line: &LineStatus) -> Option<Queue> {
    let (upstream, rule) = rule_of(line)?;
    let limit = |limit| (limit != u64::MAX).then_some(limit);
    Some(Queue {
        upstream: upstream.to_owned(),
        rule: rule.to_owned(),
        messages: line.depth.messages,
        bytes: line.depth.bytes,
        oldest: line.depth.oldest.map(Wall::as_millis),
        max_messages: limit(line.limits.max_messages),
        max_bytes: limit(line.limits.max_bytes),
        accepted: line.stats.accepted,
        delivered: line.stats.delivered,
        dead_letters: line.stats.buried,
    })
}

/// Why messages of a queue did not arrive, all reasons, those that did not happen too.
pub(super) fn reasons(stats: &LineStats) -> [(&'static str, u64); 10] {
    [
        ("drop-oldest", stats.dropped_oldest),
        ("drop-newest", stats.dropped_newest),
        ("keep-last", stats.replaced),
        ("qos-0-while-away", stats.dropped_qos0),
        ("expired", stats.expired),
        ("not-allowed", stats.denied),
        ("unreadable", stats.lost),
        ("dead-letter", stats.buried),
        ("purged", stats.purged),
        ("refused", stats.refused),
    ]
}

/// Of these the publisher was told, so they are not lost.
const TOLD: &str = "refused";

/// The same of clients, from all cores.
pub(super) fn client_reasons(overview: &Overview) -> Vec<(&'static str, &'static str, u64)> {
    let (broker, node) = (&overview.status.broker, &overview.status.gateway);
    vec![
        ("mqtt", "slow-receiver", broker.shed_qos0),
        ("mqtt", "too-large-for-receiver", broker.too_large_for_receiver),
        ("mqtt", "not-allowed", broker.delivery_denied),
        ("mqtt", "other-user", broker.dropped_for_other_user),
        ("mqtt", "session-ended", broker.ended_with_session),
        ("mqtt-sn", "too-long-for-link", node.dropped_too_long),
        ("mqtt-sn", "topic-refused", node.dropped_unwanted),
        ("mqtt-sn", "refused-by-client", node.dropped_refused),
        ("mqtt-sn", "topic-table-full", node.dropped_topics_full),
        ("mqtt-sn", "link-down", node.link_down),
    ]
}

fn losses(overview: &Overview) -> Vec<Loss> {
    let loss = |at: &str, reason: &str, messages| Loss { at: at.to_owned(), reason: reason.to_owned(), messages };
    let mut losses = Vec::new();
    for line in &overview.status.lines {
        let Some((upstream, rule)) = rule_of(line) else { continue };
        let at = format!("{upstream}/{rule}");
        losses.extend(reasons(&line.stats).iter().map(|(reason, messages)| loss(&at, reason, *messages)));
    }
    losses.extend(reasons(&overview.clients.stats).iter().map(|(reason, count)| loss("clients", reason, *count)));
    losses.extend(client_reasons(overview).iter().map(|(at, reason, messages)| loss(at, reason, *messages)));
    losses.retain(|loss| loss.messages > 0 && loss.reason != TOLD);
    losses
}

fn links(now: Now, overview: &Overview) -> Vec<Link> {
    let serial = |stats: framing::Stats| Serial {
        frames: stats.frames,
        noise_bytes: stats.noise_bytes,
        checksum_errors: stats.crc_errors,
        oversize: stats.oversize,
        timeouts: stats.timeouts,
        undelivered: stats.undelivered,
    };
    let link = |link: &LinkStatus| Link {
        name: link.name.clone(),
        open: link.open,
        messages_received: link.stats.messages_received,
        messages_sent: link.stats.messages_sent,
        malformed: link.stats.malformed,
        rate_limited: link.stats.rate_limited,
        retransmissions: link.stats.retransmissions,
        round_trip_ms: link.stats.round_trip.map(|time| time.as_secs_f64() * 1e3),
        silent_seconds: link.stats.heard_at.map(|at| now.at.since(at).as_secs()),
        dropped: link.port.dropped,
        lost: link.port.lost,
        serial: link.framing.map(serial),
        dtls: link.port.dtls.map(dtls),
    };
    overview.status.links.iter().map(link).collect()
}

fn dtls(stats: DtlsStats) -> Dtls {
    Dtls {
        associations: stats.associations,
        handshakes: stats.handshakes,
        opened: stats.opened,
        failed: stats.failed.by_reason().map(|(reason, count)| (reason.to_owned(), count)).into(),
        hellos_dropped: stats.hellos_dropped,
        displaced: stats.displaced,
        closed: stats.closed,
        idle: stats.idle,
        evicted: stats.evicted,
        strays: stats.strays,
    }
}

/// A page of clients.
pub(super) fn page(now: Now, found: Vec<ClientStatus>, more: bool) -> ClientPage {
    let next = found.last().filter(|_| more).map(|last| last.client_id.clone());
    let client = |client: ClientStatus| Client {
        kind: client.kind.to_owned(),
        state: client.state.to_owned(),
        user: client.user,
        peer: client.peer,
        via: client.via,
        version: client.version.map(str::to_owned),
        subscriptions: client.subscriptions as u64,
        waiting: client.queue.messages,
        waiting_bytes: client.queue.bytes,
        silent_seconds: client.silent_for.map(|silent| silent.as_secs()),
        sleep_seconds: client.sleeps_for.map(|left| left.as_secs()),
        away_since: client.away_since.map(Wall::as_millis),
        client_id: client.client_id,
    };
    ClientPage { now: now.wall.as_millis(), clients: found.into_iter().map(client).collect(), next }
}
