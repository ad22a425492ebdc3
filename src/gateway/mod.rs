//! MQTT-SN sessions, topic registry, sleeping clients.

mod port;

pub use port::{Next, Opened, Publish, SessionId, Sessions, Will};
