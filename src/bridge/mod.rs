//! bridge

pub mod rule;
