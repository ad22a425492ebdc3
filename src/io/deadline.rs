//! One timer for all of the engine's deadlines.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::{Sleep, sleep_until};

use crate::engine::Input;
use crate::io::Driver;
use crate::io::share::come_back_later;
use crate::time::Instant;

/// Timeouts handed to the engine in one go before other tasks get their turn.
const TIMEOUTS_PER_TURN: usize = 16;

/// When the timer goes off. It is only touched when a deadline becomes earlier: one that moved away is noticed when
/// the timer fires for nothing.
#[derive(Default)]
pub(super) struct Alarm {
    set_for: Option<Instant>,
    waker: Option<Waker>,
}

impl Alarm {
    /// Makes sure that the timer fires at `deadline` or before.
    pub(super) fn expect(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if self.set_for.is_none_or(|at| deadline < at) {
            self.set_for = Some(deadline);
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// Gives the engine `Input::Timeout` at its deadlines, for ever.
pub(super) async fn watch(driver: Rc<Driver>) {
    let mut sleep = pin!(sleep_until(driver.clock.to_system(Instant::ZERO).into()));
    poll_fn(|cx| poll_watch(&driver, sleep.as_mut(), cx)).await;
}

fn poll_watch(driver: &Rc<Driver>, mut sleep: std::pin::Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..TIMEOUTS_PER_TURN {
        let now = driver.clock.now();
        let mut core = driver.core();
        core.alarm.waker = Some(cx.waker().clone());
        let deadline = core.engine.deadline();
        core.alarm.set_for = deadline;
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline <= now.at {
            core.tell_ports(now);
            core.input(now, Input::Timeout);
            driver.end_turn(core);
            continue;
        }
        drop(core);
        let fires_at = driver.clock.to_system(deadline).into();
        if sleep.deadline() != fires_at || sleep.is_elapsed() {
            sleep.as_mut().reset(fires_at);
        }
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
    }
    come_back_later(cx);
    Poll::Pending
}
