//! moteway: an MQTT broker, an MQTT-SN gateway and a store-and-forward bridge in one daemon.
//!
//! The house has floors, and imports only go down:
//!
//! ```text
//! main → cli → daemon → {io, store, admin} → engine → {gateway, broker, bridge}
//!      → queue → {mqtt, mqttsn, config} → {time, metrics, sys}
//! ```
//!
//! * **Cores** (`mqtt mqttsn queue broker gateway bridge engine`) are values. They hold no socket, file, task,
//!   clock or random source: `now` and a seed come in, one fact at a time, and outputs are drained afterwards.
//! * **Shells** (`io store admin daemon`) move bytes, wait, and report what happened. They have no opinions.
//!
//! `tests/tidy.rs` reads the `use` lines and keeps it so.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]
// Nothing that came from outside ends the process; numbers keep their value; time and hash seeds are inputs.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::exit,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

pub mod admin;
pub mod bridge;
pub mod broker;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod gateway;
pub mod io;
pub mod metrics;
pub mod mqtt;
pub mod mqttsn;
pub mod queue;
pub mod store;
pub mod sys;
pub mod time;
