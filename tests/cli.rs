//! The built binary, seen from a shell: what it prints and how it exits.

#[path = "cli/certs.rs"]
mod certs;
#[path = "cli/passwd.rs"]
mod passwd;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn moteway(args: &[&str]) -> Ran {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_moteway")).args(args).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A directory with one configuration in it.
struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("moteway.toml");
        std::fs::write(&path, text).expect("the file is written");
        Self { _dir: dir, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("the path is UTF-8")
    }
}

/// With a name, so that the machine id of the test machine plays no part.
fn bridged(rules: &str) -> String {
    format!(
        "[gateway]\nname = \"box-7\"\n[[upstream]]\nname = \"cloud\"\nurl = \"mqtts://cloud.example\"\n{}",
        rules.trim_start()
    )
}

const TELEMETRY: &str = r#"
[[upstream.rule]]
name = "telemetry"
filter = "site/{room}/{rest#}"
remap = "fleet/{gateway}/{room}/{rest}"
exclude = ["site/+/debug/#"]
qos = 1
retain = "strip"
ttl = "7d"
[[upstream.rule]]
name = "commands"
direction = "in"
filter = "fleet/{gateway}/cmd/{rest#}"
remap = "cmd/{rest}"
"#;

#[test]
fn check_says_what_a_good_file_holds() {
    let file = File::new(&bridged(TELEMETRY));
    let ran = moteway(&["check", file.path()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, format!("{}: ok, 1 listener, 0 links, 1 upstream, 2 rules\n", file.path()));
}

#[test]
fn check_counts_warnings_and_still_says_ok() {
    let file = File::new("[gateway]\nname = \"b\"\n[[listener]]\nname = \"a\"\nbind = \"0.0.0.0:1883\"\n");
    let ran = moteway(&["check", file.path()]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.ends_with(": ok, 1 listener, 0 links, 0 upstreams, 0 rules; 1 warning\n"), "{}", ran.out);
    assert!(
        ran.err.starts_with("warning: listener `a` lets nobody in") && ran.err.contains("allow_anonymous = true"),
        "{}",
        ran.err
    );
}

#[test]
fn the_shipped_default_and_every_example_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let examples = std::fs::read_dir(root.join("examples")).expect("there are examples");
    let examples = examples.map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> =
        examples.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() >= 2);
    files.push(root.join("moteway.toml"));
    for path in files {
        // The name stands in for the machine id, which a build machine may not have.
        let text = std::fs::read_to_string(&path).expect("readable").replace("name = \"\"\n", "");
        let named = if text.contains("[gateway]\n") {
            text.replace("[gateway]\n", "[gateway]\nname = \"box-7\"\n")
        } else {
            format!("{text}\n[gateway]\nname = \"box-7\"\n")
        };
        let ran = moteway(&["check", File::new(&named).path()]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", path.display());
    }
}

/// Configuration, line and column, and what the message must say.
type Bad<'t> = (&'t str, (usize, usize), &'t [&'t str]);

#[test]
fn drop_ins_are_laid_over_the_file_in_the_order_of_their_names() {
    let file = File::new(&bridged(TELEMETRY));
    let drop_ins = file.path.parent().expect("it lies in a directory").join("conf.d");
    let add = |name: &str, text: &str| {
        std::fs::create_dir_all(&drop_ins).expect("the directory is made");
        std::fs::write(drop_ins.join(name), text).expect("the drop-in is written");
    };
    add("20-box.toml", "[gateway]\nname = \"box-9\"\n");
    add("10-site.toml", "[gateway]\nname = \"site\"\n[[upstream]]\nname = \"cloud\"\nclient_id = \"x\"\n");
    add("30-old.toml~", "no TOML");
    add(".hidden.toml", "no TOML");
    let ran = moteway(&["check", file.path()]);
    assert_eq!(ran.out, format!("{} and 2 drop-ins: ok, 1 listener, 0 links, 1 upstream, 2 rules\n", file.path()));
    let ran = moteway(&["route", "--config", file.path(), "site/a/b"]);
    assert!(ran.out.contains("fleet/box-9/a/b"), "{}", ran.out);

    add("40-typo.toml", "# typo\n[gatewy]\n");
    let ran = moteway(&["check", file.path()]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("conf.d/40-typo.toml:2:"), "{}", ran.err);
}

#[test]
fn a_box_without_a_name_takes_the_first_identity_that_it_has() {
    let file = File::new("");
    let name = file.path.with_file_name("name");
    std::fs::write(&name, "barn-7\nnot this line\n").expect("the file is written");
    let with = |identity: &str| {
        let file = File::new(&bridged(TELEMETRY).replace("name = \"box-7\"", &format!("identity = {identity}")));
        moteway(&["route", "--config", file.path(), "site/a/b"])
    };
    let ran = with(&format!("[\"network-address:none\", \"file:/nonexistent\", \"file:{}\"]", name.display()));
    assert!(ran.out.contains("fleet/barn-7/a/b"), "{}{}", ran.out, ran.err);
    let ran = with("[\"file:/nonexistent\"]");
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("set `name`"), "{}", ran.err);
    std::fs::write(&name, "a/b\n").expect("the file is written");
    let ran = with(&format!("\"file:{}\"", name.display()));
    assert!(ran.err.contains("\"a/b\" cannot be the name of a gateway"), "{}", ran.err);
}

#[test]
fn check_points_at_each_mistake_and_says_what_to_write() {
    let cases: &[Bad<'_>] = &[
        (
            "[broker]\nmax_conections = 5\n",
            (2, 1),
            &["unknown key `max_conections` in `[broker]`", "did you mean `max_connections`?"],
        ),
        ("[store]\ncommit_interval = 30\n", (2, 19), &["expected a duration", "\"30s\""]),
        ("[store]\nmax_bytes = \"64mib\"\n", (2, 13), &["not a unit", "\"64MiB\""]),
        ("[store]\nmax_bytes = 64MiB\n", (2, 13), &["not TOML", "double quotes"]),
        ("[[listener]]\nname = \"a\"\nbind = \"localhost:1883\"\n", (3, 8), &["\"127.0.0.1:1883\""]),
        ("[[listener]]\nbind = \"127.0.0.1:1\"\n", (1, 1), &["`name` is missing", "add `name = \"local\"`"]),
        ("[[link]]\nname = \"r\"\nkind = \"serial\"\n", (1, 1), &["`device` is missing", "/dev/ttyUSB0"]),
        ("[gateway]\nname = \"a/b\"\n", (2, 8), &["cannot be the name of a gateway", "without `+`"]),
    ];
    for (text, place, says) in cases {
        expect_refused(text, *place, says);
    }
    let upstream = |url: &str| format!("[[upstream]]\nname = \"c\"\nurl = [\"mqtts://a\", \"{url}\"]\n");
    expect_refused(&upstream("ftp://b"), (3, 21), &["unsupported scheme `ftp`", "mqtt://, mqtts://"]);
    expect_refused(&upstream("mqtt://u:p@b"), (3, 21), &["`password_file`"]);
}

/// The file is taken, and what will surprise is shown at its place.
fn expect_warned(text: &str, (line, column): (usize, usize), says: &[&str]) {
    let file = File::new(text);
    let ran = moteway(&["check", file.path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let place = format!(" --> {}:{line}:{column}\n", file.path.display());
    assert!(ran.err.contains("warning: ") && ran.err.contains(&place), "{place}\n{}", ran.err);
    assert!(ran.err.contains("^") && ran.err.contains("= help: "), "{}", ran.err);
    for words in says {
        assert!(ran.err.contains(words), "{words}\n{}", ran.err);
    }
}

#[test]
fn check_warns_of_what_never_happens_and_of_what_cannot_be() {
    let rule = |name: &str, rest: &str| format!("[[upstream.rule]]\nname = \"{name}\"\n{rest}\n");
    let shadowed = bridged(
        &[
            rule("all", "direction = \"in\"\nfilter = \"a/#\""),
            rule("one", "direction = \"in\"\nfilter = \"a/+/b\""),
        ]
        .concat(),
    );
    expect_warned(
        &shadowed,
        (13, 10),
        &["rule `one` never takes anything: `all` before it takes all of it", "put `one` first"],
    );
    let empty = bridged(&rule("none", "filter = \"a/b/#\"\nexclude = [\"a/#\"]"));
    expect_warned(&empty, (9, 11), &["rule `none` never takes anything", "its excludes cover all of \"a/b/#\""]);
    let closed = bridged(&rule("up", "filter = \"up/{room}/#\""));
    let closed = format!("{closed}[[acl]]\npublish = [\"down/#\", \"{{client_id}}\"]\n");
    expect_warned(&closed, (8, 10), &["rule `up` gets nothing from clients", "`publish` of an [[acl]]"]);
    let open = closed.replace("{client_id}", "{client_id}/+/t");
    let file = File::new(&open);
    assert!(!moteway(&["check", file.path.to_str().unwrap()]).err.contains("gets nothing"), "{open}");
    expect_warned(
        "[store]\nmax_bytes = \"16384GiB\"\n",
        (2, 13),
        &["has room for", "when the disk is full", "or make room"],
    );
}

#[test]
fn check_proves_the_rules() {
    let rule = |filter: &str, rest: &str| {
        bridged(&format!("[[upstream.rule]]\nname = \"r\"\nfilter = \"{filter}\"\n{rest}"))
    };
    let cases: &[(String, (usize, usize), &[&str])] = &[
        (rule("a/x{b}", ""), (8, 10), &["must fill its level", "a/{name}/b"]),
        (rule("a/{room}", "remap = \"b/{romm}\"\n"), (9, 9), &["no `{romm}`", "names in the filter: {room}"]),
        (rule("a/+", "remap = \"b/+\"\n"), (9, 9), &["give the wildcard of the filter a name"]),
        (
            rule("a/#", "exclude = [\"b\", \"a/{x}\"]\n"),
            (9, 17),
            &["an exclude has no names", "write + for {name}"],
        ),
        (
            rule("a/{x}/+", "direction = \"both\"\nremap = \"b/{x}\"\n"),
            (8, 10),
            &["way back", "give each wildcard a name"],
        ),
        (
            bridged(
                "[[upstream.rule]]\nname = \"up\"\nfilter = \"a/{r#}\"\nremap = \"g/box-7/{r}\"\n\
                 [[upstream.rule]]\nname = \"down\"\ndirection = \"in\"\nfilter = \"g/{gateway}/{r#}\"\nremap = \"a/{r}\"\n",
            ),
            (13, 10),
            &["rules `up` and `down` echo each other", "\"g/box-7\"", "direction = \"both\""],
        ),
    ];
    for (text, place, says) in cases {
        expect_refused(text, *place, says);
    }
}

/// `check` and `route` refuse `text` with one error at `place`.
fn expect_refused(text: &str, place: (usize, usize), says: &[&str]) {
    let file = File::new(text);
    let ran = moteway(&["check", file.path()]);
    assert_eq!(ran.code, Some(78), "{text}\n{}", ran.err);
    let line = text.lines().nth(place.0 - 1).expect("the line is there");
    let pointer = format!("--> {}:{}:{}", file.path(), place.0, place.1);
    let source = format!("{} | {line}\n", place.0);
    for part in [pointer.as_str(), &source, "^"].iter().chain(says) {
        assert!(ran.err.contains(part), "{part:?} is missing in\n{}", ran.err);
    }
    assert!(ran.out.contains("1 error"), "{text}\n{}\n{}", ran.out, ran.err);
    let ran = moteway(&["route", "a/b", "--config", file.path()]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""));
}

#[test]
fn all_mistakes_are_shown_in_one_go() {
    let file = File::new("[log]\nlevel = 1\n[store]\nmax_byts = 1\n[broker]\nreceive_maximum = 0\n");
    let ran = moteway(&["check", file.path()]);
    assert_eq!(ran.err.matches("error: ").count(), 3, "{}", ran.err);
    assert!(ran.out.ends_with(": 3 errors\n"), "{}", ran.out);
}

#[test]
fn a_file_that_cannot_be_read_is_a_bad_configuration() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("none.toml");
    let missing = missing.to_str().expect("UTF-8");
    for args in [&["check", missing][..], &["route", "a", "--config", missing]] {
        let ran = moteway(args);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(78), 1), "{}", ran.err);
        assert!(ran.err.contains(missing) && ran.err.contains("No such file"), "{}", ran.err);
    }
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"a = 1\n\xff\n").expect("written");
    let ran = moteway(&["check", binary.to_str().expect("UTF-8")]);
    assert!(ran.code == Some(78) && ran.err.contains("line 2 is not UTF-8"), "{}", ran.err);
    let ran = moteway(&["check", dir.path().to_str().expect("UTF-8")]);
    assert!(ran.code == Some(78) && ran.err.contains("cannot read"), "{}", ran.err);
}

#[test]
fn route_says_what_a_topic_becomes() {
    let file = File::new(&bridged(TELEMETRY));
    let route = |args: &[&str]| {
        let ran = moteway(&[&["route", "-c", file.path()], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
        ran.out
    };
    let out = route(&["site/hall/lamp"]);
    for part in ["here -> cloud, rule telemetry", "fleet/box-7/hall/lamp", "qos       1", "taken away", "7days"] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
    assert!(route(&["other"]).starts_with("no rule takes other: it stays here\n"));
    assert!(route(&["site/hall/debug/x"]).contains("not by rule telemetry of cloud: it is excluded"));
    let out = route(&["--from", "cloud", "fleet/box-7/cmd/lamp/on"]);
    assert!(out.contains("cloud -> here, rule commands\n  topic     cmd/lamp/on\n"), "{out}");
    let deep = "a/".repeat(64);
    assert!(route(&[&deep]).contains("the local broker refuses"), "65 levels");
}

#[test]
fn route_speaks_json() {
    let file = File::new(&bridged(TELEMETRY));
    let json = |args: &[&str]| -> serde_json::Value {
        let ran = moteway(&[&["route", "--json", "--config", file.path()], args].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        serde_json::from_str(&ran.out).expect("JSON")
    };
    let expected = serde_json::json!({
        "topic": "site/hall/lamp",
        "from": null,
        "refused": null,
        "access": null,
        "taken": [{
            "upstream": "cloud", "rule": "telemetry", "topic": "fleet/box-7/hall/lamp", "qos": 1, "retain": "strip",
            "priority": 5, "ttl_seconds": 604_800, "limit": {"messages": 1_000_000, "bytes": 536_870_912},
            "when_full": "drop-oldest",
        }],
        "not_taken": [{"upstream": "cloud", "rule": "commands", "reason": "it comes from the upstream only"}],
    });
    assert_eq!(json(&["site/hall/lamp"]), expected);
    let inward = json(&["--from", "cloud", "fleet/box-7/cmd/x"]);
    assert_eq!(inward["taken"][0]["topic"], "cmd/x");
    assert_eq!(inward["taken"][0]["qos"], "keep");
    assert!(inward["taken"][0]["limit"].is_null());
}

/// The example with a name, so that the machine id of the test machine plays no part.
fn access_example() -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/access.toml");
    File::new(&format!("{}\n[gateway]\nname = \"box-7\"\n", std::fs::read_to_string(path).expect("readable")))
}

#[test]
fn route_says_which_acl_allows_or_denies() {
    let file = access_example();
    let text = std::fs::read_to_string(file.path()).expect("readable");
    let line = |part: &str| {
        let line = text.lines().position(|line| line.starts_with(part)).expect("it is there") + 1;
        format!("{}:{line}", file.path())
    };
    let route = |args: &[&str]| {
        let ran = moteway(&[&["route", "-c", file.path()], args].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
        ran.out
    };
    let own = route(&["sensor/s1/temperature", "--client-id", "s1"]);
    let allowed = format!("the client may publish it: {}, acl[0].publish[0]\n", line("publish = [\"sensor/"));
    assert!(own.starts_with(&allowed) && own.contains("may not read it: no [[acl]] allows it"), "{own}");
    let firmware = route(&["command/s1/firmware", "--user", "bob", "--client-id", "desk"]);
    let denied = format!("{}, acl[2].deny_publish[0]", line("deny_publish"));
    assert!(firmware.contains(&format!("may not publish it: {denied}")), "{firmware}");
    assert!(
        firmware.contains(&format!(
            "the local broker refuses command/s1/firmware: the client may not publish to it, {denied}"
        )),
        "{firmware}"
    );
    assert!(
        route(&["sensor/s1/door", "--client-id", "panel-1"])
            .contains(&format!("may not read it: {}:", file.path()))
    );
    assert!(route(&["sensor/s1/x"]).starts_with("[[acl]] says who may publish it"));
    let ran = moteway(&["route", "--json", "-c", file.path(), "x", "--anonymous"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        json["access"]["publish"],
        serde_json::json!({"allowed": false, "by": null, "file": null, "line": null})
    );
    assert_eq!(json["refused"], "the client may not publish to it, no [[acl]] allows it");
}

#[test]
fn check_points_at_mistakes_in_acls() {
    let cases: &[Bad<'_>] = &[
        ("[[acl]]\npublish = [\"a\", \"a/#/b\"]\n", (2, 17), &["wildcard is misplaced", "topic filter"]),
        ("[[acl]]\npublish = \"a/{clientid}\"\n", (2, 11), &["stands for nothing", "did you mean {client_id}?"]),
        ("[[acl]]\nsubscribe = \"$share/g/a\"\n", (2, 13), &["names a share"]),
        ("[[acl]]\ngroup = \"ops\"\npublish = \"a\"\n", (2, 9), &["no group `ops`", "add [auth.groups]"]),
        (
            "[auth.groups]\nop = [\"a\"]\n[[acl]]\ngroup = [\"ops\"]\nread = \"a\"\n",
            (4, 10),
            &["no group", "has: op"],
        ),
        ("[auth.groups]\nops = \"a\"\n", (2, 7), &["expected a list of users", "[\"ann\", \"bob\"]"]),
        ("[[acl]]\nclient_id = \"a*b\"\npublish = \"a\"\n", (2, 13), &["`*` before its end"]),
        ("[[acl]]\nuser = \"\"\npublish = \"a\"\n", (2, 8), &["names nobody"]),
        ("[[acl]]\ntopic = \"a\"\n", (2, 1), &["unknown key `topic` in `[[acl]]`", "publish"]),
    ];
    for (text, place, says) in cases {
        expect_refused(text, *place, says);
    }
    for (text, says) in [
        ("user = \"a\"\nanonymous = true\npublish = \"a\"", "is for nobody: a client without a name is no user"),
        ("user = []\npublish = \"a\"", "is for nobody: `user` is an empty list"),
        ("user = \"a\"\ngroup = \"g\"\npublish = \"a\"", "is for nobody: no user of it is in g"),
        ("anonymous = true\npublish = \"x/{user}\"", "never matches"),
        ("user = \"a\"", "allows and denies nothing"),
        ("publish = \"a/b\"\ndeny_publish = \"a/+\"", "allows nothing: all of it is denied"),
    ] {
        let file = File::new(&format!("[gateway]\nname = \"b\"\n[auth.groups]\ng = [\"b\"]\n[[acl]]\n{text}\n"));
        let ran = moteway(&["check", file.path()]);
        assert_eq!(ran.code, Some(0), "{text}: {}", ran.err);
        assert!(ran.err.starts_with("warning: ") && ran.err.contains(says), "{text}: {}", ran.err);
        assert!(ran.out.ends_with("; 1 warning\n"), "{text}: {}", ran.out);
    }
}

#[test]
fn route_refuses_what_is_no_topic_and_an_upstream_that_is_not_there() {
    let file = File::new(&bridged(TELEMETRY));
    let ran = moteway(&["route", "a/#", "--config", file.path()]);
    assert!(ran.code == Some(2) && ran.err.contains("wildcard"), "{}", ran.err);
    let ran = moteway(&["route", "a", "--from", "clod", "--config", file.path()]);
    assert!(ran.code == Some(1) && ran.err.contains("no upstream `clod`; there is: cloud"), "{}", ran.err);
}

#[test]
fn config_default_prints_the_shipped_file() {
    let ran = moteway(&["config", "default"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.out, include_str!("../config/moteway.toml"));
}

#[test]
fn help_and_version_are_there_and_wrong_arguments_exit_with_2() {
    let ran = moteway(&["--version"]);
    assert_eq!(ran.out, format!("moteway {}\n", env!("CARGO_PKG_VERSION")));
    let ran = moteway(&["--help"]);
    for command in ["check", "route", "config"] {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{}", ran.out);
    }
    for args in [&["chek"][..], &[], &["route"], &["check", "a", "b"]] {
        assert_eq!(moteway(args).code, Some(2), "{args:?}");
    }
    assert!(moteway(&["chek"]).err.contains("'check'"));
}
