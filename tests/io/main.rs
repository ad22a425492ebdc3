//! The daemon seen from its sockets: real TCP, TLS, UDP, serial lines and timers around the real engine.
//!
//! Each test has daemons of its own, on ports that the system chose, each on a thread of this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]
#![allow(clippy::disallowed_methods, reason = "real time passes here")]

mod certificates;
mod client;
mod limits;
mod listeners;
mod log;
mod path;
mod radio;
mod sensor;
mod setup;
mod stop;
mod streams;
mod tls;
mod upstream;
mod websocket;
