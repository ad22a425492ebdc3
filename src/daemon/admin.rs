//! Control socket and status page, as the configuration asks for them. The gateway works without them, so what is
//! wrong with them is said in the log and stops nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use nix::unistd::{Group, chown};
use tokio::sync::mpsc::Receiver;

use crate::admin::{Admin, Desk, Doors, Log, Office, Orders, Question, Token};
use crate::config::{self, Config};
use crate::engine::drill::Disk;
use crate::io::{Driver, SocketFile, bind_unix};
use crate::queue::{Look, Looks};
use crate::store::{Inspector, Options, PAGE_SIZE};

/// Both doors while they are open.
pub(super) struct Reception {
    /// Where the status page is, with the port that the system chose for port 0.
    pub(super) http: Option<SocketAddr>,
    _admin: Admin,
    _file: Option<SocketFile>,
}

/// Opens the doors and answers what is asked through them. Call it on the engine's thread.
pub(super) fn open(
    driver: &Rc<Driver>,
    config: &Config,
    log: Option<Arc<Log>>,
    orders: Orders,
) -> Option<Reception> {
    let (name, state_dir) = (config.gateway.name.clone(), config.gateway.state_dir.clone());
    let disk = disk(config);
    let config = &config.admin;
    let looks = Looks::new(move || Ok(Box::new(Inspector::open(&state_dir)?) as Box<dyn Look>));
    let (desk, questions) = Desk::open();
    let token = token(config);
    let (socket, file) = config.socket.as_deref().and_then(|path| socket(path, config)).unzip();
    let doors = Doors { socket, http: http(config, token.is_some()) };
    if doors.socket.is_none() && doors.http.is_none() {
        return None;
    }
    let token_to_read = config.http.is_some_and(|http| !http.ip().is_loopback());
    let http = doors.http.as_ref().and_then(|http| http.local_addr().ok());
    let office = Office {
        desk,
        orders,
        name,
        log,
        token,
        token_to_read,
        disk,
        looks: Arc::new(looks),
        replay: Default::default(),
        max_connections: config.max_connections,
    };
    match Admin::start(doors, office) {
        Ok(admin) => {
            tokio::task::spawn_local(answer(Rc::clone(driver), questions));
            Some(Reception { http, _admin: admin, _file: file })
        }
        Err(error) => {
            tracing::error!(%error, "no thread for the control socket and the status page: there are none");
            None
        }
    }
}

/// What the store may take, for predictions.
fn disk(config: &Config) -> Disk {
    let (max_bytes, log_bytes) = Options::new(&config.gateway.state_dir, &config.store).bounds();
    Disk { page_bytes: PAGE_SIZE.into(), max_bytes, log_bytes }
}

async fn answer(driver: Rc<Driver>, mut questions: Receiver<Question>) {
    while let Some(question) = questions.recv().await {
        driver.visit(question);
    }
}

fn socket(path: &Path, config: &config::Admin) -> Option<(UnixListener, SocketFile)> {
    match bind_unix(path, config.mode, |path| give_to_group(path, &config.group)) {
        Ok(bound) => Some(bound),
        Err(error) => {
            let path = path.display();
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "; its directory must be there, [admin] socket may name another",
                io::ErrorKind::AddrInUse => "; another gateway answers there",
                io::ErrorKind::PermissionDenied => "; this user must be allowed to write to its directory",
                _ => "",
            };
            tracing::warn!(
                "no control socket, so `moteway status` and the like do not work: {path}: {error}{remedy}"
            );
            None
        }
    }
}

fn give_to_group(path: &Path, name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let group = Group::from_name(name)?.ok_or_else(|| io::Error::other(format!("there is no group {name:?}")))?;
    Ok(chown(path, None, Some(group.gid))?)
}

fn http(config: &config::Admin, has_token: bool) -> Option<TcpListener> {
    let at = config.http?;
    if !at.ip().is_loopback() && !has_token {
        tracing::error!("no status page on {at}: others can reach it, and there is no token to ask them for");
        return None;
    }
    match TcpListener::bind(at) {
        Ok(bound) => Some(bound),
        Err(error) => {
            tracing::warn!("no status page and no metrics: [admin] http cannot use {at}: {error}");
            None
        }
    }
}

fn token(config: &config::Admin) -> Option<Token> {
    let path = config.token_file.as_deref()?;
    match Token::read(path) {
        Ok(token) => Some(token),
        Err(error) => {
            tracing::error!("nothing can be changed over HTTP: the token file {}: {error}", path.display());
            None
        }
    }
}
