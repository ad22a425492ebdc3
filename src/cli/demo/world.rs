//! What all parts of the demo share, on one thread.

use std::cell::{Cell, RefCell};

use crate::cli::demo::ledger::Ledger;
use crate::time::Duration;

/// How fast the story is told, and how much traffic there is.
#[derive(Debug)]
pub(super) struct Pace {
    /// With everything up.
    pub(super) calm: Duration,
    /// Outage before the gateway is killed.
    pub(super) outage: Duration,
    /// Without a gateway.
    pub(super) dead: Duration,
    /// Outage after the gateway is back.
    pub(super) outage_after: Duration,
    /// Traffic after the link is back.
    pub(super) drain: Duration,
    /// Between two lines that tell how it goes.
    pub(super) sample: Duration,
    /// MQTT-SN T_RETRY of the sensors.
    pub(super) retry: Duration,
}

impl Pace {
    /// For a reader.
    pub(super) const FULL: Self = Self {
        calm: Duration::from_secs(5),
        outage: Duration::from_secs(6),
        dead: Duration::from_millis(1500),
        outage_after: Duration::from_secs(5),
        drain: Duration::from_secs(4),
        sample: Duration::from_secs(1),
        retry: Duration::from_secs(1),
    };
    /// For a test.
    pub(super) const FAST: Self = Self {
        calm: Duration::from_millis(1000),
        outage: Duration::from_millis(1500),
        dead: Duration::from_millis(300),
        outage_after: Duration::from_millis(1500),
        drain: Duration::from_millis(1000),
        sample: Duration::from_millis(500),
        retry: Duration::from_millis(300),
    };
}

/// Shared by the sensors, the publishers, the subscribers and the story.
#[derive(Debug)]
pub(super) struct World {
    pub(super) pace: Pace,
    pub(super) ledger: RefCell<Ledger>,
    /// Publishers finish what they have in hand, and go.
    pub(super) stopping: Cell<bool>,
    /// A probe made its way from the cloud to the far side of the gateway.
    pub(super) greeted: Cell<bool>,
    /// Subscribers that are in place.
    pub(super) subscribed: Cell<usize>,
    /// Broken promises that no count of messages shows.
    pub(super) faults: RefCell<Vec<String>>,
}

impl World {
    /// Before anything happened.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            ledger: RefCell::default(),
            stopping: Cell::new(false),
            greeted: Cell::new(false),
            subscribed: Cell::new(0),
            faults: RefCell::default(),
        }
    }
}
