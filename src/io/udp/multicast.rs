//! The multicast groups of a link. What comes to a group comes to a socket of that group, one for each network
//! interface; what goes to it goes out of the link's own socket, whose address nodes learn by that.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use crate::config::{LinkId, UdpLink};
use crate::engine::Input;
use crate::io::Driver;
use crate::metrics::{Level, Notice};
use crate::time::Duration;

/// Interfaces come and go; they are looked for this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A message to a group is short.
const MAX_DATAGRAM_BYTES: usize = 2048;

/// One group on one interface; none: on the one that the routes say.
#[derive(Debug, Clone)]
pub(super) struct Place {
    group: SocketAddr,
    interface: Option<String>,
}

pub(super) fn places(udp: &UdpLink) -> Vec<Place> {
    let mut places = Vec::new();
    for group in &udp.multicast {
        if udp.multicast_interfaces.is_empty() {
            places.push(Place { group: *group, interface: None });
        }
        for interface in &udp.multicast_interfaces {
            places.push(Place { group: *group, interface: Some(interface.clone()) });
        }
    }
    places
}

/// Whether the link's own socket has to share its port with those of its groups.
pub(super) fn shares_port(udp: &UdpLink) -> bool {
    udp.multicast.iter().any(|group| group.port() == udp.bind.port())
}

/// Keeps a socket from hearing groups that another socket of this machine is in.
pub(super) fn hear_no_groups(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_multicast_all_v6(false)?;
    }
    // An IPv6 socket may take IPv4 as well.
    socket.set_multicast_all_v4(false)
}

impl Place {
    /// The number of the interface; 0: any. A new one has another number even if it has the same name.
    fn index(&self) -> io::Result<u32> {
        let Some(interface) = &self.interface else { return Ok(0) };
        nix::net::if_::if_nametoindex(interface.as_str()).map_err(|error| {
            io::Error::new(io::Error::from(error).kind(), format!("there is no interface {interface}"))
        })
    }

    /// IPv4 names an interface by an address that it has.
    fn v4_address(&self) -> io::Result<Ipv4Addr> {
        let mut all =
            nix::ifaddrs::getifaddrs()?.filter(|one| Some(&one.interface_name) == self.interface.as_ref());
        all.find_map(|one| one.address?.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    }

    fn join(&self, index: u32) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(self.group), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // Other gateways and programs on this machine may be in the group too.
        socket.set_reuse_address(true)?;
        match self.group {
            SocketAddr::V4(group) => {
                socket.set_multicast_all_v4(false)?;
                socket.bind(&self.group.into())?;
                socket.join_multicast_v4_n(group.ip(), &InterfaceIndexOrAddress::Index(index))?;
            }
            SocketAddr::V6(group) => {
                socket.set_only_v6(true)?;
                socket.set_multicast_all_v6(false)?;
                let scope = scope(group, index);
                socket.bind(&SocketAddr::from(SocketAddrV6::new(*group.ip(), group.port(), 0, scope)).into())?;
                socket.join_multicast_v6(group.ip(), scope)?;
            }
        }
        UdpSocket::from_std(socket.into())
    }

    /// Sends from the link's own socket to the group, over the interface, `hops` networks far.
    pub(super) fn send(&self, socket: &UdpSocket, hops: u8, bytes: &[u8]) -> io::Result<()> {
        let index = self.index()?;
        let settings = SockRef::from(socket);
        let from_v6 = socket.local_addr()?.is_ipv6();
        let to = match self.group {
            SocketAddr::V4(group) => {
                if index > 0 {
                    settings.set_multicast_if_v4(&self.v4_address()?)?;
                }
                settings.set_multicast_ttl_v4(hops.into())?;
                let ip = if from_v6 { IpAddr::V6(group.ip().to_ipv6_mapped()) } else { IpAddr::V4(*group.ip()) };
                SocketAddr::new(ip, group.port())
            }
            SocketAddr::V6(group) => {
                settings.set_multicast_if_v6(scope(group, index))?;
                settings.set_multicast_hops_v6(hops.into())?;
                SocketAddrV6::new(*group.ip(), group.port(), 0, scope(group, index)).into()
            }
        };
        socket.try_send_to(bytes, to).map(|_| ())
    }
}

/// A link-local group may name its interface itself: `[ff02::fe%2]:1883`.
fn scope(group: SocketAddrV6, index: u32) -> u32 {
    if index == 0 { group.scope_id() } else { index }
}

/// Hands what comes to a group to the engine, for ever. The interface may come later, and come again.
pub(super) async fn serve(driver: Rc<Driver>, link: LinkId, name: String, place: Place) {
    let mut told = String::new();
    loop {
        let joined = place.index().and_then(|index| Ok((index, place.join(index)?)));
        match joined {
            Ok((index, socket)) => {
                told.clear();
                tokio::select! {
                    () = gone(&place, index) => {}
                    never = receive(&driver, link, &socket) => match never {},
                }
            }
            Err(error) => {
                let error = format!("{}: {error}", place.group);
                if error != told {
                    driver.log(&Notice::new(
                        Level::Warn,
                        "multicast group not joined yet",
                        name.as_str(),
                        error.as_str(),
                    ));
                    told = error;
                }
                pause().await;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a shell waits")]
fn pause() -> impl Future<Output = ()> {
    sleep(LOOK_AGAIN)
}

/// Comes back when the interface is no longer the one with this number.
async fn gone(place: &Place, index: u32) {
    if index == 0 {
        std::future::pending::<()>().await;
    }
    while place.index().is_ok_and(|now| now == index) {
        pause().await;
    }
}

async fn receive(driver: &Rc<Driver>, link: LinkId, socket: &UdpSocket) -> std::convert::Infallible {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    loop {
        // An error is one of an earlier datagram; the socket is as good as before.
        if let Ok((count, from)) = socket.recv_from(&mut buffer).await {
            driver.input(Input::Multicast { link, from, bytes: &buffer[..count] });
        }
    }
}
