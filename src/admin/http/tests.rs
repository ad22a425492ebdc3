use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Ok(Parsed::Whole(request)) => request,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn status(text: &str) -> u16 {
    match parse(text.as_bytes()) {
        Err(fault) => fault.0,
        Ok(other) => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn a_request_is_understood_wherever_it_is_cut() {
    let text = "POST /api/x?a=1&b=%C3%A4+b&c HTTP/1.1\r\nhost: localhost:1\r\nContent-Type: application/json \r\n\
                AUTHORIZATION: Bearer x y\r\nOrigin:http://o\r\nContent-Length: 3\r\nX-Other: y\r\n\r\n{ }";
    for cut in 0..text.len() {
        assert_eq!(parse(&text.as_bytes()[..cut]), Ok(Parsed::Part), "{cut}");
    }
    let request = whole(text);
    assert_eq!((request.method, request.path.as_str()), (Method::Post, "/api/x"));
    assert_eq!((request.query("a"), request.query("b"), request.query("c")), (Some("1"), Some("ä b"), Some("")));
    assert_eq!((request.query("d"), request.host.as_deref()), (None, Some("localhost:1")));
    assert_eq!(request.authorization.as_deref(), Some("Bearer x y"));
    assert_eq!(request.content_type.as_deref(), Some("application/json"));
    assert_eq!((request.origin.as_deref(), request.body.as_slice()), (Some("http://o"), &b"{ }"[..]));
    assert_eq!(whole("GET / HTTP/1.0\r\n\r\n").host, None);
}

#[test]
fn what_is_no_request_is_told_so_with_its_status() {
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n", "y".repeat(MAX_HEAD_BYTES));
    let large = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    for (text, expected) in [
        ("\x16\x03\x01\x02", 400),
        ("\x10\x1a\x00\x04MQTT", 400),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /%zz?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (&large, 413),
        (&long, 431),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ] {
        assert_eq!(status(text), expected, "{text:?}");
    }
}

#[test]
fn an_answer_says_its_length_and_that_it_is_the_last() {
    let head = String::from_utf8(Response::error(401, "no \"way\"").head()).unwrap();
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}");
    let lines = ["Content-Length: 23", "Connection: close", "WWW-Authenticate: Bearer", "Cache-Control: no-store"];
    assert!(lines.iter().all(|line| head.split("\r\n").any(|found| found == *line)), "{head}");
    assert!(
        head.contains("Content-Security-Policy: default-src 'none'; frame-ancestors 'none'")
            && head.ends_with("\r\n\r\n")
    );
}

proptest! {
    #[test]
    fn random_bytes_are_no_request_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse(&bytes).ok();
        let framed = [&b"GET /?"[..], &bytes, b" HTTP/1.1\r\nHost: x\r\n", &bytes, b"\r\n\r\n"].concat();
        parse(&framed).ok();
    }
}
