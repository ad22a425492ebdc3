//! `moteway check [FILE]`: what is wrong with a configuration, where, and what to write instead.

use std::path::PathBuf;

use crate::cli::{DEFAULT_CONFIG, Failure, count, load, print};
use crate::config::{Config, Diagnostics, Severity};
use crate::daemon::credentials;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration to look at, together with the drop-ins in conf.d beside it
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let document = load::examine(&args.file)?;
    let file = match document.drop_ins() {
        0 => args.file.display().to_string(),
        drop_ins => format!("{} and {}", args.file.display(), count(drop_ins, "drop-in")),
    };
    match document.finish() {
        Ok((config, warnings)) => {
            eprint!("{warnings}");
            if let Err(error) = credentials::read(&config.auth) {
                print(&format!("{file}: 1 error{}\n", and_warnings(&warnings)))?;
                return Err(Failure::Unusable(error.to_string()));
            }
            print(&format!("{file}: ok, {}{}\n", contents(&config), and_warnings(&warnings)))
        }
        Err(diagnostics) => {
            let errors = count(diagnostics.count(Severity::Error), "error");
            print(&format!("{file}: {errors}{}\n", and_warnings(&diagnostics)))?;
            Err(Failure::BadConfig(diagnostics))
        }
    }
}

fn contents(config: &Config) -> String {
    let rules = config.upstream.iter().map(|upstream| upstream.rule.len()).sum();
    [
        count(config.listener.len(), "listener"),
        count(config.link.len(), "link"),
        count(config.upstream.len(), "upstream"),
        count(rules, "rule"),
    ]
    .join(", ")
}

fn and_warnings(diagnostics: &Diagnostics) -> String {
    match diagnostics.count(Severity::Warning) {
        0 => String::new(),
        warnings => format!("; {}", count(warnings, "warning")),
    }
}
