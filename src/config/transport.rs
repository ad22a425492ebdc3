//! Does what a listener is told fit what it listens on?

use crate::config::Finding;
use crate::config::document::SourceMap;
use crate::config::schema::{Bind, Listener, Protocol};

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
