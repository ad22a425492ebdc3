//! The fuzz targets: each takes any bytes, and panics when something that must hold does not. Two programs run them:
//! libFuzzer (`tests/fuzz/run`), for as long as one likes, and `tests/fuzz/main.rs` with the other tests.

pub mod config;
pub mod engine;
pub mod framings;
pub mod gateway;
pub mod mqtt_packets;
pub mod mqttsn_messages;
mod source;
