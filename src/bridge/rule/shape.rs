//! Sets of topics, as far as levels can tell: what a filter matches, what a remapping can yield, what two have in
//! common.

use crate::mqtt::topic;

/// One level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Literal(Box<str>),
    /// Any one level.
    Any,
    /// Any number of levels, also none; the last step.
    Rest,
}

/// All topics whose levels go these steps. As with filters, a first step that is not literal stands for no topic that
/// begins with `$` [MQTT-4.7.2-1].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape(pub(super) Vec<Step>);

impl Shape {
    /// A filter without names, already checked.
    pub(super) fn of_filter(filter: &str) -> Self {
        let step = |level| match level {
            "+" => Step::Any,
            "#" => Step::Rest,
            text => Step::Literal(text.into()),
        };
        Self(topic::levels(filter).map(step).collect())
    }

    /// The topics that are in both, if there are any.
    pub(super) fn meet(&self, other: &Self) -> Option<Self> {
        let (mut a, mut b) = (&self.0[..], &other.0[..]);
        let mut both = Vec::new();
        loop {
            let at_start = both.is_empty();
            match (a, b) {
                ([], []) => return Some(Self(both)),
                // `#` also stands for no level at all: "a/#" matches "a".
                ([Step::Rest, ..], rest) | (rest, [Step::Rest, ..]) => {
                    if at_start && begins_with_dollar(rest) {
                        return None;
                    }
                    both.extend_from_slice(rest);
                    return Some(Self(both));
                }
                ([], _) | (_, []) => return None,
                ([Step::Literal(x), ..], [Step::Literal(y), ..]) if x == y => both.push(a[0].clone()),
                ([Step::Literal(_), ..], [Step::Literal(_), ..]) => return None,
                ([Step::Any, ..], [step, ..]) | ([step, ..], [Step::Any, ..]) => {
                    if at_start && begins_with_dollar(std::slice::from_ref(step)) {
                        return None;
                    }
                    both.push(step.clone());
                }
            }
            (a, b) = (&a[1..], &b[1..]);
        }
    }

    /// Whether all its topics match `filter`.
    pub(super) fn is_within(&self, filter: &Self) -> bool {
        self.meet(filter).as_ref() == Some(self)
    }

    /// One of its topics.
    pub(super) fn example(&self) -> String {
        let levels = self.0.iter().filter_map(|step| match step {
            Step::Literal(text) => Some(&**text),
            Step::Any => Some("x"),
            Step::Rest => None,
        });
        let topic = levels.collect::<Vec<_>>().join("/");
        match &self.0[..] {
            [Step::Rest] => "x".to_owned(),
            // "/#" matches no topic without a character.
            [_, Step::Rest] if topic.is_empty() => "/".to_owned(),
            _ => topic,
        }
    }
}

fn begins_with_dollar(steps: &[Step]) -> bool {
    matches!(steps.first(), Some(Step::Literal(text)) if text.starts_with('$'))
}
