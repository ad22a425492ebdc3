//! The configuration as the program sees it. Every field is a key of `config/moteway.toml`, with the same name.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::{AclFilter, Pin, Preset, Proxy};
use crate::mqtt::QoS;
use crate::time::Duration;

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub gateway: Gateway,
    pub log: Log,
    pub admin: Admin,
    pub store: Store,
    pub broker: Broker,
    pub auth: Auth,
    pub sn: Sn,
    /// `[[listener]]`
    pub listener: Vec<Listener>,
    /// `[[acl]]`
    pub acl: Vec<AclRule>,
    /// `[[link]]`
    pub link: Vec<Link>,
    /// `[[upstream]]`
    pub upstream: Vec<Upstream>,
}

/// `[gateway]`: this box.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// What `{gateway}` stands for; empty: what `identity` says.
    pub name: String,
    /// Where the name comes from when there is none; the first of these that the box has.
    pub identity: Vec<IdentitySource>,
    pub state_dir: PathBuf,
    /// Local topic prefix of what the gateway says about itself, e.g. `moteway`.
    pub status_topic: String,
}

/// What tells a box from the next one with the same configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The first line of a file.
    File(PathBuf),
    /// An id made from the machine id.
    MachineId,
    /// The serial number in the device tree.
    SerialNumber,
    /// The address of a network interface: of this one, or of the first that has one of its own.
    NetworkAddress(Option<String>),
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// `auto`: journald fields when started by systemd, plain text otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Journald,
    Json,
    Plain,
}

/// `[admin]`: where the running gateway is asked and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The control socket, which `moteway status` and its like use; none: there is none.
    pub socket: Option<PathBuf>,
    /// Permissions of the control socket: who may open it may do everything.
    pub mode: u32,
    /// Group of the control socket; empty: that of the process.
    pub group: String,
    /// Status page and metrics; none: there are none.
    pub http: Option<SocketAddr>,
    /// What lets the page change something. On an address that others can reach, it is needed to read, too.
    pub token_file: Option<PathBuf>,
    /// Connections at one time, on each of the two.
    pub max_connections: usize,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// How long a message may wait for company before its batch is committed.
    pub commit_interval: Duration,
    /// A batch is committed at once when it has this many changes.
    pub commit_messages: usize,
    /// Or this many bytes.
    pub commit_bytes: usize,
    /// Changes that may wait for the disk; beyond it durable publishes are refused.
    pub max_pending_bytes: usize,
    /// Read-ahead kept in memory for a queue whose receiver is connected.
    pub window_bytes: usize,
    /// All messages in memory, of all queues: read ahead, or of sessions that end with their connection.
    pub max_memory_bytes: usize,
    /// The whole file.
    pub max_bytes: u64,
    pub durability: Durability,
    /// Dead letters that are kept.
    pub max_dead_letters: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    PowerLoss,
    Crash,
    None,
}

/// `[broker]`: limits that hold for every client.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    pub max_connections: usize,
    pub max_packet_bytes: u32,
    pub max_client_id_bytes: usize,
    /// Topic, payload and properties.
    pub max_will_bytes: usize,
    /// In one PUBLISH or will.
    pub max_user_properties: usize,
    /// QoS 1 and 2 messages on their way to one client.
    pub max_inflight_messages: u16,
    /// QoS 1 and 2 messages that a client may have on their way to us (Receive Maximum).
    pub receive_maximum: u16,
    pub max_queued_messages: u64,
    pub max_queued_bytes: u64,
    pub max_sessions: usize,
    pub max_subscriptions_per_client: usize,
    pub max_topic_levels: usize,
    pub max_topic_bytes: usize,
    /// Topic aliases that a client may use towards us.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards one client, within the maximum that it told.
    pub max_topic_aliases_sent: u16,
    pub max_retained_messages: usize,
    pub max_retained_bytes: usize,
    /// From the connection to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive; what asks for more or for none gets this (5.0) or is let be (3.1.1). Zero: no limit.
    pub max_keepalive: Duration,
    /// Longest life of a session without its client.
    pub max_session_expiry: Duration,
    /// Bytes waiting in memory for one slow connection before its QoS 0 messages are shed.
    pub max_outbox_bytes: usize,
    /// All connections together: what waits for slow clients, and packets that are not complete yet.
    pub max_buffered_bytes: usize,
    /// How often `$SYS/broker/...` is brought up to date; zero: there is none.
    pub sys_interval: Duration,
}

/// `[auth]`: who may log in.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// User names and hashes.
    pub password_file: Option<PathBuf>,
    /// Log-ins that may fail from one address within `failure_window`; then it is refused for `failure_block`.
    pub max_failures: u32,
    pub failure_window: Duration,
    pub failure_block: Duration,
    /// Addresses whose failures are remembered.
    pub max_addresses: usize,
    /// Log-ins that wait for the check of their password or token.
    pub max_waiting: usize,
    /// And their CONNECT packets.
    pub max_waiting_bytes: usize,
    pub jwt: Option<Jwt>,
    /// Names of users that rules can name together: group = users.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// `[auth.jwt]`: JSON Web Tokens, sent as the password.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// For HS256, HS384 and HS512.
    pub secret_file: Option<PathBuf>,
    /// PEM, for RS256, RS384, RS512, ES256 and ES384.
    pub public_key_file: Option<PathBuf>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or contain.
    pub audience: Option<String>,
    /// The claim that is the user's name.
    pub user_claim: String,
    /// How wrong clocks may be.
    pub leeway: Duration,
}

/// A way to prove a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginWay {
    Password,
    Token,
    Certificate,
}

/// Where in a client certificate the name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateName {
    #[default]
    CommonName,
    SanDns,
    SanEmail,
    SanUri,
}

/// `[[listener]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub name: String,
    pub bind: Bind,
    /// Permissions of a Unix socket.
    pub mode: u32,
    pub protocol: Protocol,
    /// The path that WebSocket clients have to ask for; empty: any.
    pub websocket_path: String,
    pub tls: Option<ServerTls>,
    /// How clients may log in here.
    pub login: Vec<LoginWay>,
    pub allow_anonymous: bool,
    pub max_connections: usize,
    /// From one IPv4 address or one IPv6 network of 64 bits. Zero: as many as the listener takes.
    pub max_connections_per_address: usize,
    /// When it is not that of `[broker]`.
    pub max_packet_bytes: Option<u32>,
    /// When it is not that of `[broker]`.
    pub connect_timeout: Option<Duration>,
}

/// What clients of a listener speak first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Mqtt,
    Websocket,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Bind {
    /// The address, unless it is a Unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only programs on this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().is_loopback())
    }
}

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Client certificates are asked for and checked against this CA.
    pub client_ca: Option<PathBuf>,
    /// Where in the client's certificate its name is.
    pub identity: CertificateName,
    pub client_cert: ClientCert,
    /// Files of revoked client certificates.
    pub crl: Vec<PathBuf>,
    pub min_version: TlsVersion,
}

impl ServerTls {
    /// Whether nobody comes in without a certificate.
    #[must_use]
    pub fn requires_client_cert(&self) -> bool {
        self.client_ca.is_some() && self.client_cert == ClientCert::Required
    }
}

/// Whether a client must show a certificate where one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    #[default]
    Required,
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    #[default]
    V12,
    V13,
}

/// `[[acl]]`: what some clients may do. Of the keys that say for whom it is, all that are there must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AclRule {
    /// One of these names was proved.
    pub user: Option<Vec<String>>,
    /// The proved name is in one of these groups.
    pub group: Option<Vec<String>>,
    /// The client id is one of these, or begins like one that ends with `*`.
    pub client_id: Option<Vec<String>>,
    /// True: no name was proved; false: one was.
    pub anonymous: Option<bool>,
    pub publish: Vec<AclFilter>,
    pub subscribe: Vec<AclFilter>,
    /// What is delivered; absent: as `subscribe`.
    pub read: Option<Vec<AclFilter>>,
    pub deny_publish: Vec<AclFilter>,
    pub deny_subscribe: Vec<AclFilter>,
    /// Absent: as `deny_subscribe`.
    pub deny_read: Option<Vec<AclFilter>>,
}

/// `[sn]`: MQTT-SN, for all links.
#[derive(Debug, Clone, PartialEq)]
pub struct Sn {
    pub gateway_id: u8,
    /// T_ADV; zero: never.
    pub advertise_interval: Duration,
    pub max_clients: usize,
    pub max_topics_per_client: usize,
    /// T_RETRY
    pub retry_interval: Duration,
    /// N_RETRY
    pub retries: u8,
    /// Without a keep-alive (0), a silent client is lost after this.
    pub idle_timeout: Duration,
    /// A sleeper's buffer.
    pub max_sleep_messages: u64,
    pub max_sleep_bytes: u64,
    /// Predefined topic ids for all clients: name = id.
    pub predefined: BTreeMap<String, u16>,
    /// QoS -1 is accepted.
    pub allow_qos_minus_one: bool,
    /// A sleeper may wake up at another address (NAT, NB-IoT).
    pub wake_from_new_address: bool,
    /// Messages that waited longer than this are not delivered; zero: however long.
    pub max_sleep_age: Duration,
    /// Messages taken from one node in a second; 0: any number.
    pub node_rate: u32,
    /// So many of them at once.
    pub node_burst: u32,
    pub client: Vec<SnClient>,
}

/// `[[sn.client]]`: clients that are known beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnClient {
    /// A client id, or what some begin with and `*`.
    pub client_id: String,
    /// Names of the links by which they may connect; None: any.
    pub link: Option<Vec<String>>,
    /// What a node must have proved to be one of them; None: nothing.
    pub identity: Option<Vec<String>>,
    /// Predefined topic ids of these clients, before those of all: name = id.
    pub predefined: BTreeMap<String, u16>,
}

impl SnClient {
    /// How well a client id fits: longer is better, all of it is best.
    #[must_use]
    pub fn fits(&self, client_id: &str) -> Option<usize> {
        match self.client_id.strip_suffix('*') {
            Some(prefix) => client_id.starts_with(prefix).then_some(prefix.len()),
            None => (self.client_id == client_id).then_some(usize::MAX),
        }
    }
}

/// `[[link]]`: a radio.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    pub name: String,
    pub kind: LinkKind,
    /// Longest MQTT-SN message on this link.
    pub mtu: usize,
    /// Only clients that an `[[sn.client]]` names may connect here.
    pub known_only: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LinkKind {
    Udp(UdpLink),
    Serial(SerialLink),
}

#[derive(Debug, Clone, PartialEq)]
pub struct UdpLink {
    pub bind: SocketAddr,
    /// The groups that ADVERTISE goes to and SEARCHGW comes by.
    pub multicast: Vec<SocketAddr>,
    /// The network interfaces where they are joined; none: the one that the routes say.
    pub multicast_interfaces: Vec<String>,
    /// How many networks far a message to a group goes.
    pub multicast_hops: u8,
    /// What the system keeps for us while we are busy.
    pub receive_buffer: usize,
    pub dtls: Option<Box<LinkDtls>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SerialLink {
    pub device: PathBuf,
    pub baud: u32,
    pub framing: Framing,
    pub rtscts: bool,
    pub xonxoff: bool,
    /// Silence between two messages to the line.
    pub gap: Duration,
    /// Silence between the last octet from the line and the next message to it.
    pub turnaround: Duration,
}

/// `[link.dtls]`: with a certificate, pre-shared keys or both.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkDtls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Nodes with certificates must show one of this CA.
    pub client_ca: Option<PathBuf>,
    /// Where in a node's certificate its name is.
    pub identity: CertificateName,
    /// Files of revoked certificates of nodes.
    pub crl: Vec<PathBuf>,
    /// Lines `identity:key`.
    pub psk_file: Option<PathBuf>,
    pub max_associations: usize,
    pub max_handshakes: usize,
    pub max_hellos_per_second: u32,
    pub handshake_timeout: Duration,
    /// An association is closed after this silence.
    pub idle_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Slip,
    Cobs,
    Hdlc,
    /// Of an XBee module: API mode 1, or 2 with escapes.
    Xbee,
    XbeeEscaped,
}

/// `[[upstream]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: String,
    /// In order of preference.
    pub url: Vec<UpstreamUrl>,
    /// What kind of broker it is.
    pub preset: Preset,
    /// After `{gateway}` was filled in.
    pub client_id: String,
    pub version: UpstreamVersion,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    /// The key of the device at Azure IoT Hub, in base64: passwords are made of it.
    pub sas_key_file: Option<PathBuf>,
    /// How long such a password is good.
    pub sas_ttl: Duration,
    pub keepalive: Duration,
    pub clean_start: bool,
    pub connect_timeout: Duration,
    /// Messages sent and not yet acknowledged.
    pub max_inflight_messages: u16,
    /// Topic aliases used towards the upstream, within the maximum that it tells.
    pub max_topic_aliases: u16,
    /// "Connected, but nothing acknowledged for this long": the link is given up.
    pub stuck_timeout: Duration,
    pub reconnect_min: Duration,
    pub reconnect_max: Duration,
    /// How often the first URL is tried while another is in use. Zero: when the link ends.
    pub return_interval: Duration,
    pub proxy: Option<Proxy>,
    pub proxy_password_file: Option<PathBuf>,
    /// The network interface that is used, whatever the routes say.
    pub interface: Option<String>,
    /// The address that is connected from.
    pub source_address: Option<IpAddr>,
    pub tls: Option<ClientTls>,
    /// Of all rules together.
    pub pace: Pace,
    /// Messages say that they went through this gateway.
    pub hop_marker: bool,
    /// Remote topic of the retained link state, `{gateway}` filled in; empty: none.
    pub status_topic: String,
    pub rule: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// The path, where MQTT goes over WebSocket.
    pub websocket: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamVersion {
    V311,
    V5,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientTls {
    /// Empty: the system's roots.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// In place of `key`.
    pub pkcs11: Option<TokenKey>,
    /// Name in the certificate when it is not the host of the URL.
    pub server_name: Option<String>,
    /// Protocols offered, the preferred one first. Empty: none.
    pub alpn: Vec<String>,
    /// The certificate must also have one of these keys. Empty: any.
    pub pin: Vec<Pin>,
}

/// A private key that stays in a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TokenKey {
    /// The library that comes with the token.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the key in it.
    pub key: String,
    pub pin_file: PathBuf,
}

/// `[[upstream.rule]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub name: String,
    pub direction: Direction,
    pub filter: String,
    /// Empty: the topic as it is.
    pub remap: String,
    pub exclude: Vec<String>,
    pub qos: RuleQos,
    pub retain: RuleRetain,
    /// 0..9, higher drains first.
    pub priority: u8,
    /// Zero: messages do not age.
    pub ttl: Duration,
    pub max_messages: u64,
    pub max_bytes: u64,
    pub when_full: WhenFull,
    /// So many links in a row that end with a message make it a dead letter.
    pub poison_after: u8,
    pub drain: Drain,
    pub pace: Pace,
    /// Messages say when they came, and have numbers.
    pub trace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
    Both,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleQos {
    Keep,
    Fixed(QoS),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleRetain {
    Keep,
    Strip,
    Set,
}
/// In a second; 0: as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    pub messages: u64,
    pub bytes: u64,
}

/// What goes first when there is a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// The oldest.
    InOrder,
    /// What comes in meanwhile.
    LiveFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    DropOldest,
    DropNewest,
    Reject,
    /// Of each topic only the newest waits.
    KeepLast,
}

impl WhenFull {
    /// As the configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Reject => "reject",
            Self::KeepLast => "keep-last",
        }
    }
}
