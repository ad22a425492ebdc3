//! `moteway demo`, seen from a shell: it tells its story without a terminal, its exit status is its verdict, and it
//! leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A running demo whose directory for temporary files is its own.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it printed so far.
    text: String,
    tmp: TempDir,
}

impl Demo {
    fn start() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_moteway"))
            .args(["demo", "--fast"])
            .env("TMPDIR", tmp.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, text: String::new(), tmp }
    }

    /// Reads on to a line with these words.
    fn read_to(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "no \"{words}\" in:\n{}", self.text);
            self.text.push_str(&line);
        }
    }

    /// The processes it told of.
    fn daemons(&self) -> Vec<i32> {
        let after = self.text.split("(process ").skip(1);
        after.map(|rest| rest.split(')').next().unwrap().parse().unwrap()).collect()
    }

    /// Reads on to the end; returns the exit status and what was said to standard error.
    fn finish(&mut self) -> (Option<i32>, String) {
        self.out.read_to_string(&mut self.text).unwrap();
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code(), error)
    }

    fn assert_no_daemon_is_left(&self, told: usize) {
        let daemons = self.daemons();
        assert_eq!(daemons.len(), told, "{}", self.text);
        for pid in daemons {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
        }
    }

    /// How many directories of demos there are.
    fn kept(&self) -> usize {
        self.tmp.path().read_dir().unwrap().count()
    }
}

#[test]
fn the_ledger_balances_for_every_rule_and_nothing_is_left() {
    let mut demo = Demo::start();
    let (code, error) = demo.finish();
    assert_eq!((code, error.as_str()), (Some(0), ""), "{}", demo.text);
    for (rule, qos) in [("telemetry", "1"), ("meter", "1"), ("alarms", "2"), ("commands", "1")] {
        let row = demo.text.lines().rfind(|line| line.trim_start().starts_with(&format!("{rule} ")));
        let cells: Vec<_> =
            row.unwrap_or_else(|| panic!("no {rule} in:\n{}", demo.text)).split_whitespace().collect();
        let [.., level, sent, acknowledged, delivered, duplicated, lost, order] = cells[..] else {
            panic!("{cells:?}")
        };
        assert_ne!(sent, "0", "{rule}");
        assert_eq!((level, sent, sent), (qos, acknowledged, delivered), "{rule}");
        assert_eq!((lost, order), ("0", "kept"), "{rule}");
        assert!(qos == "1" || duplicated == "0", "{rule}");
    }
    assert!(demo.text.contains("SIGKILL") && demo.text.trim_end().ends_with("order held."), "{}", demo.text);
    assert!(!demo.text.contains(['\x1b', '\r']), "no control characters without a terminal");
    demo.assert_no_daemon_is_left(3);
    assert_eq!(demo.kept(), 0);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let mut demo = Demo::start();
    demo.read_to("Traffic flows");
    kill(Pid::from_raw(demo.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let (code, error) = demo.finish();
    assert_eq!((code, error.as_str()), (Some(1), "moteway: the demo was interrupted\n"), "{}", demo.text);
    demo.assert_no_daemon_is_left(2);
    assert_eq!(demo.kept(), 0);
}

#[test]
fn a_gateway_that_ends_by_itself_fails_the_demo_which_keeps_the_logs() {
    let mut demo = Demo::start();
    demo.read_to("Traffic flows");
    kill(Pid::from_raw(demo.daemons()[1]), Signal::SIGTERM).unwrap();
    let (code, error) = demo.finish();
    assert_eq!(code, Some(1), "{}", demo.text);
    assert!(error.starts_with("moteway: the gateway ended by itself (exit status: 0)"), "{error}");
    let log = demo.tmp.path().read_dir().unwrap().next().unwrap().unwrap().path().join("gateway.log");
    assert!(error.contains(log.to_str().unwrap()), "{error}");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    demo.assert_no_daemon_is_left(2);
}
