//! Messages on their way out: from a session's queue into its connection, as far as the client's window allows.

use crate::broker::Broker;
use crate::broker::connection::{Flight, FlightState};
use crate::broker::session::Peer;
use crate::mqtt::publish::Head;
use crate::mqtt::{ConnId, QoS};
use crate::queue::{DestId, Owner, Peeked, Queues};
use crate::time::Now;

impl Broker {
    /// The queue of a session, if it has one already.
    pub(crate) fn line_of(&self, session: u32) -> Option<DestId> {
        self.sessions.get(session as usize)?.line
    }

    /// The queue of a session, made now if need be.
    pub(crate) fn line(&mut self, queues: &mut Queues, now: Now, session: u32) -> Option<DestId> {
        let (ours, sleepers) = (self.queue_limits, self.sleeper_limits);
        let kept = self.session_mut(session)?;
        if kept.line.is_none() {
            let limits = if kept.peer == Peer::Local { sleepers } else { ours };
            kept.line = if kept.is_durable() {
                queues.open(now, &kept.line_name(), Owner::Session(session), limits)
            } else {
                queues.open_in_memory(Owner::Session(session), limits)
            };
            if let (Some(dest), true) = (kept.line, kept.peer != Peer::Away) {
                queues.activate(dest);
            }
        }
        kept.line
    }

    /// Sends what the client's window and outbox have room for.
    pub fn pump(&mut self, now: Now, queues: &mut Queues, session: u32) {
        let Some(kept) = self.sessions.get(session as usize) else { return };
        let (Peer::Conn(id), Some(dest)) = (kept.peer, kept.line) else { return };
        // Half of the outbox is left to QoS 0.
        let max_outbox = self.outbox_limit() / 2;
        while let Some(conn) = self.conn(id) {
            if conn.closing || conn.inflight.len() >= conn.window || conn.outbox.len() >= max_outbox {
                break;
            }
            let Some(next) = self.next_readable(now, queues, session, dest) else { break };
            // One that is in flight under the same identifier is to be answered first.
            let is_free =
                next.qos == QoS::AtMostOnce || self.conn_mut(id).is_some_and(|conn| conn.is_free(next.pkid));
            if !is_free {
                break;
            }
            queues.take(dest, next.seq);
            self.send(now, queues, id, dest, &next);
        }
        self.flush(id);
    }

    fn send(&mut self, now: Now, queues: &mut Queues, id: ConnId, dest: DestId, next: &Peeked) {
        let Some(conn) = self.conn_mut(id) else { return };
        let pkid = next.pkid;
        let head = Head {
            dup: next.sent_before && next.qos > QoS::AtMostOnce,
            qos: next.qos,
            retain: next.retain,
            topic: next.message.topic(),
            pkid,
            message_expiry: next.message.remaining_secs(now.wall.shifted(-next.shift)),
            topic_alias: None,
            subscription_ids: &next.subscription_ids,
            forwarded: next.message.properties(),
            payload_len: next.message.payload().len(),
        };
        if !conn.put_head(&head) {
            // The client said that it cannot take it: for this client it is done [MQTT-3.1.2-25].
            queues.acked(now, dest, next.seq);
            self.stats.too_large_for_receiver += 1;
            return;
        }
        conn.outbox.put_payload(&next.message);
        match next.qos {
            QoS::AtMostOnce => queues.acked(now, dest, next.seq),
            QoS::AtLeastOnce => conn.inflight.push_back(Flight { pkid, state: FlightState::PubAck(next.seq) }),
            QoS::ExactlyOnce => conn.inflight.push_back(Flight { pkid, state: FlightState::PubRec(next.seq) }),
        }
        self.stats.publish_sent += 1;
        self.stats.publish_bytes_sent += next.message.payload().len() as u64;
    }
}
