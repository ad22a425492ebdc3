//! What the daemons of this process log.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;

use crate::setup::wait_for;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps from now on what is logged. Another test of this process may have seen to it.
pub fn capture() {
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_ansi(false);
    log.with_writer(|| Capture).try_init().ok();
}

/// The lines that contain all of `parts`.
fn lines(parts: &[&str]) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&log);
    text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
}

/// Waits for a line that contains all of `parts`. Parts should name something of the test's own, such as a port:
/// tests may share a process.
pub fn wait_for_line(parts: &[&str]) -> String {
    let mut found = Vec::new();
    wait_for(&format!("a log line with {parts:?}"), || {
        found = lines(parts);
        !found.is_empty()
    });
    found.swap_remove(0)
}
