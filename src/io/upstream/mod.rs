//! Dialling upstreams: name, address, TCP, TLS. What comes of it is a connection like any other.

mod connect;
mod resolve;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustls::pki_types::ServerName;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::config::{ClientTls, Upstream, UpstreamId, UpstreamUrl};
use crate::engine::Input;
use crate::io::tls::{self, Reload, TlsError};
use crate::io::upstream::connect::Link;
use crate::io::upstream::resolve::Resolver;
use crate::io::{Driver, connection};
use crate::time::Duration;

/// An upstream as the dialler sees it.
pub struct Target {
    endpoints: Vec<Endpoint>,
    tls: Option<ClientTls>,
    /// Where an endpoint asks for TLS.
    connector: RefCell<Option<TlsConnector>>,
    connect_timeout: Duration,
    /// How long sent bytes may stay unacknowledged by the peer's kernel.
    user_timeout: Duration,
}

struct Endpoint {
    url: UpstreamUrl,
    /// The name in the peer's certificate, where there is TLS.
    server_name: Option<ServerName<'static>>,
}

impl Target {
    /// Reads the certificates and checks the names.
    ///
    /// # Errors
    /// If a file is missing or wrong, or a host name cannot be in a certificate.
    pub fn new(upstream: &Upstream) -> Result<Self, TlsError> {
        let connector = if upstream.url.iter().any(|url| url.tls) {
            Some(TlsConnector::from(tls::client_config(upstream.tls.as_ref())?))
        } else {
            None
        };
        let server_name = upstream.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        let endpoint = |url: &UpstreamUrl| {
            let name = url.tls.then(|| parse_server_name(server_name.unwrap_or(&url.host)));
            Ok(Endpoint { url: url.clone(), server_name: name.transpose()? })
        };
        Ok(Self {
            endpoints: upstream.url.iter().map(endpoint).collect::<Result<_, TlsError>>()?,
            tls: upstream.tls.clone(),
            connector: RefCell::new(connector),
            connect_timeout: upstream.connect_timeout,
            user_timeout: upstream.stuck_timeout,
        })
    }
}

impl Reload for Target {
    fn files(&self) -> Vec<&Path> {
        let files = self.tls.as_ref().map(|tls| [&tls.ca, &tls.cert, &tls.key]);
        files.into_iter().flatten().flatten().map(PathBuf::as_path).collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
        if self.connector.borrow().is_some() {
            self.connector.replace(Some(TlsConnector::from(tls::client_config(self.tls.as_ref())?)));
        }
        Ok(())
    }
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| TlsError { file: None, problem: format!("{name:?} cannot be the name in a certificate") })
}

/// Dials, one attempt at a time for each upstream.
#[derive(Default)]
pub(super) struct Dialer {
    targets: RefCell<BTreeMap<UpstreamId, Rc<Target>>>,
    resolver: Resolver,
    attempts: RefCell<BTreeMap<UpstreamId, AbortHandle>>,
}

impl Dialer {
    /// Where upstreams are from now on. Attempts that are under way to those in `changed` are given up: nobody is told.
    pub(super) fn set_targets(&self, targets: BTreeMap<UpstreamId, Rc<Target>>, changed: &[UpstreamId]) {
        self.targets.replace(targets);
        let mut attempts = self.attempts.borrow_mut();
        for attempt in changed.iter().filter_map(|upstream| attempts.remove(upstream)) {
            attempt.abort();
        }
    }

    /// Begins an attempt; an unfinished one to the same upstream is given up.
    pub(super) fn dial(&self, driver: &Rc<Driver>, upstream: UpstreamId, endpoint: usize) {
        let Some(target) = self.targets.borrow().get(&upstream).map(Rc::clone) else { return };
        let driver = Rc::clone(driver);
        let attempt = tokio::task::spawn_local(async move {
            let dialer = driver.dialer();
            let outcome = target.connect(endpoint, &dialer.resolver).await;
            dialer.attempts.borrow_mut().remove(&upstream);
            match outcome {
                Ok(Link::Plain(stream)) => {
                    let conn = driver.on_dialed(upstream);
                    connection::spawn(&driver, conn, stream, ());
                }
                Ok(Link::Tls(stream)) => {
                    let conn = driver.on_dialed(upstream);
                    connection::spawn(&driver, conn, *stream, ());
                }
                Err(error) => driver.input(Input::DialFailed { upstream, error }),
            }
        });
        if let Some(older) = self.attempts.borrow_mut().insert(upstream, attempt.abort_handle()) {
            older.abort();
        }
    }
}
