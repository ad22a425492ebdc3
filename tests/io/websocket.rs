//! WebSocket listeners: MQTT in frames, and peers that know the rules of framing and break them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use moteway::config::Protocol;
use moteway::mqtt::{Packet, QoS, ReasonCode};

use crate::certificates::Certificates;
use crate::client::{Client, encode, hello, publish, subscribe};
use crate::listeners::unix;
use crate::log;
use crate::setup::{Setup, tcp, tcp_with_little_room};

const MASK: [u8; 4] = [1, 2, 3, 4];
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => bytes.push(0x80 | short),
        (_, Ok(medium)) => {
            bytes.push(0x80 | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn request(path: &str, protocol: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    )
}

const MQTT: &str = "Sec-WebSocket-Protocol: mqtt\r\n";

/// The head of the answer.
fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A stream of bytes in frames: each write is one, and what is read is taken out of them.
struct WebSocket<S> {
    stream: S,
    left: usize,
    /// The frame that is read is a control frame.
    pongs: Vec<Vec<u8>>,
    close: Option<u16>,
}

impl<S: Read + Write> WebSocket<S> {
    fn connect(mut stream: S) -> Self {
        stream.write_all(request("/mqtt", MQTT).as_bytes()).unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
        Self { stream, left: 0, pongs: Vec::new(), close: None }
    }

    /// Reads headers until there is a message with bytes in it, or a farewell.
    fn next_message(&mut self) -> io::Result<()> {
        while self.left == 0 && self.close.is_none() {
            let mut first = [0; 2];
            self.stream.read_exact(&mut first)?;
            let len = match first[1] {
                126 => self.length::<2>()?,
                127 => self.length::<8>()?,
                short @ 0..=125 => usize::from(short),
                masked => panic!("a server does not mask: {masked:#x}"),
            };
            if first[0] == BINARY {
                self.left = len;
                continue;
            }
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload)?;
            match (first[0], &payload[..]) {
                (PONG, _) => self.pongs.push(payload),
                (CLOSE, [high, low, ..]) => self.close = Some(u16::from_be_bytes([*high, *low])),
                _ => panic!("{first:x?} {payload:x?}"),
            }
        }
        Ok(())
    }

    fn length<const N: usize>(&mut self) -> io::Result<usize> {
        let mut octets = [0; N];
        self.stream.read_exact(&mut octets)?;
        Ok(octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
    }
}

impl<S: Read + Write> Read for WebSocket<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.next_message()?;
        let most = buf.len().min(self.left);
        let count = if most == 0 { 0 } else { self.stream.read(&mut buf[..most])? };
        self.left -= count;
        Ok(count)
    }
}

impl<S: Write> Write for WebSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&frame(BINARY, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn connect<S: Read + Write>(stream: S, name: &str) -> Client<WebSocket<S>> {
    Client::connect(WebSocket::connect(stream), name)
}

#[test]
fn clients_of_every_listener_meet_in_one_broker() {
    let certificates = Certificates::new();
    let (mut setup, path) = Setup::new()
        .with_listener(None)
        .with_listener(Some(certificates.server(false)))
        .with_websocket(None)
        .with_websocket(Some(certificates.server(true)))
        .with_socket();
    setup.config.listener[4].protocol = Protocol::Websocket;
    let daemon = setup.start();
    let mut plain = Client::connect(tcp(&daemon, 0), "plain");
    let mut tls = Client::connect(certificates.stream(tcp(&daemon, 1), None), "tls");
    let mut ws = connect(tcp(&daemon, 2), "ws");
    let mut wss = connect(certificates.stream(tcp(&daemon, 3), Some(&certificates)), "wss");
    let mut local = connect(unix(&path), "local");
    plain.subscribe("t", QoS::AtLeastOnce);
    tls.subscribe("t", QoS::AtLeastOnce);
    ws.subscribe("t", QoS::AtLeastOnce);
    wss.subscribe("t", QoS::AtLeastOnce);
    local.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = connect(tcp(&daemon, 2), "publisher");
    publisher.publish("t", b"to all");
    let got = [plain.message(), tls.message(), ws.message(), wss.message(), local.message()];
    assert!(got.iter().all(|message| message.payload == b"to all"), "{got:?}");
    publisher.leave();
}

#[test]
fn packets_and_frames_have_nothing_to_do_with_each_other() {
    let daemon = Setup::new().with_websocket(None).start();
    let mut client = Client::new(WebSocket::connect(tcp(&daemon, 0)));
    let packets = [
        encode(&Packet::Connect(hello("client"))),
        subscribe("t", QoS::AtMostOnce),
        publish("t", b"one", QoS::AtMostOnce, 0),
        publish("t", &[7; 70_000], QoS::AtMostOnce, 0),
    ]
    .concat();
    let (start, rest) = packets.split_at(30);
    // Byte by byte, each in a frame of its own; then one message in fragments, a ping between two of them.
    start.chunks(1).for_each(|byte| client.send(byte));
    let fragments: Vec<_> = rest.chunks(20_000).collect();
    for (i, fragment) in fragments.iter().enumerate() {
        let opcode = if i == 0 { 2 } else { 0 };
        let last = if i + 1 == fragments.len() { 0x80 } else { 0 };
        client.stream.stream.write_all(&frame(last | opcode, fragment)).unwrap();
        client.stream.stream.write_all(&frame(PING, &[i as u8])).unwrap();
    }
    assert!(matches!(client.receive().unwrap(), Packet::ConnAck(_)));
    assert!(matches!(client.receive().unwrap(), Packet::SubAck(_)));
    assert_eq!(client.message().payload, b"one");
    assert_eq!(client.message().payload, [7; 70_000]);
    client.ping();
    // Of several pings that came together the last one is answered.
    let last = u8::try_from(fragments.len() - 1).unwrap();
    assert_eq!(client.stream.pongs.last(), Some(&vec![last]));
}

#[test]
fn bulk_arrives_in_order_however_little_the_socket_takes() {
    const COUNT: u16 = 400;
    let mut setup = Setup::new().with_websocket(None);
    setup.config.broker.max_outbox_bytes = 64 << 20;
    let daemon = setup.start();
    let mut slow = connect(tcp_with_little_room(&daemon), "slow");
    slow.subscribe("t", QoS::AtMostOnce);
    let mut publisher = connect(tcp(&daemon, 0), "publisher");
    for i in 0..COUNT {
        publisher.send(&publish("t", &[&i.to_be_bytes()[..], &[3; 9_000]].concat(), QoS::AtMostOnce, 0));
    }
    publisher.ping();
    slow.stream.stream.write_all(&frame(PING, b"amid")).unwrap();
    for i in 0..COUNT {
        let payload = slow.message().payload;
        assert!(payload[..2] == i.to_be_bytes() && payload[2..] == [3; 9_000], "message {i}");
    }
    slow.ping();
    assert_eq!(slow.stream.pongs, [b"amid"]);
}

#[test]
fn who_breaks_the_rules_of_framing_is_told_and_disturbs_nobody() {
    let daemon = Setup::new().with_websocket(None).start();
    let mut good = connect(tcp(&daemon, 0), "good");
    let huge = |octet: u8| [&[BINARY, 0xFF, octet][..], &[0; 11]].concat();
    for (bytes, code, words) in [
        (frame(0x81, b"hello"), 1003, "a text frame"),
        (frame(0xC2, b""), 1002, "a reserved bit is set"),
        (vec![BINARY, 1, 0], 1002, "a frame is not masked"),
        (huge(0x80), 1002, "a length of more than 63 bits"),
        (huge(0x40), 1009, "a frame longer than any MQTT packet"),
        (frame(0x80, b"x"), 1002, "a continuation of nothing"),
        (frame(PING, &[0; 126]), 1002, "a control frame longer than 125 octets"),
        (frame(0x09, b""), 1002, "a control frame in pieces"),
    ] {
        for name in [None, Some("bad")] {
            let mut bad = match name {
                None => Client::new(WebSocket::connect(tcp(&daemon, 0))),
                Some(name) => connect(tcp(&daemon, 0), name),
            };
            // What comes after it does not hide the answer.
            bad.stream.stream.write_all(&[bytes.clone(), vec![0; 5_000]].concat()).unwrap();
            assert_eq!(bad.end(), None, "{words}");
            assert_eq!(bad.stream.close, Some(code), "{words}");
        }
    }
    good.ping();
}

#[test]
fn both_sides_say_good_bye() {
    let daemon = Setup::new().with_websocket(None).start();
    let mut leaves = connect(tcp(&daemon, 0), "leaves");
    leaves.stream.stream.write_all(&frame(CLOSE, &1001u16.to_be_bytes())).unwrap();
    assert_eq!((leaves.end(), leaves.stream.close), (None, Some(1001)));
    assert_eq!(leaves.stream.stream.read(&mut [0]).unwrap(), 0, "the server closes the socket");

    let mut replaced = connect(tcp(&daemon, 0), "same");
    connect(tcp(&daemon, 0), "same").ping();
    assert_eq!((replaced.end(), replaced.stream.close), (Some(ReasonCode::SessionTakenOver), Some(1000)));
}

#[test]
fn what_asks_for_something_else_gets_a_short_answer_of_http() {
    let mut setup = Setup::new().with_websocket(None).with_websocket(None);
    setup.config.listener[1].websocket_path = "/mqtt".to_owned();
    let daemon = setup.start();
    let endless = format!("GET / HTTP/1.1\r\n{}", "X-Header: and another one\r\n".repeat(1_000));
    for (listener, request, status) in [
        (0, "GET / HTTP/1.1\r\nHost: a.browser\r\n\r\n".to_owned(), "426 Upgrade Required"),
        (0, request("/", "Sec-WebSocket-Protocol: chat\r\n"), "400 Bad Request"),
        (0, request("/anywhere", ""), "101 Switching Protocols"),
        (0, endless, "431 Request Header Fields Too Large"),
        (0, "\x10\x12\0\x04MQTT".to_owned(), "400 Bad Request"),
        (1, request("/mqtt?key=value", MQTT), "101 Switching Protocols"),
        (1, request("/other", MQTT), "404 Not Found"),
    ] {
        let mut stream = tcp(&daemon, listener);
        stream.write_all(request.as_bytes()).unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        if !status.starts_with("101") {
            let address = stream.local_addr().unwrap().to_string();
            stream.read_to_end(&mut Vec::new()).unwrap();
            drop(stream);
            log::wait_for_line(&["WebSocket handshake failed", &address]);
        }
    }
}

/// Sends `bytes` again and again until the daemon has had enough. Returns how long that took.
fn until_cut_off(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    while stream.write_all(bytes).is_ok() {
        assert!(begin.elapsed() < crate::setup::PATIENCE, "it may go on for ever");
    }
    begin.elapsed()
}

#[test]
fn nothing_buys_time_before_connect() {
    const LIMIT: Duration = Duration::from_millis(400);
    let certificates = Certificates::new();
    let mut setup =
        Setup::new().with_websocket(None).with_websocket(Some(certificates.server(false))).with_listener(None);
    setup.config.broker.connect_timeout = LIMIT;
    let daemon = setup.start();
    let mut good = Client::connect(tcp(&daemon, 2), "good");
    // Half a request, then silence. The same over TLS. Half a ClientHello.
    let mut half = tcp(&daemon, 0);
    half.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let mut half_over_tls = certificates.stream(tcp(&daemon, 1), None);
    half_over_tls.write_all(b"GET /").unwrap();
    let mut half_hello = tcp(&daemon, 1);
    half_hello.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]).unwrap();
    for stream in [&mut half, &mut half_hello, &mut half_over_tls.sock] {
        let address = stream.local_addr().unwrap().to_string();
        log::wait_for_line(&["handshake failed", &address, "no complete handshake within 400ms"]);
    }
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
    // Fragments without end and without content, and pings without end.
    let empty = frame(0, b"").repeat(500);
    for (first, flood) in [(frame(2, b""), empty), (Vec::new(), frame(PING, b"ping").repeat(500))] {
        let mut flooding = WebSocket::connect(tcp(&daemon, 0)).stream;
        flooding.write_all(&first).unwrap();
        let flooded = std::thread::spawn(move || until_cut_off(&mut flooding, &flood));
        while !flooded.is_finished() {
            good.ping();
        }
        assert!(flooded.join().unwrap() >= LIMIT / 2);
    }
}

#[test]
fn a_message_that_never_ends_is_a_stream_like_any_other() {
    let mut setup = Setup::new().with_websocket(None);
    setup.config.broker.max_packet_bytes = 10_000;
    let daemon = setup.start();
    let mut subscriber = connect(tcp(&daemon, 0), "subscriber");
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut endless = connect(tcp(&daemon, 0), "endless");
    endless.stream.stream.write_all(&frame(2, b"")).unwrap();
    for i in 0..2_000u16 {
        let packet = publish("t", &i.to_be_bytes(), QoS::AtMostOnce, 0);
        endless.stream.stream.write_all(&frame(0, &packet)).unwrap();
        assert_eq!(subscriber.message().payload, i.to_be_bytes());
    }
    // The limit is that of packets.
    let large = publish("t", &[0; 20_000], QoS::AtMostOnce, 0);
    endless.stream.stream.write_all(&frame(0, &large)).unwrap();
    assert_eq!(endless.end(), Some(ReasonCode::PacketTooLarge));
}

#[test]
fn unfinished_handshakes_count_as_connections_and_give_their_places_back() {
    let certificates = Certificates::new();
    let mut setup = Setup::new().with_websocket(Some(certificates.server(false)));
    setup.config.listener[0].max_connections = 10;
    setup.config.listener[0].connect_timeout = Some(Duration::from_millis(500));
    let daemon = setup.start();
    let silent: Vec<_> = (0..10).map(|_| tcp(&daemon, 0)).collect();
    let mut refused = tcp(&daemon, 0);
    let address = refused.local_addr().unwrap().to_string();
    log::wait_for_line(&["the listener is full", &address]);
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "cut off in time");
    }
    connect(certificates.stream(tcp(&daemon, 0), None), "after the flood").ping();
}
