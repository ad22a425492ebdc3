//! One task per connection: bytes in, bytes out, and the end.

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use zeroize::Zeroize;

use crate::engine::{Input, Intake};
use crate::io::Driver;
use crate::io::driver::{Core, READ_BUFFER_BYTES};
use crate::io::share::come_back_later;
use crate::io::tls;
use crate::mqtt::{ConnId, Outbox};
use crate::time::{Duration, Now};

/// Bytes read from one connection before other tasks get their turn.
const READ_BYTES_PER_TURN: usize = READ_BUFFER_BYTES;
/// How often the outbox is emptied, and filled again by the engine, before other tasks get their turn.
const WRITES_PER_TURN: usize = 4;
/// Pieces of an outbox that are handed to the socket at once.
const SLICES_PER_WRITE: usize = 32;
/// How long a closed connection may take to accept its last bytes and to close from its side.
const LINGER: Duration = Duration::from_secs(1);

/// A byte stream: a socket, TLS over it, a WebSocket over either.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// Serves `conn`, which the engine knows already, until one side closes it. `hold` lives as long as the socket.
pub(super) fn spawn<S: Stream, H: Unpin + 'static>(driver: &Rc<Driver>, conn: ConnId, stream: S, hold: H) {
    driver.on_task(true);
    let task = Connection { stream, driver: Rc::clone(driver), conn, closing: None, _hold: hold };
    tokio::task::spawn_local(task);
}

/// The task. There is one for each idle client, so it is kept small.
struct Connection<S, H> {
    stream: S,
    driver: Rc<Driver>,
    conn: ConnId,
    /// Set once the engine knows no more of it.
    closing: Option<Box<Closing>>,
    _hold: H,
}

/// How a turn leaves the connection.
enum Turn {
    /// It goes on when it is woken.
    Wait,
    /// The engine asked for its end.
    Close,
    /// The peer closed it, or it failed.
    Gone(Option<String>),
}

impl<S: Stream, H: Unpin> Future for Connection<S, H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.closing.is_none() {
            match this.open_turn(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(closing) => this.closing = closing,
            }
        }
        match &mut this.closing {
            Some(closing) => closing.poll_close(&mut this.stream, cx),
            None => Poll::Ready(()),
        }
    }
}

impl<S, H> Drop for Connection<S, H> {
    fn drop(&mut self) {
        self.driver.on_task(false);
    }
}

impl<S: Stream, H> Connection<S, H> {
    /// One turn of an open connection. Ready when the engine is done with it: what is left to do, if anything.
    fn open_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Box<Closing>>> {
        let driver = Rc::clone(&self.driver);
        let now = driver.clock.now();
        let mut core = driver.core();
        core.begin_turn(self.conn, cx.waker());
        let turn = self.turn(&mut core, now, cx);
        let left = match turn {
            Turn::Wait => Poll::Pending,
            Turn::Close => Poll::Ready(core.release(self.conn).map(|rest| Box::new(Closing::new(*rest)))),
            Turn::Gone(error) => {
                // A stream that failed may have a last word about it: TLS its alert, a WebSocket its close code.
                let farewell = error.is_some().then(|| Box::new(Closing::new(Outbox::default())));
                core.input(now, Input::Closed { conn: self.conn, error });
                core.release(self.conn);
                Poll::Ready(farewell)
            }
        };
        driver.end_turn(core);
        left
    }

    fn turn(&mut self, core: &mut Core, now: Now, cx: &mut Context<'_>) -> Turn {
        let mut end = self.read(core, now, cx);
        if core.is_closing(self.conn) {
            return Turn::Close;
        }
        let written = self.write(core, now, cx);
        if core.is_closing(self.conn) {
            return Turn::Close;
        }
        if let Err(error) = written {
            end.get_or_insert(Err(error));
        }
        match end {
            None => Turn::Wait,
            Some(Ok(())) => Turn::Gone(None),
            Some(Err(error)) => Turn::Gone(Some(tls::explain(&error))),
        }
    }

    /// Reads and hands over what came, up to the turn's share. Returns how the stream ended, if it did.
    fn read(&mut self, core: &mut Core, now: Now, cx: &mut Context<'_>) -> Option<io::Result<()>> {
        let conn = self.conn;
        let mut buffer = self.driver.buffer.borrow_mut();
        let mut budget = READ_BYTES_PER_TURN;
        while !core.is_closing(conn) {
            // A peer that does not take its answers may not ask for more of them. The write side wakes us.
            if core.is_paused(conn) {
                return None;
            }
            let intake = core.engine.intake(conn);
            // What it decides upon makes it send something, which wakes us.
            if intake == Intake::Paused {
                return None;
            }
            if budget == 0 {
                come_back_later(cx);
                return None;
            }
            let mut room = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
                Poll::Pending => return None,
                // TLS without a farewell: common, and MQTT marks the end of its packets itself.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Some(Ok(())),
                Poll::Ready(Err(error)) => return Some(Err(error)),
                Poll::Ready(Ok(())) => {
                    let bytes = room.filled();
                    if bytes.is_empty() {
                        return Some(Ok(()));
                    }
                    budget = budget.saturating_sub(bytes.len());
                    let filled = bytes.len();
                    core.input(now, Input::Received { conn, bytes });
                    if intake == Intake::Secret {
                        buffer[..filled].zeroize();
                    }
                }
            }
        }
        None
    }

    /// Writes what the engine wants flushed, up to the turn's share.
    fn write(&mut self, core: &mut Core, now: Now, cx: &mut Context<'_>) -> io::Result<()> {
        let conn = self.conn;
        for _ in 0..WRITES_PER_TURN {
            if !core.is_dirty(conn) || core.is_closing(conn) {
                return Ok(());
            }
            let paused = core.is_paused(conn);
            if let Some(outbox) = core.engine.outbox(conn) {
                match poll_drain(&mut self.stream, cx, outbox) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => {
                        // Reading may go on, and it was not even tried.
                        if paused && !core.is_paused(conn) {
                            cx.waker().wake_by_ref();
                        }
                        return Ok(());
                    }
                }
                if paused {
                    cx.waker().wake_by_ref();
                }
            }
            core.set_clean(conn);
            core.input(now, Input::Flushed { conn });
        }
        if core.is_dirty(conn) {
            come_back_later(cx);
        }
        Ok(())
    }
}

/// Writes until the outbox is empty and the stream holds nothing back.
fn poll_drain<S: Stream>(stream: &mut S, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
    while !outbox.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let filled = outbox.slices(&mut slices);
        let written = match &slices[..filled] {
            [one] => Pin::new(&mut *stream).poll_write(cx, one),
            several => Pin::new(&mut *stream).poll_write_vectored(cx, several),
        };
        match ready!(written)? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => outbox.consume(count),
        }
    }
    Pin::new(stream).poll_flush(cx)
}

/// The last bytes of a connection that the engine closed, and its end.
struct Closing {
    rest: Outbox,
    shut: bool,
    /// Made when the peer lets us wait.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Closing {
    fn new(rest: Outbox) -> Self {
        Self { rest, shut: false, limit: None }
    }

    /// Ready when the peer has seen the end, or took too long to.
    fn poll_close<S: Stream>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_end(stream, cx).is_ready() {
            return Poll::Ready(());
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        limit.as_mut().poll(cx)
    }

    fn poll_end<S: Stream>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(poll_drain(stream, cx, &mut self.rest))?;
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.shut = true;
        }
        // Closing a socket with unread bytes resets it, and the peer may lose what was just written.
        let mut unread = [0; 1024];
        loop {
            let mut room = ReadBuf::new(&mut unread);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
