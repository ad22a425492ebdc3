//! What the MQTT-SN gateway tells about itself below `$SYS/broker/mqttsn`.

use std::fmt::Display;

use crate::engine::Engine;
use crate::gateway::{LinkInfo, Stats};
use crate::metrics::PortStats;
use crate::time::Now;

/// Clients with a topic of their own, the first by client id; the counters are of all.
const MAX_CLIENTS: usize = 1000;

/// Topics and values, being gathered.
#[derive(Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn put(&mut self, name: &str, value: impl Display) {
        self.0.push((format!("$SYS/broker/mqttsn/{name}"), value.to_string()));
    }
}

impl Engine {
    /// All topics and their values as they are now; none without a link.
    pub(crate) fn sn_topics(&self, now: Now) -> Vec<(String, String)> {
        let mut values = Values::default();
        if self.gateway.links().next().is_none() {
            return values.0;
        }
        counters(&mut values, &self.gateway.stats());
        for link in self.gateway.links() {
            of_link(&mut values, now, &link);
            of_port(&mut values, link.name, &self.port(link.id));
        }
        // A client id that is no topic level has none.
        let named = |id: &str| !id.contains(['/', '+', '#']);
        for client in self.sn_clients().filter(|client| named(client.info.client_id)).take(MAX_CLIENTS) {
            let sleep = client.info.sleep_until.map(|until| until.since(now.at).as_secs());
            let state = serde_json::json!({
                "state": client.info.state,
                "sleeps_for": sleep,
                "buffered": client.buffered.messages,
                "buffered_bytes": client.buffered.bytes,
            });
            values.put(&format!("client/{}", client.info.client_id), state);
        }
        values.0
    }
}

fn counters(values: &mut Values, stats: &Stats) {
    let dropped =
        stats.dropped_too_long + stats.dropped_refused + stats.dropped_topics_full + stats.dropped_too_old;
    for (name, value) in [
        ("clients/total", stats.clients),
        ("clients/active", stats.active),
        ("clients/sleeping", stats.sleeping),
        ("clients/lost", stats.clients_lost),
        ("clients/refused", stats.connects_refused),
        ("forwarders", stats.forwarders),
        ("topics", stats.topics),
        ("messages/received", stats.messages_received),
        ("messages/sent", stats.messages_sent),
        ("messages/malformed", stats.malformed),
        ("messages/rate_limited", stats.rate_limited),
        ("messages/strangers", stats.strangers),
        ("messages/retransmitted", stats.retransmissions),
        ("messages/congestion", stats.congestion),
        ("publish/messages/received", stats.publishes_received),
        ("publish/messages/sent", stats.publishes_sent),
        ("publish/messages/dropped", dropped),
    ] {
        values.put(name, value);
    }
}

fn of_link(values: &mut Values, now: Now, link: &LinkInfo<'_>) {
    let mut put = |name: &str, value: u64| values.put(&format!("link/{}/{name}", link.name), value);
    put("open", u64::from(link.open));
    put("messages/received", link.stats.messages_received);
    put("messages/sent", link.stats.messages_sent);
    put("messages/malformed", link.stats.malformed);
    put("messages/rate_limited", link.stats.rate_limited);
    put("messages/retransmitted", link.stats.retransmissions);
    let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    if let Some(round_trip) = link.stats.round_trip {
        put("round_trip_ms", whole(round_trip.as_millis()));
    }
    if let Some(heard_at) = link.stats.heard_at {
        put("silent_seconds", now.at.since(heard_at).as_secs());
    }
    if let Some(framing) = link.framing {
        put("frames", framing.frames);
        put("noise_bytes", framing.noise_bytes);
        put("crc_errors", framing.crc_errors);
        put("oversize", framing.oversize);
        put("timeouts", framing.timeouts);
    }
}

fn of_port(values: &mut Values, link: &str, port: &PortStats) {
    let mut put = |name: &str, value: u64| values.put(&format!("link/{link}/{name}"), value);
    put("messages/dropped", port.dropped);
    put("messages/lost", port.lost);
    let Some(dtls) = port.dtls else { return };
    for (name, value) in dtls.by_name() {
        put(&format!("dtls/{name}"), value);
    }
    for (reason, count) in dtls.failed.by_reason() {
        put(&format!("dtls/failed/{reason}"), count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, LinkId, ListenerId};
    use crate::engine::{Input, Output, Start};
    use crate::mqtt::{ConnId, Packet, Version, frame};
    use crate::queue::{Recovered, Reply};
    use crate::time::{Instant, Wall};

    const CONFIG: &str = "[[link]]\nname = 'air'\nkind = 'udp'\nbind = '127.0.0.1:1883'\n\
        [[link]]\nname = 'wire'\nkind = 'serial'\ndevice = '/dev/ttyS0'\n";

    fn at(seconds: u64) -> Now {
        Now { at: Instant::from_micros(seconds * 1_000_000), wall: Wall::from_millis(seconds * 1000) }
    }

    /// Gives an input, and commits at once.
    fn input(engine: &mut Engine, now: Now, input: Input<'_>) {
        engine.handle_input(now, input);
        while let Some(output) = engine.poll_output() {
            if let Output::Commit(batch) = output {
                engine.handle_input(now, Input::Store(Reply::Committed { batch: batch.id }));
            }
        }
    }

    fn pass(engine: &mut Engine, until: u64) {
        while let Some(due) = engine.deadline().filter(|due| *due <= at(until).at) {
            input(engine, Now { at: due, wall: Wall::default() }, Input::Timeout);
        }
    }

    /// What a subscriber to these topics has been sent.
    fn told(engine: &mut Engine) -> BTreeMap<String, String> {
        let outbox = std::mem::take(engine.outbox(ConnId(0)).unwrap());
        let mut slices = [std::io::IoSlice::new(&[]); 1024];
        let filled = outbox.slices(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let (mut rest, mut told) = (&bytes[..], BTreeMap::new());
        while let Some(frame) = frame(rest, u32::MAX).unwrap() {
            rest = &rest[frame.raw.len()..];
            if let Packet::Publish(publish) = Packet::decode(Version::V311, &frame).unwrap() {
                told.insert(publish.topic.to_owned(), String::from_utf8(publish.payload.to_vec()).unwrap());
            }
        }
        told
    }

    #[test]
    fn clients_and_links_are_told_to_who_asks_and_what_changed_later() {
        let config = Config::parse(CONFIG).unwrap().resolve("box").unwrap();
        let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
        let mut engine = Engine::new(at(0), start).unwrap();
        let node = |engine: &mut Engine, now, bytes: &[u8]| {
            let from = ([10, 0, 0, 1], 5).into();
            input(engine, now, Input::Datagram { link: LinkId(0), from, bytes });
        };
        node(&mut engine, at(1), &[7, 0x04, 0x00, 0x01, 0, 0x3C, b'n']);
        node(&mut engine, at(1), &[6, 0x12, 0x20, 0, 1, b't']);
        node(&mut engine, at(1), &[4, 0x18, 0, 60]);

        let watcher = Input::Accepted { conn: ConnId(0), listener: ListenerId(0), peer: None, certificate: None };
        input(&mut engine, at(2), watcher);
        let connect = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01w";
        let subscribe = [&[0x82, 0x19][..], b"\0\x01\0\x14$SYS/broker/mqttsn/#\0"].concat();
        for bytes in [&connect[..], &subscribe] {
            input(&mut engine, at(2), Input::Received { conn: ConnId(0), bytes });
        }
        pass(&mut engine, 3);
        let first = told(&mut engine);
        let value = |name: &str| first.get(&format!("$SYS/broker/mqttsn/{name}")).map(String::as_str);
        assert_eq!(value("clients/sleeping"), Some("1"), "{first:?}");
        assert_eq!(value("link/air/messages/received"), Some("3"));
        assert_eq!((value("link/wire/open"), value("link/wire/frames")), (Some("0"), Some("0")));
        let client = value("client/n").unwrap();
        assert!(client.contains(r#""state":"asleep""#) && client.contains(r#""buffered":0"#), "{client}");

        input(&mut engine, at(4), Input::Received { conn: ConnId(0), bytes: b"\x30\x04\0\x01tx" });
        assert_eq!(engine.sn_clients().next().unwrap().buffered.messages, 1);
        input(&mut engine, at(4), Input::Received { conn: ConnId(0), bytes: b"\x32\x06\0\x01t\0\x01x" });
        assert_eq!(engine.sn_clients().next().unwrap().buffered.messages, 2);
        pass(&mut engine, 30);
        let later = told(&mut engine);
        let client = &later["$SYS/broker/mqttsn/client/n"];
        assert!(client.contains(r#""buffered":2"#), "{client}");
        assert!(!later.contains_key("$SYS/broker/mqttsn/link/wire/open"), "only what changed");
    }
}
