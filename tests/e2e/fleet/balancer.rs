//! A load balancer before a cluster: passes bytes through to the nodes in turn, and writes down who came when.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use moteway::mqtt::{Connect, MAX_PACKET, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A connection that somebody opened.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) at: Instant,
    /// When the cluster answered CONNECT.
    pub(super) up_at: Option<Instant>,
    /// Empty until CONNECT came.
    pub(super) client_id: String,
}

struct Shared {
    nodes: Vec<SocketAddr>,
    turn: AtomicUsize,
    open: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
}

pub(super) struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Balancer {
    pub(super) fn start(nodes: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared {
            nodes,
            turn: AtomicUsize::new(0),
            open: AtomicBool::new(true),
            attempts: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(TcpListener::from_std(listener).unwrap(), shared) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether anybody is let through. Who is turned away is written down too.
    pub(super) fn set_open(&self, open: bool) {
        self.shared.open.store(open, Ordering::Relaxed);
    }

    /// All who came so far, in their order.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        self.shared.attempts.lock().unwrap().clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It waits for nothing else, so it hears this.
        self.stop.take().map(|stop| stop.send(()).ok());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let number = {
            let mut attempts = shared.attempts.lock().unwrap();
            attempts.push(Attempt { at: Instant::now(), up_at: None, client_id: String::new() });
            attempts.len() - 1
        };
        if shared.open.load(Ordering::Relaxed) {
            let shared = Arc::clone(&shared);
            // Its end is seen by both peers, whatever it is.
            tokio::spawn(async move { pass(near, &shared, number).await.ok() });
        }
    }
}

/// Passes CONNECT and CONNACK on, and then all else.
async fn pass(mut near: TcpStream, shared: &Shared, number: usize) -> std::io::Result<()> {
    let mut hello = Vec::new();
    let client_id = loop {
        if near.read_buf(&mut hello).await? == 0 {
            return Ok(());
        }
        if let Some(packet) = frame(&hello, MAX_PACKET).unwrap() {
            break Connect::decode(&packet).unwrap().client_id.to_owned();
        }
    };
    shared.attempts.lock().unwrap()[number].client_id = client_id;
    let mut far = to_a_node(shared).await?;
    far.write_all(&hello).await?;
    let mut answer = [0; 64];
    let len = far.read(&mut answer).await?;
    near.write_all(&answer[..len]).await?;
    // CONNACK that says yes: [MQTT-3.2.2-4] of 3.1.1.
    if len >= 4 && answer[0] == 0x20 && answer[3] == 0 {
        shared.attempts.lock().unwrap()[number].up_at = Some(Instant::now());
    }
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}

/// The next node that answers.
async fn to_a_node(shared: &Shared) -> std::io::Result<TcpStream> {
    let mut error = None;
    for _ in &shared.nodes {
        let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
        match TcpStream::connect(shared.nodes[turn % shared.nodes.len()]).await {
            Ok(far) => return Ok(far),
            Err(refused) => error = Some(refused),
        }
    }
    Err(error.expect("a cluster has nodes"))
}
