//! What is refused, and how the client is told.

use moteway::mqtt::{Connect, Packet, Publish, PublishProperties, QoS, ReasonCode, Version};

use crate::harness::client::{Client, message, v5, v311};
use crate::harness::gateway::Gateway;

/// What a 5.0 client of its own sends after CONNECT, and the reason it gets.
#[test]
fn malformed_packets_get_a_disconnect_with_the_right_reason() {
    use ReasonCode::{MalformedPacket, ProtocolError, TopicAliasInvalid, TopicNameInvalid};
    let gateway = Gateway::start("");
    let cases: &[(&str, &[u8], ReasonCode)] = &[
        ("packet type 0", &[0x00, 0x00], MalformedPacket),
        ("PUBLISH with QoS 3", &[0x36, 0x06, 0, 1, b'a', 0, 1, 0], MalformedPacket),
        ("SUBSCRIBE with wrong flags", &[0x80, 0x07, 0, 1, 0, 0, 1, b'a', 0], MalformedPacket),
        ("SUBSCRIBE without filters", &[0x82, 0x03, 0, 1, 0], ProtocolError),
        ("SUBSCRIBE with reserved option bits", &[0x82, 0x07, 0, 1, 0, 0, 1, b'a', 0xC0], MalformedPacket),
        ("remaining length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], MalformedPacket),
        ("topic that is not UTF-8", &[0x30, 0x04, 0, 1, 0xFF, 0], MalformedPacket),
        ("topic with U+0000", &[0x30, 0x04, 0, 1, 0x00, 0], MalformedPacket),
        ("topic with a wildcard", &[0x30, 0x04, 0, 1, b'#', 0], TopicNameInvalid),
        ("topic alias 0", &[0x30, 0x07, 0, 1, b'a', 3, 0x23, 0, 0], TopicAliasInvalid),
        ("topic alias above the maximum", &[0x30, 0x07, 0, 1, b'a', 3, 0x23, 0xFF, 0xFF], TopicAliasInvalid),
        ("property of another packet", &[0x30, 0x06, 0, 1, b'a', 2, 0x24, 1], MalformedPacket),
        ("property twice", &[0x30, 0x08, 0, 1, b'a', 4, 0x01, 0, 0x01, 0], ProtocolError),
        ("subscription identifier from a client", &[0x30, 0x06, 0, 1, b'a', 2, 0x0B, 1], ProtocolError),
        ("second CONNECT", &[0x10, 0x0E, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'x'], ProtocolError),
        ("CONNACK from a client", &[0x20, 0x03, 0, 0, 0], ProtocolError),
        ("PINGREQ with a body", &[0xC0, 0x01, 0], MalformedPacket),
    ];
    for (what, bytes, reason) in cases {
        eprintln!("{what}");
        let mut client = gateway.client(&v5("strict"));
        client.send_bytes(bytes).unwrap();
        client.expect_disconnect(*reason);
        let mut old = gateway.client(&v311("strict3"));
        if *reason == MalformedPacket && !what.contains("property") && !what.contains("option") {
            old.send_bytes(bytes).unwrap();
            old.expect_closed();
        }
    }
    gateway.client(&v5("after")).ping();
}

#[test]
fn the_first_packet_must_be_a_good_connect() {
    let gateway = Gateway::start("[broker]\nconnect_timeout = \"1s\"");
    // Not MQTT at all, another packet first, an unknown version, silence.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xC0, 0], &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3], b""] {
        let mut client = Client::dial(gateway.address(), Version::V5);
        client.send_bytes(bytes).unwrap();
        while client.receive().is_some() {}
    }
    // A version yet to come is told in the form of 3.1.1, which all know.
    let mut client = Client::dial(gateway.address(), Version::V311);
    client.send_bytes(&[0x10, 0x0E, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0, 1, b'x']).unwrap();
    let refused = client.receive().expect("a CONNACK");
    match refused.packet() {
        Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::UnsupportedProtocolVersion),
        packet => panic!("{packet:?} instead of CONNACK"),
    }
    client.expect_closed();
}

#[test]
fn topics_beyond_the_limits_are_refused() {
    let gateway = Gateway::start("[broker]\nmax_topic_levels = 8");
    let longest = "x".repeat(65_535);
    let deep = "a/".repeat(9);
    for topic in [&longest, &deep] {
        let mut client = gateway.client(&v5("c"));
        // Refused in its acknowledgement or with a DISCONNECT, in either case with this reason.
        client.post(&message(topic, b"x", QoS::AtLeastOnce));
        let answer = client.receive().expect("an answer");
        match answer.packet() {
            Packet::PubAck(ack) => assert_eq!(ack.reason, ReasonCode::TopicNameInvalid),
            Packet::Disconnect(disconnect) => assert_eq!(disconnect.reason, ReasonCode::TopicNameInvalid),
            packet => panic!("{packet:?}"),
        }
        let mut client = gateway.client(&v5("c"));
        let reason = client.subscribe(topic, QoS::AtLeastOnce);
        assert!(reason.is_error(), "a filter of {} bytes got {reason:?}", topic.len());
    }
    let mut client = gateway.client(&v5("c"));
    let fits = "x".repeat(4096);
    client.subscribe(&fits, QoS::AtLeastOnce);
    client.publish(&fits, "y", QoS::AtLeastOnce);
    client.expect(&fits, "y");
}

#[test]
fn packets_beyond_the_limit_are_refused_before_they_came() {
    let gateway = Gateway::start("[broker]\nmax_packet_bytes = \"64KiB\"");
    let mut client = gateway.client(&v5("c"));
    let Packet::ConnAck(connack) = client.connack.as_ref().unwrap().packet() else { unreachable!() };
    assert_eq!(connack.properties.maximum_packet_size, Some(64 << 10));
    // The header of a PUBLISH of 256 MB, and no more.
    client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap();
    client.expect_disconnect(ReasonCode::PacketTooLarge);
}

#[test]
fn more_messages_in_flight_than_the_broker_takes_end_the_connection() {
    let gateway = Gateway::start("[broker]\nreceive_maximum = 10");
    let mut client = gateway.client(&v5("c"));
    let Packet::ConnAck(connack) = client.connack.as_ref().unwrap().packet() else { unreachable!() };
    assert_eq!(connack.properties.receive_maximum, Some(10));
    // QoS 2 without PUBREL stays in flight.
    for _ in 0..11 {
        client.post(&message("t", b"x", QoS::ExactlyOnce));
    }
    let reason = loop {
        match client.receive().expect("a DISCONNECT").packet() {
            Packet::PubRec(_) => {}
            Packet::Disconnect(disconnect) => break disconnect.reason,
            packet => panic!("{packet:?}"),
        }
    };
    assert_eq!(reason, ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn an_alias_that_was_never_set_is_an_error() {
    let gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    let properties = PublishProperties { topic_alias: Some(2), ..Default::default() };
    client.post(&Publish { properties, ..message("", b"x", QoS::AtMostOnce) });
    client.expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn enhanced_authentication_is_refused() {
    let gateway = Gateway::start("");
    let properties =
        moteway::mqtt::ConnectProperties { authentication_method: Some("SCRAM-SHA-1"), ..Default::default() };
    let mut client = Client::dial(gateway.address(), Version::V5);
    let reason = client.introduce(&Connect { properties, ..v5("c") });
    assert_eq!(reason, ReasonCode::BadAuthenticationMethod);
    client.expect_closed();
}

#[test]
fn clients_without_a_name_are_refused_where_the_listener_says_so() {
    let port = crate::harness::free_port();
    let gateway = Gateway::start(&format!(
        "[[listener]]\nname = \"strict\"\nbind = \"127.0.0.1:{port}\"\nallow_anonymous = false"
    ));
    let strict = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = Client::dial(strict, Version::V5);
    assert_eq!(client.introduce(&v5("c")), ReasonCode::NotAuthorized);
    client.expect_closed();
    gateway.client(&v5("c")).ping();
}

#[test]
fn connections_beyond_the_limit_are_refused_and_those_there_are_stay() {
    let gateway = Gateway::start("[broker]\nmax_connections = 4");
    let mut clients = (0..4).map(|number| gateway.client(&v5(&number.to_string()))).collect::<Vec<_>>();
    let mut extra = Client::dial(gateway.address(), Version::V5);
    // Refused with a CONNACK or closed at once.
    extra.send_bytes(&[]).unwrap();
    let mut connect = Vec::new();
    v5("extra").encode(&mut connect);
    if extra.send_bytes(&connect).is_ok()
        && let Some(received) = extra.receive()
    {
        match received.packet() {
            Packet::ConnAck(connack) => assert!(connack.reason.is_error(), "{connack:?}"),
            packet => panic!("{packet:?}"),
        }
        extra.expect_closed();
    }
    clients.iter_mut().for_each(Client::ping);
    clients.pop().unwrap().disconnect();
    crate::harness::until("a place is free", || Client::try_connect(gateway.address(), &v5("next")).is_some());
}
