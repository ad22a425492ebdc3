//! Random histories: an upstream that does what the standard says, on links that are cut, below a gateway that loses
//! power; and an upstream that does anything at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::bridge::tests::world::{Seen, UP, World, config, rule, secs};
use crate::bridge::{Input, Login, Setup};
use crate::config::{Direction, UpstreamVersion};
use crate::mqtt::{
    ConnAck, ConnAckProperties, ConnId, Disconnect, Packet, PubAck, PubComp, PubRec, PubRel, QoS, ReasonCode,
    ReasonProperties, SubAck,
};
use crate::queue::{DestId, Outcome, Refusal, Token};

const WINDOW: u16 = 4;

fn setup(version: UpstreamVersion) -> Setup {
    let mut rules =
        vec![rule(Direction::Out, "site/#", ""), rule(Direction::Out, "+/#", ""), rule(Direction::In, "cmd/#", "")];
    rules[1].priority = 7;
    let config = config(version, rules);
    Setup { dests: World::dests(&config), live: Vec::new(), hop: None, config, resumes: true }
}

/// One step of a history.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A message for the rule with this destination.
    Queue {
        dest: u16,
        qos: u8,
    },
    /// The server reads what was sent.
    Read,
    /// One of the server's answers arrives, not always the oldest.
    Answer(usize),
    /// The store settles what waits.
    Settle,
    /// The link is cut; what is on its way is lost.
    Cut,
    /// The power fails.
    Crash,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=2u16, 0..=2u8).prop_map(|(dest, qos)| Step::Queue { dest, qos }),
        6 => Just(Step::Read),
        12 => (0..3usize).prop_map(Step::Answer),
        3 => Just(Step::Settle),
        1 => Just(Step::Cut),
        1 => Just(Step::Crash),
        1 => (1..30u64).prop_map(Step::Pass),
    ]
}

/// A server with one session that it never loses.
#[derive(Debug, Default)]
struct Server {
    has_session: bool,
    subscribed: Option<u16>,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    held: BTreeSet<u16>,
    /// Every message that it took, as `dest/number/qos`.
    taken: Vec<String>,
    answers: Vec<Packet<'static>>,
    /// QoS 1 and 2 messages of this link that are not complete.
    open: BTreeSet<u16>,
}

impl Server {
    fn read(&mut self, world: &mut World) {
        for seen in world.read() {
            match seen {
                Seen::Publish { qos: 0, payload, .. } => self.taken.push(String::from_utf8(payload).unwrap()),
                Seen::Publish { qos, pkid, payload, .. } => {
                    assert!(self.open.insert(pkid), "identifier {pkid} is in use");
                    assert!(self.open.len() <= usize::from(WINDOW), "more than the window: {:?}", self.open);
                    if qos == 1 || self.held.insert(pkid) {
                        self.taken.push(String::from_utf8(payload).unwrap());
                    }
                    self.answers.push(if qos == 1 {
                        Packet::PubAck(PubAck::new(pkid, ReasonCode::Success))
                    } else {
                        Packet::PubRec(PubRec::new(pkid, ReasonCode::Success))
                    });
                }
                Seen::PubRel(pkid, _) => {
                    self.held.remove(&pkid);
                    self.answers.push(Packet::PubComp(PubComp::new(pkid, ReasonCode::Success)));
                }
                Seen::Subscribe(pkid, _) => self.subscribed = Some(pkid),
                Seen::PingReq => self.answers.push(Packet::PingResp),
                other => panic!("not expected: {other:?}"),
            }
        }
        if let Some(pkid) = self.subscribed.take() {
            let properties = ReasonProperties::default();
            world.send(&Packet::SubAck(SubAck { pkid, properties, codes: &[2] }));
        }
    }

    fn answer(&mut self, world: &mut World, which: usize) {
        if which < self.answers.len() {
            let answer = self.answers.remove(which);
            if let Packet::PubAck(PubAck { pkid, .. }) | Packet::PubComp(PubComp { pkid, .. }) = answer {
                self.open.remove(&pkid);
            }
            world.send(&answer);
        }
    }

    fn connect(&mut self, world: &mut World) {
        self.lose_link();
        let properties = ConnAckProperties { receive_maximum: Some(WINDOW), ..Default::default() };
        world.connect_with(std::mem::replace(&mut self.has_session, true), properties);
    }

    fn lose_link(&mut self) {
        self.answers.clear();
        self.open.clear();
    }
}

fn take_step(step: Step, world: &mut World, server: &mut Server, sent: &mut Vec<String>) {
    if world.conn.is_none() {
        server.connect(world);
    }
    match step {
        Step::Queue { dest, qos } => {
            let name = format!("{dest}/{:04}/{qos}", sent.len());
            world.queue(dest, qos, &name);
            sent.push(name);
        }
        Step::Read => server.read(world),
        Step::Answer(which) => server.answer(world, which),
        Step::Settle => world.settle_releases(Ok(())),
        // With a reason, so that no message is blamed: the links of this history are cut far too often.
        Step::Cut => world.send(&Packet::Disconnect(Disconnect::new(ReasonCode::ServerShuttingDown))),
        Step::Crash => {
            world.restart(setup(UpstreamVersion::V5));
            world.queues.outcome = Some(Outcome::Pending);
        }
        Step::Pass(time) => world.pass(secs(time)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Promises 2 and 3 on this hop, whatever the link, the power and the order of acknowledgements do.
    #[test]
    fn nothing_is_lost_order_holds_and_qos_2_is_exactly_once(steps in prop::collection::vec(step(), 1..200)) {
        let (mut world, mut server, mut sent) = (World::with(setup(UpstreamVersion::V5), 0), Server::default(), Vec::new());
        world.queues.outcome = Some(Outcome::Pending);
        for step in steps {
            take_step(step, &mut world, &mut server, &mut sent);
        }
        for _ in 0..5 * sent.len() + 10 {
            for step in [Step::Read, Step::Answer(0), Step::Settle] {
                take_step(step, &mut world, &mut server, &mut sent);
            }
        }
        prop_assert!(server.held.is_empty() && server.open.is_empty(), "all exchanges are complete");
        for dest in [1, 2] {
            prop_assert_eq!(world.queues.waiting(DestId(dest)), [0u64; 0], "the queue is empty");
            prop_assert_eq!(world.queues.due(DestId(dest)), &[0u16; 0]);
            let of_rule = |name: &&String| name.starts_with(&dest.to_string()) && !name.ends_with('0');
            // Where each message was first taken, and how often it was.
            let mut first_seen: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
            for (at, name) in server.taken.iter().enumerate().filter(|(_, name)| of_rule(name)) {
                first_seen.entry(name).or_insert((at, 0)).1 += 1;
            }
            let wanted: Vec<&String> = sent.iter().filter(of_rule).collect();
            prop_assert_eq!(first_seen.len(), wanted.len(), "every message of QoS 1 and 2 arrived");
            let order: Vec<usize> = wanted.iter().map(|name| first_seen[name].0).collect();
            prop_assert!(order.is_sorted(), "in order");
            for (name, (_, times)) in first_seen {
                prop_assert!(times == 1 || name.ends_with('1'), "{} arrived {} times", name, times);
            }
        }
        prop_assert!(world.queues.dead.is_empty());
    }

    /// Promise 4: the fakes check that nothing is acknowledged, released or buried twice.
    #[test]
    fn no_upstream_can_stop_it(is_5: bool, acts in prop::collection::vec(act(), 1..60)) {
        let version = if is_5 { UpstreamVersion::V5 } else { UpstreamVersion::V311 };
        let mut world = World::with(setup(version), 0);
        world.queues.outcome = Some(Outcome::Pending);
        for act in acts {
            if world.conn.is_none() {
                world.dialed();
                world.send(&Packet::ConnAck(ConnAck { session_present: true, ..ConnAck::default() }));
            }
            match act {
                Act::Bytes(bytes) => world.receive(&bytes),
                Act::Packet(kind, pkid, reason) => send_any(&mut world, kind, pkid, reason),
                Act::Queue(dest, qos) => drop(world.queue(dest, qos, "x")),
                Act::Settled(token) => world.input(Input::Settled { token: Token(token), result: Err(Refusal::Store) }),
                Act::SettleAll(true) => world.settle_releases(Ok(())),
                Act::SettleAll(false) => world.settle_releases(Err(Refusal::Store)),
                Act::HangUp => world.hang_up(),
                Act::Stray => {
                    world.input(Input::DialFailed { upstream: UP, error: "stray".to_owned() });
                    world.input(Input::Dialed { upstream: crate::config::UpstreamId(9), conn: ConnId(7), login: Login::default() });
                    world.input(Input::Timeout);
                }
                Act::Pass(time) => world.pass(secs(time)),
            }
        }
    }
}

/// What a hostile world does.
#[derive(Debug, Clone)]
enum Act {
    Bytes(Vec<u8>),
    Packet(u8, u16, u8),
    Queue(u16, u8),
    Settled(u64),
    SettleAll(bool),
    HangUp,
    Stray,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let pkid = prop_oneof![1..6u16, 0x8000..0x8006u16];
    let reason = prop_oneof![Just(0u8), Just(0x97), Just(0x87)];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Act::Bytes),
        12 => (0..8u8, pkid, reason).prop_map(|(kind, pkid, reason)| Act::Packet(kind, pkid, reason)),
        6 => (1..=2u16, 0..=2u8).prop_map(|(dest, qos)| Act::Queue(dest, qos)),
        1 => any::<u64>().prop_map(Act::Settled),
        3 => any::<bool>().prop_map(Act::SettleAll),
        1 => Just(Act::HangUp),
        1 => Just(Act::Stray),
        1 => (1..100u64).prop_map(Act::Pass),
    ]
}

fn send_any(world: &mut World, kind: u8, pkid: u16, reason: u8) {
    let reason = ReasonCode::from_u8(reason).unwrap();
    let packet = match kind {
        0 => Packet::PubAck(PubAck::new(pkid, reason)),
        1 => Packet::PubRec(PubRec::new(pkid, reason)),
        2 => Packet::PubRel(PubRel::new(pkid, ReasonCode::Success)),
        3 => Packet::PubComp(PubComp::new(pkid, ReasonCode::Success)),
        4 => Packet::SubAck(SubAck { pkid, properties: ReasonProperties::default(), codes: &[0] }),
        5 => Packet::PingResp,
        6 => return world.publish("cmd/a", QoS::AtLeastOnce.as_u8(), pkid),
        _ => return world.publish("cmd/a", QoS::ExactlyOnce.as_u8(), pkid),
    };
    world.send(&packet);
}
