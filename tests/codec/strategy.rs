//! Any packet that a version can say. Packets borrow, so what they borrow is leaked: a few megabytes a run.

use moteway::mqtt::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

pub fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

fn leak<T: 'static>(list: Vec<T>) -> &'static [T] {
    list.leak()
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..60).prop_map(leak)
}

fn payload() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..100).prop_map(leak),
        1 => (0..40_000usize, any::<u8>()).prop_map(|(len, byte)| leak(vec![byte; len])),
    ]
}

fn string() -> impl Strategy<Value = &'static str> {
    vec(any::<char>().prop_filter("no NUL", |char| *char != '\0'), 0..20)
        .prop_map(|chars| &*chars.into_iter().collect::<String>().leak())
}

fn topic_name() -> impl Strategy<Value = &'static str> {
    "[$/a-zé漢]{1,40}".prop_map(|name| &*name.leak())
}

fn topic_filter() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("#"),
        Just("+"),
        Just("$share/group/+/x/#"),
        topic_name(),
        "([a-z]{0,5}/|\\+/){0,4}(#|\\+|[a-z]+)".prop_map(|filter| &*filter.leak()),
    ]
}

fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    vec((string(), string()), 0..3).prop_map(|list| UserProperties::from(leak(list)))
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn pkid() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1..200u32, 1..=268_435_455u32]
}

/// A reason code that `packet` may carry.
fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let codes: Vec<_> = ReasonCode::ALL.iter().copied().filter(|code| code.belongs_to(packet)).collect();
    prop::sample::select(codes)
}

/// What `strategy` yields for 5.0, and nothing for the versions before.
fn only_v5<T: Clone + Default + std::fmt::Debug + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if version == Version::V5 {
        prop_oneof![Just(T::default()), strategy].boxed()
    } else {
        Just(T::default()).boxed()
    }
}

fn payload_format() -> impl Strategy<Value = PayloadFormat> {
    prop_oneof![Just(PayloadFormat::Bytes), Just(PayloadFormat::Utf8)]
}

fn reason_properties() -> impl Strategy<Value = ReasonProperties<'static>> {
    (of(string()), user_properties())
        .prop_map(|(reason_string, user_properties)| ReasonProperties { reason_string, user_properties })
}

fn will(version: Version) -> impl Strategy<Value = Will<'static>> {
    let properties = (
        of(any::<u32>()),
        of(payload_format()),
        of(any::<u32>()),
        of(string()),
        of(topic_name()),
        of(bytes()),
        user_properties(),
    )
        .prop_map(|(will_delay, payload_format, message_expiry, content_type, response_topic, data, user)| {
            WillProperties {
                will_delay,
                payload_format,
                message_expiry,
                content_type,
                response_topic,
                correlation_data: data,
                user_properties: user,
            }
        });
    (topic_name(), payload(), qos(), any::<bool>(), only_v5(version, properties))
        .prop_map(|(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties })
}

pub fn connect(version: Version) -> impl Strategy<Value = Connect<'static>> {
    let properties = (
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(1..=u32::MAX),
        of(any::<u16>()),
        of(any::<bool>()),
        of(any::<bool>()),
        of((string(), of(bytes()))),
        user_properties(),
    )
        .prop_map(|(expiry, receive, size, alias, response, problem, auth, user)| ConnectProperties {
            session_expiry: expiry,
            receive_maximum: receive,
            maximum_packet_size: size,
            topic_alias_maximum: alias,
            request_response_information: response,
            request_problem_information: problem,
            authentication_method: auth.map(|(method, _)| method),
            authentication_data: auth.and_then(|(_, data)| data),
            user_properties: user,
        });
    (
        any::<bool>(),
        any::<u16>(),
        string(),
        of(will(version)),
        of(string()),
        of(bytes()),
        only_v5(version, properties),
    )
        .prop_map(move |(clean_start, keep_alive, client_id, will, username, password, properties)| Connect {
            version,
            clean_start,
            keep_alive,
            client_id,
            will,
            username,
            password: password.filter(|_| version == Version::V5 || username.is_some()),
            properties,
        })
}

pub fn connack(version: Version) -> impl Strategy<Value = ConnAck<'static>> {
    let limits = (
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        of(any::<bool>()),
        of(1..=u32::MAX),
        of(any::<u16>()),
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<u16>()),
    );
    let texts =
        (of(string()), of(string()), of(string()), of(string()), of(string()), of(bytes()), user_properties());
    let properties = (limits, texts).prop_map(|(limits, texts)| ConnAckProperties {
        session_expiry: limits.0,
        receive_maximum: limits.1,
        maximum_qos: limits.2,
        retain_available: limits.3,
        maximum_packet_size: limits.4,
        topic_alias_maximum: limits.5,
        wildcard_subscription_available: limits.6,
        subscription_ids_available: limits.7,
        shared_subscription_available: limits.8,
        server_keep_alive: limits.9,
        assigned_client_id: texts.0,
        reason_string: texts.1,
        response_information: texts.2,
        server_reference: texts.3,
        authentication_method: texts.4,
        authentication_data: texts.5,
        user_properties: texts.6,
    });
    let reason = match version {
        Version::V5 => reason(PacketType::ConnAck).boxed(),
        _ => (0..6u8).prop_map(|code| ReasonCode::from_return_code(code).unwrap()).boxed(),
    };
    (any::<bool>(), reason, only_v5(version, properties)).prop_map(move |(present, reason, properties)| ConnAck {
        session_present: present && !reason.is_error() && version != Version::V31,
        reason,
        properties,
    })
}

pub fn publish_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    (
        of(payload_format()),
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(topic_name()),
        of(bytes()),
        of(string()),
        vec(subscription_id(), 0..4),
        user_properties(),
    )
        .prop_map(
            |(payload_format, message_expiry, topic_alias, response_topic, data, content_type, ids, user)| {
                PublishProperties {
                    payload_format,
                    message_expiry,
                    topic_alias,
                    response_topic,
                    correlation_data: data,
                    content_type,
                    subscription_ids: SubscriptionIds::from(leak(ids)),
                    user_properties: user,
                }
            },
        )
}

pub fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    (
        any::<bool>(),
        qos(),
        any::<bool>(),
        topic_name(),
        any::<bool>(),
        pkid(),
        only_v5(version, publish_properties()),
        payload(),
    )
        .prop_map(|(dup, qos, retain, topic, alias_only, pkid, properties, payload)| Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: if alias_only && properties.topic_alias.is_some() { "" } else { topic },
            pkid: if qos == QoS::AtMostOnce { 0 } else { pkid },
            properties,
            payload,
        })
}

pub fn subscribe(version: Version) -> impl Strategy<Value = Subscribe<'static>> {
    let v5 = version == Version::V5;
    let handling = prop_oneof![
        Just(RetainHandling::SendAtSubscribe),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    let filter = (topic_filter(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(filter, qos, no_local, retain_as_published, retain_handling)| {
            let options = if v5 {
                let no_local = no_local && topic::share(filter).is_none();
                SubscribeOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscribeOptions { qos, ..SubscribeOptions::default() }
            };
            Subscription { filter, options }
        },
    );
    let properties = (of(subscription_id()), user_properties())
        .prop_map(|(subscription_id, user_properties)| SubscribeProperties { subscription_id, user_properties });
    (pkid(), only_v5(version, properties), vec(filter, 1..5)).prop_map(|(pkid, properties, filters)| Subscribe {
        pkid,
        properties,
        filters: Filters::from(leak(filters)),
    })
}

pub fn suback(version: Version) -> impl Strategy<Value = SubAck<'static>> {
    let code = match version {
        Version::V5 => reason(PacketType::SubAck).prop_map(ReasonCode::as_u8).boxed(),
        _ => prop::sample::select(vec![0, 1, 2, 0x80]).boxed(),
    };
    (pkid(), only_v5(version, reason_properties()), vec(code, 1..5)).prop_map(|(pkid, properties, codes)| SubAck {
        pkid,
        properties,
        codes: leak(codes),
    })
}

pub fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe<'static>> {
    let properties = user_properties().prop_map(|user_properties| UnsubscribeProperties { user_properties });
    (pkid(), only_v5(version, properties), vec(topic_filter(), 1..5)).prop_map(|(pkid, properties, filters)| {
        Unsubscribe { pkid, properties, filters: UnsubscribeFilters::from(leak(filters)) }
    })
}

pub fn unsuback(version: Version) -> impl Strategy<Value = UnsubAck<'static>> {
    let count = if version == Version::V5 { 1..5 } else { 0..1 };
    let code = reason(PacketType::UnsubAck).prop_map(ReasonCode::as_u8);
    (pkid(), only_v5(version, reason_properties()), vec(code, count))
        .prop_map(|(pkid, properties, codes)| UnsubAck { pkid, properties, codes: leak(codes) })
}

/// One of the four acknowledgements of PUBLISH.
pub fn acknowledgement(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let kinds = [PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp];
    prop::sample::select(kinds.to_vec())
        .prop_flat_map(move |kind| {
            (Just(kind), pkid(), only_v5(version, reason(kind)), only_v5(version, reason_properties()))
        })
        .prop_map(|(kind, pkid, reason, properties)| match kind {
            PacketType::PubAck => Packet::PubAck(PubAck { pkid, reason, properties }),
            PacketType::PubRec => Packet::PubRec(PubRec { pkid, reason, properties }),
            PacketType::PubRel => Packet::PubRel(PubRel { pkid, reason, properties }),
            _ => Packet::PubComp(PubComp { pkid, reason, properties }),
        })
}

pub fn disconnect(version: Version) -> impl Strategy<Value = Disconnect<'static>> {
    let properties = (of(any::<u32>()), of(string()), of(string()), user_properties()).prop_map(
        |(session_expiry, reason_string, server_reference, user_properties)| DisconnectProperties {
            session_expiry,
            reason_string,
            server_reference,
            user_properties,
        },
    );
    (only_v5(version, reason(PacketType::Disconnect)), only_v5(version, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

pub fn auth() -> impl Strategy<Value = Auth<'static>> {
    let full = (reason(PacketType::Auth), string(), of(bytes()), of(string()), user_properties()).prop_map(
        |(reason, method, authentication_data, reason_string, user_properties)| Auth {
            reason,
            properties: AuthProperties {
                authentication_method: Some(method),
                authentication_data,
                reason_string,
                user_properties,
            },
        },
    );
    prop_oneof![1 => Just(Auth::default()), 4 => full]
}

/// Any packet of `version`.
pub fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let any = prop_oneof![
        3 => connect(version).prop_map(Packet::Connect),
        3 => connack(version).prop_map(Packet::ConnAck),
        5 => publish(version).prop_map(Packet::Publish),
        4 => acknowledgement(version),
        2 => subscribe(version).prop_map(Packet::Subscribe),
        2 => suback(version).prop_map(Packet::SubAck),
        2 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        2 => unsuback(version).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        2 => disconnect(version).prop_map(Packet::Disconnect),
    ];
    if version == Version::V5 {
        prop_oneof![15 => any, 1 => auth().prop_map(Packet::Auth)].boxed()
    } else {
        any.boxed()
    }
}

/// Any packet of any version.
pub fn any_packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}
