//! Which message does the link die of?
//!
//! A message that makes the upstream close would come back with every new link, and nothing behind it would ever
//! arrive. But a link also dies of other things, and many messages are in flight when it does. So suspicion is proved
//! before anything is buried: a rule that lost two links in a row without a single acknowledgement goes on trial. Its
//! oldest message is then sent alone, with nothing else in flight. If that is acknowledged, the rule is cleared; if
//! the upstream ends the link again and again with just this message in its hands, it is poison: after as many links
//! as the rule's `poison_after` says.

/// So many fruitless links in a row put a rule on trial.
const ON_TRIAL_AFTER: u8 = 2;
/// What is held against the oldest message of one rule.
#[derive(Debug)]
pub(super) struct Trial {
    /// So many fruitless links in a row, the last ones on trial, convict the oldest message.
    convicted_after: u8,
    /// Links in a row that the upstream closed with messages of this rule in flight and none acknowledged.
    fruitless: u8,
    /// Something was acknowledged on the present link.
    acknowledged: bool,
}

impl Trial {
    pub(super) const fn new(convicted_after: u8) -> Self {
        Self { convicted_after, fruitless: 0, acknowledged: false }
    }

    /// Whether the oldest message must be sent alone.
    pub(super) fn is_on(&self) -> bool {
        self.fruitless >= ON_TRIAL_AFTER
    }

    /// A message was acknowledged, or answered at all: it is not what links die of.
    pub(super) fn acknowledged(&mut self) {
        (self.fruitless, self.acknowledged) = (0, true);
    }

    /// The link ended. `blamed`: the upstream closed it while messages of this rule were in flight. Says whether the
    /// oldest of them is convicted.
    pub(super) fn link_ended(&mut self, blamed: bool) -> bool {
        if blamed && !self.acknowledged {
            self.fruitless += 1;
        }
        self.acknowledged = false;
        let convicted = self.fruitless >= self.convicted_after.max(ON_TRIAL_AFTER + 1);
        if convicted {
            self.fruitless = 0;
        }
        convicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fruitless_links_convict_and_the_last_three_are_on_trial() {
        let mut trial = Trial::new(5);
        let seen: Vec<_> = (0..5).map(|_| (trial.is_on(), trial.link_ended(true))).collect();
        assert_eq!(seen, [(false, false), (false, false), (true, false), (true, false), (true, true)]);
        assert!(!trial.is_on(), "the next message is innocent");
    }

    #[test]
    fn an_acknowledgement_clears_the_rule() {
        let mut trial = Trial::new(5);
        for _ in 0..4 {
            trial.link_ended(true);
        }
        trial.acknowledged();
        assert!(!trial.is_on());
        assert!(!trial.link_ended(true), "and this link was not fruitless");
        assert_eq!(trial.fruitless, 0);
    }

    #[test]
    fn links_that_die_of_something_else_prove_nothing() {
        let mut trial = Trial::new(5);
        for _ in 0..10 {
            assert!(!trial.link_ended(false));
        }
        assert!(!trial.is_on());
    }
}
