//! The way to the store and back.

use std::rc::Rc;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::Input;
use crate::io::Driver;
use crate::queue::{Batch, Read, Reply};

/// Replies handled in one go before other tasks get their turn.
const REPLIES_PER_TURN: usize = 64;

/// Where the engine's commits and reads go. Neither call blocks; the engine bounds what is under way.
pub trait Disk {
    /// Makes this batch durable; [`Reply::Committed`] or [`Reply::Failed`] follows.
    fn commit(&mut self, batch: Batch);
    /// Reads rows; [`Reply::Rows`] or [`Reply::Unreadable`] follows.
    fn read(&mut self, read: Read);
    /// Replies came, so there may be room again for what had to wait.
    fn resume(&mut self);
}

/// Tells the engine what the store answers, until the store is gone.
pub async fn serve_replies(driver: Rc<Driver>, mut replies: UnboundedReceiver<Reply>) {
    let mut ready = Vec::with_capacity(REPLIES_PER_TURN);
    while replies.recv_many(&mut ready, REPLIES_PER_TURN).await > 0 {
        driver.core().disk.resume();
        driver.inputs(ready.drain(..).map(Input::Store));
    }
}
