//! What only shows when rules, access and this box are seen together.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::bridge::rule::{CompiledRule, overlap};
use crate::config::{AclFilter, AclLevel, Config, Finding};
use crate::sys::wide;

/// What will surprise. `{gateway}` must have been filled in.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (i, upstream) in config.upstream.iter().enumerate() {
        for (j, rule) in upstream.rule.iter().enumerate() {
            let Ok(CompiledRule { outward: Some(outward), .. }) = CompiledRule::new(rule) else { continue };
            if is_closed(config, outward.filter()) {
                found.push(Finding::warning(
                    format!("upstream[{i}].rule[{j}].filter"),
                    format!("rule `{}` gets nothing from clients: no [[acl]] lets anybody publish there", rule.name),
                    "add the filter to `publish` of an [[acl]], unless only other upstreams and the gateway publish it",
                ));
            }
        }
    }
    found.extend(disk(config));
    found
}

/// Whether nobody may publish to any topic of the filter.
fn is_closed(config: &Config, filter: &str) -> bool {
    !config.acl.is_empty()
        && config.acl.iter().flat_map(|rule| &rule.publish).all(|allowed| !overlap(&widest(allowed), filter))
}

/// The filter with every client's own names.
fn widest(filter: &AclFilter) -> String {
    let level = |level: &AclLevel| match level {
        AclLevel::Text(text) => text.to_string(),
        AclLevel::Any | AclLevel::Own(_) => "+".to_owned(),
    };
    let open = filter.is_open().then(|| "#".to_owned());
    filter.levels().iter().map(level).chain(open).collect::<Vec<_>>().join("/")
}

/// The store may grow to its limit. What it has already is there to be used again.
fn disk(config: &Config) -> Option<Finding> {
    let state_dir = &config.gateway.state_dir;
    let existing = state_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let room = statvfs(existing).ok()?;
    let used =
        ["moteway.db", "moteway.db-wal"].map(|name| state_dir.join(name).metadata().map_or(0, |file| file.len()));
    let has = wide(room.blocks_available()) * wide(room.fragment_size()) + used.iter().sum::<u64>();
    (config.store.max_bytes > has).then(|| {
        let mib = |bytes: u64| bytes >> 20;
        let message = format!(
            "the store may grow to {} MiB, but {} has room for {} MiB: when the disk is full, publishes are refused",
            mib(config.store.max_bytes),
            existing.display(),
            mib(has)
        );
        Finding::warning("store.max_bytes", message, format!("write \"{}MiB\", or make room", mib(has) * 9 / 10))
    })
}
