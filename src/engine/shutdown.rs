//! How the engine stops: what is in hand is committed and acknowledged, then everybody is told, then what that brought
//! about (wills, the time of leaving) is committed too.

use crate::bridge;
use crate::engine::{Engine, Output};
use crate::time::{Duration, Instant, Now};

/// A disk that does not commit in this time keeps nobody waiting for their goodbye.
const COMMIT_LIMIT: Duration = Duration::from_secs(2);

/// How far the engine is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not asked to.
    No,
    /// Nothing new is taken from clients; this batch is waited for.
    Committing { batch: u64, until: Instant },
    /// Clients and upstreams were told.
    Told,
    /// The shell was told.
    Done,
}

impl Stop {
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Committing { until, .. } => Some(until),
            Self::No | Self::Told | Self::Done => None,
        }
    }
}

impl Engine {
    pub(crate) fn handle_shutdown(&mut self, now: Now) {
        if self.stop == Stop::No {
            self.stop = Stop::Committing { batch: self.queues.flush(), until: now.at + COMMIT_LIMIT };
        }
    }

    /// Takes the next step when its time has come. True when the cores have something to say because of it.
    pub(crate) fn go_on_stopping(&mut self, now: Now) -> bool {
        match self.stop {
            Stop::Committing { batch, until } if self.queues.is_safe(batch) || until <= now.at => {
                self.stop = Stop::Told;
                self.broker.handle_shutdown(now, &mut self.queues);
                self.tell_bridge(now, bridge::Input::Shutdown);
                true
            }
            Stop::Told if self.queues.is_idle() => {
                self.stop = Stop::Done;
                self.outputs.push_back(Output::ShutdownDone);
                false
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ListenerId};
    use crate::engine::{Input, Start};
    use crate::mqtt::{
        ConnId, Connect, ConnectProperties, Packet, Publish, PublishProperties, QoS, Subscribe, SubscribeOptions,
        Subscription, Version, frame,
    };
    use crate::queue::{Recovered, Reply};
    use crate::time::Wall;

    const V5: Version = Version::V5;

    fn at(millis: u64) -> Now {
        Now { at: Instant::from_micros(millis * 1000), wall: Wall::from_millis(1_000_000 + millis) }
    }

    fn engine() -> Engine {
        let config = Config::default();
        let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
        Engine::new(at(0), start).unwrap()
    }

    fn send(engine: &mut Engine, now: Now, conn: u32, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(V5, &mut bytes);
        engine.handle_input(now, Input::Received { conn: ConnId(conn), bytes: &bytes });
    }

    fn connect(engine: &mut Engine, now: Now, conn: u32, client_id: &str) {
        engine.handle_input(
            now,
            Input::Accepted { conn: ConnId(conn), listener: ListenerId(0), peer: None, certificate: None },
        );
        let properties = ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() };
        let connect = Connect {
            version: V5,
            clean_start: false,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties,
        };
        send(engine, now, conn, &Packet::Connect(connect));
    }

    /// What the engine wants done, commits answered at once if `commit`; and which packets a connection was sent.
    fn drain(engine: &mut Engine, now: Now, commit: bool) -> Vec<&'static str> {
        let mut done = Vec::new();
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Commit(batch) if commit => {
                    engine.handle_input(now, Input::Store(Reply::Committed { batch: batch.id }));
                }
                Output::Commit(_) => done.push("commit"),
                Output::Close { .. } => done.push("close"),
                Output::ShutdownDone => done.push("done"),
                _ => {}
            }
        }
        done
    }

    fn sent(engine: &mut Engine, conn: u32) -> Vec<String> {
        let outbox = std::mem::take(engine.outbox(ConnId(conn)).unwrap());
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = outbox.slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        while let Some(frame) = frame(rest, u32::MAX).unwrap() {
            rest = &rest[frame.raw.len()..];
            found.push(match Packet::decode(V5, &frame).unwrap() {
                Packet::PubAck(ack) => format!("puback {}", ack.pkid),
                Packet::Disconnect(disconnect) => format!("disconnect {:?}", disconnect.reason),
                other => format!("{other:?}"),
            });
        }
        found
    }

    /// A publisher whose message waits for the disk.
    fn with_a_waiting_publisher() -> Engine {
        let mut engine = engine();
        connect(&mut engine, at(0), 0, "sub");
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filters = [Subscription { filter: "a", options }];
        let subscribe = Subscribe { pkid: 1, properties: Default::default(), filters: filters.as_slice().into() };
        send(&mut engine, at(0), 0, &Packet::Subscribe(subscribe));
        engine.handle_input(at(1), Input::Closed { conn: ConnId(0), error: None });
        connect(&mut engine, at(1), 1, "pub");
        engine.handle_input(at(1000), Input::Timeout);
        drain(&mut engine, at(1000), true);
        sent(&mut engine, 1);
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "a",
            pkid: 7,
            properties: PublishProperties::default(),
            payload: b"x",
        };
        send(&mut engine, at(1001), 1, &Packet::Publish(publish));
        assert_eq!(sent(&mut engine, 1), Vec::<String>::new());
        engine
    }

    #[test]
    fn what_waits_for_the_disk_is_acknowledged_before_the_goodbye() {
        let mut engine = with_a_waiting_publisher();
        engine.handle_input(at(1002), Input::Shutdown);
        let mut batch = None;
        while let Some(output) = engine.poll_output() {
            match output {
                Output::Commit(found) => batch = Some(found.id),
                Output::Close { .. } | Output::ShutdownDone => panic!("{output:?} before the commit"),
                _ => {}
            }
        }
        // What comes now is nobody's business any more.
        send(&mut engine, at(1002), 1, &Packet::PingReq);
        assert_eq!(sent(&mut engine, 1), Vec::<String>::new());
        engine.handle_input(at(1003), Input::Store(Reply::Committed { batch: batch.expect("a batch at once") }));
        assert_eq!(sent(&mut engine, 1), ["puback 7", "disconnect ServerShuttingDown"]);
        // The time of leaving is made safe as well.
        assert_eq!(drain(&mut engine, at(1003), true), ["close", "done"]);
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_the_goodbye() {
        let mut engine = with_a_waiting_publisher();
        engine.handle_input(at(1002), Input::Shutdown);
        assert_eq!(drain(&mut engine, at(1002), false), ["commit"]);
        assert_eq!(engine.deadline(), Some(at(3002).at));
        engine.handle_input(at(3002), Input::Timeout);
        assert_eq!(sent(&mut engine, 1), ["disconnect ServerShuttingDown"]);
        assert_eq!(drain(&mut engine, at(3002), false), ["close"], "not done: the message is not safe");
    }

    #[test]
    fn with_nothing_in_hand_it_is_over_at_once() {
        let mut engine = engine();
        engine.handle_input(at(0), Input::Shutdown);
        assert_eq!(drain(&mut engine, at(0), false), ["done"]);
    }
}
