//! Client libraries of other languages, and a broker, which `tests/run` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::certs::Certs;
use crate::harness::free_port;
use crate::harness::gateway::Gateway;
use crate::harness::process::Process;

/// Where `tests/run` installs them.
fn installed() -> PathBuf {
    // Cargo's directory for tests lies in the target directory.
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers")
}

/// The program.
#[track_caller]
pub(crate) fn rumqttd() -> PathBuf {
    let program = installed().join("bin/rumqttd");
    assert!(program.exists(), "rumqttd is not installed here: tests/run installs it");
    program
}

/// A Python that has paho-mqtt.
#[track_caller]
pub(crate) fn python() -> Command {
    let own = installed().join("venv/bin/python3");
    let python = if own.exists() { own } else { "python3".into() };
    check(Command::new(&python).args(["-c", "import paho.mqtt"]), "paho-mqtt for Python");
    Command::new(python)
}

/// A Node that finds MQTT.js.
#[track_caller]
fn node() -> Command {
    let own = installed().join("node_modules");
    let node = || {
        let mut node = Command::new("node");
        if own.join("mqtt").exists() {
            node.env("NODE_PATH", &own);
        }
        node
    };
    check(node().args(["-e", "require('mqtt')"]), "MQTT.js");
    node()
}

#[track_caller]
fn check(probe: &mut Command, what: &str) {
    let found = probe.output().is_ok_and(|output| output.status.success());
    assert!(found, "{what} is not installed here: tests/run installs it");
}

/// Runs a script of `tests/e2e/clients/` over `protocol` (mqtt, ws, wss) to its good end, and restarts the gateway the
/// hard way when it asks. The gateway has a listener for each.
#[track_caller]
pub(crate) fn run(script: &str, protocol: &str, restarts: &[&str]) {
    let mut command = if script.ends_with(".py") { python() } else { node() };
    let (certs, [ws, wss]) = (Certs::new(), [free_port(), free_port()]);
    let mut gateway = Gateway::start(&format!(
        "[[listener]]\nname = \"ws\"\nbind = \"127.0.0.1:{ws}\"\nprotocol = \"websocket\"\n\
         [[listener]]\nname = \"wss\"\nbind = \"127.0.0.1:{wss}\"\nprotocol = \"websocket\"\n{}",
        certs.listener_tls()
    ));
    match protocol {
        "ws" => arguments(&mut command, script, ws, protocol),
        "wss" => arguments(&mut command, script, wss, protocol).arg(certs.ca()),
        _ => arguments(&mut command, script, gateway.port(), protocol),
    };
    let mut process = Process::start(script, &mut command);
    for version in restarts {
        process.says(&format!("restart {version}"));
        gateway.kill_and_restart();
        process.tell("go");
    }
    let status = process.wait();
    assert!(status.success(), "{script} ended with {status}:\n{}", process.text());
}

/// A script of `tests/e2e/clients/` for Python, which may need what is not paho-mqtt.
pub(crate) fn script(name: &str, args: &[&str]) -> Command {
    let own = installed().join("venv/bin/python3");
    let mut command = Command::new(if own.exists() { own } else { "python3".into() });
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients").join(name)).args(args);
    command
}

/// Runs such a script to its good end.
#[track_caller]
pub(crate) fn run_script(name: &str, args: &[&str]) {
    let mut process = Process::start(name, &mut script(name, args));
    let status = process.wait();
    assert!(status.success(), "{name} ended with {status}:\n{}", process.text());
}

/// Runs a script of `tests/e2e/clients/` to its good end at this gateway, with more arguments.
#[track_caller]
pub(crate) fn run_at(gateway: &Gateway, script: &str, args: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients").join(script);
    let mut command = if script.ends_with(".py") { python() } else { node() };
    let mut process = Process::start(script, command.arg(path).arg(gateway.port().to_string()).args(args));
    let status = process.wait();
    assert!(status.success(), "{script} ended with {status}:\n{}", process.text());
}

fn arguments<'c>(command: &'c mut Command, script: &str, port: u16, protocol: &str) -> &'c mut Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients").join(script);
    command.arg(path).arg(port.to_string()).arg(protocol)
}
