//! The writer thread: commands come in through a bounded queue and are done one after the other.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::StepResult;

use crate::queue::{Batch, Read, Recovered, Reply};
use crate::store::database::{Database, file_error};
use crate::store::options::{Options, StoreError};
use crate::store::session::Session;

/// Without a command for this long, unused space is given back.
const IDLE: Duration = Duration::from_secs(5);

/// Copied for a backup before others have their turn: some milliseconds on slow flash.
const PAGES_PER_STEP: i32 = 64;

/// What the store is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Commit a batch; answered by [`Reply::Committed`] or [`Reply::Failed`].
    Commit(Batch),
    /// Read rows; answered by [`Reply::Rows`] or [`Reply::Unreadable`].
    Read(Read),
    /// Fold the log into the file. Not answered.
    Checkpoint,
    /// Copy all that is committed to another file, between other commands.
    Backup(Backup),
}

/// A copy that is asked for.
pub struct Backup {
    /// The file, which must not be there.
    pub to: PathBuf,
    /// Told, from the writer thread, how it went. Must not block.
    pub tell: Box<dyn FnOnce(Result<(), String>) + Send>,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("to", &self.to).finish_non_exhaustive()
    }
}

/// A command was not taken.
#[derive(Debug)]
pub enum SubmitError {
    /// More commands are outstanding than [`Options::max_pending`].
    Full(Command),
    /// The store is closed.
    Closed(Command),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "too many commands wait for the store",
            Self::Closed(_) => "the store is closed",
        })
    }
}

impl std::error::Error for SubmitError {}

/// Where replies go. Called from the writer thread; must not block.
pub type OnReply = Box<dyn Fn(Reply) + Send>;

/// The handle of a running store. Dropping it does what [`Store::close`] does, without the result.
#[derive(Debug)]
pub struct Store {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Store {
    /// Opens the file (see [`Database::open`]) and starts the writer thread.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread not be started.
    pub fn open(options: &Options, on_reply: OnReply) -> Result<(Self, Recovered), StoreError> {
        let (database, recovered) = Database::open(options)?;
        let (commands, inbox) = mpsc::sync_channel(options.max_pending);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(database, &inbox, &*on_reply))
            .map_err(|error| file_error(&options.dir, "no thread for the store", error))?;
        Ok((Self { commands: Some(commands), thread: Some(thread) }, recovered))
    }

    /// Hands a command over without waiting.
    ///
    /// # Errors
    /// Gives the command back if too many are outstanding or the store is closed.
    pub fn submit(&self, command: Command) -> Result<(), SubmitError> {
        let Some(commands) = &self.commands else { return Err(SubmitError::Closed(command)) };
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) => SubmitError::Full(command),
            TrySendError::Disconnected(command) => SubmitError::Closed(command),
        })
    }

    /// Does what was submitted, folds the log into the file and closes it.
    ///
    /// # Errors
    /// In words, if the file could not be closed in order. Nothing that was committed is lost.
    pub fn close(mut self) -> Result<(), String> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), String> {
        self.commands = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err("the store thread ended early".to_owned()),
            None => Ok(()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A close that failed lost nothing: the log is read at the next start.
        self.finish().unwrap_or_default();
    }
}

fn run(mut database: Database, inbox: &Receiver<Command>, on_reply: &dyn Fn(Reply)) -> Result<(), String> {
    let mut session = database.session();
    // There may be something to give back since the last run.
    let mut tidy = false;
    while let Some(command) = next(inbox, &mut session, &mut tidy) {
        if let Some(Backup { to, tell }) = obey(command, &mut session, on_reply) {
            tell(backup(&to, inbox, &mut session, on_reply));
        }
    }
    drop(session);
    database.close()
}

/// Does what can be done at once. A backup takes longer, and is given back.
fn obey(command: Command, session: &mut Session<'_>, on_reply: &dyn Fn(Reply)) -> Option<Backup> {
    match command {
        Command::Commit(batch) => on_reply(match session.apply(&batch) {
            Ok(()) => Reply::Committed { batch: batch.id },
            Err(error) => Reply::Failed { batch: batch.id, error },
        }),
        Command::Read(read) => on_reply(match session.read(&read) {
            Ok(rows) => Reply::Rows { dest: read.dest, after: read.after, rows },
            Err(error) => Reply::Unreadable { dest: read.dest, after: read.after, error },
        }),
        // A log that cannot be folded now is folded later, or refuses batches when it has grown too large.
        Command::Checkpoint => session.checkpoint().unwrap_or_default(),
        Command::Backup(backup) => return Some(backup),
    }
    None
}

/// Copies page after page. Other commands come first, and what they change is in the copy too.
fn backup(
    to: &Path,
    inbox: &Receiver<Command>,
    session: &mut Session<'_>,
    on_reply: &dyn Fn(Reply),
) -> Result<(), String> {
    let words = |error: rusqlite::Error| error.to_string();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let file = file.map_err(|error| format!("{}: {error}", to.display()))?;
    let mut copy = Connection::open(to).map_err(words)?;
    let pages = rusqlite::backup::Backup::new(session.connection(), &mut copy).map_err(words)?;
    loop {
        match inbox.try_recv() {
            Ok(command) => {
                if let Some(Backup { tell, .. }) = obey(command, session, on_reply) {
                    tell(Err("another backup is under way".to_owned()));
                }
                continue;
            }
            Err(TryRecvError::Disconnected) => return Err("the gateway stops".to_owned()),
            Err(TryRecvError::Empty) => {}
        }
        if pages.step(PAGES_PER_STEP).map_err(words)? == StepResult::Done {
            break;
        }
    }
    drop(pages);
    copy.close().map_err(|(_, error)| words(error))?;
    file.sync_all().map_err(|error| error.to_string())
}

/// The next command; `None` when the handle is gone. Uses quiet times to tidy up, then sleeps until it is needed.
fn next(inbox: &Receiver<Command>, session: &mut Session<'_>, tidy: &mut bool) -> Option<Command> {
    if *tidy {
        return inbox.recv().ok().inspect(|_| *tidy = false);
    }
    match inbox.recv_timeout(IDLE) {
        Ok(command) => return Some(command),
        Err(RecvTimeoutError::Disconnected) => return None,
        Err(RecvTimeoutError::Timeout) => {}
    }
    loop {
        if session.shrink() != Ok(true) {
            *tidy = true;
            return inbox.recv().ok().inspect(|_| *tidy = false);
        }
        match inbox.try_recv() {
            Ok(command) => return Some(command),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
    }
}
