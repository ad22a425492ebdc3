//! Does what a listener or a link is told fit what it listens on?

use std::net::{IpAddr, Ipv6Addr};

use crate::config::Finding;
use crate::config::document::SourceMap;
use crate::config::schema::{Bind, Framing, LinkDtls, Listener, Protocol, SerialLink, UdpLink};

/// Checks listener number `i`. `map` tells what the file says and what is a default.
pub(super) fn check(i: usize, listener: &Listener, map: &SourceMap, found: &mut Vec<Finding>) {
    let path = format!("listener[{i}]");
    let unused = |key: &str, why: &str| {
        let key_path = format!("{path}.{key}");
        map.has(&key_path)
            .then(|| Finding::warning(key_path, format!("`{key}` has no effect: {why}"), "take it out"))
    };
    match &listener.bind {
        Bind::Tcp(_) => found.extend(unused("mode", "only a Unix socket has permissions")),
        Bind::Unix(_) => {
            found.extend(unused("max_connections_per_address", "clients of a Unix socket have no address"));
            if listener.tls.is_some() {
                found.push(Finding::error(
                    format!("{path}.tls"),
                    "a Unix socket has no TLS: what goes through it stays on this machine",
                    "take `tls` out; `mode` says who may connect",
                ));
            }
        }
    }
    if listener.protocol != Protocol::Websocket {
        found.extend(unused("websocket_path", "this listener has no `protocol = \"websocket\"`"));
    }
    if listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_none()) {
        for key in ["client_cert", "crl"] {
            let key_path = format!("{path}.tls.{key}");
            if map.has(&key_path) {
                let message = format!("`{key}` without `client_ca`: no client is asked for a certificate");
                found.push(Finding::error(
                    key_path,
                    message,
                    "add `client_ca`, the CA that issued their certificates",
                ));
            }
        }
    }
    if listener.max_connections_per_address > listener.max_connections {
        found.push(Finding::warning(
            format!("{path}.max_connections_per_address"),
            "`max_connections_per_address` is more than `max_connections`, so it is never reached",
            format!("write at most {}", listener.max_connections),
        ));
    }
}

/// Checks the UDP link number `i`.
pub(super) fn check_link(i: usize, udp: &UdpLink, found: &mut Vec<Finding>) {
    let path = format!("link[{i}]");
    for (at, group) in udp.multicast.iter().enumerate() {
        let reaches = group.is_ipv4() == udp.bind.is_ipv4() || udp.bind.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if !reaches {
            let message = format!("{group} cannot be reached from {}", udp.bind);
            let help = "bind the link to \"[::]\" and a port, which has both, or give it a link of its own";
            found.push(Finding::error(format!("{path}.multicast[{at}]"), message, help));
        }
    }
    if udp.multicast.is_empty() && !udp.multicast_interfaces.is_empty() {
        let message = "`multicast_interfaces` has no effect: the link has no `multicast`";
        found.push(Finding::warning(format!("{path}.multicast_interfaces"), message, "take it out"));
    }
    if let Some(dtls) = &udp.dtls {
        check_dtls(&format!("{path}.dtls"), dtls, found);
    }
}

/// Checks the serial link number `i`.
pub(super) fn check_line(i: usize, serial: &SerialLink, found: &mut Vec<Finding>) {
    let mut error =
        |message: &str, help: &str| found.push(Finding::error(format!("link[{i}].xonxoff"), message, help));
    if serial.xonxoff && serial.framing != Framing::XbeeEscaped {
        let message = "the octets 11 and 13 are part of messages in this framing, and `xonxoff` takes them out";
        error(message, "take `xonxoff` out, or write framing = \"xbee-escaped\" where the module does it");
    }
    if serial.xonxoff && serial.rtscts {
        error("a line has either `rtscts` or `xonxoff`", "take one of them out");
    }
}

fn check_dtls(path: &str, dtls: &LinkDtls, found: &mut Vec<Finding>) {
    let mut error = |key: &str, message: &str, help: &str| {
        let place = if key.is_empty() { path.to_owned() } else { format!("{path}.{key}") };
        found.push(Finding::error(place, message, help));
    };
    match (&dtls.cert, &dtls.key) {
        (Some(_), None) => error("cert", "this certificate has no key", "add `key`"),
        (None, Some(_)) => error("key", "this key has no certificate", "add `cert`"),
        (None, None) if dtls.psk_file.is_none() => {
            error(
                "",
                "nobody can connect: there is neither a certificate nor a key",
                "add `psk_file`, or `cert` and `key`",
            );
        }
        (None, None) if dtls.client_ca.is_some() => {
            error(
                "client_ca",
                "`client_ca` without `cert`: no node is asked for a certificate",
                "add `cert` and `key`",
            );
        }
        _ => {}
    }
    if dtls.client_ca.is_none() && !dtls.crl.is_empty() {
        let help = "add `client_ca`, the CA that issued their certificates";
        error("crl", "`crl` without `client_ca`: no node is asked for a certificate", help);
    }
}
