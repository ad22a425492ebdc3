//! Which lines belong together, and what holds for all clients.

use crate::cli::import::Import;
use crate::cli::import::lines::Line;

/// The lines, sorted: `listener` and `connection` begin something of their own.
#[derive(Default)]
pub(super) struct Conf {
    pub(super) general: Vec<Line>,
    /// Each with its `listener` line first.
    pub(super) listeners: Vec<Vec<Line>>,
    /// Each with its `connection` line first.
    pub(super) bridges: Vec<Vec<Line>>,
}

/// What a listener is said after its `listener` line, or before any for the default one.
const OF_LISTENER: &[&str] = &[
    "bind_address",
    "bind_interface",
    "cafile",
    "capath",
    "certfile",
    "ciphers",
    "ciphers_tls1.3",
    "crlfile",
    "dhparamfile",
    "http_dir",
    "keyfile",
    "max_connections",
    "max_qos",
    "max_topic_alias",
    "mount_point",
    "port",
    "protocol",
    "psk_hint",
    "require_certificate",
    "socket_domain",
    "tls_engine",
    "tls_engine_kpass_sha1",
    "tls_keyform",
    "tls_version",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
    "websockets_headers_size",
    "websockets_log_level",
];
/// Belongs to a listener where `per_listener_settings` says so.
const OF_ACCESS: &[&str] =
    &["acl_file", "allow_anonymous", "allow_zero_length_clientid", "auto_id_prefix", "password_file"];
/// What a bridge is said.
const OF_BRIDGE: &[&str] = &[
    "address",
    "addresses",
    "cleansession",
    "clientid",
    "idle_timeout",
    "keepalive_interval",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "password",
    "remote_clientid",
    "remote_password",
    "remote_username",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "topic",
    "try_private",
    "username",
];
/// Nobody will miss these: moteway does the same, has no need for it, or says where it is done now.
const OF_NO_EFFECT: &[&str] = &[
    "autosave_interval",
    "autosave_on_changes",
    "connection_messages",
    "log_dest",
    "log_facility",
    "log_timestamp",
    "log_timestamp_format",
    "log_type",
    "memory_limit",
    "per_listener_settings",
    "persistence_file",
    "persistence_location",
    "pid_file",
    "set_tcp_nodelay",
    "user",
    "websockets_log_level",
];

impl Conf {
    pub(super) fn sort(lines: Vec<Line>, import: &mut Import) -> Self {
        let mut conf = Self::default();
        let per_listener = lines.iter().any(|line| line.key == "per_listener_settings" && line.is_true());
        for line in lines {
            let key = line.key.as_str();
            let of_bridge = OF_BRIDGE.contains(&key) || key.starts_with("bridge_");
            let of_listener = OF_LISTENER.contains(&key) || (per_listener && OF_ACCESS.contains(&key));
            match key {
                "listener" => conf.listeners.push(vec![line]),
                "connection" => conf.bridges.push(vec![line]),
                _ if of_bridge => match conf.bridges.last_mut() {
                    Some(bridge) => bridge.push(line),
                    None => import.note(&line, "it belongs to no `connection`"),
                },
                _ if of_listener => match conf.listeners.last_mut() {
                    Some(listener) => listener.push(line),
                    None => conf.general.push(line),
                },
                _ => conf.general.push(line),
            }
        }
        conf
    }

    /// The last line with this key wins.
    pub(super) fn general(&self, key: &str) -> Option<&Line> {
        find(&self.general, key)
    }
}

pub(super) fn find<'a>(lines: &'a [Line], key: &str) -> Option<&'a Line> {
    lines.iter().rfind(|line| line.key == key)
}

/// `[broker]`, and all that holds for everything.
pub(super) fn put(conf: &Conf, import: &mut Import) {
    let mut broker = Vec::new();
    for line in &conf.general {
        let unlimited = line.value == "0";
        let (key, factor) = match line.key.as_str() {
            "max_inflight_messages" | "max_queued_messages" | "max_queued_bytes" if unlimited => {
                import.note(line, "there is no queue without a limit; that of the same name in [broker] holds");
                continue;
            }
            "max_inflight_messages" => ("max_inflight_messages", ""),
            "max_queued_messages" => ("max_queued_messages", ""),
            "max_queued_bytes" => ("max_queued_bytes", ""),
            "max_packet_size" | "message_size_limit" if unlimited => continue,
            "max_packet_size" | "message_size_limit" => ("max_packet_bytes", ""),
            "max_keepalive" => ("max_keepalive", "s"),
            "sys_interval" => ("sys_interval", "s"),
            "persistent_client_expiration" => {
                match expiration(&line.value) {
                    Some(duration) => broker.push(("max_session_expiry", format!("\"{duration}\""))),
                    None => import.note(line, "write a number and h, d, w, m or y"),
                }
                continue;
            }
            "persistence" if !line.is_true() => {
                import.note(line, "sessions and their messages are always kept; [store] durability says how well");
                continue;
            }
            "persistence" | "acl_file" | "password_file" | "allow_anonymous" => continue,
            key if OF_NO_EFFECT.contains(&key) || OF_LISTENER.contains(&key) => continue,
            "plugin" | "auth_plugin" | "psk_file" => {
                import.note(line, "there are no plug-ins: log-ins go by password file, JWT or certificate");
                continue;
            }
            _ => {
                import.note(line, "moteway has nothing of the kind");
                continue;
            }
        };
        if let Some(number) = import.number(line) {
            broker
                .push((key, if factor.is_empty() { number.to_string() } else { format!("\"{number}{factor}\"") }));
        }
    }
    if !broker.is_empty() {
        import.table("[broker]");
        for (key, value) in broker {
            import.put(key, value);
        }
    }
}

/// `2m` are two months there.
fn expiration(text: &str) -> Option<String> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'm' => 30 * 24,
        'y' => 365 * 24,
        _ => return None,
    };
    Some(format!("{}h", number.checked_mul(hours)?))
}
