//! When a message came, put right once the clock is.
//!
//! A box without a battery starts with a clock that is wrong, and messages are stamped with it until the network sets
//! it. When the wall clock steps against the monotonic one, what came since the box was started was stamped by the
//! wrong clock by just as much. The steps are kept with the messages, so that a restart does not forget them.

use std::fmt::Write;

use crate::queue::{Op, Queues, RecordKind, Recovered, Seq};
use crate::time::Now;

/// A smaller difference is no step: clocks are slewed, and the two are not read at the same moment.
const STEP: i64 = 1_000;
/// Steps that are remembered; then the oldest are forgotten.
const MAX_STEPS: usize = 16;
/// The record's key.
const KEY: &[u8] = b"clock";

/// Messages after `after`, up to `through`, were stamped `by` milliseconds too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    after: Seq,
    through: Seq,
    by: i64,
}

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Wall minus monotonic time, in milliseconds, when last looked at.
    offset: Option<i64>,
    /// Which start of the box this is.
    boot: String,
    /// The last message before it.
    boot_after: Seq,
    steps: Vec<Step>,
}

impl Clock {
    pub(crate) fn recover(recovered: &Recovered) -> Self {
        let mut clock = Self { boot_after: recovered.last_seq, ..Self::default() };
        let is_ours = |kind: &RecordKind, key: &[u8]| *kind == RecordKind::Meta && key == KEY;
        let record = recovered.records.iter().find(|(kind, key, _)| is_ours(kind, key));
        if let Some((.., value)) = record {
            // A record that cannot be read only means that times stay as they were stamped.
            clock.read(&String::from_utf8_lossy(value)).unwrap_or_default();
        }
        clock
    }

    fn read(&mut self, text: &str) -> Option<()> {
        let mut lines = text.lines();
        let (boot, after) = lines.next()?.split_once(' ')?;
        (self.boot, self.boot_after) = (boot.to_owned(), Seq(after.parse().ok()?));
        for line in lines {
            let mut numbers = line.split(' ');
            let after = Seq(numbers.next()?.parse().ok()?);
            let through = Seq(numbers.next()?.parse().ok()?);
            self.steps.push(Step { after, through, by: numbers.next()?.parse().ok()? });
        }
        Some(())
    }

    fn written(&self) -> String {
        let mut text = format!("{} {}", self.boot, self.boot_after.0);
        for Step { after, through, by } in &self.steps {
            // Writing to a string cannot fail.
            write!(text, "\n{} {} {by}", after.0, through.0).unwrap_or_default();
        }
        text
    }

    /// By how many milliseconds the stamps of a message are too early.
    pub(crate) fn shift(&self, seq: Seq) -> i64 {
        let of = |step: &&Step| seq > step.after && seq <= step.through;
        self.steps.iter().filter(of).map(|step| step.by).fold(0, i64::saturating_add)
    }

    /// Looks at both clocks. True if the wall clock was set.
    fn look(&mut self, now: Now, last: Seq) -> bool {
        let millis = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let offset = millis(now.wall.as_millis()) - millis(now.at.as_micros() / 1000);
        let by = offset - *self.offset.get_or_insert(offset);
        if by.abs() < STEP {
            return false;
        }
        self.offset = Some(offset);
        if last > self.boot_after {
            if self.steps.len() == MAX_STEPS {
                self.steps.remove(0);
            }
            self.steps.push(Step { after: self.boot_after, through: last, by });
        }
        true
    }
}

impl Queues {
    /// Tells which start of the box this is. What came in the same one was stamped by the same clock.
    pub fn set_boot(&mut self, now: Now, boot: &str) {
        if self.clock.boot != boot && !boot.contains(char::is_whitespace) {
            (self.clock.boot, self.clock.boot_after) = (boot.to_owned(), self.last_seq);
            self.save_clock(now);
        }
    }

    /// Looks at the clocks. True if the wall clock was set since the last look: what is stored shows other times now.
    pub fn watch_clock(&mut self, now: Now) -> bool {
        let stepped = self.clock.look(now, self.last_seq);
        if stepped {
            self.save_clock(now);
        }
        stepped
    }

    fn save_clock(&mut self, now: Now) {
        let value = self.clock.written().into_bytes().into();
        self.journal.add(now.at, Op::Put { kind: RecordKind::Meta, key: KEY.into(), value }, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, Instant, Wall};

    fn at(secs: u64, wall: u64) -> Now {
        Now { at: Instant::ZERO + Duration::from_secs(secs), wall: Wall::from_millis(wall * 1000) }
    }

    #[test]
    fn what_came_before_the_clock_was_set_is_shifted_and_what_comes_later_is_not() {
        let mut clock = Clock { boot: "one".to_owned(), boot_after: Seq(5), ..Clock::default() };
        assert!(!clock.look(at(0, 100), Seq(5)));
        assert!(!clock.look(at(60, 160), Seq(7)), "time just passed");
        assert!(clock.look(at(61, 1_000_061), Seq(8)));
        assert!(!clock.look(at(62, 1_000_062), Seq(9)));
        assert_eq!([5, 6, 8, 9].map(|seq| clock.shift(Seq(seq))), [0, 999_900_000, 999_900_000, 0]);
        assert!(clock.look(at(63, 1_000_053), Seq(9)), "and back again, a little");
        assert_eq!([5, 8, 9].map(|seq| clock.shift(Seq(seq))), [0, 999_890_000, -10_000]);
    }

    #[test]
    fn a_restart_in_the_same_start_of_the_box_goes_on_and_another_start_begins_anew() {
        let mut clock = Clock { boot: "one".to_owned(), boot_after: Seq(5), ..Clock::default() };
        clock.look(at(0, 100), Seq(5));
        clock.look(at(1, 5_000), Seq(9));
        let value: Box<[u8]> = clock.written().into_bytes().into();
        let records = vec![(RecordKind::Meta, KEY.into(), value)];
        let recovered = Recovered { last_seq: Seq(20), records, ..Recovered::default() };
        let again = Clock::recover(&recovered);
        assert_eq!((again.boot.as_str(), again.boot_after, &again.steps), ("one", Seq(5), &clock.steps));
        let mut queues = Queues::new(&crate::config::Config::default().store, &recovered);
        queues.set_boot(at(0, 0), "one");
        assert_eq!(queues.clock.boot_after, Seq(5));
        queues.set_boot(at(0, 0), "two");
        assert_eq!((queues.clock.boot_after, queues.clock.shift(Seq(7))), (Seq(20), 4_899_000));
    }

    #[test]
    fn steps_are_bounded_and_a_broken_record_is_none() {
        let mut clock = Clock { boot: "one".to_owned(), ..Clock::default() };
        for n in 0..100 {
            clock.look(at(0, n * 10), Seq(n));
        }
        assert_eq!(clock.steps.len(), MAX_STEPS);
        for text in ["", "x", "one x", "one 1\n2", "one 1\n2 3 x"] {
            assert_eq!(Clock::default().read(text), None, "{text:?}");
        }
    }
}
