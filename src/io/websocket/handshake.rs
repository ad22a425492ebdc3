//! The opening handshake, RFC 6455 section 4.2: one HTTP request, one answer.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Longest request. Browsers send cookies.
pub(super) const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What MQTT calls itself, [MQTT-6.0.0-3] and its older name; the first that the client offers is taken.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Why a request is refused: the answer, and words for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejection {
    status: &'static str,
    /// Further header lines, each with its end.
    headers: &'static str,
    pub(super) text: &'static str,
}

impl Rejection {
    const fn new(status: &'static str, text: &'static str) -> Self {
        Self { status, headers: "", text }
    }

    /// The whole answer.
    pub(super) fn answer(&self) -> Vec<u8> {
        let Self { status, headers, text } = self;
        let length = text.len() + 1;
        let fields = format!("Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n");
        format!("HTTP/1.1 {status}\r\n{headers}{fields}\r\n{text}\n").into_bytes()
    }
}

pub(super) const TOO_LONG: Rejection =
    Rejection::new("431 Request Header Fields Too Large", "the request is longer than 8 KiB");
const MALFORMED: Rejection = Rejection::new("400 Bad Request", "not an HTTP request");
const UPGRADE: Rejection = Rejection {
    status: "426 Upgrade Required",
    headers: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    text: "this port speaks MQTT over WebSocket, version 13",
};
const NO_KEY: Rejection = Rejection::new("400 Bad Request", "no usable Sec-WebSocket-Key");
const EAGER: Rejection = Rejection::new("400 Bad Request", "bytes after the request, before the answer");
const NO_MQTT: Rejection = Rejection::new("400 Bad Request", "the subprotocols offered are not mqtt");
const NOT_HERE: Rejection = Rejection::new("404 Not Found", "there is nothing at this path");

/// What a request says, as far as it matters.
#[derive(Default)]
struct Request<'r> {
    path: &'r str,
    upgrade: bool,
    connection_upgrade: bool,
    version_13: bool,
    key: Option<&'r str>,
    offers: bool,
    protocol: Option<&'static str>,
}

/// Answers a request once it is complete. What comes before `known` was looked at already. `path` is where clients are served; empty: anywhere. No `Origin` is refused:
/// who may come in is for MQTT to say, not for the page that a browser happens to show.
pub(super) fn answer(request: &[u8], known: usize, path: &str) -> Option<Result<Vec<u8>, Rejection>> {
    let from = known.saturating_sub(3);
    let end = request[from..].windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end.map(|end| from + end) else {
        // What is no text will not become HTTP.
        let garbage =
            request[known..].iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t'));
        return garbage.then_some(Err(MALFORMED));
    };
    let parsed = parse(&request[..end]);
    Some(match parsed {
        Ok(_) if request.len() > end + 4 => Err(EAGER),
        Ok(request) => accept(&request, path),
        Err(rejection) => Err(rejection),
    })
}

fn parse(head: &[u8]) -> Result<Request<'_>, Rejection> {
    let head = str::from_utf8(head).map_err(|_| MALFORMED)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(MALFORMED);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(MALFORMED);
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut request = Request { path, ..Request::default() };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        let value = value.trim();
        let has = |word: &str| tokens(value).any(|token| token.eq_ignore_ascii_case(word));
        match name.to_ascii_lowercase().as_str() {
            "upgrade" => request.upgrade |= has("websocket"),
            "connection" => request.connection_upgrade |= has("upgrade"),
            "sec-websocket-version" => request.version_13 |= value == "13",
            "sec-websocket-key" => request.key = Some(value),
            "sec-websocket-protocol" => {
                request.offers = true;
                let known = tokens(value).find_map(|token| PROTOCOLS.into_iter().find(|known| *known == token));
                request.protocol = request.protocol.or(known);
            }
            _ => {}
        }
    }
    if method != "GET" {
        return Err(UPGRADE);
    }
    Ok(request)
}

fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

fn accept(request: &Request<'_>, path: &str) -> Result<Vec<u8>, Rejection> {
    if !path.is_empty() && request.path != path {
        return Err(NOT_HERE);
    }
    if !(request.upgrade && request.connection_upgrade && request.version_13) {
        return Err(UPGRADE);
    }
    // 16 octets in base 64 [RFC 6455 4.2.1].
    let key = request.key.filter(|key| key.len() == 24 && key.ends_with("==")).ok_or(NO_KEY)?;
    // A client has to offer mqtt [MQTT-6.0.0-3]. One that offers nothing is let be; it would not know what to do with
    // a choice. One that wants to speak something else is told.
    if request.offers && request.protocol.is_none() {
        return Err(NO_MQTT);
    }
    // [MQTT-6.0.0-4]
    let protocol = request.protocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    let (accept, protocol) = (accept_key(key), protocol.unwrap_or_default());
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    Ok(format!("{upgrade}Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n").into_bytes())
}

/// Shows that the request was read, RFC 6455 section 4.2.2.
pub(super) fn accept_key(key: &str) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat()).as_ref())
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * i) & 63];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Protocol: mqtt\r\n\r\n";

    fn status(request: &str, path: &str) -> String {
        let answer = match answer(request.as_bytes(), 0, path).expect("a whole request") {
            Ok(answer) => answer,
            Err(rejection) => rejection.answer(),
        };
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn the_example_of_rfc_6455_is_answered_as_there() {
        let answer = status(GOOD, "");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        assert_eq!([base64(b"f"), base64(b"fo"), base64(b"foo")], ["Zg==", "Zm8=", "Zm9v"]);
    }

    #[test]
    fn no_prefix_of_a_request_is_answered() {
        for end in 1..GOOD.len() {
            assert_eq!(answer(&GOOD.as_bytes()[..end], end - 1, ""), None, "{end}");
        }
        assert!(answer(GOOD.as_bytes(), GOOD.len() - 1, "").is_some_and(|answer| answer.is_ok()));
    }

    #[test]
    fn the_first_subprotocol_of_mqtt_is_chosen_and_none_is_let_be() {
        for (offer, chosen) in [
            ("Sec-WebSocket-Protocol: x, mqttv3.1, mqtt\r\n", Some("mqttv3.1")),
            ("sec-websocket-protocol: x\r\nSEC-WEBSOCKET-PROTOCOL:mqtt\r\n", Some("mqtt")),
            ("", None),
        ] {
            let answer = status(&GOOD.replace("Sec-WebSocket-Protocol: mqtt\r\n", offer), "");
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            let told = answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!(told, chosen, "{offer}");
        }
    }

    #[test]
    fn what_is_no_handshake_gets_a_short_answer() {
        let cases = [
            ("GET /mqtt HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426"),
            (GOOD.replace("GET", "POST"), "426"),
            (GOOD.replace("websocket", "h2c"), "426"),
            (GOOD.replace("keep-alive, Upgrade", "close"), "426"),
            (GOOD.replace("Version: 13", "Version: 8"), "426"),
            (GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
            (GOOD.replace("Sec-WebSocket-Key", "X"), "400"),
            (GOOD.replace(": mqtt\r\n", ": chat\r\n"), "400"),
            (GOOD.replace("/mqtt ", "/other?a=/mqtt "), "404"),
            (GOOD.replace(" HTTP/1.1", ""), "400"),
            (GOOD.replace(" HTTP/1.1", " HTTP/2"), "400"),
            (GOOD.replace("Host: h", "no field"), "400"),
            (format!("{GOOD}early"), "400"),
        ];
        for (request, code) in cases {
            let answer = status(&request, "/mqtt");
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}\n{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
        assert_eq!(answer(b"\x16\x03\x01\x02\x00", 0, ""), Some(Err(MALFORMED)), "TLS on a plain port");
        let query = GOOD.replace("/mqtt ", "/mqtt?token=1 ");
        assert!(status(&query, "/mqtt").starts_with("HTTP/1.1 101 "));
    }
}
