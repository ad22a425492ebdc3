//! `moteway status`: on one screen, is it well, is the link up, what waits, what was lost, who is there.

use crate::admin::report::{Loss, Queue, Report, Upstream};
use crate::cli::remote::Remote;
use crate::cli::words::{Paint, bytes, number, span, table, tame};
use crate::cli::{Failure, print};

/// Lines of one section; the rest is counted, so that all fits on one screen.
const MAX_ROWS: usize = 6;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON, as the document api.md describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let report: Report = args.remote.get("/api/status")?;
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::Failed(error.to_string()))?;
        print(&format!("{text}\n"))?;
    } else {
        print(&screen(&report, Paint::of_stdout()))?;
    }
    if report.well { Ok(()) } else { Err(Failure::NotWell) }
}

fn screen(report: &Report, paint: Paint) -> String {
    let mut text = heading(report, paint);
    section(&mut text, paint, "Links", report.upstreams.iter().map(|found| upstream(report, found)).collect());
    section(&mut text, paint, "Radios", radios(report));
    section(&mut text, paint, "Waiting", waiting(report));
    section(&mut text, paint, "Lost since the start", losses(report));
    section(&mut text, paint, "Clients", clients(report));
    text
}

fn heading(report: &Report, paint: Paint) -> String {
    let state = if report.well { paint.good("is well") } else { paint.bad("is not well") };
    let up = span(report.now.saturating_sub(report.started));
    let mut text = format!("{} {state}, {} for {up}\n", report.name, report.version);
    for problem in report.problems.iter().take(MAX_ROWS) {
        text.push_str(&format!("  {} {}\n", paint.bad("!"), tame(problem)));
    }
    more(&mut text, report.problems.len());
    text
}

fn section(text: &mut String, paint: Paint, title: &str, rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("{}\n{}", paint.heading(title), table(&rows[..rows.len().min(MAX_ROWS)])));
    more(text, rows.len());
}

fn more(text: &mut String, all: usize) {
    if all > MAX_ROWS {
        text.push_str(&format!("  and {} more: --json shows all\n", all - MAX_ROWS));
    }
}

fn upstream(report: &Report, upstream: &Upstream) -> Vec<String> {
    let state = if upstream.state == "up" { "up" } else { "down" };
    let figures = format!(
        "{} acknowledged, {} received, {} losses",
        number(upstream.acknowledged),
        number(upstream.received),
        number(upstream.losses)
    );
    let state = format!("{state} for {}", span(report.now.saturating_sub(upstream.since)));
    vec![upstream.name.clone(), state, upstream.url.clone(), figures]
}

fn radios(report: &Report) -> Vec<Vec<String>> {
    let row = |link: &crate::admin::report::Link| {
        let state = if link.open { "open" } else { "away" };
        let messages = format!(
            "{} in, {} out, {} sent again",
            number(link.messages_received),
            number(link.messages_sent),
            number(link.retransmissions)
        );
        let heard = link.silent_seconds.map(|seconds| format!("heard {} ago", span(seconds.saturating_mul(1_000))));
        let dtls = link.dtls.as_ref().map(|dtls| {
            let failed = dtls.failed.values().sum();
            format!("{} associations, {} handshakes failed", number(dtls.associations), number(failed))
        });
        let serial = link.serial.as_ref().map(|serial| {
            let errors = serial.checksum_errors + serial.oversize + serial.timeouts;
            format!(
                "{} frames, {} bad, {} of noise",
                number(serial.frames),
                number(errors),
                bytes(serial.noise_bytes)
            )
        });
        vec![
            link.name.clone(),
            state.to_owned(),
            messages,
            heard.unwrap_or_default(),
            serial.or(dtls).unwrap_or_default(),
        ]
    };
    report.links.iter().map(row).collect()
}

fn waiting(report: &Report) -> Vec<Vec<String>> {
    let age = |oldest: Option<u64>| {
        oldest.map_or_else(String::new, |at| format!("oldest {}", span(report.now.saturating_sub(at))))
    };
    let mut rows: Vec<Vec<String>> = report
        .queues
        .iter()
        .filter(|queue| queue.messages > 0)
        .map(|queue| {
            vec![
                format!("{}/{}", queue.upstream, queue.rule),
                format!("{} messages", number(queue.messages)),
                bytes(queue.bytes),
                age(queue.oldest),
                full(queue),
            ]
        })
        .collect();
    let clients = &report.client_queues;
    if clients.messages > 0 {
        rows.push(vec![
            format!("{} clients", number(clients.queues)),
            format!("{} messages", number(clients.messages)),
            bytes(clients.bytes),
            age(clients.oldest),
            String::new(),
        ]);
    }
    if rows.is_empty() {
        rows.push(vec!["nothing".to_owned()]);
    }
    rows
}

fn full(queue: &Queue) -> String {
    let percent =
        |part: u64, whole: Option<u64>| Some(part.saturating_mul(100) / whole.filter(|whole| *whole > 0)?);
    let full = percent(queue.messages, queue.max_messages).max(percent(queue.bytes, queue.max_bytes));
    full.map_or_else(|| "no rule".to_owned(), |full| format!("{full} % full"))
}

fn losses(report: &Report) -> Vec<Vec<String>> {
    let row =
        |loss: &Loss| vec![loss.at.clone(), format!("{} messages", number(loss.messages)), loss.reason.clone()];
    if report.lost.is_empty() { vec![vec!["nothing".to_owned()]] } else { report.lost.iter().map(row).collect() }
}

fn clients(report: &Report) -> Vec<Vec<String>> {
    let clients = &report.clients;
    let mqtt = format!("{} connected", number(clients.connections));
    let sessions = format!("{} sessions, {} away", number(clients.sessions), number(clients.away));
    let mut rows = vec![vec!["MQTT".to_owned(), mqtt, sessions]];
    if clients.sn_known > 0 || !report.links.is_empty() {
        let active = format!("{} active", number(clients.sn_active));
        let asleep = format!("{} asleep, {} known", number(clients.sn_asleep), number(clients.sn_known));
        rows.push(vec!["MQTT-SN".to_owned(), active, asleep]);
    }
    rows
}
