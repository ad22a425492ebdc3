//! Sessions and retained messages as they were before a restart.

use std::sync::Arc;

use crate::broker::connect::split_share;
use crate::broker::flat_map::FlatMap;
use crate::broker::session::{Peer, Record, Session, line_name};
use crate::broker::target::Target;
use crate::broker::{Broker, Output};
use crate::metrics::{Level, Notice};
use crate::mqtt::hop::Gateway;
use crate::queue::{LeftBehind, Queues, RecordKind, Recovered};
use crate::time::{Duration, Now, Wall};

impl Broker {
    /// Takes over what the store found. Clients that were connected when the gateway stopped are taken as lost just
    /// now: their wills are due after their delay.
    pub fn recover(&mut self, now: Now, queues: &mut Queues, recovered: Recovered) {
        // The rules may be others than those under which the messages were queued.
        self.recheck_up_to = recovered.last_seq;
        for message in recovered.retained {
            if !message.is_expired(now.wall) {
                self.retained.set(&Arc::new(message));
            }
        }
        let mut unreadable = Vec::new();
        for (kind, key, value) in &recovered.records {
            if *kind != RecordKind::Session {
                continue;
            }
            let client_id = String::from_utf8_lossy(key);
            match serde_json::from_slice::<Record>(value) {
                Ok(record) => self.restore(now, queues, &client_id, record),
                Err(error) => {
                    unreadable.push(line_name(&client_id));
                    let detail = format!("its record cannot be read ({error}); it starts anew");
                    let notice = Notice::new(Level::Error, "session not restored", client_id, detail);
                    self.outputs.push_back(Output::Notice(notice));
                }
            }
        }
        self.routes.forget_all();
        // A session without a record ended, or was not to outlast its connection.
        for LeftBehind { name, dest, window } in queues.left_behind() {
            if !unreadable.contains(&name) {
                // What was begun with QoS 2 may still lie there: it goes to nobody else [MQTT-4.8.2-5].
                let window = window.unwrap_or(self.limits.max_inflight_messages);
                queues.suspect(dest, window, now.wall);
                queues.leave(now, dest, window);
            }
        }
    }

    fn restore(&mut self, now: Now, queues: &mut Queues, client_id: &str, record: Record) {
        self.generation = self.generation.wrapping_add(1);
        let was_connected = record.disconnected_at.is_none();
        let away_since = record.disconnected_at.map_or(now.wall, Wall::from_millis);
        let mut session = Session {
            client_id: client_id.into(),
            user: record.user.map(String::into_boxed_str),
            peer: Peer::Away,
            generation: self.generation,
            // The limit may have been lowered since.
            expiry: record.expiry.min(self.max_session_expiry()),
            subscriptions: FlatMap::default(),
            line: None,
            // The limit may have been lowered since: what counts is what it was.
            window: record.window.unwrap_or(self.limits.max_inflight_messages),
            is_stored: true,
            will: record.will.map(Box::new),
            will_at: None,
            disconnected_at: Some(away_since),
            ends_at: None,
            timer_at: None,
            access: None,
            gateway: record.gateway.map(|name| Box::new(Gateway::new(&name))),
        };
        // A clock that jumped makes a session live longer, never shorter than since this start.
        session.ends_at = session.lifetime().map(|life| now.at + life.saturating_sub(now.wall - away_since));
        session.will_at = session.will.as_ref().map(|will| {
            let delay = Duration::from_secs(u64::from(will.delay));
            now.at + if was_connected { delay } else { delay.saturating_sub(now.wall - away_since) }
        });
        let slot = u32::try_from(self.sessions.insert(session)).unwrap_or(u32::MAX);
        self.by_client.insert(client_id.into(), slot);
        self.grant(slot);
        self.stats.sessions_peak = self.stats.sessions_peak.max(self.sessions.len());
        for stored in record.subscriptions {
            let (group, plain) = split_share(&stored.filter);
            self.tree.insert(plain, group, Target::Session(slot), stored.options());
            if let Some(session) = self.session_mut(slot) {
                session.subscriptions.insert(stored.filter.as_str().into(), stored.options());
            }
        }
        if queues.is_known(&line_name(client_id)) {
            let window = self.sessions.get(slot as usize).map_or(u16::MAX, |kept| kept.window);
            if let Some(dest) = self.line(queues, now, slot) {
                queues.suspect(dest, window, away_since);
            }
        }
        self.watch_session(slot);
        if was_connected {
            // From now on it counts as disconnected.
            self.save(now, queues, slot, None);
        }
    }
}
