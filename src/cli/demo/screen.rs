//! What the demo prints: plain lines, and on a terminal one line at the bottom that is kept fresh.

use std::io::{self, IsTerminal};

use tokio::time::Instant;

use crate::cli;
use crate::cli::Failure;
use crate::cli::demo::ledger::{Ledger, Side};
use crate::mqtt::QoS;

/// Where the explanation under a heading begins.
const INDENT: &str = "           ";
/// The longest bar of the queue.
const BAR: u64 = 24;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    started: Instant,
    /// A terminal can be written over.
    is_terminal: bool,
    has_colours: bool,
    /// The bottom line is there.
    is_status_shown: bool,
    /// The step that is being told.
    step: u32,
    /// A queue this long is a full bar.
    full_bar: u64,
}

impl Screen {
    /// A screen; its time starts now. A queue of `full_bar` messages is a full bar.
    pub(super) fn new(full_bar: u64) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { started: Instant::now(), is_terminal, has_colours, is_status_shown: false, step: 0, full_bar }
    }

    /// What happens next, and why it matters.
    pub(super) fn step(&mut self, heading: &str, why: &[&str]) -> Result<(), Failure> {
        self.step += 1;
        let heading = self.strong(&format!("{}. {heading}", self.step));
        self.print(&format!("\n{} {heading}\n", self.time()))?;
        why.iter().try_for_each(|line| self.print(&format!("{INDENT}{line}\n")))
    }

    /// Something that happened within a step.
    pub(super) fn event(&mut self, text: &str) -> Result<(), Failure> {
        self.print(&format!("{} {text}\n", self.time()))
    }

    /// Text as it is.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let clear = if self.is_status_shown { "\r\x1b[K" } else { "" };
        self.is_status_shown = false;
        cli::print(&format!("{clear}{text}"))
    }

    /// How it goes: a line that stays.
    pub(super) fn sample(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        let line = format!("{} {}\n", self.time(), self.state(ledger));
        self.print(&line)
    }

    /// How it goes: the bottom line of a terminal.
    pub(super) fn status(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        if !self.is_terminal {
            return Ok(());
        }
        let line = format!("\r{} {}\x1b[K", self.time(), self.state(ledger));
        self.is_status_shown = true;
        cli::print(&line)
    }

    fn state(&self, ledger: &Ledger) -> String {
        let total = ledger.total();
        let waiting = ledger.waiting(Side::Gateway);
        let bar = (waiting * BAR).div_ceil(self.full_bar.max(1)).min(BAR);
        let bar = "#".repeat(usize::try_from(bar).unwrap_or_default());
        let state = format!(
            "   acknowledged {:>5}   delivered {:>5}   waiting in the gateway {waiting:>5} {bar}",
            total.acknowledged, total.delivered
        );
        state.trim_end().to_owned()
    }

    /// The ledger, rule by rule.
    pub(super) fn ledger(&mut self, ledger: &Ledger) -> Result<(), Failure> {
        let heads =
            ["rule", "from -> to", "QoS", "sent", "acknowledged", "delivered", "duplicated", "lost", "order"];
        let mut table = format!("\n{}\n", self.strong(&row(heads.map(str::to_owned))));
        for (rule, sums) in ledger.rows() {
            let order = if sums.late == 0 { "kept" } else { "broken" };
            let numbers = [sums.sent, sums.acknowledged, sums.delivered, sums.duplicated, sums.missing];
            let [sent, acknowledged, delivered, duplicated, lost] = numbers.map(|number| number.to_string());
            let (name, way, qos) = (rule.name.to_owned(), rule.way.to_owned(), rule.qos.as_u8().to_string());
            let cells = [name, way, qos, sent, acknowledged, delivered, duplicated, lost, order.to_owned()];
            table.push_str(&row(cells));
            table.push('\n');
        }
        self.print(&table)?;
        let may_repeat = ledger.rows().any(|(rule, sums)| rule.qos == QoS::AtLeastOnce && sums.duplicated > 0);
        if may_repeat {
            self.print(
                "\nA message that was on its way when something broke is sent again; at QoS 1 it may come twice.\n",
            )?;
        }
        Ok(())
    }

    /// The last line: good or bad.
    pub(super) fn verdict(&mut self, good: bool, text: &str) -> Result<(), Failure> {
        let colour = if good { "\x1b[1;32m" } else { "\x1b[1;31m" };
        let text = if self.has_colours { format!("{colour}{text}\x1b[0m") } else { text.to_owned() };
        self.print(&format!("\n{text}\n"))
    }

    /// Time since the start.
    fn time(&self) -> String {
        format!("[{:6.1} s]", self.started.elapsed().as_secs_f64())
    }

    fn strong(&self, text: &str) -> String {
        if self.has_colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever writes next begins on a line of his own.
        if self.is_status_shown {
            cli::print("\n").ok();
        }
    }
}

fn row([name, way, qos, sent, acknowledged, delivered, duplicated, lost, order]: [String; 9]) -> String {
    format!(
        "  {name:<10} {way:<19} {qos:>3} {sent:>6} {acknowledged:>13} {delivered:>10} {duplicated:>11} {lost:>5}   {order}"
    )
}
