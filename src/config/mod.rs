//! Configuration: one TOML file, one source of defaults, errors with line and column.

mod ids;
mod schema;

pub use ids::{LinkId, ListenerId, UpstreamId};
pub use schema::*;
