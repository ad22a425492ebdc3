//! One attempt to reach one endpoint.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::io::tls;
use crate::io::upstream::Target;
use crate::io::upstream::resolve::Resolver;
use crate::time::Duration;

/// Unencrypted bytes that rustls may hold for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A stream to an upstream.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Target {
    /// Connects to the endpoint at this position, within the connect time-out. The error is for the operator.
    pub(super) async fn connect(&self, endpoint: usize, resolver: &Resolver) -> Result<Link, String> {
        let endpoint = self.endpoints.get(endpoint).ok_or_else(|| format!("there is no url number {endpoint}"))?;
        let deadline = Instant::now() + self.connect_timeout;
        let url = &endpoint.url;
        let addresses = timeout_at(deadline, resolver.resolve(&url.host, url.port))
            .await
            .map_err(|_| format!("no answer to the name {} within {:?}", url.host, self.connect_timeout))?
            .map_err(|error| format!("the name {} cannot be resolved: {error}", url.host))?;
        let stream = self.connect_any(&addresses, deadline).await?;
        let connector = self.connector.borrow().clone();
        match connector.zip(endpoint.server_name.as_ref()) {
            None => Ok(Link::Plain(stream)),
            Some((connector, name)) => {
                let stream = timeout_at(deadline, handshake(&connector, name, stream)).await.map_err(|_| {
                    format!("{}:{}: no TLS handshake within {:?}", url.host, url.port, self.connect_timeout)
                })??;
                Ok(Link::Tls(Box::new(stream)))
            }
        }
    }

    /// Tries one address after the other, each with its share of the time that is left.
    async fn connect_any(&self, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
        let mut errors = Vec::new();
        for (tried, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(now) / left;
            match timeout_at(now + share, self.connect_one(*address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => errors.push(format!("{address}: {error}")),
                Err(_) => errors.push(format!("{address}: no answer within {share:.1?}")),
            }
        }
        Err(errors.join("; "))
    }

    async fn connect_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(true)?;
        // Between them these find a dead link whether bytes are on their way or not.
        options.set_tcp_user_timeout(Some(self.user_timeout))?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        options.set_tcp_keepalive(&keepalive)?;
        socket.connect(address).await
    }
}

async fn handshake(
    connector: &TlsConnector,
    name: &ServerName<'static>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let connected =
        connector.connect_with(name.clone(), stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES))).await;
    connected.map_err(|error| format!("TLS with {}: {}", name.to_str(), tls::explain(&error)))
}
