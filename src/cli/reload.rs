//! `moteway reload`: the running gateway reads its configuration again.

use serde::Deserialize;
use serde_json::json;

use crate::cli::remote::Remote;
use crate::cli::{Failure, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Answer {
    reloaded: bool,
    /// What changed, or why nothing did.
    message: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Answer { reloaded, message } = args.remote.post("/api/reload", &json!({}))?;
    if args.json {
        print(&format!("{}\n", json!({ "reloaded": reloaded, "message": message })))?;
    }
    match reloaded {
        true if args.json => Ok(()),
        true => print(&format!("reloaded: {message}\n")),
        false => Err(Failure::Unusable(format!("the configuration stays as it was: {message}"))),
    }
}
