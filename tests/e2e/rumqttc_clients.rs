//! rumqttc, in both versions of the protocol that it speaks.

use std::collections::VecDeque;

use rumqttc::v5;

use crate::harness::BOUND;
use crate::harness::gateway::Gateway;

/// What the tests look at of what comes in.
enum Came {
    ConnAck,
    SubAck,
    /// PUBACK or PUBCOMP: a message of ours is settled.
    Settled,
    Message(Message),
    Other,
}

/// Topic, text, level, RETAIN.
type Message = (String, String, u8, bool);

/// What both of the library's halves can do.
trait Library: Sized {
    fn open(port: u16, name: &str, will: Option<&str>) -> Self;
    fn subscribe(&self, filter: &str, qos: u8);
    fn publish(&self, topic: &str, text: &str, qos: u8, retain: bool);
    fn disconnect(&self);
    /// The next event; `None` once the connection is over.
    fn next(&mut self) -> Option<Came>;
}

/// Requests that wait for the connection to be driven: more than any test has. One more would wait for ever.
const REQUESTS: usize = 100;

struct V4(rumqttc::Client, rumqttc::Connection);

impl Library for V4 {
    fn open(port: u16, name: &str, will: Option<&str>) -> Self {
        let mut options = rumqttc::MqttOptions::new(name, "127.0.0.1", port);
        if let Some(topic) = will {
            options.set_last_will(rumqttc::LastWill::new(topic, "gone", rumqttc::QoS::AtLeastOnce, false));
        }
        let (client, connection) = rumqttc::Client::new(options, REQUESTS);
        Self(client, connection)
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        self.0.subscribe(filter, rumqttc::qos(qos).unwrap()).unwrap();
    }

    fn publish(&self, topic: &str, text: &str, qos: u8, retain: bool) {
        self.0.publish(topic, rumqttc::qos(qos).unwrap(), retain, text).unwrap();
    }

    fn disconnect(&self) {
        self.0.disconnect().unwrap();
    }

    fn next(&mut self) -> Option<Came> {
        use rumqttc::{Event, Packet};
        Some(match self.1.recv_timeout(BOUND).expect("something within the bound").ok()? {
            Event::Incoming(Packet::ConnAck(_)) => Came::ConnAck,
            Event::Incoming(Packet::SubAck(_)) => Came::SubAck,
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Came::Settled,
            Event::Incoming(Packet::Publish(publish)) => {
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                Came::Message((publish.topic, text, publish.qos as u8, publish.retain))
            }
            _ => Came::Other,
        })
    }
}

struct V5(v5::Client, v5::Connection);

impl Library for V5 {
    fn open(port: u16, name: &str, will: Option<&str>) -> Self {
        let mut options = v5::MqttOptions::new(name, "127.0.0.1", port);
        if let Some(topic) = will {
            let will =
                v5::mqttbytes::v5::LastWill::new(topic, "gone", v5::mqttbytes::QoS::AtLeastOnce, false, None);
            options.set_last_will(will);
        }
        let (client, connection) = v5::Client::new(options, REQUESTS);
        Self(client, connection)
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        self.0.subscribe(filter, v5::mqttbytes::qos(qos).unwrap()).unwrap();
    }

    fn publish(&self, topic: &str, text: &str, qos: u8, retain: bool) {
        self.0.publish(topic, v5::mqttbytes::qos(qos).unwrap(), retain, text.to_owned()).unwrap();
    }

    fn disconnect(&self) {
        self.0.disconnect().unwrap();
    }

    fn next(&mut self) -> Option<Came> {
        use v5::Event;
        use v5::mqttbytes::v5::Packet;
        Some(match self.1.recv_timeout(BOUND).expect("something within the bound").ok()? {
            Event::Incoming(Packet::ConnAck(_)) => Came::ConnAck,
            Event::Incoming(Packet::SubAck(_)) => Came::SubAck,
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Came::Settled,
            Event::Incoming(Packet::Publish(publish)) => {
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                Came::Message((topic, text, publish.qos as u8, publish.retain))
            }
            _ => Came::Other,
        })
    }
}

struct Peer<L> {
    library: L,
    inbox: VecDeque<Message>,
}

impl<L: Library> Peer<L> {
    #[track_caller]
    fn connect(gateway: &Gateway, name: &str, will: Option<&str>) -> Self {
        let mut peer = Self { library: L::open(gateway.port(), name, will), inbox: VecDeque::new() };
        peer.wait_for("CONNACK", |came| matches!(came, Came::ConnAck));
        peer
    }

    /// Waits for this event. Messages in between are kept.
    #[track_caller]
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Came) -> bool) {
        loop {
            let came = self.library.next().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if wanted(&came) {
                return;
            }
            if let Came::Message(message) = came {
                self.inbox.push_back(message);
            }
        }
    }

    #[track_caller]
    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.library.subscribe(filter, qos);
        self.wait_for("SUBACK", |came| matches!(came, Came::SubAck));
    }

    #[track_caller]
    fn publish(&mut self, topic: &str, text: &str, qos: u8, retain: bool) {
        self.library.publish(topic, text, qos, retain);
        if qos > 0 {
            self.wait_for("PUBACK or PUBCOMP", |came| matches!(came, Came::Settled));
        }
    }

    #[track_caller]
    fn expect(&mut self, topic: &str, text: &str, qos: u8, retain: bool) {
        while self.inbox.is_empty() {
            match self.library.next().expect("the connection stays") {
                Came::Message(message) => self.inbox.push_back(message),
                Came::Settled => panic!("an acknowledgement that nobody waits for"),
                Came::ConnAck | Came::SubAck | Came::Other => {}
            }
        }
        let message = self.inbox.pop_front().unwrap();
        assert_eq!(message, (topic.to_owned(), text.to_owned(), qos, retain));
    }

    /// Says goodbye and sees the end.
    fn disconnect(mut self) {
        self.library.disconnect();
        while self.library.next().is_some() {}
    }

    /// Goes without goodbye.
    fn vanish(self) {
        drop(self.library);
    }
}

fn does_all_that_it_can<L: Library>() {
    let gateway = Gateway::start("");
    let mut peer = Peer::<L>::connect(&gateway, "peer", None);
    for qos in 0..=2 {
        let topic = format!("level/{qos}");
        peer.subscribe(&topic, qos);
        (0..20).for_each(|number| peer.publish(&topic, &number.to_string(), qos, false));
        (0..20).for_each(|number| peer.expect(&topic, &number.to_string(), qos, false));
    }

    peer.publish("retained", "kept", 1, true);
    peer.subscribe("retained", 1);
    peer.expect("retained", "kept", 1, true);

    peer.subscribe("will/+", 1);
    Peer::<L>::connect(&gateway, "polite", Some("will/polite")).disconnect();
    Peer::<L>::connect(&gateway, "doomed", Some("will/doomed")).vanish();
    peer.expect("will/doomed", "gone", 1, false);
    peer.disconnect();
}

#[test]
fn rumqttc_does_all_that_it_can_in_3_1_1() {
    does_all_that_it_can::<V4>();
}

#[test]
fn rumqttc_does_all_that_it_can_in_5_0() {
    does_all_that_it_can::<V5>();
}

/// A message as it came: packet identifier, DUP, text.
type Delivery = (u16, bool, String);

/// A subscriber that keeps its session and acknowledges nothing. Gives the next messages, over as many connections as
/// it takes.
trait Silent {
    fn subscribed(port: u16) -> Self;
    fn next(&mut self, count: usize) -> Vec<Delivery>;
}

struct SilentV4(rumqttc::Connection);

impl Silent for SilentV4 {
    fn subscribed(port: u16) -> Self {
        let mut options = rumqttc::MqttOptions::new("silent", "127.0.0.1", port);
        options.set_clean_session(false).set_manual_acks(true);
        let (client, mut connection) = rumqttc::Client::new(options, REQUESTS);
        client.subscribe("t", rumqttc::QoS::ExactlyOnce).unwrap();
        let granted = |event| matches!(event, rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)));
        while !granted(connection.recv_timeout(BOUND).expect("within the bound").expect("a connection")) {}
        Self(connection)
    }

    fn next(&mut self, count: usize) -> Vec<Delivery> {
        let mut came = Vec::new();
        while came.len() < count {
            // An error is a connection that broke, or a gateway that is not back yet: the library tries again.
            let event = self.0.recv_timeout(BOUND).expect("within the bound");
            if let Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) = event {
                came.push((publish.pkid, publish.dup, String::from_utf8(publish.payload.to_vec()).unwrap()));
            }
        }
        came
    }
}

struct SilentV5(v5::Connection);

impl Silent for SilentV5 {
    fn subscribed(port: u16) -> Self {
        let mut options = v5::MqttOptions::new("silent", "127.0.0.1", port);
        options.set_clean_start(false).set_manual_acks(true).set_session_expiry_interval(Some(3600));
        let (client, mut connection) = v5::Client::new(options, REQUESTS);
        client.subscribe("t", v5::mqttbytes::QoS::ExactlyOnce).unwrap();
        let granted = |event| matches!(event, v5::Event::Incoming(v5::mqttbytes::v5::Packet::SubAck(_)));
        while !granted(connection.recv_timeout(BOUND).expect("within the bound").expect("a connection")) {}
        Self(connection)
    }

    fn next(&mut self, count: usize) -> Vec<Delivery> {
        let mut came = Vec::new();
        while came.len() < count {
            let event = self.0.recv_timeout(BOUND).expect("within the bound");
            if let Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish))) = event {
                came.push((publish.pkid, publish.dup, String::from_utf8(publish.payload.to_vec()).unwrap()));
            }
        }
        came
    }
}

/// What was not acknowledged comes again after SIGKILL, as DUP, under its identifiers and in its order [MQTT-4.4.0-1].
fn finds_its_session_after_kill_9<L: Library, S: Silent>() {
    let mut gateway = Gateway::start("");
    let mut silent = S::subscribed(gateway.port());
    let mut publisher = Peer::<L>::connect(&gateway, "publisher", None);
    for number in 0..12 {
        publisher.publish("t", &number.to_string(), number % 2 + 1, false);
    }
    let first = silent.next(12);
    assert!(
        first.iter().enumerate().all(|(number, (_, dup, text))| !dup && *text == number.to_string()),
        "{first:?}"
    );
    for _ in 0..2 {
        gateway.kill_and_restart();
        let again = silent.next(12);
        let expected: Vec<Delivery> = first.iter().map(|(pkid, _, text)| (*pkid, true, text.clone())).collect();
        assert_eq!(again, expected);
    }
}

#[test]
fn rumqttc_finds_its_session_after_kill_9_in_3_1_1() {
    finds_its_session_after_kill_9::<V4, SilentV4>();
}

#[test]
fn rumqttc_finds_its_session_after_kill_9_in_5_0() {
    finds_its_session_after_kill_9::<V5, SilentV5>();
}

#[test]
fn rumqttc_gets_the_properties_that_it_gave() {
    let gateway = Gateway::start("");
    let mut peer = Peer::<V5>::connect(&gateway, "peer", None);
    peer.subscribe("t", 1);
    let given = v5::mqttbytes::v5::PublishProperties {
        payload_format_indicator: Some(1),
        response_topic: Some("answer/here".to_owned()),
        correlation_data: Some(vec![0, 255, 7].into()),
        user_properties: vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
        content_type: Some("text/plain".to_owned()),
        ..Default::default()
    };
    let qos = v5::mqttbytes::QoS::AtLeastOnce;
    peer.library.0.publish_with_properties("t", qos, false, "x", given.clone()).unwrap();
    let came = loop {
        let event = peer.library.1.recv_timeout(BOUND).expect("within the bound").expect("the connection stays");
        if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish)) = event {
            break publish;
        }
    };
    assert_eq!(came.properties, Some(given));
}
