//! `moteway drill`: what an outage would do.

use crate::cli::remote::Remote;
use crate::cli::words::{Paint, bytes, number, span, table};
use crate::cli::{Failure, print};
use crate::engine::drill::{Forecast, RuleForecast, UpstreamForecast};
use crate::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How long the links to all upstreams are away, such as 30min, 8h or 3d
    #[arg(long, value_name = "SPAN", default_value = "8h", value_parser = a_span)]
    outage: Duration,
    /// From the traffic of so long; no more than 8 to 16 hours are remembered
    #[arg(long, value_name = "SPAN", default_value = "8h", value_parser = a_span)]
    over: Duration,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON, as the document api.md describes it
    #[arg(long)]
    json: bool,
}

fn a_span(text: &str) -> Result<Duration, String> {
    if text.contains('M') {
        return Err("M may mean minutes or months: write 5min or 5months".to_owned());
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 30min, 8h or 3d"))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (outage, over) = (args.outage.as_millis(), args.over.as_millis());
    let forecast: Forecast = args.remote.get(&format!("/api/drill?outage={outage}ms&over={over}ms"))?;
    if args.json {
        let text = serde_json::to_string_pretty(&forecast).map_err(|error| Failure::Failed(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    print(&screen(&forecast, Paint::of_stdout()))
}

fn screen(forecast: &Forecast, paint: Paint) -> String {
    let mut text = answer(forecast, paint);
    let rules =
        forecast.upstreams.iter().flat_map(|upstream| upstream.rules.iter().map(|rule| row(upstream, rule)));
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push_str(&format!("{}\n{}", paint.heading(title), table(&rows)));
        }
    };
    section("Rules", rules.collect());
    section("Afterwards", forecast.upstreams.iter().map(afterwards).collect());
    let store = &forecast.store;
    let full = store.full_after_seconds.map(|at| format!("full after {}", seconds(at)));
    section(
        "Store",
        vec![vec![
            format!("{} of {} taken", bytes(store.waiting_bytes), bytes(store.max_bytes)),
            format!("{} written to the disk", bytes(store.written_bytes)),
            full.unwrap_or_default(),
        ]],
    );
    text
}

/// The first lines: what somebody wants to know who has no more time.
fn answer(forecast: &Forecast, paint: Paint) -> String {
    let rules = || forecast.upstreams.iter().flat_map(|upstream| &upstream.rules);
    let sum = |of: fn(&RuleForecast) -> u64| rules().map(of).sum::<u64>();
    let lost = sum(|rule| rule.evicted + rule.expired + rule.qos0_lost);
    let refused = sum(|rule| rule.refused);
    let mut costs = Vec::new();
    if lost > 0 {
        costs.push(paint.bad(&format!("lose {} messages", number(lost))));
    }
    if refused > 0 {
        costs.push(paint.bad(&format!("refuse {} to their publishers", number(refused))));
    }
    if costs.is_empty() {
        costs.push(paint.good("lose nothing"));
    }
    let over = match forecast.over_seconds {
        0.0..1.0 => "there was no traffic yet to tell from".to_owned(),
        over => format!("going by the traffic of the last {}", seconds(over)),
    };
    format!("An outage of {} would {}, {over}.\n", seconds(forecast.outage_seconds), costs.join(" and "))
}

fn row(upstream: &UpstreamForecast, rule: &RuleForecast) -> Vec<String> {
    let name = format!("{}/{}", upstream.name, rule.name);
    let rate = rule.messages_per_second;
    let traffic = match rate {
        rate if rate <= 0.0 => "nothing comes".to_owned(),
        rate if rate < 1.0 => format!("{:.1} a minute of {}", rate * 60.0, bytes(rule.message_bytes)),
        rate => format!("{rate:.1} a second of {}", bytes(rule.message_bytes)),
    };
    let full = match (&rule.full_by, rule.full_after_seconds) {
        (Some(by), Some(at)) => format!("full ({by}) after {}", seconds(at)),
        _ => format!("{} wait at the end", number(rule.waiting_messages)),
    };
    let losses = [
        (rule.evicted, rule.when_full.as_str()),
        (rule.refused, "refused"),
        (rule.expired, "too old"),
        (rule.qos0_lost, "QoS 0"),
    ];
    let losses = losses.iter().filter(|(count, _)| *count > 0);
    let losses: Vec<String> = losses.map(|(count, why)| format!("{} {why}", number(*count))).collect();
    let losses = if losses.is_empty() { "nothing lost".to_owned() } else { losses.join(", ") };
    vec![name, traffic, full, losses]
}

fn afterwards(upstream: &UpstreamForecast) -> Vec<String> {
    let messages: u64 = upstream.rules.iter().map(|rule| rule.delivered).sum();
    let done = match upstream.drain_seconds {
        Some(at) => format!("done after {}", seconds(at)),
        None if upstream.rules.iter().any(|rule| rule.never_drained) => {
            "never done: as much comes in as goes".to_owned()
        }
        None => "how long is not known: no pace is set, and no backlog has gone yet".to_owned(),
    };
    let rate = upstream.drain_per_second.map(|rate| format!("{rate:.0} a second ({})", upstream.drain_from));
    vec![
        upstream.name.clone(),
        format!("{} messages, {} on the link", number(messages), bytes(upstream.sent_bytes)),
        rate.unwrap_or_default(),
        done,
    ]
}

fn seconds(seconds: f64) -> String {
    span(
        u64::try_from(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).as_millis())
            .unwrap_or(u64::MAX),
    )
}
