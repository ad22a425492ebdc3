//! The daemon: start order, readiness, shutdown, watchdog.
//!
//! [`run`] uses nothing that belongs to the process as a whole (no signal handler, no logger, no environment), so
//! several daemons can live in one process, each on its own thread: see [`spawn`].

mod admin;
pub mod credentials;
mod error;
pub mod logging;
mod reload;
mod site;
mod start;
mod storage;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::UNIX_EPOCH;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use crate::admin::{Log, Orders};
use crate::config::{self, Config, Ids, LinkId, ListenerId, Protocol};
use crate::daemon::reload::Reloader;
use crate::daemon::site::{Files, Site};
use crate::daemon::storage::Storage;
use crate::engine::{Engine, Input, Start};
use crate::io::tls::Validity;
use crate::io::{Driver, serve_replies, watch_network};
use crate::sys::{self, Clock, Notifier};
use crate::time::Duration;

pub use error::DaemonError;
pub use reload::Source;

/// How long the engine may take to make everything safe after it was told to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How long connections may take to end after that; each has a limit of its own below this.
const DISCONNECT_LIMIT: Duration = Duration::from_millis(1_200);
/// How long a name lookup may hold up the end of the process.
const LOOKUP_LIMIT: Duration = Duration::from_millis(100);
/// Threads for name lookups live this long after the last one.
const LOOKUP_THREAD_IDLE: Duration = Duration::from_secs(2);
const MAX_LOOKUP_THREADS: usize = 8;
/// How often it is looked whether the time has to be stored.
const STORE_TIME_EVERY: Duration = Duration::from_secs(3600);
/// Files that are open beside those of clients, about: store, links, upstreams, the runtime's own.
const OTHER_FILES: usize = 64;

/// The service manager, if there is one.
#[derive(Default)]
pub struct Service {
    /// Where to say `READY=1` and the rest.
    pub notifier: Option<Notifier>,
    /// How often it wants a sign of life at the least.
    pub watchdog: Option<Duration>,
    /// Told when the configuration and the files that it names are to be read again.
    pub reload: Arc<Notify>,
    /// The log of the process, where it is ours.
    pub log: Option<Arc<Log>>,
    /// Where the configuration comes from. Without it only files are read again: certificates, keys, passwords.
    pub source: Option<Box<dyn Source>>,
}

impl Service {
    pub(crate) fn notify(&self, state: &str) {
        if let Some(Err(error)) = self.notifier.as_ref().map(|notifier| notifier.notify(state)) {
            tracing::debug!(%error, state, "the service manager does not listen");
        }
    }
}

/// Where a daemon can be reached, with the ports that the system chose for port 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// TCP listeners, in the order of the configuration.
    pub listeners: Vec<(ListenerId, SocketAddr)>,
    /// UDP links, in the order of the configuration.
    pub links: Vec<(LinkId, SocketAddr)>,
    /// The status page.
    pub http: Option<SocketAddr>,
}

/// Runs a daemon on this thread until `stop` is ready. `on_ready` is called once everything is bound.
///
/// # Errors
/// If it cannot start. Once it runs, nothing outside ends it but `stop`.
pub fn run(
    config: Config,
    service: &Service,
    stop: impl Future<Output = ()>,
    on_ready: impl FnOnce(&Ready),
) -> Result<(), DaemonError> {
    let clock = Clock::start();
    // The command line has put in what the box is called; a caller that has not gives it a name.
    let config = config.resolve("moteway").map_err(|error| DaemonError::Identity(error.to_string()))?;
    let ids = Ids::new(&config);
    let time = Validity::of(&config.gateway.state_dir);
    let files = Files::read(&config, &ids, &time)?;
    let credentials = credentials::read(&config.auth).map_err(DaemonError::Credentials)?;
    // The store is the first thread beside this one.
    reserve_files(&config);
    let mut storage = Storage::open(&config)?;
    let runtime = runtime().map_err(DaemonError::Runtime)?;
    let recovered = storage.take_recovered();
    let begin = Start { config: &config, recovered, seed: sys::random_seed() };
    let mut engine = Engine::new(clock.now(), begin).map_err(|error| DaemonError::Rule(error.to_string()))?;
    engine.set_boot(clock.now(), &sys::boot_id());
    engine.handle_input(clock.now(), Input::Credentials(credentials));
    let served = runtime.block_on(async {
        let driver = Driver::new(engine, clock, storage.disk());
        spawn_local(serve_replies(Rc::clone(&driver), storage.take_replies()));
        spawn_local(watch_network(Rc::clone(&driver)));
        spawn_local(keep_time(time.clone()));
        let (site, mut ready) = Site::open(&driver, config, ids, files, time)?;
        // Polled once before anybody is told that it is ready, so that a signal is caught from then on.
        let mut stop = pin!(stop);
        let is_over = poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await;
        driver.start();
        let (orders, asked) = Orders::open();
        let reception = admin::open(&driver, &site.config, service.log.clone(), orders);
        ready.http = reception.as_ref().and_then(|reception| reception.http);
        announce(&site.config, &ready);
        service.notify("READY=1");
        on_ready(&ready);
        let mut reloader = Reloader::new(site, service, storage.backups(), asked);
        if !is_over {
            tokio::select! {
                () = stop => {}
                never = watch(service) => match never {},
                never = reloader.serve() => match never {},
            }
        }
        service.notify("STOPPING=1");
        drop(reception);
        tracing::info!("stopping");
        reloader.close();
        end(&driver).await;
        Ok(())
    });
    runtime.shutdown_timeout(LOOKUP_LIMIT);
    storage.close();
    if served.is_ok() {
        tracing::info!("stopped");
    }
    served
}

/// Makes room for as many connections as there may be, and for what else is open.
fn reserve_files(config: &Config) {
    let listeners = config.listener.iter().map(|listener| listener.max_connections);
    let most = listeners.sum::<usize>().min(config.broker.max_connections) + OTHER_FILES;
    if let Err(error) = sys::reserve_open_files(most as u64) {
        tracing::debug!(%error, "no room made for open files");
    }
}

fn runtime() -> std::io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_LOOKUP_THREADS)
        .thread_keep_alive(LOOKUP_THREAD_IDLE)
        .thread_name("moteway-dns")
        .build_local(LocalOptions::default())
}

/// Lets the engine make everything safe and the connections end.
async fn end(driver: &Rc<Driver>) {
    driver.input(Input::Shutdown);
    if timeout(SHUTDOWN_LIMIT, driver.shutdown_done()).await.is_err() {
        tracing::warn!("not everything could be made safe within {SHUTDOWN_LIMIT:?}");
    }
    driver.close_links();
    if timeout(DISCONNECT_LIMIT, driver.disconnected()).await.is_err() {
        tracing::debug!("some connections did not take their last bytes");
    }
}

/// Tells the service manager that the engine's thread turns, at half of what it asks for.
#[expect(clippy::disallowed_methods, reason = "a shell waits")]
async fn watch(service: &Service) -> std::convert::Infallible {
    let Some(limit) = service.watchdog else { return std::future::pending().await };
    loop {
        tokio::time::sleep(limit / 2).await;
        service.notify("WATCHDOG=1");
    }
}

/// Stores the time now and then, once it was confirmed: a link may last longer than a certificate.
#[expect(clippy::disallowed_methods, reason = "a shell waits")]
async fn keep_time(time: Validity) {
    let time = time.time();
    if time.clock_is_behind() {
        let best = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.now()));
        tracing::warn!("the clock is not set: certificates are judged by {best}, the last time known");
    }
    loop {
        tokio::time::sleep(STORE_TIME_EVERY).await;
        if time.is_due() {
            let time = Arc::clone(time);
            let stored = spawn_blocking(move || time.store()).await;
            if let Ok(Err(error)) = stored {
                tracing::warn!(%error, "the time cannot be stored");
            }
        }
    }
}

fn announce(config: &Config, ready: &Ready) {
    let listeners = ready.listeners.iter().map(|(id, at)| {
        let listener = &config.listener[usize::from(id.0)];
        format!("{}={}://{at}", listener.name, scheme(listener))
    });
    let sockets = config.listener.iter().filter(|listener| listener.bind.tcp().is_none());
    let sockets =
        sockets.map(|listener| format!("{}={}+unix://{}", listener.name, scheme(listener), listener.bind));
    let links = ready.links.iter().map(|(id, at)| format!("{}=udp://{at}", config.link[usize::from(id.0)].name));
    let page = ready.http.iter().map(|at| format!("status=http://{at}"));
    let at = listeners.chain(sockets).chain(links).chain(page).collect::<Vec<_>>().join(" ");
    tracing::info!(gateway = config.gateway.name, at, "ready");
}

/// What clients of a listener speak, as in a URL.
fn scheme(listener: &config::Listener) -> &'static str {
    match (listener.protocol, &listener.tls) {
        (Protocol::Mqtt, None) => "mqtt",
        (Protocol::Mqtt, Some(_)) => "mqtts",
        (Protocol::Websocket, None) => "ws",
        (Protocol::Websocket, Some(_)) => "wss",
    }
}

/// A daemon on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    /// Where it can be reached.
    pub ready: Ready,
    stop: Option<oneshot::Sender<()>>,
    reload: Arc<Notify>,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

/// Starts a daemon on a thread of its own and waits until it is ready.
///
/// # Errors
/// If it cannot start.
pub fn spawn(config: Config) -> Result<Running, DaemonError> {
    let (stop, stopped) = oneshot::channel();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let reload = Arc::new(Notify::new());
    let service = Service { reload: Arc::clone(&reload), ..Service::default() };
    let main = move || {
        let stop = async { drop(stopped.await) };
        run(config, &service, stop, |ready| drop(tell.send(ready.clone())))
    };
    let thread =
        std::thread::Builder::new().name("moteway".to_owned()).spawn(main).map_err(DaemonError::Runtime)?;
    match told.recv() {
        Ok(ready) => Ok(Running { ready, stop: Some(stop), reload, thread: Some(thread) }),
        // It never became ready, so its thread is about to say why.
        Err(_) => match join(thread) {
            Err(error) => Err(error),
            Ok(()) => Err(DaemonError::Panicked),
        },
    }
}

impl Running {
    /// Has files that may have changed read again.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Stops the daemon in order and waits for its end.
    ///
    /// # Errors
    /// If it failed.
    pub fn stop(mut self) -> Result<(), DaemonError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), DaemonError> {
        // A daemon that is gone already does not have to be told.
        self.stop.take().map(|stop| stop.send(()).ok());
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("{error}");
        }
    }
}

fn join(thread: JoinHandle<Result<(), DaemonError>>) -> Result<(), DaemonError> {
    thread.join().unwrap_or(Err(DaemonError::Panicked))
}
