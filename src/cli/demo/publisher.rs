//! An MQTT publisher that keeps its side of QoS 1 and 2: what is not acknowledged is sent again, in order.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::{MissedTickBehavior, interval};

use crate::cli::demo::ledger::{FlowId, payload};
use crate::cli::demo::mqtt::{Answer, Connection, Event, RECONNECT_AFTER};
use crate::cli::demo::world::World;
use crate::mqtt::QoS;
use crate::time::Duration;

/// Messages on their way at once.
const WINDOW: usize = 20;

/// One publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) client_id: &'static str,
    pub(super) broker: SocketAddr,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) flow: FlowId,
    /// Between two messages.
    pub(super) every: Duration,
    pub(super) world: Rc<World>,
    /// Not yet settled, in the order they were sent. They outlive the connection.
    pub(super) inflight: VecDeque<Flight>,
    pub(super) last_pkid: u16,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pkid: u16,
    seq: u32,
    /// PUBREC came: the broker has it, and only the id is not free yet.
    released: bool,
}

impl Publisher {
    /// Publishes until the demo stops and everything is acknowledged.
    pub(super) async fn run(mut self) {
        let mut redial = interval(RECONNECT_AFTER);
        redial.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_connected = false;
        loop {
            redial.tick().await;
            let Ok((connection, session_present)) = Connection::open(self.broker, self.client_id).await else {
                continue;
            };
            if was_connected && !session_present {
                let fault = format!("the session of \"{}\" was forgotten", self.client_id);
                self.world.faults.borrow_mut().push(fault);
            }
            was_connected = true;
            // An error is the end of the connection, not of the publisher.
            if self.session(connection).await.is_ok() {
                return;
            }
        }
    }

    async fn session(&mut self, mut connection: Connection) -> io::Result<()> {
        // [MQTT-4.4.0-1], in the order of the first time [MQTT-4.6.0-1].
        for flight in &self.inflight {
            if flight.released {
                connection.answer(Answer::Rel(flight.pkid)).await?;
            } else {
                let payload = payload(flight.seq);
                connection.publish(true, self.qos, flight.pkid, &self.topic, &payload).await?;
            }
        }
        let mut clock = interval(self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = self.world.stopping.get();
            if stopping && self.inflight.is_empty() {
                // All is acknowledged: it does not matter whether this arrives.
                connection.close().await.ok();
                return Ok(());
            }
            tokio::select! {
                _ = clock.tick() => {
                    if !stopping && self.inflight.len() < WINDOW {
                        self.publish(&mut connection).await?;
                    }
                }
                event = connection.recv() => self.handle_event(event?, &mut connection).await?,
            }
        }
    }

    async fn publish(&mut self, connection: &mut Connection) -> io::Result<()> {
        let pkid = self.last_pkid.checked_add(1).unwrap_or(1);
        self.last_pkid = pkid;
        let seq = self.world.ledger.borrow_mut().send(self.flow);
        self.inflight.push_back(Flight { pkid, seq, released: false });
        connection.publish(false, self.qos, pkid, &self.topic, &payload(seq)).await
    }

    async fn handle_event(&mut self, event: Event, connection: &mut Connection) -> io::Result<()> {
        match event {
            Event::PubAck(pkid) if self.qos == QoS::AtLeastOnce => {
                self.acknowledge(pkid);
                self.inflight.retain(|flight| flight.pkid != pkid);
            }
            Event::PubRec(pkid) => {
                self.acknowledge(pkid);
                connection.answer(Answer::Rel(pkid)).await?;
            }
            Event::PubComp(pkid) => self.inflight.retain(|flight| flight.pkid != pkid),
            _ => {}
        }
        Ok(())
    }

    /// From here on the message is the broker's.
    fn acknowledge(&mut self, pkid: u16) {
        if let Some(flight) = self.inflight.iter_mut().find(|flight| flight.pkid == pkid) {
            flight.released = true;
            self.world.ledger.borrow_mut().acknowledge(self.flow, flight.seq);
        }
    }
}

/// Knocks at the far side of the gateway until someone hears it: then the way from the cloud is open.
pub(super) async fn greet(broker: SocketAddr, topic: String, world: Rc<World>) -> io::Result<()> {
    let (mut connection, _) = Connection::open(broker, "greeter").await?;
    let mut knock = interval(RECONNECT_AFTER);
    while !world.greeted.get() {
        knock.tick().await;
        connection.publish(false, QoS::AtMostOnce, 0, &topic, "hello").await?;
    }
    connection.close().await
}
