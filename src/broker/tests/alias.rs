//! Topic aliases, MQTT 5.0 section 3.3.2.3.4.

use crate::broker::tests::V5;
use crate::broker::tests::bench::{Bench, hello, message, qos};
use crate::mqtt::{Connect, ConnectProperties, Publish, PublishProperties, QoS};

#[test]
fn a_topic_alias_stands_for_the_topic_it_was_sent_with() {
    let mut bench = Bench::new();
    bench.connect(0, &hello(V5, "c"));
    bench.subscribe(0, V5, "a", qos(QoS::AtMostOnce), None);
    bench.sent(0, V5);
    let alias = PublishProperties { topic_alias: Some(2), ..PublishProperties::default() };
    bench.publish(0, V5, &Publish { properties: alias, ..message("a", "1", QoS::AtMostOnce, 0) });
    bench.publish(0, V5, &Publish { properties: alias, ..message("", "2", QoS::AtMostOnce, 0) });
    assert_eq!(bench.sent(0, V5), ["a=1 qos 0", "a=2 qos 0"]);
    let unknown = PublishProperties { topic_alias: Some(3), ..PublishProperties::default() };
    bench.publish(0, V5, &Publish { properties: unknown, ..message("", "3", QoS::AtMostOnce, 0) });
    assert_eq!(bench.sent(0, V5), ["disconnect ProtocolError"]);
}

fn taking<'a>(client_id: &'a str, aliases: u16, packet: Option<u32>) -> Connect<'a> {
    let properties = ConnectProperties {
        topic_alias_maximum: Some(aliases),
        maximum_packet_size: packet,
        ..hello(V5, client_id).properties
    };
    Connect { properties, ..hello(V5, client_id) }
}

#[test]
fn a_client_that_takes_aliases_gets_them_at_every_qos_and_anew_on_each_connection() {
    let mut bench = Bench::new();
    bench.connect(0, &taking("c", 1, None));
    bench.subscribe(0, V5, "long/#", qos(QoS::ExactlyOnce), Some(7));
    bench.sent(0, V5);
    bench.connect(1, &hello(V5, "pub"));
    bench.publish(1, V5, &message("long/topic", "1", QoS::AtMostOnce, 0));
    bench.publish(1, V5, &message("long/topic", "2", QoS::AtMostOnce, 0));
    bench.publish(1, V5, &message("long/other", "3", QoS::AtLeastOnce, 1));
    bench.publish(1, V5, &message("long/topic", "4", QoS::ExactlyOnce, 2));
    let expected = [
        "long/topic=1 qos 0 alias 1 ids [7]",
        "=2 qos 0 alias 1 ids [7]",
        "long/other=3 qos 1 ids [7]",
        "=4 qos 2 alias 1 ids [7]",
    ];
    assert_eq!(bench.sent(0, V5), expected);
    bench.lose(0);
    let back = bench.connect(2, &taking("c", 1, None));
    assert_eq!(back[1..], ["long/other=3 qos 1 dup alias 1 ids [7]", "long/topic=4 qos 2 dup ids [7]"]);
}

#[test]
pub(super) fn a_client_that_takes_none_gets_none_and_no_more_than_configured_are_used() {
    let mut config = crate::config::Config::default();
    config.broker.max_topic_aliases_sent = 1;
    let mut bench = Bench::with(config, crate::queue::Recovered::default());
    bench.connect(0, &hello(V5, "none"));
    bench.connect(1, &taking("many", 100, None));
    for conn in 0..2 {
        bench.subscribe(conn, V5, "#", qos(QoS::AtMostOnce), None);
        bench.sent(conn, V5);
    }
    bench.connect(2, &hello(V5, "pub"));
    for topic in ["topic/1", "topic/2", "topic/1"] {
        bench.publish(2, V5, &message(topic, "x", QoS::AtMostOnce, 0));
    }
    assert_eq!(bench.sent(0, V5), ["topic/1=x qos 0", "topic/2=x qos 0", "topic/1=x qos 0"]);
    assert_eq!(bench.sent(1, V5), ["topic/1=x qos 0 alias 1", "topic/2=x qos 0", "=x qos 0 alias 1"]);
}

#[test]
fn an_alias_is_not_told_with_a_packet_that_was_not_sent() {
    let mut bench = Bench::new();
    // "long/topic=12345" is 2 + 12 + 1 + 5 = 20 bytes without an alias and 23 with a new one.
    bench.connect(0, &taking("c", 5, Some(20)));
    bench.subscribe(0, V5, "#", qos(QoS::AtLeastOnce), None);
    bench.sent(0, V5);
    bench.connect(1, &hello(V5, "pub"));
    for payload in ["12345", "123456", "12", "1234567890"] {
        bench.publish(1, V5, &message("long/topic", payload, QoS::AtMostOnce, 0));
    }
    let expected = ["long/topic=12345 qos 0", "long/topic=12 qos 0 alias 1", "=1234567890 qos 0 alias 1"];
    assert_eq!(bench.sent(0, V5), expected, "what is too large is left out, and defines nothing");
}
