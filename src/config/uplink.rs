//! How an upstream is reached and whom we trust there: values of `[[upstream]]` with a form of their own.

use std::fmt;
use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use toml::de::DeValue;

use crate::config::url::split_port;
use crate::config::value::{Parsed, Wrong, show, string};

/// Between us and the upstream: what we ask to connect us.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: ProxyKind,
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    /// When it is not in a file.
    pub password: Option<String>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP, the method CONNECT.
    Http,
    /// RFC 1928.
    Socks5,
}

/// As it may be shown: without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// `http://[user[:password]@]host[:3128]`, or `socks5://...[:1080]`. What is wrong is told without the value, which may
/// hold a password.
pub(super) fn proxy(value: &DeValue<'_>) -> Parsed<Proxy> {
    const FORM: &str = "write \"http://user@host:3128\" or \"socks5://user@host:1080\"";
    let text = value.as_str().ok_or_else(|| Wrong::kind("the URL of a proxy", value, FORM))?;
    let (kind, rest) = match text.split_once("://") {
        Some(("http", rest)) => (ProxyKind::Http, rest),
        Some(("socks5" | "socks5h", rest)) => (ProxyKind::Socks5, rest),
        Some(_) => return Err(Wrong::new("this is no proxy that is known here", FORM)),
        None => return Err(Wrong::new("this is not the URL of a proxy", FORM)),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, authority) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (host, port) = split_port(authority).ok_or_else(|| Wrong::new("this is not the URL of a proxy", FORM))?;
    let port = match (port, kind) {
        (None, ProxyKind::Http) => 3128,
        (None, ProxyKind::Socks5) => 1080,
        (Some(port), _) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(Wrong::new("the proxy has a bad port", "write a port from 1 to 65535")),
        },
    };
    let (username, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => (None, None),
        Some((name, password)) => {
            let bad = || Wrong::new("a `%` in the log-in is not followed by two hexadecimal digits", "write %25");
            let name = percent_decoded(name).ok_or_else(bad)?;
            let password = percent_decoded(password).ok_or_else(bad)?;
            // RFC 1929 counts them in one octet.
            if name.is_empty() || name.len() > 255 || password.len() > 255 {
                return Err(Wrong::new("a user name of a proxy has 1 to 255 bytes, a password at most 255", FORM));
            }
            (Some(name), Some(password).filter(|password| !password.is_empty()))
        }
    };
    Ok(Proxy { kind, host: host.to_owned(), port, username, password })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The SHA-256 of a public key (SubjectPublicKeyInfo) that the upstream's certificate must have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", Base64::encode_string(&self.0))
    }
}

/// `sha256/` and the hash in base64, as in curl's `--pinnedpubkey` (there with two slashes).
pub(super) fn pin(value: &DeValue<'_>) -> Parsed<Pin> {
    let text = string(value)?;
    let coded = text.strip_prefix("sha256/").map(|rest| rest.trim_start_matches('/'));
    let mut hash = [0; 32];
    match coded.and_then(|coded| Base64::decode(coded, &mut hash).ok()) {
        Some([_, ..]) if coded.is_some_and(|coded| coded.len() == 44) => Ok(Pin(hash)),
        _ => Err(Wrong::new(
            format!("{} is not the hash of a public key", show(value)),
            "write \"sha256/\" and 44 characters of base64: `openssl x509 -in cert.pem -pubkey -noout | \
             openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`",
        )),
    }
}

/// A protocol for ALPN, RFC 7301.
pub(super) fn alpn(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    if text.is_empty() || text.len() > 255 {
        return Err(Wrong::new("the name of a protocol has 1 to 255 bytes", "write one such as \"mqtt\""));
    }
    Ok(text)
}

/// A network interface, as the kernel takes its name.
pub(super) fn interface(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    if text.is_empty() || text.len() > 15 || !text.chars().all(legal) {
        return Err(Wrong::new(
            format!("{} is not the name of a network interface", show(value)),
            "write one such as \"wwan0\"; `ip link` lists them",
        ));
    }
    Ok(text)
}

/// An address of this box.
pub(super) fn source_address(value: &DeValue<'_>) -> Parsed<IpAddr> {
    string(value)?.parse().map_err(|_| {
        Wrong::new(format!("{} is not an IP address", show(value)), "write one of this box, such as \"10.0.0.7\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    #[test]
    fn proxies_have_default_ports_and_a_log_in_that_is_never_shown() {
        let proxy = |url: &str| proxy(&text(url)).unwrap();
        let full = proxy("http://an%40n:s%3Acret@[::1]:8080/");
        assert_eq!((full.kind, full.host.as_str(), full.port), (ProxyKind::Http, "::1", 8080));
        assert_eq!((full.username.as_deref(), full.password.as_deref()), (Some("an@n"), Some("s:cret")));
        assert!(!format!("{full:?}").contains("cret"), "{full:?}");
        assert_eq!(format!("{:?}", proxy("http://p")), "http://p:3128");
        assert_eq!(format!("{:?}", proxy("socks5://u@p")), "socks5://p:1080");
        assert_eq!(proxy("socks5://u@p").password, None);
        for bad in ["p:1", "https://p", "http://", "http://u:%4@p", "http://@p", "http://p:0", "http://p/x"] {
            let wrong = super::proxy(&text(bad)).unwrap_err();
            assert!(!wrong.message.contains(bad) && !wrong.help.is_empty(), "{bad}: {wrong:?}");
        }
    }

    #[test]
    fn a_pin_is_a_hash_in_base64() {
        let coded = Base64::encode_string(&[7; 32]);
        assert_eq!(pin(&text(&format!("sha256/{coded}"))), Ok(Pin([7; 32])));
        assert_eq!(pin(&text(&format!("sha256//{coded}"))), Ok(Pin([7; 32])));
        assert_eq!(format!("{:?}", Pin([7; 32])), format!("sha256/{coded}"));
        for bad in [coded.as_str(), "sha256/", "sha256/AAAA", "sha1/AAAA"] {
            assert!(pin(&text(bad)).unwrap_err().help.contains("openssl"), "{bad}");
        }
    }

    #[test]
    fn interfaces_and_addresses_are_those_of_the_kernel() {
        assert_eq!(interface(&text("wwan0")), Ok("wwan0".to_owned()));
        assert!(interface(&text("a/b")).is_err() && interface(&text("")).is_err());
        assert!(interface(&text("sixteen-letters-")).is_err());
        assert_eq!(source_address(&text("::1")), Ok("::1".parse().unwrap()));
        assert!(source_address(&text("eth0")).is_err());
    }
}
