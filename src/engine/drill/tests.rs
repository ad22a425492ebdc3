use super::*;
use crate::config::WhenFull;

const DISK: Disk = Disk { page_bytes: 2048, max_bytes: 1 << 30, log_bytes: 4 << 20 };
const HOUR: Duration = Duration::from_secs(3600);

/// 10 messages a second of 100 bytes, without limits that matter.
fn rule(name: &str) -> RuleTraffic {
    RuleTraffic {
        name: name.to_owned(),
        place: 1,
        per_second: 10.0,
        qos0_per_second: 0.0,
        cost: Some(Message::FIXED_COST as f64 + 100.0),
        packet: Some(120.0),
        topics: None,
        limits: Limits { max_messages: 1_000_000, max_bytes: 1 << 40, when_full: WhenFull::DropOldest },
        ttl: Duration::ZERO,
        priority: 5,
        pace: Pace::default(),
        live_first: false,
        waiting_messages: 0,
        waiting_bytes: 0,
    }
}

fn limited(max_messages: u64, when_full: WhenFull) -> RuleTraffic {
    let limits = Limits { max_messages, max_bytes: 1 << 40, when_full };
    RuleTraffic { limits, ..rule("r") }
}

fn traffic(pace: Pace, rules: Vec<RuleTraffic>) -> Traffic {
    let upstream = UpstreamTraffic { name: "cloud".to_owned(), pace, measured: None, rules };
    Traffic {
        over: HOUR,
        upstreams: vec![upstream],
        commits: Commits { gather: Duration::from_millis(20), max_changes: 4096 },
        stored_messages: 0,
        stored_bytes: 0,
    }
}

const fn messages(messages: u64) -> Pace {
    Pace { messages, bytes: 0 }
}

/// One rule behind a link of 100 messages a second, for an hour.
fn of(rule: RuleTraffic) -> RuleForecast {
    hour(&traffic(messages(100), vec![rule])).upstreams[0].rules[0].clone()
}

fn hour(traffic: &Traffic) -> Forecast {
    predict(traffic, DISK, HOUR)
}

#[track_caller]
fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() <= 0.003 * expected, "{found} and not {expected}");
}

#[test]
fn what_has_room_is_kept_and_delivered() {
    let found = of(rule("r"));
    assert_eq!((found.waiting_messages, found.delivered, found.evicted, found.refused), (36_000, 36_000, 0, 0));
    assert_eq!((found.full_after_seconds, found.full_by, found.sent_bytes), (None, None, 36_000 * 120));
    // A tenth of a second's worth goes at once, the rest at 100 a second while 10 come in.
    near(found.drain_seconds, 35_990.0 / 90.0);
}

#[test]
fn a_limit_by_messages_evicts_by_the_policy_of_the_rule() {
    for (policy, evicted, refused) in
        [(WhenFull::DropOldest, 26_000, 0), (WhenFull::DropNewest, 26_000, 0), (WhenFull::Reject, 0, 26_000)]
    {
        let found = of(limited(10_000, policy));
        assert_eq!(
            (found.evicted, found.refused, found.waiting_messages),
            (evicted, refused, 10_000),
            "{policy:?}"
        );
        assert_eq!(found.full_by.as_deref(), Some("messages"));
        near(found.full_after_seconds, 1_000.0);
    }
}

#[test]
fn a_limit_by_bytes_counts_whole_messages_and_what_waits_already() {
    let cost = Message::FIXED_COST as u64 + 100;
    let mut rule = rule("r");
    rule.limits.max_bytes = 1_000 * cost + cost / 2;
    (rule.waiting_messages, rule.waiting_bytes) = (400, 400 * cost);
    let found = of(rule);
    assert_eq!((found.evicted, found.waiting_messages, found.waiting_bytes), (35_400, 1_000, 1_000 * cost));
    assert_eq!(found.full_by.as_deref(), Some("bytes"));
    near(found.full_after_seconds, 60.0);
}

#[test]
fn keep_last_keeps_one_of_each_topic_and_is_full_only_with_more_topics_than_room() {
    let keeps = |topics, room| of(RuleTraffic { topics: Some(topics), ..limited(room, WhenFull::KeepLast) });
    let found = keeps(50.0, 1_000);
    assert_eq!((found.waiting_messages, found.evicted, found.full_after_seconds), (50, 35_950, None));
    let found = keeps(5_000.0, 1_000);
    assert_eq!((found.waiting_messages, found.evicted), (1_000, 35_000));
    near(found.full_after_seconds, 100.0);
}

#[test]
fn what_is_too_old_when_the_link_is_back_expires() {
    let aging = |rule: RuleTraffic| of(RuleTraffic { ttl: Duration::from_secs(600), ..rule });
    // Of an hour, the last ten minutes are young enough.
    let found = aging(rule("r"));
    assert!(found.expired.abs_diff(30_000) <= 50 && found.delivered.abs_diff(6_000) <= 50, "{found:?}");
    assert_eq!(found.sent_bytes, found.delivered * 120);
    // The oldest gave way already.
    let found = aging(limited(5_000, WhenFull::DropOldest));
    assert_eq!((found.evicted, found.expired, found.delivered), (31_000, 0, 5_000));
    // The newest gave way: all that is left is old.
    let found = aging(limited(5_000, WhenFull::DropNewest));
    assert_eq!((found.evicted, found.expired, found.delivered), (31_000, 5_000, 0));
    near(found.drain_seconds, 0.0);
}

#[test]
fn qos_0_is_lost_while_the_link_is_away() {
    let found = of(RuleTraffic { per_second: 0.0, qos0_per_second: 2.0, ..rule("r") });
    assert_eq!((found.qos0_lost, found.waiting_messages, found.evicted), (7_200, 0, 0));
    near(found.drain_seconds, 0.0);
}

#[test]
fn the_tighter_pace_counts_and_who_goes_before_the_backlog_does_not_slow_it() {
    let paced = |pace, live_first| of(RuleTraffic { pace, live_first, ..rule("r") });
    near(paced(messages(50), false).drain_seconds, 35_995.0 / 40.0);
    near(paced(messages(50), true).drain_seconds, 35_995.0 / 50.0);
    // 2 400 bytes are 20 packets.
    near(paced(Pace { messages: 50, bytes: 2_400 }, false).drain_seconds, 35_998.0 / 10.0);
    let found = paced(messages(8), false);
    assert_eq!((found.drain_seconds, found.never_drained), (None, true), "more comes in than goes");
}

#[test]
fn the_rate_that_was_measured_counts_where_there_is_no_pace() {
    let mut traffic = traffic(Pace::default(), vec![rule("r")]);
    let unknown = &hour(&traffic).upstreams[0];
    assert_eq!(
        (unknown.drain_seconds, unknown.drain_per_second, unknown.drain_from.as_str()),
        (None, None, "unknown")
    );
    assert!(!unknown.rules[0].never_drained);
    traffic.upstreams[0].measured = Some(1_010.0);
    let found = &hour(&traffic).upstreams[0];
    assert_eq!(found.drain_from, "measured");
    near(found.drain_seconds, 36.0);
    near(found.drain_per_second, 1_010.0);
}

#[test]
fn the_higher_priority_is_done_first_and_equals_together() {
    let with = |name: &str, priority| RuleTraffic { priority, ..rule(name) };
    let rules = vec![with("low", 1), with("high", 9), with("high too", 9)];
    let found = hour(&traffic(messages(130), rules)).upstreams.remove(0);
    let seconds: Vec<Option<f64>> = found.rules.iter().map(|rule| rule.drain_seconds).collect();
    // 130 a second for two queues that grow by 10 each.
    let high = (72_000.0 - 13.0) / 110.0;
    near(seconds[1], high);
    near(seconds[2], high);
    // What came in meanwhile waits too; then 20 of the 130 go to the others.
    near(seconds[0], high + (36_000.0 + 10.0 * high) / 100.0);
    near(found.drain_seconds, seconds[0].unwrap());
}

#[test]
fn a_full_queue_goes_on_losing_until_those_before_it_are_gone() {
    let old = rule("old");
    let full = limited(100, WhenFull::DropOldest);
    let found = hour(&traffic(messages(100), vec![old, full])).upstreams.remove(0);
    // The other has an hour of older messages: with 20 a second coming in, all is level after some 400 seconds.
    let late = found.rules[1].evicted - 35_900;
    assert!((3_500..4_100).contains(&late), "{late}");
    assert_eq!(found.rules[1].delivered, 0, "what waited at the end gave way");
}

#[test]
fn a_rule_behind_others_ages_meanwhile() {
    let high = RuleTraffic { priority: 9, ..rule("high") };
    let low = RuleTraffic { priority: 1, ttl: Duration::from_secs(4_000), ..rule("low") };
    let found = hour(&traffic(messages(40), vec![high, low])).upstreams.remove(0);
    let high = (36_000.0 - 4.0) / 30.0;
    near(found.rules[0].drain_seconds, high);
    // An hour and these twenty minutes: the oldest 800 seconds are too old by then.
    let expired = whole(10.0 * (3_600.0 + high - 4_000.0));
    assert!(found.rules[1].expired.abs_diff(expired) <= 50, "{} and not {expired}", found.rules[1].expired);
}

#[test]
fn rules_share_the_store_and_when_it_is_full_publishers_are_told() {
    let small = RuleTraffic { priority: 9, ..limited(1_000, WhenFull::DropOldest) };
    let big = RuleTraffic { name: "big".to_owned(), per_second: 20.0, ..rule("big") };
    let row = flash::row_bytes(100.0, Duration::ZERO, DISK);
    // The small rule stops growing at 1 000; the other has the rest.
    let disk = Disk { max_bytes: whole(row * 21_000.0), ..DISK };
    let traffic = traffic(messages(100), vec![small, big]);
    let found = predict(&traffic, disk, HOUR);
    assert!((found.store.full_after_seconds.unwrap() - 1_000.0).abs() < 0.1, "{:?}", found.store);
    let [small, big] = found.upstreams[0].rules.as_slice() else { panic!("{found:?}") };
    assert_eq!((small.evicted, small.refused, small.full_by.as_deref()), (9_000, 26_000, Some("messages")));
    assert_eq!((big.evicted, big.full_by.as_deref()), (0, Some("store")));
    assert!(big.refused.abs_diff(52_000) <= 3 && big.waiting_messages.abs_diff(20_000) <= 3, "{big:?}");
    assert_eq!(predict(&traffic, DISK, HOUR).store.full_after_seconds, None);
    // What waits already takes room too.
    let waits =
        Traffic { stored_messages: 21_000, stored_bytes: 21_000 * (Message::FIXED_COST as u64 + 100), ..traffic };
    assert!(predict(&waits, disk, HOUR).store.full_after_seconds.unwrap() < 0.1);
}

#[test]
fn the_store_writes_more_with_small_batches_and_nothing_without_traffic() {
    let with = |gather: u64, per_second: f64| {
        let mut traffic = traffic(messages(1_000), vec![RuleTraffic { per_second, ..rule("r") }]);
        traffic.commits.gather = Duration::from_millis(gather);
        hour(&traffic).store.written_bytes
    };
    assert_eq!(with(20, 0.0), 0);
    let (each, gathered) = (with(0, 10.0) / 36_000, with(1_000, 10.0) / 36_000);
    assert!(each > 4 * 1_024 && gathered < each / 3, "{each} {gathered}");
}

#[test]
fn no_traffic_no_rules_and_the_longest_outage_are_figures_too() {
    let nothing = Traffic { upstreams: Vec::new(), over: Duration::ZERO, ..traffic(messages(1), Vec::new()) };
    assert_eq!(hour(&nothing).store.written_bytes, 0);
    let silent = RuleTraffic { per_second: 0.0, cost: None, packet: None, ..rule("r") };
    let found = of(silent);
    assert_eq!((found.waiting_messages, found.full_after_seconds), (0, None));
    let forever = predict(&traffic(Pace::default(), vec![rule("r")]), DISK, Duration::MAX);
    assert_eq!(forever.upstreams[0].rules[0].full_by.as_deref(), Some("messages"));
    let text = serde_json::to_string(&forever).unwrap();
    assert_eq!(serde_json::from_str::<Forecast>(&text).unwrap().upstreams[0].rules[0].waiting_messages, 1_000_000);
}
