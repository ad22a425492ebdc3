//! `moteway demo`: the whole system on one machine. Sensors, gateway, link, cloud; a cut, a kill, a drain; and a ledger
//! that must balance.
//!
//! Gateway and cloud are child processes of the same program. All else - sensors, publishers, subscribers and the link
//! between the two - are tasks on one thread of this one. Nothing of it outlives the demo.

mod cast;
mod certs;
mod child;
mod ledger;
mod link;
mod mqtt;
mod publisher;
mod radio;
mod screen;
mod sensor;
mod site;
mod story;
mod subscriber;
mod world;

use std::io;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::cli::Failure;
use crate::cli::demo::site::Site;
use crate::cli::demo::world::Pace;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave configurations, certificates, stores and logs behind, to look at them
    #[arg(long)]
    keep: bool,
    /// Tell the same story in a third of the time
    #[arg(long, hide = true)]
    fast: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    let mut site = Site::build(args.keep)?;
    let pace = if args.fast { Pace::FAST } else { Pace::FULL };
    // When the story ends, however it ends, its daemons end with it.
    let told = LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            told = story::tell(&site, pace) => Some(told),
            _ = interrupted() => None,
        }
    });
    let Some(told) = told else { return Err(Failure::Failed("the demo was interrupted".to_owned())) };
    let balanced = told.and_then(|faults| match faults.len() {
        0 => Ok(()),
        _ => Err(Failure::Failed("the ledger does not balance".to_owned())),
    });
    if balanced.is_err() {
        site.keep();
    }
    let dir = site.dir().display();
    match balanced {
        Err(failure) => Err(Failure::Failed(format!(
            "{}\nConfigurations, stores and logs are kept in {dir}.",
            failure.to_string().trim_start_matches("moteway: ")
        ))),
        Ok(()) if site.is_kept() => crate::cli::print(&format!("Everything is kept in {dir}.\n")),
        Ok(()) => Ok(()),
    }
}

/// Waits for a signal that asks to stop.
async fn interrupted() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
