//! What stands around the engine and a reload may change: sockets, links, where upstreams are, files that are watched.
//!
//! A reload makes all that is new first, so that whatever cannot be had leaves everything as it was; then it switches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::task::{AbortHandle, spawn_local};

use crate::config::{Bind, Config, Ids, LinkId, LinkKind, Listener, ListenerId, Protocol, UdpLink, UpstreamId};
use crate::daemon::credentials::{self, LoginFiles};
use crate::daemon::reload::Watched;
use crate::daemon::start::dual_stack;
use crate::daemon::{DaemonError, Ready};
use crate::engine::{Credentials, Input, Plan};
use crate::io::tls::{Reload, ServerIdentity, Validity};
use crate::io::{
    Driver, DtlsIdentity, ListenerOptions, Listening, Target, UdpOptions, UdpPort, Verifier, bind_listener,
    bind_udp, bind_unix_listener, let_share_port, serve_serial, serve_udp, serve_verdicts, set_socket_mode,
};

/// All of it, as one configuration has it.
pub(super) struct Site {
    driver: Rc<Driver>,
    pub(super) config: Config,
    ids: Ids,
    time: Validity,
    files: Files,
    listeners: BTreeMap<ListenerId, OpenListener>,
    links: BTreeMap<LinkId, OpenLink>,
}

struct OpenListener {
    bind: Bind,
    listening: Listening,
    task: AbortHandle,
}

struct OpenLink {
    kind: LinkKind,
    udp: Option<Rc<UdpPort>>,
    task: AbortHandle,
}

/// What the files hold that a configuration names.
#[derive(Default)]
pub(super) struct Files {
    targets: BTreeMap<UpstreamId, Rc<Target>>,
    identities: BTreeMap<ListenerId, Rc<ServerIdentity>>,
    dtls: BTreeMap<LinkId, Rc<DtlsIdentity>>,
}

impl Files {
    /// Reads and checks certificates, which are judged by `time`, keys and passwords.
    pub(super) fn read(config: &Config, ids: &Ids, time: &Validity) -> Result<Self, DaemonError> {
        let mut files = Self::default();
        for (id, upstream) in ids.upstream.iter().zip(&config.upstream) {
            let target = Target::new(upstream, time).map_err(|error| DaemonError::tls(&upstream.name, error))?;
            target.check_secrets().map_err(DaemonError::Password)?;
            files.targets.insert(*id, Rc::new(target));
        }
        for (id, listener) in ids.listener.iter().zip(&config.listener) {
            let Some(tls) = &listener.tls else { continue };
            let identity =
                ServerIdentity::load(tls, time).map_err(|error| DaemonError::tls(&listener.name, error))?;
            files.identities.insert(*id, identity);
        }
        for (id, link) in ids.link.iter().zip(&config.link) {
            let Some(dtls) = udp(&link.kind).and_then(|udp| udp.dtls.as_deref()) else { continue };
            let identity =
                DtlsIdentity::load(dtls, link.mtu, time).map_err(|error| DaemonError::tls(&link.name, error))?;
            files.dtls.insert(*id, identity);
        }
        Ok(files)
    }
}

/// Sockets for what is new.
#[derive(Default)]
struct Sockets {
    listeners: BTreeMap<ListenerId, crate::io::Listener>,
    udp: BTreeMap<LinkId, Rc<UdpPort>>,
}

impl Site {
    /// Binds everything and serves it. Needs a runtime.
    pub(super) fn open(
        driver: &Rc<Driver>,
        config: Config,
        ids: Ids,
        files: Files,
        time: Validity,
    ) -> Result<(Self, Ready), DaemonError> {
        let mut site = Self {
            driver: Rc::clone(driver),
            config: Config { listener: Vec::new(), ..Config::default() },
            ids: Ids::default(),
            time,
            files: Files::default(),
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let sockets = site.bind(&config, &ids, &files)?;
        let mut ready = Ready::default();
        for (id, listener) in ids.listener.iter().zip(&config.listener) {
            let at = sockets.listeners.get(id).map(crate::io::Listener::local_addr).transpose();
            let at =
                at.map_err(|error| DaemonError::bind("listener", &listener.name, listener.bind.clone(), error));
            ready.listeners.extend(at?.flatten().map(|at| (*id, at)));
        }
        for (id, link) in ids.link.iter().zip(&config.link) {
            let Some(bind) = udp_address(&link.kind) else { continue };
            let at = sockets.udp.get(id).map(|port| port.local_addr()).transpose();
            let at = at.map_err(|error| DaemonError::bind("link", &link.name, bind.into(), error))?;
            ready.links.extend(at.map(|at| (*id, at)));
        }
        site.prepare(&config, &ids, &files)?;
        site.serve(config, ids, files, sockets);
        Ok((site, ready))
    }

    /// What is to be watched for changes while this configuration is in force.
    pub(super) fn watched(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for (id, listener) in self.ids.listener.iter().zip(&self.config.listener) {
            let Some(identity) = self.files.identities.get(id) else { continue };
            let identity = Rc::clone(identity) as Rc<dyn Reload>;
            watched.push(Watched::new(format!("listener {}", listener.name), identity));
        }
        for (id, link) in self.ids.link.iter().zip(&self.config.link) {
            let Some(identity) = self.files.dtls.get(id) else { continue };
            let identity = Rc::clone(identity) as Rc<dyn Reload>;
            watched.push(Watched::new(format!("link {}", link.name), identity));
        }
        for (id, upstream) in self.ids.upstream.iter().zip(&self.config.upstream) {
            if let (Some(target), Some(_)) = (self.files.targets.get(id), &upstream.tls) {
                let target = Rc::clone(target) as Rc<dyn Reload>;
                watched.push(Watched::new(format!("upstream {}", upstream.name), target));
            }
        }
        if credentials::is_wanted(&self.config.auth) {
            let files = LoginFiles::new(Rc::clone(&self.driver), self.config.auth.clone());
            watched.push(Watched::new("[auth]".to_owned(), Rc::new(files)));
        }
        watched
    }

    /// Puts another configuration in force, or leaves everything as it is.
    pub(super) fn change(&mut self, config: Config) -> Result<(), DaemonError> {
        let too_often = "the configuration was changed some ten thousand times: restart the gateway";
        let ids = self.ids.after(&self.config, &config).ok_or_else(|| DaemonError::Rule(too_often.to_owned()))?;
        let files = Files::read(&config, &ids, &self.time)?;
        let credentials: Credentials = credentials::read(&config.auth).map_err(DaemonError::Credentials)?;
        let plan = Plan::new(config.clone(), ids.clone(), credentials)
            .map_err(|error| DaemonError::Rule(error.to_string()))?;
        let sockets = self.bind(&config, &ids, &files)?;
        self.prepare(&config, &ids, &files)?;
        // Nothing fails from here on, and nothing of it waits: no client sees half of it.
        for listener in self.listeners.values() {
            listener.task.abort();
        }
        self.driver.input(Input::Reconfigure(Box::new(plan)));
        self.serve(config, ids, files, sockets);
        Ok(())
    }

    /// The last that can fail: the thread that checks log-ins, and permissions of socket files.
    fn prepare(&self, config: &Config, ids: &Ids, files: &Files) -> Result<(), DaemonError> {
        if credentials::is_wanted(&config.auth) && !self.driver.has_verifier() {
            let (verifier, verdicts) = Verifier::start().map_err(DaemonError::Runtime)?;
            self.driver.set_verifier(verifier);
            spawn_local(serve_verdicts(Rc::clone(&self.driver), verdicts));
        }
        for (id, listener) in ids.listener.iter().zip(&config.listener) {
            if let (Bind::Unix(path), true) = (&listener.bind, self.listeners.contains_key(id)) {
                set_socket_mode(path, listener.mode)
                    .map_err(|error| DaemonError::bind("listener", &listener.name, listener.bind.clone(), error))?;
            }
        }
        // Targets go first: the engine may dial as soon as it knows.
        let known = ids.upstream.iter().zip(&config.upstream);
        let goes_on = |id: &UpstreamId| {
            let old = self.ids.upstream.iter().zip(&self.config.upstream).find(|(old, _)| *old == id);
            let new = known.clone().find(|(new, _)| *new == id);
            old.zip(new).is_some_and(|((_, old), (_, new))| old.connects_like(new))
        };
        let changed: Vec<UpstreamId> = self.ids.upstream.iter().filter(|id| !goes_on(id)).copied().collect();
        self.driver.set_targets(files.targets.clone(), &changed);
        Ok(())
    }

    /// Sockets for listeners and links that have none yet.
    fn bind(&self, config: &Config, ids: &Ids, files: &Files) -> Result<Sockets, DaemonError> {
        let mut sockets = Sockets::default();
        let v4: Vec<_> = config.listener.iter().filter_map(|listener| listener.bind.tcp()).collect();
        for (id, listener) in ids.listener.iter().zip(&config.listener) {
            let options = options(*id, listener, config, files);
            let bound = match self.listening_at(*id, &listener.bind) {
                Some((from, counts_on)) => Ok(crate::io::Listener::resume(from, options, counts_on)),
                None => match &listener.bind {
                    Bind::Tcp(bind) => {
                        let shares = self.leave_port(bind.port(), config, true);
                        let bound = bind_listener(*bind, dual_stack(*bind, &v4), shares, options);
                        self.leave_port(bind.port(), config, false);
                        bound
                    }
                    Bind::Unix(path) => bind_unix_listener(path, listener.mode, options),
                },
            };
            let bound = bound
                .map_err(|error| DaemonError::bind("listener", &listener.name, listener.bind.clone(), error))?;
            sockets.listeners.insert(*id, bound);
        }
        let v4: Vec<_> = config.link.iter().filter_map(|link| udp_address(&link.kind)).collect();
        for (id, link) in ids.link.iter().zip(&config.link) {
            let Some(settings) = udp(&link.kind) else { continue };
            let bind = settings.bind;
            // A socket goes on wherever it is still wanted as it is.
            let open = self.links.values().find(|open| udp_address(&open.kind) == Some(bind) && bind.port() != 0);
            let port = match open.and_then(|open| Some((open, open.udp.as_ref()?))) {
                Some((open, port)) if open.kind == link.kind && port.takes(link.mtu) => Ok(Rc::clone(port)),
                open => {
                    let options = UdpOptions {
                        name: &link.name,
                        settings,
                        mtu: link.mtu,
                        dual_stack: dual_stack(bind, &v4),
                        dtls: files.dtls.get(id).map(Rc::clone),
                    };
                    bind_udp(options, open.map(|(_, port)| &**port))
                }
            };
            let port = port.map_err(|error| DaemonError::bind("link", &link.name, bind.into(), error))?;
            sockets.udp.insert(*id, port);
        }
        Ok(sockets)
    }

    /// Who listens there already: the same listener, or another one that goes.
    fn listening_at(&self, id: ListenerId, bind: &Bind) -> Option<(&Listening, bool)> {
        if let Some(open) = self.listeners.get(&id) {
            return Some((&open.listening, true));
        }
        // Port 0 is another one each time.
        let is_fixed = bind.tcp().is_none_or(|at| at.port() != 0);
        self.listeners.values().find(|open| is_fixed && open.bind == *bind).map(|open| (&open.listening, false))
    }

    /// Lets one more socket listen at a port whose listeners, on other addresses, go. True if there are any.
    fn leave_port(&self, port: u16, config: &Config, may: bool) -> bool {
        let stays = |bind: &Bind| config.listener.iter().any(|listener| listener.bind == *bind);
        let leaving = self
            .listeners
            .values()
            .filter(|open| open.bind.tcp().is_some_and(|at| at.port() == port && port != 0) && !stays(&open.bind));
        let mut shares = false;
        for open in leaving {
            match let_share_port(&open.listening, may) {
                Ok(()) => shares = true,
                Err(error) => tracing::debug!(%error, port, "the port cannot be shared"),
            }
        }
        shares
    }

    /// Switches to what was made.
    fn serve(&mut self, config: Config, ids: Ids, mut files: Files, sockets: Sockets) {
        // Above this the engine sheds what it may; twice as much means that even answers are not taken.
        self.driver.set_pause_bytes(config.broker.max_outbox_bytes.saturating_mul(2));
        let mut listeners = BTreeMap::new();
        for (listener, (id, bound)) in config.listener.iter().zip(in_order(&ids.listener, sockets.listeners)) {
            let listening = bound.listening();
            let task = spawn_local(bound.serve(Rc::clone(&self.driver))).abort_handle();
            listeners.insert(id, OpenListener { bind: listener.bind.clone(), listening, task });
        }
        self.listeners = listeners;
        // A socket that goes on keeps its associations; the next handshake on it gets what was read now.
        for (id, identity) in &mut files.dtls {
            if let Some(known) = sockets.udp.get(id).and_then(|port| port.identity()) {
                known.adopt(identity);
                *identity = known;
            }
        }
        self.serve_links(&config, &ids, sockets.udp);
        (self.config, self.ids, self.files) = (config, ids, files);
    }

    fn serve_links(&mut self, config: &Config, ids: &Ids, mut udp: BTreeMap<LinkId, Rc<UdpPort>>) {
        let mut before = std::mem::take(&mut self.links);
        for (id, link) in ids.link.iter().zip(&config.link) {
            let stays = self.config.link.iter().any(|old| old == link);
            if let Some(open) = before.remove(id) {
                if stays {
                    self.links.insert(*id, open);
                    continue;
                }
                open.task.abort();
            }
            let port = udp.remove(id);
            let task = match (&link.kind, &port) {
                (LinkKind::Serial(serial), _) => {
                    spawn_local(serve_serial(Rc::clone(&self.driver), *id, serial.clone()))
                }
                (LinkKind::Udp(_), Some(port)) => {
                    spawn_local(serve_udp(Rc::clone(&self.driver), *id, Rc::clone(port)))
                }
                (LinkKind::Udp(_), None) => continue,
            };
            let open = OpenLink { kind: link.kind.clone(), udp: port, task: task.abort_handle() };
            self.links.insert(*id, open);
        }
        for (id, open) in before {
            open.task.abort();
            self.driver.remove_link(id);
        }
    }

    /// Nobody else is let in.
    pub(super) fn close(&self) {
        self.listeners.values().for_each(|listener| listener.task.abort());
    }
}

fn udp(kind: &LinkKind) -> Option<&UdpLink> {
    match kind {
        LinkKind::Udp(udp) => Some(udp),
        LinkKind::Serial(_) => None,
    }
}

fn udp_address(kind: &LinkKind) -> Option<SocketAddr> {
    udp(kind).map(|udp| udp.bind)
}

fn in_order<I: Ord + Copy, T>(ids: &[I], mut items: BTreeMap<I, T>) -> impl Iterator<Item = (I, T)> {
    ids.iter().filter_map(move |id| items.remove(id).map(|item| (*id, item)))
}

fn options(id: ListenerId, listener: &Listener, config: &Config, files: &Files) -> ListenerOptions {
    let websocket = listener.protocol == Protocol::Websocket;
    ListenerOptions {
        id,
        name: listener.name.clone(),
        tls: files.identities.get(&id).map(Rc::clone),
        websocket: websocket.then(|| listener.websocket_path.as_str().into()),
        max_connections: listener.max_connections,
        max_connections_per_address: listener.max_connections_per_address,
        handshake_timeout: listener.connect_timeout.unwrap_or(config.broker.connect_timeout),
    }
}
