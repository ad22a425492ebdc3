//! Listeners of each kind, each with its own limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use moteway::daemon;
use moteway::mqtt::{Packet, QoS, ReasonCode};

use crate::client::{Client, encode, hello, publish};
use crate::log;
use crate::setup::{PATIENCE, Setup, tcp};

pub fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_unix_socket_serves_beside_tcp_and_takes_its_file_with_it() {
    let (mut setup, path) = Setup::new().with_listener(None).with_socket();
    setup.config.listener[1].mode = 0o606;
    let daemon = setup.start();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o606);
    let mut local = Client::connect(unix(&path), "local");
    let mut remote = Client::connect(tcp(&daemon, 0), "remote");
    local.subscribe("t", QoS::AtLeastOnce);
    remote.publish("t", b"over TCP");
    assert_eq!(local.message().payload, b"over TCP");
    daemon.stop().unwrap();
    assert!(!path.exists(), "the file was left behind");
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced_and_one_that_answers_is_not() {
    let (setup, path) = Setup::new().with_socket();
    // Closed, and so refusing connections, but still there.
    drop(UnixListener::bind(&path).unwrap());
    let daemon = setup.start();
    Client::connect(unix(&path), "client").ping();

    let (mut second, _) = Setup::new().with_socket();
    second.config.listener[0].bind = setup.config.listener[0].bind.clone();
    let error = daemon::spawn(second.config.clone()).unwrap_err().to_string();
    assert!(error.contains("listener-0") && error.contains("another program answers there"), "{error}");
    Client::connect(unix(&path), "client").ping();
    daemon.stop().unwrap();

    fs::write(&path, "somebody's").unwrap();
    let error = daemon::spawn(setup.config.clone()).unwrap_err().to_string();
    assert!(error.contains("it is no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}

#[test]
fn a_socket_in_a_directory_that_is_not_there_is_told_with_a_remedy() {
    let (mut setup, path) = Setup::new().with_socket();
    setup.config.listener[0].bind = moteway::config::Bind::Unix(path.with_file_name("no/such/place"));
    let error = daemon::spawn(setup.config.clone()).unwrap_err().to_string();
    assert!(error.contains("its directory must be there"), "{error}");
}

#[test]
fn each_listener_has_its_own_packet_size_and_tells_it() {
    let mut setup = Setup::new().with_listener(None).with_listener(None);
    setup.config.broker.max_packet_bytes = 2_000;
    setup.config.listener[1].max_packet_bytes = Some(10_000);
    let daemon = setup.start();
    for (listener, max) in [(0, 2_000), (1, 10_000)] {
        let mut client = Client::new(tcp(&daemon, listener));
        client.send(&encode(&Packet::Connect(hello(&format!("client-{listener}")))));
        match client.receive().unwrap() {
            Packet::ConnAck(ack) => assert_eq!(ack.properties.maximum_packet_size, Some(max)),
            other => panic!("{other:?}"),
        }
        let packet_of = |size: usize| publish("t", &vec![7; size - 7], QoS::AtMostOnce, 0);
        let (fits, too_large) = (packet_of(max as usize), packet_of(max as usize + 1));
        assert_eq!((fits.len(), too_large.len()), (max as usize, max as usize + 1));
        client.send(&fits);
        client.ping();
        client.send(&too_large);
        assert_eq!(client.end(), Some(ReasonCode::PacketTooLarge));
    }
}

#[test]
fn each_listener_has_its_own_patience() {
    const SHORT: Duration = Duration::from_millis(200);
    let mut setup = Setup::new().with_listener(None).with_listener(None);
    setup.config.listener[1].connect_timeout = Some(SHORT);
    let daemon = setup.start();
    let mut patient = Client::new(tcp(&daemon, 0));
    let begin = Instant::now();
    let mut hasty = Client::new(tcp(&daemon, 1));
    assert_eq!(hasty.end(), None);
    assert!(begin.elapsed() >= SHORT);
    patient.send(&encode(&Packet::Connect(hello("took its time"))));
    assert!(matches!(patient.receive().unwrap(), Packet::ConnAck(_)));
}

#[test]
fn one_address_gets_its_share_of_a_listener_and_no_more() {
    let mut setup = Setup::new().with_listener(None).with_listener(None);
    setup.config.listener[0].max_connections_per_address = 3;
    let daemon = setup.start();
    let mut clients: Vec<_> = (0..3).map(|i| Client::connect(tcp(&daemon, 0), &format!("c{i}"))).collect();
    let mut refused = Client::new(tcp(&daemon, 0));
    assert_eq!(refused.end(), None);
    let address = refused.stream.local_addr().unwrap().to_string();
    log::wait_for_line(&["too many from one address", &address, "max_connections_per_address is 3"]);
    Client::connect(tcp(&daemon, 1), "elsewhere").ping();
    clients.iter_mut().for_each(Client::ping);
    clients.pop().unwrap().leave();
    crate::setup::wait_for("a free place", || Client::try_connect(tcp(&daemon, 0), &hello("again")).is_ok());
}
