//! Which keys each table has, what they may hold, and their defaults.

mod link;

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::config::AclFilter;
use crate::config::identity;
use crate::config::preset::PRESETS;
use crate::config::reader::Section;
use crate::config::schema::{
    AclRule, Admin, Auth, Broker, CertificateName, ClientCert, ClientTls, Config, Direction, Drain, Durability,
    Gateway, Jwt, Listener, Log, LogFormat, LogLevel, LoginWay, Pace, Protocol, Rule, RuleQos, RuleRetain,
    ServerTls, Sn, SnClient, Store, TlsVersion, TokenKey, Upstream, UpstreamVersion, WhenFull,
};
use crate::config::uplink::{alpn, interface, pin, proxy, source_address};
use crate::config::url::url;
use crate::config::value::{
    Parsed, Wrong, address, bind, boolean, bytes, choice, duration, integer, name, or_none, path, permissions,
    socket_path, string, url_path,
};
use crate::mqtt::{QoS, topic};
use crate::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// An upper bound for counts of things in memory.
const MANY: u64 = 100_000_000;
/// Bytes in memory: what a 32-bit machine can address.
const MEMORY: RangeInclusive<u64> = KIB..=2 << 30;
/// MQTT counts the length of a packet in 28 bits.
const PACKET: RangeInclusive<u64> = KIB..=256 * MIB - 1;
const DISK: RangeInclusive<u64> = MIB..=16 * TIB;

/// Waiting on a network.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);
/// MQTT counts keep-alives in 16 bits of seconds.
const KEEPALIVE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(65_535);
/// MQTT counts expiries in 32 bits of seconds.
const EXPIRY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(u32::MAX as u64);

pub(super) fn config(root: &mut Section<'_>) -> Config {
    let default = Config::default();
    let gateway = root.section("gateway", gateway);
    let log = root.section("log", log);
    let admin = root.section("admin", admin);
    let store = root.section("store", store);
    let broker = root.section("broker", broker);
    let auth = root.section("auth", auth);
    let sn = root.section("sn", sn);
    let connections = broker.max_connections;
    let listener = root.sections("listener", |s| listener(s, connections, &auth));
    let acl = root.sections("acl", acl);
    let link = root.sections("link", link::link);
    let upstream = root.sections("upstream", upstream);
    Config {
        gateway,
        log,
        admin,
        store,
        listener: listener.unwrap_or_else(|| vec![only_listener(connections, &auth)]),
        broker,
        auth,
        sn,
        acl: acl.unwrap_or(default.acl),
        link: link.unwrap_or(default.link),
        upstream: upstream.unwrap_or(default.upstream),
    }
}

fn gateway(s: &mut Section<'_>) -> Gateway {
    let default = Gateway::default();
    Gateway {
        name: s.get("name", default.name, string),
        identity: s.list("identity", identity::source).unwrap_or(default.identity),
        state_dir: s.get("state_dir", default.state_dir, path),
        status_topic: s.get("status_topic", default.status_topic, string),
    }
}

fn log(s: &mut Section<'_>) -> Log {
    const LEVELS: &[(&str, LogLevel)] = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
    ];
    const FORMATS: &[(&str, LogFormat)] = &[
        ("auto", LogFormat::Auto),
        ("journald", LogFormat::Journald),
        ("json", LogFormat::Json),
        ("plain", LogFormat::Plain),
    ];
    let default = Log::default();
    Log {
        level: s.get("level", default.level, choice(LEVELS)),
        format: s.get("format", default.format, choice(FORMATS)),
    }
}

fn admin(s: &mut Section<'_>) -> Admin {
    let default = Admin::default();
    Admin {
        socket: s.get("socket", default.socket, or_none(socket_path)),
        mode: s.get("mode", default.mode, permissions),
        group: s.get("group", default.group, string),
        http: s.get("http", default.http, or_none(address)),
        token_file: s.optional("token_file", path),
        max_connections: s.get("max_connections", default.max_connections, integer(1..=1_000)),
    }
}

fn store(s: &mut Section<'_>) -> Store {
    const DURABILITIES: &[(&str, Durability)] =
        &[("power-loss", Durability::PowerLoss), ("crash", Durability::Crash), ("none", Durability::None)];
    let default = Store::default();
    let interval = Duration::ZERO..=Duration::from_secs(60);
    Store {
        commit_interval: s.get("commit_interval", default.commit_interval, duration(interval)),
        commit_messages: s.get("commit_messages", default.commit_messages, integer(1..=MANY)),
        commit_bytes: s.get("commit_bytes", default.commit_bytes, bytes(MEMORY)),
        max_pending_bytes: s.get("max_pending_bytes", default.max_pending_bytes, bytes(MEMORY)),
        window_bytes: s.get("window_bytes", default.window_bytes, bytes(MEMORY)),
        max_memory_bytes: s.get("max_memory_bytes", default.max_memory_bytes, bytes(MEMORY)),
        max_bytes: s.get("max_bytes", default.max_bytes, bytes(DISK)),
        durability: s.get("durability", default.durability, choice(DURABILITIES)),
        max_dead_letters: s.get("max_dead_letters", default.max_dead_letters, integer(1..=10_000_000)),
    }
}

fn broker(s: &mut Section<'_>) -> Broker {
    let d = Broker::default();
    Broker {
        max_connections: s.get("max_connections", d.max_connections, integer(1..=1_000_000)),
        max_packet_bytes: s.get("max_packet_bytes", d.max_packet_bytes, bytes(PACKET)),
        max_client_id_bytes: s.get("max_client_id_bytes", d.max_client_id_bytes, bytes(23..=65_535)),
        max_will_bytes: s.get("max_will_bytes", d.max_will_bytes, bytes(0..=*MEMORY.end())),
        max_user_properties: s.get("max_user_properties", d.max_user_properties, integer(0..=MANY)),
        max_inflight_messages: s.get("max_inflight_messages", d.max_inflight_messages, integer(1..=65_535)),
        receive_maximum: s.get("receive_maximum", d.receive_maximum, integer(1..=65_535)),
        max_queued_messages: s.get("max_queued_messages", d.max_queued_messages, integer(1..=u64::MAX >> 1)),
        max_queued_bytes: s.get("max_queued_bytes", d.max_queued_bytes, bytes(KIB..=16 * TIB)),
        max_sessions: s.get("max_sessions", d.max_sessions, integer(1..=60_000)),
        max_subscriptions_per_client: s.get(
            "max_subscriptions_per_client",
            d.max_subscriptions_per_client,
            integer(1..=MANY),
        ),
        max_topic_levels: s.get("max_topic_levels", d.max_topic_levels, integer(1..=65_535)),
        max_topic_bytes: s.get("max_topic_bytes", d.max_topic_bytes, bytes(16..=65_535)),
        topic_alias_maximum: s.get("topic_alias_maximum", d.topic_alias_maximum, integer(0..=65_535)),
        max_topic_aliases_sent: s.get("max_topic_aliases_sent", d.max_topic_aliases_sent, integer(0..=256)),
        max_retained_messages: s.get("max_retained_messages", d.max_retained_messages, integer(0..=MANY)),
        max_retained_bytes: s.get("max_retained_bytes", d.max_retained_bytes, bytes(0..=*MEMORY.end())),
        connect_timeout: s.get("connect_timeout", d.connect_timeout, duration(TIMEOUT)),
        max_keepalive: s.get("max_keepalive", d.max_keepalive, duration(KEEPALIVE)),
        max_session_expiry: s.get("max_session_expiry", d.max_session_expiry, duration(EXPIRY)),
        max_outbox_bytes: s.get("max_outbox_bytes", d.max_outbox_bytes, bytes(MEMORY)),
        max_buffered_bytes: s.get("max_buffered_bytes", d.max_buffered_bytes, bytes(MEMORY)),
        sys_interval: s.get("sys_interval", d.sys_interval, duration(Duration::ZERO..=*TIMEOUT.end())),
    }
}

fn auth(s: &mut Section<'_>) -> Auth {
    let d = Auth::default();
    Auth {
        password_file: s.optional("password_file", path),
        max_failures: s.get("max_failures", d.max_failures, integer(1..=1_000_000)),
        failure_window: s.get("failure_window", d.failure_window, duration(TIMEOUT)),
        failure_block: s.get("failure_block", d.failure_block, duration(TIMEOUT)),
        max_addresses: s.get("max_addresses", d.max_addresses, integer(1..=1_000_000)),
        max_waiting: s.get("max_waiting", d.max_waiting, integer(1..=100_000)),
        max_waiting_bytes: s.get("max_waiting_bytes", d.max_waiting_bytes, bytes(KIB..=*MEMORY.end())),
        jwt: s.optional_section("jwt", jwt),
        groups: s.entries("groups", |_| Ok(()), members),
    }
}

fn jwt(s: &mut Section<'_>) -> Jwt {
    let d = Jwt::default();
    if !s.has("secret_file") && !s.has("public_key_file") {
        s.missing("public_key_file", "\"/etc/moteway/jwt.pem\"");
    }
    Jwt {
        secret_file: s.optional("secret_file", path),
        public_key_file: s.optional("public_key_file", path),
        issuer: s.optional("issuer", string),
        audience: s.optional("audience", string),
        user_claim: s.get("user_claim", d.user_claim, string),
        leeway: s.get("leeway", d.leeway, duration(Duration::ZERO..=Duration::from_secs(3600))),
    }
}

/// Every way to log in that is configured.
fn configured_ways(auth: &Auth, tls: Option<&ServerTls>) -> Vec<LoginWay> {
    let ways = [
        (LoginWay::Password, auth.password_file.is_some()),
        (LoginWay::Token, auth.jwt.is_some()),
        (LoginWay::Certificate, tls.is_some_and(|tls| tls.client_ca.is_some())),
    ];
    ways.into_iter().filter(|(_, is_configured)| *is_configured).map(|(way, _)| way).collect()
}

/// The listener of a file that names none.
fn only_listener(connections: usize, auth: &Auth) -> Listener {
    let login = configured_ways(auth, None);
    let allow_anonymous = login.is_empty();
    Listener { max_connections: connections, login, allow_anonymous, ..Listener::default() }
}

fn listener(s: &mut Section<'_>, connections: usize, auth: &Auth) -> Listener {
    const WAYS: &[(&str, LoginWay)] =
        &[("password", LoginWay::Password), ("token", LoginWay::Token), ("certificate", LoginWay::Certificate)];
    const PROTOCOLS: &[(&str, Protocol)] = &[("mqtt", Protocol::Mqtt), ("websocket", Protocol::Websocket)];
    let default = Listener::default();
    let name = s.require("name", "\"local\"", name);
    let bind = s.require("bind", "\"127.0.0.1:1883\"", bind).unwrap_or(default.bind);
    let tls = s.optional_section("tls", server_tls);
    let login = s.list("login", choice(WAYS)).unwrap_or_else(|| configured_ways(auth, tls.as_ref()));
    // Whoever opens the broker to a network without asking for names must say so in words, and so must those who
    // have set up names and want clients without them.
    let is_open = bind.is_local() && login.is_empty();
    Listener {
        name: name.unwrap_or_default(),
        mode: s.get("mode", default.mode, permissions),
        protocol: s.get("protocol", default.protocol, choice(PROTOCOLS)),
        websocket_path: s.get("websocket_path", default.websocket_path, url_path),
        tls,
        allow_anonymous: s.get("allow_anonymous", is_open, boolean),
        login,
        max_connections: s.get("max_connections", connections, integer(1..=1_000_000)),
        max_connections_per_address: s.get(
            "max_connections_per_address",
            default.max_connections_per_address,
            integer(0..=1_000_000),
        ),
        max_packet_bytes: s.optional("max_packet_bytes", bytes(PACKET)),
        connect_timeout: s.optional("connect_timeout", duration(TIMEOUT)),
        bind,
    }
}

const CERTIFICATE_NAMES: &[(&str, CertificateName)] = &[
    ("cn", CertificateName::CommonName),
    ("san-dns", CertificateName::SanDns),
    ("san-email", CertificateName::SanEmail),
    ("san-uri", CertificateName::SanUri),
];

fn server_tls(s: &mut Section<'_>) -> ServerTls {
    const CLIENT_CERTS: &[(&str, ClientCert)] =
        &[("required", ClientCert::Required), ("optional", ClientCert::Optional)];
    const VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];
    let default = ServerTls::default();
    ServerTls {
        cert: s.require("cert", "\"/etc/moteway/tls/cert.pem\"", path).unwrap_or_default(),
        key: s.require("key", "\"/etc/moteway/tls/key.pem\"", path).unwrap_or_default(),
        client_ca: s.optional("client_ca", path),
        identity: s.get("identity", CertificateName::CommonName, choice(CERTIFICATE_NAMES)),
        client_cert: s.get("client_cert", default.client_cert, choice(CLIENT_CERTS)),
        crl: s.list("crl", path).unwrap_or(default.crl),
        min_version: s.get("min_version", default.min_version, choice(VERSIONS)),
    }
}

/// The users of a group.
fn members(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    const HELP: &str = "write the names of its users: [\"ann\", \"bob\"]";
    let Some(items) = value.as_array() else { return Err(Wrong::kind("a list of users", value, HELP)) };
    items.iter().map(|item| word(item.get_ref())).collect()
}

fn acl(s: &mut Section<'_>) -> AclRule {
    AclRule {
        user: s.list("user", word),
        group: s.list("group", word),
        client_id: s.list("client_id", client_ids),
        anonymous: s.optional("anonymous", boolean),
        publish: s.list("publish", acl_filter).unwrap_or_default(),
        subscribe: s.list("subscribe", acl_filter).unwrap_or_default(),
        read: s.list("read", acl_filter),
        deny_publish: s.list("deny_publish", acl_filter).unwrap_or_default(),
        deny_subscribe: s.list("deny_subscribe", acl_filter).unwrap_or_default(),
        deny_read: s.list("deny_read", acl_filter),
    }
}

fn acl_filter(value: &DeValue<'_>) -> Parsed<AclFilter> {
    AclFilter::parse(&string(value)?)
}

/// A string that says something.
fn word(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    if text.is_empty() {
        return Err(Wrong::new("an empty string names nobody", "write a name, or leave the key out"));
    }
    Ok(text)
}

/// A client id, or what some begin with and `*`.
fn client_ids(value: &DeValue<'_>) -> Parsed<String> {
    let text = word(value)?;
    if text.find('*').is_some_and(|at| at + 1 < text.len()) {
        let help = "`*` may stand at the end only: \"sensor-*\"";
        return Err(Wrong::new(format!("{text:?} has `*` before its end"), help));
    }
    Ok(text)
}

fn sn(s: &mut Section<'_>) -> Sn {
    let d = Sn::default();
    Sn {
        gateway_id: s.get("gateway_id", d.gateway_id, integer(0..=255)),
        advertise_interval: s.get("advertise_interval", d.advertise_interval, duration(Duration::ZERO..=ADVERTISE)),
        max_clients: s.get("max_clients", d.max_clients, integer(1..=60_000)),
        max_topics_per_client: s.get("max_topics_per_client", d.max_topics_per_client, integer(1..=65_534)),
        retry_interval: s.get("retry_interval", d.retry_interval, duration(TIMEOUT)),
        retries: s.get("retries", d.retries, integer(0..=255)),
        idle_timeout: s.get("idle_timeout", d.idle_timeout, duration(Duration::from_secs(1)..=*EXPIRY.end())),
        max_sleep_messages: s.get("max_sleep_messages", d.max_sleep_messages, integer(1..=MANY)),
        max_sleep_bytes: s.get("max_sleep_bytes", d.max_sleep_bytes, bytes(KIB..=16 * TIB)),
        predefined: s.entries("predefined", topic_name, predefined_id),
        allow_qos_minus_one: s.get("allow_qos_minus_one", d.allow_qos_minus_one, boolean),
        wake_from_new_address: s.get("wake_from_new_address", d.wake_from_new_address, boolean),
        max_sleep_age: s.get("max_sleep_age", d.max_sleep_age, duration(Duration::ZERO..=*EXPIRY.end())),
        node_rate: s.get("node_rate", d.node_rate, integer(0..=1_000_000)),
        node_burst: s.get("node_burst", d.node_burst, integer(1..=1_000_000)),
        client: s.sections("client", sn_client).unwrap_or_default(),
    }
}

fn sn_client(s: &mut Section<'_>) -> SnClient {
    SnClient {
        client_id: s.require("client_id", "\"meter-*\"", client_ids).unwrap_or_default(),
        link: s.list("link", word),
        identity: s.list("identity", word),
        predefined: s.entries("predefined", topic_name, predefined_id),
    }
}

/// ADVERTISE says the time to the next one in 16 bits.
const ADVERTISE: Duration = Duration::from_secs(u16::MAX as u64);

/// MQTT-SN 5.3.11: 0x0000 and 0xFFFF are reserved.
fn predefined_id(value: &DeValue<'_>) -> Parsed<u16> {
    integer(1..=65_534)(value)
}

fn topic_name(topic: &str) -> Parsed<()> {
    topic::check_name(topic).map_err(|error| {
        let help = "write the whole topic in quotes, without wildcards: \"a/b\" = 1";
        Wrong::new(format!("{topic:?}: {error}"), help)
    })
}

fn upstream(s: &mut Section<'_>) -> Upstream {
    const SECOND: Duration = Duration::from_secs(1);
    let d = Upstream::default();
    if !s.has("url") {
        s.missing("url", "[\"mqtts://broker.example.com:8883\"]");
    }
    let preset = s.get("preset", d.preset, choice(PRESETS));
    Upstream {
        name: s.require("name", "\"cloud\"", name).unwrap_or_default(),
        url: s.list("url", url).unwrap_or_default(),
        preset,
        client_id: s.get("client_id", d.client_id, string),
        version: s.get("version", preset.limits().version.unwrap_or(d.version), version),
        username: s.optional("username", string),
        password_file: s.optional("password_file", path),
        sas_key_file: s.optional("sas_key_file", path),
        sas_ttl: s.get("sas_ttl", d.sas_ttl, duration(Duration::from_secs(300)..=*EXPIRY.end())),
        keepalive: s.get("keepalive", d.keepalive, duration(KEEPALIVE)),
        clean_start: s.get("clean_start", d.clean_start, boolean),
        connect_timeout: s.get("connect_timeout", d.connect_timeout, duration(TIMEOUT)),
        max_inflight_messages: s.get("max_inflight_messages", d.max_inflight_messages, integer(1..=65_535)),
        max_topic_aliases: s.get("max_topic_aliases", d.max_topic_aliases, integer(0..=1000)),
        stuck_timeout: s.get("stuck_timeout", d.stuck_timeout, duration(SECOND..=*TIMEOUT.end())),
        reconnect_min: s.get("reconnect_min", d.reconnect_min, duration(TIMEOUT)),
        reconnect_max: s.get("reconnect_max", d.reconnect_max, duration(TIMEOUT)),
        return_interval: s.get("return_interval", d.return_interval, duration(Duration::ZERO..=*TIMEOUT.end())),
        proxy: s.optional("proxy", proxy),
        proxy_password_file: s.optional("proxy_password_file", path),
        interface: s.optional("interface", interface),
        source_address: s.optional("source_address", source_address),
        tls: s.optional_section("tls", client_tls),
        pace: s.section("pace", |s| pace(s, preset.limits().pace)),
        hop_marker: s.get("hop_marker", d.hop_marker, boolean),
        status_topic: s.get("status_topic", d.status_topic, string),
        rule: s.sections("rule", rule).unwrap_or_default(),
    }
}

/// So many in a second; 0: as fast as it goes.
fn pace(s: &mut Section<'_>, d: Pace) -> Pace {
    Pace {
        messages: s.get("messages", d.messages, integer(0..=MANY)),
        bytes: s.get("bytes", d.bytes, bytes(0..=TIB)),
    }
}

/// `5`, or `"3.1.1"`, which only a string can be.
fn version(value: &DeValue<'_>) -> Parsed<UpstreamVersion> {
    let written = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        _ => String::new(),
    };
    match written.as_str() {
        "5" | "5.0" => Ok(UpstreamVersion::V5),
        "3.1.1" | "4" => Ok(UpstreamVersion::V311),
        _ => Err(Wrong::new("unknown MQTT version", "write \"5\" or \"3.1.1\"")),
    }
}

fn client_tls(s: &mut Section<'_>) -> ClientTls {
    ClientTls {
        ca: s.optional("ca", path),
        cert: s.optional("cert", path),
        key: s.optional("key", path),
        pkcs11: s.optional_section("pkcs11", token_key),
        server_name: s.optional("server_name", string),
        alpn: s.list("alpn", alpn).unwrap_or_default(),
        pin: s.list("pin", pin).unwrap_or_default(),
    }
}

fn token_key(s: &mut Section<'_>) -> TokenKey {
    TokenKey {
        module: s.require("module", "\"/usr/lib/softhsm/libsofthsm2.so\"", path).unwrap_or_default(),
        token: s.require("token", "\"moteway\"", word).unwrap_or_default(),
        key: s.require("key", "\"box\"", word).unwrap_or_default(),
        pin_file: s.require("pin_file", "\"/etc/moteway/token.pin\"", path).unwrap_or_default(),
    }
}

fn rule(s: &mut Section<'_>) -> Rule {
    const DIRECTIONS: &[(&str, Direction)] =
        &[("out", Direction::Out), ("in", Direction::In), ("both", Direction::Both)];
    const RETAINS: &[(&str, RuleRetain)] =
        &[("keep", RuleRetain::Keep), ("strip", RuleRetain::Strip), ("set", RuleRetain::Set)];
    const DRAINS: &[(&str, Drain)] = &[("in-order", Drain::InOrder), ("live-first", Drain::LiveFirst)];
    const WHEN_FULL: &[(&str, WhenFull)] = &[
        ("drop-oldest", WhenFull::DropOldest),
        ("drop-newest", WhenFull::DropNewest),
        ("reject", WhenFull::Reject),
        ("keep-last", WhenFull::KeepLast),
    ];
    let d = Rule::default();
    let (max_messages, max_bytes) = s.section("limit", |s| {
        let messages = s.get("messages", d.max_messages, integer(1..=u64::MAX >> 1));
        (messages, s.get("bytes", d.max_bytes, bytes(KIB..=*DISK.end())))
    });
    Rule {
        name: s.require("name", "\"telemetry\"", name).unwrap_or_default(),
        direction: s.get("direction", d.direction, choice(DIRECTIONS)),
        filter: s.require("filter", "\"site/{room}/{rest#}\"", string).unwrap_or_default(),
        remap: s.get("remap", d.remap, string),
        exclude: s.list("exclude", string).unwrap_or_default(),
        qos: s.get("qos", d.qos, qos),
        retain: s.get("retain", d.retain, choice(RETAINS)),
        priority: s.get("priority", d.priority, integer(0..=9)),
        ttl: s.get("ttl", d.ttl, duration(EXPIRY)),
        max_messages,
        max_bytes,
        when_full: s.get("when_full", d.when_full, choice(WHEN_FULL)),
        poison_after: s.get("poison_after", d.poison_after, integer(3..=100)),
        drain: s.get("drain", d.drain, choice(DRAINS)),
        pace: s.section("pace", |s| pace(s, d.pace)),
        trace: s.get("trace", d.trace, boolean),
    }
}

/// `"keep"`, 0, 1 or 2.
fn qos(value: &DeValue<'_>) -> Parsed<RuleQos> {
    let level = match value {
        DeValue::String(text) if text == "keep" => return Ok(RuleQos::Keep),
        DeValue::Integer(_) => integer::<u8>(0..=2)(value).ok().and_then(QoS::from_u8),
        _ => None,
    };
    level
        .map(RuleQos::Fixed)
        .ok_or_else(|| Wrong::new("unknown QoS", "write \"keep\", or 0, 1 or 2 without quotes"))
}
