//! A notice when this box gets an address or a route: the kernel tells (rtnetlink, rtnetlink(7)), nobody has to ask.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::engine::Input;
use crate::io::Driver;
use crate::time::Duration;

/// Groups of notices: addresses and routes, IPv4 and IPv6.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// Length, type, flags, sequence, sender.
const HEADER_BYTES: usize = 16;
/// An interface that comes up makes several notices: they are one.
const SETTLE: Duration = Duration::from_millis(300);

/// Tells the engine of each change, until the end. Without notices the upstreams' own waits must do.
pub async fn watch_network(driver: Rc<Driver>) {
    let failed = match notices() {
        Ok(notices) => watch(&notices, &driver).await,
        Err(error) => error,
    };
    tracing::info!(error = %failed, "no notice when the network changes: upstreams are tried at their own times");
}

/// A socket of the kernel's notices. To tokio it is one of datagrams, which is how it is read; nothing is sent.
fn notices() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    UdpSocket::from_std(socket.into())
}

/// Returns why it ended.
#[expect(clippy::disallowed_methods, reason = "a shell waits")]
async fn watch(notices: &UdpSocket, driver: &Rc<Driver>) -> io::Error {
    let mut buffer = vec![0; 8192];
    loop {
        match notices.recv(&mut buffer).await {
            Ok(len) if !has_new(&buffer[..len]) => continue,
            Ok(_) => {}
            Err(error) if were_lost(&error) => {}
            Err(error) => return error,
        }
        sleep(SETTLE).await;
        // What came meanwhile is the same news.
        while notices.try_recv(&mut buffer).is_ok() {}
        driver.input(Input::NetworkChanged);
    }
}

/// There were more notices than the socket holds.
fn were_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

/// Whether one of these messages, RFC 3549 section 2.3.2, is of a new address or route.
fn has_new(mut messages: &[u8]) -> bool {
    while let [a, b, c, d, low, high, ..] = *messages {
        let len = u32::from_ne_bytes([a, b, c, d]) as usize;
        if matches!(u16::from_ne_bytes([low, high]), RTM_NEWADDR | RTM_NEWROUTE) {
            return true;
        }
        // Each begins at a multiple of four.
        let next = len.max(HEADER_BYTES).next_multiple_of(4);
        messages = messages.get(next..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, len: u32) -> Vec<u8> {
        let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        bytes.resize((len as usize).next_multiple_of(4).max(6), 0);
        bytes
    }

    #[test]
    fn what_comes_is_told_from_what_goes() {
        assert!(has_new(&message(RTM_NEWADDR, 20)));
        assert!(!has_new(&message(RTM_NEWADDR + 1, 20)));
        assert!(has_new(&[message(25, 18), message(RTM_NEWROUTE, 30)].concat()));
        for broken in [&[][..], &[0; 5], &[0; 40], &message(25, 9999)] {
            assert!(!has_new(broken));
        }
    }

    #[tokio::test]
    async fn the_kernel_lets_us_listen() {
        assert!(notices().is_ok());
    }
}
