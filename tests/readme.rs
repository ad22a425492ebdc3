//! The README's configuration is good, its commands print what it says they print, and who follows its trial from the
//! top sees what it shows.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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

/// What the README has in the first block of this kind of its section on the configuration.
fn block(kind: &str) -> &'static str {
    let section = README.split_once("\n## Configure it\n").unwrap().1;
    let start = section.split_once(&format!("```{kind}\n")).unwrap().1;
    start.split_once("```").unwrap().0
}

/// The trial with a mosquitto over TLS, a cut and a return: each command as it is on the page, but for its ports, which
/// somebody else may have here, and without the installation: with it, tests/package/trial goes through it in a clean root.
#[test]
fn who_follows_the_readme_from_the_top_sees_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let page = README.replace("8883", &free_port().to_string()).replace("1884", &free_port().to_string());
    fs::write(at("README.md"), page).unwrap();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/follow"), at("follow")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_moteway"), at("moteway")).unwrap();
    fs::create_dir(at("home")).unwrap();
    // A mosquitto of root's would give up its rights, and could not read what others may not.
    open(dir.path(), 0o755);
    open(&at("home"), 0o777);
    let path = format!("{}:{}:/usr/sbin", dir.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.arg("120");
    if nix::unistd::geteuid().is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg("bash").arg(at("follow")).arg(at("README.md"));
    command.current_dir(at("home")).env("PATH", path).env("HOME", at("home"));
    let output = command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "README.md and what happens differ, see above");
    let followed = said.lines().filter(|line| line.starts_with("$ ")).count();
    assert!(followed >= 15 && said.contains("$ mosquitto_sub"), "the README has lost its trial");
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A port that nobody has, below those that the system hands out.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(10_000..32_000)).find(is_free).unwrap()
}
