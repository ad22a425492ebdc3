use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::admin::http::{Parsed, parse};
use crate::admin::{Desk, Orders, Token};
use crate::engine::drill::Disk;
use crate::queue::Looks;

fn office(token: bool, token_to_read: bool) -> Office {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let token = token.then(|| Token::read(Path::new(&path)).unwrap());
    Office {
        desk: Desk::open().0,
        orders: Orders::open().0,
        name: String::new(),
        log: None,
        token,
        token_to_read,
        disk: Disk { page_bytes: 2048, max_bytes: 1 << 20, log_bytes: 1 << 18 },
        looks: Arc::new(Looks::new(|| Err("there is no store".to_owned()))),
        replay: Default::default(),
        max_connections: 1,
    }
}

/// The status with which a request is refused, or 200.
fn ask(office: &Office, door: Door, right: Right, method: &str, fields: &[&str]) -> u16 {
    let text = format!("{method} / HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"));
    let Ok(Parsed::Whole(request)) = parse(text.as_bytes()) else { panic!("{text}") };
    check(office, door, right, &request).map_or_else(|fault| fault.0, |()| 200)
}

const HOST: &str = "Host: 127.0.0.1:1888";
const JSON: &str = "Content-Type: application/json; charset=utf-8";
const TOKEN: &str = "Authorization: Bearer 0123456789abcdef";

#[test]
fn reading_on_loopback_is_free_under_an_own_name_and_from_the_own_page() {
    let read = |fields: &[&str]| ask(&office(false, false), Door::Http, Right::Read, "GET", fields);
    for host in ["127.0.0.1:1888", "localhost:1888", "LOCALHOST", "[::1]:1888", "192.0.2.7"] {
        assert_eq!(read(&[&format!("Host: {host}")]), 200, "{host}");
    }
    for host in ["evil.example", "evil.example:1888", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
        assert_eq!(read(&[&format!("Host: {host}")]), 403, "{host}");
    }
    assert_eq!(read(&[HOST, "Origin: http://127.0.0.1:1888", "Sec-Fetch-Site: same-origin"]), 200);
    for origin in ["http://evil.example", "null", "https://127.0.0.1:1888", "http://127.0.0.1:80"] {
        assert_eq!(read(&[HOST, &format!("Origin: {origin}")]), 403, "{origin}");
    }
    assert_eq!(read(&[HOST, "Sec-Fetch-Site: cross-site"]), 403);
    assert_eq!(read(&[HOST, "Sec-Fetch-Site: same-site"]), 403);
}

#[test]
fn nothing_is_changed_over_tcp_without_the_token() {
    let change = |token, fields: &[&str]| ask(&office(token, false), Door::Http, Right::Change, "POST", fields);
    assert_eq!(change(false, &[HOST, JSON]), 403);
    assert_eq!(change(false, &[HOST, JSON, TOKEN]), 403);
    assert_eq!(change(true, &[HOST, JSON]), 401);
    assert_eq!(change(true, &[HOST, JSON, "Authorization: Bearer 0123456789abcdeg"]), 401);
    assert_eq!(change(true, &[HOST, JSON, "Authorization: Basic 0123456789abcdef"]), 401);
    assert_eq!(change(true, &[HOST, JSON, TOKEN]), 200);
    assert_eq!(change(true, &[HOST, JSON, TOKEN, "Origin: http://evil.example"]), 403);
    assert_eq!(change(true, &["Host: evil.example", JSON, TOKEN]), 403);
}

#[test]
fn a_form_changes_nothing_and_neither_does_a_link() {
    let office = office(true, false);
    let change = |door, method, fields: &[&str]| ask(&office, door, Right::Change, method, fields);
    for door in [Door::Http, Door::Socket] {
        assert_eq!(change(door, "GET", &[HOST, JSON, TOKEN]), 405);
        assert_eq!(change(door, "POST", &[HOST, TOKEN]), 415);
        assert_eq!(change(door, "POST", &[HOST, "Content-Type: text/plain", TOKEN]), 415);
    }
    assert_eq!(change(Door::Socket, "POST", &["Host: localhost", JSON]), 200);
}

#[test]
fn where_others_come_nothing_is_shown_without_the_token() {
    let office = office(true, true);
    let ask = |right, fields: &[&str]| ask(&office, Door::Http, right, "GET", fields);
    assert_eq!(ask(Right::Open, &[HOST]), 200);
    assert_eq!(ask(Right::Read, &[HOST]), 401);
    assert_eq!(ask(Right::Read, &[HOST, TOKEN]), 200);
}
