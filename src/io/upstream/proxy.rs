//! Through a proxy: HTTP CONNECT, RFC 9110 section 9.3.6, and SOCKS5, RFC 1928 and RFC 1929. The proxy looks the name of
//! the upstream up: a box behind one often cannot.

use std::io;
use std::net::IpAddr;

use base64ct::{Base64, Encoding};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::{Proxy, ProxyKind};
use crate::io::http::{self, invalid};

/// Who we are to the proxy.
pub(super) struct Login<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a [u8],
}

/// Asks the proxy at the other end of `stream` for a connection to `host`.
///
/// # Errors
/// If it refuses, or does not speak its protocol.
pub(super) async fn connect<S>(
    stream: &mut S,
    proxy: &Proxy,
    login: Option<Login<'_>>,
    host: &str,
    port: u16,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match proxy.kind {
        ProxyKind::Http => connect_http(stream, login, host, port).await,
        ProxyKind::Socks5 => connect_socks(stream, login, host, port).await,
    }
}

async fn connect_http<S>(stream: &mut S, login: Option<Login<'_>>, host: &str, port: u16) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = login.map(|login| {
        let pair = [login.name.as_bytes(), b":", login.password].concat();
        format!("Proxy-Authorization: Basic {}\r\n", Base64::encode_string(&pair))
    });
    let login = login.unwrap_or_default();
    let answer =
        http::ask(stream, &format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n")).await?;
    match answer.status {
        200..=299 => Ok(()),
        407 => {
            Err(invalid(format!("it wants another log-in: set `proxy` and proxy_password_file ({})", answer.line)))
        }
        _ => Err(invalid(format!("it does not connect us: {}", answer.line))),
    }
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

async fn connect_socks<S>(stream: &mut S, login: Option<Login<'_>>, host: &str, port: u16) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let methods: &[u8] = if login.is_some() { &[VERSION, 2, NO_LOGIN, PASSWORD] } else { &[VERSION, 1, NO_LOGIN] };
    say(stream, methods).await?;
    match (hear(stream).await?, &login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some(login)) => {
            let name = counted(login.name.as_bytes())?;
            let password = counted(login.password)?;
            say(stream, &[&[PASSWORD_VERSION], &name[..], &password[..]].concat()).await?;
            let [_, status] = hear(stream).await?;
            if status != 0 {
                return Err(invalid("it does not accept user name and password"));
            }
        }
        ([VERSION, _], _) => return Err(invalid("it wants a log-in: set `proxy` and proxy_password_file")),
        _ => return Err(invalid("it does not speak SOCKS5")),
    }
    let address = match host.parse() {
        Ok(IpAddr::V4(ip)) => [&[IPV4], &ip.octets()[..]].concat(),
        Ok(IpAddr::V6(ip)) => [&[IPV6], &ip.octets()[..]].concat(),
        Err(_) => [&[NAME], &counted(host.as_bytes())?[..]].concat(),
    };
    say(stream, &[&[VERSION, CONNECT, 0], &address[..], &port.to_be_bytes()].concat()).await?;
    let [version, reply, _, kind] = hear(stream).await?;
    if version != VERSION {
        return Err(invalid("it does not speak SOCKS5"));
    }
    if reply != 0 {
        return Err(invalid(format!("it does not connect us: {}", reason(reply))));
    }
    // Where it connects from. Nobody here wants to know.
    let len = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(invalid("it does not speak SOCKS5")),
    };
    stream.read_exact(&mut [0; 257][..len + 2]).await?;
    Ok(())
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn hear<S: AsyncRead + Unpin, const N: usize>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// With its length before it.
fn counted(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let len = u8::try_from(bytes.len()).map_err(|_| invalid("SOCKS5 takes no more than 255 bytes of a name"))?;
    Ok([&[len], bytes].concat())
}

fn reason(reply: u8) -> &'static str {
    match reply {
        2 => "its rules do not allow it",
        3 => "it does not reach that network",
        4 => "it does not reach that host",
        5 => "connection refused there",
        6 => "no answer in time",
        _ => "it says no",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const LOGIN: Login<'_> = Login { name: "ann", password: b"secret" };

    /// What is said to a proxy that answers so, and what comes of it.
    async fn exchange(
        kind: ProxyKind,
        login: Option<Login<'_>>,
        host: &str,
        answers: &[&[u8]],
    ) -> (Vec<u8>, Result<(), String>) {
        let (mut ours, mut theirs) = duplex(4096);
        for answer in answers {
            theirs.write_all(answer).await.unwrap();
        }
        let proxy = Proxy { kind, host: String::new(), port: 1, username: None, password: None };
        let outcome = connect(&mut ours, &proxy, login, host, 8883).await.map_err(|error| error.to_string());
        drop(ours);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (said, outcome)
    }

    #[tokio::test]
    async fn http_proxies_get_a_host_and_a_log_in() {
        let ok: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
        let (said, outcome) = exchange(ProxyKind::Http, Some(LOGIN), "a.example", &[ok]).await;
        assert_eq!(outcome, Ok(()));
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("CONNECT a.example:8883 HTTP/1.1\r\nHost: a.example:8883\r\n"), "{said}");
        assert!(said.contains("\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"), "{said}");
        let (said, _) = exchange(ProxyKind::Http, None, "::1", &[ok]).await;
        assert!(said.starts_with(b"CONNECT [::1]:8883 HTTP/1.1\r\n") && !said.windows(5).any(|w| w == b"Basic"));
        for (status, words) in [("407 Log in", "another log-in"), ("403 Forbidden", "403 Forbidden")] {
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            let (_, outcome) = exchange(ProxyKind::Http, None, "a.example", &[answer.as_bytes()]).await;
            assert!(outcome.clone().unwrap_err().contains(words), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn socks_proxies_get_a_name_or_an_address_and_a_log_in_if_they_want_one() {
        let done: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (said, outcome) = exchange(ProxyKind::Socks5, None, "a.b", &[&[5, 0], done]).await;
        assert_eq!(outcome, Ok(()));
        assert_eq!(said, [5, 1, 0, 5, 1, 0, 3, 3, b'a', b'.', b'b', 0x22, 0xB3]);
        let (said, outcome) = exchange(ProxyKind::Socks5, Some(LOGIN), "10.0.0.9", &[&[5, 2], &[1, 0], done]).await;
        assert_eq!(outcome, Ok(()));
        let expected =
            [&[5, 2, 0, 2, 1, 3][..], b"ann", &[6], b"secret", &[5, 1, 0, 1, 10, 0, 0, 9, 0x22, 0xB3]].concat();
        assert_eq!(said, expected);
        let named: &[u8] = &[5, 0, 0, 3, 2, b'p', b'q', 0, 1];
        assert_eq!(exchange(ProxyKind::Socks5, None, "::1", &[&[5, 0], named]).await.1, Ok(()));
        for (login, answers, words) in [
            (None, &[&[5, 2][..]][..], "wants a log-in"),
            (Some(LOGIN), &[&[5, 0xFF]], "wants a log-in"),
            (Some(LOGIN), &[&[5, 2], &[1, 1]], "does not accept"),
            (None, &[b"HT"], "does not speak SOCKS5"),
            (None, &[&[5, 0], &[5, 5, 0, 1]], "connection refused there"),
            (None, &[&[5, 0], &[5, 2, 0, 1]], "rules"),
        ] {
            let (_, outcome) = exchange(ProxyKind::Socks5, login, "a.b", answers).await;
            assert!(outcome.clone().unwrap_err().contains(words), "{outcome:?}");
        }
    }
}
