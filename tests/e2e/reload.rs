//! `SIGHUP`: the whole configuration, applied as a difference. Clients that it does not concern notice nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use moteway::mqtt::{Connect, QoS, ReasonCode, Version};
use nix::sys::signal::Signal;

use crate::harness::client::{Client, v5, v311};
use crate::harness::gateway::{Gateway, binary};
use crate::harness::mosquitto::Mosquitto;
use crate::harness::{free_port, until};

/// Replaces this in the configuration, which the gateway takes up; waits until it said `says`.
#[track_caller]
fn reload(gateway: &mut Gateway, from: &str, to: &str, says: &str) {
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(gateway.config(), text.replace(from, to)).unwrap();
    let said = |gateway: &mut Gateway| gateway.process().text().matches(says).count();
    let before = said(gateway);
    gateway.process().signal(Signal::SIGHUP);
    until(&format!("it says {says:?}"), || said(gateway) > before);
}

const UPSTREAM: &str = "[[upstream]]\nname = \"cloud\"\nclient_id = \"box-cloud\"\nreconnect_min = \"50ms\"\n\
    reconnect_max = \"200ms\"\n";
const RULE: &str = "[[upstream.rule]]\nname = \"up\"\nfilter = \"up/#\"\n";

#[test]
fn a_listener_comes_and_goes_and_only_its_own_clients_with_it() {
    let mut gateway = Gateway::start("");
    let (second, third) = (free_port(), free_port());
    let mut stays = gateway.client(&v5("stays"));
    assert_eq!(stays.subscribe("t/#", QoS::AtLeastOnce), ReasonCode::GrantedQoS1);
    let extra =
        format!("\n[[listener]]\nname = \"second\"\nbind = \"127.0.0.1:{second}\"\nallow_anonymous = true\n");
    reload(&mut gateway, "\n[log]", &format!("{extra}[log]"), "configuration reloaded: listener second added");

    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut guest = Client::connect(at(second), &v5("guest"));
    guest.publish("t/1", "one", QoS::AtLeastOnce);
    stays.expect("t/1", "one");
    // It moves: who used it has to go elsewhere, and is told so.
    let moved = ["second\"\nbind = \"127.0.0.1:", "second\"\nbind = \"0.0.0.0:"];
    let (from, to) = (format!("{}{second}", moved[0]), format!("{}{third}", moved[1]));
    reload(&mut gateway, &from, &to, "configuration reloaded: listener second changed");
    guest.expect_disconnect(ReasonCode::AdministrativeAction);
    assert!(TcpStream::connect(at(second)).is_err(), "nobody listens there any more");
    let mut guest = Client::connect(at(third), &v5("guest"));
    // From one address to all of them, at a port that is taken by the one that goes.
    let (from, to) = (format!("0.0.0.0:{third}"), format!("127.0.0.1:{third}"));
    reload(&mut gateway, &from, &to, "listener second changed");
    guest.expect_disconnect(ReasonCode::AdministrativeAction);
    reload(&mut gateway, &to, &from, "listener second changed");
    Client::connect(at(third), &v311("guest")).ping();

    let last = format!("\n[[listener]]\nname = \"second\"\nbind = \"0.0.0.0:{third}\"\nallow_anonymous = true\n");
    reload(&mut gateway, &last, "\n", "configuration reloaded: listener second removed");
    assert!(TcpStream::connect(at(third)).is_err(), "nobody listens there any more");
    stays.publish("t/2", "two", QoS::AtLeastOnce);
    stays.expect("t/2", "two");
}

#[test]
fn a_bad_file_changes_nothing_and_is_shown_with_line_and_caret() {
    let mut gateway = Gateway::start("");
    let mut client = gateway.client(&v5("c"));
    reload(&mut gateway, "[log]", "[broker]\nmax_sesions = 5\n[log]", "reload refused");
    gateway.process().says("max_sesions = 5");
    gateway.process().says("^^^");
    gateway.process().says("= help: ");
    reload(&mut gateway, "max_sesions = 5", "max_sessions = 5000", "configuration reloaded: [broker] changed");
    // `moteway reload` says the same to whoever asks, with the exit code of a bad configuration.
    let reload_by = |gateway: &Gateway, text: &str| {
        std::fs::write(gateway.config(), text).unwrap();
        let ran = gateway.ask(&["reload"]);
        (ran.status.code(), String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap())
    };
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    let (code, said) = reload_by(&gateway, &good.replace("max_sessions", "max_sesions"));
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("stays as it was: error: ") && said.contains("\n  | ^^^") && said.contains("= help: "),
        "{said}"
    );
    let (code, said) = reload_by(&gateway, &good.replace("max_sessions = 5000", "max_sessions = 6000"));
    assert_eq!((code, said.as_str()), (Some(0), "reloaded: [broker] changed\n"));
    reload_by(&gateway, &good);
    // What only a restart can change is named, and the rest of the file waits for it.
    reload(&mut gateway, "name = \"box\"", "name = \"other\"", "cannot change while the gateway runs");
    reload(&mut gateway, "name = \"other\"", "name = \"box\"", "nothing changed but what files hold");
    reload(
        &mut gateway,
        "[log]",
        "[store]\ndurability = \"crash\"\n[log]\nlevel = \"debug\"",
        "this needs a restart",
    );
    gateway.process().says("[log] changed");
    // A port that another program has: refused as a whole, and who listened still does.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("127.0.0.1:{}", gateway.port());
    reload(&mut gateway, &own, &taken.local_addr().unwrap().to_string(), "another program has it");
    client.ping();
    gateway.client(&v5("d")).ping();
}

#[test]
fn rules_of_access_change_for_clients_that_stay() {
    let mut gateway = Gateway::start("[[acl]]\npublish = \"#\"\nsubscribe = \"#\"\n");
    let mut reader = gateway.client(&v5("reader"));
    let mut writer = gateway.client(&v5("writer"));
    assert_eq!(reader.subscribe("#", QoS::AtLeastOnce), ReasonCode::GrantedQoS1);
    assert_eq!(writer.publish("secret/1", "1", QoS::AtLeastOnce), ReasonCode::Success);
    reader.expect("secret/1", "1");
    let less = "publish = \"#\"\nsubscribe = \"#\"\ndeny_read = \"secret/#\"\ndeny_publish = \"closed/#\"";
    reload(&mut gateway, "publish = \"#\"\nsubscribe = \"#\"", less, "configuration reloaded: [[acl]] changed");
    assert_eq!(writer.publish("closed/1", "1", QoS::AtLeastOnce), ReasonCode::NotAuthorized);
    writer.publish("secret/2", "2", QoS::AtLeastOnce);
    writer.publish("open/3", "3", QoS::AtLeastOnce);
    reader.expect("open/3", "3");
}

#[test]
fn an_upstream_is_dialled_anew_only_when_it_changed_and_its_queue_stays() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let url = |cloud: &Mosquitto| format!("url = \"mqtt://{}\"\n", cloud.address());
    let mut gateway = Gateway::start(&format!("{UPSTREAM}{}{RULE}", url(&first)));
    gateway.process().says("upstream connected");
    let (mut here, mut there) = (first.client(&v5("here")), second.client(&v5("there")));
    here.subscribe("#", QoS::AtLeastOnce);
    there.subscribe("#", QoS::AtLeastOnce);
    let mut sensor = gateway.client(&v5("sensor"));
    sensor.publish_numbers("up/n", 0..50, QoS::AtLeastOnce);
    here.expect_numbers("up/n", 0..50);

    // Limits of the queue: the connection goes on.
    reload(
        &mut gateway,
        "filter = \"up/#\"",
        "filter = \"up/#\"\nlimit = { messages = 5_000 }",
        "upstream cloud changed",
    );
    sensor.publish_numbers("up/n", 50..60, QoS::AtLeastOnce);
    here.expect_numbers("up/n", 50..60);
    assert!(!gateway.process().text().contains("upstream reconfigured"));
    // One more upstream; then none, while messages wait; then another place for them.
    let nowhere = format!("url = \"mqtt://127.0.0.1:{}\"\n", free_port());
    reload(&mut gateway, &url(&first), &nowhere, "upstream reconfigured");
    sensor.publish_numbers("up/n", 60..200, QoS::ExactlyOnce);
    let upstream = format!("{UPSTREAM}{nowhere}{RULE}limit = {{ messages = 5_000 }}");
    reload(&mut gateway, &upstream, "", "140 stored messages wait for a rule that is no longer configured");
    assert_eq!(sensor.publish("up/n", "to nobody", QoS::AtLeastOnce), ReasonCode::NoMatchingSubscribers);
    let back = format!("{UPSTREAM}{}{RULE}[log]", url(&second));
    reload(&mut gateway, "[log]", &back, "upstream cloud added");
    // What the first had and had not acknowledged may come too.
    let mut next = there.take();
    while next.text().parse::<u32>().unwrap() < 60 {
        next = there.take();
    }
    assert_eq!(next.text(), "60");
    there.expect_numbers("up/n", 61..200);
    sensor.publish_numbers("up/n", 200..210, QoS::AtLeastOnce);
    there.expect_numbers("up/n", 200..210);
}

#[test]
fn messages_pass_exactly_once_while_rules_come_and_go() {
    let cloud = Mosquitto::start();
    let mut gateway = Gateway::start(&format!("{UPSTREAM}url = \"mqtt://{}\"\n{RULE}", cloud.address()));
    let mut receiver = cloud.client(&v5("receiver"));
    receiver.subscribe("up/#", QoS::ExactlyOnce);
    let mut sensor = gateway.client(&v5("sensor"));
    let more = "[[upstream.rule]]\nname = \"more\"\nfilter = \"more/#\"\npriority = 9\n";
    for round in 0..10 {
        sensor.publish_numbers("up/n", round * 20..round * 20 + 10, QoS::ExactlyOnce);
        if round % 2 == 0 {
            reload(&mut gateway, RULE, &format!("{more}{RULE}"), "upstream cloud changed");
        } else {
            reload(&mut gateway, more, "", "upstream cloud changed");
        }
        sensor.publish_numbers("up/n", round * 20 + 10..round * 20 + 20, QoS::ExactlyOnce);
    }
    receiver.expect_numbers("up/n", 0..200);
}

#[test]
fn who_may_log_in_and_drop_ins_are_read_again() {
    let mut gateway = Gateway::start("");
    let mut anonymous = gateway.client(&v5("anonymous"));
    let drop_ins = gateway.dir().join("conf.d");
    std::fs::create_dir(&drop_ins).unwrap();
    let passwords = gateway.dir().join("passwords");
    let mut passwd = Command::new(binary());
    passwd.args(["passwd", "--create"]).arg(&passwords).arg("ada").stdin(Stdio::piped());
    let mut passwd = passwd.spawn().unwrap();
    writeln!(passwd.stdin.take().unwrap(), "secret").unwrap();
    assert!(passwd.wait().unwrap().success());
    let text =
        format!("[auth]\npassword_file = {passwords:?}\n[[listener]]\nname = \"local\"\nallow_anonymous = false\n");
    std::fs::write(drop_ins.join("login.toml"), text).unwrap();
    reload(&mut gateway, "[log]", "[log]", "configuration reloaded: [auth] changed, listener local changed");
    anonymous.ping();
    let refused = Client::dial(gateway.address(), Version::V5).introduce(&v5("another"));
    assert_eq!(refused, ReasonCode::NotAuthorized);
    let named = Connect { username: Some("ada"), password: Some(b"secret"), ..v5("another") };
    gateway.client(&named).ping();
}
