//! One attempt to reach one endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Proxy;
use crate::io::connection::Stream;
use crate::io::upstream::resolve::Resolver;
use crate::io::upstream::{Endpoint, Target, proxy};
use crate::io::{tls, websocket};
use crate::time::Duration;

/// Unencrypted bytes that rustls may hold for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A stream to an upstream.
pub(super) type Link = Box<dyn Stream>;

impl Target {
    /// Connects to the endpoint at this position, within the connect time-out. The error is for the operator.
    pub(super) async fn connect(&self, endpoint: usize, resolver: &Resolver) -> Result<Link, String> {
        let endpoint = self.endpoints.get(endpoint).ok_or_else(|| format!("there is no url number {endpoint}"))?;
        let deadline = Instant::now() + self.connect_timeout;
        let stream = self.reach(endpoint, resolver, deadline).await?;
        let connector = self.connector.borrow().clone();
        let Some((connector, name)) = connector.zip(endpoint.server_name.as_ref()) else {
            return self.speak(endpoint, stream, deadline).await;
        };
        let shake = async {
            if self.token().is_none() {
                return handshake(&connector, name, stream).await;
            }
            // A token takes its time to sign. Local traffic does not wait for it.
            let (runtime, connector, name) = (Handle::current(), connector.clone(), name.clone());
            let shake = move || runtime.block_on(timeout_at(deadline, handshake(&connector, &name, stream)));
            let done = spawn_blocking(shake).await.map_err(|error| error.to_string())?;
            done.unwrap_or_else(|late| Err(late.to_string()))
        };
        let stream = self.within(deadline, endpoint, "TLS handshake", shake).await?;
        self.note_time();
        self.speak(endpoint, stream, deadline).await
    }

    /// TCP to the endpoint, through the proxy if there is one.
    async fn reach(
        &self,
        endpoint: &Endpoint,
        resolver: &Resolver,
        deadline: Instant,
    ) -> Result<TcpStream, String> {
        let url = &endpoint.url;
        let (host, port) = self.proxy.as_ref().map_or((&url.host, url.port), |proxy| (&proxy.host, proxy.port));
        let addresses = timeout_at(deadline, resolver.resolve(host, port))
            .await
            .map_err(|_| format!("no answer to the name {host} within {:?}", self.connect_timeout))?
            .map_err(|error| format!("the name {host} cannot be resolved: {error}"))?;
        let mut stream = self.connect_any(&addresses, deadline).await?;
        if let Some(proxy) = &self.proxy {
            let password = self.proxy_password(proxy).map_err(|error| error.to_string())?;
            let login = proxy.username.as_deref().map(|name| proxy::Login { name, password: &password });
            let through = async {
                let connected = proxy::connect(&mut stream, proxy, login, &url.host, url.port).await;
                connected.map_err(|error| format!("the proxy {proxy:?}: {error}"))
            };
            self.within(deadline, endpoint, "answer of the proxy", through).await?;
        }
        Ok(stream)
    }

    /// What carries MQTT on this stream.
    async fn speak<S: Stream>(&self, endpoint: &Endpoint, stream: S, deadline: Instant) -> Result<Link, String> {
        let url = &endpoint.url;
        let Some(path) = &url.websocket else { return Ok(Box::new(stream)) };
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let host = format!("{host}:{}", url.port);
        let shake = async {
            let connected = websocket::connect(stream, &host, path).await;
            connected.map_err(|error| format!("WebSocket with {host}: {error}"))
        };
        Ok(Box::new(self.within(deadline, endpoint, "answer to the WebSocket request", shake).await?))
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        endpoint: &Endpoint,
        what: &str,
        step: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let url = &endpoint.url;
        let late = |_| format!("{}:{}: no {what} within {:?}", url.host, url.port, self.connect_timeout);
        timeout_at(deadline, step).await.map_err(late)?
    }

    /// Tries one address after the other, each with its share of the time that is left.
    async fn connect_any(&self, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
        let mut errors = Vec::new();
        for (tried, address) in addresses.iter().enumerate() {
            if self.source_address.is_some_and(|own: IpAddr| own.is_ipv4() != address.is_ipv4()) {
                errors.push(format!("{address}: source_address is of the other kind"));
                continue;
            }
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
        if let Some(interface) = &self.interface {
            options
                .bind_device(Some(interface.as_bytes()))
                .map_err(|error| named("interface", interface, &error))?;
        }
        if let Some(own) = self.source_address {
            let bound = socket.bind(SocketAddr::new(own, 0));
            bound.map_err(|error| named("source_address", &own.to_string(), &error))?;
        }
        socket.connect(address).await
    }

    /// What is in `proxy_password_file`, or in `proxy`.
    fn proxy_password(&self, proxy: &Proxy) -> Result<Vec<u8>, super::SecretError> {
        match &self.proxy_password_file {
            Some(file) => super::secret(file),
            None => Ok(proxy.password.clone().unwrap_or_default().into_bytes()),
        }
    }
}

fn named(key: &str, value: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{key} {value}: {error}"))
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
