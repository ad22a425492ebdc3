//! WebSocket for the client side, RFC 6455: how an upstream is reached where only HTTP passes.
//!
//! What we send is masked [RFC 6455 5.3], so it is copied; upstreams are few. What comes is handed on in the buffer
//! that it was read into.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::http::{self, invalid};
use crate::io::share::come_back_later;
use crate::io::websocket::End;
use crate::io::websocket::frame::{self, BINARY, CLOSE, CloseCode, Control, Decoder, Event, PONG, Violation};
use crate::io::websocket::handshake::{accept_key, base64};
use crate::sys;

/// Bytes of the caller in one frame.
const FRAME_BYTES: usize = 16 * 1024;
/// Frames that wait to be written: one of data, and answers to pings. A peer that sends pings and does not read gets no
/// more answers.
const MAX_OUT_BYTES: usize = 2 * FRAME_BYTES;

/// Asks a server for a WebSocket that carries MQTT.
///
/// # Errors
/// If the server refuses, or does not answer as it must.
pub(in crate::io) async fn connect<S>(mut stream: S, host: &str, path: &str) -> io::Result<ClientWebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = base64(&sys::random_bytes::<16>()?);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    let answer = http::ask(&mut stream, &request).await?;
    let is = |name: &str, wanted: &str| answer.field(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    if answer.status != 101 {
        return Err(invalid(format!("no WebSocket at {path}: {}", answer.line)));
    }
    if !is("upgrade", "websocket") || answer.field("sec-websocket-accept") != Some(&accept_key(&key)) {
        return Err(invalid(format!("the answer at {path} is not that of a WebSocket")));
    }
    // [MQTT-6.0.0-4]
    if answer.field("sec-websocket-protocol") != Some("mqtt") {
        return Err(invalid(format!("what is at {path} does not speak mqtt")));
    }
    Ok(ClientWebSocket {
        stream,
        decoder: Decoder::of_a_server(),
        out: Vec::new(),
        written: 0,
        said_goodbye: false,
        end: End::Open,
    })
}

/// A stream of bytes over a WebSocket. Reading ends where the server says good-bye.
pub(in crate::io) struct ClientWebSocket<S> {
    stream: S,
    decoder: Decoder,
    /// Frames that are not written yet.
    out: Vec<u8>,
    /// So much of it is.
    written: usize,
    said_goodbye: bool,
    end: End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ClientWebSocket<S> {
    /// Writes the frames that wait.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn put<'p>(&mut self, kind: u8, payload: impl Iterator<Item = &'p [u8]> + Clone) -> io::Result<()> {
        let mask = sys::random_bytes()?;
        frame::put_masked(kind, payload, mask, &mut self.out);
        Ok(())
    }

    fn put_close(&mut self, close: &Control) -> io::Result<()> {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            self.put(CLOSE, std::iter::once(close.bytes()))?;
        }
        Ok(())
    }

    /// Takes apart what was read. Returns how many bytes are the caller's.
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut events = Vec::new();
        let decoded = self.decoder.decode(bytes, |event| events.push(event));
        for event in events {
            match event {
                Event::Ping(ping) if !self.said_goodbye && self.out.len() < MAX_OUT_BYTES => {
                    self.put(PONG, std::iter::once(ping.bytes()))?;
                }
                Event::Ping(_) => {}
                Event::Close(close) => {
                    self.end = End::Closed;
                    self.put_close(&close)?;
                }
            }
        }
        decoded.or_else(|Violation { code, text }| {
            self.end = End::Failed;
            self.put_close(&Control::closing(code))?;
            Err(invalid(text))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientWebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Answers go when the socket takes them; a write that fails is found by whoever reads or writes next.
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        if this.end == End::Closed {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            this.end = End::Closed;
            return Poll::Ready(Ok(()));
        }
        let count = if this.end == End::Failed { 0 } else { this.take(&mut buf.filled_mut()[before..])? };
        buf.set_filled(before + count);
        if let Poll::Ready(Err(error)) = this.poll_out(cx) {
            return Poll::Ready(Err(error));
        }
        if count == 0 && this.end != End::Closed {
            // Frames without content: others have their turn before more of them.
            come_back_later(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientWebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        if this.said_goodbye {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = FRAME_BYTES;
        let pieces = bufs.iter().map(|buf| {
            let piece = &buf[..buf.len().min(room)];
            room -= piece.len();
            piece
        });
        let pieces: Vec<&[u8]> = pieces.collect();
        let taken = FRAME_BYTES - room;
        if taken > 0 {
            this.put(BINARY, pieces.iter().copied())?;
        }
        // The rest goes with the flush.
        match this.poll_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Says good-bye, then ends our side.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.put_close(&Control::closing(CloseCode::Normal))?;
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::io::websocket::{WebSocket, accept};

    async fn pair(room: usize) -> (ClientWebSocket<DuplexStream>, WebSocket<DuplexStream>) {
        let (ours, theirs) = duplex(room);
        let (client, server) = tokio::join!(connect(ours, "h", "/mqtt"), accept(theirs, "/mqtt"));
        (client.unwrap(), server.unwrap())
    }

    #[tokio::test]
    async fn our_server_and_our_client_understand_each_other_through_a_narrow_pipe() {
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 241) as u8).collect();
        let (mut client, mut server) = pair(700).await;
        let up = async {
            client.write_all(&sent).await.unwrap();
            client.flush().await.unwrap();
            let mut back = vec![0; sent.len()];
            client.read_exact(&mut back).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "the server's good-bye");
            back
        };
        let down = async {
            let mut there = vec![0; sent.len()];
            server.read_exact(&mut there).await.unwrap();
            server.write_all(&there).await.unwrap();
            server.flush().await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the client's good-bye");
            server.shutdown().await.unwrap();
        };
        let (back, ()) = tokio::join!(up, down);
        assert!(back == sent);
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_a_masked_frame_is_an_end() {
        let (client, server) = pair(4096).await;
        let (mut client, mut raw) = (client, server.stream);
        raw.write_all(&[0x89, 2, b'h', b'i', 0x82, 1, b'x']).await.unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");
        let mut pong = [0; 8];
        raw.read_exact(&mut pong).await.unwrap();
        assert_eq!((pong[0], pong[1]), (0x8A, 0x82));
        assert_eq!([pong[6] ^ pong[2], pong[7] ^ pong[3]], *b"hi");
        raw.write_all(&[0x82, 0x81, 0, 0, 0, 0, b'x']).await.unwrap();
        let error = client.read(&mut byte).await.unwrap_err().to_string();
        assert!(error.contains("masked"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_none_is_told_from_one() {
        let accepted = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n";
        for (answer, words) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "404 Not Found"),
            ("HTTP/1.1 101 Yes\r\nUpgrade: h2c\r\n\r\n".to_owned(), "not that of a WebSocket"),
            (format!("HTTP/1.1 101 Yes\r\n{accepted}\r\n"), "not that of a WebSocket"),
        ] {
            let (ours, mut theirs) = duplex(4096);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            let error = connect(ours, "h", "/mqtt").await.err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
