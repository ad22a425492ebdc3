//! The store, wired to the driver.

use std::rc::Rc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::config::Config;
use crate::daemon::DaemonError;
use crate::io::Disk;
use crate::queue::{Batch, Read, Recovered, Reply};
use crate::store::{Command, Options, Store};

/// An open store and what it found.
pub(super) struct Storage {
    store: Rc<Store>,
    recovered: Recovered,
    replies: Option<UnboundedReceiver<Reply>>,
}

impl Storage {
    /// Opens the store in the state directory. The channel for its replies is as long as what the engine has under
    /// way, which `store.max_pending_bytes` bounds.
    pub(super) fn open(config: &Config) -> Result<Self, DaemonError> {
        let path = &config.gateway.state_dir;
        std::fs::create_dir_all(path).map_err(|error| DaemonError::StateDir { path: path.clone(), error })?;
        let (tell, replies) = unbounded_channel();
        // Nobody listens any more once the driver is gone; the store finishes what it has all the same.
        let on_reply = move |reply| drop(tell.send(reply));
        let (store, recovered) = Store::open(Options::new(path, &config.store), on_reply)
            .map_err(|error| DaemonError::Store(error.to_string()))?;
        if let Some(damage) = &recovered.damage {
            tracing::error!(damage, "the message store was damaged");
        }
        Ok(Self { store: Rc::new(store), recovered, replies: Some(replies) })
    }

    pub(super) fn take_recovered(&mut self) -> Recovered {
        std::mem::take(&mut self.recovered)
    }

    pub(super) fn take_replies(&mut self) -> UnboundedReceiver<Reply> {
        self.replies.take().unwrap_or_else(|| unbounded_channel().1)
    }

    pub(super) fn disk(&self) -> Box<dyn Disk> {
        Box::new(Handle(Rc::clone(&self.store)))
    }

    /// Waits until everything handed over is written. The driver is gone by now.
    pub(super) fn close(self) {
        if let Some(store) = Rc::into_inner(self.store) {
            store.close();
        }
    }
}

struct Handle(Rc<Store>);

impl Disk for Handle {
    fn commit(&mut self, batch: Batch) {
        self.0.submit(Command::Commit(batch));
    }

    fn read(&mut self, read: Read) {
        self.0.submit(Command::Read(read));
    }
}
