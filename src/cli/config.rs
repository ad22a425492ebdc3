//! `moteway config default`: the commented defaults.

use clap::Subcommand;

use crate::cli::{Failure, print};
use crate::config::DEFAULT_TOML;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The commented file with every key and its default
    Default,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match args.what {
        What::Default => print(DEFAULT_TOML),
    }
}
