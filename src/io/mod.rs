//! Sockets, serial ports and timers around the engine.
//!
//! One thread runs everything here. The [`Driver`] owns the engine; each connection, link and listener has one task
//! that hands what came to the engine and writes what the engine left for it. There is no task, channel or lock per
//! message, and an idle connection owns no buffer: all reads go through one that the driver lends.
//!
//! Nothing in this module knows MQTT.

mod connection;
mod deadline;
mod disk;
mod driver;
mod dtls;
mod http;
mod listener;
mod network;
mod notices;
mod serial;
mod share;
pub mod tls;
mod turnstile;
mod udp;
mod upstream;
mod verifier;
mod websocket;

pub use disk::{Disk, serve_replies};
pub use driver::{Driver, Stats};
pub use dtls::DtlsIdentity;
pub use listener::{
    Listener, ListenerOptions, Listening, SocketFile, bind_listener, bind_unix, bind_unix_listener, let_share_port,
    set_socket_mode,
};
pub use network::watch_network;
pub use serial::serve_serial;
pub use udp::{UdpOptions, UdpPort, bind_udp, serve_udp};
pub use upstream::{SecretError, Target};
pub use verifier::{Verdicts, Verifier, serve_verdicts};
