//! The thread that checks passwords and tokens, which takes too long for the engine's.

use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::engine::{Input, Proof};
use crate::io::Driver;

/// The way to the thread. It ends when this is dropped and its last check is done.
#[derive(Debug)]
pub struct Verifier {
    /// Room for one: the engine asks for no second check before the first is done.
    checks: SyncSender<(u64, Proof)>,
}

/// What the thread found out, one for each check.
pub type Verdicts = UnboundedReceiver<(u64, bool)>;

impl Verifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has none.
    pub fn start() -> io::Result<(Self, Verdicts)> {
        let (checks, asked) = sync_channel(1);
        let (tell, verdicts) = unbounded_channel();
        std::thread::Builder::new().name("moteway-login".to_owned()).spawn(move || work(&asked, &tell))?;
        Ok((Self { checks }, verdicts))
    }

    /// Hands over a check. False if it was not taken: then there will be no verdict.
    pub(super) fn check(&self, check: u64, proof: Proof) -> bool {
        self.checks.try_send((check, proof)).is_ok()
    }
}

fn work(asked: &Receiver<(u64, Proof)>, tell: &UnboundedSender<(u64, bool)>) {
    while let Ok((check, proof)) = asked.recv() {
        let good = proof.verify();
        // The secret in it goes before anybody hears of it.
        drop(proof);
        if tell.send((check, good)).is_err() {
            return;
        }
    }
}

/// Tells the engine what came out, until the thread is gone.
pub async fn serve_verdicts(driver: Rc<Driver>, mut verdicts: Verdicts) {
    while let Some((check, good)) = verdicts.recv().await {
        driver.input(Input::Verified { check, good });
    }
}
