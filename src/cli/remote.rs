//! The running gateway, seen from the command line: one HTTP request over its control socket.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{DEFAULT_CONFIG, Failure};
use crate::config;
use crate::time::Duration;

/// How long the gateway may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of an answer that is read whole.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
const MAX_LINE_BYTES: u64 = 16 << 10;

/// Which gateway is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Remote {
    /// The configuration of the gateway that is asked; it names the control socket
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The control socket, when it is not the one that the configuration names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Remote {
    /// The configuration of the gateway that is meant.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// Asks for something, and understands the answer.
    pub(super) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        understand(&self.send("GET", target, None)?.whole()?)
    }

    /// Has something done. An answer of no interest is `serde::de::IgnoredAny`.
    pub(super) fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Failed(error.to_string()))?;
        understand(&self.send("POST", target, Some(&body))?.whole()?)
    }

    /// Sends a request, and reads the answer up to its body. An answer that says no is a failure, in its words.
    pub(super) fn send(&self, method: &str, target: &str, body: Option<&[u8]>) -> Result<Answer, Failure> {
        let path = self.socket()?;
        let stream = UnixStream::connect(&path).map_err(|error| cannot_connect(&path, &error))?;
        exchange(stream, method, target, body).map_err(|error| {
            Failure::Failed(match error.kind() {
                io::ErrorKind::WouldBlock => format!("the gateway has not answered for {} s", PATIENCE.as_secs()),
                io::ErrorKind::UnexpectedEof => "the gateway ended the connection without an answer".to_owned(),
                _ => format!("the gateway does not answer as it should: {error}"),
            })
        })?
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let admin = match config::Document::read(&self.config, &|name| std::env::var(name).ok()) {
            // What is wrong elsewhere in it is not our business.
            Ok(document) => document.draft().admin.clone(),
            // Who may use the socket need not be allowed to read the configuration.
            Err(_) if self.config.as_os_str() == DEFAULT_CONFIG => config::Admin::default(),
            Err(error) => return Err(Failure::NoConfig(error)),
        };
        admin.socket.ok_or_else(|| {
            Failure::Failed("the configuration has no control socket: give [admin] a `socket`".to_owned())
        })
    }
}

fn cannot_connect(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::NotRunning(format!(
            "the gateway does not run, or listens elsewhere: nobody answers at {path}; \
             `systemctl status moteway` tells more, --socket and --config name another"
        )),
        io::ErrorKind::PermissionDenied => Failure::NotAllowed(format!(
            "you may not use the control socket {path}: be root or a member of its group (`ls -l {path}` names it)"
        )),
        _ => Failure::Failed(format!("the control socket {path} cannot be used: {error}")),
    }
}

fn understand<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Failed(format!(
            "the answer of the gateway is not understood, it may be of another version: {error}"
        ))
    })
}

fn exchange(
    mut stream: UnixStream,
    method: &str,
    target: &str,
    body: Option<&[u8]>,
) -> io::Result<Result<Answer, Failure>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(body) = body {
        let length = body.len();
        write!(head, "Content-Type: application/json\r\nContent-Length: {length}\r\n").map_err(io::Error::other)?;
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    stream.write_all(body.unwrap_or_default())?;
    let mut reader = BufReader::new(stream);
    let status = line(&mut reader)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    let status = status.ok_or_else(|| io::Error::other("this is no HTTP"))?;
    let mut is_chunked = false;
    loop {
        let line = line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        is_chunked |= line.eq_ignore_ascii_case("transfer-encoding: chunked");
    }
    let answer = Answer { reader, is_chunked, left: 0, is_over: false };
    if (200..300).contains(&status) {
        return Ok(Ok(answer));
    }
    let body = answer.whole().unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.as_ref().and_then(|body| body["error"].as_str());
    Ok(Err(Failure::Failed(format!("the gateway says no: {}", said.unwrap_or("without a reason")))))
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(MAX_LINE_BYTES).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The body of an answer, as it comes.
pub(super) struct Answer {
    reader: BufReader<UnixStream>,
    is_chunked: bool,
    /// Bytes left of this chunk.
    left: u64,
    is_over: bool,
}

impl Answer {
    /// All of it.
    fn whole(self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        self.take(MAX_ANSWER_BYTES)
            .read_to_end(&mut body)
            .map_err(|error| Failure::Failed(format!("the answer of the gateway broke off: {error}")))?;
        Ok(body)
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_chunked {
            return self.reader.read(buffer);
        }
        if self.left == 0 && !self.is_over {
            let size = line(&mut self.reader)?;
            self.left = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
            if self.left == 0 {
                self.is_over = true;
                line(&mut self.reader)?;
            }
        }
        if self.is_over || buffer.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if self.left == 0 {
            line(&mut self.reader)?;
        }
        Ok(count)
    }
}
