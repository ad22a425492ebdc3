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
