use super::*;
use crate::mqtt::QoS;
use crate::time::Duration;

/// The shipped file with its examples switched on.
fn with_examples() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULT_TOML.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

/// Line, column and the text of the only diagnostic of a file.
fn only(text: &str) -> (usize, usize, String) {
    let document = Document::parse("t.toml", text);
    let all = document.diagnostics();
    let list: Vec<_> = all.iter().collect();
    assert_eq!(list.len(), 1, "{text}\n{all}");
    let (line, column) = all.position(list[0]);
    (line, column, format!("{} | {}", list[0].message, list[0].help))
}

fn listener_tls(keys: &str) -> String {
    format!("[[listener]]\nname = \"a\"\nbind = \"[::1]:1\"\ntls = {{ cert = \"c\", key = \"k\", {keys} }}\n")
}

fn upstream(keys: &str) -> String {
    format!(
        "[[upstream]]\nname = \"c\"\nurl = \"mqtts://h\"\n{keys}\n[[upstream.rule]]\nname = \"r\"\nfilter = \"a/#\"\n"
    )
}

#[test]
fn shipped_file_is_the_default_and_so_is_an_empty_one() {
    assert_eq!(Config::parse(DEFAULT_TOML).unwrap_or_else(|e| panic!("{e}")), Config::default());
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert!(Document::parse("", DEFAULT_TOML).diagnostics().is_empty());
}

#[test]
fn shipped_examples_are_good_and_show_the_defaults() {
    let text = with_examples();
    let config = Config::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let [local, lan, browser, socket] = &config.listener[..] else { panic!("{:?}", config.listener) };
    let broker = Broker::default();
    let of_the_broker = (Some(broker.max_packet_bytes), Some(broker.connect_timeout));
    assert_eq!((local.max_packet_bytes, local.connect_timeout), of_the_broker);
    assert_eq!(local.login, [LoginWay::Password, LoginWay::Token]);
    let bare = Listener { max_packet_bytes: None, connect_timeout: None, login: Vec::new(), ..local.clone() };
    assert_eq!(bare, Listener::default());
    assert_eq!((browser.protocol, browser.websocket_path.as_str()), (Protocol::Websocket, ""));
    assert_eq!((socket.bind.tcp(), socket.mode), (None, Listener::default().mode));
    let tls = lan.tls.as_ref().unwrap();
    let default = ServerTls::default();
    assert_eq!((tls.client_cert, tls.min_version), (default.client_cert, default.min_version));
    assert_eq!(config.link.len(), 2);
    assert_eq!(config.sn.predefined.get("site/alarm"), Some(&1));

    let [up] = &config.upstream[..] else { panic!("{:?}", config.upstream) };
    let default = Upstream {
        name: up.name.clone(),
        url: up.url.clone(),
        username: up.username.clone(),
        password_file: up.password_file.clone(),
        sas_key_file: up.sas_key_file.clone(),
        proxy: up.proxy.clone(),
        proxy_password_file: up.proxy_password_file.clone(),
        interface: up.interface.clone(),
        source_address: up.source_address,
        tls: up.tls.clone(),
        status_topic: up.status_topic.clone(),
        rule: up.rule.clone(),
        ..Upstream::default()
    };
    assert_eq!(up, &default);

    let [out, _] = &up.rule[..] else { panic!("{:?}", up.rule) };
    let default = Rule {
        name: out.name.clone(),
        filter: out.filter.clone(),
        remap: out.remap.clone(),
        exclude: out.exclude.clone(),
        ..Rule::default()
    };
    assert_eq!(out, &default);
}

#[test]
fn a_link_without_its_optional_keys_is_as_in_the_shipped_file() {
    let mut shipped = Config::parse(&with_examples()).unwrap().link;
    let LinkKind::Udp(udp) = &mut shipped[0].kind else { panic!("{:?}", shipped[0]) };
    // Examples that are no defaults.
    assert_eq!(std::mem::take(&mut udp.multicast).len(), 2);
    assert_eq!(std::mem::take(&mut udp.multicast_interfaces).len(), 2);
    let dtls = *udp.dtls.take().unwrap();
    let files = [&dtls.cert, &dtls.key, &dtls.client_ca, &dtls.psk_file].map(Option::is_some);
    assert_eq!((files, dtls.crl.len()), ([true; 4], 1));
    let default = LinkDtls::default();
    assert_eq!(LinkDtls { cert: None, key: None, client_ca: None, psk_file: None, crl: vec![], ..dtls }, default);
    let short = "[[link]]\nname = \"udp\"\nkind = \"udp\"\nbind = \"[::]:1883\"\n\
                 [[link]]\nname = \"radio\"\nkind = \"serial\"\ndevice = \"/dev/ttyUSB0\"\n";
    assert_eq!(Config::parse(short).unwrap().link, shipped);
}

/// The names of all fields come from the derived `Debug`, so a new field cannot be forgotten.
#[test]
fn every_field_of_the_schema_is_explained_in_the_shipped_file() {
    let text = with_examples();
    let shown = format!("{:#?}", Config::parse(&text).unwrap());
    let fields = shown.lines().filter_map(|line| line.trim().split_once(": ")).map(|(field, _)| field);
    let mut seen = 0;
    for field in fields.filter(|field| field.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
        let key = match field {
            // Parts of a URL, and the two halves of `limit`.
            "host" | "port" | "websocket" => continue,
            "max_messages" => "limit = { messages",
            "max_bytes" if text.contains("bytes = \"512MiB\" }") => "bytes",
            field => field,
        };
        seen += 1;
        let assigned = format!("{key} = ");
        // A table is there itself, in a table, or with a table in it.
        let table = [format!("[{key}]"), format!("[{key}."), format!(".{key}]")];
        assert!(
            text.contains(&assigned) || table.iter().any(|table| text.contains(table)) || key.starts_with("limit"),
            "`{key}` is not in config/moteway.toml"
        );
    }
    assert!(seen > 60, "{seen} fields");
}

#[test]
fn values_arrive() {
    let text = "
        [store]
        commit_interval = '1s 500ms'
        max_bytes = 2_000_000
        [log]
        level = 'debug'
        [[listener]]
        name = 'all'
        bind = '[::]:1884'
        [[upstream]]
        name = 'c'
        url = 'mqtt://[::1]:77'
        version = '3.1.1'
        tls.ca = '/ca'
        [[upstream.rule]]
        name = 'r'
        direction = 'both'
        filter = 'a/{x#}'
        qos = 1
        retain = 'strip'
        limit.messages = 7
        when_full = 'reject'
    ";
    let config = Config::parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.store.commit_interval, Duration::from_millis(1500));
    assert_eq!(config.store.max_bytes, 2_000_000);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert!(!config.listener[0].allow_anonymous, "nobody said that strangers may come in");
    let up = &config.upstream[0];
    assert_eq!(up.url, [UpstreamUrl { tls: false, host: "::1".to_owned(), port: 77, websocket: None }]);
    assert_eq!(up.version, UpstreamVersion::V311);
    assert_eq!(up.tls.as_ref().and_then(|tls| tls.ca.clone()), Some("/ca".into()));
    let expected = Rule {
        name: "r".to_owned(),
        direction: Direction::Both,
        filter: "a/{x#}".to_owned(),
        qos: RuleQos::Fixed(QoS::AtLeastOnce),
        retain: RuleRetain::Strip,
        max_messages: 7,
        when_full: WhenFull::Reject,
        ..Rule::default()
    };
    assert_eq!(up.rule, [expected]);
}

#[test]
fn one_mistake_is_one_diagnostic_with_place_and_remedy() {
    let cases: &[(&str, (usize, usize), &str)] = &[
        ("[broker]\nmax_conections = 5\n", (2, 1), "did you mean `max_connections`?"),
        ("[brokr]\n", (1, 2), "did you mean `broker`?"),
        ("zzz = 1\n", (1, 1), "keys of the top level: gateway, log"),
        ("[store]\ncommit_interval = 30\n", (2, 19), "\"30s\""),
        ("[store]\ncommit_interval = \"30 sausages\"\n", (2, 19), "sausages"),
        ("[broker]\nmax_session_expiry = \"5M\"\n", (2, 22), "\"5min\" or \"5months\""),
        ("[store]\ncommit_interval = \"2h\"\n", (2, 19), "write \"0s\" to \"1m\""),
        ("[store]\nmax_bytes = \"64mb\"\n", (2, 13), "did you mean \"64MB\"?"),
        ("[store]\nmax_bytes = -1\n", (2, 13), "1MiB to"),
        ("[store]\ncommit_bytes = \"32MiB\"\n", (2, 16), "\"16MiB\""),
        ("[store]\ndurability = \"powerloss\"\n", (2, 14), "did you mean \"power-loss\"?"),
        ("[log]\nlevel = 3\n", (2, 9), "\"error\", \"warn\", \"info\", \"debug\""),
        ("[broker]\nmax_packet_bytes = \"1GiB\"\n", (2, 20), "out of range"),
        ("[broker]\nreceive_maximum = 0\n", (2, 19), "from 1 to 65535"),
        ("[broker]\nmax_sessions = 99999999999999999999\n", (2, 16), "out of range"),
        ("[broker]\nmax_sessions = 1.5\n", (2, 16), "expected a number, found the number 1.5"),
        ("broker = 5\n", (1, 10), "write [broker]"),
        ("[listener]\nname = \"x\"\n", (1, 1), "write `[[listener]]`, with two brackets"),
        ("listener = [1]\n", (1, 13), "write `[[listener]]`"),
        ("[[listener]]\nbind = \"127.0.0.1:1\"\n", (1, 1), "add `name = \"local\"`"),
        ("[[listener]]\nname = \"a b\"\nbind = \"127.0.0.1:1\"\n", (2, 8), "letters, digits"),
        ("[[listener]]\nname = \"a\"\nbind = \"localhost:1883\"\n", (3, 8), "\"127.0.0.1:1883\""),
        (
            "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\nallow_anonymous = \"yes\"\n",
            (4, 19),
            "without quotes",
        ),
        ("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\ntls = { cert = \"c\" }\n", (4, 7), "add `key = "),
        (
            "[[listener]]\nname=\"a\"\nbind=\"127.0.0.1:1\"\n[[listener]]\nname=\"a\"\nbind=\"127.0.0.1:2\"\n",
            (5, 6),
            "`a` is used twice",
        ),
        (
            "[[listener]]\nname=\"a\"\nbind=\"127.0.0.1:1\"\n[[listener]]\nname=\"b\"\nbind=\"127.0.0.1:1\"\n",
            (6, 6),
            "already taken",
        ),
        ("[gateway]\nname = \"a/b\"\n", (2, 8), "without `+`, `#`, `/`"),
        ("[gateway]\nstatus_topic = \"a/#\"\n", (2, 16), "without `+` and `#`"),
        ("[gateway]\nstatus_topic = \"a/{gatway}\"\n", (2, 16), "only {gateway}"),
        ("[gateway]\nstate_dir = \"\"\n", (2, 13), "write a path"),
        ("[sn.predefined]\n\"a\" = 0\n", (2, 7), "from 1 to 65534"),
        ("[sn.predefined]\n\"a/#\" = 1\n", (2, 1), "without wildcards"),
        ("[sn.predefined]\na = 1\nb = 1\n", (3, 5), "give each topic its own id"),
        (
            "[[link]]\nname=\"a\"\nkind=\"udp\"\nbind=\"1.1.1.1:1\"\nmulticast=[\"10.0.0.1:1883\"]\n",
            (5, 12),
            "225.1.1.1",
        ),
        ("[[sn.client]]\nidentity = \"a\"\n", (1, 1), "add `client_id = "),
        ("[[sn.client]]\nclient_id = \"a\"\nlink = [\"b\"]\n", (3, 9), "the name of a [[link]]"),
        ("[[sn.client]]\nclient_id = \"a*b\"\n", (2, 13), "at the end only"),
        ("[[sn.client]]\nclient_id = \"a\"\n[[sn.client]]\nclient_id = \"a\"\n", (4, 13), "in one"),
        ("[[sn.client]]\nclient_id = \"a\"\npredefined = { x = 3, y = 3 }\n", (3, 27), "its own id"),
        ("[[link]]\nname = \"a\"\nkind = \"usb\"\n", (3, 8), "\"udp\", \"serial\""),
        ("[[link]]\nname = \"a\"\nkind = \"udp\"\n", (1, 1), "add `bind = "),
        ("[[link]]\nname=\"a\"\nkind=\"serial\"\ndevice=\"/d\"\nbind=\"1.1.1.1:1\"\n", (5, 6), "take it out"),
        (
            "[[link]]\nname=\"a\"\nkind=\"serial\"\ndevice=\"/d\"\nframing=\"ppp\"\n",
            (5, 9),
            "\"length\", \"slip\", \"cobs\", \"hdlc\"",
        ),
        (
            "[[link]]\nname=\"a\"\nkind=\"serial\"\ndevice=\"/d\"\nframing=\"cobs\"\nxonxoff=true\n",
            (6, 9),
            "take `xonxoff` out, or write framing = \"xbee-escaped\"",
        ),
        (
            "[[link]]\nname=\"a\"\nkind=\"serial\"\ndevice=\"/d\"\nframing=\"xbee-escaped\"\nxonxoff=true\n\
             rtscts=true\n",
            (6, 9),
            "take one of them out",
        ),
    ];
    for (text, place, remedy) in cases {
        let (line, column, said) = only(text);
        assert_eq!(((line, column), said.contains(remedy)), (*place, true), "{text}\n{line}:{column} {said}");
    }
}

#[test]
fn mistakes_of_a_listener_are_told_too() {
    let cases: &[(&str, (usize, usize), &str)] = &[
        ("[[listener]]\nname = \"a\"\nbind = \"run/mqtt.sock\"\n", (3, 8), "\"/run/moteway/mqtt.sock\""),
        ("[[listener]]\nname = \"a\"\nbind = \"/s\"\nmode = 660\n", (4, 8), "\"0660\""),
        ("[[listener]]\nname = \"a\"\nbind = \"/s\"\nmode = \"1777\"\n", (4, 8), "octal digits"),
        ("[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\nmode = \"0660\"\n", (4, 8), "`mode` has no effect"),
        ("[[listener]]\nname = \"a\"\nbind = \"/s\"\nmax_connections_per_address = 3\n", (4, 31), "no address"),
        (
            "[[listener]]\nname = \"a\"\nbind = \"[::1]:1\"\nmax_connections = 2\nmax_connections_per_address = 3\n",
            (5, 31),
            "at most 2",
        ),
        (
            "[[listener]]\nname = \"a\"\nbind = \"/s\"\ntls = { cert = \"c\", key = \"k\" }\n",
            (4, 7),
            "take `tls` out",
        ),
        (
            "[[listener]]\nname=\"a\"\nbind=\"/s\"\n[[listener]]\nname=\"b\"\nbind=\"/s\"\n",
            (6, 6),
            "use another path",
        ),
        ("[[listener]]\nname = \"a\"\nbind = \"/s\"\nprotocol = \"ws\"\n", (4, 12), "\"mqtt\", \"websocket\""),
        (
            "[[listener]]\nname = \"a\"\nbind = \"/s\"\nprotocol = \"websocket\"\nwebsocket_path = \"mqtt\"\n",
            (5, 18),
            "\"/mqtt\"",
        ),
        ("[[listener]]\nname = \"a\"\nbind = \"/s\"\nwebsocket_path = \"/m\"\n", (4, 18), "has no effect"),
        (&listener_tls("crl = \"r.pem\""), (4, 38), "add `client_ca`"),
        (&listener_tls("client_cert = \"optional\""), (4, 46), "add `client_ca`"),
        (&listener_tls("min_version = \"1.1\""), (4, 46), "\"1.2\", \"1.3\""),
    ];
    for (text, place, remedy) in cases {
        let (line, column, said) = only(text);
        assert_eq!(((line, column), said.contains(remedy)), (*place, true), "{text}\n{line}:{column} {said}");
    }
}

#[test]
fn each_framing_has_its_name() {
    let framing = |key: &str| {
        let text = format!("[[link]]\nname = \"a\"\nkind = \"serial\"\ndevice = \"/d\"\n{key}\n");
        match Config::parse(&text).unwrap_or_else(|e| panic!("{e}")).link.remove(0).kind {
            LinkKind::Serial(serial) => serial.framing,
            LinkKind::Udp(_) => panic!("{text}"),
        }
    };
    assert_eq!(framing(""), Framing::Length);
    assert_eq!(framing("framing = \"length\""), Framing::Length);
    assert_eq!(framing("framing = \"slip\""), Framing::Slip);
    assert_eq!(framing("framing = \"cobs\""), Framing::Cobs);
    assert_eq!(framing("framing = \"hdlc\""), Framing::Hdlc);
    assert_eq!(framing("framing = \"xbee\""), Framing::Xbee);
    assert_eq!(framing("framing = \"xbee-escaped\""), Framing::XbeeEscaped);
}

#[test]
fn mistakes_of_an_upstream_are_told_too() {
    let cases: &[(&str, (usize, usize), &str)] = &[
        ("keepalive = \"20h\"", (4, 13), "out of range"),
        ("keepalive = \"1500ms\"", (4, 13), "\"2s\""),
        ("keepalive = \"0s\"", (4, 13), "dead link"),
        ("reconnect_min = \"5min\"", (4, 17), "at most \"2m\""),
        ("client_id = \"{name}\"", (4, 13), "only {gateway}"),
        ("client_id = \"\"", (4, 13), "clean_start = true"),
        ("version = \"3.1\"", (4, 11), "\"5\" or \"3.1.1\""),
        ("version = \"3.1.1\"\npassword_file = \"p\"", (5, 17), "add `username`"),
        ("tls = { cert = \"c\" }", (4, 16), "add `key`"),
        (
            "tls = { insecure = true }",
            (4, 9),
            "keys of `[upstream.tls]`: ca, cert, key, pkcs11, server_name, alpn, pin",
        ),
        ("status_topic = \"a/+\"", (4, 16), "without `+`"),
        ("proxy = \"ftp://p\"", (4, 9), "socks5://user@host:1080"),
        ("proxy_password_file = \"p\"", (4, 23), "add `proxy`"),
        ("proxy = \"http://p\"\nproxy_password_file = \"p\"", (5, 23), "http://user@host:3128"),
        ("proxy = \"http://a:b@p\"\nproxy_password_file = \"p\"", (5, 23), "take the one in `proxy` out"),
        ("interface = \"a/b\"", (4, 13), "wwan0"),
        ("preset = \"aws\"", (4, 10), "\"aws-iot-core\""),
        ("preset = \"aws-iot-core\"\nkeepalive = \"1h\"", (5, 13), "\"1200s\""),
        ("preset = \"aws-iot-core\"\nmax_inflight_messages = 500", (5, 25), "at most 100"),
        ("preset = \"azure-iot-hub\"\nversion = \"5\"", (5, 11), "3.1.1 only"),
        ("sas_key_file = \"k\"", (4, 16), "azure-iot-hub"),
        ("sas_ttl = \"1s\"", (4, 11), "out of range"),
        ("source_address = \"eth0\"", (4, 18), "10.0.0.7"),
        ("tls = { pin = \"abc\" }", (4, 15), "openssl"),
        ("password = \"secret\"", (4, 1), "did you mean `password_file`?"),
    ];
    for (keys, place, remedy) in cases {
        let (line, column, said) = only(&upstream(keys));
        assert_eq!(((line, column), said.contains(remedy)), (*place, true), "{keys}\n{line}:{column} {said}");
    }
    let no_url = "[[upstream]]\nname = \"c\"\n[[upstream.rule]]\nname = \"r\"\nfilter = \"a\"\n";
    assert_eq!(only(no_url).0, 1);
    let bad_scheme =
        "[[upstream]]\nname=\"c\"\nurl=[\"mqtt://a\", \"http://b\"]\nrule=[{name=\"r\",filter=\"a\"}]\n";
    let (line, column, said) = only(bad_scheme);
    assert!((line, column) == (3, 18) && said.contains("mqtt://, mqtts://"), "{line}:{column} {said}");
}

#[test]
fn mistakes_of_a_key_in_a_token_are_told_too() {
    let tls = |more: &str, module: &str| {
        let key = format!("{{ module = \"{module}\", token = \"t\", key = \"k\", pin_file = \"p\" }}");
        only(&upstream(&format!("tls = {{ {more}pkcs11 = {key} }}")))
    };
    let cases = [("", "/m", 18, "add `cert`"), ("cert = \"c\", key = \"k\", ", "/m", 27, "take one of them out")];
    for (more, module, column, remedy) in cases {
        let found = tls(more, module);
        if cfg!(feature = "pkcs11") {
            assert!((found.0, found.1) == (4, column) && found.2.contains(remedy), "{found:?}");
        } else {
            assert!(found.0 == 4 && found.2.contains("--features pkcs11"), "{found:?}");
        }
    }
    if cfg!(feature = "pkcs11") {
        let found = tls("cert = \"c\", ", "m.so");
        assert!(found.2.contains("the whole path"), "{found:?}");
    }
    let (line, column, said) =
        only(&upstream("tls = { pkcs11 = { module = \"/m\", token = \"t\", key = \"k\" } }"));
    assert!((line, column) == (4, 18) && said.contains("add `pin_file"), "{line}:{column} {said}");
}

#[test]
fn mistakes_of_a_rule_are_told_too() {
    let cases: &[(&str, usize, &str)] = &[
        ("direction = \"up\"", 13, "\"out\", \"in\", \"both\""),
        ("qos = \"1\"", 7, "without quotes"),
        ("qos = 3", 7, "0, 1 or 2"),
        ("retain = true", 10, "\"keep\", \"strip\", \"set\""),
        ("priority = 10", 12, "from 0 to 9"),
        ("limit = { message = 1 }", 11, "did you mean `messages`?"),
        ("limit = 5", 9, "limit = { ... }"),
        ("when_full = \"drop\"", 13, "drop-oldest"),
        ("exclude = [1]", 12, "expected a string"),
        ("exclude = \"a/b\"\nttl = 7", 7, "\"7s\""),
        ("direction = \"in\"\npriority = 7", 12, "no effect"),
    ];
    for (keys, column, remedy) in cases {
        let (_, at, said) = only(&(upstream("") + keys + "\n"));
        assert_eq!((at, said.contains(remedy)), (*column, true), "{keys}\n{at} {said}");
    }
}

#[test]
fn all_mistakes_are_told_in_one_go_in_the_order_of_the_file() {
    let text = "[log]\nlevel = 1\nx = 2\n[store]\nmax_bytes = true\n[[upstream]]\n[[upstream.rule]]\nqos = 9\n";
    let errors = Config::parse(text).unwrap_err();
    let lines: Vec<usize> = errors.iter().map(|diagnostic| errors.position(diagnostic).0).collect();
    assert_eq!(lines, [2, 3, 5, 6, 6, 7, 7, 8], "{errors}");
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    assert_eq!(only("[store]\nmax_bytes = 64MiB\n").0, 2);
    assert!(only("[store]\nmax_bytes = 64MiB\n").2.contains("double quotes"));
    assert_eq!(only("[log]\n[log]\n").0, 2);
    let mut torn = Document::parse("t.toml", "[[upstream]]\nname = \"a\" ; x\n");
    torn.report(vec![Finding::error("upstream[0].url", "a guess", "")]);
    assert_eq!(torn.diagnostics().iter().count(), 1, "{}", torn.diagnostics());
    assert!(Config::parse("a = [").is_err());
    assert!(Config::parse(&"a.".repeat(50_000)).is_err());
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_read() {
    let text = "\u{feff}[log]\r\nlevel = \"warn\"\r\n";
    assert_eq!(Config::parse(text).map(|config| config.log.level), Ok(LogLevel::Warn));
    let (line, column, _) = only("\u{feff}[log]\r\nlevel = 1\r\n");
    assert_eq!((line, column), (2, 9));
}

#[test]
fn what_works_but_surprises_is_a_warning() {
    let warnings = |text: &str| {
        let document = Document::parse("t.toml", text);
        assert!(!document.diagnostics().has_errors(), "{}", document.diagnostics());
        document.diagnostics().to_string()
    };
    let listener = |rest: &str| warnings(&format!("[[listener]]\nname = \"a\"\nbind = \"0.0.0.0:1883\"\n{rest}\n"));
    assert!(listener("").contains("lets nobody in"));
    assert!(listener("allow_anonymous = true").contains("everyone who reaches 0.0.0.0:1883"));
    assert!(warnings("listener = []").contains("no listener"));
    assert!(warnings("[store]\nmax_bytes = \"1MiB\"\n").is_empty());
    assert!(warnings(&(upstream("") + "[store]\nmax_bytes = \"1MiB\"\n")).contains("512MiB"));
    assert!(warnings("[[upstream]]\nname = \"c\"\nurl = \"mqtts://h\"\n").contains("nothing is bridged"));
    assert!(warnings(&upstream("").replace("mqtts://h", "mqtt://localhost")).contains("own listener `local`"));
    let password = upstream("password_file = \"p\"").replace("mqtts", "mqtt");
    assert!(warnings(&password).contains("unencrypted"));
    assert!(warnings(&upstream("tls = {}").replace("mqtts", "mqtt")).contains("no effect"));
    let traced = upstream("version = \"3.1.1\"") + "trace = true\n";
    assert!(warnings(&traced).contains("have no properties"));
    assert_eq!(warnings(&(traced.clone() + "remap = \"up/{mw-seq}\"\n")), "");
    assert_eq!(warnings(&traced.replace("version = \"3.1.1\"", "preset = \"azure-iot-hub\"")), "");
    let aws = |keys: &str| warnings(&upstream(&format!("preset = \"aws-iot-core\"\n{keys}")));
    assert_eq!(aws(""), "");
    assert!(aws("pace = { messages = 200 }").contains("leave `pace` out for 90 messages"));
    assert!(aws("pace = { bytes = 0 }").contains("340000 bytes"));
}

#[test]
fn a_cloud_has_a_pace_where_the_file_says_none() {
    let pace = |keys: &str| Config::parse(&upstream(keys)).unwrap().upstream[0].pace;
    assert_eq!(pace(""), Pace { messages: 0, bytes: 0 });
    assert_eq!(pace("preset = \"aws-iot-core\""), Pace { messages: 90, bytes: 340_000 });
    let slower = pace("preset = \"aws-iot-core\"\npace = { messages = 10 }");
    assert_eq!(slower, Pace { messages: 10, bytes: 340_000 });
}

#[test]
fn two_upstreams_may_not_throw_each_other_out() {
    let two = upstream("") + &upstream("").replace("\"c\"", "\"d\"");
    assert!(only(&two).2.contains("client_id = \"{gateway}-d\""));
    let apart = upstream("") + &upstream("client_id = \"other\"").replace("\"c\"", "\"d\"");
    assert!(Document::parse("", &apart).diagnostics().is_empty());
}

#[test]
fn a_finding_points_at_its_key_or_at_the_table_that_lacks_it() {
    let text = upstream("");
    let mut document = Document::parse("t.toml", &text);
    document.report(vec![
        Finding::error("upstream[0].rule[0].filter", "f", ""),
        Finding::warning("upstream[0].rule[0].remap", "r", ""),
        Finding::error("upstream[7].x", "x", ""),
    ]);
    let all = document.diagnostics();
    let found: Vec<_> = all.iter().map(|d| (d.message.as_str(), all.position(d))).collect();
    assert_eq!(found, [("x", (1, 1)), ("f", (7, 10)), ("r", (5, 1))]);
    assert_eq!(document.finish().unwrap_err().count(Severity::Warning), 1);
}

#[test]
fn a_finding_at_a_place_that_is_wrong_already_is_left_out() {
    let mut document = Document::parse("t.toml", &upstream("keepalive = 5"));
    document.report(vec![Finding::error("upstream[0].keepalive", "nonsense", "")]);
    assert_eq!(document.diagnostics().count(Severity::Error), 1);
}
