//! The engine: any sequence of clients of all versions, nodes on the air and on serial lines, an upstream, a store
//! that is slow, full or cut off, and time.

mod limits;
mod pipe;
pub(in crate::targets) mod radio;
mod wire;
mod world;

use crate::targets::source::Source;
use world::World;

/// Plays the input to the engine. What it sends must be whole and sound, what it holds within its limits, and at the
/// end it must come to rest.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new(&mut source);
    while !source.is_empty() {
        world.step(&mut source);
    }
    world.finish();
}
