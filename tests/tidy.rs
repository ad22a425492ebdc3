//! The rules of the house, read from its source. What clippy can see is in `Cargo.toml` under `[lints]`; here is the rest.
//!
//! Each rule is a function from source to findings, a test that runs it on this tree, and a test on bad samples that
//! shows that it can fail. A finding says where, and what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

#[path = "tidy/source.rs"]
mod source;

use source::{Finding, Found, Source, read_all};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// From top to bottom. A module imports from floors below its own; those on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["main", "lib"],
    &["cli"],
    &["daemon"],
    &["io", "store", "admin"],
    &["engine"],
    &["gateway", "broker", "bridge"],
    &["queue"],
    &["mqttsn", "config"],
    // QoS and topics are MQTT's; MQTT-SN and the configuration use them.
    &["mqtt"],
    &["metrics", "sys"],
    &["time"],
];

/// Modules that are values: what they do follows from what they are given.
const CORES: &[&str] =
    &["mqtt", "mqttsn", "queue", "broker", "gateway", "bridge", "engine", "config", "metrics", "time"];

/// What a core may not name, itself or anything in it, and what to do instead.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "files belong to a shell: take the bytes"),
    ("std::process", "processes belong to a shell"),
    ("std::env", "the surroundings belong to a shell: take the value"),
    ("std::os", "the system belongs to a shell"),
    ("std::thread", "threads belong to a shell"),
    ("std::sync::mpsc", "a core is driven by one caller: inputs in, outputs out"),
    ("std::sync::Mutex", "a core is driven by one caller: no locks"),
    ("std::sync::RwLock", "a core is driven by one caller: no locks"),
    ("std::sync::Condvar", "a core is driven by one caller: no locks"),
    ("std::net::TcpStream", "sockets belong to `io`"),
    ("std::net::TcpListener", "sockets belong to `io`"),
    ("std::net::UdpSocket", "sockets belong to `io`"),
    ("std::net::ToSocketAddrs", "names are resolved in `io`"),
    ("std::time::Instant", "take `now: Now` from the caller; `crate::time::Instant` is the type"),
    ("std::time::SystemTime", "take `now: Now` from the caller; `crate::time::Wall` is the type"),
    ("std::time::UNIX_EPOCH", "take `now: Now` from the caller"),
    ("std::collections::HashMap", "its random state is hidden input: BTreeMap, or hashbrown with a FixedState"),
    ("std::collections::HashSet", "its random state is hidden input: BTreeSet, or hashbrown with a FixedState"),
    ("std::collections::hash_map", "its random state is hidden input"),
    ("std::hash::RandomState", "its random state is hidden input: FixedState"),
    ("foldhash::fast::RandomState", "its random state is hidden input: FixedState"),
    ("foldhash::quality::RandomState", "its random state is hidden input: FixedState"),
    ("fastrand::Rng::new", "a random source is seeded by the caller: Rng::with_seed"),
    ("Rng::new", "a random source is seeded by the caller: Rng::with_seed"),
    ("Instant::now", "take `now: Now` from the caller"),
    ("SystemTime::now", "take `now: Now` from the caller"),
    ("crate::sys", "the system belongs to a shell: take the value"),
    ("tokio", "tasks and timers belong to a shell"),
    ("tokio_serial", "devices belong to `io`"),
    ("tokio_rustls", "TLS belongs to `io`"),
    ("rustls", "TLS belongs to `io`"),
    ("rcgen", "certificates belong to a shell"),
    ("socket2", "sockets belong to `io`"),
    ("nix", "the system belongs to a shell"),
    ("rusqlite", "the database belongs to `store`"),
    ("tracing", "a core says it with an output or a counter; the shell logs it"),
];

/// One file reads the configuration and its drop-ins.
const MAY_READ_FILES: &[&str] = &["src/config/document.rs"];

/// Everything that may lie at the top, besides dot-files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "src",
    "config",
    "packaging",
    "yocto",
    "systemd",
    "tests",
];

const LONGEST_FILE: usize = 700;

#[test]
fn imports_go_down_the_floors() {
    check(&["src"], floors);
}

#[test]
fn cores_have_no_clock_socket_file_task_or_random_source() {
    check(&["src"], cores);
}

#[test]
fn nothing_strays_at_the_top_level() {
    report(strays(&top_level_entries(&root())));
}

#[test]
fn nothing_is_left_unfinished() {
    check(&["src", "tests"], unfinished);
}

#[test]
fn files_are_short() {
    check(&["src"], long_files);
}

#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    check(&["src", "tests"], sleeps);
}

#[test]
fn paths_do_not_climb() {
    check(&["src", "tests"], climbs);
}

#[test]
fn the_readme_names_what_exists() {
    let sources: Vec<Source> = ["src", "tests"].iter().flat_map(|dir| read_all(&root(), dir)).collect();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    report(readme_errors(&readme, &|path| root().join(path).exists(), &|test| has_test(&sources, test)));
}

fn floors(source: &Source) -> Vec<Finding> {
    let own = source.module();
    let Some(floor) = floor_of(own) else {
        return vec![source.finding(0, &format!("`{own}` has no floor: give it one in tests/tidy.rs"))];
    };
    let mut findings = Vec::new();
    for found in source.paths() {
        let Some(path) = found.path.strip_prefix("crate::") else { continue };
        let target = path.split("::").next().unwrap_or(path);
        if target == own || floor_of(target).is_some_and(|below| below > floor) {
            continue;
        }
        let message = match floor_of(target) {
            Some(above) if above < floor => {
                format!("`{own}` imports `{target}` from above: move what both need down, or hand it in as a value")
            }
            Some(_) => format!("`{own}` imports its sibling `{target}`: let them meet one floor above"),
            None if floor == 0 => continue,
            None => format!("`crate::{target}` is on no floor: name the module it comes from"),
        };
        findings.push(source.finding(found.at, &message));
    }
    findings
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn cores(source: &Source) -> Vec<Finding> {
    if !CORES.contains(&source.module()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for Found { path, at } in source.paths() {
        if source.is_test_at(at) {
            continue;
        }
        let instead = match path.as_str() {
            "std::time" | "std::time::self" | "std::time::*" => {
                Some("name what is meant: std::time::Duration is free to use")
            }
            path => IMPURE.iter().find(|(name, _)| is_or_is_in(path, name)).map(|(_, instead)| *instead),
        };
        let reads_files = path.starts_with("std::fs") && MAY_READ_FILES.contains(&source.path.as_str());
        if let Some(instead) = instead.filter(|_| !reads_files) {
            findings.push(source.finding(at, &format!("`{path}` in a core: {instead}")));
        }
        // `fastrand::u64` and the like draw from a generator that seeds itself.
        if path.starts_with("fastrand::") && !path.starts_with("fastrand::Rng") {
            findings
                .push(source.finding(at, &format!("`{path}` in a core: a random source is seeded by the caller")));
        }
    }
    for (at, _) in source.code.match_indices("disallowed_methods") {
        findings.push(source.finding(at, "a core does not lift the ban on clocks and sleeps"));
    }
    findings
}

fn is_or_is_in(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn strays(entries: &[String]) -> Vec<Finding> {
    let strays = entries.iter().filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(&entry.as_str()));
    strays
        .map(|entry| {
            Finding(format!(
                "{entry}: does not belong at the top level: tests/, packaging/ or config/ may be its place"
            ))
        })
        .collect()
}

/// What git tracks, or what lies there when this is no checkout.
fn top_level_entries(root: &Path) -> Vec<String> {
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let mut entries: Vec<String> = match tracked {
        Ok(output) if output.status.success() && root.join(".git").exists() => String::from_utf8(output.stdout)
            .unwrap()
            .split_terminator('\0')
            .map(|path| path.split('/').next().unwrap_or(path).to_owned())
            .collect(),
        _ => fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "target")
            .collect(),
    };
    entries.sort();
    entries.dedup();
    entries
}

fn unfinished(source: &Source) -> Vec<Finding> {
    let marks = [
        ("todo!", "finish it"),
        ("unimplemented!", "finish it"),
        ("dbg!", "take it out"),
        ("#[ignore", "mend the test or take it out: an ignored test proves nothing"),
    ];
    let mut findings = Vec::new();
    for (mark, remedy) in marks {
        for (at, _) in source.code.match_indices(mark) {
            findings.push(source.finding(at, &format!("`{mark}`: {remedy}")));
        }
    }
    findings
}

fn long_files(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= LONGEST_FILE {
        return Vec::new();
    }
    let message =
        format!("{lines} lines, at most {LONGEST_FILE}: one idea to a file, large tests in a tests.rs beside it");
    vec![source.finding(source.code.len(), &message)]
}

/// A test that sleeps is slow and still fails now and then. A poll with a bound says why on its line, or on the one
/// above: `// sleep: ...`.
fn sleeps(source: &Source) -> Vec<Finding> {
    // The load generator is a program that paces itself.
    if source.path.starts_with("tests/bench/") {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for Found { path, at } in source.paths() {
        let line = source.code[..at].matches('\n').count();
        let says_why = |line: &str| line.split_once("// sleep: ").is_some_and(|(_, why)| why.trim().len() > 10);
        let excused = says_why(lines[line]) || line.checked_sub(1).is_some_and(|above| says_why(lines[above]));
        let is_call = source.code[at..]
            .split_once('(')
            .is_some_and(|(name, _)| name.split_whitespace().collect::<String>() == path);
        let names_it = path.ends_with("thread::sleep") || path.ends_with("time::sleep");
        if names_it && source.is_test_at(at) && !excused {
            let message = if is_call {
                "a test sleeps: wait for the condition with a bound, or say why on the line above: `// sleep: ...`"
            } else {
                "write `thread::sleep(...)` where it is called, so that each call is seen"
            };
            findings.push(source.finding(at, message));
        }
    }
    findings
}

fn climbs(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Found { path, at } in source.paths() {
        if path.contains("super::super") {
            findings.push(source.finding(at, "`super::super`: write the path from `crate::`"));
        } else if path.starts_with("super::")
            && source.path.starts_with("src/")
            && source.is_directly_under_the_root()
            && !source.is_inside_a_module(at)
        {
            findings.push(source.finding(at, "`super` is the crate here: write `crate::`"));
        }
    }
    findings
}

/// In the README, links and code that look like a path must exist, and so must the tests in its tables.
fn readme_errors(readme: &str, exists: &dyn Fn(&str) -> bool, is_test: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, line) in readme.lines().enumerate() {
        let links =
            line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"));
        let code: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let here = |word: &&str| {
            ["src/", "tests/", "packaging/", "systemd/", "yocto/"].iter().any(|dir| word.starts_with(dir))
        };
        for path in links.chain(code.iter().copied().filter(here)) {
            let path = path.split(['#', ' ', ':']).next().unwrap_or(path);
            if !path.is_empty() && !exists(path) {
                findings.push(Finding(format!("README.md:{}: there is no {path}", n + 1)));
            }
        }
        let in_table = line.starts_with('|');
        let is_name = |word: &&str| {
            word.matches('_').count() >= 2
                && word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        for name in code.iter().copied().filter(is_name).filter(|name| in_table && !is_test(name)) {
            findings.push(Finding(format!("README.md:{}: there is no test `{name}`", n + 1)));
        }
    }
    findings
}

fn has_test(sources: &[Source], name: &str) -> bool {
    sources.iter().any(|source| source.code.contains(&format!("fn {name}(")))
}

fn root() -> std::path::PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test").into()
}

fn check(dirs: &[&str], rule: fn(&Source) -> Vec<Finding>) {
    let sources: Vec<Source> = dirs.iter().flat_map(|dir| read_all(&root(), dir)).collect();
    assert!(sources.len() > dirs.len(), "no source found in {dirs:?}");
    report(sources.iter().flat_map(rule).collect());
}

fn report(findings: Vec<Finding>) {
    let mut lines: Vec<String> = findings.into_iter().map(|finding| finding.0).collect();
    lines.dedup();
    assert!(lines.is_empty(), "\n\n{}\n", lines.join("\n"));
}

/// Each rule on samples that break it, and on the nearest that do not.
mod rules_can_fail {
    use super::*;

    /// The lines on which `rule` finds something.
    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        let findings = rule(&Source::new(path, text));
        let place =
            |finding: &Finding| finding.0.split(':').nth(1).and_then(|line| line.parse().ok()).expect("a line");
        findings.iter().map(place).collect()
    }

    #[test]
    fn imports_from_above_and_from_the_side_are_found() {
        let up =
            "use crate::queue::Queues;\nuse crate::engine::Engine;\nfn f() { crate::daemon::run() }\n// crate::cli";
        assert_eq!(lines(floors, "src/broker/acks.rs", up), [2, 3]);
        let side = "use crate::{\n    mqtt::QoS,\n    gateway::{Gateway, port},\n};\nuse crate::broker::Broker;";
        assert_eq!(lines(floors, "src/broker/mod.rs", side), [3, 3]);
        assert_eq!(lines(floors, "src/io/mod.rs", "use crate::store::Store;"), [1]);
        assert_eq!(lines(floors, "src/config/mod.rs", "use crate::mqtt::QoS;\nuse crate::mqttsn::Frame;"), [2]);
        assert_eq!(
            lines(floors, "src/daemon.rs", "use crate::store::Store;\nuse crate::io;\nuse crate::cli;"),
            [3]
        );
    }

    #[test]
    fn modules_without_a_floor_are_found() {
        assert_eq!(lines(floors, "src/helpers.rs", ""), [1]);
        assert_eq!(lines(floors, "src/cli/mod.rs", "use crate::*;\nuse crate::VERSION;"), [1, 2]);
        assert_eq!(lines(floors, "src/lib.rs", "pub use crate::time::Now;"), []);
    }

    #[test]
    fn impure_cores_are_found() {
        let core = "use std::collections::{BTreeMap, HashMap};\nuse std::net::SocketAddr;\nuse std::net::{self, TcpStream};\n\
            use std::time::Duration;\nuse std::time::{self, Instant};\nfn f() { std::fs::read(p); tokio::spawn(g) }\n\
            #[cfg(test)]\nmod tests {\n    use std::fs;\n}\nfn h() { tracing::warn!(); fastrand::u64(..); Rng::new() }\n\
            use hashbrown::HashMap;\nuse crate::time::Instant;\nuse fastrand::Rng;";
        assert_eq!(lines(cores, "src/broker/mod.rs", core), [1, 3, 5, 5, 6, 6, 11, 11, 11]);
        assert_eq!(lines(cores, "src/io/tcp.rs", core), []);
        assert_eq!(lines(cores, "src/queue/mod.rs", "use crate::sys::Clock;\nfn f() { Instant::now() }"), [1, 2]);
        assert_eq!(lines(cores, "src/queue/mod.rs", "#![allow(clippy::disallowed_methods)]"), [1]);
    }

    #[test]
    fn only_one_file_of_the_configuration_reads_files() {
        let text = "fn f() { std::fs::read(path) }";
        assert_eq!(lines(cores, "src/config/document.rs", text), []);
        assert_eq!(lines(cores, "src/config/value.rs", text), [1]);
        assert_eq!(lines(cores, "src/config/document.rs", "use std::net::TcpStream;"), [1]);
    }

    #[test]
    fn strays_are_found() {
        let entries = ["Cargo.toml", "src", ".ci", "notes.txt", "scripts"].map(str::to_owned);
        let found: Vec<String> = strays(&entries).into_iter().map(|finding| finding.0).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("notes.txt:") && found[1].starts_with("scripts:"));
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = "fn f() { todo!() }\n// todo!()\nfn g() { dbg!(\"todo!\") }\n#[test]\n#[ignore = \"slow\"]\nfn h() { unimplemented!() }";
        let mut found = lines(unfinished, "src/x.rs", text);
        found.sort_unstable();
        assert_eq!(found, [1, 3, 5, 6]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(lines(long_files, "src/x.rs", &"\n".repeat(LONGEST_FILE)), []);
        assert_eq!(lines(long_files, "src/x.rs", &"\n".repeat(LONGEST_FILE + 1)), [LONGEST_FILE + 2]);
    }

    #[test]
    fn sleeping_tests_are_found() {
        let text = "fn a() { thread::sleep(T) }\n// sleep: the peer has no event to wait for\nfn b() { std::thread::sleep(T) }\n\
            fn c() { tokio::time::sleep(T).await }\n// sleep: no\nfn d() { thread::sleep(T) }\nuse std::thread::sleep;\nfn e() { s.sleep() }";
        assert_eq!(lines(sleeps, "tests/x.rs", text), [1, 4, 6, 7]);
        assert_eq!(lines(sleeps, "src/io/x.rs", text), []);
        assert_eq!(lines(sleeps, "src/io/x.rs", "#[cfg(test)]\nmod tests {\n fn a() { thread::sleep(T) }\n}"), [3]);
    }

    #[test]
    fn climbing_paths_are_found() {
        let text = "use super::super::x;\nuse super::y;\nmod tests {\n    use super::*;\n}";
        assert_eq!(lines(climbs, "src/broker/acks.rs", text), [1]);
        assert_eq!(lines(climbs, "src/broker/mod.rs", text), [1, 2]);
    }

    #[test]
    fn a_readme_that_promises_too_much_is_found() {
        let readme = "see [doc](packaging/doc) and [web](https://x.example)\n`src/a.rs`\n| it `holds_for_ever_more` |\nno_such_test_here";
        let found = readme_errors(readme, &|path| path == "src/a.rs", &|_| false);
        let found: Vec<String> = found.into_iter().map(|finding| finding.0).collect();
        assert_eq!(
            found,
            ["README.md:1: there is no packaging/doc", "README.md:3: there is no test `holds_for_ever_more`"]
        );
    }
}
