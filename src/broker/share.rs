//! Shared subscriptions, MQTT 5.0 section 4.8.2: which member gets a message.

use crate::broker::Broker;
use crate::broker::routes::{Leg, Share};
use crate::broker::session::Peer;
use crate::broker::target::Target;
use crate::mqtt::QoS;
use crate::queue::Queues;

/// How well a member can take a message, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fitness {
    /// Connected, and sends it at once.
    Free,
    /// Connected, and behind with what it has.
    Busy,
    /// Away, with a session that keeps it.
    Away,
}

impl Broker {
    /// Whose turn it is: the next member that is free, or else the next that is connected, or else the next whose
    /// session keeps the message. `None` when it would be lost with any of them.
    pub(crate) fn choose<'a>(&self, queues: &Queues, share: &'a Share, qos: QoS) -> Option<&'a Leg> {
        let count = share.members.len();
        let start = share.turn.get();
        let mut best: Option<(Fitness, usize)> = None;
        for index in (0..count).map(|offset| (start + offset) % count) {
            let leg = &share.members[index];
            let Some(fitness) = self.fitness(queues, leg, qos.min(leg.options.qos)) else { continue };
            if best.is_none_or(|(found, _)| fitness < found) {
                best = Some((fitness, index));
            }
            if fitness == Fitness::Free {
                break;
            }
        }
        let (_, chosen) = best?;
        share.turn.set((chosen + 1) % count);
        share.members.get(chosen)
    }

    fn fitness(&self, queues: &Queues, leg: &Leg, qos: QoS) -> Option<Fitness> {
        let Target::Session(session) = leg.target else { return None };
        let member = self.sessions.get(session as usize)?;
        let waiting = member.line.map_or(0, |dest| queues.depth(dest).messages);
        let free = match member.peer {
            Peer::Away => return (qos > QoS::AtMostOnce).then_some(Fitness::Away),
            // The radio takes one message after the other.
            Peer::Local => waiting == 0,
            Peer::Conn(id) => self.conn(id).is_some_and(|conn| {
                conn.outbox.len() < self.limits.max_outbox_bytes / 2 && waiting < conn.window as u64
            }),
        };
        Some(if free { Fitness::Free } else { Fitness::Busy })
    }
}
