//! The fuzz targets as ordinary tests: each replays the kept corpus and every input that once broke it, and then runs
//! mutations of them, the same ones each time. The long run under libFuzzer is `tests/fuzz/run`.
//!
//! `MOTEWAY_FUZZ_ROUNDS=N` runs N mutations per target, `MOTEWAY_FUZZ_SEED=N` other ones, `MOTEWAY_FUZZ_INPUT=FILE` that
//! one input, and `MOTEWAY_FUZZ_TELL=1` prints what it does to the engine.

mod mutate;
#[path = "../sim/store.rs"]
#[expect(dead_code, reason = "what the simulation alone does to a store")]
mod store;
mod targets;

use std::path::{Path, PathBuf};
use std::{env, fs, panic};

use crate::mutate::Mutator;

/// A target, by the name of its corpus.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// Mutations that take a few seconds.
    rounds: u64,
}

#[test]
fn mqtt_packets() {
    fuzz(&Target { name: "mqtt_packets", run: targets::mqtt_packets::run, rounds: 400_000 });
}

#[test]
fn mqttsn_messages() {
    fuzz(&Target { name: "mqttsn_messages", run: targets::mqttsn_messages::run, rounds: 400_000 });
}

#[test]
fn framings() {
    fuzz(&Target { name: "framings", run: targets::framings::run, rounds: 100_000 });
}

#[test]
fn config() {
    fuzz(&Target { name: "config", run: targets::config::run, rounds: 10_000 });
}

#[test]
fn gateway() {
    fuzz(&Target { name: "gateway", run: targets::gateway::run, rounds: 10_000 });
}

#[test]
fn engine() {
    fuzz(&Target { name: "engine", run: targets::engine::run, rounds: 15_000 });
}

fn fuzz(target: &Target) {
    if let Some(path) = env::var_os("MOTEWAY_FUZZ_INPUT") {
        return (target.run)(&fs::read(path).unwrap());
    }
    let corpus = inputs("corpus", target.name);
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{} is empty: nothing to begin with", target.name);
    let known: Vec<Vec<u8>> = corpus.into_iter().chain(inputs("regressions", target.name)).collect();
    for input in &known {
        run(target, input);
    }
    let mut mutator = Mutator::new(number("MOTEWAY_FUZZ_SEED").unwrap_or(1), &known);
    let rounds = number("MOTEWAY_FUZZ_ROUNDS").unwrap_or(target.rounds);
    for _ in 0..rounds {
        run(target, &mutator.next_input());
    }
    println!("{}: {} kept inputs, {rounds} mutations", target.name, known.len());
}

/// Keeps an input that breaks the target, so that it can be run again and become a regression.
fn run(target: &Target, input: &[u8]) {
    let Err(cause) = panic::catch_unwind(|| (target.run)(input)) else { return };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
    fs::write(&path, input).unwrap();
    eprintln!("the input is kept in {}; its place is tests/fuzz/regressions/{}/", path.display(), target.name);
    panic::resume_unwind(cause);
}

/// The files of a folder beside this one, in order of name. A folder that is not there is empty.
fn inputs(kind: &str, target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
