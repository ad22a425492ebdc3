//! How a backlog drains: its pace, what goes before it, and what its messages say of themselves.

use crate::bridge::tests::world::{Seen, World, config, rule, secs};
use crate::config::{Direction, Pace, Rule, UpstreamVersion};
use crate::mqtt::{Publish, ReasonCode, frame};
use crate::queue::{DestId, Number};
use crate::time::Duration;

fn paced(pace: Pace, rules: Vec<Rule>) -> World {
    let mut config = config(UpstreamVersion::V5, rules);
    config.pace = pace;
    World::new(config)
}

fn all() -> Rule {
    rule(Direction::Out, "#", "")
}

/// Acknowledges what comes for so long, and says how many messages and bytes of PUBLISH that were.
fn receive(world: &mut World, time: Duration) -> (usize, usize) {
    let (mut messages, mut bytes) = (0, 0);
    for _ in 0..time.as_millis() / 100 {
        for seen in world.read() {
            if let Seen::Publish { pkid, raw, .. } = seen {
                (messages, bytes) = (messages + 1, bytes + raw.len());
                world.puback(pkid, ReasonCode::Success);
            }
        }
        world.pass(Duration::from_millis(100));
    }
    (messages, bytes)
}

#[test]
fn a_backlog_drains_at_the_pace_of_its_upstream_in_messages() {
    let mut world = paced(Pace { messages: 20, bytes: 0 }, vec![all(), all()]);
    for n in 0..1000 {
        world.queue(1 + n % 2, 1, "x");
    }
    world.connect(false);
    let (messages, _) = receive(&mut world, secs(10));
    assert!((198..=203).contains(&messages), "{messages} in 10 s at 20/s, and a tenth of a second at once");
}

#[test]
fn a_backlog_drains_at_the_pace_of_its_upstream_in_bytes() {
    let mut world = paced(Pace { messages: 0, bytes: 4_000 }, vec![all()]);
    for _ in 0..1000 {
        world.queue(1, 1, &"x".repeat(350));
    }
    world.connect(false);
    let (_, bytes) = receive(&mut world, secs(10));
    assert!((39_600..=40_800).contains(&bytes), "{bytes} in 10 s at 4000/s, and a tenth of a second at once");
}

#[test]
fn a_rule_with_a_pace_does_not_hold_up_another() {
    let mut rules = vec![all(), all()];
    rules[0].pace = Pace { messages: 1, bytes: 0 };
    rules[0].priority = 9;
    let mut world = paced(Pace::default(), rules);
    for n in 0..400 {
        world.queue(1 + n % 2, 1, "x");
    }
    world.connect(false);
    receive(&mut world, secs(5));
    assert_eq!(world.queues.waiting(DestId(2)), [0; 0]);
    let left = world.queues.waiting(DestId(1)).len();
    assert!((193..=195).contains(&left), "{left}");
}

#[test]
fn a_pace_holds_over_a_lost_link() {
    let mut world = paced(Pace { messages: 5, bytes: 0 }, vec![all()]);
    for _ in 0..100 {
        world.queue(1, 1, "x");
    }
    let mut sent = 0;
    for _ in 0..5 {
        world.connect(true);
        sent += world.read().len();
        world.hang_up();
    }
    // The tries are seconds apart.
    assert!(sent <= 5 * 5, "{sent}");
}

/// What the user properties of a PUBLISH say.
fn said(world: &World, seen: &Seen) -> Vec<(String, String)> {
    let Seen::Publish { raw, .. } = seen else { panic!("{seen:?}") };
    let publish = Publish::decode(world.version, &frame(raw, u32::MAX).unwrap().unwrap()).unwrap();
    publish.properties.user_properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_traced_message_says_when_it_came_and_has_a_number() {
    let mut traced = all();
    (traced.name, traced.trace) = ("telemetry".to_owned(), true);
    let mut world = World::new(config(UpstreamVersion::V5, vec![traced, all()]));
    world.connect(false);
    world.queues.number = Number::new(0xAB, 7);
    world.queues.shift = 1_753_776_000_000;
    world.queue(1, 1, "traced");
    world.queue(2, 1, "not traced");
    let seen = world.read();
    let texts = said(&world, &seen[0]);
    let expected = [("mw-time", None), ("mw-seq", Some("7")), ("mw-epoch", Some("000000ab.telemetry"))];
    assert_eq!(texts.len(), 3);
    for ((name, value), (wanted, exactly)) in texts.iter().zip(expected) {
        assert_eq!(name, wanted);
        assert!(exactly.is_none_or(|exactly| exactly == value), "{name}: {value}");
    }
    assert!(texts[0].1.starts_with("17537"), "{texts:?}");
    assert_eq!(said(&world, &seen[1]), []);
    world.queues.shift = 0;
    world.queue(1, 1, "by a clock that was never set");
    let seen = world.read();
    assert_eq!(
        said(&world, &seen[0]).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["mw-seq", "mw-epoch"]
    );
}

#[test]
fn a_topic_of_3_1_1_says_when_its_message_came_and_has_its_number() {
    let mut stamped = rule(Direction::Out, "{all#}", "up/{mw-time}.{mw-seq}/{mw-epoch}/{all}");
    (stamped.name, stamped.trace) = ("telemetry".to_owned(), true);
    let mut world = World::new(config(UpstreamVersion::V311, vec![stamped]));
    world.connect(false);
    let mut topic = |number, shift| {
        (world.queues.number, world.queues.shift) = (number, shift);
        world.queue(1, 1, "x");
        let seen = world.read();
        let Seen::Publish { topic, .. } = &seen[0] else { panic!("{seen:?}") };
        topic.clone()
    };
    let set = topic(Number::new(0xAB, 7), 1_753_776_000_000);
    assert!(set.starts_with("up/17537") && set.contains(".7/000000ab.telemetry/"), "{set}");
    let young = topic(Number::new(0xAB, 8), 0);
    assert!(young.starts_with("up/0.8/000000ab.telemetry/"), "{young}");
    let uncounted = topic(Number::default(), 1_753_776_000_000);
    assert!(uncounted.contains(".0/0/"), "{uncounted}");
}
