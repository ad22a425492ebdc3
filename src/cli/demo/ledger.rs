//! What was sent, acknowledged and delivered, message by message: the only judge of the demo.

use std::collections::BTreeMap;

use crate::mqtt::QoS;

/// One publisher on one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowId(usize);

/// A bridge rule, in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RuleId(usize);

/// Which side of the link holds back what cannot cross it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Cloud,
}

/// What a page of the ledger is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// From whom to whom.
    pub(super) way: &'static str,
    /// Where its messages wait while the link is down.
    pub(super) held_by: Side,
    /// As published, and as received.
    pub(super) qos: QoS,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    acknowledged: bool,
    copies: u32,
}

#[derive(Debug)]
struct Flow {
    rule: usize,
    /// Message `seq` is at `seq - 1`.
    entries: Vec<Entry>,
    /// Of the first copies so far.
    highest: u32,
    /// First copies that came after one with a higher number.
    late: u64,
}

/// The sums of one rule, or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    /// Messages that came at least once.
    pub(super) delivered: u64,
    /// Copies beyond the first.
    pub(super) duplicated: u64,
    /// Acknowledged and not delivered: on its way while the demo runs, lost when it is over.
    pub(super) missing: u64,
    /// First copies out of order.
    pub(super) late: u64,
}

impl Sums {
    fn add(&mut self, flow: &Flow) {
        self.sent += flow.entries.len() as u64;
        self.late += flow.late;
        for entry in &flow.entries {
            self.acknowledged += u64::from(entry.acknowledged);
            self.delivered += u64::from(entry.copies > 0);
            self.duplicated += u64::from(entry.copies.saturating_sub(1));
            self.missing += u64::from(entry.acknowledged && entry.copies == 0);
        }
    }
}

/// All flows by rule.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rules: Vec<Rule>,
    flows: Vec<Flow>,
    /// By the topic at the receiving end.
    by_topic: BTreeMap<String, FlowId>,
    /// Deliveries that nobody sent.
    strays: u64,
}

impl Ledger {
    /// Opens the page of a rule.
    pub(super) fn add_rule(&mut self, rule: Rule) -> RuleId {
        self.rules.push(rule);
        RuleId(self.rules.len() - 1)
    }

    /// Adds a publisher whose messages arrive on `topic`.
    pub(super) fn add_flow(&mut self, rule: RuleId, topic: String) -> FlowId {
        let id = FlowId(self.flows.len());
        self.flows.push(Flow { rule: rule.0, entries: Vec::new(), highest: 0, late: 0 });
        self.by_topic.insert(topic, id);
        id
    }

    /// Enters a new message and returns its number, from 1.
    pub(super) fn send(&mut self, flow: FlowId) -> u32 {
        let entries = &mut self.flows[flow.0].entries;
        entries.push(Entry::default());
        u32::try_from(entries.len()).unwrap_or(u32::MAX)
    }

    /// The publisher was told that the message is safe.
    pub(super) fn acknowledge(&mut self, flow: FlowId, seq: u32) {
        if let Some(entry) = self.flows[flow.0].entry(seq) {
            entry.acknowledged = true;
        }
    }

    /// A message came out at the other end.
    pub(super) fn deliver(&mut self, topic: &str, payload: &[u8]) {
        let flow = self.by_topic.get(topic).map(|id| &mut self.flows[id.0]);
        let counted = flow.and_then(|flow| flow.deliver(read_seq(payload)?));
        self.strays += u64::from(counted.is_none());
    }

    /// Whether something came through each flow.
    pub(super) fn all_flowing(&self) -> bool {
        self.flows.iter().all(|flow| flow.highest > 0)
    }

    /// Over all rules.
    pub(super) fn total(&self) -> Sums {
        self.sum(|_| true)
    }

    /// Acknowledged, and waiting at this side of the link.
    pub(super) fn waiting(&self, side: Side) -> u64 {
        self.sum(|rule| rule.held_by == side).missing
    }

    fn sum(&self, chosen: impl Fn(&Rule) -> bool) -> Sums {
        let mut sums = Sums::default();
        self.flows.iter().filter(|flow| chosen(&self.rules[flow.rule])).for_each(|flow| sums.add(flow));
        sums
    }

    /// Rule by rule.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Rule, Sums)> {
        self.rules.iter().enumerate().map(|(at, rule)| {
            let mut sums = Sums::default();
            self.flows.iter().filter(|flow| flow.rule == at).for_each(|flow| sums.add(flow));
            (rule, sums)
        })
    }

    /// Which promises were broken, in words. Empty: the ledger balances.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (rule, sums) in self.rows() {
            let mut fault = |broken: bool, what: String| {
                if broken {
                    faults.push(format!("{}: {what}", rule.name));
                }
            };
            fault(sums.missing > 0, format!("{} acknowledged and lost", sums.missing));
            fault(sums.late > 0, format!("{} out of order", sums.late));
            let exactly_once = rule.qos == QoS::ExactlyOnce;
            fault(exactly_once && sums.duplicated > 0, format!("{} duplicated at QoS 2", sums.duplicated));
            let unanswered = sums.sent - sums.acknowledged;
            fault(unanswered > 0, format!("{unanswered} never acknowledged"));
            fault(sums.delivered == 0, "nothing came through".to_owned());
        }
        if self.strays > 0 {
            faults.push(format!("{} messages that nobody sent", self.strays));
        }
        faults
    }
}

impl Flow {
    fn entry(&mut self, seq: u32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    fn deliver(&mut self, seq: u32) -> Option<()> {
        let entry = self.entry(seq)?;
        entry.copies += 1;
        if entry.copies == 1 {
            self.late += u64::from(seq < self.highest);
            self.highest = self.highest.max(seq);
        }
        Some(())
    }
}

/// What a message says: its number, and a reading as a sensor would send it.
pub(super) fn payload(seq: u32) -> String {
    format!("seq={seq} value={}.{}", 20 + seq / 10 % 5, seq % 10)
}

fn read_seq(payload: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(payload).ok()?;
    text.strip_prefix("seq=")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger with one flow on topic `t`, and `sent` messages, all acknowledged.
    fn ledger(qos: QoS, sent: u32) -> Ledger {
        let mut ledger = Ledger::default();
        let rule = ledger.add_rule(Rule { name: "rule", way: "here -> there", held_by: Side::Gateway, qos });
        let flow = ledger.add_flow(rule, "t".to_owned());
        for seq in 1..=sent {
            assert_eq!(ledger.send(flow), seq);
            ledger.acknowledge(flow, seq);
        }
        ledger
    }

    fn deliver(ledger: &mut Ledger, seqs: &[u32]) {
        seqs.iter().for_each(|seq| ledger.deliver("t", payload(*seq).as_bytes()));
    }

    #[test]
    fn a_ledger_in_which_all_came_in_order_balances() {
        let mut ledger = ledger(QoS::ExactlyOnce, 3);
        assert_eq!(ledger.waiting(Side::Gateway), 3);
        deliver(&mut ledger, &[1, 2, 3]);
        assert_eq!(ledger.faults(), [""; 0]);
        let sums = Sums { sent: 3, acknowledged: 3, delivered: 3, ..Sums::default() };
        assert_eq!(ledger.rows().map(|(rule, sums)| (rule.name, sums)).collect::<Vec<_>>(), [("rule", sums)]);
        assert_eq!((ledger.waiting(Side::Gateway), ledger.waiting(Side::Cloud)), (0, 0));
    }

    #[test]
    fn what_was_acknowledged_and_did_not_come_is_lost() {
        let mut ledger = ledger(QoS::AtLeastOnce, 3);
        deliver(&mut ledger, &[1, 3]);
        assert_eq!(ledger.faults(), ["rule: 1 acknowledged and lost"]);
    }

    #[test]
    fn first_copies_must_come_in_order_and_further_ones_need_not() {
        let mut kept = ledger(QoS::AtLeastOnce, 3);
        deliver(&mut kept, &[1, 2, 1, 2, 3]);
        assert_eq!(kept.faults(), [""; 0]);
        assert_eq!(kept.total().duplicated, 2);
        let mut broken = ledger(QoS::AtLeastOnce, 3);
        deliver(&mut broken, &[1, 3, 2]);
        assert_eq!(broken.faults(), ["rule: 1 out of order"]);
    }

    #[test]
    fn at_qos_2_a_copy_is_a_fault() {
        let mut ledger = ledger(QoS::ExactlyOnce, 2);
        deliver(&mut ledger, &[1, 2, 2]);
        assert_eq!(ledger.faults(), ["rule: 1 duplicated at QoS 2"]);
    }

    #[test]
    fn silence_and_unanswered_messages_and_strays_are_faults() {
        let mut ledger = ledger(QoS::AtLeastOnce, 0);
        assert_eq!(ledger.send(FlowId(0)), 1);
        ledger.deliver("t", b"seq=9 value=1");
        ledger.deliver("t", b"noise");
        ledger.deliver("other", payload(1).as_bytes());
        let faults = ["rule: 1 never acknowledged", "rule: nothing came through", "3 messages that nobody sent"];
        assert_eq!(ledger.faults(), faults);
    }
}
