//! Bytes of clients: in pieces, in bulk, in order, and from peers that do not take theirs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use moteway::mqtt::{Connect, Packet, QoS, ReasonCode};

use crate::certificates::Certificates;
use crate::client::{Client, encode, hello, publish, subscribe};
use crate::setup::{Setup, patient, start, tcp, tcp_with_little_room};

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

#[test]
fn thousands_of_small_packets_arrive_in_order_however_they_are_cut() {
    const COUNT: u16 = 5_000;
    let mut setup = Setup::new().with_listener(None);
    setup.config.broker.receive_maximum = COUNT;
    let daemon = setup.start();
    let mut subscriber = Client::connect(tcp(&daemon, 0), "subscriber");
    subscriber.subscribe("n/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(tcp(&daemon, 0), "publisher");
    let mut writer = publisher.stream.try_clone().unwrap();
    let packets: Vec<u8> = (1..=COUNT)
        .flat_map(|i| publish(&format!("n/{}", i % 3), i.to_string().as_bytes(), QoS::AtLeastOnce, i))
        .collect();
    let writing = std::thread::spawn(move || packets.chunks(7).for_each(|piece| writer.write_all(piece).unwrap()));
    let acknowledged = std::thread::spawn(move || {
        for i in 1..=COUNT {
            let answer = publisher.receive().unwrap();
            assert!(matches!(answer, Packet::PubAck(ack) if ack.pkid == i), "{answer:?} is not for {i}");
        }
    });
    for i in 1..=COUNT {
        let message = subscriber.message();
        assert_eq!((message.topic, message.payload), (format!("n/{}", i % 3), i.to_string().into_bytes()));
    }
    writing.join().unwrap();
    acknowledged.join().unwrap();
}

#[test]
fn packets_that_come_byte_by_byte_are_packets() {
    let (_setup, daemon) = start();
    let mut client = Client::new(tcp(&daemon, 0));
    let bytes = [
        encode(&Packet::Connect(hello("slow typist"))),
        subscribe("a", QoS::AtLeastOnce),
        publish("a", b"one", QoS::AtMostOnce, 0),
        publish("a", b"two", QoS::AtLeastOnce, 2),
        PINGREQ.to_vec(),
    ];
    for byte in bytes.concat() {
        client.send(&[byte]);
    }
    assert!(matches!(client.receive().unwrap(), Packet::ConnAck(_)));
    assert!(matches!(client.receive().unwrap(), Packet::SubAck(_)));
    let mut rest = Vec::new();
    for _ in 0..4 {
        rest.push(match client.receive().unwrap() {
            Packet::Publish(publish) => format!("message {}", String::from_utf8_lossy(publish.payload)),
            Packet::PubAck(ack) => format!("acknowledged {}", ack.pkid),
            other => format!("{other:?}"),
        });
    }
    rest.sort_unstable();
    assert_eq!(rest, ["PingResp", "acknowledged 2", "message one", "message two"]);
}

#[test]
fn a_client_that_does_not_take_its_answers_is_not_read_and_blocks_nobody() {
    let mut setup = Setup::new().with_listener(None);
    setup.config.broker.max_outbox_bytes = 50_000;
    let daemon = setup.start();
    let mut slow = Client::connect(tcp_with_little_room(&daemon), "slow");
    slow.stream.set_nonblocking(true).unwrap();
    let pings = PINGREQ.repeat(5_000);
    let mut sent = 0;
    // Full when the kernel takes nothing for a while: the daemon has stopped reading.
    let mut full_since = Instant::now();
    while full_since.elapsed() < Duration::from_millis(300) {
        match slow.stream.write(&pings[sent % 2..]) {
            Ok(count) => {
                sent += count;
                full_since = Instant::now();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(sent < 100_000_000, "the daemon takes without end");
    }
    let mut other = Client::connect(tcp(&daemon, 0), "other");
    other.subscribe("t", QoS::AtMostOnce);
    other.send(&publish("t", b"served meanwhile", QoS::AtMostOnce, 0));
    assert_eq!(other.message().payload, b"served meanwhile");

    slow.stream.set_nonblocking(false).unwrap();
    let mut answers = vec![0; sent / 2 * 2];
    slow.stream.read_exact(&mut answers).unwrap();
    assert!(answers.chunks(2).all(|answer| answer == PINGRESP));
    slow.send(&PINGREQ[sent % 2..]);
    if sent % 2 == 1 {
        assert_eq!(slow.receive().unwrap(), Packet::PingResp);
        slow.ping();
    } else {
        assert_eq!(slow.receive().unwrap(), Packet::PingResp);
    }
}

#[test]
fn a_slow_subscriber_loses_qos_0_only_and_costs_the_others_nothing() {
    const BURSTS: usize = 60;
    const PER_BURST: usize = 50;
    let (_setup, daemon) = start();
    let mut slow = Client::connect(tcp_with_little_room(&daemon), "slow");
    let mut fast = Client::connect(tcp(&daemon, 0), "fast");
    slow.subscribe("t/#", QoS::AtLeastOnce);
    fast.subscribe("t/#", QoS::AtLeastOnce);
    let mut publisher = Client::connect(tcp(&daemon, 0), "publisher");
    let mut payload = vec![b'.'; 10_000];
    for burst in 0..BURSTS {
        for i in 0..PER_BURST {
            let number = u32::try_from(burst * PER_BURST + i).unwrap();
            payload[..4].copy_from_slice(&number.to_be_bytes());
            publisher.send(&publish("t/qos0", &payload, QoS::AtMostOnce, 0));
        }
        // No more than what a client that does read may have waiting.
        for i in 0..PER_BURST {
            let number = u32::try_from(burst * PER_BURST + i).unwrap();
            assert_eq!(fast.message().payload[..4], number.to_be_bytes());
        }
    }
    publisher.publish("t/qos1", b"the last");
    assert_eq!(fast.message().payload, b"the last");

    let mut numbers = Vec::new();
    loop {
        let message = slow.message();
        if message.topic == "t/qos1" {
            break;
        }
        numbers.push(u32::from_be_bytes(message.payload[..4].try_into().unwrap()));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "what came, came in order");
    assert!((1..BURSTS * PER_BURST).contains(&numbers.len()), "{} messages came", numbers.len());
}

#[test]
fn a_busy_client_leaves_room_for_others() {
    let (_setup, daemon) = start();
    let busy = Client::connect(tcp(&daemon, 0), "busy").stream;
    let (mut to, mut from) = (busy.try_clone().unwrap(), busy.try_clone().unwrap());
    let writing = std::thread::spawn(move || while to.write_all(&PINGREQ.repeat(30_000)).is_ok() {});
    let reading = std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while from.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    let mut quiet = Client::connect(tcp(&daemon, 0), "quiet");
    (0..20).for_each(|_| quiet.ping());
    busy.shutdown(Shutdown::Both).unwrap();
    writing.join().unwrap();
    reading.join().unwrap();
}

#[test]
fn the_last_words_to_a_client_arrive_even_if_it_had_more_to_say() {
    let (_setup, daemon) = start();
    let mut client = Client::connect(tcp(&daemon, 0), "talker");
    // A packet type that a server sends, and then a lot that nobody reads.
    client.send(&PINGRESP);
    let mut rest = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || (0..100).all(|_| rest.write_all(&[0; 1000]).is_ok()));
    assert_eq!(client.end(), Some(ReasonCode::ProtocolError));
    drop(client);
    writing.join().unwrap();
}

#[test]
fn a_client_that_closed_its_side_still_gets_its_answers() {
    let (_setup, daemon) = start();
    let mut client = Client::connect(tcp(&daemon, 0), "half");
    client.send(&PINGREQ.repeat(1_000));
    client.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..1_000 {
        assert_eq!(client.receive().unwrap(), Packet::PingResp);
    }
    assert_eq!(client.end(), None);
}

#[test]
fn the_largest_packet_goes_through_over_tcp_and_tls_and_one_byte_more_does_not() {
    let certificates = Certificates::new();
    let setup = Setup::new().with_listener(None).with_listener(Some(certificates.server(false)));
    let daemon = setup.start();
    let max = setup.config.broker.max_packet_bytes as usize;
    let mut plain = Client::connect(tcp(&daemon, 0), "plain");
    let mut tls = Client::connect(certificates.stream(tcp(&daemon, 1), None), "tls");
    plain.subscribe("big", QoS::AtLeastOnce);
    tls.subscribe("big", QoS::AtMostOnce);
    let around = publish("big", &[0; 100_000], QoS::AtLeastOnce, 1).len() - 100_000;
    let payload: Vec<u8> = (0..=250).cycle().take(max - around).collect();
    let packet = publish("big", &payload, QoS::AtLeastOnce, 1);
    assert_eq!(packet.len(), max);

    let mut publisher = Client::connect(certificates.stream(tcp(&daemon, 1), None), "publisher");
    publisher.send(&packet);
    assert!(matches!(publisher.receive().unwrap(), Packet::PubAck(_)));
    assert!(plain.message().payload == payload, "not what was sent, over TCP");
    assert!(tls.message().payload == payload, "not what was sent, over TLS");

    let longer = [&payload[..], b"!"].concat();
    publisher.send(&publish("big", &longer, QoS::AtLeastOnce, 2));
    assert_eq!(publisher.end(), Some(ReasonCode::PacketTooLarge));
    plain.ping();
    tls.ping();
}

#[test]
fn a_message_reaches_many_subscribers() {
    let (_setup, daemon) = start();
    let mut subscribers: Vec<_> =
        (0..200).map(|i| Client::connect(tcp(&daemon, 0), &format!("subscriber-{i}"))).collect();
    for (i, subscriber) in subscribers.iter_mut().enumerate() {
        subscriber.subscribe("all/+", if i % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce });
    }
    let mut publisher = Client::connect(tcp(&daemon, 0), "publisher");
    for round in 0..10 {
        publisher.publish("all/here", format!("round {round}").as_bytes());
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.message().payload, format!("round {round}").into_bytes());
        }
    }
}

#[test]
fn a_client_that_keeps_silent_is_told_so_and_not_before_its_time() {
    let (_setup, daemon) = start();
    let connecting = Instant::now();
    let hello = Connect { keep_alive: 1, ..hello("silent") };
    let mut client = Client::try_connect(tcp(&daemon, 0), &hello).unwrap();
    assert_eq!(client.end(), Some(ReasonCode::KeepAliveTimeout));
    assert!(connecting.elapsed() >= Duration::from_millis(1_500), "one and a half keep-alives");
}

#[test]
fn an_ipv6_wildcard_serves_ipv4_as_well() {
    if !Path::new("/proc/net/if_inet6").exists() {
        return;
    }
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].bind = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into();
    let daemon = setup.start();
    let port = daemon.ready.listeners[0].1.port();
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        Client::connect(patient(TcpStream::connect(address).unwrap()), "client").ping();
    }
}
