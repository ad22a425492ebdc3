//! From an accepted socket to a connection that the engine knows.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::ListenerId;
use crate::io::listener::places::Place;
use crate::io::{Driver, connection, tls};
use crate::metrics::{Level, Notice};
use crate::time::Duration;

/// Unencrypted bytes that rustls may hold for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A connection on its way through the TLS handshake. The engine does not know it yet.
pub(super) struct Handshake {
    pub(super) driver: Rc<Driver>,
    pub(super) id: ListenerId,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

impl Handshake {
    pub(super) async fn run(self, config: Arc<rustls::ServerConfig>, stream: TcpStream, limit: Duration) {
        let acceptor = TlsAcceptor::from(config);
        let accept = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        let error = match timeout(limit, accept).await {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let conn = self.driver.on_accepted(self.id, Some(self.peer), certificate.map(AsRef::as_ref));
                return connection::spawn(&self.driver, conn, stream, self.place);
            }
            Ok(Err(error)) => tls::explain_client(&error),
            Err(_) => format!("no complete handshake within {limit:?}"),
        };
        self.driver.count(|stats| stats.handshakes_failed += 1);
        self.driver.log(&Notice::new(Level::Info, "TLS handshake failed", self.peer.to_string(), error));
    }
}
