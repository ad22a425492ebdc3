//! Does it make sense together? Checks of the finished configuration that no single key can answer.

mod cloud;
mod login;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::document::SourceMap;
use crate::config::identity::{self, BadIdentity, GATEWAY};
use crate::config::schema::{
    Bind, Broker, ClientTls, Config, Direction, LinkKind, Rule, Store, TokenKey, Upstream, UpstreamUrl,
    UpstreamVersion,
};
use crate::config::transport;
use crate::config::value::show_size;
use crate::config::{Finding, access};
use crate::mqtt::topic;
use crate::time::Duration;

/// All that is wrong with `config`, or will surprise. `map` tells what the file says and what is a default.
pub(super) fn check(config: &Config, map: &SourceMap) -> Vec<Finding> {
    let mut found = Vec::new();
    gateway(config, &mut found);
    admin(config, map, &mut found);
    store(&config.store, &mut found);
    buffers(&config.broker, &mut found);
    listeners(config, map, &mut found);
    access::check(config, &mut found);
    links(config, &mut found);
    predefined(config, &mut found);
    upstreams(config, map, &mut found);
    outage_space(config, &mut found);
    found
}

fn gateway(config: &Config, found: &mut Vec<Finding>) {
    let gateway = &config.gateway;
    if !gateway.name.is_empty()
        && let Err(error) = identity::check(&gateway.name)
    {
        found.push(Finding::error("gateway.name", error.to_string(), BadIdentity::HELP));
    }
    template("gateway.status_topic", &gateway.status_topic, true, found);
}

/// What anybody can reach shows nothing without a token; and nobody else listens there.
fn admin(config: &Config, map: &SourceMap, found: &mut Vec<Finding>) {
    let admin = &config.admin;
    let Some(http) = admin.http else { return };
    if !http.ip().is_loopback() && admin.token_file.is_none() {
        found.push(Finding::error(
            "admin.http",
            format!("{http} can be reached by others, who would see clients, topics and the log"),
            "add a `token_file` to [admin], or write \"127.0.0.1:1888\" and let a proxy with TLS ask for names",
        ));
    } else if !http.ip().is_loopback() {
        found.push(Finding::warning(
            "admin.http",
            format!("{http} can be reached by others, and the token goes over the network as it is"),
            "write \"127.0.0.1:1888\" and let a proxy with TLS stand before it, or let this be a network you trust",
        ));
    }
    let is_taken = |bind: &Bind| bind.tcp() == Some(http) && http.port() != 0;
    if let Some(i) = config.listener.iter().position(|listener| is_taken(&listener.bind)) {
        let path = if map.has("admin.http") { "admin.http".to_owned() } else { format!("listener[{i}].bind") };
        let message = format!("the listener {:?} and the status page both use {http}", config.listener[i].name);
        found.push(Finding::error(path, message, "give each its own port"));
    }
}

/// A text in which `{gateway}` is filled in, and which may have to be a topic name.
fn template(path: &str, text: &str, topic: bool, found: &mut Vec<Finding>) {
    let rest = text.replace(GATEWAY, "");
    if rest.contains(['{', '}']) {
        let message = format!("{text:?} has braces other than {GATEWAY}");
        found.push(Finding::error(path, message, format!("only {GATEWAY} is filled in here")));
    }
    if topic
        && !text.is_empty()
        && let Err(error) = topic::check_name(text)
    {
        found.push(Finding::error(path, format!("{text:?}: {error}"), "name one topic, without `+` and `#`"));
    }
}

/// What one connection may hold must fit into what all of them may hold.
fn buffers(broker: &Broker, found: &mut Vec<Finding>) {
    let each = [
        ("max_outbox_bytes", broker.max_outbox_bytes),
        ("max_packet_bytes", usize::try_from(broker.max_packet_bytes).unwrap_or(usize::MAX)),
    ];
    for (key, bytes) in each.into_iter().filter(|(_, bytes)| *bytes > broker.max_buffered_bytes) {
        found.push(Finding::error(
            format!("broker.{key}"),
            format!("`{key}` is more than `max_buffered_bytes`, so one connection could never use it"),
            format!("write at most \"{}\"", show_size(bytes.min(broker.max_buffered_bytes) as u64)),
        ));
    }
}

fn store(store: &Store, found: &mut Vec<Finding>) {
    if store.commit_bytes > store.max_pending_bytes {
        found.push(Finding::error(
            "store.commit_bytes",
            "`commit_bytes` is more than `max_pending_bytes`, so a batch would never be full",
            format!("write at most \"{}\"", show_size(store.max_pending_bytes as u64)),
        ));
    }
}

fn listeners(config: &Config, map: &SourceMap, found: &mut Vec<Finding>) {
    unique("listener", config.listener.iter().map(|listener| listener.name.as_str()), found);
    let binds: Vec<&Bind> = config.listener.iter().map(|listener| &listener.bind).collect();
    distinct_addresses("listener", &binds, found);
    for (i, listener) in config.listener.iter().enumerate() {
        login::listener(i, listener, config, map, found);
        transport::check(i, listener, map, found);
    }
    login::without_effect(config, found);
    if config.listener.is_empty() {
        let message = "there is no listener, so no MQTT client can connect";
        found.push(Finding::warning("listener", message, "leave `listener` out for one on 127.0.0.1:1883"));
    }
}

fn links(config: &Config, found: &mut Vec<Finding>) {
    unique("link", config.link.iter().map(|link| link.name.as_str()), found);
    let mut seen = Vec::new();
    for (i, link) in config.link.iter().enumerate() {
        let (key, what) = match &link.kind {
            LinkKind::Udp(udp) if udp.bind.port() != 0 => ("bind", udp.bind.to_string()),
            LinkKind::Serial(serial) => ("device", serial.device.display().to_string()),
            LinkKind::Udp(_) => continue,
        };
        if seen.contains(&what) {
            let message = format!("{what} is used by two links");
            found.push(Finding::error(format!("link[{i}].{key}"), message, "give each link its own"));
        }
        seen.push(what);
        match &link.kind {
            LinkKind::Udp(udp) => transport::check_link(i, udp, found),
            LinkKind::Serial(serial) => transport::check_line(i, serial, found),
        }
    }
}

fn predefined(config: &Config, found: &mut Vec<Finding>) {
    distinct_ids("sn.predefined", &config.sn.predefined, found);
    unique_clients(config, found);
    for (i, client) in config.sn.client.iter().enumerate() {
        distinct_ids(&format!("sn.client[{i}].predefined"), &client.predefined, found);
        for (at, name) in client.link.iter().flatten().enumerate() {
            if !config.link.iter().any(|link| link.name == *name) {
                let message = format!("there is no link {name:?}");
                found.push(Finding::error(
                    format!("sn.client[{i}].link[{at}]"),
                    message,
                    "write the name of a [[link]]",
                ));
            }
        }
    }
}

fn distinct_ids(key: &str, predefined: &BTreeMap<String, u16>, found: &mut Vec<Finding>) {
    let mut topics: Vec<(&u16, &String)> = predefined.iter().map(|(topic, id)| (id, topic)).collect();
    topics.sort();
    for pair in topics.windows(2) {
        let [(id, first), (next, second)] = pair else { continue };
        if id == next {
            let message = format!("predefined topic id {id} stands for {first:?} and for {second:?}");
            found.push(Finding::error(format!("{key}.{second}"), message, "give each topic its own id"));
        }
    }
}

fn unique_clients(config: &Config, found: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for (i, client) in config.sn.client.iter().enumerate() {
        if !seen.insert(client.client_id.as_str()) {
            let message = format!("two [[sn.client]] are for {:?}", client.client_id);
            found.push(Finding::error(format!("sn.client[{i}].client_id"), message, "put what they say in one"));
        }
    }
}

fn upstreams(config: &Config, map: &SourceMap, found: &mut Vec<Finding>) {
    unique("upstream", config.upstream.iter().map(|upstream| upstream.name.as_str()), found);
    for (i, upstream) in config.upstream.iter().enumerate() {
        let path = format!("upstream[{i}]");
        unique(&format!("{path}.rule"), upstream.rule.iter().map(|rule| rule.name.as_str()), found);
        template(&format!("{path}.client_id"), &upstream.client_id, false, found);
        template(&format!("{path}.status_topic"), &upstream.status_topic, true, found);
        times(&path, upstream, found);
        upstream_login(&path, upstream, found);
        tls(&path, upstream, found);
        proxy(&path, upstream, found);
        cloud::check(&path, upstream, map, found);
        endpoints(&path, upstream, config, found);
        if upstream.rule.is_empty() {
            let message = format!("upstream `{}` has no rule, so nothing is bridged", upstream.name);
            found.push(Finding::warning(
                path.as_str(),
                message,
                "add an [[upstream.rule]] with a name and a filter",
            ));
        }
        for (j, rule) in upstream.rule.iter().enumerate() {
            without_effect(&format!("{path}.rule[{j}]"), rule, map, found);
        }
        let taken_over = config.upstream[..i]
            .iter()
            .find(|other| other.client_id == upstream.client_id && shares_endpoint(other, upstream));
        if let Some(other) = taken_over {
            found.push(Finding::error(
                format!("{path}.client_id"),
                format!(
                    "upstreams `{}` and `{}` log in to the same broker with the same client id and would disconnect each other",
                    other.name, upstream.name
                ),
                format!("give one of them another, such as `client_id = \"{GATEWAY}-{}\"`", upstream.name),
            ));
        }
    }
}

fn shares_endpoint(a: &Upstream, b: &Upstream) -> bool {
    a.url.iter().any(|x| b.url.iter().any(|y| (&x.host, x.port) == (&y.host, y.port)))
}

fn times(path: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    if upstream.reconnect_min > upstream.reconnect_max {
        let longest = humantime::format_duration(upstream.reconnect_max);
        found.push(Finding::error(
            format!("{path}.reconnect_min"),
            "`reconnect_min` is longer than `reconnect_max`",
            format!("write at most \"{longest}\""),
        ));
    }
    if upstream.keepalive.subsec_nanos() != 0 {
        found.push(Finding::error(
            format!("{path}.keepalive"),
            "a keep-alive has whole seconds",
            format!("write \"{}s\"", upstream.keepalive.as_secs() + 1),
        ));
    }
    if upstream.keepalive == Duration::ZERO {
        found.push(Finding::warning(
            format!("{path}.keepalive"),
            "without keep-alive a dead link is noticed only when something is sent",
            "write a keep-alive such as \"60s\"",
        ));
    }
}

fn upstream_login(path: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    // [MQTT-3.1.2-22] of 3.1.1; 5.0 lifted it.
    if upstream.password_file.is_some() && upstream.username.is_none() && upstream.version == UpstreamVersion::V311
    {
        found.push(Finding::error(
            format!("{path}.password_file"),
            "MQTT 3.1.1 knows no password without a user name",
            "add `username`",
        ));
    }
    let in_clear = upstream.url.iter().position(|url| !url.tls && !is_loopback(url));
    if let Some(i) = in_clear
        && upstream.password_file.is_some()
    {
        found.push(Finding::warning(
            format!("{path}.url[{i}]"),
            format!("the password travels unencrypted to {}", upstream.url[i]),
            "use mqtts://",
        ));
    }
    if upstream.client_id.is_empty() && !upstream.clean_start {
        found.push(Finding::error(
            format!("{path}.client_id"),
            "an empty client id has no session to come back to",
            format!("write `client_id = \"{GATEWAY}\"`, or `clean_start = true`"),
        ));
    }
}

fn tls(path: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    let Some(tls) = &upstream.tls else { return };
    if let Some(pkcs11) = &tls.pkcs11 {
        token(&format!("{path}.tls"), tls, pkcs11, found);
    } else if tls.cert.is_some() != tls.key.is_some() {
        let (there, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
        found.push(Finding::error(
            format!("{path}.tls.{there}"),
            format!("`{there}` without `{missing}`"),
            format!("a client certificate needs both: add `{missing}`"),
        ));
    }
    if !upstream.url.is_empty() && !upstream.url.iter().any(|url| url.tls) {
        let message = "`tls` has no effect: no URL of this upstream is mqtts:// or wss://";
        found.push(Finding::warning(format!("{path}.tls"), message, "write mqtts:// in `url`"));
    }
}

/// A key in a token stands in the place of one in a file.
fn token(path: &str, tls: &ClientTls, key: &TokenKey, found: &mut Vec<Finding>) {
    let mut error = |key: &str, message: &str, help: &str| {
        found.push(Finding::error(format!("{path}.{key}"), message, help));
    };
    if !cfg!(feature = "pkcs11") {
        let help = "build it with `--features pkcs11` (Yocto: PACKAGECONFIG), or use `key`";
        return error("pkcs11", "this program was built without PKCS#11", help);
    }
    if tls.key.is_some() {
        error("key", "`key` beside `pkcs11`: the key is in a file or in the token", "take one of them out");
    }
    if tls.cert.is_none() {
        error("pkcs11", "`pkcs11` without `cert`", "a client certificate needs both: add `cert`");
    }
    if !key.module.is_absolute() {
        error("pkcs11.module", "the library is looked for in no other place", "write the whole path");
    }
}

fn proxy(path: &str, upstream: &Upstream, found: &mut Vec<Finding>) {
    if upstream.proxy_password_file.is_none() {
        return;
    }
    let (message, help) = match &upstream.proxy {
        None => ("`proxy_password_file` without `proxy`", "add `proxy`, or take this out"),
        Some(proxy) if proxy.username.is_none() => {
            ("the proxy gets a password but no user name", "write the name into `proxy`: \"http://user@host:3128\"")
        }
        Some(proxy) if proxy.password.is_some() => {
            ("there are two passwords for the proxy", "take the one in `proxy` out")
        }
        Some(_) => return,
    };
    found.push(Finding::error(format!("{path}.proxy_password_file"), message, help));
}

fn endpoints(path: &str, upstream: &Upstream, config: &Config, found: &mut Vec<Finding>) {
    if upstream.url.is_empty() {
        let help = "write at least one, such as [\"mqtts://broker.example.com:8883\"]";
        found.push(Finding::error(format!("{path}.url"), "`url` is empty", help));
    }
    for (i, url) in upstream.url.iter().enumerate() {
        let own = config.listener.iter().find(|listener| {
            listener.bind.tcp().is_some_and(|bind| {
                let here = bind.ip().is_loopback() || bind.ip().is_unspecified();
                here && is_loopback(url) && bind.port() == url.port
            })
        });
        if let Some(listener) = own {
            found.push(Finding::warning(
                format!("{path}.url[{i}]"),
                format!("{url} is this gateway's own listener `{}`", listener.name),
                "name the other broker",
            ));
        }
    }
}

fn is_loopback(url: &UpstreamUrl) -> bool {
    url.host == "localhost" || url.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Queue keys of a rule that has no queue: what comes in goes to the local clients' queues.
fn without_effect(path: &str, rule: &Rule, map: &SourceMap, found: &mut Vec<Finding>) {
    if rule.direction != Direction::In {
        return;
    }
    for key in ["priority", "limit", "when_full", "poison_after", "drain", "pace", "trace"] {
        let key_path = format!("{path}.{key}");
        if map.has(&key_path) {
            let message = format!("`{key}` has no effect on a rule with `direction = \"in\"`");
            found.push(Finding::warning(key_path, message, "take it out; [broker] has the limits of local queues"));
        }
    }
}

/// A rule's eviction policy only works as long as the file has room for what its limit allows.
fn outage_space(config: &Config, found: &mut Vec<Finding>) {
    let outward = config.upstream.iter().flat_map(|upstream| &upstream.rule);
    let wanted: u64 = outward
        .filter(|rule| rule.direction != Direction::In)
        .map(|rule| rule.max_bytes)
        .fold(0, u64::saturating_add);
    if wanted > config.store.max_bytes {
        found.push(Finding::warning(
            "store.max_bytes",
            format!(
                "the limits of all rules together are {}, but the store may hold {}: when it is full, publishes are refused whatever `when_full` says",
                show_size(wanted),
                show_size(config.store.max_bytes)
            ),
            "raise `store.max_bytes`, or lower the `limit` of the rules",
        ));
    }
}

fn unique<'n>(path: &str, names: impl Iterator<Item = &'n str>, found: &mut Vec<Finding>) {
    let mut seen = Vec::new();
    for (i, name) in names.enumerate() {
        // A missing name was already complained about.
        if !name.is_empty() && seen.contains(&name) {
            let message = format!("the name `{name}` is used twice");
            found.push(Finding::error(format!("{path}[{i}].name"), message, "give each its own name"));
        }
        seen.push(name);
    }
}

fn distinct_addresses(path: &str, binds: &[&Bind], found: &mut Vec<Finding>) {
    for (i, bind) in binds.iter().enumerate() {
        if let Some(other) = binds[..i].iter().find(|other| clash(bind, other)) {
            let message = format!("{bind} is already taken by {other} above");
            let remedy = if bind.tcp().is_some() { "use another port" } else { "use another path" };
            found.push(Finding::error(format!("{path}[{i}].bind"), message, remedy));
        }
    }
}

/// Linux refuses to listen twice on a port when one of the addresses is the wildcard of that family.
fn clash(a: &Bind, b: &Bind) -> bool {
    let (Some(tcp_a), Some(tcp_b)) = (a.tcp(), b.tcp()) else { return a == b };
    let same_family = tcp_a.is_ipv4() == tcp_b.is_ipv4();
    let wildcard = tcp_a.ip().is_unspecified() || tcp_b.ip().is_unspecified();
    tcp_a.port() == tcp_b.port() && tcp_a.port() != 0 && (tcp_a.ip() == tcp_b.ip() || (same_family && wildcard))
}
