//! MQTT packets drawn from the input: mostly sound, so that they get deep into the engine.

use moteway::mqtt::{
    Connect, ConnectProperties, Disconnect, DisconnectProperties, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
    PublishProperties, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, SubscribeProperties,
    Subscription, Unsubscribe, Version, Will, WillProperties,
};

use crate::targets::source::Source;

const CLIENTS: [&str; 8] = ["a", "b", "c", "d", "e", "sn1", "sn2", ""];
pub const TOPICS: [&str; 12] =
    ["site/a", "site/b", "a", "a/b", "a/b/c", "$x/y", "p/1", "command/box", "moteway/x", "ab", "$SYS/x", "é/ü"];
pub const FILTERS: [&str; 16] = [
    "#",
    "site/#",
    "+",
    "a/+",
    "+/b",
    "a",
    "a/b",
    "$x/#",
    "site/a",
    "$share/g/site/#",
    "$share/g/a/#",
    "$share/h/+",
    "command/#",
    "moteway/#",
    "a/+/c",
    "$SYS/#",
];
const SECONDS: [u32; 8] = [0, 1, 2, 10, 60, 3600, 0xFFFF_FFFE, 0xFFFF_FFFF];

fn any<T: Copy>(source: &mut Source<'_>, of: &[T]) -> T {
    of[usize::from(source.byte()) % of.len()]
}

fn qos(bits: u8) -> QoS {
    QoS::from_u8(bits & 3).unwrap_or_default()
}

/// A payload of a length that is usual, or at the border of a limit.
fn payload(source: &mut Source<'_>) -> Vec<u8> {
    const LENGTHS: [usize; 8] = [0, 1, 2, 16, 100, 600, 2047, 2300];
    let shape = source.byte();
    vec![shape; LENGTHS[usize::from(shape & 7)]]
}

pub fn connect(source: &mut Source<'_>, out: &mut Vec<u8>) {
    let flags = source.byte();
    let client_id = any(source, &CLIENTS);
    let version = [Version::V5, Version::V311, Version::V31, Version::V5][usize::from(flags & 3)];
    let mut properties = ConnectProperties::default();
    if version == Version::V5 {
        let wishes = source.byte();
        properties.session_expiry = (wishes & 1 != 0).then(|| any(source, &SECONDS));
        properties.receive_maximum = (wishes & 2 != 0).then(|| u16::from(source.byte() & 7).max(1));
        properties.maximum_packet_size = (wishes & 4 != 0).then(|| u32::from(source.byte()) * 4 + 20);
        properties.topic_alias_maximum = (wishes & 8 != 0).then(|| u16::from(source.byte() & 3));
    }
    let will_payload = payload_if(flags & 8 != 0, source);
    let will = will_payload.as_deref().map(|payload| {
        let bits = source.byte();
        let mut properties = WillProperties::default();
        if version == Version::V5 {
            properties.will_delay = (bits & 8 != 0).then(|| any(source, &SECONDS));
            properties.message_expiry = (bits & 16 != 0).then(|| any(source, &SECONDS));
        }
        Will { topic: any(source, &TOPICS), payload, qos: qos(bits), retain: bits & 4 != 0, properties }
    });
    let keep_alive = if flags & 16 != 0 { u16::from(source.byte()) } else { 0 };
    let username = (flags & 32 != 0).then_some("user");
    let clean_start = flags & 4 != 0;
    Connect { version, clean_start, keep_alive, client_id, will, username, password: None, properties }.encode(out);
}

fn payload_if(wanted: bool, source: &mut Source<'_>) -> Option<Vec<u8>> {
    wanted.then(|| payload(source))
}

pub fn publish(source: &mut Source<'_>, version: Version, topics: &[&str], out: &mut Vec<u8>) {
    let flags = source.byte();
    let topic = any(source, topics);
    let qos = qos(flags);
    let pkid = if qos == QoS::AtMostOnce { 0 } else { u16::from(source.byte() & 15) + 1 };
    let payload = payload(source);
    let mut properties = PublishProperties::default();
    if version == Version::V5 && flags & 0x80 != 0 {
        let wishes = source.byte();
        properties.message_expiry = (wishes & 1 != 0).then(|| any(source, &SECONDS));
        properties.topic_alias = (wishes & 2 != 0).then(|| u16::from(source.byte() & 3) + 1);
        properties.content_type = (wishes & 4 != 0).then_some("text/plain");
        properties.response_topic = (wishes & 8 != 0).then_some("answer");
    }
    // An alias alone, once it is known.
    let topic = if properties.topic_alias.is_some() && flags & 0x40 != 0 { "" } else { topic };
    let dup = flags & 8 != 0 && qos > QoS::AtMostOnce;
    let publish = Publish { dup, qos, retain: flags & 4 != 0, topic, pkid, properties, payload: &payload };
    publish.encode(version, out);
}

pub fn subscribe(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let count = usize::from(source.byte() & 3).max(1);
    let mut filters = Vec::new();
    for _ in 0..count {
        let filter = any(source, &FILTERS);
        let bits = source.byte();
        let retain_handling = match bits >> 4 & 3 {
            0 | 3 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        };
        // No local is for subscriptions of one's own [MQTT-3.8.3-4].
        let no_local = bits & 4 != 0 && !filter.starts_with("$share/");
        let retain_as_published = bits & 8 != 0;
        let options = SubscribeOptions { qos: qos(bits), no_local, retain_as_published, retain_handling };
        filters.push(Subscription { filter, options });
    }
    let mut properties = SubscribeProperties::default();
    let id = source.byte();
    properties.subscription_id = (version == Version::V5 && id & 1 != 0).then(|| u32::from(id >> 1) + 1);
    let pkid = u16::from(source.byte()) + 1;
    Subscribe { pkid, properties, filters: filters.as_slice().into() }.encode(version, out);
}

pub fn unsubscribe(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let filters = [any(source, &FILTERS), any(source, &FILTERS)];
    let pkid = u16::from(source.byte()) + 1;
    let unsubscribe = Unsubscribe { pkid, properties: Default::default(), filters: filters.as_slice().into() };
    unsubscribe.encode(version, out);
}

pub fn disconnect(source: &mut Source<'_>, version: Version, out: &mut Vec<u8>) {
    let bits = source.byte();
    let mut properties = DisconnectProperties::default();
    let mut reason = ReasonCode::Success;
    if version == Version::V5 {
        properties.session_expiry = (bits & 2 != 0).then(|| any(source, &SECONDS));
        reason = if bits & 1 != 0 { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
    }
    Packet::Disconnect(Disconnect { reason, properties }).encode(version, out);
}

/// The answer to what came; in 5.0 it may say that it was not wanted.
pub fn answer(owed: Owed, version: Version, refuse: bool, out: &mut Vec<u8>) {
    let reason = if refuse && version == Version::V5 { ReasonCode::UnspecifiedError } else { ReasonCode::Success };
    let packet = match owed {
        Owed::PubAck(pkid) => Packet::PubAck(PubAck::new(pkid, reason)),
        Owed::PubRec(pkid) => Packet::PubRec(PubRec::new(pkid, reason)),
        Owed::PubRel(pkid) => Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)),
        Owed::PubComp(pkid) => Packet::PubComp(PubComp::new(pkid, ReasonCode::Success)),
    };
    packet.encode(version, out);
}

/// An answer that the peer owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "they are packets")]
pub enum Owed {
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
}

/// Bytes with a few of them changed, as the input says.
pub fn spoil(source: &mut Source<'_>, bytes: &mut Vec<u8>) {
    let how = source.byte();
    let at = usize::from(source.byte());
    if let Some(byte) = bytes.get_mut(at) {
        match how & 3 {
            0 => *byte ^= 1 << (how >> 5),
            1 => *byte = how,
            2 => bytes.truncate(at),
            _ => bytes.insert(at, how),
        }
    }
}
