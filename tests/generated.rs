//! Files that say what the program says already: man pages and shell completions from the definitions of the command
//! line, the reference of the configuration from `config/moteway.toml`. They lie in the tree, so that whoever packages
//! needs no program that runs on the build machine. `packaging/generate` writes them; these tests keep them true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

#[path = "generated/commands.rs"]
mod commands;
#[path = "generated/reference.rs"]
mod reference;
#[path = "generated/roff.rs"]
mod roff;

use std::path::{Path, PathBuf};
use std::{env, fs};

use clap_complete::Shell;

/// Set by `packaging/generate`.
const WRITE: &str = "MOTEWAY_GENERATE";

#[test]
fn the_man_page_of_the_commands_is_up_to_date() {
    same("packaging/man/moteway.1", &commands::man_page());
}

#[test]
fn the_completions_are_up_to_date() {
    same("packaging/completions/bash/moteway", &commands::completions(Shell::Bash));
    same("packaging/completions/zsh/_moteway", &commands::completions(Shell::Zsh));
    same("packaging/completions/fish/moteway.fish", &commands::completions(Shell::Fish));
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    let reference = reference::Reference::read();
    same("packaging/man/moteway.toml.5", &reference.man_page());
    same("packaging/doc/configuration.md", &reference.markdown());
}

/// Compares a file with what it should be, or makes it so.
fn same(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os(WRITE).is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected).count() + 1;
    assert!(found == expected, "{path} is out of date from line {line} on: run packaging/generate");
}

/// What `man` shows on any system.
#[test]
fn the_man_pages_are_plain_roff() {
    for page in files("packaging/man") {
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains("\n.SH NAME\nmoteway"), "{}", page.display());
        let controls = text.lines().filter_map(|line| line.strip_prefix('.')?.split(' ').next());
        for control in controls {
            let known = ["TH", "SH", "SS", "TP", "IP", "PP", "RS", "RE", "br", "ie", "el", "nf", "fi", "ad", "if"];
            assert!(known.contains(&control), "{}: .{control}", page.display());
        }
    }
}

/// All files below a directory of the tree.
fn files(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
