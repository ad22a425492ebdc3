//! A child process whose output is kept, and which does not outlive its owner.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{BOUND, until};

/// Lines kept of what a process says.
const MAX_LINES: usize = 20_000;

/// Lines that a process wrote, standard output and standard error in one.
#[derive(Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    grown: Condvar,
}

impl Output {
    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap();
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
        self.grown.notify_all();
    }
}

pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with all its streams connected to us.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = Arc::new(Output::default());
        let out = collect(child.stdout.take().unwrap(), Arc::clone(&output));
        let err = collect(child.stderr.take().unwrap(), Arc::clone(&output));
        Self { name: name.to_owned(), stdin: child.stdin.take(), child, output, readers: vec![out, err] }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let what = format!("{} ends", self.name);
        until(&what, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status.unwrap()
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// All it wrote.
    pub(crate) fn text(&self) -> String {
        let lines = self.output.lines.lock().unwrap();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for a line that `wanted` takes.
    #[track_caller]
    pub(crate) fn line<T>(&mut self, what: &str, wanted: impl FnMut(&str) -> Option<T>) -> T {
        self.line_within(BOUND, what, wanted)
    }

    /// Waits for a line that `wanted` takes, but no longer than `bound`.
    #[track_caller]
    pub(crate) fn line_within<T>(
        &mut self,
        bound: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let end = Instant::now() + bound;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if let Some(found) = lines.iter().find_map(|line| wanted(line)) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            let gone = Arc::strong_count(&self.output) == 1;
            if left.is_zero() || gone {
                let said = lines.iter().rev().take(50).rev().map(|line| format!("  {line}\n")).collect::<String>();
                let how = if gone { "ended" } else { "took too long" };
                drop(lines);
                panic!("{} {how} before it said {what}:\n{said}", self.name);
            }
            let step = left.min(Duration::from_millis(50));
            lines = self.output.grown.wait_timeout(lines, step).unwrap().0;
        }
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) {
        self.line(text, |line| line.contains(text).then_some(()));
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Output>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            output.push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            let text = self.text();
            let from = text.lines().count().saturating_sub(60);
            eprintln!("--- {} said:", self.name);
            text.lines().skip(from).for_each(|line| eprintln!("  {line}"));
        }
    }
}
