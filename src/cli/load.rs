//! From a path to a configuration that is proved and knows which box it is on.

use std::path::Path;

use crate::bridge::rule;
use crate::broker::acl;
use crate::cli::{Failure, sense};
use crate::config::{Config, Diagnostics, Document, Finding, IdentitySource, hold_back};
use crate::sys::identity;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// With `{gateway}` filled in.
    pub config: Config,
    /// What works but will surprise.
    pub warnings: Diagnostics,
}

/// Reads and proves a configuration for this box.
///
/// # Errors
/// When it cannot be read, is wrong, or has no name for a box without an identity.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let (config, warnings) = examine(path)?.finish().map_err(Failure::BadConfig)?;
    let found = identity(&config).unwrap_or_default();
    let config = config.resolve(&found).map_err(|_| Failure::NoIdentity { found })?;
    Ok(Loaded { config, warnings })
}

/// Reads and proves a configuration for a gateway that runs with another one.
///
/// # Errors
/// As [`load`]; also when it changes what only a restart can change.
pub(super) fn load_anew(path: &Path, running: &Config) -> Result<Loaded, Failure> {
    let mut document = examine(path)?;
    let found = identity(document.draft()).unwrap_or_default();
    let mut config = document.draft().clone().resolve(&found).map_err(|_| Failure::NoIdentity { found })?;
    let findings = hold_back(running, &mut config);
    document.report(findings);
    let (_, warnings) = document.finish().map_err(Failure::BadConfig)?;
    Ok(Loaded { config, warnings })
}

/// Reads a configuration and looks for all that is wrong with it, also in its rules of both kinds.
pub(super) fn examine(path: &Path) -> Result<Document, Failure> {
    let mut document = Document::read(path, &|name| std::env::var(name).ok()).map_err(Failure::NoConfig)?;
    let unnamed = document.draft().gateway.name.is_empty();
    let found = identity(document.draft());
    if unnamed && found.is_none() {
        let message = "this box has nothing that `identity` names, so `{gateway}` stands for nothing here";
        document.report(vec![Finding::warning("gateway.name", message, "set `name` in [gateway]")]);
    }
    // Rules are proved with the real name, because it may be what makes two topics the same; another box's file is
    // proved with a stand-in, and so is one whose name is wrong and was complained about.
    let here = document.draft().clone().resolve(&found.unwrap_or_default());
    let config = here.or_else(|_| {
        let mut config = document.draft().clone();
        config.gateway.name.clear();
        config.resolve("gateway")
    });
    if let Ok(config) = config {
        document.report(rule::check(&config));
        document.report(sense::check(&config));
    }
    let access = acl::check(document.draft());
    document.report(access);
    Ok(document)
}

/// The first identity that this box has, of those in the configuration.
fn identity(config: &Config) -> Option<String> {
    config.gateway.identity.iter().find_map(|source| match source {
        IdentitySource::File(path) => identity::first_line(path),
        IdentitySource::MachineId => identity::machine_name(),
        IdentitySource::SerialNumber => identity::serial_number(),
        IdentitySource::NetworkAddress(interface) => identity::network_address(interface.as_deref()),
    })
}
