//! An MQTT subscriber that writes into the ledger what comes, with a session that outlives its connections.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::{MissedTickBehavior, interval};

use crate::cli::demo::mqtt::{Answer, Connection, Event, RECONNECT_AFTER};
use crate::cli::demo::world::World;
use crate::mqtt::QoS;

/// One subscriber, at QoS 2.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) client_id: &'static str,
    pub(super) broker: SocketAddr,
    pub(super) filters: Vec<String>,
    /// What comes here is a probe and no entry.
    pub(super) greeting: &'static str,
    pub(super) world: Rc<World>,
    /// QoS 2 messages that came and are not released: they may come again, and are the same then.
    pub(super) received: BTreeSet<u16>,
}

impl Subscriber {
    /// Receives for ever.
    pub(super) async fn run(mut self) {
        let mut redial = interval(RECONNECT_AFTER);
        redial.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_subscribed = false;
        loop {
            redial.tick().await;
            let Ok((mut connection, session_present)) = Connection::open(self.broker, self.client_id).await else {
                continue;
            };
            if !session_present {
                self.received.clear();
                if is_subscribed {
                    let fault = format!("the session of \"{}\" was forgotten", self.client_id);
                    self.world.faults.borrow_mut().push(fault);
                }
            }
            if !is_subscribed {
                if connection.subscribe(&self.filters).await.is_err() {
                    continue;
                }
                is_subscribed = true;
                self.world.subscribed.set(self.world.subscribed.get() + 1);
            }
            // An error is the end of the connection, not of the subscriber.
            while self.next(&mut connection).await.is_ok() {}
        }
    }

    async fn next(&mut self, connection: &mut Connection) -> io::Result<()> {
        match connection.recv().await? {
            Event::Publish { qos, pkid, topic, payload } => {
                // The same QoS 2 exchange begun anew is no second copy [MQTT-4.3.3-2].
                if qos != QoS::ExactlyOnce || self.received.insert(pkid) {
                    self.deliver(&topic, &payload);
                }
                match qos {
                    QoS::AtMostOnce => Ok(()),
                    QoS::AtLeastOnce => connection.answer(Answer::Ack(pkid)).await,
                    QoS::ExactlyOnce => connection.answer(Answer::Rec(pkid)).await,
                }
            }
            Event::PubRel(pkid) => {
                self.received.remove(&pkid);
                connection.answer(Answer::Comp(pkid)).await
            }
            _ => Ok(()),
        }
    }

    fn deliver(&self, topic: &str, payload: &[u8]) {
        if topic == self.greeting {
            self.world.greeted.set(true);
        } else {
            self.world.ledger.borrow_mut().deliver(topic, payload);
        }
    }
}
