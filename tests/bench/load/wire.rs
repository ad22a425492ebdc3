//! The few MQTT 3.1.1 packets that a load needs, as bytes.

use crate::options::MIN_PAYLOAD;

pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];
/// CONNACK, no session present, accepted (section 3.2).
pub(crate) const CONNACK_ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
/// The same, session present.
pub(crate) const CONNACK_RESUMED: [u8; 4] = [0x20, 2, 1, 0];

/// The Clean Session flag, section 3.1.2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    Clean,
    Kept,
}

// Packet types, section 2.2.1.
pub(crate) const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
pub(crate) const SUBSCRIBE: u8 = 8;

/// CONNECT, section 3.1: no keep-alive, no will.
pub(crate) fn connect(client_id: &str, session: Session) -> Vec<u8> {
    let clean = u8::from(session == Session::Clean) << 1;
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, clean, 0, 0];
    put_string(&mut body, client_id);
    with_header(0x10, &body)
}

/// SUBSCRIBE, section 3.8, one filter.
pub(crate) fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    put_string(&mut body, filter);
    body.push(qos);
    with_header(0x82, &body)
}

/// The SUBACK that grants `qos` to [`subscribe`], section 3.9.
pub(crate) fn suback(qos: u8) -> [u8; 5] {
    [0x90, 3, 0, 1, qos]
}

/// PUBACK, section 3.4.
pub(crate) fn puback(packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [0x40, 2, high, low]
}

/// What each payload begins with: who sent it, its place in that publisher's order, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) publisher: u32,
    pub(crate) seq: u32,
    pub(crate) sent_ns: u64,
}

impl Stamp {
    pub(crate) fn to_bytes(self) -> [u8; MIN_PAYLOAD] {
        let mut field = [0; MIN_PAYLOAD];
        field[..4].copy_from_slice(&self.publisher.to_be_bytes());
        field[4..8].copy_from_slice(&self.seq.to_be_bytes());
        field[8..].copy_from_slice(&self.sent_ns.to_be_bytes());
        field
    }
}

/// A PUBLISH of one publisher to one topic, encoded once; only identifier and stamp change.
pub(crate) struct PublishTemplate {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    stamp_at: usize,
}

impl PublishTemplate {
    pub(crate) fn new(topic: &str, qos: u8, payload: usize) -> Self {
        let mut body = Vec::new();
        put_string(&mut body, topic);
        let packet_id_in_body = body.len();
        if qos > 0 {
            body.extend([0, 0]);
        }
        let stamp_in_body = body.len();
        body.resize(stamp_in_body + payload.max(MIN_PAYLOAD), b'.');
        let bytes = with_header(0x30 | qos << 1, &body);
        let header = bytes.len() - body.len();
        Self {
            bytes,
            packet_id_at: (qos > 0).then_some(header + packet_id_in_body),
            stamp_at: header + stamp_in_body,
        }
    }

    /// Appends one message. Packet identifiers follow the sequence number and skip 0.
    pub(crate) fn append(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if let Some(at) = self.packet_id_at {
            let [_, _, high, low] = (stamp.seq % 65_535 + 1).to_be_bytes();
            packet[at..at + 2].copy_from_slice(&[high, low]);
        }
        packet[self.stamp_at..self.stamp_at + MIN_PAYLOAD].copy_from_slice(&stamp.to_bytes());
    }
}

/// A packet as the generator sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// CONNACK with its return code.
    ConnAck(u8),
    /// PUBLISH with its identifier when the QoS is 1.
    Publish {
        packet_id: Option<u16>,
        stamp: Stamp,
    },
    PubAck,
}

/// The bytes are not a packet that a broker may send here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

/// Where the body of the first packet in `bytes` starts and ends, section 2.2.3; `None` when it is not complete yet.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<(usize, usize)>, Unexpected> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let body_at = index + 2;
            return Ok((bytes.len() >= body_at + length).then_some((body_at, body_at + length)));
        }
    }
    if bytes.len() >= 5 { Err(Unexpected) } else { Ok(None) }
}

/// The packet that is the whole of `frame`.
pub(crate) fn decode(frame: &[u8], body_at: usize) -> Result<Packet, Unexpected> {
    let body = &frame[body_at..];
    match frame[0] >> 4 {
        PUBLISH => publish(frame[0], body).ok_or(Unexpected),
        PUBACK => Ok(Packet::PubAck),
        CONNACK => Ok(Packet::ConnAck(*body.get(1).ok_or(Unexpected)?)),
        _ => Err(Unexpected),
    }
}

/// The packet identifier of a PUBLISH with QoS 1.
pub(crate) fn publish_id(frame: &[u8], body_at: usize) -> Option<u16> {
    split_publish(frame[0], &frame[body_at..])?.0
}

fn publish(first: u8, body: &[u8]) -> Option<Packet> {
    let (packet_id, payload) = split_publish(first, body)?;
    let field = |from: usize| payload.get(from..from + 4)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk));
    let stamp =
        Stamp { publisher: field(0)?, seq: field(4)?, sent_ns: u64::from(field(8)?) << 32 | u64::from(field(12)?) };
    Some(Packet::Publish { packet_id, stamp })
}

/// Identifier and payload, section 3.3.
fn split_publish(first: u8, body: &[u8]) -> Option<(Option<u16>, &[u8])> {
    let topic_len = usize::from(u16::from_be_bytes(*body.first_chunk()?));
    let after_topic = body.get(2 + topic_len..)?;
    match first >> 1 & 0b11 {
        0 => Some((None, after_topic)),
        _ => Some((Some(u16::from_be_bytes(*after_topic.first_chunk()?)), &after_topic[2..])),
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(text.bytes().take(usize::from(length)));
}

fn with_header(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let digit = u8::try_from(rest % 128).unwrap_or_default();
        rest /= 128;
        if rest == 0 {
            packet.push(digit);
            break;
        }
        packet.push(digit | 0x80);
    }
    packet.extend_from_slice(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 7, seq: 65_535, sent_ns: 0x0102_0304_0506_0708 };

    fn whole(bytes: &[u8]) -> Result<Packet, Unexpected> {
        let (body_at, end) = frame(bytes)?.ok_or(Unexpected)?;
        decode(&bytes[..end], body_at)
    }

    #[test]
    fn a_publish_comes_back_with_its_stamp_and_identifier() {
        for (qos, payload, packet_id) in [(0, 16, None), (1, 300, Some(1))] {
            let mut bytes = Vec::new();
            PublishTemplate::new("bench/7", qos, payload).append(&mut bytes, STAMP);
            assert_eq!(frame(&bytes), Ok(Some((bytes.len() - payload - 9 - 2 * usize::from(qos), bytes.len()))));
            assert_eq!(whole(&bytes), Ok(Packet::Publish { packet_id, stamp: STAMP }));
            for end in 0..bytes.len() {
                assert_eq!(frame(&bytes[..end]), Ok(None), "a prefix of {end} bytes is not a packet");
            }
        }
    }

    #[test]
    fn a_connect_is_the_bytes_of_the_standard() {
        assert_eq!(
            connect("ab", Session::Clean),
            [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 2, b'a', b'b']
        );
        assert_eq!(connect("", Session::Kept), [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 0]);
        assert_eq!(subscribe("t", 1), [0x82, 6, 0, 1, 0, 1, b't', 1]);
        assert_eq!(whole(&CONNACK_ACCEPTED), Ok(Packet::ConnAck(0)));
        assert_eq!(whole(&puback(9)), Ok(Packet::PubAck));
    }

    #[test]
    fn a_length_without_end_is_refused() {
        assert_eq!(frame(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]), Err(Unexpected));
        assert_eq!(whole(&DISCONNECT), Err(Unexpected));
    }
}
