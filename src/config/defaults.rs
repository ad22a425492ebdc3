//! The defaults. `config/moteway.toml` says the same in the operator's words; a test keeps the two equal.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::Preset;
use crate::config::schema::{
    Admin, Auth, Bind, Broker, CertificateName, Config, Direction, Drain, Durability, Framing, Gateway,
    IdentitySource, Jwt, LinkDtls, Listener, Log, LogFormat, LogLevel, Pace, Protocol, Rule, RuleQos, RuleRetain,
    SerialLink, Sn, Store, UdpLink, Upstream, UpstreamVersion, WhenFull,
};
use crate::time::Duration;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const DAY: u64 = 24 * 60 * 60;

impl Default for Config {
    fn default() -> Self {
        Self {
            gateway: Gateway::default(),
            log: Log::default(),
            admin: Admin::default(),
            store: Store::default(),
            broker: Broker::default(),
            auth: Auth::default(),
            sn: Sn::default(),
            listener: vec![Listener::default()],
            acl: Vec::new(),
            link: Vec::new(),
            upstream: Vec::new(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            name: String::new(),
            identity: vec![
                IdentitySource::File(PathBuf::from("/etc/moteway/identity")),
                IdentitySource::MachineId,
                IdentitySource::SerialNumber,
                IdentitySource::NetworkAddress(None),
            ],
            state_dir: PathBuf::from("/var/lib/moteway"),
            status_topic: "moteway".to_owned(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Auto }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: Some(PathBuf::from("/run/moteway/control.sock")),
            mode: 0o660,
            group: String::new(),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1888))),
            token_file: None,
            max_connections: 32,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(20),
            commit_messages: 4096,
            commit_bytes: MIB,
            max_pending_bytes: 16 * MIB,
            window_bytes: 256 * KIB,
            max_memory_bytes: 128 * MIB,
            max_bytes: 1 << 30,
            durability: Durability::PowerLoss,
            max_dead_letters: 10_000,
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            max_connections: 1000,
            max_packet_bytes: 1 << 20,
            max_client_id_bytes: 1024,
            max_will_bytes: 64 * KIB,
            max_user_properties: 256,
            max_inflight_messages: 100,
            receive_maximum: 1000,
            max_queued_messages: 100_000,
            max_queued_bytes: 64 << 20,
            max_sessions: 10_000,
            max_subscriptions_per_client: 1000,
            max_topic_levels: 64,
            max_topic_bytes: 4096,
            topic_alias_maximum: 16,
            max_topic_aliases_sent: 16,
            max_retained_messages: 10_000,
            max_retained_bytes: 16 * MIB,
            connect_timeout: Duration::from_secs(10),
            max_keepalive: Duration::ZERO,
            max_session_expiry: Duration::from_secs(30 * DAY),
            max_outbox_bytes: MIB,
            max_buffered_bytes: 128 * MIB,
            sys_interval: Duration::from_secs(10),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            password_file: None,
            max_failures: 10,
            failure_window: Duration::from_secs(60),
            failure_block: Duration::from_secs(300),
            max_addresses: 10_000,
            max_waiting: 500,
            max_waiting_bytes: MIB,
            jwt: None,
            groups: BTreeMap::new(),
        }
    }
}

/// Without its keys.
impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret_file: None,
            public_key_file: None,
            issuer: None,
            audience: None,
            user_claim: "sub".to_owned(),
            leeway: Duration::from_secs(30),
        }
    }
}

/// The listener of a file that names none: this machine only.
impl Default for Listener {
    fn default() -> Self {
        Self {
            name: "local".to_owned(),
            bind: Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))),
            mode: 0o660,
            protocol: Protocol::Mqtt,
            websocket_path: String::new(),
            tls: None,
            login: Vec::new(),
            allow_anonymous: true,
            max_connections: Broker::default().max_connections,
            max_connections_per_address: 0,
            max_packet_bytes: None,
            connect_timeout: None,
        }
    }
}

impl Default for Sn {
    fn default() -> Self {
        Self {
            gateway_id: 1,
            advertise_interval: Duration::from_secs(20 * 60),
            max_clients: 1000,
            max_topics_per_client: 256,
            retry_interval: Duration::from_secs(10),
            retries: 3,
            idle_timeout: Duration::from_secs(DAY),
            max_sleep_messages: 1000,
            max_sleep_bytes: 256 << 10,
            predefined: BTreeMap::new(),
            allow_qos_minus_one: true,
            wake_from_new_address: true,
            max_sleep_age: Duration::ZERO,
            node_rate: 0,
            node_burst: 100,
            client: Vec::new(),
        }
    }
}

/// Without its address.
impl Default for UdpLink {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            multicast: Vec::new(),
            multicast_interfaces: Vec::new(),
            multicast_hops: 1,
            receive_buffer: 4 * MIB,
            dtls: None,
        }
    }
}

/// Without its device.
impl Default for SerialLink {
    fn default() -> Self {
        Self {
            device: PathBuf::new(),
            baud: 115_200,
            framing: Framing::Length,
            rtscts: false,
            xonxoff: false,
            gap: Duration::ZERO,
            turnaround: Duration::ZERO,
        }
    }
}

/// Without its files.
impl Default for LinkDtls {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            client_ca: None,
            identity: CertificateName::default(),
            crl: Vec::new(),
            psk_file: None,
            max_associations: 1000,
            max_handshakes: 64,
            max_hellos_per_second: 200,
            handshake_timeout: Duration::from_secs(40),
            idle_timeout: Duration::from_secs(DAY),
        }
    }
}

/// An upstream without its name, URL and rules.
impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: Vec::new(),
            preset: Preset::Generic,
            client_id: "{gateway}".to_owned(),
            version: UpstreamVersion::V5,
            username: None,
            password_file: None,
            sas_key_file: None,
            sas_ttl: Duration::from_secs(DAY),
            keepalive: Duration::from_secs(60),
            clean_start: false,
            connect_timeout: Duration::from_secs(15),
            max_inflight_messages: 1000,
            max_topic_aliases: 16,
            stuck_timeout: Duration::from_secs(60),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(120),
            return_interval: Duration::from_secs(60),
            proxy: None,
            proxy_password_file: None,
            interface: None,
            source_address: None,
            tls: None,
            pace: Pace::default(),
            hop_marker: true,
            status_topic: String::new(),
            rule: Vec::new(),
        }
    }
}

/// A rule without its name and filter.
impl Default for Rule {
    fn default() -> Self {
        Self {
            name: String::new(),
            direction: Direction::Out,
            filter: String::new(),
            remap: String::new(),
            exclude: Vec::new(),
            qos: RuleQos::Keep,
            retain: RuleRetain::Keep,
            priority: 5,
            ttl: Duration::ZERO,
            max_messages: 1_000_000,
            max_bytes: 512 << 20,
            when_full: WhenFull::DropOldest,
            poison_after: 5,
            drain: Drain::InOrder,
            pace: Pace::default(),
            trace: false,
        }
    }
}
