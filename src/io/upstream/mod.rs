//! Dialling upstreams: name, address, proxy, TCP, TLS, WebSocket. What comes of it is a connection like any other.

mod connect;
mod proxy;
mod resolve;
mod sas;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio_rustls::TlsConnector;

use crate::config::{ClientTls, Preset, Proxy, TokenKey, Upstream, UpstreamId, UpstreamUrl};
use crate::engine::{Input, Login};
use crate::io::tls::{self, Reload, TlsError, Validity};
use crate::io::upstream::resolve::Resolver;
use crate::io::{Driver, connection};
use crate::time::Duration;

/// An upstream as the dialler sees it.
pub struct Target {
    endpoints: Vec<Endpoint>,
    tls: Option<ClientTls>,
    time: Validity,
    /// Where an endpoint asks for TLS.
    connector: RefCell<Option<TlsConnector>>,
    connect_timeout: Duration,
    /// How long sent bytes may stay unacknowledged by the peer's kernel.
    user_timeout: Duration,
    proxy: Option<Proxy>,
    proxy_password_file: Option<PathBuf>,
    interface: Option<String>,
    source_address: Option<IpAddr>,
    password_file: Option<PathBuf>,
    sas: Option<Sas>,
}

/// What passwords are made of.
struct Sas {
    key_file: PathBuf,
    /// Hub and device.
    resource: String,
    ttl: Duration,
}

struct Endpoint {
    url: UpstreamUrl,
    /// The name in the peer's certificate, where there is TLS.
    server_name: Option<ServerName<'static>>,
}

/// A file with a secret that cannot be read.
#[derive(Debug)]
pub struct SecretError {
    /// Which.
    pub path: PathBuf,
    /// Why not.
    pub error: io::Error,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password file {} cannot be read: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for SecretError {}

/// A password without the end of its line, which editors put there. Blanks may belong to it.
fn secret(path: &Path) -> Result<Vec<u8>, SecretError> {
    let mut secret = std::fs::read(path).map_err(|error| SecretError { path: path.to_owned(), error })?;
    while secret.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
    Ok(secret)
}

impl Target {
    /// Reads the certificates, judged by `time`, and checks the names.
    ///
    /// # Errors
    /// If a file is missing or wrong, or a host name cannot be in a certificate.
    pub fn new(upstream: &Upstream, time: &Validity) -> Result<Self, TlsError> {
        let connector = if upstream.url.iter().any(|url| url.tls) {
            Some(TlsConnector::from(tls::client_config(upstream.tls.as_ref(), time)?))
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
            time: time.clone(),
            connector: RefCell::new(connector),
            connect_timeout: upstream.connect_timeout,
            user_timeout: upstream.stuck_timeout,
            proxy: upstream.proxy.clone(),
            proxy_password_file: upstream.proxy_password_file.clone(),
            interface: upstream.interface.clone(),
            source_address: upstream.source_address,
            password_file: upstream.password_file.clone(),
            sas: sas_key_file(upstream).zip(upstream.url.first()).map(|(key_file, url)| Sas {
                key_file: key_file.clone(),
                resource: format!("{}/devices/{}", url.host, upstream.client_id),
                ttl: upstream.sas_ttl,
            }),
        })
    }

    /// How we prove who we are, as the files say at this moment: a renewed password is used from the next link on.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn login(&self) -> Result<Login, SecretError> {
        let Some(sas) = &self.sas else {
            return Ok(Login { password: self.password_file.as_deref().map(secret).transpose()?, valid_for: None });
        };
        let key = secret(&sas.key_file)?;
        let token = sas::token(&sas.resource, &key, self.time.time().now() + sas.ttl.as_secs());
        let token = token.ok_or_else(|| SecretError {
            path: sas.key_file.clone(),
            error: io::Error::new(io::ErrorKind::InvalidData, "it is not a key in base64"),
        })?;
        Ok(Login { password: Some(token.into_bytes()), valid_for: Some(sas.ttl) })
    }

    /// Looks whether all files with secrets can be read.
    ///
    /// # Errors
    /// If one cannot.
    pub fn check_secrets(&self) -> Result<(), SecretError> {
        self.proxy_password_file.as_deref().map(secret).transpose()?;
        self.token().map(|key| secret(&key.pin_file)).transpose()?;
        self.login().map(|_| ())
    }

    /// The key of the client certificate, where that is in a token.
    fn token(&self) -> Option<&TokenKey> {
        self.tls.as_ref()?.pkcs11.as_ref()
    }

    /// The peer's certificate was found valid: remembers the time, on the disk when that is due.
    fn note_time(&self) {
        if self.time.time().confirm() {
            let time = Arc::clone(self.time.time());
            spawn_blocking(move || {
                if let Err(error) = time.store() {
                    tracing::warn!(%error, "the time cannot be stored, so it is not known after a restart");
                }
            });
        }
    }
}

/// The key that passwords are made of, where the upstream knows such passwords.
fn sas_key_file(upstream: &Upstream) -> Option<&PathBuf> {
    upstream.sas_key_file.as_ref().filter(|_| upstream.preset == Preset::AzureIotHub)
}

impl Reload for Target {
    fn files(&self) -> Vec<&Path> {
        let files = self.tls.as_ref().map(|tls| [&tls.ca, &tls.cert, &tls.key]);
        files.into_iter().flatten().flatten().map(PathBuf::as_path).collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error>> {
        if self.connector.borrow().is_some() {
            let config = tls::client_config(self.tls.as_ref(), &self.time)?;
            self.connector.replace(Some(TlsConnector::from(config)));
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

    /// Begins an attempt; an unfinished one to the same upstream, and a look at another endpoint, is given up.
    pub(super) fn dial(&self, driver: &Rc<Driver>, upstream: UpstreamId, endpoint: usize) {
        self.attempt(driver, upstream, async move |driver, target| {
            let link = target.connect(endpoint, &driver.dialer().resolver).await;
            // Read when the link is there: a file that was renewed meanwhile counts.
            let ready = link.and_then(|link| Ok((link, target.login().map_err(|error| error.to_string())?)));
            driver.dialer().done(upstream);
            match ready {
                Ok((link, login)) => {
                    let conn = driver.on_dialed(upstream, login);
                    connection::spawn(&driver, conn, link, ());
                }
                Err(error) => driver.input(Input::DialFailed { upstream, error }),
            }
        });
    }

    /// Looks whether an endpoint answers, while the link to another is in use. A dial ends it.
    pub(super) fn probe(&self, driver: &Rc<Driver>, upstream: UpstreamId, endpoint: usize) {
        self.attempt(driver, upstream, async move |driver, target| {
            let link = target.connect(endpoint, &driver.dialer().resolver).await;
            driver.dialer().done(upstream);
            driver.input(Input::Probed { upstream, answers: link.is_ok() });
        });
    }

    fn attempt(
        &self,
        driver: &Rc<Driver>,
        upstream: UpstreamId,
        run: impl AsyncFnOnce(Rc<Driver>, Rc<Target>) + 'static,
    ) {
        let Some(target) = self.targets.borrow().get(&upstream).map(Rc::clone) else { return };
        let driver = Rc::clone(driver);
        let attempt = tokio::task::spawn_local(async move { run(driver, target).await });
        if let Some(older) = self.attempts.borrow_mut().insert(upstream, attempt.abort_handle()) {
            older.abort();
        }
    }

    fn done(&self, upstream: UpstreamId) {
        self.attempts.borrow_mut().remove(&upstream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_ends_with_its_line_and_keeps_its_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (text, password) in [("secret\n", "secret"), (" se cret \r\n", " se cret "), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(secret(&path).unwrap(), password.as_bytes());
        }
        assert!(secret(&dir.path().join("missing")).is_err());
    }
}
