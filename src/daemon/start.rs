//! From the configuration to sockets: what can be wrong is found before anything is served.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::task::{AbortHandle, spawn_local};

use crate::config::{Bind, Config, LinkId, LinkKind, ListenerId, Protocol, Upstream};
use crate::daemon::reload::Watched;
use crate::daemon::{DaemonError, Ready};
use crate::io::tls::{Reload, ServerIdentity};
use crate::io::{
    Driver, Listener, ListenerOptions, SerialOptions, Target, UdpPort, bind_listener, bind_udp, bind_unix_listener,
    serve_serial, serve_udp,
};

/// What each upstream's `password_file` holds.
pub(super) fn passwords(config: &Config) -> Result<Vec<Option<Vec<u8>>>, DaemonError> {
    let read =
        |path: &PathBuf| read_password(path).map_err(|error| DaemonError::Password { path: path.clone(), error });
    config.upstream.iter().map(|upstream| upstream.password_file.as_ref().map(read).transpose()).collect()
}

/// A password without the end of its line, which editors put there. Blanks may belong to it.
fn read_password(path: &Path) -> io::Result<Vec<u8>> {
    let mut password = std::fs::read(path)?;
    while password.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
    Ok(password)
}

/// Certificates and keys, read and checked.
pub(super) struct Transports {
    targets: Vec<Rc<Target>>,
    /// One for each listener.
    tls: Vec<Option<Rc<ServerIdentity>>>,
}

/// Bound sockets, not served yet.
pub(super) struct Sockets {
    pub(super) ready: Ready,
    pub(super) listeners: Vec<Listener>,
    pub(super) udp: Vec<(LinkId, Rc<UdpPort>)>,
}

impl Transports {
    /// Reads what the configuration names.
    pub(super) fn prepare(config: &Config) -> Result<Self, DaemonError> {
        let target = |upstream: &Upstream| {
            Target::new(upstream).map(Rc::new).map_err(|error| DaemonError::tls(&upstream.name, error))
        };
        let targets = config.upstream.iter().map(target).collect::<Result<_, _>>()?;
        let tls = config.listener.iter().map(|listener| {
            let identity = listener.tls.as_ref().map(ServerIdentity::load).transpose();
            identity.map_err(|error| DaemonError::tls(&listener.name, error))
        });
        let tls = tls.collect::<Result<_, _>>()?;
        Ok(Self { targets, tls })
    }

    /// Whose certificates may change while the daemon runs.
    pub(super) fn watched(&self, config: &Config) -> Vec<Watched> {
        let listeners = config.listener.iter().zip(&self.tls).filter_map(|(listener, identity)| {
            let identity = Rc::clone(identity.as_ref()?);
            Some(Watched::new(format!("listener {}", listener.name), identity))
        });
        let upstreams = config.upstream.iter().zip(&self.targets).filter(|(upstream, _)| upstream.tls.is_some());
        let upstreams = upstreams.map(|(upstream, target)| {
            Watched::new(format!("upstream {}", upstream.name), Rc::clone(target) as Rc<dyn Reload>)
        });
        listeners.chain(upstreams).collect()
    }

    /// Binds all listeners and UDP links. Needs a runtime.
    pub(super) fn bind(self, config: &Config) -> Result<(Vec<Rc<Target>>, Sockets), DaemonError> {
        let mut sockets = Sockets { ready: Ready::default(), listeners: Vec::new(), udp: Vec::new() };
        let v4_listeners: Vec<_> = config.listener.iter().filter_map(|listener| listener.bind.tcp()).collect();
        for ((id, listener), tls) in (0..).map(ListenerId).zip(&config.listener).zip(self.tls) {
            let websocket = listener.protocol == Protocol::Websocket;
            let options = ListenerOptions {
                id,
                name: listener.name.clone(),
                tls,
                websocket: websocket.then(|| listener.websocket_path.as_str().into()),
                max_connections: listener.max_connections,
                max_connections_per_address: listener.max_connections_per_address,
                handshake_timeout: listener.connect_timeout.unwrap_or(config.broker.connect_timeout),
            };
            let bound = match &listener.bind {
                Bind::Tcp(bind) => bind_listener(*bind, dual_stack(*bind, &v4_listeners), options),
                Bind::Unix(path) => bind_unix_listener(path, listener.mode, options),
            };
            let (at, bound) = bound
                .and_then(|bound| Ok((bound.local_addr()?, bound)))
                .map_err(|error| DaemonError::bind("listener", &listener.name, listener.bind.clone(), error))?;
            sockets.ready.listeners.extend(at.map(|at| (id, at)));
            sockets.listeners.push(bound);
        }
        let udp = config.link.iter().map(|link| match &link.kind {
            LinkKind::Udp { bind, multicast } => Some((*bind, multicast)),
            LinkKind::Serial { .. } => None,
        });
        let v4_links: Vec<_> = udp.clone().flatten().map(|(bind, _)| bind).collect();
        for ((id, link), bind) in (0..).map(LinkId).zip(&config.link).zip(udp) {
            let Some((bind, groups)) = bind else { continue };
            let bound = bind_udp(bind, dual_stack(bind, &v4_links), groups)
                .and_then(|bound| Ok((bound.local_addr()?, bound)))
                .map_err(|error| DaemonError::bind("link", &link.name, bind.into(), error))?;
            sockets.ready.links.push((id, bound.0));
            sockets.udp.push((id, bound.1));
        }
        Ok((self.targets, sockets))
    }
}

/// An IPv6 wildcard takes IPv4 too, unless the configuration has IPv4 on the same port.
fn dual_stack(bind: SocketAddr, all: &[SocketAddr]) -> bool {
    bind.ip().is_unspecified() && !all.iter().any(|other| other.is_ipv4() && other.port() == bind.port())
}

/// Serves what was bound, and the serial links. Returns what accepts connections.
pub(super) fn serve(driver: &Rc<Driver>, config: &Config, sockets: Sockets) -> Vec<AbortHandle> {
    for (link, port) in sockets.udp {
        spawn_local(serve_udp(Rc::clone(driver), link, port));
    }
    for (id, link) in (0..).map(LinkId).zip(&config.link) {
        if let LinkKind::Serial { device, baud, rtscts, .. } = &link.kind {
            let options = SerialOptions { device: device.clone(), baud: *baud, rtscts: *rtscts };
            spawn_local(serve_serial(Rc::clone(driver), id, options));
        }
    }
    let accept = |listener: Listener| spawn_local(listener.serve(Rc::clone(driver))).abort_handle();
    sockets.listeners.into_iter().map(accept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_unless_that_is_configured_too() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let wildcard = address("[::]:1883");
        assert!(dual_stack(wildcard, &[wildcard, address("0.0.0.0:8883")]));
        assert!(!dual_stack(wildcard, &[address("0.0.0.0:1883"), wildcard]));
        assert!(!dual_stack(address("[::1]:1883"), &[]));
    }
    #[test]
    fn a_password_ends_with_its_line_and_keeps_its_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (text, password) in [("secret\n", "secret"), (" se cret \r\n", " se cret "), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_password(&path).unwrap(), password.as_bytes());
        }
        assert!(read_password(&dir.path().join("missing")).is_err());
    }
}
