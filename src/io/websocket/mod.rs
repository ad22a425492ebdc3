//! WebSocket, RFC 6455: binary messages as a stream of bytes [MQTT-6.0.0-1], [MQTT-6.0.0-2].
//!
//! Messages and frames mean nothing to MQTT, so none is ever gathered: what a frame carries is handed on as it comes,
//! in the buffer that it was read into, and each write is one frame around bytes that are not copied. So no frame,
//! message or flood of fragments costs memory, and an idle connection has no buffer here.

mod client;
mod frame;
mod handshake;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

pub(super) use client::connect;

use crate::io::share::come_back_later;
use crate::io::websocket::frame::{CloseCode, Control, Decoder, Event, Violation};
use crate::io::websocket::handshake::{MAX_REQUEST_BYTES, TOO_LONG};
use crate::time::Duration;

/// Pieces of one write: those of an outbox, and the header.
const SLICES: usize = 33;
/// How long a refused client may take to close from its side.
const LINGER: Duration = Duration::from_secs(1);

/// Answers the opening handshake. `path` is where clients are served; empty: anywhere.
///
/// # Errors
/// If the peer leaves, or what it asks for is no WebSocket for MQTT; then it was told.
pub(super) async fn accept<S>(mut stream: S, path: &str) -> io::Result<WebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    let answer = loop {
        if request.len() > MAX_REQUEST_BYTES {
            break Err(TOO_LONG);
        }
        let known = request.len();
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it left before its request was complete"));
        }
        if let Some(answer) = handshake::answer(&request, known, path) {
            break answer;
        }
    };
    match answer {
        Ok(answer) => {
            stream.write_all(&answer).await?;
            stream.flush().await?;
            Ok(WebSocket::new(stream))
        }
        Err(rejection) => {
            stream.write_all(&rejection.answer()).await?;
            stream.shutdown().await?;
            // It need not read its answer.
            timeout(LINGER, drain(&mut stream)).await.ok();
            Err(io::Error::new(io::ErrorKind::InvalidData, rejection.text))
        }
    }
}

/// Reads what a refused client still says, within reason: closing a socket with unread bytes would take the answer
/// back.
async fn drain<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut unread = [0; 1024];
    for _ in 0..64 {
        match stream.read(&mut unread).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// A stream of bytes over a WebSocket. Reading ends where the client says good-bye.
pub(super) struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    writer: Writer,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The peer said good-bye, or is gone.
    Closed,
    /// The peer broke the protocol: what still comes is thrown away.
    Failed,
}

impl<S> WebSocket<S> {
    fn new(stream: S) -> Self {
        Self { stream, decoder: Decoder::default(), writer: Writer::default(), end: End::Open }
    }

    /// What is under it.
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Reads once. Zero octets for the engine are no end.
    fn poll_once(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let (writer, end) = (&mut self.writer, &mut self.end);
        let bytes = &mut buf.filled_mut()[before..];
        if bytes.is_empty() {
            *end = End::Closed;
            return Poll::Ready(Ok(0));
        }
        let decoded = self.decoder.decode(bytes, |event| match event {
            Event::Ping(ping) => writer.answer(ping.pong()),
            Event::Close(close) => {
                *end = End::Closed;
                writer.farewell(&close);
            }
        });
        match decoded {
            Ok(count) => {
                buf.set_filled(before + count);
                Poll::Ready(Ok(count))
            }
            Err(Violation { code, text }) => {
                buf.set_filled(before);
                *end = End::Failed;
                writer.farewell(&Control::closing(code));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An answer goes at once. One that finds the socket full, or a message on its way, goes when that lets it.
        let answered = this.writer.poll_control(&mut this.stream, cx);
        match this.end {
            End::Open => {}
            End::Closed => return Poll::Ready(Ok(())),
            End::Failed => return this.poll_rest(cx, buf),
        }
        if let Poll::Ready(answered) = answered {
            answered?;
        }
        let read = ready!(this.poll_once(cx, buf));
        if let Poll::Ready(Err(error)) = this.writer.poll_control(&mut this.stream, cx) {
            read?;
            return Poll::Ready(Err(error));
        }
        match read {
            Ok(0) if this.end == End::Open => {
                // Frames without content: others have their turn before more of them.
                come_back_later(cx);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Throws away what comes until the peer closes the socket.
    fn poll_rest(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        come_back_later(cx);
        Poll::Pending
    }
}

/// What is on its way to the peer besides the bytes of the caller.
#[derive(Default)]
struct Writer {
    /// Header of the frame that is being written.
    header: [u8; 10],
    header_len: u8,
    header_written: u8,
    /// Octets of that frame which the caller has still to write.
    left: usize,
    /// A control frame, part of which may be written: it goes between two messages.
    control: Option<Box<Answer>>,
    closed: bool,
}

struct Answer {
    frame: Vec<u8>,
    written: usize,
}

impl Writer {
    /// A control frame to go next, in place of one that has not begun to go.
    fn answer(&mut self, frame: Vec<u8>) {
        if !self.closed && self.control.as_ref().is_none_or(|answer| answer.written == 0) {
            self.control = Some(Box::new(Answer { frame, written: 0 }));
        }
    }

    /// The last frame.
    fn farewell(&mut self, close: &Control) {
        if !self.closed {
            let close = close.close();
            match &mut self.control {
                Some(answer) if answer.written > 0 => answer.frame.extend(close),
                _ => self.answer(close),
            }
            self.closed = true;
        }
    }

    /// Whether a message is begun and not complete.
    fn is_amid(&self) -> bool {
        self.left > 0 || self.header_written < self.header_len
    }

    /// Writes the control frame that waits, unless a message has to be completed before.
    fn poll_control<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.control.is_none() || self.is_amid() {
            return Poll::Ready(Ok(()));
        }
        while let Some(answer) = &mut self.control {
            let rest = &answer.frame[answer.written..];
            if rest.is_empty() {
                self.control = None;
            } else {
                answer.written += written(ready!(Pin::new(&mut *stream).poll_write(cx, rest))?)?;
            }
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Writes as much of one frame as the stream takes, and returns how much of it was the caller's.
    fn poll_message<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if !self.is_amid() {
            ready!(self.poll_control(stream, cx))?;
            if total == 0 {
                return Poll::Ready(Ok(0));
            }
            (self.header, self.header_len) = frame::header(total);
            (self.header_written, self.left) = (0, total);
        }
        loop {
            let header = &self.header[usize::from(self.header_written)..usize::from(self.header_len)];
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            let mut room = self.left;
            let pieces = std::iter::once(header).chain(bufs.iter().map(|buf| &**buf));
            for (i, (slot, piece)) in slices.iter_mut().zip(pieces).enumerate() {
                let piece = if i == 0 { piece } else { &piece[..piece.len().min(room)] };
                room -= if i == 0 { 0 } else { piece.len() };
                *slot = IoSlice::new(piece);
                used = i + 1;
            }
            let count = written(ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..used]))?)?;
            let of_header = count.min(header.len());
            self.header_written += u8::try_from(of_header).unwrap_or_default();
            let of_caller = count - of_header;
            self.left -= of_caller;
            if of_caller > 0 {
                return Poll::Ready(Ok(of_caller));
            }
        }
    }
}

/// A stream that takes nothing will not take more.
fn written(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writer.poll_message(&mut this.stream, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.writer.poll_control(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Says good-bye, then ends our side.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.writer.farewell(&Control::closing(CloseCode::Normal));
        ready!(this.writer.poll_control(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_has_no_buffer_and_little_state() {
        let idle = WebSocket::new(());
        assert!(size_of_val(&idle) <= 96, "{}", size_of_val(&idle));
    }
}
