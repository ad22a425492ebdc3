//! `moteway drill` predicts an outage; then the outage is made.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moteway::mqtt::QoS;
use serde_json::Value;

use crate::harness::client::{Client, message, v311};
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::proxy::{Proxy, Shape};
use crate::harness::until;

const OUTAGE: Duration = Duration::from_secs(12);
/// Between two messages of the sensors.
const PERIOD: Duration = Duration::from_millis(5);

/// Sensors that publish to four rules in turn, each of them 50 times a second, and do not wait for the answers.
struct Sensors {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sensors {
    fn start(gateway: &Gateway) -> Self {
        let mut client = gateway.client(&v311("sensors"));
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            for number in 0.. {
                let due = begin + PERIOD * number;
                if stopped.recv_timeout(due.saturating_duration_since(Instant::now()))
                    != Err(RecvTimeoutError::Timeout)
                {
                    return;
                }
                publish(&mut client, number);
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

fn publish(client: &mut Client, number: u32) {
    let topic = match number % 4 {
        0 => "all/a".to_owned(),
        1 => "few/a".to_owned(),
        2 => "new/a".to_owned(),
        _ => format!("last/{}", number / 4 % 28),
    };
    let payload = [b'x'; 100];
    client.post(&message(&topic, &payload, QoS::AtLeastOnce));
}

impl Drop for Sensors {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

fn tables(cloud: u16) -> String {
    format!(
        "[store]\ncommit_interval = \"50ms\"\nmax_bytes = \"2MiB\"\n\
         [[upstream]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{cloud}\"\npace = {{ messages = 300 }}\n\
         reconnect_min = \"20ms\"\nreconnect_max = \"100ms\"\n\
         [[upstream.rule]]\nname = \"all\"\nfilter = \"all/#\"\n\
         [[upstream.rule]]\nname = \"few\"\nfilter = \"few/#\"\nlimit = {{ messages = 200 }}\npriority = 6\n\
         [[upstream.rule]]\nname = \"new\"\nfilter = \"new/#\"\nlimit = {{ bytes = \"64KiB\" }}\nwhen_full = \"drop-newest\"\n\
         [[upstream.rule]]\nname = \"last\"\nfilter = \"last/#\"\nwhen_full = \"keep-last\"\n"
    )
}

fn ask(gateway: &Gateway, arguments: &[&str]) -> Value {
    let ran = gateway.ask(arguments);
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)))
}

fn status(gateway: &Gateway) -> Value {
    ask(gateway, &["status", "--json"])
}

/// The entry of a list with this name.
fn named<'v>(list: &'v Value, key: &str, name: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|entry| entry[key] == name).unwrap_or_else(|| panic!("{name}: {list}"))
}

fn queue<'v>(status: &'v Value, rule: &str) -> &'v Value {
    named(&status["queues"], "rule", rule)
}

/// Messages of a rule that were lost for a reason since the start.
fn lost(status: &Value, rule: &str) -> u64 {
    let at = format!("cloud/{rule}");
    let of_rule = status["lost"].as_array().unwrap().iter().filter(|loss| loss["at"] == *at);
    of_rule.map(|loss| loss["messages"].as_u64().unwrap()).sum()
}

/// What the thread of the store handed to `write` so far.
fn written(gateway: &mut Gateway) -> u64 {
    let tasks = format!("/proc/{}/task", gateway.process().pid());
    let read = |path: &std::path::Path, name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let mut threads = std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path());
    let store = threads.find(|path| read(path, "comm").trim() == "store").unwrap();
    let io = read(&store, "io");
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// What was said and what happened, which differ by a tenth at most.
#[track_caller]
fn near(what: &str, said: f64, real: f64) {
    println!("{what}: {said:.2} said, {real:.2} real");
    assert!((said - real).abs() <= 0.1 * real, "{what}: {said} said, {real} real");
}

fn figure(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no figure"))
}

#[test]
fn drill_predicts_the_outage_that_is_then_made() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    let mut gateway = Gateway::start(&tables(proxy.port()));
    until("the link is up", || status(&gateway)["upstreams"][0]["state"] == "up");
    let sensors = Sensors::start(&gateway);
    until("traffic flows", || figure(&status(&gateway)["upstreams"][0]["acknowledged"]) >= 1_200.0);

    let span = format!("{}s", OUTAGE.as_secs());
    let said = ask(&gateway, &["drill", "--outage", &span, "--over", "4s", "--json"]);
    let screen = gateway.ask(&["drill", "--outage", &span, "--over", "4s"]);
    let screen = String::from_utf8_lossy(&screen.stdout);
    println!("{screen}");
    assert!(screen.starts_with("An outage of 12 s would lose "), "{screen}");
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() < 160), "{screen}");
    let rules = &said["upstreams"][0]["rules"];
    let rule = |name: &str| named(rules, "name", name);

    // The outage, and each queue as it fills.
    proxy.refuse();
    let begin = Instant::now();
    let flash = written(&mut gateway);
    let before = status(&gateway);
    let mut full_at = [("few", None), ("new", None)];
    while begin.elapsed() < OUTAGE {
        let now = status(&gateway);
        for (rule, at) in &mut full_at {
            if at.is_none() && lost(&now, rule) > lost(&before, rule) {
                *at = Some(begin.elapsed().as_secs_f64());
            }
        }
    }
    let end = status(&gateway);
    proxy.resume();
    until("the link is back", || status(&gateway)["upstreams"][0]["state"] == "up");
    let back = Instant::now();
    for (name, at) in full_at {
        near(&format!("{name} is full, seconds"), figure(&rule(name)["full_after_seconds"]), at.unwrap());
    }
    for name in ["all", "few", "new", "last"] {
        let real = &queue(&end, name)["messages"];
        near(&format!("{name} waits, messages"), figure(&rule(name)["waiting_messages"]), figure(real));
    }

    // And the backlog as it goes, with what comes in meanwhile.
    let waits = |status: &Value| -> f64 {
        status["queues"].as_array().unwrap().iter().map(|q| figure(&q["messages"])).sum()
    };
    // What comes in is on its way for a moment: a tenth of a second of it does not count.
    until("the backlog is gone", || waits(&status(&gateway)) <= 20.0);
    let took = back.elapsed().as_secs_f64();
    near("the backlog goes, seconds", figure(&said["upstreams"][0]["drain_seconds"]), took);
    let after = status(&gateway);
    for name in ["few", "new", "last"] {
        let real = lost(&after, name) - lost(&before, name);
        near(&format!("{name} loses, messages"), figure(&rule(name)["evicted"]), real as f64);
    }
    assert_eq!((&rule("all")["evicted"], lost(&after, "all")), (&0.into(), 0));
    assert_eq!(rule("all")["full_after_seconds"], Value::Null);
    let sent = |key: &str| figure(&after["upstreams"][0][key]) - figure(&end["upstreams"][0][key]);
    let each = sent("bytes_sent") / sent("sent");
    near("on the link, bytes", figure(&said["upstreams"][0]["sent_bytes"]), each * waits(&end));
    let flash = written(&mut gateway) - flash;
    // How many messages share a commit depends on how busy the machine and its disk are. `tests/store` holds the figure
    // against the store alone, within a tenth.
    let said = figure(&said["store"]["written_bytes"]);
    println!("on the flash, bytes: {said:.0} said, {flash} real");
    assert!((0.65..1.35).contains(&(said / flash as f64)), "{said} said, {flash} real");
    drop(sensors);
}

#[test]
fn drill_knows_how_fast_a_backlog_went_where_no_pace_is_set() {
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.address());
    proxy.shape(Shape { delay: Duration::from_millis(5), bytes_per_second: 20_000 });
    let gateway = Gateway::start(&format!(
        "[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{}\"\nmax_inflight_messages = 20\n\
         reconnect_min = \"20ms\"\nreconnect_max = \"100ms\"\n[[upstream.rule]]\nname = \"all\"\nfilter = \"all/#\"\n",
        proxy.port()
    ));
    until("the link is up", || status(&gateway)["upstreams"][0]["state"] == "up");
    let drill = || ask(&gateway, &["drill", "--json"])["upstreams"][0].clone();
    assert_eq!((&drill()["drain_from"], &drill()["drain_per_second"]), (&"unknown".into(), &Value::Null));
    proxy.refuse();
    until("the link is down", || status(&gateway)["upstreams"][0]["state"] != "up");
    let mut client = gateway.client(&v311("sensor"));
    for _ in 0..600 {
        client.post(&message("all/a", &[b'x'; 100], QoS::AtLeastOnce));
    }
    let waits = |count: u64| status(&gateway)["queues"][0]["messages"] == count;
    until("all are stored", || waits(600));
    proxy.resume();
    until("the link is back", || status(&gateway)["upstreams"][0]["state"] == "up");
    let back = Instant::now();
    until("the backlog is gone", || waits(0));
    let real = 600.0 / back.elapsed().as_secs_f64();
    let said = drill();
    assert_eq!(said["drain_from"], "measured");
    near("the backlog goes, messages a second", figure(&said["drain_per_second"]), real);
}
