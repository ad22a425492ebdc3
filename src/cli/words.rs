//! Figures in words, and colours where somebody looks.

use std::io::{self, IsTerminal};

/// `3 d 4 h`, `2 h 3 min`, `45 s`
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// `512 B`, `3.4 MiB`
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = UNITS.iter().enumerate().take_while(|(power, _)| count >> (10 * power) > 0).last();
    match unit {
        None | Some((0, _)) => format!("{count} B"),
        Some((power, unit)) => {
            let tenths = (u128::from(count) * 10) >> (10 * power);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// `1 234 567`
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Colours, on a terminal that has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"))
    }

    fn put(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.put("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.put("1;31", text)
    }

    pub(super) fn heading(self, text: &str) -> String {
        self.put("1", text)
    }
}

/// Text from clients, so that no control character reaches the terminal.
pub(super) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rows with their columns below each other.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!(" {cell:<width$} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let spans = [0, 59_999, 60_000, 3_599_000, 3_600_000, 90_000_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]);
        let sizes = [0, 1_023, 1_024, 1_536, 5 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB", "16777215.9 TiB"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(tame("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }

    #[test]
    fn columns_are_below_each_other() {
        let rows = [vec!["a".to_owned(), "bc".to_owned()], vec!["äää".to_owned(), "d".to_owned()]];
        assert_eq!(table(&rows), "  a    bc\n  äää  d\n");
    }
}
