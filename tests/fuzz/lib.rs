//! The targets as libFuzzer runs them: with a limit on memory.

#[path = "../sim/store.rs"]
pub mod store;
pub mod targets;

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What a target may hold at any time, whatever its input.
const MAX_BYTES: usize = 64 << 20;

/// Runs a target with its memory limited: who asks for more ends the program.
pub fn bounded(target: fn(&[u8]), data: &[u8]) {
    MEMORY.set_limit(MEMORY.allocated() + MAX_BYTES).expect("more than is allocated");
    target(data);
    MEMORY.set_limit(usize::MAX).expect("more than is allocated");
}
