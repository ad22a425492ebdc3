//! Costly work in small steps, so that what is running already goes on beside it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Lets one step at a time through, in the order of coming, and then all other tasks and sockets that are ready. A
/// signature takes from a tenth of a millisecond to many, and a thousand clients may want one at once.
pub(super) struct Turnstile(Semaphore);

impl Default for Turnstile {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turnstile {
    /// Does `work`. Each time it is polled counts as a step.
    pub(super) async fn pass<F: Future + Unpin>(&self, mut work: F) -> F::Output {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        loop {
            let turn = self.0.acquire().await;
            let step = Pin::new(&mut work).poll(&mut Context::from_waker(&waker));
            // The runtime looks at its sockets before it comes back here.
            yield_now().await;
            drop(turn);
            if let Poll::Ready(output) = step {
                return output;
            }
            poll_fn(|cx| bell.poll_rung(cx)).await;
        }
    }
}

/// Whether somebody woke the work, apart from all else that wakes its task.
#[derive(Default)]
struct Bell(Mutex<(bool, Option<Waker>)>);

impl Bell {
    fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut bell.0) {
            return Poll::Ready(());
        }
        bell.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bell.0 = true;
        if let Some(waker) = bell.1.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::sync::oneshot;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_between_two_steps_and_who_waits_for_its_peer_holds_nobody_up() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let turnstile = Rc::new(Turnstile::default());
                let log = Rc::new(RefCell::new(Vec::new()));
                let (tell, told) = oneshot::channel::<()>();
                let (gate, slow_log) = (Rc::clone(&turnstile), Rc::clone(&log));
                let slow = spawn_local(async move {
                    let mut told = told;
                    let answer = gate.pass(&mut told).await;
                    slow_log.borrow_mut().push("slow");
                    answer
                });
                let steps: Vec<_> = (0..3)
                    .map(|_| {
                        let (gate, log) = (Rc::clone(&turnstile), Rc::clone(&log));
                        spawn_local(async move {
                            gate.pass(std::future::ready(())).await;
                            log.borrow_mut().push("step");
                        })
                    })
                    .collect();
                let rounds = Rc::new(Cell::new(0));
                let counted = Rc::clone(&rounds);
                let other = spawn_local(async move {
                    loop {
                        counted.set(counted.get() + 1);
                        yield_now().await;
                    }
                });
                for step in steps {
                    step.await.unwrap();
                }
                assert!(rounds.get() >= 3, "{} rounds of others between 3 steps", rounds.get());
                assert_eq!(*log.borrow(), ["step"; 3]);
                tell.send(()).unwrap();
                slow.await.unwrap().unwrap();
                assert_eq!(log.borrow().last(), Some(&"slow"));
                other.abort();
            })
            .await;
    }
}
