//! Clouds as strict as the real ones, by their presets: nothing is sent that ends the connection, what cannot be sent is
//! put aside, and all else arrives. Without the preset the same traffic is thrown out, which shows that the endpoint is
//! strict.

mod endpoint;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use moteway::mqtt::{ConnAckProperties, Publish, QoS, Version};
use ring::hmac;

use crate::clouds::endpoint::{Endpoint, Terms};
use crate::harness::certs::Certs;
use crate::harness::client::{message, v5};
use crate::harness::gateway::Gateway;
use crate::harness::proxy::Proxy;
use crate::harness::until;

fn anybody(_: Option<&str>, _: Option<&[u8]>) -> bool {
    true
}

fn lax() -> Terms {
    Terms {
        version: None,
        max_qos: QoS::ExactlyOnce,
        retain: true,
        max_message: usize::MAX,
        max_slashes: usize::MAX,
        deep: None,
        filters: usize::MAX,
        subscriptions: usize::MAX,
        inflight: 100,
        max_keepalive: u16::MAX,
        rate: None,
        certificate: false,
        alpn: None,
        sni: Some("localhost"),
        properties: ConnAckProperties::default(),
        login: anybody,
        publish_prefix: "",
        command: None,
    }
}

/// A gateway with this upstream, and rules for `site/ROOM/REST` and for commands.
fn gateway(certs: &Certs, endpoint: &Endpoint, keys: &str, tls: &str, remap: &str, command: &str) -> Gateway {
    let url = format!("mqtts://localhost:{}", endpoint.port());
    Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = {url:?}\n{keys}\n\
         reconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\nstatus_topic = {:?}\n\
         tls = {{ ca = {:?}, {tls} }}\n\
         [[upstream.rule]]\nname = \"up\"\nfilter = \"site/{{room}}/{{rest#}}\"\nremap = {remap:?}\n\
         [[upstream.rule]]\nname = \"down\"\ndirection = \"in\"\nfilter = {command:?}\nremap = \"command/{{rest}}\"\n",
        if remap.starts_with("devices/") || remap.starts_with("v1/") { "" } else { "fleet/box/status" },
        certs.ca(),
    ))
}

fn client_certificate(certs: &Certs) -> String {
    let (cert, key) = certs.client();
    format!("cert = {cert:?}, key = {key:?}")
}

/// What the clouds have not: QoS 2, retained messages, deep topics, large messages; and much of what they have.
fn traffic(gateway: &Gateway, large: usize) -> usize {
    let mut device = gateway.client(&v5("device"));
    let large = vec![b'x'; large];
    for number in 0..300_u32 {
        let topic = format!("site/hall/n{number}");
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number as usize % 2];
        let text = number.to_string();
        let retain = number % 3 == 0;
        device.publish_packet(&Publish { retain, ..message(&topic, text.as_bytes(), qos) });
    }
    device.publish("site/hall/large", &large, QoS::AtLeastOnce);
    device.publish("site/hall/3/4/5/6/7/8/9/10", "deep", QoS::AtLeastOnce);
    device.publish("site/hall/last", "last", QoS::AtLeastOnce);
    300 + 1
}

/// The traffic passes, but for `buried` messages, and the endpoint had nothing to say against us.
#[track_caller]
fn passes(gateway: &mut Gateway, endpoint: &Endpoint, large: usize, buried: &[&str]) {
    let sent = traffic(gateway, large);
    // The deep topic is one more where the cloud takes it.
    let wanted = sent + 2 - buried.len();
    until("all that can be sent arrived", || {
        let topics: BTreeSet<_> =
            endpoint.taken().into_iter().filter(|taken| !taken.topic.ends_with("/status")).collect();
        topics.len() >= wanted
    });
    for why in buried {
        gateway.process().says(why);
    }
    assert_eq!(endpoint.violations(), Vec::<String>::new());
    assert_eq!(endpoint.connections(), 1, "one link for all of it");
}

/// The same traffic without the preset.
#[track_caller]
fn is_thrown_out(gateway: &mut Gateway, endpoint: &Endpoint) {
    traffic(gateway, 10);
    until("a violation", || !endpoint.violations().is_empty());
    gateway.process().line("that it was thrown out", |line| {
        let out = line.contains("upstream lost") || line.contains("upstream unreachable");
        out.then_some(())
    });
}

fn aws() -> Terms {
    Terms {
        max_qos: QoS::AtLeastOnce,
        max_message: 128 << 10,
        max_slashes: 7,
        deep: Some("$aws/rules/"),
        filters: 8,
        subscriptions: 50,
        inflight: 100,
        max_keepalive: 1200,
        rate: Some([100, 512 << 10]),
        certificate: true,
        alpn: Some("x-amzn-mqtt-ca"),
        command: Some("fleet/box/command/light"),
        ..lax()
    }
}

#[test]
fn aws_iot_core_gets_nothing_that_it_ends_a_connection_for() {
    let certs = Certs::new();
    let tls = format!("{}, alpn = [\"x-amzn-mqtt-ca\"]", client_certificate(&certs));
    let (remap, command) = ("fleet/{gateway}/{room}/{rest}", "fleet/{gateway}/command/{rest#}");
    let endpoint = Endpoint::start(&certs, aws());
    let mut gateway_ = gateway(&certs, &endpoint, "preset = \"aws-iot-core\"", &tls, remap, command);
    let buried = ["131092 bytes are too large, the upstream takes 131072", "topic with 10 slashes is too deep"];
    passes(&mut gateway_, &endpoint, 128 << 10, &buried);
    let mut panel = gateway_.client(&v5("panel"));
    panel.subscribe("moteway/#", QoS::AtMostOnce);
    drop(gateway_);

    let endpoint = Endpoint::start(&certs, aws());
    let mut gateway_ = gateway(&certs, &endpoint, "", &tls, remap, command);
    is_thrown_out(&mut gateway_, &endpoint);
}

/// Messages of these sizes wait for a link to the endpoint, and then go as fast as they may.
fn wait_and_go(certs: &Certs, endpoint: &Endpoint, preset: &str, sizes: &[usize]) -> Gateway {
    let proxy = Proxy::start(endpoint.address());
    proxy.refuse();
    let gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtts://localhost:{}\"\n\
         preset = {preset:?}\nmax_inflight_messages = 100\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         tls = {{ ca = {:?}, alpn = [\"x-amzn-mqtt-ca\"], {} }}\n\
         [[upstream.rule]]\nname = \"up\"\nfilter = \"site/#\"\n",
        proxy.port(),
        certs.ca(),
        client_certificate(certs)
    ));
    let mut device = gateway.client(&v5("device"));
    for (number, size) in sizes.iter().enumerate() {
        device.publish(&format!("site/{number}"), vec![b'x'; *size], QoS::AtLeastOnce);
    }
    proxy.resume();
    let (begin, preset_keeps) = (Instant::now(), preset != "generic");
    until(&format!("what {preset} comes to"), || {
        endpoint.taken().len() == sizes.len() || !(preset_keeps || endpoint.violations().is_empty())
    });
    println!("{preset}: {} messages of {} bytes in {:.1?}", endpoint.taken().len(), sizes[0], begin.elapsed());
    gateway
}

#[test]
fn aws_iot_core_gets_no_more_in_a_second_than_it_takes() {
    let certs = Certs::new();
    let strict = || Terms { rate: aws().rate, certificate: true, alpn: aws().alpn, ..lax() };
    for sizes in [[10; 400].as_slice(), &[120 << 10; 16], &[4 << 10; 300]] {
        let endpoint = Endpoint::start(&certs, strict());
        drop(wait_and_go(&certs, &endpoint, "aws-iot-core", sizes));
        assert_eq!((endpoint.violations(), endpoint.taken().len()), (Vec::<String>::new(), sizes.len()));
        let endpoint = Endpoint::start(&certs, strict());
        drop(wait_and_go(&certs, &endpoint, "generic", sizes));
        let violations = endpoint.violations();
        assert!(violations.iter().any(|what| what.starts_with("too fast")), "{violations:?}");
    }
}

#[test]
fn a_rule_of_aws_basic_ingest_may_be_deeper() {
    let certs = Certs::new();
    let endpoint = Endpoint::start(&certs, Terms { publish_prefix: "fleet/", ..aws() });
    let tls = format!("{}, alpn = [\"x-amzn-mqtt-ca\"]", client_certificate(&certs));
    let remap = "$aws/rules/store_it/fleet/{room}/{rest}";
    let gateway_ =
        gateway(&certs, &endpoint, "preset = \"aws-iot-core\"", &tls, remap, "fleet/{gateway}/command/{rest#}");
    gateway_.client(&v5("device")).publish("site/hall/3/4/5/6/7/8", "deep", QoS::AtLeastOnce);
    until("it arrived", || {
        endpoint.taken().iter().any(|taken| taken.topic == "$aws/rules/store_it/fleet/hall/3/4/5/6/7/8")
    });
    assert_eq!(endpoint.violations(), Vec::<String>::new());
}

const HUB_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// The same in base64.
const HUB_KEY_TEXT: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// As Azure checks a token: resource, signature and end.
fn hub_login(name: Option<&str>, password: Option<&[u8]>) -> bool {
    use base64ct::Encoding;
    let decode = |text: &str| text.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=");
    let Some(token) = password.and_then(|token| std::str::from_utf8(token).ok()) else { return false };
    let Some(fields) = token.strip_prefix("SharedAccessSignature ") else { return false };
    let field = |key: &str| fields.split('&').find_map(|field| field.strip_prefix(key)).unwrap_or_default();
    let (resource, signature, end) = (field("sr="), decode(field("sig=")), field("se="));
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, HUB_KEY), format!("{resource}\n{end}").as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    name == Some("localhost/box/?api-version=2021-04-12")
        && decode(resource) == "localhost/devices/box"
        && signature == base64ct::Base64::encode_string(signed.as_ref())
        && end.parse::<u64>().is_ok_and(|end| end > now)
}

fn by_certificate(name: Option<&str>, password: Option<&[u8]>) -> bool {
    name == Some("localhost/box/?api-version=2021-04-12") && password.is_none()
}

fn hub() -> Terms {
    Terms {
        version: Some(Version::V311),
        max_qos: QoS::AtLeastOnce,
        retain: false,
        max_message: 256 << 10,
        subscriptions: 5,
        max_keepalive: 1177,
        login: hub_login,
        publish_prefix: "devices/box/messages/events/",
        command: Some("devices/box/messages/devicebound/light"),
        ..lax()
    }
}

const EVENTS: &str = "devices/{gateway}/messages/events/room={room}/{rest}";
const DEVICEBOUND: &str = "devices/{gateway}/messages/devicebound/{rest#}";

#[test]
fn azure_iot_hub_gets_a_token_made_of_the_key_and_properties_in_the_topic() {
    let certs = Certs::new();
    let endpoint = Endpoint::start(&certs, hub());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.key");
    std::fs::write(&file, format!("{HUB_KEY_TEXT}\n")).unwrap();
    let keys = format!("preset = \"azure-iot-hub\"\nsas_key_file = {file:?}");
    let mut gateway_ = gateway(&certs, &endpoint, &keys, "", EVENTS, DEVICEBOUND);
    passes(&mut gateway_, &endpoint, 256 << 10, &["too large, the upstream takes 262144"]);
    let mut device = gateway_.client(&v5("device"));
    device.publish("site/living room/a/b", "1", QoS::AtLeastOnce);
    until("a property with a blank", || {
        let topic = "devices/box/messages/events/room=living%20room%2Fa%2Fb";
        endpoint.taken().iter().any(|taken| taken.topic == topic)
    });
    drop(gateway_);

    let endpoint = Endpoint::start(&certs, hub());
    let keys = "version = \"3.1.1\"\nusername = \"localhost/box/?api-version=2021-04-12\"";
    let other = Endpoint::start(&certs, Terms { login: by_certificate, ..hub() });
    drop(endpoint);
    let mut gateway_ = gateway(&certs, &other, keys, "", EVENTS, DEVICEBOUND);
    is_thrown_out(&mut gateway_, &other);
}

#[test]
fn azure_iot_hub_is_told_when_a_message_came_and_its_number() {
    let certs = Certs::new();
    let endpoint = Endpoint::start(&certs, Terms { certificate: true, login: by_certificate, ..hub() });
    let mut gateway = Gateway::start(&format!(
        "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtts://localhost:{}\"\n\
         preset = \"azure-iot-hub\"\ntls = {{ ca = {:?}, {} }}\n\
         [[upstream.rule]]\nname = \"up\"\nfilter = \"site/{{room}}\"\nremap = \"devices/{{gateway}}/messages/events/room={{room}}\"\n\
         trace = true\n",
        endpoint.port(),
        certs.ca(),
        client_certificate(&certs)
    ));
    gateway.process().says("upstream connected");
    let mut device = gateway.client(&v5("device"));
    let millis = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before = millis();
    for _ in 0..2 {
        device.publish("site/hall", "1", QoS::AtLeastOnce);
    }
    let after = millis();
    until("both are there", || endpoint.taken().len() == 2);
    let mut numbers = Vec::new();
    for taken in endpoint.taken() {
        let bag = taken.topic.strip_prefix("devices/box/messages/events/room=hall&").unwrap();
        let said: BTreeMap<&str, &str> = bag.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
        let time: u128 = said["mw-time"].parse().unwrap();
        assert!((before..=after).contains(&time), "{before} {time} {after}");
        assert!(said["mw-epoch"].ends_with(".up"), "{bag}");
        numbers.push(said["mw-seq"].to_owned());
    }
    numbers.sort();
    assert_eq!(numbers, ["1", "2"]);
    assert_eq!(endpoint.violations(), Vec::<String>::new());
}

#[test]
fn azure_iot_hub_lets_a_certificate_in_without_a_password() {
    let certs = Certs::new();
    let endpoint = Endpoint::start(&certs, Terms { certificate: true, login: by_certificate, ..hub() });
    let tls = client_certificate(&certs);
    let mut gateway_ = gateway(&certs, &endpoint, "preset = \"azure-iot-hub\"", &tls, EVENTS, DEVICEBOUND);
    passes(&mut gateway_, &endpoint, 256 << 10, &["too large, the upstream takes 262144"]);
}

#[test]
fn azure_event_grid_gets_no_retained_message_and_no_more_aliases_than_it_has() {
    let certs = Certs::new();
    let grid = || Terms {
        max_qos: QoS::AtLeastOnce,
        retain: false,
        max_message: 512 << 10,
        max_slashes: 7,
        max_keepalive: 1160,
        certificate: true,
        properties: ConnAckProperties { topic_alias_maximum: Some(10), ..ConnAckProperties::default() },
        ..lax()
    };
    let (remap, command) = ("fleet/{gateway}/{room}/{rest}", "fleet/{gateway}/command/{rest#}");
    let tls = client_certificate(&certs);
    let endpoint = Endpoint::start(&certs, grid());
    let mut gateway_ = gateway(&certs, &endpoint, "preset = \"azure-event-grid\"", &tls, remap, command);
    passes(&mut gateway_, &endpoint, 512 << 10, &["too large, the upstream takes 524288", "is too deep"]);
    let mut device = gateway_.client(&v5("device"));
    for number in 0..200_u32 {
        device.publish("site/hall/again", number.to_string(), QoS::AtLeastOnce);
    }
    until("topics come by their alias", || endpoint.aliased() > 0);
    println!(
        "{} messages came by a topic alias, {} bytes saved in each",
        endpoint.aliased(),
        "fleet/box/hall/again".len() - 3
    );
    assert_eq!(endpoint.violations(), Vec::<String>::new());
    drop(gateway_);

    let endpoint = Endpoint::start(&certs, grid());
    let mut gateway_ = gateway(&certs, &endpoint, "", &tls, remap, command);
    is_thrown_out(&mut gateway_, &endpoint);
}

fn ann(name: Option<&str>, password: Option<&[u8]>) -> bool {
    name == Some("ann") && password == Some(b"secret")
}

#[test]
fn hivemq_and_emqx_say_their_limits_in_connack_and_are_obeyed() {
    let certs = Certs::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let keys = format!("username = \"ann\"\npassword_file = {file:?}");
    for preset in ["hivemq-cloud", "emqx-cloud"] {
        let properties = ConnAckProperties {
            receive_maximum: Some(10),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: Some(100_000),
            topic_alias_maximum: Some(5),
            ..ConnAckProperties::default()
        };
        let terms = Terms {
            max_qos: QoS::AtLeastOnce,
            retain: false,
            max_message: 100_000,
            inflight: 10,
            login: ann,
            properties,
            ..lax()
        };
        let endpoint = Endpoint::start(&certs, terms);
        let keys = format!("{keys}\npreset = {preset:?}");
        let (remap, command) = ("fleet/{gateway}/{room}/{rest}", "fleet/{gateway}/command/{rest#}");
        let mut gateway_ = Gateway::start(&format!(
            "[store]\ncommit_interval = \"1ms\"\n[[upstream]]\nname = \"cloud\"\n\
             url = \"mqtts://localhost:{}\"\n{keys}\ntls = {{ ca = {:?} }}\n\
             [[upstream.rule]]\nname = \"up\"\nfilter = \"site/{{room}}/{{rest#}}\"\nremap = {remap:?}\n\
             [[upstream.rule]]\nname = \"down\"\ndirection = \"in\"\nfilter = {command:?}\n",
            endpoint.port(),
            certs.ca()
        ));
        passes(&mut gateway_, &endpoint, 100_000, &["too large, the upstream takes 100000"]);
    }
}

fn access_token(name: Option<&str>, password: Option<&[u8]>) -> bool {
    name == Some("A1_TOKEN") && password.is_none()
}

#[test]
fn thingsboard_gets_telemetry_at_qos_1_with_the_access_token_as_user_name() {
    let certs = Certs::new();
    let terms = || Terms {
        max_qos: QoS::AtLeastOnce,
        retain: false,
        max_message: 64 << 10,
        login: access_token,
        publish_prefix: "v1/",
        ..lax()
    };
    let (remap, command) = ("v1/gateway/{room}/{rest}", "v1/gateway/rpc/{rest#}");
    let keys = "username = \"A1_TOKEN\"";
    let endpoint = Endpoint::start(&certs, terms());
    let preset = format!("{keys}\npreset = \"thingsboard\"");
    let mut gateway_ = gateway(&certs, &endpoint, &preset, "", remap, command);
    passes(&mut gateway_, &endpoint, 64 << 10, &["too large, the upstream takes 65536"]);
    drop(gateway_);
    let endpoint = Endpoint::start(&certs, terms());
    let mut gateway_ = gateway(&certs, &endpoint, keys, "", remap, command);
    is_thrown_out(&mut gateway_, &endpoint);
}
