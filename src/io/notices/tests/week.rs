//! A week without the upstream, in virtual time, and what it leaves in the log.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::{Config, ListenerId};
use crate::engine::{Engine, Input, Output, Start};
use crate::mqtt::{ConnId, Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Version};
use crate::queue::{Recovered, Reply};
use crate::time::{Now, Wall, earliest};

const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// A message from the sensor each so often, and a new connection of another client.
const MESSAGE: Duration = Duration::from_secs(5);

const CONFIG: &str = "
    [[upstream]]
    name = \"cloud\"
    url = \"mqtt://cloud.example\"
    [[upstream.rule]]
    name = \"data\"
    filter = \"#\"
    limit = { messages = 100 }
";

/// What would be in the log, as lines of text with their times.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<usize>>);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.0.lock().unwrap() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Week {
    engine: Engine,
    notices: Notices,
    now: Now,
    conns: u32,
}

impl Week {
    fn begin() -> Self {
        let config = Config::parse(CONFIG).unwrap().resolve("box").unwrap();
        let now = Now { at: Instant::ZERO, wall: Wall::from_millis(1_800_000_000_000) };
        let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
        let mut week =
            Self { engine: Engine::new(now, start).unwrap(), notices: Notices::default(), now, conns: 0 };
        week.drain();
        week
    }

    fn input(&mut self, input: Input<'_>) {
        self.engine.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            let answer = match output {
                Output::Dial { upstream, .. } => Input::DialFailed {
                    upstream,
                    error: "cannot connect: no route to host (os error 113)".to_owned(),
                },
                Output::Commit(batch) => Input::Store(Reply::Committed { batch: batch.id }),
                Output::Read(read) => {
                    Input::Store(Reply::Rows { dest: read.dest, after: read.after, rows: Vec::new() })
                }
                Output::Flush { conn } => {
                    self.engine.outbox(conn).map(std::mem::take);
                    Input::Flushed { conn }
                }
                Output::Notice(notice) => {
                    self.notices.log(self.now.at, &notice);
                    continue;
                }
                _ => continue,
            };
            self.engine.handle_input(self.now, answer);
        }
    }

    fn send(&mut self, conn: u32, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        self.input(Input::Received { conn: ConnId(conn), bytes: &bytes });
    }

    fn connect(&mut self, client_id: &str) -> u32 {
        let conn = self.conns;
        self.conns = (self.conns + 1) % 100;
        self.input(Input::Accepted { conn: ConnId(conn), listener: ListenerId(0), peer: None, certificate: None });
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        self.send(conn, &Packet::Connect(connect));
        conn
    }

    fn run(&mut self) {
        let sensor = self.connect("sensor");
        let mut next = Instant::ZERO;
        while self.now.at < Instant::ZERO + WEEK {
            let at = earliest(self.engine.deadline(), Some(next)).unwrap();
            let at = at.max(self.now.at);
            self.now = Now { at, wall: self.now.wall + at.since(self.now.at) };
            if self.engine.deadline().is_some_and(|deadline| deadline <= at) {
                self.input(Input::Timeout);
            }
            if next > at {
                continue;
            }
            next = at + MESSAGE;
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "site/a",
                pkid: 1,
                properties: PublishProperties::default(),
                payload: b"21.5",
            };
            self.send(sensor, &Packet::Publish(publish));
        }
    }
}

pub(super) fn bytes_logged() -> usize {
    let counted = Counted::default();
    let writer = counted.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let status = tracing::subscriber::with_default(log, || {
        let mut week = Week::begin();
        week.run();
        week.engine.status()
    });
    let (upstream, line) = (&status.upstreams[0].stats, &status.lines[0].stats);
    assert!(upstream.failures > 5_000, "it was dialled all the time: {upstream:?}");
    assert!(line.dropped_oldest > 100_000, "the queue was full all the time: {line:?}");
    let bytes = counted.0.lock().unwrap();
    *bytes
}
