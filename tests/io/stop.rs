//! The end of a daemon, and the next beginning.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use moteway::config::{LinkKind, UdpLink};
use moteway::daemon::{self, DaemonError};
use moteway::mqtt::{Connect, ConnectProperties, Packet, QoS, ReasonCode};

use crate::client::{Client, hello};
use crate::setup::{Setup, any_port, tcp, wait_for};

#[test]
fn a_daemon_that_is_stopped_tells_its_clients_and_leaves_no_thread() {
    let before = threads();
    let setup = Setup::new()
        .with_listener(None)
        .with_link(LinkKind::Udp(UdpLink { bind: any_port(), ..UdpLink::default() }))
        .with_upstream("closed", "localhost", 1, None);
    let daemon = setup.start();
    let address = daemon.ready.listeners[0].1;
    // First, so that it is accepted when the others are answered.
    let mut mute = Client::new(tcp(&daemon, 0));
    let mut clients: Vec<_> = (0..10).map(|i| Client::connect(tcp(&daemon, 0), &format!("client-{i}"))).collect();
    let ours: BTreeSet<_> = threads().difference(&before).cloned().collect();
    assert!(ours.iter().any(|(_, name)| name == "store"), "{ours:?}");

    let stopping = Instant::now();
    let told = std::thread::spawn(move || {
        let told: Vec<_> = clients.iter_mut().map(Client::end).collect();
        assert_eq!(told, [Some(ReasonCode::ServerShuttingDown); 10]);
        assert_eq!(mute.end(), None, "it never said that it speaks MQTT 5.0");
    });
    daemon.stop().unwrap();
    told.join().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(1), "nothing was left to wait for");
    assert!(TcpStream::connect(address).is_err());
    wait_for("the end of all threads", || ours.is_disjoint(&threads()));
}

/// Number and name of each thread of this process that a daemon could have started.
fn threads() -> BTreeSet<(String, String)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let thread = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
        Some((task.file_name().into_string().ok()?, name))
    };
    let threads = tasks.filter_map(|task| thread(task.ok()?));
    threads.filter(|(_, name)| name.starts_with("moteway") || name == "store").collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let setup = Setup::new().with_listener(None);
    let away = Connect {
        clean_start: false,
        properties: ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() },
        ..hello("away")
    };
    let daemon = setup.start();
    let mut client = Client::try_connect(tcp(&daemon, 0), &away).unwrap();
    client.subscribe("kept", QoS::AtLeastOnce);
    client.leave();
    let mut publisher = Client::connect(tcp(&daemon, 0), "publisher");
    (0..50).for_each(|i: u8| publisher.publish("kept", &[i]));
    publisher.leave();
    daemon.stop().unwrap();

    let daemon = setup.start();
    let mut client = Client::new(tcp(&daemon, 0));
    client.send(&crate::client::encode(&Packet::Connect(away)));
    let answer = client.receive().unwrap();
    assert!(matches!(answer, Packet::ConnAck(ack) if ack.session_present), "{answer:?}");
    for i in 0..50 {
        assert_eq!(client.message().payload, [i]);
    }
    client.ping();
}

#[test]
fn a_taken_port_is_told_with_a_remedy() {
    let taken = TcpListener::bind(any_port()).unwrap();
    let mut setup = Setup::new().with_listener(None);
    setup.config.listener[0].bind = taken.local_addr().unwrap().into();
    let error = daemon::spawn(setup.config.clone()).unwrap_err();
    assert!(matches!(error, DaemonError::Bind { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("listener-0") && words.contains("ss -lnp"), "{words}");
}
