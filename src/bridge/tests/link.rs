//! The life of the link: dial, hello, keep, lose, try again.

use crate::bridge::tests::world::{Seen, UP, World, config, rule, secs};
use crate::bridge::{Input, LinkState, Login};
use crate::config::{Direction, UpstreamVersion};
use crate::metrics::Level;
use crate::mqtt::{ConnAck, ConnAckProperties, ConnId, Connect, Disconnect, Packet, QoS, ReasonCode, frame};
use crate::time::{Duration, Instant};

fn world(version: UpstreamVersion) -> World {
    let mut config = config(version, vec![rule(Direction::Out, "site/#", "")]);
    config.status_topic = "gw/box-7".to_owned();
    World::new(config)
}

fn v5() -> World {
    world(UpstreamVersion::V5)
}

/// Dials and hands over what CONNECT says.
fn hello(world: &mut World, look: impl FnOnce(&Connect<'_>)) {
    world.dialed();
    let seen = world.read();
    let [Seen::Connect(raw)] = &seen[..] else { panic!("{seen:?}") };
    look(&Connect::decode(&frame(raw, u32::MAX).unwrap().unwrap()).unwrap());
}

fn refuse(world: &mut World, reason: ReasonCode) {
    world.dialed();
    world.send(&Packet::ConnAck(ConnAck::refusal(reason)));
}

/// How long until the next try.
fn wait(world: &World) -> Duration {
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Waiting);
    world.bridge.deadline().unwrap().since(world.now.at)
}

#[test]
fn it_dials_at_once_and_says_hello_as_configured() {
    let mut world = v5();
    assert_eq!(world.bridge.deadline(), Some(Instant::ZERO));
    hello(&mut world, |connect| {
        assert_eq!((connect.client_id, connect.keep_alive, connect.clean_start), ("box-7", 60, false));
        assert_eq!((connect.username, connect.password), (Some("user"), Some(&b"secret"[..])));
        let will = connect.will.unwrap();
        assert_eq!(
            (will.topic, will.payload, will.qos, will.retain),
            ("gw/box-7", &b"offline"[..], QoS::AtLeastOnce, true)
        );
        assert_eq!(
            (connect.properties.receive_maximum, connect.properties.maximum_packet_size),
            (Some(8), Some(10_000))
        );
        assert!(connect.properties.session_expiry.is_some_and(|expiry| expiry > 7 * 24 * 3600));
    });
    assert_eq!(world.dials, [0]);
}

#[test]
fn a_clean_start_leaves_no_session_behind() {
    let mut config = config(UpstreamVersion::V5, vec![]);
    config.clean_start = true;
    hello(&mut World::new(config), |connect| {
        assert!(connect.clean_start && connect.properties.session_expiry.is_none() && connect.will.is_none());
    });
}

#[test]
fn once_up_it_says_so_here_and_there() {
    let mut world = v5();
    world.connect(false);
    let seen = world.read();
    let [Seen::Publish { topic, qos: 1, retain: true, payload, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((topic.as_str(), &payload[..]), ("gw/box-7", &b"online"[..]));
    let ups: Vec<bool> = world.local.link_states.iter().map(|(up, _)| *up).collect();
    assert_eq!(ups, [false, true], "what the state said before the start is not true until it is up");
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
    world.hang_up();
    assert_eq!(world.local.link_states.last().unwrap(), &(false, "upstream closed the connection".to_owned()));
}

#[test]
fn shutdown_says_goodbye_and_dials_no_more() {
    let mut world = v5();
    world.connect(false);
    world.read();
    world.input(Input::Shutdown);
    let seen = world.read();
    let [Seen::Publish { payload, retain: true, .. }, Seen::Disconnect(ReasonCode::Success)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(payload, b"offline");
    assert_eq!((world.closes.len(), world.bridge.deadline()), (1, None));
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Stopped);
}

#[test]
fn a_dial_that_succeeds_after_shutdown_is_closed() {
    let mut world = v5();
    world.pass(Duration::ZERO);
    world.input(Input::Shutdown);
    world.input(Input::Dialed { upstream: UP, conn: ConnId(9), login: Login::default() });
    assert_eq!(world.closes, [ConnId(9)]);
}

#[test]
fn tries_back_off_and_walk_the_endpoints() {
    let mut world = v5();
    world.pass(Duration::ZERO);
    let mut last = Duration::ZERO;
    for full in [1, 2, 4, 8] {
        world.input(Input::DialFailed { upstream: UP, error: "no route".to_owned() });
        last = wait(&world);
        assert!((secs(full) / 2..=secs(full)).contains(&last), "{last:?}");
        world.pass(last);
    }
    assert_eq!(world.dials, [0, 1, 0, 1, 0]);
    let stats = world.bridge.stats(UP).unwrap();
    assert_eq!((stats.failures, stats.last_error.as_deref()), (4, Some("cannot connect: no route")));
    assert_eq!(world.noticed("upstream unreachable").len(), 4, "after {last:?}");
    let loud = world.notices.iter().filter(|notice| notice.level == Level::Warn).count();
    assert_eq!(loud, 1, "the same failure again is no news");
}

#[test]
fn only_a_link_that_lasted_resets_the_wait_and_returns_to_the_first_endpoint() {
    let mut world = v5();
    for _ in 0..6 {
        world.connect(false);
        world.hang_up();
    }
    assert!(wait(&world) > secs(10), "accept and close at once is no success");
    assert_eq!(world.dials, [0, 1, 0, 1, 0, 1]);
    world.connect(false);
    world.pass(secs(40));
    world.hang_up();
    assert!(wait(&world) <= secs(1));
    world.connect(false);
    world.pass(secs(40));
    world.hang_up();
    world.dialed();
    assert_eq!(world.dials[6..], [0, 0, 0]);
}

#[test]
fn a_refusal_that_needs_hands_waits_long_and_names_the_reason() {
    let mut world = v5();
    refuse(&mut world, ReasonCode::ServerBusy);
    assert!(wait(&world) <= secs(1));
    refuse(&mut world, ReasonCode::BadUserNameOrPassword);
    assert!(wait(&world) >= secs(60));
    assert!(world.noticed("upstream unreachable")[1].contains("Bad User Name or Password (0x86)"));
    assert_eq!(world.closes.len(), 2);
}

#[test]
fn a_taken_session_waits_long_and_names_the_likely_cause() {
    let mut world = v5();
    world.connect(false);
    world.send(&Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)));
    assert!(wait(&world) >= secs(60));
    assert!(world.noticed("upstream lost")[0].contains("does another gateway use the client id \"box-7\"?"));
}

#[test]
fn a_will_that_is_refused_is_worded_anew() {
    let mut world = v5();
    refuse(&mut world, ReasonCode::RetainNotSupported);
    refuse(&mut world, ReasonCode::QoSNotSupported);
    hello(&mut world, |connect| {
        let will = connect.will.unwrap();
        assert_eq!((will.qos, will.retain), (QoS::AtMostOnce, false));
    });
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mut world = v5();
    world.dialed();
    world.pass(secs(9));
    assert!(world.closes.is_empty());
    world.pass(secs(1));
    assert_eq!(world.closes.len(), 1);
    assert_eq!(world.bridge.stats(UP).unwrap().last_error.as_deref(), Some("no CONNACK in time"));
}

#[test]
fn a_session_that_the_store_knows_nothing_of_is_discarded() {
    for (version, clean) in [(UpstreamVersion::V5, true), (UpstreamVersion::V311, false)] {
        let config = config(version, vec![]);
        let setup = crate::bridge::Setup { dests: vec![], live: vec![], hop: None, config, resumes: false };
        let mut world = World::with(setup, 0);
        hello(&mut world, |connect| assert_eq!(connect.clean_start, clean));
        world.send(&Packet::ConnAck(ConnAck::default()));
        world.hang_up();
        hello(&mut world, |connect| assert!(!connect.clean_start, "from now on it is ours"));
    }
}

#[test]
fn a_session_after_a_clean_start_is_not_believed() {
    let mut config = config(UpstreamVersion::V5, vec![]);
    config.clean_start = true;
    let mut world = World::new(config);
    world.connect(true);
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::ProtocolError)]);
    assert_eq!(world.closes.len(), 1);
}

#[test]
fn a_quiet_link_is_pinged_and_any_sign_of_life_counts() {
    let mut world = v5();
    world.connect(false);
    world.read();
    world.puback(1, ReasonCode::Success);
    world.pass(secs(59));
    assert_eq!(world.read(), []);
    world.pass(secs(1));
    assert_eq!(world.read(), [Seen::PingReq]);
    world.pass(secs(19));
    world.publish("any/thing", 0, 0);
    world.pass(secs(40));
    assert_eq!(world.read(), [], "no PINGRESP, but it lives");
    world.pass(secs(1));
    assert_eq!(world.read(), [Seen::PingReq]);
    world.send(&Packet::PingResp);
    world.pass(secs(59));
    assert!(world.closes.is_empty());
}

#[test]
fn a_link_without_a_sign_of_life_is_given_up() {
    let mut world = v5();
    world.connect(false);
    world.puback(1, ReasonCode::Success);
    world.pass(secs(60));
    world.pass(secs(20));
    assert_eq!(world.bridge.stats(UP).unwrap().last_error.as_deref(), Some("no answer to PINGREQ"));
    assert_eq!(world.closes.len(), 1);
}

#[test]
fn sending_alone_does_not_prove_that_somebody_listens() {
    let mut world = v5();
    world.connect(false);
    world.puback(1, ReasonCode::Success);
    for _ in 0..8 {
        world.pass(secs(10));
        world.queue(1, 0, "x");
    }
    assert_eq!(world.closes.len(), 1, "QoS 0 went into the void for 60 s and 20 s");
}

#[test]
fn the_servers_keep_alive_overrides_ours() {
    let mut world = v5();
    world.connect_with(false, ConnAckProperties { server_keep_alive: Some(5), ..Default::default() });
    world.read();
    world.pass(secs(5));
    assert_eq!(world.read(), [Seen::PingReq]);
}

#[test]
fn a_link_that_acknowledges_nothing_is_given_up_though_it_answers_pings() {
    let mut world = v5();
    world.connect(false);
    world.puback(1, ReasonCode::Success);
    world.pass(secs(30));
    world.queue(1, 1, "x");
    world.pass(secs(30));
    world.send(&Packet::PingResp);
    world.pass(secs(59));
    assert!(world.closes.is_empty());
    world.pass(secs(1));
    let stats = world.bridge.stats(UP).unwrap();
    assert_eq!(stats.last_error.as_deref(), Some("connected, but nothing acknowledged"));
}

#[test]
fn packets_may_come_in_any_pieces() {
    let mut world = v5();
    world.dialed();
    let mut bytes = Vec::new();
    Packet::ConnAck(ConnAck::default()).encode(world.version, &mut bytes);
    Packet::PingResp.encode(world.version, &mut bytes);
    for byte in bytes {
        world.receive(&[byte]);
    }
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
}

#[test]
fn a_beginning_of_a_packet_does_not_outlive_its_connection() {
    let mut world = v5();
    world.connect(false);
    world.receive(&[0x30, 100, 0]);
    world.hang_up();
    world.connect(false);
    assert_eq!(world.bridge.stats(UP).unwrap().state, LinkState::Up);
}

#[test]
fn a_broken_protocol_ends_the_link_with_its_reason() {
    for (bytes, reason) in [
        (&[0x00, 0][..], ReasonCode::MalformedPacket),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
        (&[0xC0, 0], ReasonCode::ProtocolError),
        (&[0x20, 3, 0, 0, 0], ReasonCode::ProtocolError),
    ] {
        let mut world = v5();
        world.connect(false);
        world.read();
        world.receive(bytes);
        assert_eq!(world.read(), [Seen::Disconnect(reason)], "{bytes:?}");
        assert!(wait(&world) <= secs(1));
        assert!(world.noticed("upstream lost")[0].contains("broke the protocol"));
    }
}

#[test]
fn before_connack_nothing_else_is_taken() {
    let mut world = v5();
    world.dialed();
    world.read();
    world.publish("a", 0, 0);
    assert_eq!(world.read(), [Seen::Disconnect(ReasonCode::ProtocolError)]);
    assert!(world.local.published.is_empty());
}
