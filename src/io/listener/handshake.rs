//! From an accepted socket to a connection that the engine knows: TLS, WebSocket, or both.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::ListenerId;
use crate::io::connection::Stream;
use crate::io::listener::places::Place;
use crate::io::{Driver, connection, tls, websocket};
use crate::metrics::{Level, Notice};
use crate::time::Duration;

/// Unencrypted bytes that rustls may hold for a peer that does not read.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A connection on its way through its handshakes. The engine does not know it yet.
pub(super) struct Handshake {
    pub(super) driver: Rc<Driver>,
    pub(super) id: ListenerId,
    /// None on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) place: Place,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// The path that is served; empty: any.
    pub(super) websocket: Option<Rc<str>>,
}

/// What a handshake comes to.
enum Shaken<S> {
    Tls(Box<TlsStream<S>>),
    WebSocket(websocket::WebSocket<S>),
    Both(Box<websocket::WebSocket<TlsStream<S>>>),
}

/// What failed, as the log names it, and why.
type Failure = (&'static str, String);

impl Handshake {
    pub(super) async fn run<S: Stream>(mut self, stream: S, limit: Duration) {
        let (tls, path) = (self.tls.take(), self.websocket.take());
        let what = if tls.is_some() { TLS_FAILED } else { WEBSOCKET_FAILED };
        let shaken = timeout(limit, self.shake(stream, tls, path));
        let (what, error) = match shaken.await {
            Ok(Ok(Shaken::Tls(stream))) => return self.serve_tls(*stream, |stream| stream),
            Ok(Ok(Shaken::WebSocket(stream))) => return self.serve(stream, None),
            Ok(Ok(Shaken::Both(stream))) => return self.serve_tls(*stream, |stream| stream.get_ref()),
            Ok(Err(failure)) => failure,
            Err(_) => (what, format!("no complete handshake within {limit:?}")),
        };
        self.driver.count(|stats| stats.handshakes_failed += 1);
        let who = self.peer.map_or_else(|| "a local client".to_owned(), |peer| peer.to_string());
        self.driver.log(&Notice::new(Level::Info, what, who, error));
    }

    async fn shake<S: Stream>(
        &self,
        stream: S,
        tls: Option<Arc<rustls::ServerConfig>>,
        path: Option<Rc<str>>,
    ) -> Result<Shaken<S>, Failure> {
        let websocket_failed = |error: std::io::Error| (WEBSOCKET_FAILED, error.to_string());
        let Some(config) = tls else {
            let path = path.unwrap_or_default();
            return websocket::accept(stream, &path).await.map(Shaken::WebSocket).map_err(websocket_failed);
        };
        let accept =
            TlsAcceptor::from(config).accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        let stream = self.driver.handshakes.pass(accept).await;
        let stream = stream.map_err(|error| (TLS_FAILED, tls::explain_client(&error)))?;
        match path {
            None => Ok(Shaken::Tls(Box::new(stream))),
            Some(path) => {
                let accepted = websocket::accept(stream, &path).await.map_err(websocket_failed)?;
                Ok(Shaken::Both(Box::new(accepted)))
            }
        }
    }

    fn serve_tls<S: Stream, T: Stream>(self, stream: T, tls: impl FnOnce(&T) -> &TlsStream<S>) {
        let chain = tls(&stream).get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| chain.first()).map(|first| first.as_ref().to_vec());
        self.serve(stream, certificate.as_deref());
    }

    fn serve<S: Stream>(self, stream: S, certificate: Option<&[u8]>) {
        let conn = self.driver.on_accepted(self.id, self.peer, certificate);
        connection::spawn(&self.driver, conn, stream, self.place);
    }
}

const TLS_FAILED: &str = "TLS handshake failed";
const WEBSOCKET_FAILED: &str = "WebSocket handshake failed";
