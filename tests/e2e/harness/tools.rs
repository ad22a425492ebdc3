//! mosquitto's command-line clients.

use std::net::SocketAddr;
use std::process::{Command, Output};

use crate::harness::process::Process;

/// A command with its address, and lines that come when they are written.
fn command(tool: &str, at: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "-eL", tool, "-h", &at.ip().to_string(), "-p", &at.port().to_string()]).args(args);
    command
}

/// Runs `mosquitto_pub` to its end, which must be good.
#[track_caller]
pub(crate) fn publish(at: SocketAddr, args: &[&str]) {
    finish("mosquitto_pub", at, args);
}

/// Runs one of the tools to its end, which must be good, and returns what it wrote.
#[track_caller]
pub(crate) fn finish(tool: &str, at: SocketAddr, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(tool, at, args).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{tool} {args:?} ended with {status}: {stdout}{stderr}");
    stdout.into_owned()
}

/// What a line of [`subscribe`] begins with when it is a message.
pub(crate) const MARK: &str = "MSG ";

/// Starts `mosquitto_sub` and waits until it has subscribed. It writes each message as [`MARK`] and `format`.
#[track_caller]
pub(crate) fn subscribe(at: SocketAddr, format: &str, args: &[&str]) -> Process {
    let mut command = command("mosquitto_sub", at, args);
    let mut process = Process::start("mosquitto_sub", command.args(["-d", "-F", &format!("{MARK}{format}")]));
    process.says("Subscribed (");
    process
}

/// The messages that [`subscribe`] wrote.
pub(crate) fn messages(process: &Process) -> Vec<String> {
    let text = process.text();
    text.lines().filter_map(|line| line.strip_prefix(MARK)).map(str::to_owned).collect()
}

/// Starts a tool and leaves it running.
pub(crate) fn start(tool: &str, at: SocketAddr, args: &[&str]) -> Process {
    Process::start(tool, &mut command(tool, at, args))
}
