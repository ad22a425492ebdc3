//! Reason strings: why something was refused, where there is room and the client asked for it.

use crate::broker::tests::V5;
use crate::broker::tests::bench::{Bench, hello, message, packets};
use crate::mqtt::{Connect, ConnectProperties, Packet, Publish, QoS, frame};

/// The reason strings of what a connection was sent; none where a packet has none.
fn reasons(bench: &mut Bench, conn: u32) -> Vec<Option<String>> {
    let bytes = bench.sent_bytes(conn);
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while let Some(frame) = frame(rest, u32::MAX).unwrap() {
        rest = &rest[frame.raw.len()..];
        let text = match Packet::decode(V5, &frame).unwrap() {
            Packet::ConnAck(packet) => packet.properties.reason_string,
            Packet::PubAck(packet) => packet.properties.reason_string,
            Packet::Disconnect(packet) => packet.properties.reason_string,
            _ => None,
        };
        found.push(text.map(str::to_owned));
    }
    assert_eq!(packets(V5, &bytes).len(), found.len());
    found
}

fn asking(client_id: &str, problem_information: bool, maximum_packet_size: Option<u32>) -> Connect<'_> {
    let properties = ConnectProperties {
        request_problem_information: Some(problem_information),
        maximum_packet_size,
        ..hello(V5, client_id).properties
    };
    Connect { properties, ..hello(V5, client_id) }
}

fn forbidden() -> Publish<'static> {
    Publish { topic: "$SYS/x", ..message("", "x", QoS::AtLeastOnce, 1) }
}

#[test]
fn an_acknowledgement_says_why_to_those_who_want_to_know_and_have_room() {
    for (problem_information, packet_size, expected) in [
        (true, None, Some("the client may not publish to the topic".to_owned())),
        (false, None, None),
        (true, Some(30), None),
    ] {
        let mut bench = Bench::new();
        bench.connect(0, &asking("c", problem_information, packet_size));
        bench.publish(0, V5, &forbidden());
        assert_eq!(reasons(&mut bench, 0), [expected], "{problem_information} {packet_size:?}");
    }
}

#[test]
fn a_refusal_and_a_farewell_say_why_also_to_those_who_did_not_ask() {
    let mut bench = Bench::new();
    bench.connect(0, &asking("c", false, None));
    bench.connect(1, &asking("c", false, None));
    assert_eq!(reasons(&mut bench, 0), [Some("another connection has the client id".to_owned())]);
    bench.connect(2, &asking("small", false, Some(20)));
    bench.connect(3, &hello(V5, "small"));
    assert_eq!(reasons(&mut bench, 2), [None], "a reason string would make it too large [MQTT-3.14.2-3]");
    let long = "x".repeat(2000);
    bench.dial(4, &hello(V5, &long));
    assert_eq!(reasons(&mut bench, 4), [Some("broker.max_client_id_bytes".to_owned())]);
}
