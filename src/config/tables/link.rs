//! `[[link]]`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::config::reader::Section;
use crate::config::schema::{Framing, Link, LinkDtls, LinkKind, SerialLink, UdpLink};
use crate::config::tables::{CERTIFICATE_NAMES, EXPIRY, KIB, MIB, word};
use crate::config::value::{Parsed, Wrong, address, boolean, bytes, choice, duration, integer, name, path};
use crate::time::Duration;

#[derive(Clone, Copy)]
enum Kind {
    Udp,
    Serial,
}

pub(super) fn link(s: &mut Section<'_>) -> Link {
    const KINDS: &[(&str, Kind)] = &[("udp", Kind::Udp), ("serial", Kind::Serial)];
    const OF_UDP: &[&str] =
        &["bind", "multicast", "multicast_interfaces", "multicast_hops", "receive_buffer", "dtls"];
    const OF_SERIAL: &[&str] = &["device", "baud", "framing", "rtscts", "xonxoff", "gap", "turnaround"];
    const MTU: RangeInclusive<u64> = 16..=65_535;
    let name = s.require("name", "\"radio\"", name).unwrap_or_default();
    let known_only = s.get("known_only", false, boolean);
    match s.require("kind", "\"udp\"", choice(KINDS)) {
        Some(Kind::Serial) => {
            for key in OF_UDP {
                s.refuse(key, "is for links of kind \"udp\"");
            }
            let kind = LinkKind::Serial(serial_link(s));
            Link { name, kind, mtu: s.get("mtu", 255, bytes(MTU)), known_only }
        }
        kind => {
            if kind.is_some() {
                for key in OF_SERIAL {
                    s.refuse(key, "is for links of kind \"serial\"");
                }
            }
            let kind = LinkKind::Udp(udp_link(s, kind.is_some()));
            Link { name, kind, mtu: s.get("mtu", 1400, bytes(MTU)), known_only }
        }
    }
}

/// Whatever of these a link may have is asked for even if its kind is unknown, so that it is no unknown key.
fn udp_link(s: &mut Section<'_>, needs_bind: bool) -> UdpLink {
    let d = UdpLink::default();
    let bind =
        if needs_bind { s.require("bind", "\"0.0.0.0:1883\"", address) } else { s.optional("bind", address) };
    UdpLink {
        bind: bind.unwrap_or(d.bind),
        multicast: s.list("multicast", group).unwrap_or_default(),
        multicast_interfaces: s.list("multicast_interfaces", interface).unwrap_or_default(),
        multicast_hops: s.get("multicast_hops", d.multicast_hops, integer(0..=255)),
        receive_buffer: s.get("receive_buffer", d.receive_buffer, bytes(4 * KIB..=256 * MIB)),
        dtls: s.optional_section("dtls", link_dtls).map(Box::new),
    }
}

fn serial_link(s: &mut Section<'_>) -> SerialLink {
    const FRAMINGS: &[(&str, Framing)] = &[
        ("length", Framing::Length),
        ("slip", Framing::Slip),
        ("cobs", Framing::Cobs),
        ("hdlc", Framing::Hdlc),
        ("xbee", Framing::Xbee),
        ("xbee-escaped", Framing::XbeeEscaped),
    ];
    const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
    let d = SerialLink::default();
    SerialLink {
        device: s.require("device", "\"/dev/ttyUSB0\"", path).unwrap_or_default(),
        baud: s.get("baud", d.baud, integer(50..=4_000_000)),
        framing: s.get("framing", d.framing, choice(FRAMINGS)),
        rtscts: s.get("rtscts", d.rtscts, boolean),
        xonxoff: s.get("xonxoff", d.xonxoff, boolean),
        gap: s.get("gap", d.gap, duration(PAUSE)),
        turnaround: s.get("turnaround", d.turnaround, duration(PAUSE)),
    }
}

/// The name of a network interface, as it stands in /sys/class/net.
fn interface(value: &DeValue<'_>) -> Parsed<String> {
    let name = word(value)?;
    if name.len() > 15 || name.contains(['/', ' ']) || name == "." || name == ".." {
        return Err(Wrong::new(
            format!("{name:?} is no name of a network interface"),
            "write one as `ip link` shows it",
        ));
    }
    Ok(name)
}

fn link_dtls(s: &mut Section<'_>) -> LinkDtls {
    const LIMIT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
    let d = LinkDtls::default();
    LinkDtls {
        cert: s.optional("cert", path),
        key: s.optional("key", path),
        client_ca: s.optional("client_ca", path),
        identity: s.get("identity", d.identity, choice(CERTIFICATE_NAMES)),
        crl: s.list("crl", path).unwrap_or(d.crl),
        psk_file: s.optional("psk_file", path),
        max_associations: s.get("max_associations", d.max_associations, integer(1..=1_000_000)),
        max_handshakes: s.get("max_handshakes", d.max_handshakes, integer(1..=100_000)),
        max_hellos_per_second: s.get("max_hellos_per_second", d.max_hellos_per_second, integer(1..=1_000_000)),
        handshake_timeout: s.get("handshake_timeout", d.handshake_timeout, duration(LIMIT)),
        idle_timeout: s.get("idle_timeout", d.idle_timeout, duration(Duration::from_secs(1)..=*EXPIRY.end())),
    }
}

/// The address and port of a multicast group.
fn group(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let group = address(value)?;
    if group.ip().is_multicast() && group.port() != 0 {
        return Ok(group);
    }
    let help = "write a group and its port: \"225.1.1.1:1883\" or \"[ff02::fe]:1883\"";
    Err(Wrong::new(format!("{group} is not the address of a multicast group"), help))
}
