//! From a bound socket to a request and back. Who is slow makes room for who is not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};

use crate::admin::guard::Door;
use crate::admin::wire::{self, Phase, Stream};
use crate::admin::{Doors, Office};
use crate::time::Duration;

/// A pause after the system had no file or memory for another connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// An answer may take this long before it has to make room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins to serve. Needs a runtime.
pub(super) fn doors(doors: Doors, office: Arc<Office>) -> io::Result<()> {
    if let Some(socket) = doors.socket {
        socket.set_nonblocking(true)?;
        let socket = UnixListener::from_std(socket)?;
        let hall = Hall::new(Door::Socket, Arc::clone(&office));
        spawn_local(async move {
            loop {
                hall.take(socket.accept().await.map(|(stream, _)| stream)).await;
            }
        });
    }
    if let Some(http) = doors.http {
        http.set_nonblocking(true)?;
        let http = TcpListener::from_std(http)?;
        let hall = Hall::new(Door::Http, office);
        spawn_local(async move {
            loop {
                hall.take(http.accept().await.map(|(stream, _)| stream)).await;
            }
        });
    }
    Ok(())
}

/// Everybody who came through one door. When there are too many, one has to go: who has the answer and does not close,
/// or who has been there longest without having said what it wants, or who takes long to hear the answer. So slow ones
/// keep nobody out.
struct Hall {
    door: Door,
    office: Arc<Office>,
    guests: RefCell<VecDeque<Guest>>,
}

struct Guest {
    phase: Rc<Cell<Phase>>,
    since: Instant,
    task: AbortHandle,
}

impl Hall {
    fn new(door: Door, office: Arc<Office>) -> Self {
        Self { door, office, guests: RefCell::default() }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell waits")]
    async fn take<S: Stream>(&self, accepted: io::Result<S>) {
        match accepted {
            Ok(stream) => self.admit(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection to the status page or the control socket");
                sleep(BACK_OFF).await;
            }
        }
    }

    fn admit<S: Stream>(&self, stream: S) {
        let mut guests = self.guests.borrow_mut();
        guests.retain(|guest| !guest.task.is_finished());
        if guests.len() >= self.office.max_connections {
            let first = |phase| guests.iter().position(|guest| guest.phase.get() == phase);
            let slow = || guests.iter().position(|guest| guest.since.elapsed() > PATIENCE);
            let place = first(Phase::Leaving).or_else(|| first(Phase::Asking)).or_else(slow);
            // All are being answered: the new one is closed.
            let Some(guest) = place.and_then(|place| guests.remove(place)) else { return };
            guest.task.abort();
        }
        let phase = Rc::new(Cell::new(Phase::Asking));
        let task = wire::serve(stream, self.door, Arc::clone(&self.office), Rc::clone(&phase));
        let since = Instant::now();
        guests.push_back(Guest { phase, since, task: spawn_local(task).abort_handle() });
    }
}
