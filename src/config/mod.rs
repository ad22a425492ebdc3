//! Configuration: one TOML file, one source of defaults, errors with line, column, caret and remedy.
//!
//! Reading has two steps. `tables` reads each key of each table; what is wrong is noted with its place, and reading
//! goes on with the default. `sense` then looks at the whole. A [`Document`] keeps the text, so that checks on
//! higher floors (rules) can point into it too.

mod access;
mod acl;
mod defaults;
mod diagnostic;
mod difference;
mod document;
mod expand;
mod identity;
mod ids;
mod merge;
mod preset;
mod reader;
mod schema;
mod sense;
mod tables;
#[cfg(test)]
mod tests;
mod transport;
mod uplink;
mod url;
mod value;

pub use acl::{AclFilter, AclLevel, AclPart};
pub use diagnostic::{Diagnostic, Diagnostics, Finding, Severity};
pub use difference::{changes, hold_back};
pub use document::{Document, ReadError};
pub use expand::Variables;
pub use identity::BadIdentity;
pub use ids::{Ids, LinkId, ListenerId, UpstreamId};
pub use preset::{CloudLimits, Preset};
pub use schema::*;
pub use uplink::{Pin, Proxy, ProxyKind};

/// The commented file that says what the defaults are: what is installed, and what `moteway config default` prints.
pub const DEFAULT_TOML: &str = include_str!("../../config/moteway.toml");

impl Config {
    /// Understands the text of a configuration file. Keys that are not there have their defaults.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Diagnostics> {
        Document::parse("moteway.toml", text).finish().map(|(config, _warnings)| config)
    }
}
