//! `$SYS/broker/...`: current values at once, changes at the interval, nothing when nobody listens.

use std::collections::BTreeMap;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn bench() -> Bench {
    let mut config = Config::default();
    config.broker.sys_interval = INTERVAL;
    let mut bench = Bench::with(config, Recovered::default());
    bench.connect(0, &hello(V5, "watcher"));
    bench
}

impl Bench {
    fn watch(&mut self, filter: &str) -> BTreeMap<String, String> {
        self.subscribe(0, V5, filter, qos(QoS::ExactlyOnce), None);
        self.values(true)
    }

    /// What came below `$SYS`, at QoS 0.
    fn values(&mut self, retained: bool) -> BTreeMap<String, String> {
        let sent = self.sent(0, V5);
        let end = if retained { " qos 0 retained" } else { " qos 0" };
        let ours = sent.iter().filter_map(|packet| packet.strip_prefix("$SYS/broker/"));
        let pair = |value: &str| {
            let value = value.strip_suffix(end).unwrap_or_else(|| panic!("{value}"));
            let (name, value) = value.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        ours.map(pair).collect()
    }

    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.settle();
        }
    }
}

#[test]
fn a_new_subscriber_gets_the_present_values_as_retained() {
    let mut bench = bench();
    bench.pass(Duration::from_secs(100));
    let values = bench.watch("$SYS/#");
    assert_eq!(values["clients/connected"], "1");
    assert_eq!(values["messages/received"], "2");
    assert_eq!(values["subscriptions/count"], "1");
    assert_eq!(values["load/connections/1min"], "0.48", "one within 102 seconds, as an even rate");
    let uptime: u64 = values["uptime"].strip_suffix(" seconds").unwrap().parse().unwrap();
    assert!((100..110).contains(&uptime), "{uptime}");
    assert_eq!(bench.broker.retained(), (0, 0), "not counted as those of clients");
    assert_eq!(bench.appended, 0);
    // Only what the filter names, and nothing for wildcards at the first level [MQTT-4.7.2-1].
    assert_eq!(bench.watch("$SYS/broker/clients/+").len(), 7);
    assert_eq!(bench.watch("+/broker/uptime").len(), 0);
    assert_eq!(bench.watch("#").len(), 0);
}

#[test]
fn only_what_changed_is_sent_at_the_interval() {
    let mut bench = bench();
    bench.watch("$SYS/broker/clients/#");
    bench.pass(3 * INTERVAL);
    assert_eq!(bench.values(false), BTreeMap::new());
    bench.connect(1, &hello(V5, "other"));
    bench.pass(INTERVAL);
    let changed = bench.values(false);
    assert_eq!(
        changed.keys().collect::<Vec<_>>(),
        ["clients/active", "clients/connected", "clients/maximum", "clients/total"]
    );
    bench.lose(1);
    bench.pass(INTERVAL);
    assert_eq!(bench.values(false)["clients/disconnected"], "1");
}

#[test]
fn nobody_is_woken_when_nobody_listens() {
    let mut bench = bench();
    let wakes = |bench: &Bench| bench.broker.timers.len();
    bench.pass(2 * INTERVAL);
    let idle = wakes(&bench);
    bench.watch("$SYS/#");
    assert_eq!(wakes(&bench), idle + 1);
    bench.pass(2 * INTERVAL);
    assert!(!bench.values(false).is_empty());
    let filters = ["$SYS/#"];
    let filters = filters.as_slice().into();
    bench.send(0, &Packet::Unsubscribe(mqtt::Unsubscribe { pkid: 1, properties: Default::default(), filters }), V5);
    bench.pass(2 * INTERVAL);
    assert_eq!(wakes(&bench), idle);
    assert!(bench.broker.sys.values_are_dropped());
}

#[test]
fn clients_may_not_publish_there() {
    let mut bench = bench();
    let publish = |topic, qos, pkid| Publish { topic, retain: true, ..message("", "x", qos, pkid) };
    bench.publish(0, V5, &publish("$SYS/broker/uptime", QoS::AtLeastOnce, 1));
    assert_eq!(bench.sent(0, V5), ["puback 1 NotAuthorized"]);
    bench.publish(0, V5, &publish("$SYS/mine", QoS::AtMostOnce, 0));
    assert_eq!(bench.broker.retained().0, 0);
}

#[test]
fn drops_are_counted_by_limit_and_in_all() {
    let mut config = Config::default();
    config.broker.max_queued_messages = 1;
    config.broker.max_topic_levels = 6;
    let mut bench = Bench::with(config, Recovered::default());
    bench.connect(1, &hello(V5, "away"));
    bench.subscribe(1, V5, "t", qos(QoS::AtLeastOnce), None);
    bench.lose(1);
    bench.connect(0, &hello(V5, "watcher"));
    for pkid in [1, 2, 3] {
        bench.publish(0, V5, &message("t", "x", QoS::AtLeastOnce, pkid));
    }
    bench.publish(0, V5, &message("1/2/3/4/5/6/7", "x", QoS::AtMostOnce, 0));
    bench.sent(0, V5);
    // One at a time: what is retained goes through the watcher's queue, too.
    let value = |bench: &mut Bench, name: &str| bench.watch(&format!("$SYS/broker/{name}"))[name].clone();
    assert_eq!(value(&mut bench, "publish/messages/dropped"), "2");
    assert_eq!(value(&mut bench, "messages/stored"), "1");
    assert_eq!(value(&mut bench, "moteway/limits/broker/max_topic_levels"), "1");
    // A session that ends takes nothing out of the sum.
    bench.connect(2, &Connect { clean_start: true, ..hello(V5, "away") });
    bench.pass(2 * INTERVAL);
    bench.sent(0, V5);
    assert_eq!(value(&mut bench, "publish/messages/dropped"), "2");
    assert_eq!(value(&mut bench, "messages/stored"), "0");
}
