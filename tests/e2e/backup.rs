//! Backup while it runs, restore elsewhere, and a state directory that moves: nothing waits for nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use moteway::mqtt::QoS;

use crate::harness::client::{Client, v5};
use crate::harness::gateway::{Gateway, binary};
use crate::harness::mosquitto::Mosquitto;
use crate::harness::{free_port, until};

fn upstream(port: u16) -> String {
    format!(
        "[[upstream]]\nname = \"cloud\"\nclient_id = \"box-cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         reconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         [[upstream.rule]]\nname = \"up\"\nfilter = \"up/#\"\n"
    )
}

fn moteway(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What reaches a cloud of these numbers: all, and in order. Messages may come twice.
fn expect_all(receiver: &mut Client, count: u32) {
    let mut next = 0;
    while next < count {
        let number: u32 = receiver.take().text().parse().unwrap();
        assert!(number <= next, "{number} comes before {next}");
        next = next.max(number + 1);
    }
}

fn point_to(gateway: &Gateway, from: u16, to: u16) {
    let text = fs::read_to_string(gateway.config()).unwrap();
    fs::write(gateway.config(), text.replace(&format!(":{from}\""), &format!(":{to}\""))).unwrap();
}

#[test]
fn a_backup_of_a_running_gateway_goes_on_elsewhere_with_nothing_lost_and_in_order() {
    let nowhere = free_port();
    let mut gateway = Gateway::start(&upstream(nowhere));
    let backup = gateway.dir().join("box.backup");
    let mut sensor = gateway.client(&v5("sensor"));
    sensor.publish_numbers("up/n", 0..300, QoS::AtLeastOnce);
    // More comes while it is made.
    let address = gateway.address();
    let more = std::thread::spawn(move || {
        Client::connect(address, &v5("more")).publish_numbers("up/other", 0..200, QoS::AtLeastOnce);
    });
    let ran = gateway.ask(&["backup", &backup.display().to_string()]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    assert!(said(&ran).contains("messages and 1 file"), "{}", said(&ran));
    more.join().unwrap();
    assert!(!gateway.state_dir().join("backup.db").exists(), "the copy was taken away");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = Command::new("tar").arg("tvf").arg(&backup).output().unwrap();
    assert!(said(&listed).contains("state/moteway.db"), "{}", said(&listed));

    // The box burns.
    gateway.kill();
    let restore = |more: &[&str]| {
        let backup = backup.display().to_string();
        moteway(&[&["restore", &backup], more].concat())
    };
    let ran = restore(&[]);
    assert_eq!(ran.status.code(), Some(1), "what is there is left alone: {}", said(&ran));
    let config = fs::read_to_string(gateway.config()).unwrap();
    fs::remove_dir_all(gateway.state_dir()).unwrap();
    fs::remove_file(gateway.config()).unwrap();
    let ran = restore(&[]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    assert_eq!(fs::read_to_string(gateway.config()).unwrap(), config);
    let cloud = Mosquitto::start();
    let mut receiver = cloud.client(&v5("receiver"));
    receiver.subscribe("up/n", QoS::AtLeastOnce);
    point_to(&gateway, nowhere, cloud.address().port());
    gateway.start_again();
    expect_all(&mut receiver, 300);
    // A gateway that runs is not written over.
    let ran = restore(&["--force"]);
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(said(&ran).contains("in use") || said(&ran).contains("another"), "{}", said(&ran));
    // One that is stopped can be copied too, and half a backup is refused.
    gateway.terminate();
    let second = gateway.dir().join("second.backup");
    let ran = gateway.ask(&["backup", &second.display().to_string()]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() / 2]).unwrap();
    let elsewhere = gateway.dir().join("elsewhere");
    let ran = moteway(&["restore", &second.display().to_string(), "--root", &elsewhere.display().to_string()]);
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    let there = elsewhere.join(gateway.state_dir().strip_prefix("/").unwrap()).join("moteway.db");
    assert!(!there.exists(), "half a store is none");
}

#[test]
fn a_state_directory_that_moved_goes_on_where_it_was() {
    let nowhere = free_port();
    let mut gateway = Gateway::start(&upstream(nowhere));
    let mut sensor = gateway.client(&v5("sensor"));
    sensor.publish_numbers("up/n", 0..100, QoS::AtLeastOnce);
    sensor.publish_numbers("up/n", 100..200, QoS::ExactlyOnce);
    gateway.kill();
    let (old, new) = (gateway.state_dir(), gateway.dir().join("moved"));
    fs::rename(&old, &new).unwrap();
    let text = fs::read_to_string(gateway.config()).unwrap();
    let shown = |path: &Path| format!("{path:?}");
    fs::write(gateway.config(), text.replace(&shown(&old), &shown(&new))).unwrap();
    let cloud = Mosquitto::start();
    let mut receiver = cloud.client(&v5("receiver"));
    receiver.subscribe("up/n", QoS::ExactlyOnce);
    point_to(&gateway, nowhere, cloud.address().port());
    gateway.start_again();
    expect_all(&mut receiver, 200);
    until("all is acknowledged", || gateway.process().text().contains("200 messages wait"));
}
