//! Inputs like those that are known, and a little different: what libFuzzer does, without its eyes.

use fastrand::Rng;

const MAX_LEN: usize = 4096;
/// Values at which lengths, counts and flags turn.
const BORDERS: [u8; 10] = [0, 1, 2, 4, 0x10, 0x7F, 0x80, 0xC0, 0xFE, 0xFF];

/// An endless row of inputs that follows from its seed.
#[derive(Debug)]
pub struct Mutator<'a> {
    rng: Rng,
    known: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, known: &'a [Vec<u8>]) -> Self {
        Self { rng: Rng::with_seed(seed), known }
    }

    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick().to_vec();
        for _ in 0..self.rng.usize(1..=8) {
            self.mutate(&mut input);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn pick(&mut self) -> &'a [u8] {
        &self.known[self.rng.usize(..self.known.len())]
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.usize(..=input.len());
        let to = (at + self.rng.usize(1..=16)).min(input.len());
        match self.rng.u8(..8) {
            0 if at < input.len() => input[at] ^= 1 << self.rng.u8(..8),
            1 if at < input.len() => input[at] = self.rng.u8(..),
            2 if at < input.len() => input[at] = BORDERS[self.rng.usize(..BORDERS.len())],
            3 => input.insert(at, self.rng.u8(..)),
            4 => drop(input.drain(at..to)),
            5 => {
                let copy = input[at..to].to_vec();
                let place = self.rng.usize(..=input.len());
                input.splice(place..place, copy);
            }
            6 => {
                // The end of another one.
                let other = self.pick();
                input.truncate(at);
                input.extend_from_slice(&other[self.rng.usize(..=other.len())..]);
            }
            7 => {
                // A part of another one.
                let other = self.pick();
                let from = self.rng.usize(..=other.len());
                let len = self.rng.usize(..=other.len() - from);
                input.splice(at..at, other[from..from + len].iter().copied());
            }
            _ => {}
        }
    }
}
