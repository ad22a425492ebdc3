//! The one pure composition: gateway, broker, bridge and queue; turns inputs into outputs.

mod contract;

pub use contract::{Input, Output};
