//! Arguments to a subcommand, error to an exit code.

use std::process::ExitCode;

use clap::Parser;
use moteway::cli;

fn main() -> ExitCode {
    match cli::run(cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let said = failure.to_string();
            if !said.is_empty() {
                eprintln!("{said}");
            }
            failure.exit_code()
        }
    }
}
