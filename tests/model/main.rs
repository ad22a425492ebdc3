//! The broker held against a naive one: wills, retained messages, sessions and rules, with takeovers, expiries and restarts at
//! the very same instant. What clients see must be what the standard says, and where it allows several things, one of
//! them.
//!
//! `MOTEWAY_MODEL_SEED=N` runs one case and prints it, `MOTEWAY_MODEL_CASES=N` that many (10 000 unless told).

mod naive;
mod real;
mod script;
mod seen;
#[path = "../sim/store.rs"]
#[expect(dead_code, reason = "what the simulation alone does to a store")]
mod store;

use std::collections::BTreeMap;
use std::thread;

use naive::{Broker, Client};
use real::Real;
use script::{Action, Script};
use seen::{Event, Saw, agree};

const ACTIONS: usize = 40;

/// One case: the same actions to both, as long as they agree.
fn play(seed: u64, tells: bool) -> Result<(), String> {
    let mut script = Script::new(seed);
    // Every other case has rules.
    let with_rules = !seed.is_multiple_of(2);
    let mut real = Real::new(with_rules);
    let mut possible = vec![Broker::new(with_rules)];
    for _ in 0..ACTIONS {
        let action = script.next(&possible[0]);
        if action == Action::Restart {
            // What is in hand is written first.
            step(&mut real, &mut possible, &script.pause(), tells)?;
        }
        step(&mut real, &mut possible, &action, tells)?;
    }
    Ok(())
}

fn step(real: &mut Real, possible: &mut Vec<Broker>, action: &Action, tells: bool) -> Result<(), String> {
    let saw = real.act(action);
    if tells {
        println!("{action:?}\n  {saw:?}");
    }
    let mut candidates: Vec<Broker> = Vec::new();
    for after in possible.iter().flat_map(|broker| broker.step(action)) {
        if !candidates.contains(&after) {
            candidates.push(after);
        }
    }
    let fitting = candidates.iter().filter(|after| fits(after, &saw));
    let mut next: Vec<Broker> = Vec::new();
    for after in fitting {
        if !next.contains(after) {
            next.push(after.clone());
        }
    }
    if next.is_empty() {
        let should: Vec<String> = candidates.iter().map(|after| format!("  {:?}", after.events)).collect();
        return Err(format!("{action:?}\nclients saw\n  {saw:?}\nand should have seen\n{}", should.join("\nor\n")));
    }
    *possible = next;
    Ok(())
}

fn fits(broker: &Broker, saw: &BTreeMap<Client, Vec<Saw>>) -> bool {
    let no_events: &[Event] = &[];
    (0..script::CLIENTS).all(|client| {
        let should = broker.events.get(&client).map_or(no_events, Vec::as_slice);
        agree(should, saw.get(&client).map_or(&[], Vec::as_slice))
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn clients_see_what_the_standard_says() {
    if let Some(seed) = number("MOTEWAY_MODEL_SEED") {
        return play(seed, true).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    let cases = number("MOTEWAY_MODEL_CASES").unwrap_or(10_000);
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(4)) as u64;
    let wrong: Vec<String> = thread::scope(|scope| {
        let work = |first: u64| (first..cases).step_by(threads as usize).filter_map(failure).collect::<Vec<_>>();
        let handles: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a case does not panic")).collect()
    });
    println!("{cases} cases");
    assert!(wrong.is_empty(), "{} of {cases} cases; the first:\n{}", wrong.len(), wrong[0]);
}

fn failure(seed: u64) -> Option<String> {
    play(seed, false).err().map(|wrong| format!("seed {seed}: {wrong}"))
}
