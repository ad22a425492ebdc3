//! `moteway import`: a real mosquitto with the old configuration and a gateway with the new one behave alike.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use moteway::mqtt::{Connect, QoS};

use crate::harness::certs::Certs;
use crate::harness::client::{Client, v311};
use crate::harness::free_port;
use crate::harness::gateway::binary;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::process::Process;

/// One of the configurations in `tests/e2e/import`, with its places filled in.
fn conf(text: &str, dir: &Path, port: u16, more: &[(&str, &str)]) -> String {
    let text = text.replace("@DIR@", &dir.display().to_string()).replace("@PORT@", &port.to_string());
    more.iter().fold(text, |text, (place, value)| text.replace(place, value))
}

fn import(conf: &Path, output: Option<&Path>) -> Output {
    let mut command = Command::new(binary());
    command.arg("import").arg(conf);
    if let Some(output) = output {
        command.arg("--output").arg(output);
    }
    command.output().unwrap()
}

/// The broker with its own configuration, and the gateway with what was made of it, each on a port of its own.
fn both(dir: &Path, make: impl Fn(&Path, u16) -> String) -> [(Process, u16); 2] {
    [false, true].map(|is_ours| {
        let (port, file) = (free_port(), dir.join(if is_ours { "ours.conf" } else { "theirs.conf" }));
        let own = dir.join(if is_ours { "ours" } else { "theirs" });
        fs::create_dir_all(&own).unwrap();
        fs::write(&file, make(dir, port)).unwrap();
        let process = if is_ours {
            let config = dir.join("moteway.toml");
            let done = import(&file, Some(&config));
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(0), "{said}");
            let text = fs::read_to_string(&config).unwrap();
            let gateway =
                format!("[gateway]\nname = \"box\"\nstate_dir = {own:?}\n[admin]\nsocket = \"\"\nhttp = \"\"\n");
            fs::write(&config, format!("{gateway}{text}")).unwrap();
            let mut process = Process::start("moteway", Command::new(binary()).args(["run", "-c"]).arg(&config));
            process.says(" ready ");
            process
        } else {
            let mut process = Process::start("mosquitto", Command::new("mosquitto").arg("-c").arg(&file));
            process.says(" running");
            process
        };
        (process, port)
    })
}

fn login<'a>(client_id: &'a str, user: Option<(&'a str, &'a str)>) -> Connect<'a> {
    let (username, password) = user.map(|(user, password)| (user, password.as_bytes())).unzip();
    Connect { username, password, ..v311(client_id) }
}

/// Who gets what of everything that anybody publishes.
fn who_gets_what(port: u16) -> Vec<String> {
    let at = ([127, 0, 0, 1], port).into();
    let mut seen = Vec::new();
    for (user, password) in [("ada", "wrong"), ("eve", "ada's")] {
        let reason = Client::dial(at, moteway::mqtt::Version::V311).introduce(&login("x", Some((user, password))));
        seen.push(format!("{user} with {password}: refused {}", reason.is_error()));
    }
    let people = [("display", None), ("d1", Some(("ada", "ada's"))), ("d2", Some(("bob", "bob's")))];
    let mut readers = people.map(|(client_id, user)| {
        let mut reader = Client::connect(at, &login(client_id, user));
        assert!(!reader.subscribe("#", QoS::AtLeastOnce).is_error());
        (client_id, reader)
    });
    let topics = [
        "weather/today",
        "barn/door",
        "barn/1/temperature",
        "barn/secret/1",
        "device/d1/x",
        "device/d2/x",
        "device/w-d1/x",
        "user/ada/news",
        "user/bob/news",
        "elsewhere",
    ];
    for (client_id, user) in people {
        let name = format!("w-{client_id}");
        let mut writer = Client::connect(at, &login(&name, user));
        for topic in topics {
            writer.publish(topic, format!("of {client_id}"), QoS::AtLeastOnce);
        }
    }
    Client::connect(at, &login("last", None)).publish("end", "end", QoS::AtLeastOnce);
    for (client_id, reader) in &mut readers {
        loop {
            let delivery = reader.take();
            let (topic, text) = (delivery.topic.clone(), delivery.text().to_owned());
            if topic == "end" {
                break;
            }
            seen.push(format!("{client_id} gets {topic} {text}"));
        }
    }
    seen
}

#[test]
fn passwords_and_rules_let_the_same_clients_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let certs = Certs::new();
    for (from, to) in
        [(certs.ca(), "ca.pem"), (certs.server_cert(), "server.pem"), (certs.server_key(), "server.key")]
    {
        fs::copy(from, dir.path().join(to)).unwrap();
    }
    let passwords = dir.path().join("passwords");
    for (user, create) in [("ada", true), ("bob", false)] {
        let mut passwd = Command::new("mosquitto_passwd");
        passwd.args(create.then_some("-c")).arg("-b").arg(&passwords).args([user, &format!("{user}'s")]);
        assert!(passwd.status().unwrap().success());
    }
    fs::write(dir.path().join("acl"), include_str!("import/acl")).unwrap();
    let servers = both(dir.path(), |dir, port| {
        let tls = free_port().to_string();
        conf(include_str!("import/sensors.conf"), dir, port, &[("@TLSPORT@", &tls)])
    });
    let [theirs, ours] = servers.each_ref().map(|(_, port)| who_gets_what(*port));
    assert!(theirs.len() > 10, "{theirs:?}");
    assert_eq!(theirs, ours);
}

/// What passes a bridge, out and in.
fn what_passes(port: u16, cloud: &Mosquitto, ashore: &mut Client) -> Vec<String> {
    let mut local = Client::connect(([127, 0, 0, 1], port).into(), &v311("local"));
    let mut seen = Vec::new();
    local.subscribe("#", QoS::AtLeastOnce);
    let mut shore = cloud.client(&v311("shore"));
    for topic in ["command/engine/stop", "cabin/2/light", "cabin/2/other"] {
        shore.publish(&format!("fleet/boat-7/{topic}"), "in", QoS::AtLeastOnce);
    }
    shore.publish("world/weather", "in", QoS::AtLeastOnce);
    shore.publish("world/other", "in", QoS::AtLeastOnce);
    shore.publish("fleet/boat-7/command/end", "end", QoS::AtLeastOnce);
    loop {
        let delivery = local.take();
        if delivery.text() == "end" {
            break;
        }
        // Of its own links each says something else: mosquitto below $SYS.
        if !delivery.topic.starts_with("moteway/") {
            seen.push(format!("here {} {}", delivery.topic, delivery.text()));
        }
    }
    for topic in ["engine/1/rpm", "engine", "cabin/1/light", "cabin/1/other", "log/a/b", "log/a", "command/x"] {
        local.publish(topic, "out", QoS::AtLeastOnce);
    }
    local.publish("engine/end", "end", QoS::AtLeastOnce);
    loop {
        let delivery = ashore.take();
        if delivery.text() == "end" && delivery.topic == "fleet/boat-7/engine/end" {
            break;
        }
        if delivery.text() == "out" {
            seen.push(format!("ashore {} {}", delivery.topic, delivery.text()));
        }
    }
    seen.sort();
    seen
}

#[test]
fn bridges_carry_the_same_topics_under_the_same_names() {
    let dir = tempfile::tempdir().unwrap();
    let seen = [0, 1].map(|which| {
        let cloud = Mosquitto::start();
        let mut ashore = cloud.client(&v311("ashore"));
        ashore.subscribe("#", QoS::AtLeastOnce);
        let at = cloud.address().to_string();
        let dir = dir.path().join(which.to_string());
        fs::create_dir(&dir).unwrap();
        let servers = both(&dir, |dir, port| {
            // The other one has nobody to talk to.
            let is_idle = usize::from(dir.join("theirs.conf").exists()) != which;
            let cloud = if is_idle { "127.0.0.1:1" } else { &at };
            conf(include_str!("import/bridge.conf"), dir, port, &[("@CLOUD@", cloud)])
        });
        crate::harness::until("the bridge has subscribed", || cloud.log().contains("fleet/boat-7/command/#"));
        what_passes(servers[which].1, &cloud, &mut ashore)
    });
    assert!(seen[0].len() >= 6, "{seen:?}");
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn what_cannot_be_carried_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let included = dir.path().join("conf.d");
    fs::create_dir(&included).unwrap();
    let secret = "connection c\naddress a.example.com:8883\nbridge_cafile /etc/ca.pem\nbridge_insecure true\n\
                  remote_username u\nremote_password hush\ntopic # out\n";
    fs::write(included.join("bridge.conf"), secret).unwrap();
    let file = dir.path().join("hub.conf");
    fs::write(&file, conf(include_str!("import/hub.conf"), dir.path(), 0, &[])).unwrap();
    let done = import(&file, None);
    let (said, toml) = (String::from_utf8(done.stderr).unwrap(), String::from_utf8(done.stdout).unwrap());
    assert_eq!(done.status.code(), Some(1), "{said}");
    for (line, words) in [
        ("hub.conf:3\n", "mount_point upstairs/"),
        ("hub.conf:4\n", "use_username_as_clientid true"),
        ("hub.conf:12\n", "ciphers HIGH"),
        ("hub.conf:13\n", "psk_file /etc/psk"),
        ("hub.conf:17\n", "plugin /usr/lib/auth.so"),
        ("bridge.conf:4\n", "bridge_insecure true"),
        ("bridge.conf:6\n", "remote_password ..."),
    ] {
        let place = said.find(line).unwrap_or_else(|| panic!("{line} is not in {said}"));
        assert!(said[..place].contains(&format!("not carried over: {words}\n")), "{words}: {said}");
    }
    assert!(!said.contains("hush") && !toml.contains("hush"));
    for line in [
        "bind = \"[::]:1883\"",
        "tls = { cert = \"/etc/server.pem\", key = \"/etc/server.key\", client_ca = \"/etc/ca.pem\", crl = [\"/etc/revoked.pem\"] }",
        "login = [\"certificate\"]",
        "protocol = \"websocket\"",
        "url = [\"mqtts://a.example.com:8883\"]",
    ] {
        assert!(toml.contains(&format!("{line}\n")), "{line} is not in {toml}");
    }
    // With a file to write to, the secret gets one of its own.
    let output = dir.path().join("moteway.toml");
    assert_eq!(import(&file, Some(&output)).status.code(), Some(1));
    assert_eq!(fs::read_to_string(dir.path().join("c.password")).unwrap(), "hush\n");
    assert_eq!(import(&file, Some(&output)).status.code(), Some(1), "nothing is overwritten");
    assert_eq!(import(&dir.path().join("none.conf"), None).status.code(), Some(78));
}
