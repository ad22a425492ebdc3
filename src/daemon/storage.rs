//! The store, wired to the driver.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::Config;
use crate::daemon::DaemonError;
use crate::io::Disk;
use crate::queue::{Batch, Read, Recovered, Reply};
use crate::store::{Backup, Command, Options, Store, SubmitError};

/// An open store, what it found, and the way of its replies. What the engine has under way, and with it the length
/// of the channel, is bounded by `store.max_pending_bytes`.
pub(super) struct Storage {
    store: Rc<Store>,
    recovered: Recovered,
    tell: UnboundedSender<Reply>,
    replies: Option<UnboundedReceiver<Reply>>,
}

impl Storage {
    /// Opens the store in the state directory.
    pub(super) fn open(config: &Config) -> Result<Self, DaemonError> {
        let path = &config.gateway.state_dir;
        std::fs::create_dir_all(path).map_err(|error| DaemonError::StateDir { path: path.clone(), error })?;
        let (tell, replies) = unbounded_channel();
        let on_reply = tell.clone();
        // Nobody listens any more once the driver is gone; the store finishes what it has all the same.
        let on_reply = Box::new(move |reply| drop(on_reply.send(reply)));
        let (store, recovered) = Store::open(&Options::new(path, &config.store), on_reply)
            .map_err(|error| DaemonError::store(&error))?;
        Ok(Self { store: Rc::new(store), recovered, tell, replies: Some(replies) })
    }

    pub(super) fn take_recovered(&mut self) -> Recovered {
        std::mem::take(&mut self.recovered)
    }

    pub(super) fn take_replies(&mut self) -> UnboundedReceiver<Reply> {
        self.replies.take().unwrap_or_else(|| unbounded_channel().1)
    }

    /// Has a copy of the store made.
    pub(super) fn backups(&self) -> Backups {
        Backups { store: Rc::clone(&self.store) }
    }

    pub(super) fn disk(&self) -> Box<dyn Disk> {
        let store = Rc::clone(&self.store);
        let submit = move |command| store.submit(command);
        Box::new(Line { submit, waiting: VecDeque::new(), tell: self.tell.clone() })
    }

    /// Waits until everything handed over is written. The driver is gone by now.
    pub(super) fn close(self) {
        if let Some(Err(error)) = Rc::into_inner(self.store).map(Store::close) {
            tracing::warn!(error, "the message store was not closed in order; nothing is lost");
        }
    }
}

/// Where copies of the store are asked for.
pub(super) struct Backups {
    store: Rc<Store>,
}

impl Backups {
    /// Asks for one. `tell` may be called from another thread.
    pub(super) fn make(&self, to: PathBuf, tell: Box<dyn FnOnce(Result<(), String>) + Send>) {
        match self.store.submit(Command::Backup(Backup { to, tell })) {
            Ok(()) => {}
            Err(SubmitError::Full(Command::Backup(backup)) | SubmitError::Closed(Command::Backup(backup))) => {
                (backup.tell)(Err("the store is busy; try again".to_owned()));
            }
            Err(_) => {}
        }
    }
}

/// Commands on their way to the store. They keep their order: what the store cannot take yet waits, and what comes
/// after it waits too.
struct Line<F> {
    submit: F,
    waiting: VecDeque<Command>,
    tell: UnboundedSender<Reply>,
}

impl<F: FnMut(Command) -> Result<(), SubmitError>> Line<F> {
    fn queue(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.resume();
    }

    /// The writer thread is gone: nothing is stored any more, and the engine has to know.
    fn refuse(&self, command: Command) {
        let error = "the message store has ended".to_owned();
        let reply = match command {
            Command::Commit(batch) => Reply::Failed { batch: batch.id, error },
            Command::Read(read) => Reply::Unreadable { dest: read.dest, after: read.after, error },
            Command::Checkpoint => return,
            Command::Backup(backup) => return (backup.tell)(Err(error)),
        };
        drop(self.tell.send(reply));
    }
}

impl<F: FnMut(Command) -> Result<(), SubmitError>> Disk for Line<F> {
    fn commit(&mut self, batch: Batch) {
        self.queue(Command::Commit(batch));
    }

    fn read(&mut self, read: Read) {
        self.queue(Command::Read(read));
    }

    fn resume(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            match (self.submit)(command) {
                Ok(()) => {}
                Err(SubmitError::Full(command)) => return self.waiting.push_front(command),
                Err(SubmitError::Closed(command)) => self.refuse(command),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::queue::{DestId, Seq};

    fn batch(id: u64) -> Batch {
        Batch { id, ops: Vec::new() }
    }

    #[test]
    fn what_the_store_cannot_take_yet_keeps_its_place() {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let room = Rc::new(RefCell::new(1));
        let (tell, _replies) = unbounded_channel();
        let submit = |command| match command {
            Command::Commit(batch) if *room.borrow() > 0 => {
                *room.borrow_mut() -= 1;
                taken.borrow_mut().push(batch.id);
                Ok(())
            }
            command => Err(SubmitError::Full(command)),
        };
        let mut line = Line { submit, waiting: VecDeque::new(), tell };
        (1..=4).for_each(|id| line.commit(batch(id)));
        assert_eq!(*taken.borrow(), [1]);
        *room.borrow_mut() = 2;
        line.resume();
        assert_eq!(*taken.borrow(), [1, 2, 3]);
        *room.borrow_mut() = 2;
        line.commit(batch(5));
        assert_eq!(*taken.borrow(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_store_that_has_ended_fails_what_it_is_given() {
        let (tell, mut replies) = unbounded_channel();
        let submit = |command| Err(SubmitError::Closed(command));
        let mut line = Line { submit, waiting: VecDeque::new(), tell };
        line.commit(batch(7));
        line.read(Read { dest: DestId(1), after: Seq(2), max_rows: 3, max_bytes: 4 });
        assert!(matches!(replies.try_recv(), Ok(Reply::Failed { batch: 7, .. })));
        assert!(matches!(replies.try_recv(), Ok(Reply::Unreadable { dest: DestId(1), after: Seq(2), .. })));
    }
}
