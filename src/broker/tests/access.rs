//! Who may do what, as clients see it: rules, packets in, packets out.

use super::*;
use crate::broker::acl::Acl;
use crate::broker::local::LocalPublish;
use crate::config::UpstreamId;
use crate::queue::{Outcome, Refusal, Token};

const V311: Version = Version::V311;

/// Everyone may publish below `pub` and read below `sub`; ann may do anything but publish to `locked`.
const RULES: &str = "
    [[acl]]
    publish = ['pub/#', 'own/{client_id}/#']
    subscribe = ['sub/#', 'own/{client_id}/#', 'pub/#']
    read = ['sub/#', 'own/{client_id}/#']
    [[acl]]
    user = 'ann'
    publish = '#'
    subscribe = '#'
    deny_publish = 'locked'
";

fn config(rules: &str) -> Config {
    Config::parse(rules).unwrap_or_else(|error| panic!("{error}"))
}

fn bench(rules: &str) -> Bench {
    Bench::with(config(rules), Recovered::default())
}

fn connect(bench: &mut Bench, conn: u32, client_id: &str, version: Version) {
    assert_eq!(bench.connect(conn, &hello(version, client_id)), ["connack Success present false"]);
}

/// The client's session becomes that of a user, as if the name had been proved at CONNECT.
fn prove(bench: &mut Bench, client_id: &str, user: &str) {
    let session = bench.broker.by_client[client_id];
    bench.broker.sessions[session as usize].user = Some(user.into());
    bench.broker.grant(session);
    bench.broker.routes.forget_all();
}

fn set_rules(bench: &mut Bench, rules: &str) {
    let acl = Acl::new(&config(rules), 1);
    bench.broker.set_acl(&bench.queues, acl);
}

fn subscribe(bench: &mut Bench, conn: u32, version: Version, filter: &str) -> Vec<String> {
    bench.sent(conn, version);
    bench.subscribe(conn, version, filter, qos(QoS::AtLeastOnce), None);
    bench.sent(conn, version)
}

fn publish(bench: &mut Bench, conn: u32, version: Version, topic: &'static str, qos: QoS) -> Vec<String> {
    bench.sent(conn, version);
    bench.publish(conn, version, &message(topic, "x", qos, if qos == QoS::AtMostOnce { 0 } else { 7 }));
    bench.sent(conn, version)
}

#[test]
fn without_rules_everything_is_allowed() {
    let mut bench = bench("");
    connect(&mut bench, 0, "c", V5);
    assert_eq!(subscribe(&mut bench, 0, V5, "#"), ["suback [1]"]);
    assert_eq!(publish(&mut bench, 0, V5, "x", QoS::AtLeastOnce), ["x=x qos 1", "puback 7 Success"]);
}

#[test]
fn a_publish_without_right_is_refused_counted_and_goes_to_nobody() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "ann", V5);
    prove(&mut bench, "ann", "ann");
    subscribe(&mut bench, 0, V5, "#");
    connect(&mut bench, 1, "c", V5);
    connect(&mut bench, 2, "d", V311);
    for (topic, reason) in [("pub/x", "Success"), ("sub/x", "NotAuthorized"), ("own/d", "NotAuthorized")] {
        // Twice: the second answer is remembered.
        for _ in 0..2 {
            assert_eq!(publish(&mut bench, 1, V5, topic, QoS::AtLeastOnce), [format!("puback 7 {reason}")]);
        }
    }
    assert_eq!(publish(&mut bench, 1, V5, "sub/x", QoS::ExactlyOnce), ["pubrec 7 NotAuthorized"]);
    assert!(publish(&mut bench, 1, V5, "sub/x", QoS::AtMostOnce).is_empty());
    // 3.1.1 cannot say no: what is acknowledged and dropped is counted.
    assert_eq!(publish(&mut bench, 2, V311, "sub/x", QoS::AtLeastOnce), ["puback 7 Success"]);
    assert_eq!(publish(&mut bench, 2, V311, "own/d/1", QoS::AtLeastOnce), ["puback 7 Success"]);
    assert_eq!(publish(&mut bench, 0, V5, "locked", QoS::AtLeastOnce), ["puback 7 NotAuthorized"]);
    assert_eq!(bench.broker.stats().publish_denied, 8);
    assert_eq!(bench.broker.stats().publish_refused, 0);
    bench.sent(0, V5);
    assert_eq!(publish(&mut bench, 0, V5, "sub/x", QoS::AtLeastOnce), ["sub/x=x qos 1", "puback 7 Success"]);
}

#[test]
fn what_was_denied_is_told_once_in_a_burst() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "c", V5);
    let told = |bench: &mut Bench, topic: &'static str| {
        bench.notices.clear();
        publish(bench, 0, V5, topic, QoS::AtMostOnce);
        bench.notices.iter().filter(|notice| notice.what == "publish not allowed").count()
    };
    assert_eq!(told(&mut bench, "sub/x"), 1);
    assert_eq!((told(&mut bench, "sub/x"), told(&mut bench, "sub/y")), (0, 0));
    bench.millis += 60_000;
    assert_eq!(told(&mut bench, "sub/x"), 1);
    assert_eq!(bench.broker.stats().publish_denied, 4);
}

#[test]
fn each_filter_of_a_subscription_is_judged_by_all_that_it_matches() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "c", V5);
    connect(&mut bench, 1, "d", V311);
    for (filter, code) in
        [("sub/+", 1), ("$share/g/sub/#", 1), ("own/c/#", 1), ("own/d", 0x87), ("own/+", 0x87), ("#", 0x87)]
    {
        assert_eq!(subscribe(&mut bench, 0, V5, filter), [format!("suback [{code}]")], "{filter}");
    }
    assert_eq!(subscribe(&mut bench, 1, V311, "+/x"), ["suback [128]"]);
    assert_eq!(bench.broker.stats().subscribe_denied, 4);
    assert_eq!(bench.broker.subscriptions(), 3);
}

#[test]
fn what_may_be_subscribed_to_but_not_read_is_not_delivered() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "c", V5);
    assert_eq!(subscribe(&mut bench, 0, V5, "pub/#"), ["suback [1]"]);
    connect(&mut bench, 1, "p", V5);
    assert_eq!(publish(&mut bench, 1, V5, "pub/x", QoS::AtLeastOnce), ["puback 7 NoMatchingSubscribers"]);
    assert!(publish(&mut bench, 1, V5, "pub/x", QoS::AtMostOnce).is_empty());
    assert!(bench.sent(0, V5).is_empty());
    assert_eq!(bench.broker.stats().delivery_denied, 2);
}

#[test]
fn overlapping_subscriptions_give_no_more_than_may_be_read() {
    let mut bench = bench(
        "
        [[acl]]
        publish = '#'
        subscribe = '#'
        read = 'a/#'
    ",
    );
    connect(&mut bench, 0, "c", V5);
    for filter in ["#", "+/x", "b/x"] {
        subscribe(&mut bench, 0, V5, filter);
    }
    connect(&mut bench, 1, "p", V5);
    publish(&mut bench, 1, V5, "b/x", QoS::AtLeastOnce);
    assert!(bench.sent(0, V5).is_empty());
    assert_eq!(bench.broker.stats().delivery_denied, 1, "one session, however it asked");
    publish(&mut bench, 1, V5, "a/x", QoS::AtLeastOnce);
    assert_eq!(bench.sent(0, V5), ["a/x=x qos 1"]);
}

#[test]
fn retained_messages_are_for_those_who_may_read_them() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "ann", V5);
    prove(&mut bench, "ann", "ann");
    for topic in ["pub/x", "sub/x"] {
        bench.publish(0, V5, &Publish { retain: true, ..message(topic, "1", QoS::AtLeastOnce, 1) });
    }
    connect(&mut bench, 1, "c", V5);
    assert_eq!(subscribe(&mut bench, 1, V5, "pub/#"), ["suback [1]"]);
    assert_eq!(bench.broker.stats().delivery_denied, 1);
    assert_eq!(subscribe(&mut bench, 1, V5, "sub/#"), ["sub/x=1 qos 1 retained", "suback [1]"]);
    // Retaining is publishing.
    bench.publish(1, V5, &Publish { retain: true, ..message("sub/x", "", QoS::AtLeastOnce, 1) });
    assert_eq!(bench.broker.retained().0, 2);
}

#[test]
fn only_members_that_may_read_a_topic_get_it_in_a_shared_subscription() {
    let mut bench = bench(
        "
        [[acl]]
        publish = '#'
        subscribe = '#'
        read = 'own/{client_id}'
        [[acl]]
        client_id = 'a*'
        read = '#'
    ",
    );
    for (conn, id) in [(0, "a1"), (1, "b"), (2, "a2"), (3, "p")] {
        connect(&mut bench, conn, id, V5);
    }
    for conn in 0..3 {
        assert_eq!(subscribe(&mut bench, conn, V5, "$share/g/#"), ["suback [1]"]);
    }
    for _ in 0..4 {
        publish(&mut bench, 3, V5, "t", QoS::AtMostOnce);
    }
    let got = [0, 1, 2].map(|conn| bench.sent(conn, V5).len());
    assert_eq!(got, [2, 0, 2]);
    set_rules(&mut bench, "[[acl]]\npublish = '#'");
    assert_eq!(publish(&mut bench, 3, V5, "t", QoS::AtLeastOnce), ["puback 7 NoMatchingSubscribers"]);
}

#[test]
fn a_will_needs_the_right_to_publish_at_connect_and_when_it_goes_out() {
    let rules = "[[acl]]\npublish = 'will'\nsubscribe = '#'\n";
    let mut bench = bench(rules);
    connect(&mut bench, 0, "watch", V5);
    subscribe(&mut bench, 0, V5, "#");
    assert_eq!(bench.connect(1, &with_will("c", 0)), ["connack Success present false"]);
    bench.lose(1);
    assert_eq!(bench.sent(0, V5), ["will=gone qos 0"]);

    assert_eq!(bench.connect(2, &with_will("d", 0)), ["connack Success present false"]);
    set_rules(&mut bench, "[[acl]]\nsubscribe = '#'\n");
    bench.lose(2);
    assert!(bench.sent(0, V5).is_empty());
    assert_eq!(bench.broker.stats().publish_denied, 1);

    assert_eq!(bench.connect(3, &with_will("e", 0)), ["connack NotAuthorized present false"]);
    assert_eq!(bench.closed.last(), Some(&ConnId(3)));
    let old = Connect { properties: ConnectProperties::default(), version: V311, ..with_will("f", 0) };
    assert_eq!(bench.connect(4, &old), ["connack NotAuthorized present false"]);
    assert_eq!(bench.broker.stats().publish_denied, 3);
}

#[test]
fn new_rules_hold_at_once_for_subscriptions_and_for_what_waits() {
    let all = "[[acl]]\npublish = '#'\nsubscribe = '#'\n";
    let mut bench = bench(all);
    connect(&mut bench, 0, "c", V5);
    subscribe(&mut bench, 0, V5, "#");
    bench.lose(0);
    connect(&mut bench, 1, "p", V5);
    for topic in ["secret/1", "news/1", "secret/2", "news/2"] {
        publish(&mut bench, 1, V5, topic, QoS::AtLeastOnce);
    }
    set_rules(&mut bench, "[[acl]]\npublish = 'news/#'\nsubscribe = 'news/#'\n");
    let got = bench.connect(2, &hello(V5, "c"));
    assert_eq!(got, ["connack Success present true", "news/1=x qos 1", "news/2=x qos 1"]);
    assert_eq!(bench.broker.stats().delivery_denied, 2);
    let dest = bench.broker.line_of(bench.broker.by_client["c"]).unwrap();
    assert_eq!(bench.queues.stats(dest).denied, 2, "dropped, not delivered");
    assert_eq!(publish(&mut bench, 1, V5, "secret/3", QoS::AtLeastOnce), ["puback 7 NotAuthorized"]);
    set_rules(&mut bench, "");
    publish(&mut bench, 1, V5, "secret/3", QoS::AtLeastOnce);
    assert_eq!(bench.sent(2, V5), ["secret/3=x qos 1"]);
}

#[test]
fn a_message_that_was_sent_with_qos_2_is_finished_under_new_rules() {
    let mut bench = bench("[[acl]]\npublish = '#'\nsubscribe = '#'\n");
    connect(&mut bench, 0, "c", V5);
    bench.subscribe(0, V5, "#", qos(QoS::ExactlyOnce), None);
    connect(&mut bench, 1, "p", V5);
    bench.sent(0, V5);
    bench.publish(1, V5, &message("secret", "x", QoS::ExactlyOnce, 1));
    assert_eq!(bench.sent(0, V5), ["secret=x qos 2"]);
    bench.lose(0);
    set_rules(&mut bench, "[[acl]]\npublish = 'news'\n");
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack Success present true", "secret=x qos 2 dup"]);
}

#[test]
fn a_stored_session_has_the_rights_of_its_user_after_a_restart() {
    let mut bench = bench(RULES);
    connect(&mut bench, 0, "c", V5);
    prove(&mut bench, "c", "ann");
    assert_eq!(subscribe(&mut bench, 0, V5, "#"), ["suback [1]"]);
    bench.lose(0);
    connect(&mut bench, 1, "p", V5);
    prove(&mut bench, "p", "ann");
    for topic in ["gone", "kept"] {
        publish(&mut bench, 1, V5, topic, QoS::AtLeastOnce);
    }
    // What was queued under other rules than those of now is asked about again.
    let mut bench = bench.restart_as(&config(&format!("{RULES}\ndeny_read = 'gone'\n")), 0);
    let session = bench.broker.by_client["c"];
    let dest = bench.broker.line_of(session).unwrap();
    bench.queues.activate(dest);
    bench.settle();
    let now = bench.now();
    let next = bench.broker.next_readable(now, &mut bench.queues, session, dest).unwrap();
    assert_eq!(next.message.topic(), "kept");
    assert_eq!(bench.broker.stats().delivery_denied, 1);
    assert_eq!(bench.queues.depth(dest).messages, 1);

    assert_eq!(bench.connect(1, &hello(V5, "p2")), ["connack Success present false"]);
    prove(&mut bench, "p2", "ann");
    publish(&mut bench, 1, V5, "gone", QoS::AtLeastOnce);
    assert_eq!((bench.queues.depth(dest).messages, bench.broker.stats().delivery_denied), (1, 2));
    publish(&mut bench, 1, V5, "kept", QoS::AtLeastOnce);
    assert_eq!(bench.queues.depth(dest).messages, 2);
}

#[test]
fn clients_of_the_gateway_obey_the_same_rules() {
    let mut bench = bench(RULES);
    let now = bench.now();
    let (session, _) = bench.broker.local_open(now, &mut bench.queues, "node", None, false).unwrap();
    let publish = |topic: &'static str| LocalPublish {
        topic,
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: false,
        receipt: None,
    };
    let denied = Outcome::Refused(Refusal::NotAuthorised);
    let mut sent =
        |session, topic| bench.broker.local_publish(now, &mut bench.queues, session, publish(topic), Token(1));
    assert_eq!([sent(Some(session), "own/node/1"), sent(Some(session), "own/other")], [Outcome::Done, denied]);
    // A node that never connects is nobody.
    assert_eq!([sent(None, "pub/1"), sent(None, "own/node/1")], [Outcome::Done, denied]);
    let mut subscribed = |filter: &str| {
        bench.broker.local_subscribe(now, &mut bench.queues, session, filter, QoS::AtLeastOnce, Token(2))
    };
    assert_ne!(subscribed("own/node/#"), denied);
    assert_eq!([subscribed("own/#"), subscribed("locked")], [denied, denied]);
    let will = |topic: &str| Will {
        topic: topic.to_owned(),
        payload: Vec::new(),
        qos: 0,
        retain: false,
        delay: 0,
        expiry: None,
        properties: Vec::new(),
    };
    let mut set_will =
        |topic| bench.broker.local_set_will(now, &mut bench.queues, session, Some(will(topic)), Token(3));
    assert_eq!(set_will("locked"), denied);
    assert_ne!(set_will("pub/gone"), denied);
    assert_eq!((bench.broker.stats().publish_denied, bench.broker.stats().subscribe_denied), (3, 2));
}

#[test]
fn what_comes_from_an_upstream_and_what_the_gateway_says_needs_no_right() {
    let mut bench = bench("[[acl]]\nsubscribe = ['#', '$SYS/#']\n");
    connect(&mut bench, 0, "c", V5);
    subscribe(&mut bench, 0, V5, "#");
    let now = bench.now();
    let parts = mqtt::MessageParts {
        topic: "in",
        properties: &[],
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: false,
        received_at: now.wall,
        expires_at: None,
    };
    let upstream = UpstreamId(0);
    bench.broker.publish_from_upstream(now, &mut bench.queues, upstream, &parts, None, Token(1));
    bench.broker.publish_own(now, &mut bench.queues, "moteway/state", b"on", false);
    bench.settle();
    assert_eq!(bench.sent(0, V5), ["in=x qos 0", "moteway/state=on qos 1"]);
}
