//! What a message says of itself, where it can stand in a topic: `up/{mw-seq}/data`.

/// Something that a message says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    Seq,
    Epoch,
}

impl Field {
    const ALL: [Self; 3] = [Self::Time, Self::Seq, Self::Epoch];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().zip(Fields::NAMES).find(|(_, known)| *known == name).map(|(field, _)| field)
    }

    /// Whether there is something to say only where messages are counted.
    pub(super) const fn is_counted(self) -> bool {
        !matches!(self, Self::Time)
    }
}

/// What it says. Each is a part of one level: it has no slash in it.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Milliseconds since 1970, when the message reached the gateway.
    pub time: &'a str,
    /// Its number in the books of its rule.
    pub seq: &'a str,
    /// Which books.
    pub epoch: &'a str,
}

impl Fields<'static> {
    /// As templates and user properties name them, in the order of the members.
    pub const NAMES: [&'static str; 3] = ["mw-time", "mw-seq", "mw-epoch"];

    /// For a topic that no message has: as the rule wrote them.
    pub const WRITTEN: Self = Self { time: "{mw-time}", seq: "{mw-seq}", epoch: "{mw-epoch}" };
}

impl<'a> Fields<'a> {
    pub(super) const fn get(&self, field: Field) -> &'a str {
        match field {
            Field::Time => self.time,
            Field::Seq => self.seq,
            Field::Epoch => self.epoch,
        }
    }
}
