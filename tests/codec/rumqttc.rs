//! rumqttc's codec reads what ours writes, and ours reads what rumqttc's writes.
//!
//! Where the two differ and the standard is on our side, [`fault_of_v4`] and [`fault_of_v5`] say so.

use moteway::mqtt::*;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::{encode, strategy};

const LIMIT: usize = 1 << 20;

/// Reads from a buffer of whatever type `read` wants.
fn read<B: Default + Extend<u8>, R>(bytes: &[u8], read: impl Fn(&mut B) -> R) -> R {
    let mut buffer = B::default();
    buffer.extend(bytes.iter().copied());
    read(&mut buffer)
}

/// What `write` writes to a buffer of whatever type it wants.
fn written<B: Default + AsRef<[u8]>>(write: impl Fn(&mut B)) -> Vec<u8> {
    let mut buffer = B::default();
    write(&mut buffer);
    buffer.as_ref().to_vec()
}

/// One round through rumqttc's 3.1.1 codec.
fn through_v4(bytes: &[u8]) -> Result<Vec<u8>, rumqttc::mqttbytes::Error> {
    let packet = read(bytes, |buffer| v4::Packet::read(buffer, LIMIT))?;
    Ok(written(|buffer| {
        packet.write(buffer, LIMIT).unwrap();
    }))
}

/// One round through rumqttc's 5.0 codec.
fn through_v5(bytes: &[u8]) -> Result<Vec<u8>, rumqttc::v5::mqttbytes::Error> {
    let packet = read(bytes, |buffer| v5::Packet::read(buffer, None))?;
    Ok(written(|buffer| {
        packet.write(buffer, None).unwrap();
    }))
}

/// What rumqttc's 3.1.1 codec cannot do.
fn fault_of_v4(packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::Connect(connect) => fault_of_login(connect),
        _ => None,
    }
}

/// What rumqttc's 5.0 codec cannot do.
fn fault_of_v5(packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::Connect(connect) => fault_of_login(connect),
        Packet::Publish(publish) if !publish.properties.subscription_ids.is_empty() => {
            Some("counts a byte too many for each subscription identifier, and so reads properties as payload")
        }
        Packet::Disconnect(disconnect) if *disconnect == Disconnect::default() => {
            Some("refuses the short form of DISCONNECT, remaining length 0 (section 3.14.2.1)")
        }
        Packet::Disconnect(disconnect) if disconnect.properties == DisconnectProperties::default() => {
            Some("writes two bytes of body behind a remaining length of one")
        }
        Packet::Disconnect(Disconnect { reason: ReasonCode::BadAuthenticationMethod, .. }) => {
            Some("does not know 0x8C in DISCONNECT (table 2-6)")
        }
        Packet::Auth(_) => Some("does not read AUTH, though it writes it"),
        _ => None,
    }
}

fn fault_of_login(connect: &Connect<'_>) -> Option<&'static str> {
    if connect.username == Some("") || connect.password == Some(b"") {
        return Some("takes an empty user name or password for none");
    }
    if connect.password.is_some_and(|password| std::str::from_utf8(password).is_err()) {
        return Some("takes a password for a string, not for binary data (section 3.1.3.6)");
    }
    None
}

/// Whether the bytes are this packet and nothing else.
fn is(version: Version, bytes: &[u8], packet: Packet<'_>) -> bool {
    frame(bytes, MAX_PACKET).is_ok_and(|whole| {
        whole.is_some_and(|whole| whole.raw.len() == bytes.len() && Packet::decode(version, &whole) == Ok(packet))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v4_agrees(packet in strategy::packet(Version::V311)) {
        let back = through_v4(&encode(Version::V311, &packet));
        let agrees = back.as_deref().is_ok_and(|bytes| is(Version::V311, bytes, packet));
        prop_assert!(agrees || fault_of_v4(&packet).is_some(), "{packet:?}: {back:x?}");
    }

    #[test]
    fn v5_agrees(packet in strategy::packet(Version::V5)) {
        let back = through_v5(&encode(Version::V5, &packet));
        let agrees = back.as_deref().is_ok_and(|bytes| is(Version::V5, bytes, packet));
        prop_assert!(agrees || fault_of_v5(&packet).is_some(), "{packet:?}: {back:x?}");
    }
}

/// Ours says what theirs says: written by theirs and read by ours, and the other way round.
fn assert_same_v4(ours: Packet<'_>, theirs: &v4::Packet) {
    let bytes = written(|buffer| {
        theirs.write(buffer, LIMIT).unwrap();
    });
    assert_eq!(crate::decode(Version::V311, &bytes), Ok(ours));
    let bytes = encode(Version::V311, &ours);
    assert_eq!(&read(&bytes, |buffer| v4::Packet::read(buffer, LIMIT)).unwrap(), theirs);
}

/// As [`assert_same_v4`].
fn assert_same_v5(ours: Packet<'_>, theirs: &v5::Packet) {
    let bytes = written(|buffer| {
        theirs.write(buffer, None).unwrap();
    });
    assert_eq!(crate::decode(Version::V5, &bytes), Ok(ours));
    let bytes = encode(Version::V5, &ours);
    assert_eq!(&read(&bytes, |buffer| v5::Packet::read(buffer, None)).unwrap(), theirs);
}

const USER: [(&str, &str); 2] = [("name", "value"), ("name", "other")];

fn user_properties() -> UserProperties<'static> {
    UserProperties::from(&USER[..])
}

fn their_user_properties() -> Vec<(String, String)> {
    USER.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn some(string: &str) -> Option<String> {
    Some(string.to_owned())
}

#[test]
fn every_field_of_connect_is_the_same_in_v4() {
    let ours = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive: 300,
        client_id: "client",
        will: Some(Will {
            topic: "will/topic",
            payload: b"gone",
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: WillProperties::default(),
        }),
        username: Some("user"),
        password: Some(b"secret"),
        properties: ConnectProperties::default(),
    };
    let mut theirs = v4::Connect::new("client");
    theirs.keep_alive = 300;
    theirs.last_will = Some(v4::LastWill::new("will/topic", "gone", rumqttc::mqttbytes::QoS::ExactlyOnce, true));
    theirs.set_login("user", "secret");
    assert_same_v4(Packet::Connect(ours), &v4::Packet::Connect(theirs));
}

#[test]
fn return_codes_of_connack_are_the_same_in_v4() {
    use v4::ConnectReturnCode as Theirs;
    for (ours, theirs) in [
        (ReasonCode::Success, Theirs::Success),
        (ReasonCode::UnsupportedProtocolVersion, Theirs::RefusedProtocolVersion),
        (ReasonCode::ClientIdentifierNotValid, Theirs::BadClientId),
        (ReasonCode::ServerUnavailable, Theirs::ServiceUnavailable),
        (ReasonCode::BadUserNameOrPassword, Theirs::BadUserNamePassword),
        (ReasonCode::NotAuthorized, Theirs::NotAuthorized),
    ] {
        let packet = v4::Packet::ConnAck(v4::ConnAck::new(theirs, false));
        assert_same_v4(Packet::ConnAck(ConnAck::refusal(ours)), &packet);
    }
}

#[test]
fn every_field_of_connect_is_the_same_in_v5() {
    let ours = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 300,
        client_id: "client",
        will: Some(Will {
            topic: "will/topic",
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: WillProperties {
                will_delay: Some(1),
                payload_format: Some(PayloadFormat::Utf8),
                message_expiry: Some(2),
                content_type: Some("text/plain"),
                response_topic: Some("answer/here"),
                correlation_data: Some(b"\x00\xFF"),
                user_properties: user_properties(),
            },
        }),
        username: Some("user"),
        password: Some(b"secret"),
        properties: ConnectProperties {
            session_expiry: Some(3),
            receive_maximum: Some(4),
            maximum_packet_size: Some(5),
            topic_alias_maximum: Some(6),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            authentication_method: Some("method"),
            authentication_data: Some(b"data"),
            user_properties: user_properties(),
        },
    };
    let theirs = v5::Connect {
        keep_alive: 300,
        client_id: "client".to_owned(),
        clean_start: true,
        properties: Some(v5::ConnectProperties {
            session_expiry_interval: Some(3),
            receive_maximum: Some(4),
            max_packet_size: Some(5),
            topic_alias_max: Some(6),
            request_response_info: Some(1),
            request_problem_info: Some(0),
            user_properties: their_user_properties(),
            authentication_method: some("method"),
            authentication_data: Some(b"data".to_vec().into()),
        }),
    };
    let will = v5::LastWill::new(
        "will/topic",
        "gone",
        rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
        true,
        Some(v5::LastWillProperties {
            delay_interval: Some(1),
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(2),
            content_type: some("text/plain"),
            response_topic: some("answer/here"),
            correlation_data: Some(b"\x00\xFF".to_vec().into()),
            user_properties: their_user_properties(),
        }),
    );
    let login = v5::Login::new("user", "secret");
    assert_same_v5(Packet::Connect(ours), &v5::Packet::Connect(theirs, Some(will), Some(login)));
}

#[test]
fn every_field_of_connack_is_the_same_in_v5() {
    let ours = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: ConnAckProperties {
            session_expiry: Some(1),
            receive_maximum: Some(2),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: Some(3),
            assigned_client_id: Some("assigned"),
            topic_alias_maximum: Some(4),
            reason_string: Some("reason"),
            wildcard_subscription_available: Some(true),
            subscription_ids_available: Some(false),
            shared_subscription_available: Some(true),
            server_keep_alive: Some(5),
            response_information: Some("response"),
            server_reference: Some("reference"),
            authentication_method: Some("method"),
            authentication_data: Some(b"data"),
            user_properties: user_properties(),
        },
    };
    let theirs = v5::ConnAck {
        session_present: true,
        code: v5::ConnectReturnCode::Success,
        properties: Some(v5::ConnAckProperties {
            session_expiry_interval: Some(1),
            receive_max: Some(2),
            max_qos: Some(1),
            retain_available: Some(0),
            max_packet_size: Some(3),
            assigned_client_identifier: some("assigned"),
            topic_alias_max: Some(4),
            reason_string: some("reason"),
            user_properties: their_user_properties(),
            wildcard_subscription_available: Some(1),
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(1),
            server_keep_alive: Some(5),
            response_information: some("response"),
            server_reference: some("reference"),
            authentication_method: some("method"),
            authentication_data: Some(b"data".to_vec().into()),
        }),
    };
    assert_same_v5(Packet::ConnAck(ours), &v5::Packet::ConnAck(theirs));
}

#[test]
fn every_field_of_publish_is_the_same_in_v5() {
    let ours = Publish {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: "a/b",
        pkid: 0x1234,
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry: Some(1),
            topic_alias: Some(2),
            response_topic: Some("answer/here"),
            correlation_data: Some(b"\x00\xFF"),
            content_type: Some("text/plain"),
            subscription_ids: SubscriptionIds::NONE,
            user_properties: user_properties(),
        },
        payload: b"payload",
    };
    let theirs = v5::Publish {
        dup: true,
        qos: rumqttc::v5::mqttbytes::QoS::ExactlyOnce,
        retain: true,
        topic: "a/b".into(),
        pkid: 0x1234,
        payload: "payload".into(),
        properties: Some(v5::PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(1),
            topic_alias: Some(2),
            response_topic: some("answer/here"),
            correlation_data: Some(b"\x00\xFF".to_vec().into()),
            user_properties: their_user_properties(),
            subscription_identifiers: Vec::new(),
            content_type: some("text/plain"),
        }),
    };
    assert_same_v5(Packet::Publish(ours), &v5::Packet::Publish(theirs));
}

/// Theirs writes them right, though it does not read them right.
#[test]
fn subscription_ids_of_theirs_are_read() {
    let theirs = v5::Packet::Publish(v5::Publish {
        topic: "a".into(),
        properties: Some(v5::PublishProperties {
            subscription_identifiers: vec![1, 200, 268_435_455],
            content_type: some("x"),
            ..v5::PublishProperties::default()
        }),
        ..v5::Publish::default()
    });
    let bytes = written(|buffer| {
        theirs.write(buffer, None).unwrap();
    });
    let Ok(Packet::Publish(ours)) = crate::decode(Version::V5, &bytes) else { panic!("{bytes:x?}") };
    assert_eq!(ours.properties.subscription_ids.iter().collect::<Vec<_>>(), [1, 200, 268_435_455]);
    assert_eq!((ours.properties.content_type, ours.payload), (Some("x"), &b""[..]));
}

#[test]
fn every_field_of_subscribe_is_the_same_in_v5() {
    let filters = [
        Subscription {
            filter: "a/+",
            options: SubscribeOptions {
                qos: QoS::AtLeastOnce,
                no_local: true,
                retain_as_published: false,
                retain_handling: RetainHandling::SendIfNew,
            },
        },
        Subscription {
            filter: "$share/g/#",
            options: SubscribeOptions {
                qos: QoS::ExactlyOnce,
                no_local: false,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
            },
        },
    ];
    let ours = Subscribe {
        pkid: 7,
        properties: SubscribeProperties { subscription_id: Some(300), user_properties: user_properties() },
        filters: Filters::from(&filters[..]),
    };
    let theirs = v5::Subscribe {
        pkid: 7,
        filters: vec![
            v5::Filter {
                path: "a/+".to_owned(),
                qos: rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
                nolocal: true,
                preserve_retain: false,
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
            },
            v5::Filter {
                path: "$share/g/#".to_owned(),
                qos: rumqttc::v5::mqttbytes::QoS::ExactlyOnce,
                nolocal: false,
                preserve_retain: true,
                retain_forward_rule: v5::RetainForwardRule::Never,
            },
        ],
        properties: Some(v5::SubscribeProperties { id: Some(300), user_properties: their_user_properties() }),
    };
    assert_same_v5(Packet::Subscribe(ours), &v5::Packet::Subscribe(theirs));
}

#[test]
fn every_field_of_disconnect_is_the_same_in_v5() {
    let ours = Disconnect {
        reason: ReasonCode::ServerMoved,
        properties: DisconnectProperties {
            session_expiry: Some(1),
            reason_string: Some("reason"),
            server_reference: Some("reference"),
            user_properties: user_properties(),
        },
    };
    let theirs = v5::Disconnect {
        reason_code: v5::DisconnectReasonCode::ServerMoved,
        properties: Some(v5::DisconnectProperties {
            session_expiry_interval: Some(1),
            reason_string: some("reason"),
            user_properties: their_user_properties(),
            server_reference: some("reference"),
        }),
    };
    assert_same_v5(Packet::Disconnect(ours), &v5::Packet::Disconnect(theirs));
}

#[test]
fn acknowledgements_are_the_same_in_v5() {
    let properties = ReasonProperties { reason_string: Some("reason"), user_properties: user_properties() };
    let puback = PubAck { pkid: 9, reason: ReasonCode::QuotaExceeded, properties };
    let theirs = v5::PubAck {
        pkid: 9,
        reason: v5::PubAckReason::QuotaExceeded,
        properties: Some(v5::PubAckProperties {
            reason_string: some("reason"),
            user_properties: their_user_properties(),
        }),
    };
    assert_same_v5(Packet::PubAck(puback), &v5::Packet::PubAck(theirs));

    let suback = SubAck { pkid: 9, properties, codes: &[1, 0x8F] };
    let theirs = v5::SubAck {
        pkid: 9,
        return_codes: vec![
            v5::SubscribeReasonCode::Success(rumqttc::v5::mqttbytes::QoS::AtLeastOnce),
            v5::SubscribeReasonCode::TopicFilterInvalid,
        ],
        properties: Some(v5::SubAckProperties {
            reason_string: some("reason"),
            user_properties: their_user_properties(),
        }),
    };
    assert_same_v5(Packet::SubAck(suback), &v5::Packet::SubAck(theirs));

    let unsuback = UnsubAck { pkid: 9, properties, codes: &[0x11, 0] };
    let theirs = v5::UnsubAck {
        pkid: 9,
        reasons: vec![v5::UnsubAckReason::NoSubscriptionExisted, v5::UnsubAckReason::Success],
        properties: Some(v5::UnsubAckProperties {
            reason_string: some("reason"),
            user_properties: their_user_properties(),
        }),
    };
    assert_same_v5(Packet::UnsubAck(unsuback), &v5::Packet::UnsubAck(theirs));
}
