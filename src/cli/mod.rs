//! The command line: a module for each subcommand. Results go to standard output, what is wrong to standard error.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command line prints")]

mod access;
mod authority;
mod backup;
mod certs;
mod check;
mod clients;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod drill;
mod import;
mod load;
mod log_level;
mod passwd;
mod queue;
mod reload;
mod remote;
mod route;
mod run;
mod sense;
mod status;
mod words;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{BadIdentity, Diagnostics, ReadError};

pub use load::{Loaded, load};

/// Where the configuration lies when nothing else is said.
pub const DEFAULT_CONFIG: &str = "/etc/moteway/moteway.toml";

/// Edge gateway: MQTT broker, MQTT-SN gateway, store-and-forward bridge.
#[derive(Debug, Parser)]
#[command(
    name = "moteway",
    version,
    after_help = "Exit codes: 0 good, 1 failed, 2 wrong arguments, 69 the gateway does not run, 77 not allowed to ask it, 78 bad configuration."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground
    Run(ConfigFile),
    /// Look for mistakes in a configuration, and say how to mend them
    Check(check::Args),
    /// Say what becomes of a message, without sending one
    Route(route::Args),
    /// Say how the running gateway is, on one screen
    Status(status::Args),
    /// List the clients of the running gateway, or send one away
    Clients(clients::Args),
    /// Look into the stored queues and the dead letters of the running gateway, replay and delete
    Queue(queue::Args),
    /// Predict an outage from the present traffic: what it would lose, and how long it would be felt
    Drill(drill::Args),
    /// Change what the running gateway logs, or say what it logs
    LogLevel(log_level::Args),
    /// Have the running gateway read its configuration again
    Reload(reload::Args),
    /// Copy messages, configuration and secrets of a gateway, running or not, into one file
    Backup(backup::Args),
    /// Put what is in a backup back in its place
    Restore(backup::RestoreArgs),
    /// Make a CA and certificates for development and trials
    Certs(certs::Args),
    /// Turn a mosquitto.conf into a configuration for moteway, and name what cannot be carried over
    Import(import::Args),
    /// Set or delete the password of a user
    Passwd(passwd::Args),
    /// Print configurations
    Config(config::Args),
    /// Show the whole system on this machine: sensors, gateway, cloud, an outage and a ledger
    #[cfg(feature = "demo")]
    Demo(demo::Args),
}

/// `--config FILE`
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration; the files conf.d/*.toml beside it are laid over it
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// When it failed; the failure says what to print and how to exit.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Run(file) => run::run(&file),
        Command::Check(args) => check::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Clients(args) => clients::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::LogLevel(args) => log_level::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Passwd(args) => passwd::run(&args),
        Command::Config(args) => config::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
    }
}

/// Why a subcommand failed.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong: starting again will not help. Shown with lines and remedies.
    BadConfig(Diagnostics),
    /// The configuration cannot be read.
    NoConfig(ReadError),
    /// The box has no name to put in place of `{gateway}`.
    NoIdentity {
        /// What cannot be one, or nothing.
        found: String,
    },
    /// What the configuration names cannot be used: a certificate, an address, a directory.
    Unusable(String),
    /// There is no gateway to ask.
    NotRunning(String),
    /// Its control socket is not for this user.
    NotAllowed(String),
    /// The gateway answered, and something is wrong with it; it was printed.
    NotWell,
    /// All else, in one line.
    Failed(String),
}

impl Failure {
    /// 78 is `EX_CONFIG`: the unit file tells systemd not to start again after it. 69 is `EX_UNAVAILABLE`, 77 is
    /// `EX_NOPERM`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadConfig(_) | Self::NoConfig(_) | Self::NoIdentity { .. } | Self::Unusable(_) => {
                ExitCode::from(78)
            }
            Self::NotRunning(_) => ExitCode::from(69),
            Self::NotAllowed(_) => ExitCode::from(77),
            Self::NotWell | Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadConfig(diagnostics) => f.write_str(diagnostics.to_string().trim_end()),
            Self::NoConfig(error) => write!(f, "moteway: {error}"),
            Self::NoIdentity { found } if found.is_empty() => {
                f.write_str("moteway: this box has nothing that `identity` in [gateway] names: set `name` there")
            }
            Self::NoIdentity { found } => {
                write!(f, "moteway: {found:?} cannot be the name of a gateway: {}", BadIdentity::HELP)
            }
            Self::NotWell => Ok(()),
            Self::Unusable(reason) | Self::NotRunning(reason) | Self::NotAllowed(reason) | Self::Failed(reason) => {
                write!(f, "moteway: {reason}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Writes a result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// `1 rule`, `2 rules`
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
