//! Each limit of `[broker]`: what is within it passes, one past it is refused and counted once.

use super::*;
use crate::broker::local::LocalPublish;
use crate::mqtt::{Message, MessageParts, PublishProperties, Will as WillPacket, frame};
use crate::queue::{self, LineStats, RecordKind, Refusal};

/// A limit by its key, and what shows that it holds.
const CASES: &[(&str, fn())] = &[
    ("max_connections", connections),
    ("max_packet_bytes", packet_bytes),
    ("max_client_id_bytes", client_id_bytes),
    ("max_will_bytes", will_bytes),
    ("max_user_properties", user_properties),
    ("max_inflight_messages", inflight_messages),
    ("receive_maximum", receive_maximum),
    ("max_queued_messages", queued_messages),
    ("max_queued_bytes", queued_bytes),
    ("max_sessions", sessions),
    ("max_subscriptions_per_client", subscriptions),
    ("max_topic_levels", topic_levels),
    ("max_topic_bytes", topic_bytes),
    ("topic_alias_maximum", topic_alias),
    ("max_topic_aliases_sent", alias::a_client_that_takes_none_gets_none_and_no_more_than_configured_are_used),
    ("max_retained_messages", retained_messages),
    ("max_retained_bytes", retained_bytes),
    ("connect_timeout", connect_timeout),
    ("max_keepalive", keepalive),
    ("max_session_expiry", session_expiry),
    ("max_outbox_bytes", outbox_bytes),
    ("max_buffered_bytes", buffered_bytes),
    ("sys_interval", sys_interval),
];

#[test]
fn every_limit_holds_at_its_value_and_counts_what_is_one_past_it() {
    for (key, case) in CASES {
        eprintln!("{key}");
        case();
    }
}

#[test]
fn every_key_of_the_broker_table_has_a_case() {
    let file: toml::Table = include_str!("../../../config/moteway.toml").parse().unwrap();
    let keys: Vec<&String> = file["broker"].as_table().unwrap().keys().collect();
    assert!(keys.len() >= CASES.len(), "keys: {keys:?}");
    for key in keys {
        assert!(CASES.iter().any(|(case, _)| case == key), "[broker] {key} has no case in this file");
    }
}

#[test]
fn every_limit_that_refuses_names_a_key_of_the_file() {
    let file: toml::Table = include_str!("../../../config/moteway.toml").parse().unwrap();
    for limit in Limit::ALL {
        let (table, key) = limit.key().split_once('.').unwrap();
        let table = &file[table];
        let table = table.as_array().map_or(table, |tables| &tables[0]);
        assert!(table.get(key).is_some(), "{limit:?}: there is no {}", limit.key());
    }
}

fn bench(change: impl FnOnce(&mut config::Broker)) -> Bench {
    let mut config = Config::default();
    change(&mut config.broker);
    Bench::with(config, Recovered::default())
}

impl Bench {
    fn hits(&self, limit: Limit) -> u64 {
        self.broker.stats().limits.of(limit)
    }

    fn line_stats(&self, name: &str) -> LineStats {
        let (_, dest) = self.queues.names().find(|(known, _)| *known == name).unwrap();
        self.queues.stats(dest)
    }

    fn bytes(&mut self, conn: u32, bytes: &[u8]) {
        let now = self.now();
        self.broker.handle_received(now, &mut self.queues, ConnId(conn), bytes);
        self.settle();
    }

    fn publish_text(&mut self, conn: u32, topic: &str, payload: &str, qos: QoS, pkid: u16) -> Vec<String> {
        let publish = Publish { topic, payload: payload.as_bytes(), ..message("", "", qos, pkid) };
        self.publish(conn, V5, &publish);
        self.sent(conn, V5)
    }
}

fn cost(topic: &str, payload: &str) -> usize {
    let parts = MessageParts {
        topic,
        properties: &[],
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received_at: Wall::default(),
        expires_at: None,
    };
    Message::new(parts).cost()
}

fn connections() {
    let mut bench = bench(|limits| limits.max_connections = 2);
    bench.connect(0, &hello(V5, "a"));
    bench.connect(1, &hello(V5, "b"));
    assert_eq!(bench.closed, []);
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(2), ListenerId(0), None);
    bench.settle();
    assert_eq!((bench.closed.as_slice(), bench.hits(Limit::Connections)), (&[ConnId(2)][..], 1));
}

#[test]
fn connections_of_one_listener_are_limited_as_well() {
    let mut config = Config::default();
    config.listener[0].max_connections = 1;
    let mut bench = Bench::with(config, Recovered::default());
    bench.connect(0, &hello(V5, "a"));
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(1), ListenerId(0), None);
    bench.settle();
    assert_eq!((bench.closed.as_slice(), bench.hits(Limit::ListenerConnections)), (&[ConnId(1)][..], 1));
}

fn packet_bytes() {
    let mut bench = bench(|limits| limits.max_packet_bytes = 1024);
    bench.connect(0, &hello(V5, "a"));
    // Fixed header 3, topic 3, packet identifier 2, property length 1.
    let fits = "x".repeat(1024 - 9);
    assert_eq!(bench.publish_text(0, "t", &fits, QoS::AtLeastOnce, 1), ["puback 1 NoMatchingSubscribers"]);
    let past = "x".repeat(1024 - 8);
    assert_eq!(bench.publish_text(0, "t", &past, QoS::AtLeastOnce, 2), ["disconnect PacketTooLarge"]);
    assert_eq!((bench.hits(Limit::PacketBytes), bench.broker.stats().protocol_errors), (1, 0));
}

fn client_id_bytes() {
    let mut bench = bench(|limits| limits.max_client_id_bytes = 30);
    assert_eq!(bench.connect(0, &hello(V5, &"x".repeat(30))), ["connack Success present false"]);
    let refused = bench.connect(1, &hello(V5, &"x".repeat(31)));
    assert_eq!(refused, ["connack ClientIdentifierNotValid present false"]);
    assert_eq!(bench.hits(Limit::ClientIdBytes), 1);
}

fn will(payload: &[u8]) -> WillPacket<'_> {
    WillPacket { topic: "w", payload, qos: QoS::AtMostOnce, retain: false, properties: WillProperties::default() }
}

fn will_bytes() {
    let mut bench = bench(|limits| limits.max_will_bytes = 10);
    let with = |payload| Connect { will: Some(will(payload)), ..hello(V5, "a") };
    assert_eq!(bench.connect(0, &with(&[0; 9])), ["connack Success present false"]);
    assert_eq!(bench.connect(1, &with(&[0; 10])), ["connack QuotaExceeded present false"]);
    assert_eq!(bench.hits(Limit::WillBytes), 1);
    // A client of the gateway.
    let now = bench.now();
    let (session, _) = bench.broker.local_open(now, &mut bench.queues, "node", None, true).unwrap();
    let mut set = |payload| {
        let (topic, payload) = ("w".to_owned(), vec![0; payload]);
        let (retain, delay, expiry, properties) = (false, 0, None, vec![]);
        let will = Will { topic, payload, qos: 0, retain, delay, expiry, properties };
        bench.broker.local_set_will(now, &mut bench.queues, session, Some(will), Token(1))
    };
    assert_eq!(set(9), queue::Outcome::Pending);
    assert_eq!(set(10), queue::Outcome::Refused(Refusal::Full));
    assert_eq!(bench.hits(Limit::WillBytes), 2);
}

fn user_properties() {
    let mut bench = bench(|limits| limits.max_user_properties = 2);
    bench.connect(0, &hello(V5, "a"));
    let mut send = |properties: &[(&str, &str)]| {
        let properties = PublishProperties { user_properties: properties.into(), ..Default::default() };
        bench.publish(0, V5, &Publish { properties, ..message("t", "x", QoS::AtLeastOnce, 1) });
        bench.sent(0, V5)
    };
    assert_eq!(send(&[("a", "1"), ("b", "2")]), ["puback 1 NoMatchingSubscribers"]);
    assert_eq!(send(&[("a", "1"), ("b", "2"), ("c", "3")]), ["disconnect QuotaExceeded"]);
    assert_eq!(bench.hits(Limit::UserProperties), 1);
    let properties =
        WillProperties { user_properties: [("a", "1"); 3].as_slice().into(), ..WillProperties::default() };
    let refused = Connect { will: Some(WillPacket { properties, ..will(b"") }), ..hello(V5, "b") };
    assert_eq!(bench.connect(1, &refused), ["connack QuotaExceeded present false"]);
    assert_eq!(bench.hits(Limit::UserProperties), 2);
}

/// What is past this waits, and nothing is refused.
fn inflight_messages() {
    let mut bench = bench(|limits| limits.max_inflight_messages = 2);
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "t", qos(QoS::AtLeastOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &hello(V5, "pub"));
    for (pkid, payload) in [(1, "1"), (2, "2"), (3, "3")] {
        bench.publish_text(1, "t", payload, QoS::AtLeastOnce, pkid);
    }
    assert_eq!(bench.sent(0, V5), ["t=1 qos 1", "t=2 qos 1"]);
    bench.send(0, &Packet::PubAck(PubAck::new(1, ReasonCode::Success)), V5);
    assert_eq!(bench.sent(0, V5), ["t=3 qos 1"]);
}

fn receive_maximum() {
    let mut bench = bench(|limits| limits.receive_maximum = 2);
    bench.connect(0, &hello(V5, "a"));
    for pkid in [1, 2] {
        let expected = format!("pubrec {pkid} NoMatchingSubscribers");
        assert_eq!(bench.publish_text(0, "t", "x", QoS::ExactlyOnce, pkid), [expected]);
    }
    assert_eq!(bench.publish_text(0, "t", "x", QoS::ExactlyOnce, 3), ["disconnect ReceiveMaximumExceeded"]);
    assert_eq!(bench.hits(Limit::ReceiveMaximum), 1);
    // What the lost connection left open does not count on the next, and neither do other requests.
    bench.connect(1, &hello(V5, "a"));
    bench.hold = true;
    bench.subscribe(1, V5, "other", qos(QoS::AtLeastOnce), None);
    for pkid in [3, 4] {
        assert!(bench.publish_text(1, "t", "x", QoS::ExactlyOnce, pkid).is_empty());
    }
    assert_eq!(bench.publish_text(1, "t", "x", QoS::ExactlyOnce, 5), ["disconnect ReceiveMaximumExceeded"]);
}

/// A session whose client is away, with two messages waiting, and a third.
fn queued(mut bench: Bench) {
    bench.connect(0, &hello(V5, "sub"));
    bench.subscribe(0, V5, "t", qos(QoS::AtLeastOnce), None);
    bench.lose(0);
    bench.connect(1, &hello(V5, "pub"));
    for (pkid, payload) in [(1, "1"), (2, "2")] {
        assert_eq!(bench.publish_text(1, "t", payload, QoS::AtLeastOnce, pkid), [format!("puback {pkid} Success")]);
    }
    assert_eq!(bench.line_stats("session:sub").dropped_oldest, 0);
    assert_eq!(bench.publish_text(1, "t", "3", QoS::AtLeastOnce, 3), ["puback 3 Success"]);
    assert_eq!(bench.line_stats("session:sub").dropped_oldest, 1);
    let back = bench.connect(2, &hello(V5, "sub"));
    assert_eq!(back, ["connack Success present true", "t=2 qos 1", "t=3 qos 1"]);
}

fn queued_messages() {
    queued(bench(|limits| limits.max_queued_messages = 2));
}

fn queued_bytes() {
    queued(bench(|limits| limits.max_queued_bytes = 2 * cost("t", "1") as u64));
}

fn sessions() {
    let mut bench = bench(|limits| limits.max_sessions = 2);
    for (conn, client) in [(0, "a"), (1, "b")] {
        assert_eq!(bench.connect(conn, &hello(V5, client)), ["connack Success present false"]);
    }
    bench.lose(0);
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack QuotaExceeded present false"]);
    assert_eq!(bench.hits(Limit::Sessions), 1);
    let now = bench.now();
    let node = bench.broker.local_open(now, &mut bench.queues, "node", None, false);
    assert_eq!((node, bench.hits(Limit::Sessions)), (Err(Refusal::Full), 2));
    // One that is there may come back.
    assert_eq!(bench.connect(3, &hello(V5, "a")), ["connack Success present true"]);
}

fn subscriptions() {
    let mut bench = bench(|limits| limits.max_subscriptions_per_client = 2);
    bench.connect(0, &hello(V5, "a"));
    for (filter, code) in [("1", 1), ("2", 1), ("3", 0x97), ("2", 1)] {
        bench.subscribe(0, V5, filter, qos(QoS::AtLeastOnce), None);
        assert_eq!(bench.sent(0, V5), [format!("suback [{code}]")], "{filter}");
    }
    assert_eq!((bench.hits(Limit::Subscriptions), bench.broker.subscriptions()), (1, 2));
    let now = bench.now();
    let (session, _) = bench.broker.local_open(now, &mut bench.queues, "node", None, true).unwrap();
    let codes = ["1", "2", "3"].map(|filter| {
        bench.broker.local_subscribe(now, &mut bench.queues, session, filter, QoS::AtMostOnce, Token(1))
    });
    assert_eq!(codes[1..], [queue::Outcome::Done, queue::Outcome::Refused(Refusal::Full)]);
    assert_eq!(bench.hits(Limit::Subscriptions), 2);
}

/// Topics of publishes, filters and wills, also of the gateway's clients.
fn topics(mut bench: Bench, limit: Limit, fits: &str, past: &str) {
    bench.connect(0, &hello(V5, "a"));
    assert_eq!(bench.publish_text(0, fits, "x", QoS::AtLeastOnce, 1), ["puback 1 NoMatchingSubscribers"]);
    assert_eq!(bench.publish_text(0, past, "x", QoS::AtLeastOnce, 2), ["puback 2 TopicNameInvalid"]);
    assert_eq!(bench.hits(limit), 1);
    // At QoS 0 nobody is told, but it is counted.
    assert_eq!(bench.publish_text(0, past, "x", QoS::AtMostOnce, 0), Vec::<String>::new());
    assert_eq!(bench.hits(limit), 2);
    for (filter, code) in [(fits, 0), (past, 0x8F)] {
        bench.subscribe(0, V5, filter, qos(QoS::AtMostOnce), None);
        assert_eq!(bench.sent(0, V5), [format!("suback [{code}]")]);
    }
    assert_eq!(bench.hits(limit), 3);
    let with = |topic| Connect { will: Some(WillPacket { topic, ..will(b"x") }), ..hello(V5, "b") };
    assert_eq!(bench.connect(1, &with(fits)), ["connack Success present false"]);
    assert_eq!(bench.connect(2, &with(past)), ["connack TopicNameInvalid present false"]);
    assert_eq!(bench.hits(limit), 4);
    let now = bench.now();
    let publish =
        |topic| LocalPublish { topic, payload: b"x", qos: QoS::AtLeastOnce, retain: false, receipt: None };
    let mut local = |topic| bench.broker.local_publish(now, &mut bench.queues, None, publish(topic), Token(1));
    assert_eq!([local(fits), local(past)], [queue::Outcome::Done, queue::Outcome::Refused(Refusal::Topic)]);
    assert_eq!(bench.hits(limit), 5);
}

fn topic_levels() {
    topics(bench(|limits| limits.max_topic_levels = 3), Limit::TopicLevels, "a/b/c", "a/b/c/d");
}

fn topic_bytes() {
    topics(bench(|limits| limits.max_topic_bytes = 16), Limit::TopicBytes, &"x".repeat(16), &"x".repeat(17));
}

fn topic_alias() {
    let mut bench = bench(|limits| limits.topic_alias_maximum = 2);
    bench.connect(0, &hello(V5, "a"));
    let mut send = |alias| {
        let properties = PublishProperties { topic_alias: Some(alias), ..Default::default() };
        bench.publish(0, V5, &Publish { properties, ..message("t", "x", QoS::AtLeastOnce, 1) });
        bench.sent(0, V5)
    };
    assert_eq!(send(2), ["puback 1 NoMatchingSubscribers"]);
    assert_eq!(send(3), ["disconnect TopicAliasInvalid"]);
    assert_eq!(bench.hits(Limit::TopicAlias), 1);
}

fn retained(mut bench: Bench, limit: Limit) {
    bench.connect(0, &hello(V5, "a"));
    for (pkid, topic) in [(1, "1"), (2, "2"), (3, "3"), (4, "2")] {
        bench.publish(0, V5, &Publish { topic, retain: true, ..message("", "x", QoS::AtLeastOnce, pkid) });
        assert_eq!(bench.hits(limit), u64::from(pkid >= 3), "{topic}");
    }
    assert_eq!((bench.broker.retained().0, bench.broker.stats().retained_refused), (2, 1));
}

fn retained_messages() {
    retained(bench(|limits| limits.max_retained_messages = 2), Limit::RetainedMessages);
}

fn retained_bytes() {
    retained(bench(|limits| limits.max_retained_bytes = 2 * cost("1", "x")), Limit::RetainedBytes);
}

fn connect_timeout() {
    let mut bench = bench(|limits| limits.connect_timeout = Duration::from_secs(10));
    let now = bench.now();
    bench.broker.handle_accepted(now, ConnId(0), ListenerId(0), None);
    // A byte now and then is no CONNECT: nine and a half seconds.
    for byte in &[0x10, 0x7F, 0, 4, b'M', b'Q', b'T', b'T', 5] {
        bench.bytes(0, &[*byte]);
    }
    assert_eq!(bench.closed, []);
    bench.settle();
    assert_eq!((bench.closed.as_slice(), bench.hits(Limit::ConnectTimeout)), (&[ConnId(0)][..], 1));
}

/// What asks for more, or for none, is told what it gets [MQTT-3.1.2-21].
fn keepalive() {
    let mut bench = bench(|limits| limits.max_keepalive = Duration::from_secs(60));
    let mut told = |conn, keep_alive| {
        let now = bench.now();
        bench.broker.handle_accepted(now, ConnId(conn), ListenerId(0), None);
        bench.send(conn, &Packet::Connect(Connect { keep_alive, ..hello(V5, "a") }), V5);
        let outbox = bench.broker.outbox(ConnId(conn)).unwrap();
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        outbox.slices(&mut slices);
        let frame = frame(&slices[0], u32::MAX).unwrap().unwrap();
        let Packet::ConnAck(ack) = Packet::decode(V5, &frame).unwrap() else { panic!("{frame:?}") };
        ack.properties.server_keep_alive
    };
    assert_eq!([told(0, 60), told(1, 61), told(2, 0)], [None, Some(60), Some(60)]);
}

/// A session lasts as long as that, and no longer; also one that was stored when the limit was higher.
fn session_expiry() {
    let expiring = |limits: &mut config::Broker| limits.max_session_expiry = Duration::from_secs(2);
    let mut bench = bench(expiring);
    bench.connect(0, &hello(V5, "a"));
    bench.lose(0);
    assert_eq!(bench.broker.sessions(), 1);
    bench.settle();
    bench.settle();
    assert_eq!(bench.broker.sessions(), 0);
    assert_eq!(bench.broker.stats().sessions_expired, 1);

    let mut config = Config::default();
    expiring(&mut config.broker);
    let record = br#"{"expiry": 4294967295, "subscriptions": []}"#;
    let records = vec![(RecordKind::Session, b"a".as_slice().into(), record.as_slice().into())];
    let mut bench = Bench::with(config, Recovered { records, ..Recovered::default() });
    assert_eq!(bench.broker.sessions(), 1);
    (0..3).for_each(|_| bench.settle());
    assert_eq!(bench.broker.sessions(), 0);
}

fn outbox_bytes() {
    // PUBLISH of 3.1.1: fixed header 3, topic 3, payload.
    const PACKET: usize = 6 + 400;
    let mut bench = bench(|limits| limits.max_outbox_bytes = PACKET + 400);
    bench.connect(0, &hello(V311, "slow"));
    bench.subscribe(0, V311, "t", qos(QoS::AtMostOnce), None);
    bench.sent(0, V311);
    bench.connect(1, &hello(V5, "pub"));
    let payload = "x".repeat(400);
    for shed in [0, 0, 1] {
        bench.publish_text(1, "t", &payload, QoS::AtMostOnce, 0);
        assert_eq!((bench.broker.stats().shed_qos0, bench.hits(Limit::OutboxBytes)), (shed, shed));
    }
    assert_eq!(bench.sent(0, V311).len(), 2);
}

fn buffered_bytes() {
    const TOTAL: usize = 1 << 20;
    let mut bench = bench(|limits| limits.max_buffered_bytes = TOTAL);
    let payload = "x".repeat(1000);
    for conn in 0..20 {
        bench.connect(conn, &Connect { clean_start: true, ..hello(V311, &format!("slow{conn}")) });
        bench.subscribe(conn, V311, "t", qos(QoS::AtMostOnce), None);
        bench.sent(conn, V311);
    }
    bench.connect(20, &hello(V5, "pub"));
    let mut rounds = 0;
    while bench.hits(Limit::BufferedBytes) == 0 {
        assert!(bench.broker.buffered() <= TOTAL, "{}", bench.broker.buffered());
        bench.publish_text(20, "t", &payload, QoS::AtMostOnce, 0);
        rounds += 1;
    }
    assert!(rounds > 5, "{rounds}");
    // However slow they are, each has its floor and no more; one that reads is served on.
    for _ in 0..100 {
        bench.publish_text(20, "t", &payload, QoS::AtMostOnce, 0);
        assert!(!bench.sent(3, V311).is_empty());
        let now = bench.now();
        bench.broker.handle_flushed(now, &mut bench.queues, ConnId(3));
    }
    let most = TOTAL + 20 * 16 * 1024;
    assert!(bench.broker.buffered() <= most, "{} of {most}", bench.broker.buffered());
    // A packet that is not complete counts as well: with what is left it may not grow.
    let before = bench.hits(Limit::BufferedBytes);
    bench.connect(21, &hello(V5, "large"));
    bench.bytes(21, &[0x30, 0x80, 0x80, 0x20]);
    bench.bytes(21, &[0; 10_000]);
    assert_eq!(bench.closed, []);
    bench.bytes(21, &[0; 200_000]);
    assert_eq!((bench.closed.as_slice(), bench.hits(Limit::BufferedBytes)), (&[ConnId(21)][..], before + 1));
    // All is given back.
    for conn in 0..21 {
        bench.lose(conn);
    }
    assert_eq!(bench.broker.buffered(), 0);
    // What one that is told why it has to go does not read is the shell's.
    bench.connect(22, &hello(V5, "wrong"));
    bench.sent(22, V5);
    bench.bytes(22, &[0xF0, 0]);
    assert_eq!((bench.closed.last(), bench.broker.buffered()), (Some(&ConnId(22)), 0));
    bench.lose(22);
    assert_eq!(bench.broker.buffered(), 0);
}

fn values(bench: &mut Bench) -> usize {
    bench.subscribe(0, V5, "$SYS/#", qos(QoS::AtMostOnce), None);
    bench.sent(0, V5).len() - 1
}

/// No limit, but a key: zero means that there is nothing.
fn sys_interval() {
    let mut none = bench(|limits| limits.sys_interval = Duration::ZERO);
    none.connect(0, &hello(V5, "a"));
    let mut some = bench(|limits| limits.sys_interval = Duration::from_secs(1));
    some.connect(0, &hello(V5, "a"));
    assert_eq!((values(&mut none), values(&mut some) > 50), (0, true));
}

#[test]
fn a_limit_says_once_per_burst_which_key_raises_it() {
    let mut bench = bench(|limits| limits.max_sessions = 1);
    bench.connect(0, &hello(V5, "a"));
    for conn in 1..100 {
        bench.connect(conn, &hello(V5, "b"));
    }
    let told: Vec<&Notice> = bench.notices.iter().filter(|notice| notice.what == "too many sessions").collect();
    // Each took a second.
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|notice| notice.detail.contains("broker.max_sessions")), "{told:?}");
    assert!(told[1].detail.contains("59 times more"), "{told:?}");
}
