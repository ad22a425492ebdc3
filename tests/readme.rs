//! The README's configuration is good, and its commands print what it says they print.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::process::Command;

const README: &str = include_str!("../README.md");

#[test]
fn the_configuration_and_the_commands_of_the_readme_are_true() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("moteway.toml"), block("toml")).unwrap();
    let mut commands = 0;
    for command in block("console").split("$ ").skip(1) {
        let (line, shown) = command.split_once('\n').unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("moteway"), "{line}");
        let output = Command::new(env!("CARGO_BIN_EXE_moteway")).args(words).current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown, printed, "README.md, below `{line}`: put there what the command prints");
        commands += 1;
    }
    assert!(commands >= 3, "the README has lost its commands");
}

/// What the README has in its first block of this kind.
fn block(kind: &str) -> &'static str {
    let start = README.split_once(&format!("```{kind}\n")).unwrap().1;
    start.split_once("```").unwrap().0
}
