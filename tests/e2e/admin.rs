//! The control socket and the status page: what they show, who may do what, and that nobody suffers from them.

mod doors;
mod page;
mod radios;
mod status;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::BOUND;

/// Sends bytes and reads until the other side closes.
fn exchange(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    // It may have been refused before all was sent.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(at: SocketAddr, path: &str) -> String {
    exchange(at, format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes())
}

/// The body of a good answer.
#[track_caller]
pub(crate) fn body(at: SocketAddr, path: &str) -> String {
    let answer = get(at, path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{answer}");
    body.to_owned()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
