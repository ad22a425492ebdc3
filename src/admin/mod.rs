//! Where the running gateway is asked how it is and told what to do: HTTP/1.1 on two doors.
//!
//! The control socket is a Unix socket: who may open it may do everything. The other door is TCP, on loopback unless
//! configured otherwise, for browsers and Prometheus: what it may do is in `guard`. Both lead to one `router`.
//!
//! It runs on a thread of its own, so that a thousand connections and whatever they say cost the engine's thread
//! nothing. What the engine knows is asked of it by [`Desk`]: a short question that it answers between two messages.
//! Making text of the answer is done here. While nobody asks, nothing wakes.
//!
//! Everything is bounded: connections, what a request may be, how long it may take, how slowly its answer may be read.

mod answer;
mod guard;
mod http;
mod log;
mod metrics;
mod page;
mod queue;
pub mod report;
mod router;
mod serve;
mod status;
mod token;
mod wire;

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::engine::drill::Disk;
use crate::queue::Looks;
use crate::time::Now;

pub use http::{Body, Response};
pub use log::{ByLevel, Keeper, Log};
pub use token::{Token, TokenError};

/// Questions that wait for the engine's thread. Each connection asks one at a time.
const MAX_QUESTIONS: usize = 64;
/// For its few frames; what is large is on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// Something to ask the engine, between two messages. Short: traffic waits meanwhile.
pub type Question = Box<dyn FnOnce(&mut Engine, Now) + Send>;

/// Where questions to the engine are handed in.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Question>);

impl Desk {
    /// A desk, and where its questions come out.
    #[must_use]
    pub fn open() -> (Self, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        (Self(sender), receiver)
    }

    /// Asks, and waits for the answer. None: the engine has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        // Nobody may wait any more: then nobody is told.
        let question: Question = Box::new(move |engine, now| drop(tell.send(question(engine, now))));
        self.0.send(question).await.ok()?;
        told.await.ok()
    }
}

/// Something that the daemon does, not the engine.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration again; what has changed is told.
    Reload(oneshot::Sender<Done>),
    /// Copy the store; the file is told.
    Backup(oneshot::Sender<Done>),
}

/// What came of it, or why nothing did.
pub type Done = Result<String, String>;

/// Where orders are handed in.
#[derive(Debug, Clone)]
pub struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// And where they are heard.
    #[must_use]
    pub fn open() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(MAX_QUESTIONS);
        (Self(sender), receiver)
    }

    /// Asks, and waits for what comes of it. None: the gateway is stopping.
    pub async fn give(&self, order: impl FnOnce(oneshot::Sender<Done>) -> Order) -> Option<Done> {
        let (tell, told) = oneshot::channel();
        self.0.send(order(tell)).await.ok()?;
        told.await.ok()
    }
}

/// The two doors, bound and listening.
#[derive(Debug, Default)]
pub struct Doors {
    /// The control socket.
    pub socket: Option<UnixListener>,
    /// Status page and metrics.
    pub http: Option<TcpListener>,
}

/// What requests need.
#[derive(Debug)]
pub struct Office {
    /// The engine.
    pub desk: Desk,
    /// The daemon.
    pub orders: Orders,
    /// What the gateway is called.
    pub name: String,
    /// The daemon's log, if it is its own.
    pub log: Option<Arc<Log>>,
    /// What lets TCP clients change something.
    pub token: Option<Token>,
    /// TCP clients show the token before they see anything.
    pub token_to_read: bool,
    /// What the store may take.
    pub disk: Disk,
    /// What lies in the store.
    pub looks: Arc<Looks>,
    /// Dead letters go back one request at a time.
    pub replay: tokio::sync::Mutex<()>,
    /// On each door.
    pub max_connections: usize,
}

/// The thread that serves the doors. Dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves the doors on a thread of its own.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn start(doors: Doors, office: Office) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let main = move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let served = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    serve::doors(doors, Arc::new(office))?;
                    // The end comes by word or because the daemon is gone.
                    drop(stopped.await);
                    Ok(())
                })
            });
            if let Err(error) = served {
                tracing::error!(%error, "status page and control socket are not served");
            }
        };
        let thread = std::thread::Builder::new().name("moteway-admin".to_owned()).stack_size(STACK_BYTES);
        Ok(Self { stop: Some(stop), thread: Some(thread.spawn(main)?) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the status page failed by a fault of its own");
        }
    }
}
