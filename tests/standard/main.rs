//! MQTT 5.0, 3.1.1 and MQTT-SN 1.2 to the letter: every normative statement has its line in a table here, with the test
//! that shows it or the reason why it does not bind a server.
//!
//! The tests talk to the real engine in raw bytes, in virtual time and without sockets. What needs a socket is in
//! `tests/e2e`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod connect;
mod deliver;
mod end;
mod publish;
mod retain;
mod rig;
mod sensors;
mod sent;
mod shared;
#[path = "../sim/store.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod store;
mod subscribe;
mod table;
mod topics;
mod will;
mod wire;
