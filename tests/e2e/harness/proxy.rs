//! A TCP proxy that cuts, stalls, refuses, and is slow.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::free_port;

/// How often a thread looks whether something else is wanted of it.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections stay as they are, new ones are accepted, and no byte moves.
    Stall,
    /// The port is closed.
    Refuse,
    End,
}

/// What a slow line does to each direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How long a byte is on its way.
    pub(crate) delay: Duration,
    pub(crate) bytes_per_second: u32,
}

struct State {
    mode: Mode,
    /// Of connections made from now on.
    shape: Option<Shape>,
    /// Both ends of every connection.
    open: Vec<TcpStream>,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

/// Forwards connections to one address until told otherwise.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(target: SocketAddr) -> Self {
        let port = free_port();
        let state = Mutex::new(State { mode: Mode::Forward, shape: None, open: Vec::new() });
        let shared = Arc::new(Shared { target, state, changed: Condvar::new() });
        let listener = listen(port);
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared, port, listener)
        });
        Self { port, shared, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections; new ones are welcome.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }

    /// From now on nothing moves, and nobody is told.
    pub(crate) fn stall(&self) {
        self.shared.set(Mode::Stall);
    }

    /// Ends all connections and takes no new ones.
    pub(crate) fn refuse(&self) {
        self.shared.set(Mode::Refuse);
        self.cut();
    }

    /// Connections made from now on are slow.
    pub(crate) fn shape(&self, shape: Shape) {
        self.shared.state.lock().unwrap().shape = Some(shape);
    }

    /// All is well again.
    pub(crate) fn resume(&self) {
        self.shared.set(Mode::Forward);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(Mode::End);
        self.cut();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn set(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
        self.changed.notify_all();
    }

    fn mode(&self) -> Mode {
        self.state.lock().unwrap().mode
    }

    fn cut(&self) {
        for stream in self.state.lock().unwrap().open.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Waits while the proxy stalls. False when it is to end.
    fn may_move(&self) -> bool {
        let stalled = |state: &mut State| state.mode == Mode::Stall;
        self.changed.wait_while(self.state.lock().unwrap(), stalled).unwrap().mode != Mode::End
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn accept(shared: &Arc<Shared>, port: u16, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        match shared.mode() {
            Mode::End => return,
            Mode::Refuse => listener = None,
            Mode::Forward | Mode::Stall => {
                let listener = listener.get_or_insert_with(|| listen(port));
                match listener.accept() {
                    Ok((near, _)) => {
                        forward(shared, near);
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("the proxy cannot accept: {error}"),
                }
            }
        }
        let state = shared.state.lock().unwrap();
        drop(shared.changed.wait_timeout(state, TICK).unwrap());
    }
}

fn forward(shared: &Arc<Shared>, near: TcpStream) {
    near.set_nonblocking(false).unwrap();
    let Ok(far) = TcpStream::connect(shared.target) else { return };
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let ends = (near.try_clone().unwrap(), far.try_clone().unwrap());
    shared.state.lock().unwrap().open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
    let shape = shared.state.lock().unwrap().shape;
    let pump = |from, to| match shape {
        Some(shape) => pump_slowly(shared, shape, from, to),
        None => pump(shared, from, to),
    };
    pump(near, far);
    pump(ends.1, ends.0);
}

/// Moves bytes one way, each when its time has come, until either end is closed.
fn pump_slowly(shared: &Arc<Shared>, shape: Shape, mut from: TcpStream, to: TcpStream) {
    /// A line holds what is on its way, and the sender waits for the rest.
    const PIECES: usize = 16;
    let (sender, receiver) = sync_channel(PIECES);
    let ends = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let reader_of = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        let mut free_at = Instant::now();
        while reader_of.may_move() {
            let Ok(len) = from.read(&mut bytes) else { break };
            if len == 0 {
                break;
            }
            let takes = Duration::from_secs_f64(len as f64 / f64::from(shape.bytes_per_second));
            free_at = free_at.max(Instant::now()) + takes;
            if sender.send((free_at + shape.delay, bytes[..len].to_vec())).is_err() {
                break;
            }
        }
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        deliver(&shared, &receiver, to);
        ends.0.shutdown(Shutdown::Both).ok();
        ends.1.shutdown(Shutdown::Both).ok();
    });
}

fn deliver(shared: &Shared, receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, bytes)) = receiver.recv() {
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        if !shared.may_move() || to.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// Moves bytes one way until either end is closed.
fn pump(shared: &Arc<Shared>, mut from: TcpStream, mut to: TcpStream) {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while shared.may_move() {
            match from.read(&mut bytes) {
                // What was read when the stall began waits too.
                Ok(len) if len > 0 && shared.may_move() && to.write_all(&bytes[..len]).is_ok() => {}
                _ => break,
            }
        }
        from.shutdown(Shutdown::Both).ok();
        to.shutdown(Shutdown::Both).ok();
    });
}
