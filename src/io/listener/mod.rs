//! Listeners: TCP and Unix sockets, with or without TLS and WebSocket.

mod bind;
mod handshake;
mod places;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

use crate::config::ListenerId;
use crate::io::connection::Stream;
use crate::io::listener::handshake::Handshake;
use crate::io::listener::places::{Place, Places, Refusal};
use crate::io::tls::ServerIdentity;
use crate::io::{Driver, connection};
use crate::metrics::{Level, Notice};
use crate::time::Duration;

pub use bind::{SocketFile, bind_listener, bind_unix, bind_unix_listener, let_share_port, set_socket_mode};

/// Connections accepted in one go before other tasks get their turn.
const ACCEPTS_PER_TURN: usize = 32;
/// A pause after the system had no file or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How one listener behaves.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Whose connections these are.
    pub id: ListenerId,
    /// For the log.
    pub name: String,
    /// TLS, where the listener asks for it.
    pub tls: Option<Rc<ServerIdentity>>,
    /// The path at which WebSocket clients are served, empty for any; none: clients speak MQTT at once.
    pub websocket: Option<Rc<str>>,
    /// Connections at one time, those still in their handshake included; more are closed at once.
    pub max_connections: usize,
    /// Of these from one address, or from one IPv6 network of 64 bits; zero: no such limit.
    pub max_connections_per_address: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

/// A bound listener.
pub struct Listener {
    socket: Rc<Socket>,
    options: ListenerOptions,
    places: Rc<Places>,
}

/// A listening socket that outlives the listener: another may go on with it, and with its connections.
#[derive(Clone)]
pub struct Listening {
    socket: Rc<Socket>,
    places: Rc<Places>,
}

enum Socket {
    Tcp(TcpListener),
    /// Its file is removed with it.
    Unix {
        socket: UnixListener,
        _file: SocketFile,
    },
}

impl Listener {
    fn new(socket: Socket, options: ListenerOptions) -> Self {
        let places = Rc::new(Places::new(options.max_connections, options.max_connections_per_address));
        Self { socket: Rc::new(socket), options, places }
    }

    /// What another listener may go on with.
    #[must_use]
    pub fn listening(&self) -> Listening {
        Listening { socket: Rc::clone(&self.socket), places: Rc::clone(&self.places) }
    }

    /// A listener that goes on where another is, with other options. If it is the same one (`counts_on`), the
    /// connections of before count.
    #[must_use]
    pub fn resume(from: &Listening, options: ListenerOptions, counts_on: bool) -> Self {
        let places = if counts_on {
            from.places.set_limits(options.max_connections, options.max_connections_per_address);
            Rc::clone(&from.places)
        } else {
            Rc::new(Places::new(options.max_connections, options.max_connections_per_address))
        };
        Self { socket: Rc::clone(&from.socket), options, places }
    }

    /// The address it is bound to, with the port that the system chose if it was asked to. None for a Unix socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &*self.socket {
            Socket::Tcp(socket) => socket.local_addr().map(Some),
            Socket::Unix { .. } => Ok(None),
        }
    }

    /// Accepts connections for ever.
    #[expect(clippy::disallowed_methods, reason = "a shell waits")]
    pub async fn serve(self, driver: Rc<Driver>) {
        loop {
            for _ in 0..ACCEPTS_PER_TURN {
                let accepted = match &*self.socket {
                    Socket::Tcp(socket) => {
                        socket.accept().await.map(|(stream, peer)| self.on_tcp(&driver, stream, peer))
                    }
                    Socket::Unix { socket, .. } => {
                        socket.accept().await.map(|(stream, _)| self.on_unix(&driver, stream))
                    }
                };
                match accepted {
                    Ok(()) => {}
                    Err(error) if is_of_the_peer(&error) => {}
                    Err(error) => {
                        self.warn(&driver, "cannot accept a connection", error.to_string());
                        sleep(BACK_OFF).await;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn on_tcp(&self, driver: &Rc<Driver>, stream: TcpStream, peer: SocketAddr) {
        // An IPv4 client of a dual-stack socket is known by its IPv4 address.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(place) = self.admit(driver, Some(peer)) else { return };
        self.on_stream(driver, stream, Some(peer), place);
    }

    fn on_unix(&self, driver: &Rc<Driver>, stream: UnixStream) {
        if let Some(place) = self.admit(driver, None) {
            self.on_stream(driver, stream, None, place);
        }
    }

    fn on_stream<S: Stream>(&self, driver: &Rc<Driver>, stream: S, peer: Option<SocketAddr>, place: Place) {
        let options = &self.options;
        if options.tls.is_none() && options.websocket.is_none() {
            let conn = driver.on_accepted(options.id, peer, None);
            return connection::spawn(driver, conn, stream, place);
        }
        let handshake = Handshake {
            driver: Rc::clone(driver),
            id: options.id,
            peer,
            place,
            tls: options.tls.as_ref().map(|identity| identity.config()),
            websocket: options.websocket.clone(),
        };
        tokio::task::spawn_local(handshake.run(stream, options.handshake_timeout));
    }

    /// A place for a connection, if there is one.
    fn admit(&self, driver: &Driver, peer: Option<SocketAddr>) -> Option<Place> {
        driver.count(|stats| stats.accepted += 1);
        let refusal = match Places::take(&self.places, peer.map(|peer| peer.ip())) {
            Ok(place) => return Some(place),
            Err(refusal) => refusal,
        };
        let who = peer.map_or_else(|| "a local client".to_owned(), |peer| peer.to_string());
        match refusal {
            Refusal::Full => {
                driver.count(|stats| stats.refused += 1);
                let max = self.options.max_connections;
                let detail = format!("{who}; max_connections is {max}");
                self.warn(driver, "connection refused: the listener is full", detail);
            }
            Refusal::Address => {
                driver.count(|stats| stats.refused_by_address += 1);
                let max = self.options.max_connections_per_address;
                let detail = format!("{who}; max_connections_per_address is {max}");
                self.warn(driver, "connection refused: too many from one address", detail);
            }
        }
        None
    }

    fn warn(&self, driver: &Driver, what: &'static str, detail: String) {
        driver.log(&Notice::new(Level::Warn, what, &self.options.name, detail));
    }
}

/// Whether accepting failed because of the one connection that was next.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
