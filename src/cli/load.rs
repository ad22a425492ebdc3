//! From a path to a configuration that is proved and knows which box it is on.

use std::fs;
use std::path::Path;

use crate::bridge::rule;
use crate::broker::acl;
use crate::cli::Failure;
use crate::config::{Config, Diagnostics, Document, Finding};

/// Where Linux keeps the machine id, the usual place first.
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

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
/// When it cannot be read, is wrong, or has no name for a box without machine id.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let (config, warnings) = examine(path)?.finish().map_err(Failure::BadConfig)?;
    let config = config.resolve(&machine_id().unwrap_or_default()).map_err(|_| Failure::NoIdentity)?;
    Ok(Loaded { config, warnings })
}

/// Reads a configuration and looks for all that is wrong with it, also in its rules of both kinds.
pub(super) fn examine(path: &Path) -> Result<Document, Failure> {
    let mut document = Document::read(path).map_err(Failure::NoConfig)?;
    let unnamed = document.draft().gateway.name.is_empty();
    let machine_id = machine_id();
    if unnamed && machine_id.is_none() {
        let message = "this box has no machine id, so `{gateway}` stands for nothing here";
        document.report(vec![Finding::warning("gateway.name", message, "set `name` in [gateway]")]);
    }
    // Rules are proved with the real name, because it may be what makes two topics the same; another box's file is
    // proved with a stand-in, and so is one whose name is wrong and was complained about.
    let here = document.draft().clone().resolve(&machine_id.unwrap_or_default());
    let config = here.or_else(|_| {
        let mut config = document.draft().clone();
        config.gateway.name.clear();
        config.resolve("gateway")
    });
    if let Ok(config) = config {
        document.report(rule::check(&config));
    }
    let access = acl::check(document.draft());
    document.report(access);
    Ok(document)
}

/// The machine id: 32 hexadecimal digits that are this box's own.
fn machine_id() -> Option<String> {
    let read = |path: &&str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    // On its first boot an image may say "uninitialized".
    let proper = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    MACHINE_ID.iter().filter_map(read).find(proper)
}
