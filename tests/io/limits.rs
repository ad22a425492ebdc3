//! How many may come, how long they may take, and that each gives its place back.

use std::io::Write;
use std::time::{Duration, Instant};

use moteway::daemon::Running;
use moteway::mqtt::{Packet, ReasonCode};
use socket2::SockRef;

use crate::certificates::Certificates;
use crate::client::{Client, encode, hello};
use crate::log;
use crate::setup::{Setup, start, tcp, wait_for};

fn with_limits(listener: usize, broker: usize) -> Running {
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].max_connections = listener;
    setup.config.broker.max_connections = broker;
    setup.start()
}

/// `Output::Close` is not answered by `Input::Closed`: a place that only one of the two gave back would be lost in
/// some of these ways to leave, one that both gave back would let too many in.
#[test]
fn two_hundred_rounds_of_each_way_to_leave_cost_no_place() {
    let daemon = with_limits(20, 20);
    let mut stay: Vec<_> = (0..10).map(|i| Client::connect(tcp(&daemon, 0), &format!("stays-{i}"))).collect();
    for round in 0..200 {
        let mut guest = Client::connect(tcp(&daemon, 0), "guest");
        match round % 5 {
            0 => guest.leave(),
            1 => drop(guest),
            2 => SockRef::from(&guest.stream).set_linger(Some(Duration::ZERO)).unwrap(),
            3 => {
                guest.send(&encode(&Packet::Connect(hello("guest"))));
                assert_eq!(guest.end(), Some(ReasonCode::ProtocolError), "a second CONNECT");
            }
            _ => {
                Client::connect(tcp(&daemon, 0), "guest").ping();
                assert_eq!(guest.end(), Some(ReasonCode::SessionTakenOver));
            }
        }
    }
    stay.extend((10..20).map(|i| connect_when_free(&daemon, &format!("stays-{i}"))));
    assert_eq!(Client::new(tcp(&daemon, 0)).end(), None, "the one too many");
    stay.iter_mut().for_each(Client::ping);
}

#[test]
fn the_one_too_many_is_refused_with_words_and_a_free_place_is_given_again() {
    // The listener's limit holds in the shell, before any handshake; the one for all listeners in the engine.
    for (listener, broker, words) in [(20, 1000, "the listener is full"), (1000, 20, "too many connections")] {
        let daemon = with_limits(listener, broker);
        let mut clients: Vec<_> = (0..20).map(|i| Client::connect(tcp(&daemon, 0), &format!("c{i}"))).collect();
        for round in 0..30 {
            let mut refused = Client::new(tcp(&daemon, 0));
            assert_eq!(refused.end(), None);
            if round == 0 {
                log::wait_for_line(&[words, &refused.stream.local_addr().unwrap().to_string()]);
            }
        }
        clients.iter_mut().for_each(Client::ping);
        clients.swap_remove(7).leave();
        clients.push(connect_when_free(&daemon, "again"));
        assert_eq!(Client::new(tcp(&daemon, 0)).end(), None, "one place was free, not two");
        clients.iter_mut().for_each(Client::ping);
    }
}

/// A place is free again when its socket is closed, shortly after the client has seen the end.
fn connect_when_free(daemon: &Running, client_id: &str) -> Client {
    let mut connected = None;
    wait_for("a free place", || {
        connected = Client::try_connect(tcp(daemon, 0), &hello(client_id)).ok();
        connected.is_some()
    });
    connected.unwrap()
}

#[test]
fn who_does_not_say_in_time_who_it_is_is_cut_off() {
    const LIMIT: Duration = Duration::from_millis(400);
    let certificates = Certificates::new();
    let mut setup = Setup::new().with_listener(None).with_listener(Some(certificates.server(false)));
    setup.config.broker.connect_timeout = LIMIT;
    let daemon = setup.start();
    let connecting = Instant::now();
    let mut mute = Client::new(tcp(&daemon, 0));
    let mut mute_tls = Client::new(tcp(&daemon, 1));
    let mut half = Client::new(tcp(&daemon, 0));
    half.send(&encode(&Packet::Connect(hello("half a CONNECT")))[..10]);
    let mut drip = tcp(&daemon, 0);
    let mut in_time = Client::connect(tcp(&daemon, 0), "in time");
    let mut in_time_tls = Client::connect(certificates.stream(tcp(&daemon, 1), None), "in time, TLS");

    // A byte now and then does not buy time.
    let bytes = encode(&Packet::Connect(hello(&"x".repeat(5_000))));
    let mut bytes = bytes.iter();
    wait_for("the end of who drips", || drip.write_all(&[*bytes.next().unwrap()]).is_err());
    assert!(connecting.elapsed() >= LIMIT);
    assert_eq!((mute.end(), mute_tls.end(), half.end()), (None, None, None));
    in_time.ping();
    in_time_tls.ping();
    let address = mute_tls.stream.local_addr().unwrap().to_string();
    log::wait_for_line(&["TLS handshake failed", &address, "no complete handshake within 400ms"]);
}

#[test]
fn connections_that_end_in_every_way_leave_nothing_behind() {
    let (_setup, daemon) = start();
    for round in 0..20 {
        let mut clients: Vec<_> =
            (0..25).map(|i| Client::connect(tcp(&daemon, 0), &format!("client-{i}"))).collect();
        for (i, client) in clients.iter_mut().enumerate() {
            match (i + round) % 5 {
                0 => client.ping(),
                1 => client.send(&[0xC0, 0].repeat(10_000)),
                2 => client.send(&[0; 100]),
                3 => SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap(),
                _ => client.stream.shutdown(std::net::Shutdown::Write).unwrap(),
            }
        }
    }
    Client::connect(tcp(&daemon, 0), "last").ping();
    // Stopping waits for connections, so one that was forgotten would cost its limit.
    let stopping = Instant::now();
    daemon.stop().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(1), "a connection was left behind");
}
