//! What the tests are made of: the gateway and its peers as real processes, a proxy that misbehaves, and clients.
//!
//! Nothing sleeps to be in time: what is waited for is looked at again and again, or read, until [`BOUND`].

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod mosquitto;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod rabbitmq;
pub(crate) mod rumqttd;
pub(crate) mod sensor;
pub(crate) mod tools;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// Looks at `condition` until it holds.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(BOUND, what, condition);
}

/// Looks at `condition` until it holds, but no longer than `bound`.
#[track_caller]
pub(crate) fn until_within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + bound;
    while !condition() {
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A port that nobody has, for TCP and UDP. It is below those that the system hands out for connections, so nobody
/// gets it by chance while a process that will bind it is down.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
