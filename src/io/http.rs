//! As much of HTTP as it takes to ask for something else: one request, the head of its answer.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The first line without the version: the status and its words.
    pub(super) line: String,
    fields: Vec<(String, String)>,
}

impl Answer {
    /// The first field of this name, which is in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let (version, line) = lines.next()?.split_once(' ')?;
        let status = line.get(..3)?.parse().ok()?;
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Some(Self { status, line: line.to_owned(), fields: fields.collect() })
    }
}

/// Sends a request without a body and reads the head of the answer, and not a byte more: what follows is another
/// protocol's.
pub(super) async fn ask<S>(stream: &mut S, request: &str) -> io::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_BYTES {
            return Err(invalid("the head of its answer is longer than 8 KiB"));
        }
        head.push(stream.read_u8().await?);
    }
    let head = str::from_utf8(&head).ok().and_then(|head| Answer::parse(head.trim_end_matches("\r\n")));
    head.ok_or_else(|| invalid("its answer is not HTTP"))
}

pub(super) fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_head_is_read_and_what_follows_is_left() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 101 Switching\r\nA: 1\r\nb : two\r\n\r\nrest").await.unwrap();
        let answer = ask(&mut ours, "GET /").await.unwrap();
        assert_eq!((answer.status, answer.line.as_str()), (101, "101 Switching"));
        assert_eq!([answer.field("a"), answer.field("b"), answer.field("c")], [Some("1"), Some("two"), None]);
        let mut rest = [0; 4];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"rest");
        let mut asked = [0; 5];
        theirs.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"GET /");
    }

    #[tokio::test]
    async fn what_is_not_http_or_does_not_end_is_refused() {
        for (said, words) in [
            ("SSH-2.0-x\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 abc\r\n\r\n", "not HTTP"),
            (&format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(9000)), "8 KiB"),
            ("HTTP/1.1 200", "end of file"),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(16 * 1024);
            theirs.write_all(said.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let error = ask(&mut ours, "x").await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
