//! The address of an upstream: `mqtt://host[:1883]`, `mqtts://host[:8883]`, `ws://host[:80][/path]` or
//! `wss://host[:443][/path]`.

use std::fmt;
use std::net::Ipv6Addr;

use toml::de::DeValue;

use crate::config::schema::UpstreamUrl;
use crate::config::value::{Parsed, Wrong, show};

const FORM: &str = "write \"mqtt://host:1883\", or \"mqtts://host:8883\" for TLS";
/// Where MQTT is served over WebSocket, unless somebody says otherwise.
const WEBSOCKET_PATH: &str = "/mqtt";

/// An IPv6 host loses its brackets.
pub(super) fn url(value: &DeValue<'_>) -> Parsed<UpstreamUrl> {
    let wrong = |what: &str, help: &str| Wrong::new(format!("{} {what}", show(value)), help);
    let Some(text) = value.as_str() else { return Err(wrong("is not a URL", FORM)) };
    let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("has no scheme", FORM)) };
    let (tls, websocket) = match scheme {
        "mqtt" => (false, false),
        "mqtts" => (true, false),
        "ws" => (false, true),
        "wss" => (true, true),
        _ => {
            let instead = match scheme.to_ascii_lowercase().as_str() {
                "mqtts" | "ssl" | "tls" => "; here that is mqtts://",
                "mqtt" | "tcp" => "; here that is mqtt://",
                _ => "",
            };
            let help = format!("supported are mqtt://, mqtts:// (TLS), ws:// and wss:// (WebSocket){instead}");
            return Err(Wrong::new(format!("unsupported scheme `{}`", scheme.escape_debug()), help));
        }
    };
    if rest.contains('@') {
        return Err(Wrong::new(
            "a URL here holds no user name or password",
            "use the keys `username` and `password_file`",
        ));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) if websocket => rest.split_at(at),
        _ => (rest.strip_suffix('/').unwrap_or(rest), ""),
    };
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !path.bytes().all(legal) {
        return Err(wrong("has a path that is none", "use printable ASCII without blanks and `#`"));
    }
    let path = if path.is_empty() { WEBSOCKET_PATH } else { path };
    let (host, port) = split_port(authority).ok_or_else(|| wrong("is not a URL", FORM))?;
    let port = match port {
        None => default_port(tls, websocket),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(wrong("has a bad port", "write a port from 1 to 65535")),
        },
    };
    Ok(UpstreamUrl { tls, host: host.to_owned(), port, websocket: websocket.then(|| path.to_owned()) })
}

const fn default_port(tls: bool, websocket: bool) -> u16 {
    match (tls, websocket) {
        (false, false) => 1883,
        (true, false) => 8883,
        (false, true) => 80,
        (true, true) => 443,
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match after {
            "" => Some((host, None)),
            _ => Some((host, Some(after.strip_prefix(':')?))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(legal)).then_some((host, port))
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.tls, &self.websocket) {
            (false, None) => "mqtt",
            (true, None) => "mqtts",
            (false, Some(_)) => "ws",
            (true, Some(_)) => "wss",
        };
        let path = self.websocket.as_deref().unwrap_or_default();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}{path}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}{path}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parsed<UpstreamUrl> {
        url(&DeValue::String(text.into()))
    }

    #[test]
    fn urls_have_default_ports_and_come_back_in_full() {
        let good = [
            ("mqtt://a.example", "mqtt://a.example:1883"),
            ("mqtts://a.example/", "mqtts://a.example:8883"),
            ("mqtts://10.0.0.1:443", "mqtts://10.0.0.1:443"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://[::1]:18", "mqtt://[::1]:18"),
            ("ws://a.example", "ws://a.example:80/mqtt"),
            ("wss://a.example/", "wss://a.example:443/"),
            ("wss://[::1]:8443/$iothub/websocket?x=1", "wss://[::1]:8443/$iothub/websocket?x=1"),
        ];
        for (text, full) in good {
            assert_eq!(parse(text).map(|url| url.to_string()), Ok(full.to_owned()));
        }
        assert_eq!(parse("mqtt://[::1]").map(|url| url.host), Ok("::1".to_owned()));
    }

    #[test]
    fn bad_urls_say_what_to_write() {
        let bad = [
            ("a.example", "mqtt://host:1883"),
            ("http://a.example", "supported are mqtt://, mqtts://"),
            ("ws://a.example/a b", "printable ASCII"),
            ("ssl://a.example", "here that is mqtts://"),
            ("mqtt://u:p@a.example", "password_file"),
            ("mqtt://a.example:0", "1 to 65535"),
            ("mqtt://a.example:99999", "1 to 65535"),
            ("mqtt://", "mqtt://host:1883"),
            ("mqtt://[::1", "mqtt://host:1883"),
            ("mqtt://::1", "mqtt://host:1883"),
            ("mqtt://a.example/mqtt", "mqtt://host:1883"),
            ("mqtt://a b", "mqtt://host:1883"),
        ];
        for (text, remedy) in bad {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.help.contains(remedy), "{text}: {wrong:?}");
        }
    }
}
