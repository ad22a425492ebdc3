//! One connection: a request is read, answered, and the connection ends.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::admin::Office;
use crate::admin::guard::Door;
use crate::admin::http::{Body, Method, Parsed, Request, Response, parse};
use crate::admin::router;
use crate::time::Duration;

/// From the connection to the end of the request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long the reader of an answer may take for one piece of it.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// After the answer, until the other side closes: what it still sends is read, or it might lose the answer.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 4 * 1024;
/// Of an answer, in one go.
const PIECE_BYTES: usize = 64 * 1024;
/// What a sender may still say while we wait for its end.
const MAX_REST_BYTES: usize = 64 * 1024;

/// A connection of either door.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Stream for S {}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not said yet what it wants.
    Asking,
    /// It has not got its whole answer yet.
    Hearing,
    /// It has, and should close.
    Leaving,
}

/// Reads a request, answers it, and closes.
pub(super) async fn serve<S: Stream>(mut stream: S, door: Door, office: Arc<Office>, phase: Rc<Cell<Phase>>) {
    let (response, with_body) = match timeout(REQUEST_LIMIT, read(&mut stream)).await {
        Ok(Ok(Ok(request))) => {
            phase.set(Phase::Hearing);
            let response = router::answer(&office, door, &request).await;
            (response, request.method != Method::Head)
        }
        Ok(Ok(Err(refused))) => (refused, true),
        // Gone before it had said anything.
        Ok(Err(_)) => return,
        Err(_) => (Response::error(408, "the request took too long"), true),
    };
    phase.set(Phase::Hearing);
    if write(&mut stream, response, with_body).await.is_ok() {
        phase.set(Phase::Leaving);
        // Whether it heard us out or not, it is over.
        timeout(LINGER_LIMIT, linger(&mut stream)).await.ok();
    }
}

/// A request, or why it is none.
async fn read<S: Stream>(stream: &mut S) -> io::Result<Result<Request, Response>> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes) {
            Ok(Parsed::Whole(request)) => return Ok(Ok(request)),
            Ok(Parsed::Part) => {}
            Err(fault) => return Ok(Err(Response::error(fault.0, fault.1))),
        }
        let had = bytes.len();
        bytes.reserve(READ_BYTES);
        if stream.read_buf(&mut bytes).await? == 0 && bytes.len() == had {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn write<S: Stream>(stream: &mut S, response: Response, with_body: bool) -> io::Result<()> {
    let mut head = response.head();
    match response.body {
        _ if !with_body => piece(stream, &head).await,
        Body::Whole(body) if body.len() < PIECE_BYTES => {
            head.extend(body);
            piece(stream, &head).await
        }
        Body::Whole(body) => whole(stream, &head, &body).await,
        Body::Fixed(body) => whole(stream, &head, body).await,
        Body::Stream(mut parts) => {
            piece(stream, &head).await?;
            while let Some(part) = parts.recv().await {
                let part = part.map_err(io::Error::other)?;
                if !part.is_empty() {
                    piece(stream, format!("{:x}\r\n", part.len()).as_bytes()).await?;
                    whole(stream, &part, b"\r\n").await?;
                }
            }
            piece(stream, b"0\r\n\r\n").await
        }
    }
}

async fn whole<S: Stream>(stream: &mut S, head: &[u8], body: &[u8]) -> io::Result<()> {
    for bytes in head.chunks(PIECE_BYTES).chain(body.chunks(PIECE_BYTES)) {
        piece(stream, bytes).await?;
    }
    Ok(())
}

/// Writes this much within the limit.
async fn piece<S: Stream>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_LIMIT, stream.write_all(bytes)).await.map_err(io::Error::from)?
}

async fn linger<S: Stream>(stream: &mut S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let mut left = MAX_REST_BYTES;
    loop {
        let count = stream.read(&mut rest).await?;
        if count == 0 || count > left {
            return Ok(());
        }
        left -= count;
    }
}
