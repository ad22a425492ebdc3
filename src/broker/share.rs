//! Shared subscriptions, MQTT 5.0 section 4.8.2: which member gets a message, and who gets what a member leaves.

use crate::broker::Broker;
use crate::broker::routes::{Leg, Share};
use crate::broker::session::Peer;
use crate::broker::target::Target;
use crate::mqtt::QoS;
use crate::queue::{Delivery, DestId, Peeked, Queues};
use crate::time::Now;

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
    /// The session of this line is no more. Its messages of shared subscriptions go to other members; the rest ended
    /// with it.
    pub fn hand_on(&mut self, now: Now, queues: &mut Queues, dest: DestId) {
        while let Some(next) = queues.peek(now, dest) {
            if queues.refuses_durable(next.message.cost()).is_some() {
                queues.park(dest);
                return;
            }
            match self.heir(now, queues, &next) {
                Some((heir, delivery)) => {
                    self.stats.handed_on += 1;
                    queues.hand_on(now, dest, next.seq, heir, delivery);
                }
                None => {
                    self.stats.ended_with_session += 1;
                    queues.let_go(now, dest, next.seq);
                }
            }
        }
        if queues.depth(dest).messages == 0 {
            queues.remove(now, dest);
        }
    }

    /// Who gets a message of a session that is no more, and how. What was begun with QoS 2 may be known to its
    /// receiver, and goes to nobody else [MQTT-4.8.2-5].
    fn heir(&mut self, now: Now, queues: &mut Queues, next: &Peeked) -> Option<(DestId, Delivery)> {
        if next.share == 0 || (next.qos == QoS::ExactlyOnce && next.sent_before) {
            return None;
        }
        let route = self.route(next.message.topic());
        let share = route.shares.iter().find(|share| share.id == next.share)?;
        let leg = self.choose(queues, share, next.message.qos)?;
        let Target::Session(session) = leg.target else { return None };
        let delivery = Delivery {
            qos: next.message.qos.min(leg.options.qos),
            retain: leg.options.retain_as_published && next.message.retain,
            share: leg.share,
            subscription_ids: leg.ids.clone(),
            ..Delivery::default()
        };
        Some((self.line(queues, now, session)?, delivery))
    }

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
