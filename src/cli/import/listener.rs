//! `listener` blocks.

use std::net::IpAddr;

use crate::cli::import::lines::Line;
use crate::cli::import::settings::{Conf, find};
use crate::cli::import::{Import, quoted};

/// All listeners: the default one, whose lines stand before any block, and the others.
pub(super) fn put(conf: &Conf, import: &mut Import) {
    let default_port = conf.general("port");
    // Without any listener, mosquitto serves this machine, and everybody on it.
    let is_local_only = default_port.is_none() && conf.listeners.is_empty();
    if default_port.is_some() || is_local_only {
        let port = default_port.map_or("1883", |line| &line.value);
        let bind = conf.general("bind_address").map_or("", |line| &line.value);
        let at = if is_local_only { "127.0.0.1" } else { bind };
        put_one(conf, import, &conf.general, default_port, &format!("{port} {at}"), is_local_only);
    }
    for block in &conf.listeners {
        if let Some(first) = block.first() {
            put_one(conf, import, &block[1..], Some(first), &first.value, false);
        }
    }
}

fn put_one(conf: &Conf, import: &mut Import, lines: &[Line], first: Option<&Line>, at: &str, open: bool) {
    let (port, host) = at.split_once(char::is_whitespace).unwrap_or((at, ""));
    let Some(bind) = bind(port, host.trim()) else {
        if let Some(line) = first {
            import
                .note(line, "the listener has to be an IP address and a port, or 0 and the path of a Unix socket");
        }
        return;
    };
    import.table("[[listener]]");
    let name = if port == "0" { "socket".to_owned() } else { format!("port-{port}") };
    let nth = import.toml.matches(&format!("[[listener]]\nname = \"{name}")).count();
    import.put("name", quoted(&if nth == 0 { name } else { format!("{name}-{}", nth + 1) }));
    import.put("bind", quoted(&bind));
    let of = |key| find(lines, key);
    let everywhere = |key| of(key).or_else(|| conf.general(key));
    put_tls(import, lines);
    let mut ways = Vec::new();
    if everywhere("password_file").is_some() {
        ways.push("\"password\"");
    }
    if of("use_identity_as_username").is_some_and(Line::is_true) {
        ways.push("\"certificate\"");
    }
    let anonymous = everywhere("allow_anonymous").map_or(open, Line::is_true);
    import.put("login", format!("[{}]", ways.join(", ")));
    import.put("allow_anonymous", anonymous);
    for line in lines.iter().filter(|line| !line.key.starts_with("allow_") && line.key != "password_file") {
        match line.key.as_str() {
            "protocol" if line.value == "websockets" => import.put("protocol", "\"websocket\""),
            "protocol" if line.value == "mqtt" => {}
            "max_connections" if line.value == "-1" => {}
            "max_connections" => {
                if let Some(number) = import.number(line) {
                    import.put("max_connections", number);
                }
            }
            "mount_point" => import.note(line, "no topics are renamed for a listener's clients"),
            "max_qos" if line.value == "2" => {}
            "use_username_as_clientid" | "use_subject_as_username" | "require_certificate" if !line.is_true() => {}
            "socket_domain" | "bind_interface" => import.note(line, "bind to an address of that kind or interface"),
            "capath" => import.note(line, "put the certificates into one file, and name it `tls.client_ca`"),
            "http_dir"
            | "max_qos"
            | "use_username_as_clientid"
            | "use_subject_as_username"
            | "protocol"
            | "psk_hint"
            | "tls_engine"
            | "tls_engine_kpass_sha1"
            | "tls_keyform"
            | "auto_id_prefix" => {
                import.note(line, "moteway has nothing of the kind");
            }
            "ciphers" | "ciphers_tls1.3" | "dhparamfile" => {
                import.note(line, "the cipher suites are those that rustls takes for safe");
            }
            _ => {}
        }
    }
}

fn put_tls(import: &mut Import, lines: &[Line]) {
    let of = |key| find(lines, key);
    let (Some(cert), Some(key)) = (of("certfile"), of("keyfile")) else { return };
    let mut tls = vec![format!("cert = {}", quoted(&cert.value)), format!("key = {}", quoted(&key.value))];
    // Without `require_certificate` mosquitto does not ask for one.
    let wants = of("require_certificate").is_some_and(Line::is_true);
    if let Some(ca) = of("cafile").filter(|_| wants) {
        tls.push(format!("client_ca = {}", quoted(&ca.value)));
        if let Some(crl) = of("crlfile") {
            tls.push(format!("crl = [{}]", quoted(&crl.value)));
        }
    }
    match of("tls_version").map(|line| (line, line.value.as_str())) {
        Some((_, "tlsv1.3")) => tls.push("min_version = \"1.3\"".to_owned()),
        None | Some((_, "tlsv1.2")) => {}
        Some((line, _)) => import.note(line, "TLS 1.2 is the oldest that is spoken"),
    }
    import.put("tls", format!("{{ {} }}", tls.join(", ")));
}

fn bind(port: &str, host: &str) -> Option<String> {
    if port == "0" {
        return host.starts_with('/').then(|| host.to_owned());
    }
    let port: u16 = port.parse().ok()?;
    match host {
        "" => Some(format!("[::]:{port}")),
        "localhost" => Some(format!("127.0.0.1:{port}")),
        host => match host.parse().ok()? {
            IpAddr::V4(ip) => Some(format!("{ip}:{port}")),
            IpAddr::V6(ip) => Some(format!("[{ip}]:{port}")),
        },
    }
}
