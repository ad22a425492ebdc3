//! `moteway log-level`: what the running gateway logs.

use serde::Deserialize;
use serde_json::json;

use crate::cli::remote::Remote;
use crate::cli::{Failure, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is logged from now on, until the next start; without it, what is logged now is printed
    #[arg(value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug"])]
    level: Option<String>,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Answer {
    level: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let answer: Answer = match &args.level {
        Some(level) => args.remote.post("/api/log/level", &json!({ "level": level }))?,
        None => args.remote.get(&format!("/api/log?from={}", u64::MAX))?,
    };
    if args.json {
        return print(&format!("{}\n", json!({ "level": answer.level })));
    }
    print(&format!("{}\n", answer.level))
}
