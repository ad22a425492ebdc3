//! `moteway clients`: who is there, MQTT and MQTT-SN, and sending one away.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use serde_json::json;

use crate::admin::report::{Client, ClientPage};
use crate::cli::remote::Remote;
use crate::cli::words::{bytes, number, span, table, tame};
use crate::cli::{Failure, print};
use crate::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON, as the document api.md describes it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// End the connection of a client, which may come again
    Kick {
        #[arg(value_name = "CLIENT-ID")]
        client_id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        None => list(args),
        Some(Command::Kick { client_id, remote }) => {
            remote.post::<serde::de::IgnoredAny>("/api/clients/kick", &json!({ "client_id": client_id }))?;
            print(&format!("{} was sent away\n", tame(client_id)))
        }
    }
}

fn list(args: &Args) -> Result<(), Failure> {
    let clients = all(&args.remote)?;
    if args.json {
        let text = serde_json::to_string_pretty(&clients).map_err(|error| Failure::Failed(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    if clients.is_empty() {
        return print("no clients\n");
    }
    let mut rows =
        vec![["CLIENT", "KIND", "STATE", "FROM", "USER", "HEARD", "WAITING"].map(str::to_owned).to_vec()];
    rows.extend(clients.iter().map(row));
    print(&table(&rows))
}

fn row(client: &Client) -> Vec<String> {
    let or_dash = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| tame(&text));
    let kind = client.version.as_ref().map(|version| format!("{} {version}", client.kind));
    let from = match (&client.peer, &client.via) {
        (Some(peer), Some(via)) => Some(format!("{peer} ({via})")),
        (None, via) => via.clone(),
        (peer, None) => peer.clone(),
    };
    let state = match client.sleep_seconds {
        Some(seconds) => format!("{}, {} left", client.state, span(seconds.saturating_mul(1_000))),
        None => client.state.clone(),
    };
    let waiting = match client.waiting {
        0 => "-".to_owned(),
        count => format!("{}, {}", number(count), bytes(client.waiting_bytes)),
    };
    vec![
        tame(&client.client_id),
        kind.unwrap_or_else(|| "-".to_owned()),
        state,
        or_dash(from),
        or_dash(client.user.clone()),
        or_dash(client.silent_seconds.map(|seconds| format!("{} ago", span(seconds.saturating_mul(1_000))))),
        waiting,
    ]
}

/// Page by page, with a word on the terminal when that takes long.
#[expect(clippy::disallowed_methods, reason = "somebody waits at a terminal")]
fn all(remote: &Remote) -> Result<Vec<Client>, Failure> {
    let begin = Instant::now();
    let mut clients = Vec::new();
    let mut after = String::new();
    let mut has_told = false;
    loop {
        let page: ClientPage = remote.get(&format!("/api/clients?after={after}"))?;
        clients.extend(page.clients);
        let Some(next) = page.next else { break };
        after = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
        if begin.elapsed() > Duration::from_secs(1) && io::stderr().is_terminal() {
            has_told = true;
            progress(&format!("\r{} clients", number(clients.len() as u64)));
        }
    }
    if has_told {
        progress("\r\u{1b}[K");
    }
    Ok(clients)
}

/// A terminal that does not take it is no failure.
fn progress(text: &str) {
    let mut terminal = io::stderr();
    terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).ok();
}
