//! TCP listeners, with or without TLS.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerId;
use crate::io::{Driver, connection};
use crate::metrics::{Level, Notice};
use crate::time::Duration;

const BACKLOG: i32 = 1024;
/// Connections accepted in one go before other tasks get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// A pause after the system had no file or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Unencrypted bytes that rustls may hold for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// How one listener behaves.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Whose connections these are.
    pub id: ListenerId,
    /// For the log.
    pub name: String,
    /// TLS, where the listener asks for it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Connections at one time, those still in their TLS handshake included; more are closed at once.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    options: ListenerOptions,
    open: Rc<Cell<usize>>,
}

/// Binds a listening socket. An IPv6 wildcard takes IPv4 too when `dual_stack` is set. Needs a runtime.
///
/// # Errors
/// If the address is taken, is not on this machine, or needs more rights.
pub fn bind_listener(bind: SocketAddr, dual_stack: bool, options: ListenerOptions) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(bind), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these, which saves three calls for each. The keep-alive ends connections to machines
    // that vanished, for clients that chose not to have MQTT's own.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(600))
        .with_interval(Duration::from_secs(60))
        .with_retries(5);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    Ok(Listener { socket: TcpListener::from_std(socket.into())?, options, open: Rc::default() })
}

/// One of the listener's connections; gives its place back when it ends.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>, max: usize) -> Option<Self> {
        (open.get() < max).then(|| {
            open.set(open.get() + 1);
            Self(Rc::clone(open))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Listener {
    /// The address it is bound to, with the port that the system chose if it was asked to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts connections for ever.
    #[expect(clippy::disallowed_methods, reason = "a shell waits")]
    pub async fn serve(self, driver: Rc<Driver>) {
        loop {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.socket.accept().await {
                    Ok((stream, peer)) => self.on_accept(&driver, stream, peer),
                    Err(error) if is_of_the_peer(&error) => {}
                    Err(error) => {
                        driver.log(&Notice::new(
                            Level::Warn,
                            "cannot accept a connection",
                            &self.options.name,
                            error.to_string(),
                        ));
                        sleep(BACK_OFF).await;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn on_accept(&self, driver: &Rc<Driver>, stream: TcpStream, peer: SocketAddr) {
        driver.count(|stats| stats.accepted += 1);
        let Some(place) = Place::take(&self.open, self.options.max_connections) else {
            driver.count(|stats| stats.refused += 1);
            let max = self.options.max_connections;
            driver.log(&Notice::new(
                Level::Warn,
                "connection refused: the listener is full",
                &self.options.name,
                format!("{peer}; max_connections is {max}"),
            ));
            return;
        };
        let id = self.options.id;
        // An IPv4 client of a dual-stack socket is known by its IPv4 address.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match &self.options.tls {
            None => {
                let conn = driver.on_accepted(id, Some(peer), None);
                connection::spawn(driver, conn, stream, place);
            }
            Some(config) => {
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                let handshake = Handshake { driver: Rc::clone(driver), id, peer, place };
                tokio::task::spawn_local(handshake.run(acceptor, stream, self.options.handshake_timeout));
            }
        }
    }
}

/// Whether accepting failed because of the one connection that was next.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A connection on its way through the TLS handshake. The engine does not know it yet.
struct Handshake {
    driver: Rc<Driver>,
    id: ListenerId,
    peer: SocketAddr,
    place: Place,
}

impl Handshake {
    async fn run(self, acceptor: TlsAcceptor, stream: TcpStream, limit: Duration) {
        let accept = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        let error = match timeout(limit, accept).await {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let conn = self.driver.on_accepted(self.id, Some(self.peer), certificate.map(AsRef::as_ref));
                return connection::spawn(&self.driver, conn, stream, self.place);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no complete handshake within {limit:?}"),
        };
        self.driver.count(|stats| stats.handshakes_failed += 1);
        self.driver.log(&Notice::new(Level::Info, "TLS handshake failed", self.peer.to_string(), error));
    }
}
