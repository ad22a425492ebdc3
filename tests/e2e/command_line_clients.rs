//! mosquitto's own clients, in all three versions of the protocol.

use std::net::SocketAddr;

use crate::harness::gateway::Gateway;
use crate::harness::tools::{self, MARK, messages};

const VERSIONS: [&str; 3] = ["31", "311", "5"];

#[test]
fn mosquitto_clients_exchange_messages_at_all_levels_in_all_versions() {
    let gateway = Gateway::start("");
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("room/{version}/{qos}");
            let args = ["-V", version, "-t", &topic, "-q", qos, "-C", "3"];
            let mut subscriber = tools::subscribe(gateway.address(), "%t %q %r %p", &args);
            for text in ["one", "two", "three"] {
                tools::publish(gateway.address(), &["-V", version, "-t", &topic, "-q", qos, "-m", text]);
            }
            assert!(subscriber.wait().success());
            let wanted = ["one", "two", "three"].map(|text| format!("{topic} {qos} 0 {text}"));
            assert_eq!(messages(&subscriber), wanted, "version {version}, QoS {qos}");
        }
    }
}

#[test]
fn mosquitto_clients_of_different_versions_meet() {
    let gateway = Gateway::start("");
    for subscriber_version in VERSIONS {
        for publisher_version in VERSIONS {
            let args = ["-V", subscriber_version, "-t", "m/#", "-q", "2", "-C", "1"];
            let mut subscriber = tools::subscribe(gateway.address(), "%t %p", &args);
            tools::publish(gateway.address(), &["-V", publisher_version, "-t", "m/é", "-q", "1", "-m", "grüß"]);
            assert!(subscriber.wait().success());
            assert_eq!(messages(&subscriber), ["m/é grüß"], "{publisher_version} to {subscriber_version}");
        }
    }
}

#[test]
fn mosquitto_clients_find_a_retained_message_until_it_is_cleared() {
    let gateway = Gateway::start("");
    for version in VERSIONS {
        let topic = format!("retained/{version}");
        tools::publish(gateway.address(), &["-V", version, "-t", &topic, "-q", "1", "-r", "-m", "kept"]);
        let args = ["-V", version, "-t", "retained/+", "-q", "1", "-C", "1"];
        let mut subscriber = tools::subscribe(gateway.address(), "%t %r %p", &args);
        assert!(subscriber.wait().success());
        assert_eq!(messages(&subscriber), [format!("{topic} 1 kept")]);

        tools::publish(gateway.address(), &["-V", version, "-t", &topic, "-q", "1", "-r", "-n"]);
        let args = ["-V", version, "-t", "retained/+", "-t", "marker", "-q", "1", "-C", "1"];
        let mut subscriber = tools::subscribe(gateway.address(), "%t %r %p", &args);
        tools::publish(gateway.address(), &["-V", version, "-t", "marker", "-q", "1", "-m", "end"]);
        assert!(subscriber.wait().success());
        assert_eq!(messages(&subscriber), ["marker 0 end"], "version {version}: it was cleared");
    }
}

#[test]
fn a_mosquitto_client_that_is_killed_leaves_its_will() {
    let gateway = Gateway::start("");
    for version in VERSIONS {
        let topic = format!("will/{version}");
        let args = ["-V", version, "-t", &topic, "-q", "1", "-C", "1"];
        let mut witness = tools::subscribe(gateway.address(), "%t %p", &args);
        let doomed =
            ["-V", version, "-t", "x", "--will-topic", &topic, "--will-payload", "gone", "--will-qos", "1"];
        tools::subscribe(gateway.address(), "%p", &doomed).kill();
        assert!(witness.wait().success());
        assert_eq!(messages(&witness), [format!("{topic} gone")]);
    }
}

#[test]
fn a_mosquitto_session_and_its_messages_survive_kill_9_of_the_gateway() {
    let mut gateway = Gateway::start("");
    let persistent = |version: &'static str| {
        let id = ["sub31", "sub311", "sub5"][VERSIONS.iter().position(|known| *known == version).unwrap()];
        let mut args = vec!["-V", version, "-i", id, "-c", "-q", "1", "-t", "kept/#"];
        if version == "5" {
            args.extend(["-x", "3600"]);
        }
        args
    };
    for version in VERSIONS {
        let args = [&persistent(version)[..], &["-E"]].concat();
        tools::finish("mosquitto_sub", gateway.address(), &args);
    }
    for number in 1..=20 {
        let text = number.to_string();
        tools::publish(gateway.address(), &["-t", "kept/a", "-q", "1", "-m", &text]);
        if number == 10 {
            gateway.kill_and_restart();
        }
    }
    gateway.kill_and_restart();
    for version in VERSIONS {
        let args = [&persistent(version)[..], &["-C", "20"]].concat();
        let mut subscriber = tools::start("mosquitto_sub", gateway.address(), &args);
        assert!(subscriber.wait().success());
        let wanted = (1..=20).map(|number| format!("{number}\n")).collect::<String>();
        assert_eq!(subscriber.text(), wanted, "version {version}");
    }
}

#[test]
fn mosquitto_rr_gets_its_response() {
    let gateway = Gateway::start("");
    let args = ["-V", "5", "-t", "request/time", "-q", "1", "-C", "1"];
    let mut responder = tools::subscribe(gateway.address(), "%R|%D|%p", &args);
    let args = ["-V", "5", "-t", "request/time", "-e", "response/rr", "-q", "1", "-m", "now?"];
    let args = [&args[..], &["-D", "publish", "correlation-data", "case-7"]].concat();
    let mut requester = tools::start("mosquitto_rr", gateway.address(), &args);
    assert!(responder.wait().success());
    assert_eq!(messages(&responder), ["response/rr|case-7|now?"]);
    let args = ["-V", "5", "-t", "response/rr", "-q", "1", "-m", "noon"];
    tools::publish(gateway.address(), &[&args[..], &["-D", "publish", "correlation-data", "case-7"]].concat());
    assert!(requester.wait().success());
    assert_eq!(requester.text(), "noon\n");
}

#[test]
fn mosquitto_sub_shows_the_properties_that_mosquitto_pub_gave() {
    let gateway = Gateway::start("");
    let format = "%t|%C|%D|%E|%P|%R|%p";
    let given = ["-D", "publish", "content-type", "text/plain", "-D", "publish", "correlation-data", "c0"];
    let more = ["-D", "publish", "user-property", "unit", "K", "-D", "publish", "user-property", "place", "attic"];
    let rest =
        ["-D", "publish", "message-expiry-interval", "3600", "-D", "publish", "response-topic", "answer/here"];
    let properties = [&given[..], &more, &rest].concat();

    let mut live = tools::subscribe(gateway.address(), format, &["-V", "5", "-t", "p/live", "-q", "1", "-C", "1"]);
    publish_with(gateway.address(), "p/live", &properties);
    assert!(live.wait().success());
    let shown = messages(&live).remove(0);
    let fields = shown.split('|').collect::<Vec<_>>();
    assert_eq!(fields[..3], ["p/live", "text/plain", "c0"]);
    assert!((3590..=3600).contains(&fields[3].parse::<u32>().unwrap()), "{shown}");
    assert_eq!(fields[4..], ["unit:K place:attic", "answer/here", "293"]);

    // The same through the disk and a restart.
    let persistent = ["-V", "5", "-i", "later", "-c", "-x", "3600", "-t", "p/later", "-q", "1"];
    tools::finish("mosquitto_sub", gateway.address(), &[&persistent[..], &["-E"]].concat());
    publish_with(gateway.address(), "p/later", &properties);
    let mut gateway = gateway;
    gateway.kill_and_restart();
    // What is queued comes with CONNACK, and the client ends with it: it may never see its SUBACK.
    let format = format!("{MARK}{format}");
    let args = [&persistent[..], &["-C", "1", "-F", &format]].concat();
    let mut later = tools::start("mosquitto_sub", gateway.address(), &args);
    assert!(later.wait().success());
    let shown = messages(&later).remove(0);
    assert!(shown.starts_with("p/later|text/plain|c0|35") || shown.contains("|3600|"), "{shown}");
    assert!(shown.ends_with("|unit:K place:attic|answer/here|293"), "{shown}");
}

fn publish_with(at: SocketAddr, topic: &str, properties: &[&str]) {
    tools::publish(at, &[&["-V", "5", "-t", topic, "-q", "1", "-m", "293"], properties].concat());
}

#[test]
fn mosquitto_pub_sends_a_long_stream_of_lines_in_order() {
    let gateway = Gateway::start("");
    let args = ["-V", "5", "-t", "lines", "-q", "2", "-C", "2000"];
    let mut subscriber = tools::subscribe(gateway.address(), "%p", &args);
    let mut publisher =
        tools::start("mosquitto_pub", gateway.address(), &["-V", "5", "-t", "lines", "-q", "2", "-l"]);
    (0..2000).for_each(|number| publisher.tell(&format!("line {number}")));
    assert!(subscriber.wait().success());
    let wanted = (0..2000).map(|number| format!("line {number}")).collect::<Vec<_>>();
    assert_eq!(messages(&subscriber), wanted);
}
