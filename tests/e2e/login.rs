//! Logging in: with password files of both kinds, client certificates and tokens, and what a running gateway reads anew.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use moteway::mqtt::{Connect, Packet, ReasonCode, Version};
use nix::sys::signal::Signal;
use ring::hmac;

use crate::harness::certs::Certs;
use crate::harness::client::{Client, v5, v311};
use crate::harness::gateway::{Gateway, binary};
use crate::harness::tools::{self, MARK, messages};
use crate::harness::{free_port, peers};

const SECRET: &str = "a secret that is long enough for it";

/// Sets a password with mosquitto's tool.
fn mosquitto_passwd(file: &Path, more: &[&str], user: &str, password: &str) {
    let mut command = Command::new("mosquitto_passwd");
    command.args(more).arg("-b").arg(file).args([user, password]);
    assert!(command.status().unwrap().success());
}

/// Sets a password with ours.
fn moteway_passwd(file: &Path, user: &str, password: &str) {
    let mut command = Command::new(binary());
    let mut child = command.args(["passwd", "--create"]).arg(file).arg(user).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// A gateway whose one listener takes the passwords of the file that this makes.
fn with_passwords(make: impl FnOnce(&Path)) -> (Gateway, std::path::PathBuf) {
    let mut gateway = Gateway::prepare("box", "");
    let file = gateway.dir().join("passwords");
    make(&file);
    gateway.add(&format!("[auth]\npassword_file = {file:?}"));
    gateway.start_again();
    (gateway, file)
}

/// What a client is told that logs in so.
fn reason(at: SocketAddr, user: &str, password: &str) -> ReasonCode {
    let connect = Connect { username: Some(user), password: Some(password.as_bytes()), ..v5(user) };
    Client::dial(at, Version::V5).introduce(&connect)
}

/// Whether `mosquitto_pub` gets its message out.
fn publishes(at: SocketAddr, args: &[&str]) -> bool {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "localhost", "-p", &at.port().to_string(), "-q", "1", "-t", "t", "-m", "hello"]).args(args);
    command.output().unwrap().status.success()
}

#[test]
fn mosquitto_clients_log_in_with_the_passwords_of_both_tools_in_all_versions() {
    let (gateway, _) = with_passwords(|file| {
        mosquitto_passwd(file, &["-c"], "pbkdf2", "one word");
        mosquitto_passwd(file, &["-H", "sha512"], "sha512", "zwei wörter");
        moteway_passwd(file, "argon2id", "three");
    });
    let at = gateway.address();
    for version in ["31", "311", "5"] {
        for (user, password) in [("pbkdf2", "one word"), ("sha512", "zwei wörter"), ("argon2id", "three")] {
            let login = ["-V", version, "-u", user, "-P", password];
            let args = [&login[..], &["-t", "t", "-q", "1", "-C", "1"]].concat();
            let mut subscriber = tools::subscribe(at, "%p", &args);
            assert!(publishes(at, &login), "{user} in {version}");
            assert!(subscriber.wait().success());
            assert_eq!(messages(&subscriber), ["hello"], "{MARK}");
            let wrong = format!("{password} ");
            assert!(!publishes(at, &["-V", version, "-u", user, "-P", &wrong]), "{user} in {version}");
        }
        assert!(!publishes(at, &["-V", version]), "without a name");
    }
}

#[test]
fn refusals_say_as_much_as_the_standard_wants_and_no_more() {
    let (mut gateway, _) = with_passwords(|file| moteway_passwd(file, "ann", "secret"));
    let at = gateway.address();
    assert_eq!(reason(at, "ann", "wrong"), ReasonCode::BadUserNameOrPassword);
    assert_eq!(reason(at, "eve", "secret"), ReasonCode::BadUserNameOrPassword);
    assert_eq!(Client::dial(at, Version::V311).introduce(&v311("c")), ReasonCode::NotAuthorized);
    assert_eq!(reason(at, "ann", "secret"), ReasonCode::Success);
    let (_, log) = gateway.terminate();
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("log-in refused")).collect();
    assert_eq!(refused.len(), 3, "{log}");
    assert!(refused[0].contains("\\\"ann\\\"") || refused[0].contains("\"ann\""), "{log}");
    assert!(refused[0].contains("127.0.0.1:") && refused[0].contains("listener local"), "{log}");
    assert!(!log.contains("secret") && !log.contains("wrong\""), "{log}");
}

#[test]
fn sighup_takes_a_new_password_file_and_leaves_the_old_one_when_the_new_one_is_bad() {
    let (mut gateway, file) = with_passwords(|file| moteway_passwd(file, "ann", "first"));
    let at = gateway.address();
    let mut stays = gateway.client(&Connect { username: Some("ann"), password: Some(b"first"), ..v5("stays") });
    moteway_passwd(&file, "ann", "second");
    assert_eq!(reason(at, "ann", "first"), ReasonCode::Success, "nobody said so yet");
    gateway.process().signal(Signal::SIGHUP);
    gateway.process().says("read again");
    crate::harness::until("the new password is good", || reason(at, "ann", "second") == ReasonCode::Success);
    assert_eq!(reason(at, "ann", "first"), ReasonCode::BadUserNameOrPassword);

    fs::write(&file, "# nobody\n\nann:plain\n").unwrap();
    gateway.process().signal(Signal::SIGHUP);
    gateway.process().says("passwords:3: this is no hash");
    assert_eq!(reason(at, "ann", "second"), ReasonCode::Success);
    stays.ping();
}

#[test]
fn a_certificate_is_a_name_where_the_listener_takes_it_for_one() {
    let certs = Certs::new();
    let (by_name, by_uri) = (free_port(), free_port());
    let listener = |name: &str, port: u16, identity: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\n\
             tls = {{ cert = {:?}, key = {:?}, client_ca = {:?}, identity = \"{identity}\" }}\n",
            certs.server_cert(),
            certs.server_key(),
            certs.ca(),
        )
    };
    let mut gateway =
        Gateway::start(&format!("{}{}", listener("names", by_name, "cn"), listener("uris", by_uri, "san-uri")));
    let (cert, key) = certs.client();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (path(&certs.ca()), path(&cert), path(&key));
    let shown = ["--cafile", &ca, "--cert", &cert, "--key", &key];
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    assert!(publishes(at(by_name), &shown));
    assert!(publishes(at(by_name), &[&shown[..], &["-u", "root", "-P", "x"]].concat()), "the certificate counts");
    assert!(!publishes(at(by_name), &["--cafile", &ca]));
    assert!(!publishes(at(by_uri), &shown));
    gateway.process().says("its certificate has no alternative name");
}

#[test]
fn mosquitto_rr_gets_its_response_over_tls_with_a_client_certificate() {
    let (certs, port) = (Certs::new(), free_port());
    let _gateway = Gateway::start(&format!(
        "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:{port}\"\n\
         tls = {{ cert = {:?}, key = {:?}, client_ca = {:?} }}\n",
        certs.server_cert(),
        certs.server_key(),
        certs.ca(),
    ));
    let (cert, key) = certs.client();
    let (ca, cert, key) = (certs.ca().display().to_string(), cert.display().to_string(), key.display().to_string());
    let shown = ["--cafile", &ca, "--cert", &cert, "--key", &key, "-V", "5", "-q", "1"];
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let responder = ["-t", "request", "-C", "1"];
    let mut responder = tools::subscribe(at, "%R|%D|%p", &[&shown[..], &responder].concat());
    let request = ["-t", "request", "-e", "response", "-m", "now?", "-D", "publish", "correlation-data", "case-7"];
    let mut requester = tools::start("mosquitto_rr", at, &[&shown[..], &request].concat());
    assert!(responder.wait().success());
    assert_eq!(messages(&responder), ["response|case-7|now?"]);
    let answer = ["-t", "response", "-m", "noon", "-D", "publish", "correlation-data", "case-7"];
    tools::publish(at, &[&shown[..], &answer].concat());
    assert!(requester.wait().success());
    assert_eq!(requester.text(), "noon\n");
}

/// Signed with the shared secret by HS256.
fn token(payload: &str) -> String {
    let encode = Base64UrlUnpadded::encode_string;
    let message = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(payload.as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", encode(tag.as_ref()))
}

#[test]
fn paho_logs_in_with_a_token_until_it_is_over() {
    let mut gateway = Gateway::prepare("box", "");
    let file = gateway.dir().join("jwt.secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    gateway.add(&format!("[auth.jwt]\nsecret_file = {file:?}\naudience = \"box\"\nleeway = \"0s\""));
    gateway.start_again();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let lasting = token(r#"{"sub":"ann","aud":["box"],"exp":4102444800}"#);
    let short = token(&format!(r#"{{"sub":"ann","aud":"box","exp":{}}}"#, now.as_secs() + 4));
    let over = token(r#"{"sub":"ann","aud":"box","exp":1300819380}"#);
    let elsewhere = token(r#"{"sub":"ann","aud":"other","exp":4102444800}"#);
    let connect = Connect { username: Some(""), password: Some(short.as_bytes()), ..v5("short") };
    let mut client = gateway.client(&connect);
    peers::run_at(&gateway, "paho_token.py", &[&lasting, &short, &over, &elsewhere]);
    let end = client.receive().expect("a farewell");
    assert!(matches!(end.packet(), Packet::Disconnect(end) if end.reason == ReasonCode::NotAuthorized));
    client.expect_closed();
}

#[test]
fn local_traffic_does_not_wait_for_the_check_of_a_password() {
    // Checking it takes a large part of a second, and on a busy machine many of them.
    let slow = format!("ann:$7$1000000$c29tZXNhbHQ=${}==", "A".repeat(86));
    let (mut gateway, _) = with_passwords(|file| fs::write(file, slow).unwrap());
    gateway.kill();
    let text = fs::read_to_string(gateway.config()).unwrap();
    let open = text.replacen("name = \"local\"\n", "name = \"local\"\nallow_anonymous = true\n", 1);
    fs::write(gateway.config(), format!("{open}[broker]\nconnect_timeout = \"5min\"\n")).unwrap();
    gateway.start_again();
    let mut local = gateway.client(&v5("local"));
    let mut slow = Client::dial(gateway.address(), Version::V5);
    let connect = Connect { username: Some("ann"), password: Some(b"x"), ..v5("slow") };
    slow.send(&Packet::Connect(connect));
    for _ in 0..200 {
        local.ping();
    }
    slow.set_read_timeout(Duration::from_millis(1));
    assert!(slow.try_receive().is_err(), "it is not checked yet, and 200 pings are answered");
    slow.set_read_timeout(crate::harness::BOUND);
    let answer = slow.receive().expect("an answer");
    assert!(matches!(answer.packet(), Packet::ConnAck(ack) if ack.reason == ReasonCode::BadUserNameOrPassword));
}
