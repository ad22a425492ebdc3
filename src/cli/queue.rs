//! `moteway queue`: what waits for upstreams, and what they will never take.

use std::io::{self, BufRead, BufReader};

use serde_json::{Value, json};

use crate::cli::remote::Remote;
use crate::cli::words::{bytes, number, span};
use crate::cli::{Failure, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the stored queues: how full, how old, what was dropped and why
    Ls(Ls),
    /// Show the oldest messages of a queue; they stay where they are
    Peek(Peek),
    /// Write all stored messages of a queue, a line of JSON for each; they stay where they are
    Export(One),
    /// Delete all messages of a queue of an upstream
    Purge(Purge),
    /// Dead letters: messages that an upstream will never take
    #[command(subcommand)]
    Dead(Dead),
}

#[derive(Debug, clap::Subcommand)]
enum Dead {
    /// List dead letters with their reason
    Ls(DeadLs),
    /// Write dead letters, a line of JSON for each
    Export(Some),
    /// Send dead letters through the rules of their upstream anew, as the configuration is now
    Replay(Chosen),
    /// Delete dead letters
    Purge(Chosen),
}

#[derive(Debug, clap::Args)]
struct Ls {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The queue: UPSTREAM/RULE, or a whole name as `moteway queue ls` prints it
    #[arg(value_name = "QUEUE")]
    queue: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct Peek {
    #[command(flatten)]
    one: One,
    /// So many messages
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    count: u32,
    /// Print JSON, a line for each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Purge {
    #[command(flatten)]
    one: One,
    /// Really: what was acknowledged to its publishers is deleted
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Some {
    /// Only those of this queue: UPSTREAM/RULE
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct DeadLs {
    #[command(flatten)]
    some: Some,
    /// Print JSON, a line for each
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Their numbers; without any, all (of the queue, if one is named)
    #[arg(value_name = "NUMBER")]
    ids: Vec<u64>,
    #[command(flatten)]
    some: Some,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Ls(args) => list(args),
        Command::Peek(args) => peek(args),
        Command::Export(args) => copy(&args.remote, &format!("/api/queue/rows?queue={}", name(&args.queue))),
        Command::Purge(args) => purge(args),
        Command::Dead(Dead::Ls(args)) => dead_list(args),
        Command::Dead(Dead::Export(args)) => copy(&args.remote, &dead_target(args)),
        Command::Dead(Dead::Replay(args)) => replay(args),
        Command::Dead(Dead::Purge(args)) => purge_dead(args),
    }
}

/// The whole name of a queue, fit for a query.
fn name(queue: &str) -> String {
    let whole = if queue.contains(':') { queue.to_owned() } else { format!("rule:{queue}") };
    whole
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn whole_name(queue: &str) -> String {
    if queue.contains(':') { queue.to_owned() } else { format!("rule:{queue}") }
}

fn dead_target(some: &Some) -> String {
    some.queue.as_ref().map_or("/api/dead".to_owned(), |queue| format!("/api/dead?queue={}", name(queue)))
}

fn list(args: &Ls) -> Result<(), Failure> {
    let answer: Value = args.remote.get("/api/queue")?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let mut text = format!(
        "{:<32} {:>12} {:>12} {:>14} {:>12}  {}\n",
        "QUEUE", "MESSAGES", "BYTES", "AGE", "DELIVERED", "DROPPED"
    );
    for queue in answer["queues"].as_array().into_iter().flatten() {
        let drops = queue["dropped"].as_object().into_iter().flatten().filter(|(_, count)| **count != 0);
        let mut drops: Vec<String> = drops.map(|(reason, count)| format!("{reason} {count}")).collect();
        for key in ["refused", "dead"] {
            if queue[key] != 0 {
                drops.push(format!("{key} {}", queue[key]));
            }
        }
        text += &format!(
            "{:<32} {:>12} {:>12} {:>14} {:>12}  {}\n",
            queue["name"].as_str().unwrap_or_default(),
            number(queue["messages"].as_u64().unwrap_or_default()),
            bytes(queue["bytes"].as_u64().unwrap_or_default()),
            age(queue["oldest"].as_u64()),
            number(queue["delivered"].as_u64().unwrap_or_default()),
            if drops.is_empty() { "-".to_owned() } else { drops.join(", ") },
        );
    }
    print(&text)
}

/// How long ago that was.
fn age(since: Option<u64>) -> String {
    let now = crate::sys::Clock::start().now().wall.as_millis();
    since.map_or_else(|| "-".to_owned(), |since| span(now.saturating_sub(since)))
}

/// Reads lines of JSON as they come.
fn each(
    remote: &Remote,
    target: &str,
    mut take: impl FnMut(&str, &Value) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut count = 0;
    for line in BufReader::new(remote.send("GET", target, None)?).lines() {
        let line = line.map_err(|error| Failure::Failed(format!("the list broke off: {error}")))?;
        let value = serde_json::from_str(&line).map_err(|error| Failure::Failed(error.to_string()))?;
        take(&line, &value)?;
        count += 1;
    }
    Ok(count)
}

fn copy(remote: &Remote, target: &str) -> Result<(), Failure> {
    let mut answer = remote.send("GET", target, None)?;
    match io::copy(&mut answer, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("the list broke off: {error}")))
        }
        _ => Ok(()),
    }
}

/// What a person wants to see of a message.
fn brief(value: &Value) -> String {
    const MAX: usize = 60;
    let payload = value["payload"].as_str().map_or_else(
        || format!("0x{}", value["payload_hex"].as_str().unwrap_or_default()),
        |text| format!("{text:?}"),
    );
    let short: String = payload.chars().take(MAX).collect();
    let more = if short.len() < payload.len() { "..." } else { "" };
    format!(
        "{} qos {} {} bytes {short}{more}",
        value["topic"].as_str().unwrap_or_default(),
        value["qos"],
        value["bytes"]
    )
}

fn peek(args: &Peek) -> Result<(), Failure> {
    let target = format!("/api/queue/rows?queue={}&limit={}", name(&args.one.queue), args.count);
    each(&args.one.remote, &target, |line, value| {
        if args.json { print(&format!("{line}\n")) } else { print(&format!("{}\n", brief(value))) }
    })
    .map(drop)
}

fn purge(args: &Purge) -> Result<(), Failure> {
    if !args.yes {
        return Err(Failure::Failed("this deletes messages that were acknowledged: say --yes".to_owned()));
    }
    let queue = whole_name(&args.one.queue);
    let answer: Value = args.one.remote.post("/api/queue/purge", &json!({ "queue": queue }))?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&format!("{} messages deleted\n", answer["purged"]))
}

fn dead_list(args: &DeadLs) -> Result<(), Failure> {
    each(&args.some.remote, &dead_target(&args.some), |line, value| {
        if args.json {
            return print(&format!("{line}\n"));
        }
        let (queue, reason) =
            (value["queue"].as_str().unwrap_or_default(), value["reason"].as_str().unwrap_or_default());
        print(&format!("{} {queue}: {reason}\n    {}\n", value["id"], brief(value)))
    })?;
    let count: Value = args.some.remote.get("/api/dead/count")?;
    if args.json || count["dropped"] == 0 {
        return Ok(());
    }
    print(&format!(
        "{} older ones were dropped for newer ones: see max_dead_letters in [store]\n",
        count["dropped"]
    ))
}

fn which(args: &Chosen) -> Value {
    let ids = (!args.ids.is_empty()).then_some(&args.ids);
    json!({ "queue": args.some.queue.as_deref().map(whole_name), "ids": ids })
}

fn replay(args: &Chosen) -> Result<(), Failure> {
    let answer: Value = args.some.remote.post("/api/dead/replay", &which(args))?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let mut text = format!("{} queued\n", answer["queued"]);
    for left in answer["left"].as_array().into_iter().flatten() {
        text += &format!("{} stays: {}\n", left["id"], left["reason"].as_str().unwrap_or_default());
    }
    print(&text)
}

fn purge_dead(args: &Chosen) -> Result<(), Failure> {
    let answer: Value = args.some.remote.post("/api/dead/purge", &which(args))?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&format!("{} dead letters deleted\n", answer["purged"]))
}
