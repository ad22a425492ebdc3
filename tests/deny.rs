//! What `.deny.toml` says about the dependency tree, held against what cargo resolves: licences, bans, sources. It needs
//! neither `cargo deny` nor a network. The tree is that of this machine; the one for ARM is a part of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::{env, fs};
use toml::Table;

struct Package {
    name: String,
    version: String,
    license: String,
    /// Where it comes from, when that is not crates.io.
    source: Option<String>,
}

#[test]
fn every_licence_is_allowed() {
    report(licence_errors(&policy(), &packages()));
}

#[test]
fn no_crate_is_there_twice_or_banned() {
    report(ban_errors(&policy(), &packages()));
}

#[test]
fn every_dependency_comes_from_crates_io() {
    report(source_errors(&packages()));
}

/// What is linked into the program: one rustls, and nothing that only tests need.
#[test]
fn the_program_has_one_tls_stack() {
    let tree = cargo(&["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"]);
    let crates: BTreeSet<&str> =
        tree.lines().map(|line| line.trim_end_matches(" (*)").trim_end_matches(" (proc-macro)")).collect();
    let of = |name: &str| crates.iter().filter(|line| line.split(' ').next() == Some(name)).count();
    assert_eq!((of("rustls"), of("rustls-webpki"), of("ring")), (1, 1, 1), "{tree}");
    assert_eq!((of("rumqttc"), of("proptest")), (0, 0), "{tree}");
}

fn licence_errors(policy: &Table, packages: &[Package]) -> Vec<String> {
    let allow = strings(&policy["licenses"]["allow"]);
    let exceptions = policy["licenses"]["exceptions"].as_array().unwrap();
    let mut used = BTreeSet::new();
    let mut errors = Vec::new();
    for package in packages {
        let exception = exceptions.iter().find(|entry| entry["crate"].as_str() == Some(&package.name));
        let extra = exception.map_or_else(Vec::new, |entry| strings(&entry["allow"]));
        let mut may = |licence: &str| {
            let allowed = allow.iter().chain(&extra).any(|allowed| allowed == licence);
            used.extend(allowed.then(|| licence.to_owned()));
            allowed
        };
        if !satisfied(&package.license, &mut may) {
            errors.push(format!("{}: its licence `{}` is not allowed", package.name, package.license));
        }
    }
    errors.extend(
        allow
            .iter()
            .filter(|licence| !used.contains(*licence))
            .map(|licence| format!("{licence}: allowed in .deny.toml, and no crate has it")),
    );
    errors
}

/// Whether one may use what is under this SPDX expression. `AND` binds tighter than `OR`; the old `/` is an `OR`.
fn satisfied(expression: &str, may: &mut dyn FnMut(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any_of(&words, &mut at, may);
    result && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, may: &mut dyn FnMut(&str) -> bool) -> bool {
    let mut result = all_of(words, at, may);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(words, at, may);
    }
    result
}

fn all_of(words: &[&str], at: &mut usize, may: &mut dyn FnMut(&str) -> bool) -> bool {
    let mut result = one(words, at, may);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, may);
    }
    result
}

fn one(words: &[&str], at: &mut usize, may: &mut dyn FnMut(&str) -> bool) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let result = any_of(words, at, may);
        *at += 1;
        return result;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return may(&format!("{word} WITH {exception}"));
    }
    may(word)
}

fn ban_errors(policy: &Table, packages: &[Package]) -> Vec<String> {
    let names = |list: &str| -> Vec<String> {
        let entries = policy["bans"][list].as_array().unwrap().iter();
        entries.map(|entry| entry["crate"].as_str().unwrap().to_owned()).collect()
    };
    let (banned, skipped) = (names("deny"), names("skip"));
    let mut versions = BTreeMap::<&str, Vec<String>>::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(format!("{}@{}", package.name, package.version));
    }
    let mut errors: Vec<String> = banned
        .into_iter()
        .filter(|name| versions.contains_key(name.as_str()))
        .map(|name| format!("{name}: banned"))
        .collect();
    for found in versions.values() {
        let counted: Vec<&String> = found.iter().filter(|version| !skipped.contains(version)).collect();
        if counted.len() > 1 {
            errors.push(format!("{counted:?}: one version of a crate is enough; see `cargo tree --duplicates`"));
        }
    }
    let is_double = |skip: &String| versions.values().any(|found| found.len() > 1 && found.contains(skip));
    errors.extend(
        skipped
            .iter()
            .filter(|skip| !is_double(skip))
            .map(|skip| format!("{skip}: skipped in .deny.toml for nothing")),
    );
    errors
}

fn source_errors(packages: &[Package]) -> Vec<String> {
    let crates_io = "registry+https://github.com/rust-lang/crates.io-index";
    let strange =
        packages.iter().filter(|package| package.source.as_deref().is_some_and(|source| source != crates_io));
    strange.map(|package| format!("{}: from {:?}, not from crates.io", package.name, package.source)).collect()
}

fn policy() -> Table {
    let path = format!("{}/.deny.toml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap().parse().expect(".deny.toml is TOML")
}

/// Every package of the tree for this machine, those for tests and builds too.
fn packages() -> Vec<Package> {
    let format = "{p}|{l}";
    let tree = cargo(&[
        "tree",
        "--offline",
        "--locked",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        format,
    ]);
    let lines: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let packages: Vec<Package> = lines.into_iter().filter(|line| !line.is_empty()).map(Package::read).collect();
    assert!(packages.iter().any(|package| package.name == "tokio"), "no tree found");
    packages
}

impl Package {
    /// `name v1.2.3 (proc-macro) (source)|licence`: cargo names the source of what is not from its registry.
    fn read(line: &str) -> Self {
        let (package, license) = line.split_once('|').expect("a package and its licence");
        let package = package.replace(" (proc-macro)", "");
        let mut words = package.splitn(3, ' ').map(str::to_owned);
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        let is_own = name == env!("CARGO_PKG_NAME");
        let source = words.next().filter(|_| !is_own);
        Self { name, version: version.trim_start_matches('v').to_owned(), license: license.to_owned(), source }
    }
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn strings(value: &toml::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

fn report(errors: Vec<String>) {
    assert!(errors.is_empty(), "\n\n{}\n", errors.join("\n"));
}

/// Each rule on a tree that breaks it.
mod rules_can_fail {
    use super::*;

    fn tree(crates: &[(&str, &str, &str)]) -> Vec<Package> {
        let package = |&(name, version, license): &(&str, &str, &str)| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: license.to_owned(),
            source: Some("(https://example.com/x#0123)".to_owned()),
        };
        crates.iter().map(package).collect()
    }

    #[test]
    fn packages_are_read_as_cargo_prints_them() {
        let read = |line| {
            let Package { name, version, license, source } = Package::read(line);
            (name, version, license, source)
        };
        let own = |text: &str| text.to_owned();
        assert_eq!(read("a v1.2.3|MIT"), (own("a"), own("1.2.3"), own("MIT"), None));
        let odd = read("b v2.0.0 (proc-macro) (https://example.com/b?rev=1#0123)|");
        assert_eq!(odd, (own("b"), own("2.0.0"), own(""), Some(own("(https://example.com/b?rev=1#0123)"))));
    }

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        let holds =
            |expression: &str| satisfied(expression, &mut |licence| ["A", "B", "A WITH X"].contains(&licence));
        assert!(holds("A") && holds("C OR A") && holds("C/B") && holds("A AND B") && holds("A WITH X"));
        assert!(holds("C AND D OR A") && holds("(C OR A) AND B") && holds("A AND (B OR C)"));
        assert!(!holds("") && !holds("C") && !holds("A AND C") && !holds("(C OR A) AND D") && !holds("B WITH X"));
        assert!(!holds("A AND") && !holds("A B"));
    }

    #[test]
    fn licences_are_found() {
        let policy: Table =
            "licenses = { allow = ['MIT', 'ISC'], exceptions = [{ crate = 'c', allow = ['MPL-2.0'] }] }"
                .parse()
                .unwrap();
        let found = licence_errors(
            &policy,
            &tree(&[
                ("a", "1.0.0", "MIT"),
                ("b", "1.0.0", "MPL-2.0"),
                ("c", "1.0.0", "MPL-2.0"),
                ("d", "1.0.0", ""),
            ]),
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].starts_with("b:") && found[1].starts_with("d:") && found[2].starts_with("ISC:"),
            "{found:?}"
        );
    }

    #[test]
    fn doubles_bans_and_strange_sources_are_found() {
        let policy: Table =
            "bans = { deny = [{ crate = 'x' }], skip = [{ crate = 'b@1.0.0' }, { crate = 'c@1.0.0' }] }"
                .parse()
                .unwrap();
        let tree = tree(&[
            ("a", "1.0.0", ""),
            ("a", "2.0.0", ""),
            ("b", "1.0.0", ""),
            ("b", "2.0.0", ""),
            ("c", "1.0.0", ""),
            ("x", "1.0.0", ""),
        ]);
        let found = ban_errors(&policy, &tree);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].starts_with("x:") && found[1].contains("a@2.0.0") && found[2].starts_with("c@1.0.0:"),
            "{found:?}"
        );
        assert_eq!(source_errors(&tree).len(), tree.len());
    }
}
