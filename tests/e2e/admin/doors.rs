//! Who comes in, and what happens to the broker when everybody tries.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;

use crate::admin::{exchange, get, text};
use crate::harness::client::v5;
use crate::harness::gateway::Gateway;

#[test]
fn the_log_level_changes_while_it_runs() {
    let gateway = Gateway::start("");
    let ran = gateway.ask(&["log-level"]);
    assert_eq!((text(&ran.stdout), ran.status.code()), ("info\n", Some(0)), "{}", text(&ran.stderr));
    let ran = gateway.ask(&["log-level", "debug", "--json"]);
    assert_eq!((text(&ran.stdout), ran.status.code()), ("{\"level\":\"debug\"}\n", Some(0)));
    assert_eq!(text(&gateway.ask(&["log-level"]).stdout), "debug\n");
    let log = get(gateway.http(), "/api/log");
    assert!(log.contains("log level changed level=\\\"debug\\\""), "{log}");
}

#[test]
fn a_command_says_when_there_is_no_gateway_or_no_permission() {
    let mut gateway = Gateway::start("");
    let socket = fs::metadata(gateway.socket()).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let (status, said) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!gateway.socket().exists(), "it goes with the gateway");
    let ran = gateway.ask(&["log-level"]);
    assert_eq!(ran.status.code(), Some(69));
    assert!(text(&ran.stderr).contains("the gateway does not run"), "{}", text(&ran.stderr));
}

#[test]
fn nothing_is_changed_over_http_without_the_token_or_from_another_site() {
    let mut gateway = Gateway::prepare_admin("box", "", "");
    let token = gateway.dir().join("token");
    fs::write(&token, "a-token-of-some-length\n").unwrap();
    let config = fs::read_to_string(gateway.config()).unwrap();
    fs::write(gateway.config(), config.replace("[admin]\n", &format!("[admin]\ntoken_file = {token:?}\n")))
        .unwrap();
    gateway.start_again();
    let at = gateway.http();
    let post = |fields: &str| {
        let body = "{\"level\":\"debug\"}";
        let length = body.len();
        exchange(
            at,
            format!("POST /api/log/level HTTP/1.1\r\nContent-Length: {length}\r\n{fields}\r\n\r\n{body}")
                .as_bytes(),
        )
    };
    let json = "Content-Type: application/json";
    let token = "Authorization: Bearer a-token-of-some-length";
    let host = format!("Host: {at}");
    for (fields, status) in [
        (format!("{host}\r\n{json}"), "401"),
        (format!("{host}\r\n{json}\r\nAuthorization: Bearer wrong"), "401"),
        (format!("{host}\r\n{token}\r\nContent-Type: text/plain"), "415"),
        (format!("Host: rebound.example\r\n{json}\r\n{token}"), "403"),
        (format!("{host}\r\n{json}\r\n{token}\r\nOrigin: http://other.example"), "403"),
        (format!("{host}\r\n{json}\r\n{token}\r\nSec-Fetch-Site: cross-site"), "403"),
    ] {
        let answer = post(&fields);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
        assert_eq!(text(&gateway.ask(&["log-level"]).stdout), "info\n", "{fields}");
    }
    assert!(post(&format!("{host}\r\n{json}\r\n{token}")).starts_with("HTTP/1.1 200 "));
    assert_eq!(text(&gateway.ask(&["log-level"]).stdout), "debug\n");
    let log = get(at, "/api/log");
    assert!(log.contains("debug") && !log.contains("a-token"), "{log}");
}

/// A thousand on each door that say nothing, rubbish, or half a request, and some that do not read their answer.
#[test]
fn a_thousand_on_both_doors_cost_the_broker_nothing_and_keep_nobody_out() {
    let mut gateway = Gateway::start("");
    let (at, path) = (gateway.http(), gateway.socket());
    let before = gateway.rss();
    let says = [
        &b""[..],
        b"GET /healthz HTTP/1.1\r\nHost: loc",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        b"POST /api/log/level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{",
        &[0xFF; 20_000],
    ];
    let mut tcp = Vec::new();
    let mut unix = Vec::new();
    let mut client = gateway.client(&v5("c"));
    client.subscribe("t", QoS::AtLeastOnce);
    let mut slowest = Duration::ZERO;
    for number in 0..1_000 {
        let words = says[number % says.len()];
        // It may be refused while it speaks.
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(words).ok();
        tcp.push(stream);
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(words).ok();
        unix.push(stream);
        if number % 50 == 0 {
            let begin = Instant::now();
            client.publish("t", b"x", QoS::AtLeastOnce);
            client.expect("t", "x");
            slowest = slowest.max(begin.elapsed());
            // Who comes now is served although a thousand are there before.
            assert!(get(at, "/healthz").starts_with("HTTP/1.1 200 OK"));
            assert_eq!(text(&gateway.ask(&["log-level"]).stdout), "info\n");
        }
    }
    println!("slowest round trip {slowest:?}, RSS {before} to {}", gateway.rss());
    assert!(gateway.rss() < before + (8 << 20), "RSS {before} to {}", gateway.rss());
    let files = fs::read_dir(format!("/proc/{}/fd", gateway.process().pid())).unwrap().count();
    assert!(files < 150, "{files} files are open");
}
