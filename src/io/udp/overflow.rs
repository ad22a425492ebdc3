//! Datagrams that the system dropped because nobody took them in time.

use std::fs;
use std::io;

use tokio::net::UdpSocket;

use crate::sys::wide;
use crate::time::{Duration, Instant};

/// Looking costs some time, more on a machine with many sockets.
const PERIOD: Duration = Duration::from_secs(5);

/// What the system counts for one socket, in its table of all.
pub(super) struct Overflow {
    /// `inode` of the socket, which is its name there.
    inode: u64,
    seen: u64,
    looked_at: Option<Instant>,
}

impl Overflow {
    pub(super) fn new(socket: &UdpSocket) -> io::Result<Self> {
        let inode = wide(nix::sys::stat::fstat(socket)?.st_ino);
        Ok(Self { inode, seen: 0, looked_at: None })
    }

    /// Datagrams dropped since the last look; none if it was a moment ago. A socket that is never behind needs none.
    pub(super) fn look(&mut self, now: Instant) -> u64 {
        if self.looked_at.is_some_and(|at| now.since(at) < PERIOD) {
            return 0;
        }
        self.looked_at = Some(now);
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(fs::read_to_string);
        let drops = tables.iter().flatten().find_map(|table| drops(table, self.inode));
        let new = drops.map_or(0, |drops| drops.saturating_sub(self.seen));
        self.seen += new;
        new
    }
}

/// The last column of the line with this inode, which is the tenth.
fn drops(table: &str, inode: u64) -> Option<u64> {
    let line = table.lines().skip(1).find(|line| {
        let column = line.split_ascii_whitespace().nth(9);
        column.and_then(|column| column.parse().ok()) == Some(inode)
    });
    line?.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn what_the_system_drops_is_counted_once() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM.nonblocking(), None).unwrap();
        socket.set_recv_buffer_size(2304).unwrap();
        socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let socket = UdpSocket::from_std(socket.into()).unwrap();
        let mut overflow = Overflow::new(&socket).unwrap();
        let at = |secs: u64| Instant::ZERO + Duration::from_secs(secs);
        assert_eq!(overflow.look(at(0)), 0);
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        socket.readable().await.unwrap();
        let mut kept = 0;
        while socket.try_recv(&mut [0; 200]).is_ok() {
            kept += 1;
        }
        assert!(kept < 100, "the buffer has room for all");
        assert_eq!(overflow.look(at(1)), 0, "a moment ago");
        assert_eq!(overflow.look(at(6)), 100 - kept);
        assert_eq!(overflow.look(at(12)), 0);
    }
}
