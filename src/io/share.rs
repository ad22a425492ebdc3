//! What a task does that has used up its share of a turn.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

use tokio::task::yield_now;

/// Comes back for more, once the sockets and timers of all others were looked at.
///
/// A task that wakes itself is polled again at once, and the runtime looks at its sockets after 61 polls: whoever has
/// enough to read would get 61 shares before anybody else is heard.
pub(super) fn come_back_later(cx: &mut Context<'_>) {
    if pin!(yield_now()).poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
}
