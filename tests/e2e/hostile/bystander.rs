//! A client that has nothing to do with the attack: it sends itself messages and measures how long they take.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;

use crate::harness::client::{Client, v5};

/// No round trip may take longer, on a busy machine.
const WORST: Duration = Duration::from_secs(5);

pub(super) struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

/// What the round trips took.
pub(super) struct Served(Vec<Duration>);

impl Bystander {
    pub(super) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut client = Client::connect(address, &v5("bystander"));
        client.subscribe("bystander/topic", QoS::AtLeastOnce);
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) || took.is_empty() {
                let begin = Instant::now();
                client.publish("bystander/topic", "x", QoS::AtLeastOnce);
                client.expect("bystander/topic", "x");
                took.push(begin.elapsed());
                std::thread::park_timeout(Duration::from_millis(5));
            }
            took
        });
        Self { stop, thread }
    }

    #[track_caller]
    pub(super) fn stop(self) -> Served {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.thread.join().expect("the other client was not served");
        took.sort_unstable();
        let worst = took.last().copied().unwrap_or_default();
        assert!(worst < WORST, "a round trip of the other client took {worst:?}");
        Served(took)
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |part: usize| self.0[(self.0.len() - 1) * part / 100];
        write!(f, "{} round trips, half in {:?}, 99 % in {:?}, all in {:?}", self.0.len(), at(50), at(99), at(100))
    }
}
