//! The Yocto layer, held against what it repeats: versions, licences, crates, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const RECIPES: &str = "yocto/meta-moteway/recipes-connectivity/moteway";

/// What bitbake fetches, and what it expects to get, are the crates in `Cargo.lock`.
#[test]
fn crates_are_those_of_the_lock_file() {
    let list = read(&format!("{RECIPES}/moteway-crates.inc"));
    let uris: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("crate://crates.io/")?.strip_suffix(" \\"))
        .map(|uri| {
            let (path, name) = uri.split_once(";name=").expect("a crate has a name for its checksum");
            assert_eq!(path.replace('/', "-"), name);
            name.to_owned()
        })
        .collect();
    let sums: BTreeMap<String, String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("SRC_URI[")?.strip_suffix('"')?.split_once(".sha256sum] = \""))
        .map(|(name, sum)| (name.to_owned(), sum.to_owned()))
        .collect();
    assert_eq!(uris, sums.keys().cloned().collect::<BTreeSet<_>>());
    assert!(sums == locked(), "the list is not that of Cargo.lock: run yocto/update-crates");
}

#[test]
fn the_script_finds_a_list_that_is_out_of_date() {
    let copy = tempfile::tempdir().unwrap();
    for file in ["Cargo.lock", "yocto/update-crates", &format!("{RECIPES}/moteway-crates.inc")] {
        let to = copy.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(file), to).unwrap();
    }
    let script =
        |argument: &[&str]| Command::new(copy.path().join("yocto/update-crates")).args(argument).output().unwrap();
    assert!(script(&["--check"]).status.success());

    let lock = copy.path().join("Cargo.lock");
    let newer = fs::read_to_string(&lock).unwrap().replacen("checksum = \"", "checksum = \"0", 1);
    fs::write(&lock, newer).unwrap();
    let output = script(&["--check"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("run yocto/update-crates"));

    assert!(script(&[]).status.success());
    assert!(script(&["--check"]).status.success());
}

#[test]
fn the_recipe_repeats_version_rust_and_licence_rightly() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = &manifest["package"];
    let recipe = recipe();
    let quoted = |key: &str| {
        let line = recipe.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
        line.trim_matches([' ', '=', '"']).to_owned()
    };
    assert!(root().join(format!("{RECIPES}/moteway_{}.bb", package["version"].as_str().unwrap())).exists());
    assert_eq!(quoted("MOTEWAY_OLDEST_RUST"), package["rust-version"].as_str().unwrap());
    assert_eq!(quoted("SUMMARY"), "Edge gateway: MQTT broker, MQTT-SN gateway, store-and-forward bridge");

    let sum = Command::new("md5sum").arg(root().join("LICENSE")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(quoted("LIC_FILES_CHKSUM"), format!("file://LICENSE;md5={}", sum.split(' ').next().unwrap()));

    // What may be in the program, by the policy that tests/deny.rs enforces.
    let policy: toml::Table = read(".deny.toml").parse().unwrap();
    let licences = &policy["licenses"];
    let exceptions =
        licences["exceptions"].as_array().unwrap().iter().flat_map(|entry| entry["allow"].as_array().unwrap());
    let allowed: BTreeSet<&str> = licences["allow"]
        .as_array()
        .unwrap()
        .iter()
        .chain(exceptions)
        .map(|licence| licence.as_str().unwrap())
        .collect();
    assert_eq!(quoted("LICENSE").split(" & ").map(str::to_owned).collect::<BTreeSet<_>>(), owned(&allowed));
}

/// cargo refuses a manifest that names files which are not there.
#[test]
fn the_recipe_takes_along_all_that_the_build_reads() {
    let recipe = recipe();
    let taken: BTreeSet<&str> = recipe
        .lines()
        .filter_map(|line| line.split_once("file://")?.1.split_once(";subdir=${BP}"))
        .map(|(path, _)| path)
        .collect();
    for path in &taken {
        assert!(root().join(path).exists(), "the recipe asks for {path}, which is not there");
    }
    let installed = recipe.lines().filter_map(|line| line.split_once("${S}/")).map(|(_, rest)| rest);
    let manifest = read("Cargo.toml");
    let named = manifest.lines().filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
    for path in installed.chain(named) {
        let first = path.split(['/', ' ']).next().unwrap();
        assert!(taken.contains(first), "the recipe does not take along {first}, which has {path}");
    }
}

/// bitbake calls cargo where it does not find the tree's own settings.
#[test]
fn the_recipe_builds_sqlite_with_the_flags_that_cargo_takes() {
    let settings: toml::Table = read(".cargo/config.toml").parse().unwrap();
    let cargo = settings["env"]["LIBSQLITE3_FLAGS"].as_str().unwrap();
    let recipe = recipe();
    let (_, rest) = recipe.split_once("export LIBSQLITE3_FLAGS = \"").expect("the recipe sets the flags");
    let recipe = rest.split('"').next().unwrap().replace('\\', "");
    assert!(cargo.contains("-USQLITE_ENABLE_FTS5"), "{cargo}");
    assert_eq!(words(&recipe), words(cargo));
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn the_layer_says_what_yocto_asks_for() {
    let readme = read("yocto/meta-moteway/README.md");
    assert!(readme.contains("Maintainer: ") && readme.contains('@') && readme.contains("Patches"));
    assert!(root().join("yocto/meta-moteway/SECURITY.md").exists());
    let conf = read("yocto/meta-moteway/conf/layer.conf");
    assert!(conf.contains("LAYERSERIES_COMPAT_moteway = \"scarthgap wrynose\""));
    for file in files(&root().join("yocto")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("{AUTOREV}"), "{}: a build must not depend on the day", file.display());
    }
}

fn locked() -> BTreeMap<String, String> {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter().filter(|package| package.get("source").is_some());
    packages
        .map(|package| {
            let field = |key: &str| package[key].as_str().unwrap().to_owned();
            (format!("{}-{}", field("name"), field("version")), field("checksum"))
        })
        .collect()
}

fn recipe() -> String {
    read(&format!("{RECIPES}/moteway_{}.bb", env!("CARGO_PKG_VERSION")))
}

fn owned(words: &BTreeSet<&str>) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
