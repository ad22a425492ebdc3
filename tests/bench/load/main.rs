//! `mqtt-load`: puts load on an MQTT broker and says what came out of it.
//!
//! One thread drives every connection through epoll. Packets are encoded once and copied, writes are gathered, reads
//! are large: the generator must cost less than the broker that it measures, and it prints its own CPU to prove it.
//! The protocol code is its own, so that a mistake in the broker's codec cannot hide here.
//!
//! ```text
//! mqtt-load flow     publishers to subscribers under flow control: fan-in, fan-out, pairs
//! mqtt-load backlog  for a subscriber that is away: made safe, then fetched
//! mqtt-load latency  a fixed rate over many clients: latency percentiles
//! mqtt-load connects connections as fast as they are accepted
//! mqtt-load radio    MQTT-SN nodes over UDP to one subscriber, as fast as they can or at a rate
//! mqtt-load idle     connections that subscribe and then wait, until stdin closes
//! mqtt-load certificate  not a load: a certificate for a broker on the loopback, and its key
//! mqtt-load forward  not a load: a bare forwarder in the broker's place, the floor of what a broker costs
//! ```
//!
//! Each mode prints one line of JSON. The exit code is 0 when everything arrived in order, 3 when something was lost
//! or out of order, 1 when the run failed, 2 for a wrong option.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a measuring program reads the clock")]

mod backlog;
mod client;
mod connects;
mod flow;
mod forward;
mod idle;
mod latency;
mod options;
mod radio;
mod stats;
mod tally;
mod transport;
mod wire;

use options::Options;
use std::error::Error;
use std::process::ExitCode;

/// What a mode hands back: the line to print, and whether the broker delivered everything in order.
struct Outcome {
    report: stats::Report,
    complete: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(wrong) => return usage(&wrong),
    };
    if mode == "certificate" {
        return certificate(&options);
    }
    let run: fn(&Options) -> Result<Outcome, Box<dyn Error>> = match mode.as_str() {
        "flow" => flow::run,
        "backlog" => backlog::run,
        "latency" => latency::run,
        "connects" => connects::run,
        "radio" => radio::run,
        "idle" => idle::run,
        "forward" => forward::run,
        other => {
            return usage(&format!(
                "unknown mode {other:?}: flow, backlog, latency, connects, radio, idle, forward or certificate"
            ));
        }
    };
    match run(&options) {
        Ok(outcome) => {
            println!("{}", outcome.report);
            if outcome.complete { ExitCode::SUCCESS } else { ExitCode::from(3) }
        }
        Err(error) => {
            eprintln!("mqtt-load {mode}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn certificate(options: &Options) -> ExitCode {
    match transport::write_certificate(&options.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mqtt-load certificate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("mqtt-load: {wrong}\n\n{}", options::HELP);
    ExitCode::from(2)
}
