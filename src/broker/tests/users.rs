//! Sessions and the users they belong to.

use super::*;

/// A stored session of `c` that has a message waiting, as `user` left it.
fn left_by(user: Option<&str>) -> Bench {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    bench.subscribe(0, V5, "a", qos(QoS::AtLeastOnce), None);
    let session = bench.broker.by_client["c"];
    bench.broker.sessions[session as usize].user = user.map(Into::into);
    bench.lose(0);
    bench.connect(1, &hello(V5, "p"));
    bench.publish(1, V5, &message("a", "secret", QoS::AtLeastOnce, 1));
    bench
}

#[test]
fn a_session_is_kept_for_its_user_and_starts_anew_for_any_other() {
    let mut bench = left_by(None);
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack Success present true", "a=secret qos 1"]);

    let mut bench = left_by(Some("ann"));
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack Success present false"], "it was that of ann");
    assert_eq!(bench.broker.stats().dropped_for_other_user, 1);
    assert_eq!(bench.broker.subscriptions(), 0);
    assert_eq!(bench.broker.sessions(), 2);
}

#[test]
fn the_user_of_a_stored_session_is_known_after_a_restart() {
    let mut bench = left_by(Some("ann")).restart();
    assert_eq!(bench.connect(2, &hello(V5, "c")), ["connack Success present false"]);
}

#[test]
fn a_user_that_is_connected_loses_the_session_to_another_that_takes_the_client_id() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    let session = bench.broker.by_client["c"];
    bench.broker.sessions[session as usize].user = Some("ann".into());
    assert_eq!(bench.connect(1, &hello(V5, "c")), ["connack Success present false"]);
    assert_eq!(bench.sent(0, V5), ["disconnect SessionTakenOver"]);
    let now = bench.now();
    let (_, present) = bench.broker.local_open(now, &mut bench.queues, "c", None, false).unwrap();
    assert!(present, "both are anonymous");
}
