//! Binding: TCP sockets, and Unix sockets with their file.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::io::listener::{Listener, ListenerOptions, Listening, Socket};
use crate::time::Duration;

const BACKLOG: i32 = 1024;

/// Binds a listening TCP socket. An IPv6 wildcard takes IPv4 too when `dual_stack` is set. Needs a runtime. Where
/// `shares_port`, those that allow it ([`let_share_port`]) may listen there too.
///
/// # Errors
/// If the address is taken, is not on this machine, or needs more rights.
pub fn bind_listener(
    bind: SocketAddr,
    dual_stack: bool,
    shares_port: bool,
    options: ListenerOptions,
) -> io::Result<Listener> {
    let socket = socket2::Socket::new(Domain::for_address(bind), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if bind.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these, which saves three calls for each. The keep-alive ends connections to machines
    // that vanished, for clients that chose not to have MQTT's own.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(600))
        .with_interval(Duration::from_secs(60))
        .with_retries(5);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_reuse_port(shares_port)?;
    socket.bind(&bind.into())?;
    socket.listen(BACKLOG)?;
    // Not for anybody else, though.
    socket.set_reuse_port(false)?;
    Ok(Listener::new(Socket::Tcp(TcpListener::from_std(socket.into())?), options))
}

/// Whether another socket of ours may listen at the same port while this one still does.
///
/// # Errors
/// What the system says.
pub fn let_share_port(listening: &Listening, may: bool) -> io::Result<()> {
    match &*listening.socket {
        Socket::Tcp(socket) => SockRef::from(socket).set_reuse_port(may),
        Socket::Unix { .. } => Ok(()),
    }
}

/// Gives the file of a Unix socket other permissions.
///
/// # Errors
/// What the system says.
pub fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Binds a listening Unix socket for clients, see [`bind_unix`]. Needs a runtime.
///
/// # Errors
/// As there.
pub fn bind_unix_listener(path: &Path, mode: u32, options: ListenerOptions) -> io::Result<Listener> {
    let (socket, file) = bind_unix(path, mode, |_| Ok(()))?;
    Ok(Listener::new(Socket::Unix { socket: UnixListener::from_std(socket)?, _file: file }, options))
}

/// Binds a listening Unix socket, whose file gets the permissions `mode` and what `prepare` does to it. A file that a
/// dead process left there is replaced.
///
/// # Errors
/// If somebody answers there, if something else has that name, or if the directory is missing or not ours to write.
pub fn bind_unix(
    path: &Path,
    mode: u32,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<(net::UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    // Until it listens nobody can connect, so nobody comes in before the permissions are right.
    prepare(path)?;
    set_socket_mode(path, mode)?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Removes the socket of a process that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file of this name, and it is no socket",
            ));
        }
        Ok(_) => {}
    }
    match net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file of our socket, removed when it goes, unless another has taken its name meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file cannot be removed");
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}
